//! How delays stray: netem's tables, computed.
//!
//! iproute2 ships them as files; here they are made by the formulas of its generators
//! (netem/normal.c, pareto.c, paretonormal.c) at the middle of each of 4096 steps, where
//! normal.c rounds to the step's edge and so shifts the mean by a thousandth.

use std::sync::LazyLock;

use super::units::LONGEST_NS;

/// Entries of a table, and of the scale they are in: 8192 is one jitter (NETEM_DIST_SCALE).
const ENTRIES: usize = 4096;
const SCALE: i64 = 8192;

/// How a delay strays round its mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Distribution {
    /// Evenly, by at most the jitter to each side.
    #[default]
    Uniform,
    /// By Gauss: the jitter is the standard deviation. Within four of them.
    Normal,
    /// By Pareto with the exponent 3: most a little early, a few very late. Up to four
    /// jitters late.
    Pareto,
    /// A quarter normal and three quarters Pareto, said to be nearest to what is measured.
    ParetoNormal,
}

impl Distribution {
    /// All of them, with their names.
    pub(super) const NAMES: [(&'static str, Self); 4] = [
        ("uniform", Self::Uniform),
        ("normal", Self::Normal),
        ("pareto", Self::Pareto),
        ("paretonormal", Self::ParetoNormal),
    ];

    /// As in the grammar.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Normal => "normal",
            Self::Pareto => "pareto",
            Self::ParetoNormal => "paretonormal",
        }
    }

    /// Its table; none for the one that needs none.
    pub(super) fn table(self) -> Table {
        match self {
            Self::Uniform => Table(None),
            Self::Normal => Table(Some(&*NORMAL)),
            Self::Pareto => Table(Some(&*PARETO)),
            Self::ParetoNormal => Table(Some(&*PARETO_NORMAL)),
        }
    }
}

/// A distribution, ready to be drawn from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table(Option<&'static [i16; ENTRIES]>);

impl Table {
    /// `mean` and what strays from it, in units of `jitter`, as tabledist() in sch_netem.c;
    /// never before now. The draw's high bits choose, so that correlated draws give
    /// correlated delays.
    pub(super) fn stray(self, mean: u64, jitter: u64, draw: u32) -> u64 {
        if jitter == 0 {
            return mean;
        }
        // Of at most a day, so that no product overflows 63 bits.
        let [mean, jitter] = [mean, jitter].map(|time| time.min(LONGEST_NS) as i64);
        let strayed = match self.0 {
            None => {
                let place = (i128::from(draw) * 2 * i128::from(jitter)) >> 32;
                mean - jitter + place as i64
            }
            Some(table) => {
                let deviation = i64::from(table[draw as usize / (1 << 20)]) * jitter;
                // To the nearest nanosecond.
                mean + (deviation + SCALE / 2).div_euclid(SCALE)
            }
        };
        strayed.max(0).unsigned_abs()
    }
}

static NORMAL: LazyLock<[i16; ENTRIES]> = LazyLock::new(|| {
    let mut quantiles = Quantiles::new();
    tabulate(|place| quantiles.next(place))
});

static PARETO: LazyLock<[i16; ENTRIES]> = LazyLock::new(|| tabulate(pareto));

static PARETO_NORMAL: LazyLock<[i16; ENTRIES]> = LazyLock::new(|| {
    let mut quantiles = Quantiles::new();
    tabulate(|place| {
        // Each is cut to what a table holds before they are mixed, as there.
        (quantiles.next(place) + 3.0 * pareto(place).min(LARGEST)) / 4.0
    })
});

/// The largest deviation that a table holds, in jitters.
const LARGEST: f64 = i16::MAX as f64 / SCALE as f64;

/// Deviations at the middles of equal steps of probability, in order.
fn tabulate(mut deviation: impl FnMut(f64) -> f64) -> [i16; ENTRIES] {
    std::array::from_fn(|entry| {
        let place = (entry as f64 + 0.5) / ENTRIES as f64;
        // Saturates, as the generators do.
        (deviation(place) * SCALE as f64).round() as i16
    })
}

/// Of the exponent 3, shifted to its mean of 1.5 and scaled by 4/3, as pareto.c does it.
fn pareto(place: f64) -> f64 {
    ((1.0 - place).powf(-1.0 / 3.0) - 1.5) * 4.0 / 3.0
}

