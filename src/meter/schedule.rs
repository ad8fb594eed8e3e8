//! When probes are to be sent: nanoseconds from the start of a run, by number.

use std::sync::Arc;

/// When each probe is to be sent.
#[derive(Debug, Clone)]
pub enum Schedule {
    /// At even distances (RFC 3432).
    Periodic {
        /// The distance.
        interval_ns: u64,
    },
    /// At random distances, each independent of the others and exponentially distributed
    /// (RFC 2330 §11.1.1), so that what repeats on the path cannot keep step with the probes.
    Poisson {
        /// Their mean.
        mean_ns: u64,
        /// Equal seeds give equal schedules.
        seed: u64,
    },
    /// At these times, in ascending order; the run ends with the last.
    Listed(Arc<[u64]>),
}

/// The times of a schedule, one after the other.
#[derive(Debug, Clone)]
pub struct Times {
    schedule: Schedule,
    number: u64,
    last_ns: u64,
}

impl Schedule {
    /// From its first time on.
    pub fn times(self) -> Times {
        Times {
            schedule: self,
            number: 0,
            last_ns: 0,
        }
    }
}

impl Iterator for Times {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let number = self.number;
        self.number += 1;
        match &self.schedule {
            Schedule::Periodic { interval_ns } => interval_ns.checked_mul(number),
            Schedule::Poisson { mean_ns, seed } => {
                let gap = exponential(uniform(*seed, number), *mean_ns);
                self.last_ns = self.last_ns.checked_add(gap)?;
                Some(self.last_ns)
            }
            Schedule::Listed(times) => times.get(usize::try_from(number).ok()?).copied(),
        }
    }
}

/// A draw from (0, 1], which is a function of the seed and the number.
fn uniform(seed: u64, number: u64) -> f64 {
    // splitmix64's n-th output (Steele, Lea and Flood 2014).
    let mut bits = seed.wrapping_add((number.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    // 53 bits are what a double holds.
    ((bits >> 11) + 1) as f64 / (1u64 << 53) as f64
}

/// By inversion: −ln(u) has the exponential distribution of mean 1 (RFC 2330 §11.1.3).
fn exponential(uniform: f64, mean_ns: u64) -> u64 {
    (-uniform.ln() * mean_ns as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periodic_times_do_not_drift() {
        let times: Vec<u64> = Schedule::Periodic { interval_ns: 7 }
            .times()
            .skip(1_000_000)
            .take(2)
            .collect();
        assert_eq!(times, [7_000_000, 7_000_007]);
        let far = Schedule::Periodic {
            interval_ns: u64::MAX / 2,
        };
        assert_eq!(far.times().count(), 3);
    }

    #[test]
    fn poisson_distances_have_mean_and_deviation_alike() {
        let poisson = |seed| {
            Schedule::Poisson {
                mean_ns: 1_000_000,
                seed,
            }
            .times()
        };
        let times: Vec<u64> = poisson(7).take(100_001).collect();
        let gaps: Vec<f64> = times.windows(2).map(|w| (w[1] - w[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // Four standard errors of a mean of 100,000.
        assert!((mean / 1e6 - 1.0).abs() < 0.013, "{mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "{variance}");
        // A memoryless distance exceeds its mean once in e times.
        let longer = gaps.iter().filter(|&&gap| gap > 1e6).count() as f64 / gaps.len() as f64;
        assert!((longer - (-1f64).exp()).abs() < 0.01, "{longer}");
        assert!(poisson(7).take(100_001).eq(times));
        assert!(!poisson(8).take(10).eq(poisson(7).take(10)));
    }

    #[test]
    fn a_list_ends() {
        let listed = Schedule::Listed(Arc::from([0, 5, 5, 90]));
        assert!(listed.times().eq([0, 5, 5, 90]));
    }
}
