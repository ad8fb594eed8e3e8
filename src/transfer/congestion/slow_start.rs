//! Doubling the window each round trip, until the round trip grows: HyStart++ (RFC 9406).

/// The round trip has grown when it is above that of the last round by an eighth, bounded by these.
const LEAST_GROWTH_NS: u64 = 4_000_000;
const MOST_GROWTH_NS: u64 = 16_000_000;
const DIVISOR: u64 = 8;
/// A round is judged by so many samples.
const SAMPLES: u32 = 8;
/// Then the window grows a quarter as fast, for so many rounds, to see whether it was noise.
const SLOWER: f64 = 4.0;
const ROUNDS: u32 = 5;

/// Slow start, or its conservative phase.
#[derive(Debug, Clone, Default)]
pub(super) struct SlowStart {
    last_round_ns: Option<u64>,
    this_round_ns: Option<u64>,
    samples: u32,
    /// Rounds that are left of the conservative phase, and the round trip at which it began.
    conservative: Option<(u32, u64)>,
    /// The window up to which it goes, where one is known.
    limit: Option<f64>,
}

impl SlowStart {
    /// Up to this window, in bytes.
    pub(super) fn until(limit: f64) -> Self {
        Self {
            limit: Some(limit),
            ..Self::default()
        }
    }

    /// How much more may be on the way for so many bytes that came.
    pub(super) fn growth(&mut self, bytes: f64) -> f64 {
        if let Some(limit) = &mut self.limit {
            *limit -= bytes;
        }
        match self.conservative {
            Some(_) => bytes / SLOWER,
            None => bytes,
        }
    }

    /// A round trip; true: slow start is over.
    pub(super) fn ends_by_rtt(&mut self, rtt_ns: u64) -> bool {
        let this = self.this_round_ns.map_or(rtt_ns, |this| this.min(rtt_ns));
        self.this_round_ns = Some(this);
        self.samples += 1;
        if self.samples >= SAMPLES {
            match self.conservative {
                None => {
                    if let Some(last) = self.last_round_ns
                        && this >= last + (last / DIVISOR).clamp(LEAST_GROWTH_NS, MOST_GROWTH_NS)
                    {
                        self.conservative = Some((ROUNDS, this));
                    }
                }
                // It was noise.
                Some((_, began)) if this < began => self.conservative = None,
                Some(_) => {}
            }
        }
        self.limit.is_some_and(|limit| limit <= 0.0)
    }

    /// A round is over; true: and so is slow start.
    pub(super) fn end_round(&mut self) -> bool {
        self.last_round_ns = self.this_round_ns.take().or(self.last_round_ns);
        self.samples = 0;
        if let Some((left, _)) = &mut self.conservative {
            *left -= 1;
            return *left == 0;
        }
        false
    }
}
