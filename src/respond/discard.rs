//! Takes everything and answers nothing: RFC 863.

use super::{Manner, Outcome, Replies, Request, Respond};

/// The responder `discard`.
#[derive(Debug)]
pub(super) struct Discard;

impl Respond for Discard {
    fn respond(&mut self, requests: &[Request<'_>], replies: &mut Replies) {
        for _ in requests {
            replies.end(Outcome::Silence);
        }
    }

    fn manner(&self) -> Manner {
        Manner::Listens
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::respond::tests::ask;

    #[test]
    fn says_nothing() {
        let silence = (Outcome::Silence, Vec::new());
        assert_eq!(ask(&mut Discard, &[b"a", b""]), [silence.clone(), silence]);
    }
}
