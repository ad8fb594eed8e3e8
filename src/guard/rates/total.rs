//! The limit over all sources together, and how it is shared: so that no flood has all of it.
//!
//! A forger has any number of addresses, and may have each of them return as often as a client
//! does. But what it can send a second is bounded, so many sources come back seldom, and few of
//! them often. Sources are therefore sorted into [`CLASSES`], by how long they were away (their
//! pace) and by whether they were known before the flood. All sources share the total
//! while enough of it is left: half of it for sources that were never seen, a quarter for those
//! that have come back, an eighth for the known. Below that, each class has a share of its
//! own, a [`CLASSES`]th of the limit, that the others cannot touch.
//!
//! Nothing is kept from anybody for whom it is not needed: who has come back may draw all of it
//! while nobody is known, and the known may, unless it has been short for [`STRAIN`].
//!
//! What follows, for a flood that needs the whole limit (for longer than that):
//! - in a flood of sources that are seen once, sources that have come back lose nothing;
//! - sources known before it lose nothing if they need less than their class's share, nor do
//!   the known together as long as they leave the other classes their shares;
//! - a newcomer loses its first datagram, and then, at another pace than the flood's, nothing as
//!   long as its class needs less than its share;
//! - at the flood's own pace nothing tells a newcomer from it: it gets what the flood's
//!   datagrams get, which is what the others leave of the limit, and a share at the least.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{BACK, KNOWN_FOR, Shape, replace};
use crate::guard::Rate;

/// Times between a source's datagrams, in four-fold steps: below 2 ms, 8 ms, 34 ms, 134 ms,
/// 537 ms, 2.1 s and 8.6 s; and longer, or never seen.
const PACES: u32 = 8;

/// It is short when it has refused somebody for so long: 1.1 s. It is so for twice that time.
const STRAIN: u64 = 1 << 33;

/// Between two refusals that belong together, and between two looks at the time: 134 ms, 34 ms.
const PAUSE: u64 = 1 << 30;
const LOOK: u64 = 1 << 28;

/// Of each pace, those who are known and those who are not.
pub(super) const CLASSES: usize = 2 * PACES as usize;

/// What is known of a source when it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// It was there before, while there was enough for all.
    pub(super) is_known: bool,
    /// How long it was away; `u64::MAX`: for ever.
    pub(super) gap: u64,
}

impl Seen {
    /// Whose turn it is when there is not enough for all: 0, the last, is who was never seen.
    fn rank(self) -> usize {
        if self.is_known {
            2
        } else {
            usize::from(self.gap < BACK)
        }
    }

    /// The number of its class.
    fn class(self) -> usize {
        // Of a time below 2^n units; 2^24 of them are 2.1 ms.
        let bits = 64 - self.gap.leading_zeros();
        let pace = 38_u32.saturating_sub(bits.max(24)) / 2;
        pace as usize + if self.is_known { PACES as usize } else { 0 }
    }
}

/// The bucket of all, and those of the classes. Each is the time at which it is full.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Total {
    /// Every worker writes to it.
    all: AtomicU64,
    shape: Shape,
    /// It is short until then; and until then something is kept from those who have come back.
    strained_until: AtomicU64,
    kept_until: AtomicU64,
    /// Since when and until when somebody was refused.
    refused: [AtomicU64; 2],
    /// How far from full it may be for those who were never seen, for those who have come back
    /// and for the known to draw on it.
    depths: [u64; 3],
    share: Shape,
    /// Written only where there is not enough for all.
    classes: [AtomicU64; CLASSES],
}

impl Total {
    pub(super) fn new(rate: Rate) -> Self {
        let shape = Shape::new(rate);
        let burst = u64::from(rate.burst);
        let part = CLASSES as u64;
        Self {
            all: AtomicU64::new(0),
            shape,
            strained_until: AtomicU64::new(0),
            kept_until: AtomicU64::new(0),
            refused: Default::default(),
            depths: [2, 4, 8].map(|part| shape.interval * (burst - burst / part)),
            share: Shape {
                interval: shape.interval * part,
                full: shape.interval * part * (burst / part).max(1),
            },
            classes: Default::default(),
        }
    }

    /// Takes a token for each of `wanted` datagrams of a source, or of as many as there are.
    #[inline]
    pub(super) fn take(&self, is_shared: bool, seen: Seen, now: u64, wanted: u64) -> u64 {
        let rank = seen.rank();
        let keeps = match rank {
            0 => true,
            1 => now < self.kept_until.load(Ordering::Relaxed),
            _ => {
                self.keep_until(now + KNOWN_FOR);
                now < self.strained_until.load(Ordering::Relaxed)
            }
        };
        let depth = if keeps {
            self.depths[rank]
        } else {
            self.shape.full
        };
        let granted = draw(is_shared, &self.all, self.shape, now, wanted, depth);
        if granted == wanted {
            return granted;
        }
        let granted = granted + self.take_share(is_shared, seen, now, wanted - granted);
        if granted < wanted {
            self.note_refusal(now);
        }
        granted
    }

