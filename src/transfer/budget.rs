//! Memory that several have together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A limit of memory that several users share.
#[derive(Debug)]
pub struct Budget {
    max_total_bytes: u64,
    taken_bytes: AtomicU64,
}

impl Budget {
    /// Creates a budget of `max_total_bytes`.
    pub fn new(max_total_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            max_total_bytes,
            taken_bytes: AtomicU64::new(0),
        })
    }

    /// The limit in bytes.
    pub fn max_total_bytes(&self) -> u64 {
        self.max_total_bytes
    }

    /// How many bytes are left, for now.
    pub fn left_bytes(&self) -> u64 {
        let taken = self.taken_bytes.load(Ordering::Relaxed);
        self.max_total_bytes.saturating_sub(taken)
    }

    /// How many bytes are taken.
    pub fn taken_bytes(&self) -> u64 {
        self.taken_bytes.load(Ordering::Relaxed)
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
    /// An empty share.
    pub fn new(budget: &Arc<Budget>) -> Self {
        Self {
            budget: budget.clone(),
            bytes: 0,
        }
    }

    /// Takes more bytes. False: fewer are left, and none is taken.
    #[must_use]
    pub fn grow(&mut self, bytes: u64) -> bool {
        let is_left = self.budget.take(bytes);
        if is_left {
            self.bytes += bytes;
        }
        is_left
    }

    /// Gives bytes back.
    pub fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.taken_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The budget.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Size of this share in bytes.
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

#[cfg(test)]
mod tests {
    use super::*;

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
                        assert!(budget.taken_bytes() <= 1_000);
                        assert_eq!(share.bytes(), if is_mine { bytes % 700 } else { 0 });
                    }
                });
            }
        });
        assert_eq!(budget.left_bytes(), 1_000);
    }
}
