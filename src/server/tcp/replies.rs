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
    /// With the part of it that is here.
    Promised(Promise, Vec<u8>),
    Here(Box<[u8]>),
    Ends(Ending),
}

/// How an answer ends its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Close,
    Reset,
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
    /// The turn of an answer that ends the connection has come: nothing behind it goes out.
    ending: Option<Ending>,
}

impl Replies {
    /// How many answers wait, or are waited for.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How the connection is to end once all that is out by now is sent.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// An answer will come later.
    pub(super) fn promise(&mut self, promise: Promise) {
        self.slots.push_back(Slot::Promised(promise, Vec::new()));
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

    /// A part of a promised answer is here: it goes out when its turn has come.
    pub(super) fn add(&mut self, ticket: u64, bytes: &[u8], out: &mut Outbound) {
        let is_next = self.place(ticket) == Some(0) && self.ending.is_none();
        let promised = self.slots.iter_mut().find_map(|slot| match slot {
            Slot::Promised(promise, begun) if promise.ticket == ticket => Some((promise, begun)),
            _ => None,
        });
        match promised {
            Some((promise, _)) if is_next => {
                out.push(bytes);
                out.push(promise.end.bytes());
            }
            Some((promise, begun)) => {
                begun.extend_from_slice(bytes);
                begun.extend_from_slice(promise.end.bytes());
            }
            None => {}
        }
    }

    /// Keeps a promise: with an answer, or by none; perhaps it ends the connection. What may go
    /// out by now does.
    pub(super) fn keep(
        &mut self,
        ticket: u64,
        answer: Option<&[u8]>,
        ending: Option<Ending>,
        out: &mut Outbound,
    ) {
        let Some(place) = self.place(ticket) else {
            return;
        };
        if let Some(Slot::Promised(promise, mut whole)) = self.slots.remove(place) {
            if let Some(ending) = ending {
                self.slots.insert(place, Slot::Ends(ending));
            }
            if let Some(bytes) = answer {
                whole.extend_from_slice(bytes);
                whole.extend_from_slice(promise.end.bytes());
            }
            self.slots.insert(place, Slot::Here(whole.into()));
        }
        self.let_out(out);
    }

    /// The connection ends behind what was answered before.
    pub(super) fn end(&mut self, ending: Ending, out: &mut Outbound) {
        self.slots.push_back(Slot::Ends(ending));
        self.let_out(out);
    }

    fn let_out(&mut self, out: &mut Outbound) {
        while self.ending.is_none() {
            match self.slots.front() {
                Some(Slot::Here(bytes)) => out.push(bytes),
                Some(Slot::Ends(ending)) => self.ending = Some(*ending),
                Some(Slot::Promised(..)) | None => return,
            }
            self.slots.pop_front();
            // Of a promise whose turn has come, the part that is here goes out.
            if let Some(Slot::Promised(_, begun)) = self.slots.front_mut()
                && self.ending.is_none()
            {
                out.push(begun);
                begun.clear();
            }
        }
    }

    fn place(&self, ticket: u64) -> Option<usize> {
        let is_it =
            |slot: &Slot| matches!(slot, Slot::Promised(promise, _) if promise.ticket == ticket);
        self.slots.iter().position(is_it)
    }

    /// The promises that are not kept.
    pub(super) fn promises(&self) -> impl Iterator<Item = Promise> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Promised(promise, _) => Some(*promise),
            Slot::Here(_) | Slot::Ends(_) => None,
        })
    }

    /// How many bytes are here.
    pub(super) fn held(&self) -> usize {
        let bytes = self.slots.iter().map(|slot| match slot {
            Slot::Promised(_, begun) => begun.len(),
            Slot::Here(bytes) => bytes.len(),
            Slot::Ends(_) => 0,
        });
        bytes.sum()
    }
}
