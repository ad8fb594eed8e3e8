//! Answers that come later than their batch: from a coroutine, on somebody else's thread.

use std::fmt;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Outcome;

/// An answer that has come: its ticket, what became of the request, and the reply.
pub type Completed = (u64, Outcome, Box<[u8]>);

/// Where late answers of one worker wait for it.
#[derive(Default)]
pub struct Completions {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: Vec<Completed>,
    wake: Option<Box<dyn Fn() + Send>>,
}

impl fmt::Debug for Completions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.state().waiting.len();
        f.debug_struct("Completions")
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}

impl Completions {
    /// How the worker is woken.
    pub fn on_complete(&self, wake: impl Fn() + Send + 'static) {
        self.state().wake = Some(Box::new(wake));
    }

    /// Ends a request that was given a ticket, or begins its answer ([`Outcome::More`]); a ticket
    /// ends once.
    pub fn complete(&self, ticket: u64, outcome: Outcome, reply: &[u8]) {
        let mut state = self.state();
        state.waiting.push((ticket, outcome, reply.into()));
        // Whoever finds more than one waiting was woken for the first.
        if state.waiting.len() == 1
            && let Some(wake) = &state.wake
        {
            wake();
        }
    }

    /// Takes what has come.
    pub fn take(&self) -> Vec<Completed> {
        mem::take(&mut self.state().waiting)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whole after every statement, also where one panicked that held the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn wakes_once_for_what_is_taken_at_once() {
        let (completions, woken) = (Completions::default(), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&woken);
        completions.on_complete(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        completions.complete(1, Outcome::Reply, b"a");
        completions.complete(2, Outcome::Silence, b"");
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        assert_eq!(completions.take().len(), 2);
        completions.complete(3, Outcome::Reply, b"b");
        assert_eq!(woken.load(Ordering::Relaxed), 2);
        assert_eq!(
            completions.take(),
            [(3, Outcome::Reply, b"b".to_vec().into_boxed_slice())]
        );
    }
}