    /// Has something kept from those who have come back.
    #[inline]
    fn keep_until(&self, time: u64) {
        if self.kept_until.load(Ordering::Relaxed) + LOOK < time {
            self.kept_until.store(time, Ordering::Relaxed);
        }
    }

    /// Somebody was refused, perhaps not for the first time. Workers that do this at once write
    /// much the same.
    fn note_refusal(&self, now: u64) {
        let [since, last] = &self.refused;
        let pause = now.saturating_sub(last.load(Ordering::Relaxed));
        if pause < LOOK {
            return;
        }
        last.store(now, Ordering::Relaxed);
        if pause > PAUSE {
            since.store(now, Ordering::Relaxed);
        } else if now.saturating_sub(since.load(Ordering::Relaxed)) >= STRAIN {
            self.strained_until
                .store(now + 2 * STRAIN, Ordering::Relaxed);
            self.keep_until(now + 2 * STRAIN);
        }
    }

    /// Of what its class has for itself.
    fn take_share(&self, is_shared: bool, seen: Seen, now: u64, wanted: u64) -> u64 {
        let class = &self.classes[seen.class()];
        let promised = draw(is_shared, class, self.share, now, wanted, self.share.full);
        if promised == 0 {
            return 0;
        }
        let full = self.shape.full;
        let granted = draw(is_shared, &self.all, self.shape, now, promised, full);
        if granted < promised {
            // Every class is at its limit, just now: what was refused takes nothing from it.
            let time = (promised - granted) * self.share.interval;
            let mut full_at = class.load(Ordering::Relaxed);
            while let Err(found) = replace(is_shared, class, full_at, full_at.saturating_sub(time))
            {
                full_at = found;
            }
        }
        granted
    }

    /// There is enough for all: more than three quarters are there.
    pub(super) fn is_calm(&self, now: u64) -> bool {
        self.all.load(Ordering::Relaxed) <= now + self.shape.full / 4
    }
}

/// Draws on a bucket that is nothing but the time at which it is full.
#[inline]
fn draw(
    is_shared: bool,
    bucket: &AtomicU64,
    shape: Shape,
    now: u64,
    wanted: u64,
    depth: u64,
) -> u64 {
    let mut full_at = bucket.load(Ordering::Relaxed);
    loop {
        let (granted, next) = shape.draw(full_at, now, wanted, depth);
        if granted == 0 {
            return 0;
        }
        match replace(is_shared, bucket, full_at, next) {
            Ok(()) => return granted,
            Err(found) => full_at = found,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_a_pace_and_whether_it_is_known() {
        let ns = |ns: u64| ns * 8;
        for (gap, pace) in [
            (0, 7),
            (ns(2_000_000), 7),
            (ns(3_000_000), 6),
            (ns(10_000_000), 5),
            (ns(100_000_000), 4),
            (ns(500_000_000), 3),
            (ns(2_000_000_000), 2),
            (ns(8_000_000_000), 1),
            (ns(9_000_000_000), 0),
            (u64::MAX, 0),
        ] {
            for (is_known, class) in [(false, pace), (true, pace + 8)] {
                assert_eq!(Seen { is_known, gap }.class(), class, "{gap}");
            }
        }
    }

    #[test]
    fn a_share_is_there_when_others_have_taken_all_that_they_may() {
        let total = Total::new(Rate {
            per_second: 16.0,
            burst: 64,
        });
        let seen = |is_known, gap| Seen { is_known, gap };
        let mut now = 1 << 60;
        // A quarter and an eighth are kept once somebody is known, and it has been short.
        while now > total.strained_until.load(Ordering::Relaxed) {
            total.note_refusal(now);
            now += LOOK;
        }
        let take = |who| total.take(false, who, now, 64);
        // Half of all, and the share of those who were never seen.
        assert_eq!(take(seen(false, u64::MAX)), 32 + 4);
        assert_eq!(take(seen(false, u64::MAX)), 0);
        // A quarter more, of which 4 are gone by now; and 4.
        assert_eq!(take(seen(false, 0)), 12 + 4);
        assert_eq!(take(seen(false, 0)), 0);
        // An eighth more, of which 4 are gone; and 4.
        assert_eq!(take(seen(true, 0)), 4 + 4);
        assert_eq!(take(seen(true, 1 << 25)), 4);
        assert!(!total.is_calm(now));
    }

    #[test]
    fn who_is_alone_may_have_all_of_it() {
        let rate = Rate {
            per_second: 16.0,
            burst: 64,
        };
        let now = 1 << 60;
        for is_known in [false, true] {
            let total = Total::new(rate);
            let take = |is_known| total.take(false, Seen { is_known, gap: 0 }, now, 100);
            assert_eq!(take(is_known), 64);
            assert_eq!(take(!is_known), 0);
        }
        // Not while another is known, for whom a quarter is kept.
        let total = Total::new(rate);
        let take = |is_known, wanted| total.take(false, Seen { is_known, gap: 0 }, now, wanted);
        assert_eq!(take(true, 1), 1);
        assert_eq!(take(false, 100), 47 + 4);
        assert_eq!(take(true, 100), 12);
    }
}
