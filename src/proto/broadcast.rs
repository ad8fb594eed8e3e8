//! Answers to what was sent to a broadcast address: late, at random, and not too often.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::Result;
use crate::guard::Rate;
use crate::impair::{self, Delay, Netem};

/// The broadcast responder: what was sent to a broadcast address is answered from the
/// interface's own, after a random delay, and not too often (RFC 1122 §3.2.2.6 and RFC 919:
/// one datagram would otherwise have a whole network answer at once).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Broadcast {
    /// Replies are sent after a time between nothing and this one, evenly distributed.
    pub max_delay: Duration,
    /// Replies a second, more than 0, of all workers together: as often, and never two at once.
    pub per_second: f64,
}

impl Default for Broadcast {
    /// Within 100 ms, 10 a second.
    fn default() -> Self {
        Self {
            max_delay: Duration::from_millis(100),
            per_second: 10.0,
        }
    }
}

impl Broadcast {
    /// A delay between nothing and the most, evenly.
    pub(super) fn delay(self) -> Netem {
        let half_ns = u64::try_from(self.max_delay.as_nanos() / 2).unwrap_or(u64::MAX);
        Netem {
            delay: Some(Delay {
                time_ns: half_ns,
                jitter_ns: half_ns,
                ..Delay::default()
            }),
            seed: Some(impair::random_seed()),
            ..Netem::default()
        }
    }
}

/// How often all workers of a server together answer a broadcast: one at once, and another as
/// soon as its turn has come (a token bucket of one).
pub(crate) struct BroadcastRate {
    interval_ns: u64,
    next_ns: AtomicU64,
}

impl BroadcastRate {
    pub(crate) fn new(broadcast: &Broadcast) -> Result<Self> {
        Rate::new(broadcast.per_second, Some(1)).validate("broadcast_rate")?;
        Ok(Self {
            interval_ns: (1e9 / broadcast.per_second) as u64,
            next_ns: AtomicU64::new(0),
        })
    }

    pub(super) fn take(&self, now_ns: u64) -> bool {
        let next = |next| (next <= now_ns).then(|| now_ns.saturating_add(self.interval_ns));
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        self.next_ns.fetch_update(success, failure, next).is_ok()
    }
}
