//! Packets that others overtook (RFC 4737).

use std::collections::VecDeque;

/// Of how many arrivals is remembered what they were, for extents: a packet that more have
/// overtaken has at least this extent.
const REMEMBERED: usize = 1024;

/// Reordering, in the order of arrival, without duplicates.
#[derive(Debug, Clone, Default)]
pub struct Reordering {
    /// Packets that arrived.
    pub received: u64,
    /// Type-P-Reordered (RFC 4737 §3.3): those that came after one with a greater number.
    pub reordered: u64,
    /// The greatest extent (§4.2.1): how many arrivals before it the first was that overtook it.
    pub greatest_extent: u64,
    extents: u64,
    /// 3-reordered (§5.4): the three arrivals before it all had greater numbers, which is what
    /// TCP with its three duplicate acknowledgements takes for a loss.
    pub three_reordered: u64,
    next_expected: u64,
    /// The numbers of the last arrivals, the newest last.
    recent: VecDeque<u64>,
}

impl Reordering {
    /// The packet with this number arrived, for the first time.
    pub fn record(&mut self, sequence: u64) {
        self.received += 1;
        if sequence >= self.next_expected {
            self.next_expected = sequence + 1;
        } else {
            self.reordered += 1;
            let first = self.recent.iter().position(|&other| other > sequence);
            let extent = first.map_or(self.recent.len(), |at| self.recent.len() - at) as u64;
            self.extents += extent;
            self.greatest_extent = self.greatest_extent.max(extent);
            let mut before = self.recent.iter().rev().take(3);
            let are_greater = before.all(|&other| other > sequence);
            self.three_reordered += u64::from(self.recent.len() >= 3 && are_greater);
        }
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(sequence);
    }

    /// The mean extent of the reordered; `None` where none was.
    pub fn mean_extent(&self) -> Option<f64> {
        (self.reordered > 0).then(|| self.extents as f64 / self.reordered as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sequences: &[u64]) -> Reordering {
        let mut all = Reordering::default();
        sequences.iter().for_each(|&sequence| all.record(sequence));
        all
    }

    #[test]
    fn in_order_and_with_gaps_nothing_is_reordered() {
        assert_eq!(of(&[0, 1, 2, 5, 9]).reordered, 0);
    }

    #[test]
    fn the_extent_is_how_far_it_was_overtaken() {
        // RFC 4737 §4.2.3's example, from 1: 1,2,3,7,4,5,6,8.
        let all = of(&[1, 2, 3, 7, 4, 5, 6, 8]);
        assert_eq!((all.received, all.reordered), (8, 3));
        assert_eq!(all.greatest_extent, 3);
        assert_eq!(all.mean_extent(), Some(2.0));
        assert_eq!(all.three_reordered, 0);
    }

    #[test]
    fn three_overtakers_make_a_three_reordered_packet() {
        assert_eq!(of(&[1, 3, 4, 2]).three_reordered, 0);
        assert_eq!(of(&[1, 3, 4, 5, 2]).three_reordered, 1);
        assert_eq!(of(&[1, 4, 2, 5, 6, 3]).three_reordered, 0);
    }

    #[test]
    fn memory_is_bounded() {
        let mut all = of(&(1..=10_000).collect::<Vec<_>>());
        all.record(0);
        assert_eq!(all.greatest_extent, REMEMBERED as u64);
        assert!(all.recent.len() <= REMEMBERED);
    }
}
