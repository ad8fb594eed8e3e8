//! Connections by number. To serve one, take it out, and put it back if it goes on.

/// Values by number; a number that was given back is the next to be given out.
#[derive(Debug)]
pub(super) struct Slab<T> {
    /// Boxed, so that taking one out moves no more than a pointer.
    places: Vec<Option<Box<T>>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    /// A number, which may have been another's before, for a value to be put in.
    pub(super) fn reserve(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            (self.places.len() - 1) as u32
        })
    }

    /// Puts a value in, under a number that was reserved or from which it was taken out.
    pub(super) fn put(&mut self, id: u32, value: Box<T>) {
        let place = &mut self.places[id as usize];
        debug_assert!(place.is_none());
        *place = Some(value);
    }

    /// Takes a value out; its number stays its own.
    pub(super) fn take(&mut self, id: u32) -> Option<Box<T>> {
        self.places.get_mut(id as usize)?.take()
    }

    /// Gives the number of a value that was taken out back.
    pub(super) fn release(&mut self, id: u32) {
        debug_assert!(self.places[id as usize].is_none());
        self.free.push(id);
    }

    pub(super) fn get(&self, id: u32) -> Option<&T> {
        self.places.get(id as usize)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.places.get_mut(id as usize)?.as_deref_mut()
    }

    /// No number is given out.
    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Against the plain model: a map.
        #[test]
        fn keeps_each_value_under_its_number(
            steps in prop::collection::vec((0..3u8, any::<prop::sample::Index>()), 0..200)
        ) {
            let mut slab = Slab::new();
            let mut model = BTreeMap::new();
            for (serial, (step, which)) in (0u32..).zip(steps) {
                if step == 0 || model.is_empty() {
                    let id = slab.reserve();
                    prop_assert_eq!(slab.get(id), None);
                    slab.put(id, Box::new(serial));
                    prop_assert_eq!(model.insert(id, serial), None);
                } else {
                    let id = *which.get(&model.keys().copied().collect::<Vec<_>>());
                    let value = slab.take(id).unwrap();
                    prop_assert!(slab.take(id).is_none() && !slab.is_empty());
                    if step == 1 {
                        slab.put(id, value);
                    } else {
                        slab.release(id);
                        prop_assert_eq!(model.remove(&id), Some(*value));
                    }
                }
                for (id, value) in &model {
                    prop_assert_eq!(slab.get(*id), Some(value));
                }
                prop_assert_eq!(slab.is_empty(), model.is_empty());
            }
        }
    }

    #[test]
    fn numbers_are_used_again() {
        let mut slab = Slab::new();
        let first = slab.reserve();
        slab.put(first, Box::new('a'));
        slab.take(first);
        slab.release(first);
        assert_eq!(slab.reserve(), first);
        slab.put(first, Box::new('b'));
        assert_eq!(slab.get_mut(first), Some(&mut 'b'));
        assert_eq!(slab.get(7), None);
    }
}
