//! What has been received and not been taken yet, and the memory that all of it shares.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Digest, Name};
use crate::transfer::failure::Failure;

/// Memory that several have together: so many bytes, and no more.
#[derive(Debug)]
pub struct Budget {
    max_total_bytes: u64,
    taken_bytes: AtomicU64,
}

impl Budget {
    /// Of so many bytes.
    pub fn new(max_total_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            max_total_bytes,
            taken_bytes: AtomicU64::new(0),
        })
    }

    /// How many bytes there are in all.
    pub fn max_total_bytes(&self) -> u64 {
        self.max_total_bytes
    }

    /// How many bytes are left, for now.
    pub fn left_bytes(&self) -> u64 {
        let taken = self.taken_bytes.load(Ordering::Relaxed);
        self.max_total_bytes.saturating_sub(taken)
    }

    fn take(&self, bytes: u64) -> bool {
        // Nothing is published by these numbers: only that their sum stays below the bound.
        self.taken_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                taken
                    .checked_add(bytes)
                    .filter(|sum| *sum <= self.max_total_bytes)
            })
            .is_ok()
    }
}

/// One's share of a [`Budget`], given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Share {
    /// Nothing yet.
    pub fn new(budget: &Arc<Budget>) -> Self {
        Self {
            budget: budget.clone(),
            bytes: 0,
        }
    }

    /// Takes more, if that is left.
    #[must_use]
    pub fn grow(&mut self, bytes: u64) -> bool {
        let is_left = self.budget.take(bytes);
        if is_left {
            self.bytes += bytes;
        }
        is_left
    }

    /// Gives some back.
    pub fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.taken_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// What it is a share of.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// How much it is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many bytes the budget has left, for now.
    pub fn left_bytes(&self) -> u64 {
        self.budget.left_bytes()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

/// A message that has arrived, whole and equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// Who sent it.
    pub peer: SocketAddr,
    /// The transfer's id.
    pub id: u64,
    /// Under which name; none: without one.
    pub name: Name,
    /// How long it is.
    pub length: u64,
    /// Of all bytes.
    pub digest: Digest,
    /// Its bytes; `None`: they are in the file of its name.
    pub data: Option<Vec<u8>>,
    /// By the tutorial's format: the first and last index of each range of chunks that did not come.
    pub missing: Vec<(u32, u32)>,
    /// Why nothing is here but this notice of it.
    pub failure: Option<Failure>,
}

/// What each message in an inbox counts as, beside its bytes and its name's.
const OVERHEAD_BYTES: u64 = 256;

/// What a message counts as in a budget before any of its bytes has come.
pub(super) fn overhead_bytes(name: &Name) -> u64 {
    let of = |component: &String| component.len() as u64 + size_of::<String>() as u64;
    OVERHEAD_BYTES + name.components().iter().map(of).sum::<u64>()
}

/// Messages that have arrived, until their user takes them: as many as their budget holds.
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
    /// Empty. What is in it counts in this budget, from its transfer's beginning on.
    pub fn new(budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Self {
            budget,
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// What counts what is in it.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message with what it counts as. False: the inbox is closed.
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

    /// The oldest message, which counts no longer, as soon as there is one. `None`: the time is
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

    /// Nothing comes in any more; whoever waits learns of it. What is there can be taken.
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
    fn a_share_is_given_back_when_it_is_dropped() {
        let budget = Budget::new(10);
        let mut first = Share::new(&budget);
        assert!(first.grow(6));
        let mut second = Share::new(&budget);
        assert!(!second.grow(5) && second.grow(4));
        assert!(!second.grow(u64::MAX), "no overflow");
        first.shrink(2);
        assert_eq!((first.bytes(), budget.left_bytes()), (4, 2));
        drop(first);
        drop(second);
        assert_eq!(budget.left_bytes(), 10);
    }

    #[test]
    fn eight_threads_never_have_more_than_all() {
        let budget = Budget::new(1_000);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for bytes in 0..2_000 {
                        let mut share = Share::new(&budget);
                        let is_mine = share.grow(bytes % 700);
                        assert!(budget.taken_bytes.load(Ordering::Relaxed) <= 1_000);
                        assert_eq!(share.bytes(), if is_mine { bytes % 700 } else { 0 });
                    }
                });
            }
        });
        assert_eq!(budget.left_bytes(), 1_000);
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
