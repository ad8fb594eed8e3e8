//! Connections by number in the order of a time that each has, oldest first; where every time
//! that is set is the latest, no operation looks at more than a handful of entries.

use std::time::Instant;

const NONE: u32 = u32::MAX;

/// Numbers, each with a time, in the order of these.
#[derive(Debug)]
pub(super) struct Order {
    entries: Vec<Entry>,
    oldest: u32,
    newest: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    at: Option<Instant>,
    older: u32,
    newer: u32,
}

const ABSENT: Entry = Entry {
    at: None,
    older: NONE,
    newer: NONE,
};

impl Order {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            oldest: NONE,
            newest: NONE,
        }
    }

    /// Gives `id` the time `now`, the latest of all; it may have had another.
    pub(super) fn set(&mut self, id: u32, now: Instant) {
        self.remove(id);
        let place = id as usize;
        if self.entries.len() <= place {
            self.entries.resize(place + 1, ABSENT);
        }
        self.entries[place] = Entry {
            at: Some(now),
            older: self.newest,
            newer: NONE,
        };
        match self.newest {
            NONE => self.oldest = id,
            last => self.entries[last as usize].newer = id,
        }
        self.newest = id;
    }

    /// Takes `id` out, if it is in.
    pub(super) fn remove(&mut self, id: u32) {
        let Some(entry) = self.entries.get_mut(id as usize) else {
            return;
        };
        let Entry { at, older, newer } = std::mem::replace(entry, ABSENT);
        if at.is_none() {
            return;
        }
        match older {
            NONE => self.oldest = newer,
            older => self.entries[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.entries[newer as usize].older = older,
        }
    }

    /// The number with the earliest time, and that.
    pub(super) fn oldest(&self) -> Option<(u32, Instant)> {
        let entry = self.entries.get(self.oldest as usize)?;
        Some((self.oldest, entry.at?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        /// Against the plain model: a vector, oldest first.
        #[test]
        fn keeps_the_order_in_which_times_were_set(
            steps in prop::collection::vec((any::<bool>(), 0..16u32), 0..200)
        ) {
            let start = Instant::now();
            let mut order = Order::new();
            let mut model: Vec<(u32, Instant)> = Vec::new();
            for (serial, (is_set, id)) in (0u64..).zip(steps) {
                let now = start + Duration::from_secs(serial);
                model.retain(|(other, _)| *other != id);
                if is_set {
                    order.set(id, now);
                    model.push((id, now));
                } else {
                    order.remove(id);
                }
                prop_assert_eq!(order.oldest(), model.first().copied());
            }
            while let Some((id, _)) = order.oldest() {
                prop_assert_eq!(id, model.remove(0).0);
                order.remove(id);
            }
            prop_assert!(model.is_empty());
        }
    }
}
