//! Numbers in a few lists, each in the order in which its members last moved (LRU lists).
//!
//! Rule 1: where every time that is given is the latest, no operation looks at more than a
//! handful of entries, and none allocates but for a number beyond all before.
//! Rule 2: a number is in one list at most, whose head is the one that has been silent
//! longest; so a deadline costs a look at the head, not a timer for each connection.
//! Rule 3: time is given, never asked for.

use std::time::Instant;

const NONE: u32 = u32::MAX;

/// Numbers, which should be small and dense, in `LISTS` lists.
#[derive(Debug)]
pub(super) struct Lru<const LISTS: usize> {
    links: Vec<Link>,
    ends: [Ends; LISTS],
}

#[derive(Debug, Clone, Copy)]
struct Link {
    /// `None`: it is in no list.
    moved: Option<Instant>,
    older: u32,
    newer: u32,
    list: u8,
}

const ABSENT: Link = Link {
    moved: None,
    older: NONE,
    newer: NONE,
    list: 0,
};

#[derive(Debug, Clone, Copy)]
struct Ends {
    oldest: u32,
    newest: u32,
}

impl<const LISTS: usize> Lru<LISTS> {
    pub(super) fn new() -> Self {
        let empty = Ends {
            oldest: NONE,
            newest: NONE,
        };
        Self {
            links: Vec::new(),
            ends: [empty; LISTS],
        }
    }

    /// Makes `id` the newest of `list`, whichever it was in.
    pub(super) fn touch(&mut self, id: u32, list: usize, now: Instant) {
        self.remove(id);
        let place = id as usize;
        if self.links.len() <= place {
            self.links.resize(place + 1, ABSENT);
        }
        let ends = &mut self.ends[list];
        let last = std::mem::replace(&mut ends.newest, id);
        self.links[place] = Link {
            moved: Some(now),
            older: last,
            newer: NONE,
            list: list as u8,
        };
        match last {
            NONE => ends.oldest = id,
            last => self.links[last as usize].newer = id,
        }
    }

    /// Takes `id` out, if it is in any.
    pub(super) fn remove(&mut self, id: u32) {
        let Some(link) = self.links.get_mut(id as usize) else {
            return;
        };
        let link = std::mem::replace(link, ABSENT);
        if link.moved.is_none() {
            return;
        }
        let ends = &mut self.ends[usize::from(link.list)];
        match link.older {
            NONE => ends.oldest = link.newer,
            older => self.links[older as usize].newer = link.newer,
        }
        match link.newer {
            NONE => ends.newest = link.older,
            newer => self.links[newer as usize].older = link.older,
        }
    }

    /// The list that a number is in.
    pub(super) fn list(&self, id: u32) -> usize {
        usize::from(self.links[id as usize].list)
    }

    /// The member of `list` that has been silent longest, and since when.
    pub(super) fn oldest(&self, list: usize) -> Option<(u32, Instant)> {
        let id = self.ends[list].oldest;
        Some((id, self.links.get(id as usize)?.moved?))
    }

    /// The members of `list`, oldest first.
    pub(super) fn members(&self, list: usize) -> impl Iterator<Item = u32> {
        let some = |id: u32| (id != NONE).then_some(id);
        std::iter::successors(some(self.ends[list].oldest), move |id| {
            some(self.links[*id as usize].newer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        /// Against the plain model: vectors, oldest first.
        #[test]
        fn keeps_each_list_in_the_order_of_last_moves(
            steps in prop::collection::vec((prop::option::weighted(0.7, 0..3usize), 0..16u32), 0..200)
        ) {
            let start = Instant::now();
            let mut lists = Lru::<3>::new();
            let mut model: [Vec<(u32, Instant)>; 3] = Default::default();
            for (serial, (list, id)) in (0u64..).zip(steps) {
                let now = start + Duration::from_secs(serial);
                for list in &mut model {
                    list.retain(|(other, _)| *other != id);
                }
                if let Some(list) = list {
                    lists.touch(id, list, now);
                    model[list].push((id, now));
                    prop_assert_eq!(lists.list(id), list);
                } else {
                    lists.remove(id);
                }
                for (list, wanted) in model.iter().enumerate() {
                    prop_assert_eq!(lists.oldest(list), wanted.first().copied());
                    let wanted: Vec<u32> = wanted.iter().map(|(id, _)| *id).collect();
                    prop_assert_eq!(lists.members(list).collect::<Vec<_>>(), wanted);
                }
            }
        }
    }
}
