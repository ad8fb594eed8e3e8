//! How values are distributed: an HDR histogram, with what it cannot tell exactly beside it.

use hdrhistogram::Histogram;

/// Longer is counted as this long: an hour.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// Each value is kept to within a thousandth of itself.
const DIGITS: u8 = 3;

/// Values in nanoseconds: their percentiles to three digits, and their exact least, greatest,
/// mean and standard deviation. Its memory does not depend on how many they are.
#[derive(Debug, Clone)]
pub struct Distribution {
    histogram: Histogram<u64>,
    least: u64,
    greatest: u64,
    mean: f64,
    /// The sum of the squares of the distances from the mean.
    squares: f64,
}

impl Default for Distribution {
    fn default() -> Self {
        Self::new()
    }
}

impl Distribution {
    /// Of nothing yet.
    pub fn new() -> Self {
        // These bounds are right by construction: 2 · 1 ≤ LONGEST_NS, DIGITS ≤ 5.
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, DIGITS);
        Self {
            histogram: histogram.unwrap_or_else(|_| unreachable!("valid bounds")),
            least: u64::MAX,
            greatest: 0,
            mean: 0.0,
            squares: 0.0,
        }
    }

    /// One more value.
    #[inline]
    pub fn record(&mut self, value_ns: u64) {
        self.histogram.saturating_record(value_ns);
        self.least = self.least.min(value_ns);
        self.greatest = self.greatest.max(value_ns);
        // Welford 1962: no cancellation, however long the run.
        let distance = value_ns as f64 - self.mean;
        self.mean += distance / self.histogram.len() as f64;
        self.squares += distance * (value_ns as f64 - self.mean);
    }

    /// As if each value of the other had been recorded here: counts are added, so that percentiles
    /// are those of all values together.
    pub fn merge(&mut self, other: &Self) {
        let (ours, theirs) = (self.count() as f64, other.count() as f64);
        if other.count() == 0 {
            return;
        }
        // Chan, Golub and LeVeque 1979.
        let distance = other.mean - self.mean;
        self.mean += distance * theirs / (ours + theirs);
        self.squares += other.squares + distance * distance * ours * theirs / (ours + theirs);
        self.least = self.least.min(other.least);
        self.greatest = self.greatest.max(other.greatest);
        // Both have the same bounds, so none of the values is out of range.
        let _ = self.histogram.add(&other.histogram);
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The least; `None` of nothing.
    pub fn least_ns(&self) -> Option<u64> {
        (self.count() > 0).then_some(self.least)
    }

    /// The greatest; `None` of nothing.
    pub fn greatest_ns(&self) -> Option<u64> {
        (self.count() > 0).then_some(self.greatest)
    }

    /// The arithmetic mean; `None` of nothing.
    pub fn mean_ns(&self) -> Option<f64> {
        (self.count() > 0).then_some(self.mean)
    }

    /// The standard deviation of the population, as ping(8) prints it (mdev); `None` of nothing.
    pub fn deviation_ns(&self) -> Option<f64> {
        let count = self.count() as f64;
        (self.count() > 0).then(|| (self.squares / count).max(0.0).sqrt())
    }

    /// The least value that `percent` of all do not exceed (RFC 2330 §11.3), to three digits, and
    /// never beyond the greatest; `None` of nothing.
    pub fn percentile_ns(&self, percent: f64) -> Option<u64> {
        let value = || self.histogram.value_at_percentile(percent);
        (self.count() > 0).then(|| value().clamp(self.least, self.greatest))
    }

    /// The histogram itself: what is saved, merged elsewhere, and drawn.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u64]) -> Distribution {
        let mut all = Distribution::new();
        values.iter().for_each(|&value| all.record(value));
        all
    }

    #[test]
    fn of_nothing_there_is_nothing() {
        let empty = Distribution::new();
        assert_eq!(empty.count(), 0);
        assert_eq!((empty.least_ns(), empty.mean_ns()), (None, None));
        assert_eq!(
            (empty.deviation_ns(), empty.percentile_ns(50.0)),
            (None, None)
        );
    }

    proptest! {
        #[test]
        fn parts_merge_to_the_whole(
            one in prop::collection::vec(0u64..5_000_000_000_000, 1..200),
            other in prop::collection::vec(0u64..5_000_000_000_000, 0..200),
        ) {
            let mut merged = of(&one);
            merged.merge(&of(&other));
            let all: Vec<u64> = one.iter().chain(&other).copied().collect();
            let whole = of(&all);
            prop_assert_eq!(merged.histogram(), whole.histogram());
            prop_assert_eq!(merged.least_ns(), all.iter().min().copied());
            prop_assert_eq!(merged.greatest_ns(), all.iter().max().copied());
            let exact = all.iter().map(|&v| v as f64).sum::<f64>() / all.len() as f64;
            for mean in [merged.mean_ns().unwrap(), whole.mean_ns().unwrap()] {
                prop_assert!((mean - exact).abs() <= exact * 1e-9 + 1e-3);
            }
            let variance = all.iter().map(|&v| (v as f64 - exact).powi(2)).sum::<f64>() / all.len() as f64;
            for deviation in [merged.deviation_ns().unwrap(), whole.deviation_ns().unwrap()] {
                prop_assert!((deviation - variance.sqrt()).abs() <= variance.sqrt() * 1e-6 + 1e-3);
            }
        }

        #[test]
        fn percentiles_are_within_a_thousandth(
            mut values in prop::collection::vec(1u64..LONGEST_NS, 1..300),
            percent in 0.0f64..=100.0,
        ) {
            let told = of(&values).percentile_ns(percent).unwrap() as f64;
            values.sort_unstable();
            let rank = ((percent / 100.0 * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1] as f64;
            prop_assert!((told - exact).abs() <= exact / 1000.0 + 1.0, "{told} for {exact}");
        }
    }
}
