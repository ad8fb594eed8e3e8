//! Answers text with a prefix before it, and bytes that are not text with an error.

use super::upper::raise;
use super::{Replies, Request, Respond};

/// The error reply to what is not UTF-8.
pub const INVALID_ENCODING: &[u8] = b"Error: Invalid encoding";

/// The responder `prefix=TEXT`.
#[derive(Debug)]
pub(super) struct Prefix {
    pub(super) text: Box<str>,
    /// The request goes after it in upper case; the prefix stays as it is.
    pub(super) upper: bool,
}

impl Respond for Prefix {
    fn respond(&mut self, requests: &[Request<'_>], replies: &mut Replies) {
        for request in requests {
            if str::from_utf8(request.data).is_err() {
                replies.error(INVALID_ENCODING);
                continue;
            }
            replies.reply_with(|reply| {
                reply.extend_from_slice(self.text.as_bytes());
                if self.upper {
                    raise(request.data, reply);
                } else {
                    reply.extend_from_slice(request.data);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::respond::{Outcome, tests::ask};

    #[test]
    fn text_gets_a_prefix_and_other_bytes_an_error() {
        for (upper, hello) in [(false, "Echo: héllo"), (true, "Echo: HÉLLO")] {
            let mut prefix = Prefix {
                text: "Echo: ".into(),
                upper,
            };
            assert_eq!(
                ask(&mut prefix, &["héllo".as_bytes(), b"\xff\xfe", b""]),
                [
                    (Outcome::Reply, hello.as_bytes().to_vec()),
                    (Outcome::Error, b"Error: Invalid encoding".to_vec()),
                    (Outcome::Reply, b"Echo: ".to_vec()),
                ]
            );
        }
    }
}
