//! Sets of offsets, as ranges that neither overlap nor touch.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of offsets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// In order.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().map(|(start, end)| *start..*end)
    }

    /// Adds a range; what of it was there stays.
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        if let Some((&before, &until)) = self.0.range(..=start).next_back()
            && until >= start
        {
            if until >= end {
                return;
            }
            start = before;
        }
        while let Some((&next, &until)) = self.0.range(start..=end).next() {
            end = end.max(until);
            self.0.remove(&next);
        }
        self.0.insert(start, end);
    }

    /// Takes a range out; what of it was not there does not matter.
    pub(crate) fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        if let Some((&start, &end)) = self.0.range(..range.start).next_back()
            && end > range.start
        {
            self.0.insert(start, range.start);
            if end > range.end {
                self.0.insert(range.end, end);
                return;
            }
        }
        while let Some((&start, &end)) = self.0.range(range.clone()).next() {
            self.0.remove(&start);
            if end > range.end {
                self.0.insert(range.end, end);
            }
        }
    }

    /// What of a range is not in the set.
    pub(crate) fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        let before = self.0.range(..range.start).next_back();
        let within = self.0.range(range.start..range.end);
        for (&start, &end) in before.into_iter().chain(within) {
            if start > at {
                gaps.push(at..start);
            }
            at = at.max(end);
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// The first so many offsets of the first range, without taking them out.
    pub(crate) fn first(&self, most: u64) -> Option<Range<u64>> {
        let (&start, &end) = self.0.first_key_value()?;
        Some(start..end.min(start.saturating_add(most)))
    }
}

/// Packet numbers that came, as (first, last), the newest first, and no more of them than an ACK
/// has room for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    ranges: Vec<(u64, u64)>,
    most: usize,
}

impl Seen {
    /// Of so many ranges at most.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            ranges: Vec::new(),
            most,
        }
    }

    pub(crate) fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges
    }

    /// Adds one; false: it was there.
    pub(crate) fn insert(&mut self, number: u64) -> bool {
        // The newest range is the one that grows, nearly always.
        let at = self.ranges.iter().position(|(first, _)| *first <= number);
        let at = at.unwrap_or(self.ranges.len());
        if let Some((_, last)) = self.ranges.get(at)
            && number <= *last
        {
            return false;
        }
        let grows_up = self.ranges.get(at).is_some_and(|(_, l)| l + 1 == number);
        let grows_down = at > 0 && self.ranges[at - 1].0 == number.saturating_add(1);
        match (grows_up, grows_down) {
            (true, true) => {
                let (first, _) = self.ranges.remove(at);
                self.ranges[at - 1].0 = first;
            }
            (true, false) => self.ranges[at].1 = number,
            (false, true) => self.ranges[at - 1].0 = number,
            (false, false) => {
                self.ranges.insert(at, (number, number));
                self.ranges.truncate(self.most);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_set_of_ranges_is_a_set(steps in vec((any::<bool>(), 0u64..60, 0u64..20), 0..60)) {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for (adds, start, length) in steps {
                let range = start..start + length;
                if adds {
                    ranges.insert(range.clone());
                    model.extend(range);
                } else {
                    ranges.remove(range.clone());
                    model.retain(|one| !range.contains(one));
                }
                prop_assert!(ranges.iter().flatten().eq(model.iter().copied()));
                let ends: Vec<_> = ranges.iter().collect();
                prop_assert!(ends.windows(2).all(|pair| pair[0].end < pair[1].start));
                let gaps = ranges.gaps(10..50).into_iter().flatten();
                prop_assert!(gaps.eq((10..50).filter(|one| !model.contains(one))));
            }
        }

        #[test]
        fn the_newest_packet_numbers_are_kept(numbers in vec(0u64..100, 0..100)) {
            let (mut seen, mut model) = (Seen::new(1000), BTreeSet::new());
            let mut few = Seen::new(3);
            for number in numbers {
                prop_assert_eq!(seen.insert(number), model.insert(number));
                few.insert(number);
                let all = seen.ranges().iter().rev().flat_map(|(first, last)| *first..=*last);
                prop_assert!(all.eq(model.iter().copied()));
                prop_assert!(few.ranges().len() <= 3);
            }
            let apart = |pair: &[(u64, u64)]| pair[0].0 > pair[1].1 + 1;
            prop_assert!(seen.ranges().windows(2).all(apart));
            prop_assert!(few.ranges().windows(2).all(apart));
        }
    }
}
