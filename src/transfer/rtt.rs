//! How long a packet and its acknowledgement take: RFC 6298 §2, RFC 9002 §5.

const MILLISECOND: u64 = 1_000_000;

/// Before anything is known (RFC 9002 §6.2.2).
const INITIAL_NS: u64 = 333 * MILLISECOND;

/// What a receiver may take to answer, beside what it reports.
const ANSWER_NS: u64 = 5 * MILLISECOND;

/// No timer is finer (RFC 9002 §6.1.2).
const GRANULARITY_NS: u64 = MILLISECOND;

/// How long a least time counts, one to two of these: routes change.
const LEAST_LASTS_NS: u64 = 30_000 * MILLISECOND;

/// The times of one path.
#[derive(Debug, Clone)]
pub(crate) struct Rtt {
    latest_ns: u64,
    smoothed_ns: Option<u64>,
    variation_ns: u64,
    /// The least of this span of time, and of the one before.
    least_ns: [u64; 2],
    span_began_ns: u64,
}

impl Default for Rtt {
    fn default() -> Self {
        Self {
            latest_ns: INITIAL_NS,
            smoothed_ns: None,
            variation_ns: INITIAL_NS / 2,
            least_ns: [u64::MAX; 2],
            span_began_ns: 0,
        }
    }
}

impl Rtt {
    /// A packet was acknowledged after so long, of which the receiver says that it took `delay_ns`.
    pub(crate) fn add(&mut self, now_ns: u64, sample_ns: u64, delay_ns: u64) {
        if now_ns.saturating_sub(self.span_began_ns) > LEAST_LASTS_NS {
            self.least_ns = [u64::MAX, self.least_ns[0]];
            self.span_began_ns = now_ns;
        }
        self.least_ns[0] = self.least_ns[0].min(sample_ns);
        // Never below the least: a receiver may not claim what the path shows to be untrue.
        let sample_ns = sample_ns.saturating_sub(delay_ns).max(self.least());
        self.latest_ns = sample_ns;
        let Some(smoothed) = &mut self.smoothed_ns else {
            self.smoothed_ns = Some(sample_ns);
            self.variation_ns = sample_ns / 2;
            return;
        };
        let off = smoothed.abs_diff(sample_ns);
        self.variation_ns = (3 * self.variation_ns + off) / 4;
        *smoothed = (7 * *smoothed + sample_ns) / 8;
    }

    /// Smoothed.
    pub(crate) fn smoothed(&self) -> u64 {
        self.smoothed_ns.unwrap_or(INITIAL_NS)
    }

    /// Whether anything was measured.
    pub(crate) fn is_known(&self) -> bool {
        self.smoothed_ns.is_some()
    }

    /// The least of late; of the first packet on, at least what was measured.
    pub(crate) fn least(&self) -> u64 {
        self.least_ns[0].min(self.least_ns[1])
    }

    /// A packet that was sent before an acknowledged one is lost after so long (RFC 9002 §6.1.2).
    pub(crate) fn loss_delay(&self) -> u64 {
        (self.smoothed().max(self.latest_ns) * 9 / 8).max(GRANULARITY_NS)
    }

    /// After so long without an answer something is sent to get one (RFC 9002 §6.2.1).
    pub(crate) fn probe_timeout(&self) -> u64 {
        self.smoothed() + (4 * self.variation_ns).max(GRANULARITY_NS) + ANSWER_NS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = MILLISECOND;

    #[test]
    fn follows_rfc_6298() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.probe_timeout(), 333 * MS + 666 * MS + 5 * MS);
        rtt.add(0, 100 * MS, 0);
        assert_eq!(rtt.smoothed(), 100 * MS);
        assert_eq!(rtt.probe_timeout(), (100 + 4 * 50 + 5) * MS);
        rtt.add(0, 180 * MS, 0);
        assert_eq!(rtt.smoothed(), 110 * MS);
        assert_eq!(rtt.probe_timeout(), 110 * MS + 4 * 57_500_000 + 5 * MS);
    }

    #[test]
    fn a_receiver_cannot_make_a_path_faster_than_it_was() {
        let mut rtt = Rtt::default();
        rtt.add(0, 100 * MS, 0);
        rtt.add(0, 120 * MS, 500 * MS);
        assert_eq!(rtt.least(), 100 * MS);
        assert_eq!(rtt.smoothed(), 100 * MS);
    }

    #[test]
    fn the_least_is_forgotten_after_a_while() {
        let mut rtt = Rtt::default();
        rtt.add(0, 10 * MS, 0);
        for second in 1..40 {
            rtt.add(second * 1000 * MS, 20 * MS, 0);
            assert_eq!(rtt.least(), 10 * MS, "{second}");
        }
        for second in 40..100 {
            rtt.add(second * 1000 * MS, 20 * MS, 0);
        }
        assert_eq!(rtt.least(), 20 * MS);
    }
}
