//! Whether lost packets are congestion where no queue shows: a radio link loses packets too, and
//! so do people who test, and a smaller window does not cure that.
//!
//! What tells is whether more packets bring more. Of a path that loses a share whatever is sent, an
//! eighth more that is sent brings an eighth more; of a full one it brings nothing. So what is sent
//! and what comes in a round trip is compared with what it was when less was sent.

/// A share is taken over so many packets at least.
const PACKETS: u64 = 256;
/// What is sent is compared once it is so many times as much, ...
const MORE: f64 = 1.125;
/// ... and what comes has to be so many times as much then.
const BRINGS: f64 = 1.0 + (MORE - 1.0) / 2.0;
/// Less than this is no matter, more than this is always congestion.
const LITTLE: f64 = 0.005;
const EVER: f64 = 0.4;
/// Before there is anything to compare with, that is more than this.
const FIRST: f64 = 0.3;

/// What was sent, and what came, in a round trip.
#[derive(Debug, Clone, Copy)]
struct Rate {
    sent: f64,
    acked: f64,
}

/// What is counted, and what it is compared with.
#[derive(Debug, Clone, Default)]
pub(super) struct Shares {
    pub(super) acked: u64,
    pub(super) lost: u64,
    rounds: u32,
    before: Option<Rate>,
}

impl Shares {
    /// A round is over; true: what was lost of late is congestion.
    pub(super) fn judge(&mut self) -> bool {
        self.rounds += 1;
        let packets = self.acked + self.lost;
        if packets < PACKETS {
            return false;
        }
        let share = self.lost as f64 / packets as f64;
        let rounds = f64::from(self.rounds);
        let now = Rate {
            sent: packets as f64 / rounds,
            acked: self.acked as f64 / rounds,
        };
        (self.acked, self.lost, self.rounds) = (0, 0, 0);
        let Some(before) = self.before.filter(|before| before.sent <= now.sent) else {
            self.before = Some(now);
            return share > FIRST;
        };
        if now.sent < MORE * before.sent {
            return share > EVER;
        }
        self.before = Some(now);
        // An eighth more brings half of that at least; what is many times as much, the same share.
        let wanted =
            before.acked * (1.0 + (now.sent / before.sent - 1.0) * (BRINGS - 1.0) / (MORE - 1.0));
        share > EVER || (share > LITTLE && now.acked < wanted)
    }

    /// The window is another: what was counted so far, and what it was compared with, is past.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}
