//! When the next bytes may leave: a bucket that is the time at which it is full (ITU-T I.371).

/// What may leave at once at least.
const LEAST_BURST_BYTES: u64 = 16 * 1024;

/// What leaves at once covers so much time: no timer is much finer.
const BURST_NS: u64 = 1_000_000;

/// One rate.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pacer {
    bytes_per_second: f64,
    full_at_ns: u64,
}

impl Pacer {
    pub(crate) fn new(bytes_per_second: f64) -> Self {
        Self {
            bytes_per_second,
            full_at_ns: 0,
        }
    }

    pub(crate) fn set_rate(&mut self, bytes_per_second: f64) {
        self.bytes_per_second = bytes_per_second;
    }

    fn time_of(&self, bytes: f64) -> u64 {
        (bytes * 1e9 / self.bytes_per_second) as u64
    }

    fn burst_ns(&self) -> u64 {
        self.time_of(LEAST_BURST_BYTES as f64).max(BURST_NS)
    }

    /// When something may leave; not in the future: now.
    pub(crate) fn next_ns(&self) -> u64 {
        if self.bytes_per_second <= 0.0 {
            return 0;
        }
        self.full_at_ns.saturating_sub(self.burst_ns())
    }

    /// How many bytes may leave now; one packet may be longer.
    pub(crate) fn room(&self, now_ns: u64) -> u64 {
        if self.bytes_per_second <= 0.0 {
            return u64::MAX;
        }
        let missing_ns = self.full_at_ns.saturating_sub(now_ns);
        let room_ns = self.burst_ns().saturating_sub(missing_ns);
        (room_ns as f64 * self.bytes_per_second / 1e9) as u64
    }

    /// So many leave now.
    pub(crate) fn take(&mut self, now_ns: u64, bytes: u64) {
        if self.bytes_per_second > 0.0 {
            self.full_at_ns = self.full_at_ns.max(now_ns) + self.time_of(bytes as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_in_a_second_is_the_rate_and_one_burst() {
        for rate in [10_000.0, 1e6, 1e9] {
            let mut pacer = Pacer::new(rate);
            let (mut now_ns, mut sent) = (5_000, 0);
            while now_ns < 1_000_005_000 {
                if pacer.next_ns() <= now_ns {
                    pacer.take(now_ns, 1_200);
                    sent += 1_200;
                } else {
                    now_ns = pacer.next_ns();
                }
            }
            let burst = (rate / 1000.0).max(LEAST_BURST_BYTES as f64);
            let most = rate + burst + 2_400.0;
            assert!((rate * 0.99..most).contains(&f64::from(sent)), "{sent}");
        }
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let mut pacer = Pacer::new(0.0);
        pacer.take(0, 1 << 40);
        assert_eq!(pacer.next_ns(), 0);
        assert_eq!(pacer.room(0), u64::MAX);
    }
}
