//! Which reply to a request is the right one.

/// What a client wants back. UDP and TCP judge a reply by it alike; a TCP client also takes
/// from it how many bytes a reply has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expectation<'a> {
    /// What was sent.
    Echo,
    /// These bytes.
    Bytes(&'a [u8]),
    /// Whatever comes.
    Any,
}

impl<'a> Expectation<'a> {
    /// The right reply to `request`; `None`: any is.
    pub fn right_reply(self, request: &'a [u8]) -> Option<&'a [u8]> {
        match self {
            Self::Echo => Some(request),
            Self::Bytes(bytes) => Some(bytes),
            Self::Any => None,
        }
    }

    /// True when `reply` is a right one to `request`.
    pub fn is_met(self, request: &[u8], reply: &[u8]) -> bool {
        let right = Expectation::right_reply(self, request);
        right.is_none_or(|right| right == reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_takes_what_it_says() {
        for (expectation, right, wrong) in [
            (
                Expectation::Echo,
                b"ping".as_slice(),
                Some(b"pong".as_slice()),
            ),
            (Expectation::Echo, b"ping", Some(b"pin")),
            (Expectation::Bytes(b"pong"), b"pong", Some(b"ping")),
            (Expectation::Bytes(b""), b"", Some(b"ping")),
            (Expectation::Any, b"", None),
            (Expectation::Any, b"anything", None),
        ] {
            assert!(expectation.is_met(b"ping", right), "{expectation:?}");
            assert!(wrong.is_none_or(|wrong| !expectation.is_met(b"ping", wrong)));
            assert!(
                expectation
                    .right_reply(b"ping")
                    .is_none_or(|reply| reply == right)
            );
        }
    }
}
