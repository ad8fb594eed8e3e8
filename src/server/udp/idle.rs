//! When a server has been idle for long enough to end: all of its workers, not one of them.
//!
//! The kernel gives each peer to one worker (SO_REUSEPORT), so a worker may hear nothing
//! for ever while the others are busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// One worker's silence, and how many workers are silent.
pub(super) struct Idle {
    most: Duration,
    silent_for: Duration,
    /// This worker is among `silent_workers`.
    is_counted: bool,
    silent_workers: Arc<AtomicUsize>,
    workers: usize,
}

impl Idle {
    /// One for each of `workers`, which end when none has heard anything for `most`.
    pub(super) fn crew(most: Duration, workers: usize) -> impl Iterator<Item = Self> {
        let silent_workers = Arc::new(AtomicUsize::new(0));
        (0..workers).map(move |_| Self {
            most,
            silent_for: Duration::ZERO,
            is_counted: false,
            silent_workers: Arc::clone(&silent_workers),
            workers,
        })
    }

    /// Something came.
    pub(super) fn end_silence(&mut self) {
        self.silent_for = Duration::ZERO;
        if self.is_counted {
            self.is_counted = false;
            self.silent_workers.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Nothing came for `time` more; true once that holds for every worker for long enough.
    pub(super) fn add_silence(&mut self, time: Duration) -> bool {
        self.silent_for = self.silent_for.saturating_add(time);
        if self.silent_for < self.most {
            return false;
        }
        if !self.is_counted {
            self.is_counted = true;
            self.silent_workers.fetch_add(1, Ordering::Relaxed);
        }
        self.silent_workers.load(Ordering::Relaxed) == self.workers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_worker_is_idle_after_the_whole_time_and_not_before() {
        let mut idle = Idle::crew(3 * SECOND, 1).next().unwrap();
        assert!(!idle.add_silence(2 * SECOND));
        idle.end_silence();
        assert!(!idle.add_silence(2 * SECOND));
        assert!(idle.add_silence(SECOND));
    }

    #[test]
    fn several_are_idle_once_all_of_them_are() {
        let mut crew: Vec<Idle> = Idle::crew(SECOND, 2).collect();
        assert!(!crew[0].add_silence(SECOND));
        assert!(!crew[0].add_silence(SECOND), "counted once");
        crew[0].end_silence();
        assert!(!crew[1].add_silence(SECOND), "the other one is busy again");
        assert!(crew[0].add_silence(SECOND));
    }
}
