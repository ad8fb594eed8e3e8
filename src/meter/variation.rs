//! How delays vary: jitter (RFC 3550) and IPDV (RFC 3393, RFC 5481).

use super::distribution::Distribution;

/// The estimate of RFC 3550 §6.4.1, in the order in which packets arrive.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Jitter {
    last: Option<(u64, u64)>,
    now: f64,
    sum: f64,
    greatest: f64,
    count: u64,
}

impl Jitter {
    /// A packet, sent and received at these times, each by a clock of its own.
    pub fn record(&mut self, sent_ns: u64, received_ns: u64) {
        if let Some((last_sent, last_received)) = self.last {
            // D(i, j) = (Rj − Ri) − (Sj − Si)
            let received = received_ns.wrapping_sub(last_received) as i64;
            let sent = sent_ns.wrapping_sub(last_sent) as i64;
            let distance = received.wrapping_sub(sent).unsigned_abs() as f64;
            self.now += (distance - self.now) / 16.0;
            self.sum += self.now;
            self.greatest = self.greatest.max(self.now);
            self.count += 1;
        }
        self.last = Some((sent_ns, received_ns));
    }

    /// The estimate after the last packet; `None` before the second.
    pub fn last_ns(&self) -> Option<f64> {
        (self.count > 0).then_some(self.now)
    }

    /// The mean of the estimates after each packet.
    pub fn mean_ns(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// The greatest of them.
    pub fn greatest_ns(&self) -> Option<f64> {
        (self.count > 0).then_some(self.greatest)
    }
}

/// Inter-packet delay variation (RFC 3393, in the form of RFC 5481 §4.1): the delay of a packet
/// minus that of the one before it by sequence number, where both arrived.
#[derive(Debug, Clone)]
pub struct Ipdv {
    last: Option<(u64, i64)>,
    least: i64,
    greatest: i64,
    /// Of |IPDV|.
    pub sizes: Distribution,
}

impl Default for Ipdv {
    fn default() -> Self {
        Self {
            last: None,
            least: i64::MAX,
            greatest: i64::MIN,
            sizes: Distribution::new(),
        }
    }
}

impl Ipdv {
    /// A packet that arrived, in the order of sequence numbers. The delay may be of two clocks,
    /// whose distance falls out of the difference.
    pub fn record(&mut self, sequence: u64, delay_ns: i64) {
        if let Some((before, delay_before)) = self.last
            && before + 1 == sequence
        {
            let variation = delay_ns.saturating_sub(delay_before);
            self.least = self.least.min(variation);
            self.greatest = self.greatest.max(variation);
            self.sizes.record(variation.unsigned_abs());
        }
        self.last = Some((sequence, delay_ns));
    }

    /// The least: how much sooner a packet came than the one before it; `None` of nothing.
    pub fn least_ns(&self) -> Option<i64> {
        (self.sizes.count() > 0).then_some(self.least)
    }

    /// The greatest; `None` of nothing.
    pub fn greatest_ns(&self) -> Option<i64> {
        (self.sizes.count() > 0).then_some(self.greatest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_follows_the_rfc() {
        let mut jitter = Jitter::default();
        jitter.record(0, 1000);
        assert_eq!(jitter.last_ns(), None);
        jitter.record(100, 1260);
        assert_eq!(jitter.last_ns(), Some(10.0)); // |160| / 16
        jitter.record(200, 1360);
        assert_eq!(jitter.last_ns(), Some(10.0 - 10.0 / 16.0));
        assert_eq!(jitter.greatest_ns(), Some(10.0));
        assert_eq!(jitter.mean_ns(), Some((10.0 + 9.375) / 2.0));
    }

    #[test]
    fn another_clock_makes_no_jitter() {
        let mut jitter = Jitter::default();
        for i in 0..50 {
            jitter.record(i * 10, (i * 10).wrapping_sub(1 << 40));
        }
        assert_eq!(jitter.greatest_ns(), Some(0.0));
    }

    #[test]
    fn ipdv_is_undefined_beside_a_loss() {
        let mut ipdv = Ipdv::default();
        ipdv.record(0, 100);
        ipdv.record(1, 130);
        ipdv.record(3, 900);
        ipdv.record(4, 850);
        assert_eq!(ipdv.sizes.count(), 2);
        assert_eq!((ipdv.least_ns(), ipdv.greatest_ns()), (Some(-50), Some(30)));
        assert_eq!(ipdv.sizes.greatest_ns(), Some(50));
    }
}
