//! Probabilities as the kernel has them.

use std::fmt;

/// A probability in steps of 1/(2³² − 1), as tc(8) hands it to the kernel: 0 is never, 100 %
/// is always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Percent(u32);

impl Percent {
    /// Never.
    pub const NEVER: Self = Self(0);
    /// Always.
    pub const ALWAYS: Self = Self(u32::MAX);

    /// From a percentage; `None` where it is not from 0 to 100.
    pub fn new(percent: f64) -> Option<Self> {
        // As iproute2's set_percent() does. The cast is exact: the product is in range.
        (0.0..=100.0)
            .contains(&percent)
            .then(|| Self((percent / 100.0 * f64::from(u32::MAX)).round_ties_even() as u32))
    }

    /// From 0 to 100.
    pub fn percent(self) -> f64 {
        self.fraction() * 100.0
    }

    /// From 0 to 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(u32::MAX)
    }

    /// What is left of 100 %.
    #[must_use]
    pub fn complement(self) -> Self {
        Self(u32::MAX - self.0)
    }

    /// The steps, of which 2³² − 1 are 100 %.
    pub fn steps(self) -> u32 {
        self.0
    }

    /// How many of the 2³² values of a draw are below it: none at 0, all at 100 %.
    pub(super) fn threshold(self) -> u64 {
        match self.0 {
            u32::MAX => 1 << 32,
            steps => steps.into(),
        }
    }

    /// Whether it comes true for this draw.
    pub(super) fn holds(self, draw: u32) -> bool {
        u64::from(draw) < self.threshold()
    }

    /// Of so many steps, for whatever a test makes up.
    #[cfg(test)]
    pub(super) fn of_steps(steps: u32) -> Self {
        Self(steps)
    }
}

/// As few digits as give the same steps back: `20%`, `0.1%`.
impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A step is 2.3e-8 %, so nine digits always do.
        for digits in 0..9 {
            let text = format!("{:.*}", digits, self.percent());
            if text.parse().ok().and_then(Self::new) == Some(*self) {
                return write!(f, "{text}%");
            }
        }
        write!(f, "{:.9}%", self.percent())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn never_and_always_are_exact() {
        assert!(!Percent::new(0.0).unwrap().holds(0));
        assert!(Percent::new(100.0).unwrap().holds(u32::MAX));
        let half = Percent::new(50.0).unwrap();
        assert!(half.holds(0) && !half.holds(1 << 31));
        for wrong in [-0.1, 100.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Percent::new(wrong), None);
        }
    }

    #[test]
    fn is_printed_as_short_as_it_was_written() {
        for text in ["0%", "20%", "0.1%", "33.3%", "99.99%", "100%"] {
            let value = text.trim_end_matches('%').parse().unwrap();
            assert_eq!(Percent::new(value).unwrap().to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn printing_loses_no_step(steps: u32) {
            let text = Percent(steps).to_string();
            let read = text.trim_end_matches('%').parse().ok().and_then(Percent::new);
            prop_assert_eq!(read, Some(Percent(steps)));
        }
    }
}
