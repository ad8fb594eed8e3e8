//! A map of bounded size: when it is full, a new entry replaces the one longest unseen.

use std::collections::HashMap;
use std::hash::Hash;

/// No slot.
const NONE: u32 = u32::MAX;

/// Values by key, in slots that are linked from the last seen to the longest unseen.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    places: HashMap<K, u32>,
    slots: Vec<Slot<K, V>>,
    capacity: usize,
    newest: u32,
    oldest: u32,
}

#[derive(Debug)]
struct Slot<K, V> {
    key: K,
    value: V,
    newer: u32,
    older: u32,
}

impl<K: Copy + Eq + Hash, V> Recent<K, V> {
    /// Holds `capacity` at most, which is from 1 to 2³² − 1.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            places: HashMap::new(),
            slots: Vec::new(),
            capacity,
            newest: NONE,
            oldest: NONE,
        }
    }

    /// The value of `key`, made if it is new, and from now on the last one seen.
    pub(super) fn get(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let place = match self.places.get(&key) {
            Some(&place) => {
                self.unlink(place);
                place
            }
            None => self.add(key, make()),
        };
        self.link(place);
        &mut self.slots[place as usize].value
    }

    /// Puts it into a new slot, or into that of the one longest unseen.
    fn add(&mut self, key: K, value: V) -> u32 {
        let place = if self.slots.len() < self.capacity {
            self.slots.push(Slot {
                key,
                value,
                newer: NONE,
                older: NONE,
            });
            (self.slots.len() - 1) as u32
        } else {
            let place = self.oldest;
            self.unlink(place);
            let slot = &mut self.slots[place as usize];
            self.places.remove(&slot.key);
            (slot.key, slot.value) = (key, value);
            place
        };
        self.places.insert(key, place);
        place
    }

    fn unlink(&mut self, place: u32) {
        let Slot { newer, older, .. } = self.slots[place as usize];
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
    }

    fn link(&mut self, place: u32) {
        let slot = &mut self.slots[place as usize];
        (slot.newer, slot.older) = (NONE, self.newest);
        match self.newest {
            NONE => self.oldest = place,
            newest => self.slots[newest as usize].newer = place,
        }
        self.newest = place;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn forgets_the_one_longest_unseen(keys in prop::collection::vec(0..12u8, 0..200), capacity in 1..8usize) {
            let mut recent = Recent::new(capacity);
            // The same, slowly: the last seen is last.
            let mut seen: Vec<(u8, usize)> = Vec::new();
            for (moment, key) in keys.into_iter().enumerate() {
                let value = match seen.iter().position(|(seen, _)| *seen == key) {
                    Some(place) => seen.remove(place).1,
                    None => moment,
                };
                seen.push((key, value));
                if seen.len() > capacity {
                    seen.remove(0);
                }
                prop_assert_eq!(*recent.get(key, || moment), value);
                prop_assert!(recent.slots.len() <= capacity && recent.places.len() <= capacity);
            }
        }
    }
}
