//! How fast bytes go: a token bucket (RFC 2697), kept as the time at which it is full.

/// No more go at once: a default receive buffer has room for several times that.
const BURST_BYTES: u64 = 16 * 1024;

/// The pace of one message.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: u64,
    burst_bytes: u64,
    full_ns: u64,
}

impl Pace {
    /// For datagrams of this length at most.
    pub(super) fn new(bytes_per_second: u64, datagram_bytes: usize) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            burst_bytes: BURST_BYTES.max(datagram_bytes as u64),
            full_ns: 0,
        }
    }

    /// How many bytes are worth a wake-up: a millisecond's, and half of a burst at most, so that one
    /// that comes late is made up for.
    pub(super) fn quantum_bytes(&self) -> usize {
        (self.bytes_per_second / 1000).min(self.burst_bytes / 2) as usize
    }

    /// From when on so many may go.
    pub(super) fn ready_ns(&self, bytes: usize) -> u64 {
        let rest = self.burst_bytes.saturating_sub(bytes as u64);
        self.full_ns.saturating_sub(self.time_of(rest))
    }

    /// When a whole burst may go.
    pub(super) fn full_ns(&self) -> u64 {
        self.full_ns
    }

    /// So many go.
    pub(super) fn spend(&mut self, now_ns: u64, bytes: usize) {
        let time_ns = self.time_of(bytes as u64);
        self.full_ns = self.full_ns.max(now_ns).saturating_add(time_ns);
    }

    /// Rounded up: never faster than that.
    fn time_of(&self, bytes: u64) -> u64 {
        let time_ns = (u128::from(bytes) * 1_000_000_000).div_ceil(self.bytes_per_second.into());
        u64::try_from(time_ns).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_time_has_more_than_its_rate_and_a_burst(
            rate in 1_u64..1 << 34,
            steps in prop::collection::vec((0_u64..3_000_000, 1_usize..9000), 1..100),
        ) {
            let mut pace = Pace::new(rate, 9000);
            let (mut now_ns, mut gone) = (1_000, Vec::new());
            for (late_ns, bytes) in steps {
                now_ns = pace.ready_ns(bytes).max(now_ns).saturating_add(late_ns);
                pace.spend(now_ns, bytes);
                gone.push((now_ns, bytes as u128));
            }
            for start in 0..gone.len() {
                let mut bytes = 0;
                for (end_ns, more) in &gone[start..] {
                    bytes += more;
                    let window_ns = u128::from(end_ns - gone[start].0);
                    let allowed = window_ns * u128::from(rate) / 1_000_000_000;
                    prop_assert!(bytes <= allowed + u128::from(BURST_BYTES) + 1);
                }
            }
        }
    }

    #[test]
    fn a_late_wake_up_is_made_up_for() {
        let mut pace = Pace::new(8 << 20, 1028);
        let quantum = pace.quantum_bytes();
        assert_eq!(quantum, 8192);
        let mut now_ns = 0;
        for _ in 0..1000 {
            pace.spend(now_ns, quantum);
            // Each is 300 µs late.
            now_ns = pace.ready_ns(quantum).max(now_ns) + 300_000;
        }
        let wanted_ns = 1000 * 8192 * 1_000_000_000 / (8 << 20);
        assert!(now_ns < wanted_ns + 2_000_000, "{now_ns} for {wanted_ns}");
    }
}
