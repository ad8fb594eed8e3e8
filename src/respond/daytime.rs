//! Answers anything with the time of day, in words: RFC 867.

use super::clock::{Precision, now_as_text};
use super::{Manner, Outcome, Replies, Request, Respond};

/// The responder `daytime`.
///
/// RFC 867 leaves the form free ("no specific syntax"). It is ISO 8601 here, one line with
/// CR and LF, as in `2026-11-20T13:00:00+01:00`: it says where its clock stands, which the
/// form of inetd (`Fri Nov 20 13:00:00 2026`) does not, and every language can read it.
#[derive(Debug)]
pub(super) struct Daytime;

impl Respond for Daytime {
    fn respond(&mut self, requests: &[Request<'_>], replies: &mut Replies) {
        // Once for all of them.
        let line = now_as_text(Precision::Seconds);
        for _ in requests {
            match &line {
                Some(line) => replies.reply_with(|reply| {
                    reply.extend_from_slice(line);
                    reply.extend_from_slice(b"\r\n");
                }),
                None => replies.end(Outcome::Failed),
            }
        }
    }

    fn manner(&self) -> Manner {
        Manner::Greets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::respond::tests::ask;

    #[test]
    fn one_line_whatever_was_asked() {
        let replies = ask(&mut Daytime, &[b"", b"what?"]);
        assert_eq!(replies.len(), 2);
        for (outcome, line) in &replies {
            let line = str::from_utf8(line).unwrap();
            assert_eq!(*outcome, Outcome::Reply);
            assert!(line.ends_with("\r\n"), "{line:?}");
            let time = line.trim_end();
            assert_eq!(time.len(), "2026-11-20T13:00:00+01:00".len(), "{time}");
            assert_eq!(time.as_bytes()[10], b'T');
        }
        assert_eq!(replies[0], replies[1], "one look at the clock");
    }
}
