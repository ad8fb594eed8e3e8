//! What has been received and not been taken yet, and the memory that all of it shares.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Digest, Name};
use crate::transfer::budget::{Budget, Share};
use crate::transfer::failure::Failure;

/// A message that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// Who sent it.
    pub peer: SocketAddr,
    /// The transfer's id.
    pub id: u64,
    /// Its name; no components: a message without a name.
    pub name: Name,
    /// Length in bytes.
    pub length: u64,
    /// BLAKE3 digest.
    pub digest: Digest,
    /// The contents; `None`: they are in the file of that name.
    pub data: Option<Vec<u8>>,
    /// Plain format: first and last index of each range of missing chunks.
    pub missing: Vec<(u32, u32)>,
    /// The reason, if the message failed and only this notice remains.
    pub failure: Option<Failure>,
}

/// What each message in an inbox counts as, beside its bytes and its name's.
const OVERHEAD_BYTES: u64 = 256;

/// What a message counts as in a budget before any of its bytes has come.
pub(super) fn overhead_bytes(name: &Name) -> u64 {
    let of = |component: &String| component.len() as u64 + size_of::<String>() as u64;
    OVERHEAD_BYTES + name.components().iter().map(of).sum::<u64>()
}

/// Messages that have arrived and were not taken yet. Their memory is limited by a budget.
#[derive(Debug)]
pub struct Inbox {
    budget: Arc<Budget>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<(Delivered, Share)>,
    is_closed: bool,
}

impl Inbox {
    /// Creates an empty inbox. Messages count towards this budget from the start of their transfers.
    pub fn new(budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self {
            budget,
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// The budget that its messages count towards.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message, with its share of the budget. False: the inbox is closed.
    #[must_use]
    pub fn put(&self, message: Delivered, share: Share) -> bool {
        let mut state = self.state();
        if state.is_closed {
            return false;
        }
        state.messages.push_back((message, share));
        drop(state);
        self.changed.notify_one();
        true
    }

    /// Waits for a message, takes the oldest, and frees its share of the budget. `None`: the time is
    /// over (without one it has no end), or the inbox is closed and empty.
    pub fn take(&self, timeout: Option<Duration>) -> Option<Delivered> {
        // A time too long for the clock has no end either.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let is_endless = deadline.is_none();
        let mut state = self.state();
        loop {
            if let Some((message, _)) = state.messages.pop_front() {
                return Some(message);
            }
            let left = deadline.map_or(Duration::MAX, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            if state.is_closed || (!is_endless && left.is_zero()) {
                return None;
            }
            state = if is_endless {
                self.changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner)
            } else {
                self.changed
                    .wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            };
        }
    }

    /// How many messages are in it.
    pub fn len(&self) -> usize {
        self.state().messages.len()
    }

    /// Whether none is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Accepts nothing more, and wakes all that wait. Messages that are there can still be taken.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u64) -> Delivered {
        Delivered {
            peer: SocketAddr::from(([127, 0, 0, 1], 9)),
            id,
            name: Name::none(),
            length: 0,
            digest: [0; 32],
            data: Some(Vec::new()),
            missing: Vec::new(),
            failure: None,
        }
    }

    #[test]
    fn messages_are_taken_in_order_and_count_until_then() {
        let inbox = Inbox::new(Budget::new(100));
        for id in 1..=2 {
            let mut share = Share::new(inbox.budget());
            assert!(share.grow(50));
            assert!(inbox.put(message(id), share));
        }
        assert!(!Share::new(inbox.budget()).grow(1));
        assert_eq!(inbox.take(None).unwrap().id, 1);
        assert_eq!((inbox.budget().left_bytes(), inbox.len()), (50, 1));
        assert_eq!(inbox.take(Some(Duration::ZERO)).unwrap().id, 2);
        assert_eq!(inbox.take(Some(Duration::ZERO)), None);
        assert_eq!(inbox.take(Some(Duration::from_millis(1))), None);
    }

    #[test]
    fn whoever_waits_is_woken_by_a_message_and_by_the_end() {
        let inbox = Inbox::new(Budget::new(100));
        let taker = std::thread::spawn({
            let inbox = inbox.clone();
            move || (inbox.take(None), inbox.take(Some(Duration::MAX)))
        });
        assert!(inbox.put(message(7), Share::new(inbox.budget())));
        while !inbox.is_empty() {
            std::thread::yield_now();
        }
        inbox.close();
        let (first, second) = taker.join().unwrap();
        assert_eq!((first.map(|message| message.id), second), (Some(7), None));
        assert!(!inbox.put(message(8), Share::new(inbox.budget())));
    }
}
