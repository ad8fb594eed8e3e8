//! Connections by number, each in one of a few lists ordered by when it last moved.
//!
//! Rule 1: no operation looks at more than a handful of entries, and none allocates but
//! an insert beyond the most that there ever were.
//! Rule 2: every entry is in exactly one list, whose head is the one that has been silent
//! longest; so a deadline costs a look at the head, not a timer for each connection.
//! Rule 3: time is given, never asked for.

use std::time::Instant;

const NONE: u32 = u32::MAX;

/// Entries of type `T` in `LISTS` lists.
#[derive(Debug)]
pub(super) struct Table<T, const LISTS: usize> {
    entries: Vec<Entry<T>>,
    /// Numbers that were given back.
    free: Vec<u32>,
    ends: [Ends; LISTS],
}

#[derive(Debug)]
struct Entry<T> {
    value: Option<T>,
    moved: Instant,
    older: u32,
    newer: u32,
    list: u8,
}

#[derive(Debug, Clone, Copy)]
struct Ends {
    oldest: u32,
    newest: u32,
}

impl<T, const LISTS: usize> Table<T, LISTS> {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            ends: [Ends {
                oldest: NONE,
                newest: NONE,
            }; LISTS],
        }
    }

    /// Adds `value` as the newest of `list`; its number may have been another's before.
    pub(super) fn insert(&mut self, value: T, list: usize, now: Instant) -> u32 {
        let entry = Entry {
            value: Some(value),
            moved: now,
            older: NONE,
            newer: NONE,
            list: list as u8,
        };
        let id = if let Some(id) = self.free.pop() {
            self.entries[id as usize] = entry;
            id
        } else {
            self.entries.push(entry);
            (self.entries.len() - 1) as u32
        };
        self.link(id);
        id
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.entries.get_mut(id as usize)?.value.as_mut()
    }

    /// The list that an entry is in.
    pub(super) fn list(&self, id: u32) -> usize {
        usize::from(self.entries[id as usize].list)
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<T> {
        let value = self.entries.get_mut(id as usize)?.value.take()?;
        self.unlink(id);
        self.free.push(id);
        Some(value)
    }

    /// Makes an entry the newest of `list`, which may be the one it is in.
    pub(super) fn touch(&mut self, id: u32, list: usize, now: Instant) {
        self.unlink(id);
        let entry = &mut self.entries[id as usize];
        entry.list = list as u8;
        entry.moved = now;
        self.link(id);
    }

    /// The entry of `list` that has been silent longest, and since when.
    pub(super) fn oldest(&self, list: usize) -> Option<(u32, Instant)> {
        let id = self.ends[list].oldest;
        (id != NONE).then(|| (id, self.entries[id as usize].moved))
    }

    /// The next newer entry of the same list.
    pub(super) fn newer(&self, id: u32) -> Option<u32> {
        let newer = self.entries[id as usize].newer;
        (newer != NONE).then_some(newer)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.entries.len()
    }

    fn link(&mut self, id: u32) {
        let list = self.list(id);
        let last = self.ends[list].newest;
        let entry = &mut self.entries[id as usize];
        entry.older = last;
        entry.newer = NONE;
        self.ends[list].newest = id;
        if last == NONE {
            self.ends[list].oldest = id;
        } else {
            self.entries[last as usize].newer = id;
        }
    }

    fn unlink(&mut self, id: u32) {
        let Entry {
            older, newer, list, ..
        } = self.entries[id as usize];
        let ends = &mut self.ends[usize::from(list)];
        if older == NONE {
            ends.oldest = newer;
        }
        if newer == NONE {
            ends.newest = older;
        }
        if older != NONE {
            self.entries[older as usize].newer = newer;
        }
        if newer != NONE {
            self.entries[newer as usize].older = older;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(usize),
        Remove(usize),
        Touch(usize, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..3usize).prop_map(Step::Insert),
            (0..64usize).prop_map(Step::Remove),
            (0..64usize, 0..3usize).prop_map(|(which, list)| Step::Touch(which, list)),
        ]
    }

    fn order(table: &Table<u32, 3>, list: usize) -> Vec<u32> {
        let mut next = table.oldest(list).map(|(id, _)| id);
        let mut ids = Vec::new();
        while let Some(id) = next {
            ids.push(id);
            next = table.newer(id);
        }
        ids
    }

    proptest! {
        /// Against the plain model: three vectors, oldest first.
        #[test]
        fn keeps_each_list_in_the_order_of_last_moves(
            steps in prop::collection::vec(step(), 0..200)
        ) {
            let start = Instant::now();
            let mut table = Table::<u32, 3>::new();
            let mut model: [Vec<u32>; 3] = Default::default();
            for (serial, step) in (0u32..).zip(steps) {
                let now = start + Duration::from_secs(u64::from(serial));
                let all: Vec<u32> = model.iter().flatten().copied().collect();
                match step {
                    Step::Insert(list) => {
                        let id = table.insert(serial, list, now);
                        prop_assert!(!all.contains(&id));
                        model[list].push(id);
                    }
                    Step::Remove(which) if which < all.len() => {
                        let id = all[which];
                        prop_assert!(table.remove(id).is_some());
                        prop_assert!(table.remove(id).is_none());
                        model.iter_mut().for_each(|list| list.retain(|other| *other != id));
                    }
                    Step::Touch(which, list) if which < all.len() => {
                        let id = all[which];
                        table.touch(id, list, now);
                        model.iter_mut().for_each(|list| list.retain(|other| *other != id));
                        model[list].push(id);
                        prop_assert_eq!(table.list(id), list);
                    }
                    _ => {}
                }
                for (list, wanted) in model.iter().enumerate() {
                    prop_assert_eq!(&order(&table, list), wanted);
                }
                prop_assert_eq!(table.is_empty(), model.iter().all(Vec::is_empty));
            }
        }
    }

    #[test]
    fn numbers_are_used_again() {
        let now = Instant::now();
        let mut table = Table::<char, 1>::new();
        let first = table.insert('a', 0, now);
        table.remove(first);
        assert_eq!(table.insert('b', 0, now), first);
        assert_eq!(table.get_mut(first), Some(&mut 'b'));
        assert_eq!(table.get_mut(7), None);
    }
}
