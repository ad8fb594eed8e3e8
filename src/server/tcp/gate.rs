//! How many connections all workers together may hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sys::Waker;

/// Counts connections against the limit, where there is one.
///
/// A worker that finds the gate full stops listening; whoever makes room wakes all others,
/// so that connections which wait in another worker's backlog do not wait for ever.
#[derive(Debug)]
pub(super) struct Gate {
    limit: Option<usize>,
    inside: AtomicUsize,
    wakers: Arc<[Waker]>,
}

impl Gate {
    pub(super) fn new(limit: Option<usize>, wakers: Arc<[Waker]>) -> Self {
        Self {
            limit,
            inside: AtomicUsize::new(0),
            wakers,
        }
    }

    /// Takes a place; to be given back by [`Gate::leave`].
    pub(super) fn try_enter(&self) -> bool {
        let Some(limit) = self.limit else {
            return true;
        };
        self.inside
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |inside| {
                (inside < limit).then_some(inside + 1)
            })
            .is_ok()
    }

    /// Gives a place back.
    pub(super) fn leave(&self) {
        if let Some(limit) = self.limit
            && self.inside.fetch_sub(1, Ordering::SeqCst) == limit
        {
            self.wakers.iter().for_each(Waker::wake);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.limit
            .is_some_and(|limit| self.inside.load(Ordering::SeqCst) >= limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Ready, wait_readable};
    use std::time::Duration;

    fn is_woken(waker: &Waker) -> bool {
        wait_readable(-1, Some(waker), Some(Duration::ZERO)).unwrap() == Ready::Woken
    }

    #[test]
    fn the_first_place_given_back_wakes_everyone() {
        let wakers: Arc<[Waker]> = [Waker::new().unwrap(), Waker::new().unwrap()].into();
        let gate = Gate::new(Some(2), Arc::clone(&wakers));
        assert!(gate.try_enter() && !gate.is_full());
        gate.leave();
        assert!(!is_woken(&wakers[0]), "it was not full");
        assert!(gate.try_enter() && gate.try_enter() && gate.is_full());
        assert!(!gate.try_enter());
        gate.leave();
        assert!(wakers.iter().all(is_woken));
        assert!(gate.try_enter());
    }

    #[test]
    fn without_a_limit_there_is_always_room() {
        let gate = Gate::new(None, [].into());
        assert!((0..100_000).all(|_| gate.try_enter()) && !gate.is_full());
        gate.leave();
    }
}
