//! What one connection is answered, in the order of its requests, however late one of the answers
//! comes. No I/O.
//!
//! Empty while each answer is there when its turn comes; from the first promise on, whatever follows
//! it waits here.

use std::collections::VecDeque;

use super::outbound::Outbound;
use crate::respond::LineEnd;

/// An answer that is not out yet, because it or an earlier one is not there yet.
#[derive(Debug)]
enum Slot {
    Promised(Promise),
    Here(Box<[u8]>),
}

/// An answer that is to come later.
#[derive(Debug, Clone, Copy)]
pub(super) struct Promise {
    pub(super) ticket: u64,
    /// What ends it.
    pub(super) end: LineEnd,
    /// The request was an error reply itself.
    pub(super) to_error: bool,
}

/// One connection's.
#[derive(Debug, Default)]
pub(super) struct Replies {
    slots: VecDeque<Slot>,
}

impl Replies {
    /// How many answers wait, or are waited for.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// An answer will come later.
    pub(super) fn promise(&mut self, promise: Promise) {
        self.slots.push_back(Slot::Promised(promise));
    }

    /// An answer is here: it goes out, behind those before it.
    pub(super) fn push(&mut self, bytes: &[u8], end: &[u8], out: &mut Outbound) {
        if self.slots.is_empty() {
            out.push(bytes);
            out.push(end);
        } else {
            self.slots
                .push_back(Slot::Here([bytes, end].concat().into()));
        }
    }

    /// The promise of this ticket, if it was made and is not kept.
    pub(super) fn promised(&self, ticket: u64) -> Option<Promise> {
        self.promises().find(|promise| promise.ticket == ticket)
    }

    /// Keeps a promise: with an answer, or by none. What may go out by now does.
    pub(super) fn keep(&mut self, ticket: u64, answer: Option<&[u8]>, out: &mut Outbound) {
        let is_it =
            |slot: &Slot| matches!(slot, Slot::Promised(promise) if promise.ticket == ticket);
        let Some(place) = self.slots.iter().position(is_it) else {
            return;
        };
        match (answer, self.slots[place].end()) {
            (Some(bytes), Some(end)) => {
                self.slots[place] = Slot::Here([bytes, end.bytes()].concat().into());
            }
            _ => drop(self.slots.remove(place)),
        }
        while let Some(Slot::Here(_)) = self.slots.front() {
            if let Some(Slot::Here(bytes)) = self.slots.pop_front() {
                out.push(&bytes);
            }
        }
    }

    /// The promises that are not kept.
    pub(super) fn promises(&self) -> impl Iterator<Item = Promise> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Promised(promise) => Some(*promise),
            Slot::Here(_) => None,
        })
    }

    /// How many bytes are here.
    pub(super) fn held(&self) -> usize {
        let bytes = self.slots.iter().map(|slot| match slot {
            Slot::Promised(_) => 0,
            Slot::Here(bytes) => bytes.len(),
        });
        bytes.sum()
    }
}

impl Slot {
    fn end(&self) -> Option<LineEnd> {
        match self {
            Slot::Promised(promise) => Some(promise.end),
            Slot::Here(_) => None,
        }
    }
}
