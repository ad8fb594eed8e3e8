//! Answers anything with the time as a number: RFC 868.

use super::clock::since_1970;
use super::{Manner, Replies, Request, Respond};

/// Seconds from 1900 to 1970, which RFC 868 gives.
const BETWEEN_EPOCHS: u64 = 2_208_988_800;

/// The responder `time`: the seconds since 1900 began (UTC), in four bytes, big-endian.
///
/// Four bytes last until 2036-02-07 06:28:16 UTC ("this standard will serve until the year
/// 2036"). The number starts again at 0 then; who asks adds 2³² to small numbers, as NTP's
/// users do (RFC 5905, eras).
#[derive(Debug)]
pub(super) struct Time;

impl Respond for Time {
    fn respond(&mut self, requests: &[Request<'_>], replies: &mut Replies) {
        // Once for all of them.
        let time = since_1900(since_1970().as_secs());
        for _ in requests {
            replies.reply(&time);
        }
    }

    fn manner(&self) -> Manner {
        Manner::Greets
    }
}

fn since_1900(since_1970: u64) -> [u8; 4] {
    // Cut to what four bytes hold, as said above.
    (since_1970.wrapping_add(BETWEEN_EPOCHS) as u32).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::respond::{Outcome, tests::ask};

    #[test]
    fn counts_as_the_rfc_does_and_starts_again_in_2036() {
        // The table of RFC 868, then the end of the four bytes.
        for (since_1970, wanted) in [
            (0, 2_208_988_800),
            (2_398_291_200 - BETWEEN_EPOCHS, 2_398_291_200),
            (2_629_584_000 - BETWEEN_EPOCHS, 2_629_584_000),
            (2_085_978_495, u32::MAX),
            (2_085_978_496, 0),
            (2_085_978_500, 4),
        ] {
            assert_eq!(since_1900(since_1970), u32::to_be_bytes(wanted));
        }
    }

    #[test]
    fn answers_anything_with_four_bytes() {
        let replies = ask(&mut Time, &[b"", b"?"]);
        let now = since_1970().as_secs() + BETWEEN_EPOCHS;
        for (outcome, bytes) in replies {
            assert_eq!(outcome, Outcome::Reply);
            let said = u32::from_be_bytes(bytes.try_into().unwrap());
            assert!((now as u32).wrapping_sub(said) < 60);
        }
    }
}
