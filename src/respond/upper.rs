//! Answers with the request in upper case.

use super::{Replies, Request, Respond};

/// The responder `upper`.
///
/// What is UTF-8 is raised by Unicode's rules, so that `straße` becomes `STRASSE`; anything
/// else letter by letter in ASCII, every other byte as it is. A reply may be longer than its
/// request: three times at most, as `ΐ` is.
#[derive(Debug)]
pub(super) struct Upper;

impl Respond for Upper {
    fn respond(&mut self, requests: &[Request<'_>], replies: &mut Replies) {
        for request in requests {
            replies.reply_with(|reply| raise(request.data, reply));
        }
    }
}

/// Appends `data` in upper case.
pub(crate) fn raise(data: &[u8], to: &mut Vec<u8>) {
    let start = to.len();
    if !data.is_ascii()
        && let Ok(text) = str::from_utf8(data)
    {
        let mut room = [0; 4];
        for letter in text.chars().flat_map(char::to_uppercase) {
            to.extend_from_slice(letter.encode_utf8(&mut room).as_bytes());
        }
    } else {
        to.extend_from_slice(data);
        to[start..].make_ascii_uppercase();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raised(data: &[u8]) -> Vec<u8> {
        let mut reply = Vec::new();
        raise(data, &mut reply);
        reply
    }

    #[test]
    fn text_by_unicode_and_other_bytes_by_ascii() {
        for (data, wanted) in [
            (&b"Hello, World 1!"[..], &b"HELLO, WORLD 1!"[..]),
            ("straße, ελλάς".as_bytes(), "STRASSE, ΕΛΛΆΣ".as_bytes()),
            (b"abc\xff\xe9z\x00", b"ABC\xff\xe9Z\x00"),
            (b"", b""),
        ] {
            assert_eq!(raised(data), wanted);
        }
    }

    proptest! {
        #[test]
        fn text_is_raised_as_the_language_does(text in ".*") {
            prop_assert_eq!(raised(text.as_bytes()), text.to_uppercase().into_bytes());
        }

        #[test]
        fn nothing_grows_beyond_three_times(text in ".*") {
            prop_assert!(raised(text.as_bytes()).len() <= text.len() * 3);
        }
    }
}