/// The normal distribution's quantiles, asked for in ascending order.
struct Quantiles {
    last: f64,
}

impl Quantiles {
    fn new() -> Self {
        Self { last: -5.0 }
    }

    fn next(&mut self, place: f64) -> f64 {
        let (mut low, mut high) = (self.last, 5.0);
        while high - low > 1e-9 {
            let middle = f64::midpoint(low, high);
            if below(middle) < place {
                low = middle;
            } else {
                high = middle;
            }
        }
        self.last = low;
        low
    }
}

/// The normal distribution's share below `x`, by its series (Marsaglia 2004, "Evaluating the
/// normal distribution"): right to 1e-14 for the `x` from −5 to 5 that are asked for.
fn below(x: f64) -> f64 {
    let (mut sum, mut term, mut odd) = (x, x, 1.0);
    while term.abs() > 1e-17 {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    0.5 + sum * (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean, standard deviation and skewness of a table, in jitters.
    fn moments(table: &[i16; ENTRIES]) -> [f64; 3] {
        let values = table.map(|entry| f64::from(entry) / SCALE as f64);
        let mean_of = |power: i32, center: f64| {
            let sum: f64 = values
                .iter()
                .map(|value| (value - center).powi(power))
                .sum();
            sum / ENTRIES as f64
        };
        let mean = mean_of(1, 0.0);
        let deviation = mean_of(2, mean).sqrt();
        [mean, deviation, mean_of(3, mean) / deviation.powi(3)]
    }

    #[test]
    fn the_normal_table_has_the_normal_moments() {
        let [mean, deviation, skewness] = moments(&NORMAL);
        assert!(mean.abs() < 1e-4, "{mean}");
        assert!((deviation - 1.0).abs() < 1e-3, "{deviation}");
        assert!(skewness.abs() < 1e-3, "{skewness}");
        // Φ(1) = 0.841344746.
        let below_one = NORMAL.iter().filter(|entry| i64::from(**entry) < SCALE);
        assert_eq!(below_one.count(), 3446);
    }

    #[test]
    fn the_pareto_table_has_the_moments_of_its_formula() {
        // With X Pareto (a = 3) and cut where x = 4.5: E min(X, c) = 1.5 − c⁻²/2, and
        // E min(X, c)² = 3 − 2/c.
        let cut = LARGEST * 0.75 + 1.5;
        let mean_x = 1.5 - cut.powi(-2) / 2.0;
        let deviation_x = (3.0 - 2.0 / cut - mean_x * mean_x).sqrt();
        let [mean, deviation, skewness] = moments(&PARETO);
        assert!((mean - (mean_x - 1.5) * 4.0 / 3.0).abs() < 1e-3, "{mean}");
        assert!(
            (deviation - deviation_x * 4.0 / 3.0).abs() < 1e-3,
            "{deviation}"
        );
        assert!(skewness > 1.5, "{skewness}");
        // The earliest: (1 − 1.5) · 4/3.
        assert_eq!(PARETO[0], (-2.0 / 3.0 * SCALE as f64) as i16);
        assert_eq!(PARETO[ENTRIES - 1], i16::MAX);
    }

    #[test]
    fn the_mixture_is_a_quarter_and_three_quarters() {
        for entry in [0, 1000, 2048, 4000] {
            let mixed = (f64::from(NORMAL[entry]) + 3.0 * f64::from(PARETO[entry])) / 4.0;
            assert!((f64::from(PARETO_NORMAL[entry]) - mixed).abs() <= 1.5);
        }
    }

    #[test]
    fn strays_as_far_as_the_jitter_and_never_into_the_past() {
        let uniform = Distribution::Uniform.table();
        assert_eq!(uniform.stray(100, 10, 0), 90);
        assert_eq!(uniform.stray(100, 10, 1 << 31), 100);
        assert_eq!(uniform.stray(100, 10, u32::MAX), 109);
        assert_eq!(uniform.stray(5, 10, 0), 0);
        let day = 86_400_000_000_000;
        for (_, distribution) in Distribution::NAMES {
            let table = distribution.table();
            assert_eq!(table.stray(100, 0, 7), 100);
            assert_eq!(table.stray(0, day, 0), 0);
            let latest = table.stray(day, day, u32::MAX);
            assert!(latest > day && latest <= 5 * day, "{latest}");
        }
    }
}
