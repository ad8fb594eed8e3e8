//! Memory that many transfers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// So many bytes in all, of which some are taken. Clones share it.
#[derive(Debug, Clone)]
pub struct Budget(Arc<(AtomicU64, u64)>);

impl Budget {
    /// Of so many bytes.
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new((AtomicU64::new(0), bytes)))
    }

    /// Takes some, if they are there.
    #[must_use]
    pub fn take(&self, bytes: u64) -> bool {
        let (taken, all) = &*self.0;
        let more = |taken: u64| taken.checked_add(bytes).filter(|sum| sum <= all);
        taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    /// Gives some back.
    pub fn give(&self, bytes: u64) {
        self.0.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// How many are taken.
    pub fn taken(&self) -> u64 {
        self.0.0.load(Ordering::Relaxed)
    }

    /// How many there are.
    pub fn all(&self) -> u64 {
        self.0.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is() {
        let budget = Budget::new(10);
        assert!(budget.take(6));
        assert!(!budget.clone().take(5));
        assert!(!budget.take(u64::MAX));
        budget.give(2);
        assert!(budget.take(5));
        assert_eq!((budget.taken(), budget.all()), (9, 10));
    }
}
