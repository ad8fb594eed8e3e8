//! What did not come of a message.

use std::fmt;

/// Ranges that are kept of what is missing, and that are written out.
const MOST_RANGES: usize = 1000;
const MOST_WRITTEN: usize = 20;

/// The chunks that did not come. Reads as `3-5, 9 of 12`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// As (first, last), in order; of many, the first 1,000.
    pub ranges: Vec<(u32, u32)>,
    /// How many chunks that is, all of them.
    pub chunks: u32,
    /// How many the message has.
    pub of: u32,
}

impl Missing {
    /// All of so many, but for these indices, which are in order.
    pub(super) fn but_for(of: u32, came: impl Iterator<Item = u32>) -> Self {
        let mut missing = Self {
            ranges: Vec::new(),
            chunks: 0,
            of,
        };
        let mut next = 0;
        for index in came {
            missing.add(next, index);
            next = index.saturating_add(1);
        }
        missing.add(next, of);
        missing
    }

    fn add(&mut self, first: u32, end: u32) {
        if first < end {
            self.chunks += end - first;
            if self.ranges.len() < MOST_RANGES {
                self.ranges.push((first, end - 1));
            }
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut written = 0;
        for (place, (first, last)) in self.ranges.iter().take(MOST_WRITTEN).enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
            written += last - first + 1;
        }
        match self.chunks - written {
            0 => write!(f, " of {}", self.of),
            more => write!(f, " and {more} more of {}", self.of),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_ranges() {
        let told = |of, came: &[u32]| Missing::but_for(of, came.iter().copied()).to_string();
        assert_eq!(told(12, &[0, 1, 2, 6, 7, 8, 10, 11]), "3-5, 9 of 12");
        assert_eq!(told(6, &[]), "0-5 of 6");
        assert_eq!(told(1, &[]), "0 of 1");
        assert_eq!(told(3, &[0, 1]), "2 of 3");
        assert_eq!(told(u32::MAX, &[0]), "1-4294967294 of 4294967295");
        let odd: Vec<_> = (0..50).map(|number| 2 * number + 1).collect();
        assert!(told(100, &odd).ends_with("36, 38 and 30 more of 100"));
    }

    #[test]
    fn many_ranges_are_counted_rather_than_kept() {
        let missing = Missing::but_for(100_000, (0..100_000).step_by(2));
        assert_eq!((missing.ranges.len(), missing.chunks), (1000, 50_000));
    }
}
