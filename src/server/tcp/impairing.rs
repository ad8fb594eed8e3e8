//! What a running server impairs, changed from outside while its workers run.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::impair::{Effect, StreamImpairments, Toxics};
use crate::server::Change;
use crate::sys::Waker;

/// How long a change waits for workers that are busy.
const PATIENCE: Duration = Duration::from_secs(1);

/// What to impair, from one change to the next.
#[derive(Debug, Default)]
pub(super) struct Setting {
    pub(super) impairments: StreamImpairments,
    /// The number of the first connection to come; they are counted anew with each change.
    first: u64,
}

impl Setting {
    /// These impairments, with a seed if they need one, for connections from this one on.
    fn of(impairments: StreamImpairments, first: u64) -> Self {
        Self {
            impairments: impairments.seeded(),
            first,
        }
    }

    /// As a user would write it, with the seed.
    pub(super) fn text(&self) -> String {
        self.impairments.to_string()
    }

    /// The number of a connection, by which its draws are made.
    pub(super) fn number(&self, connection: u64) -> u64 {
        connection.wrapping_sub(self.first)
    }

    /// No connection is to be accepted.
    pub(super) fn refuses_all(&self) -> bool {
        let refuses = |toxics: &Toxics| {
            toxics
                .list
                .iter()
                .any(|toxic| toxic.effect == Effect::Refuse && toxic.toxicity >= 1.0)
        };
        refuses(&self.impairments.incoming) || refuses(&self.impairments.outgoing)
    }
}

/// The setting, with a number by which workers see that it is another one.
#[derive(Debug)]
pub(super) struct Impairing {
    generation: AtomicU32,
    /// The number of the next connection.
    connections: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
    wakers: Arc<[Waker]>,
}

#[derive(Debug)]
struct State {
    setting: Arc<Setting>,
    /// For each worker while it runs: who it is, and the generation that it has.
    workers: Vec<Option<(ThreadId, u32)>>,
}

impl Impairing {
    /// With these impairments to begin with.
    pub(super) fn new(impairments: StreamImpairments, wakers: Arc<[Waker]>) -> Self {
        Self {
            // Workers begin with 0, and so take up what there is.
            generation: AtomicU32::new(u32::from(!impairments.is_noop())),
            connections: AtomicU64::new(0),
            state: Mutex::new(State {
                setting: Arc::new(Setting::of(impairments, 0)),
                workers: vec![None; wakers.len()],
            }),
            changed: Condvar::new(),
            wakers,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whole after every statement, also where one panicked that held the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the setting is another one than that of `generation`. A load, no more: asked
    /// for each round.
    pub(super) fn has_changed(&self, generation: u32) -> bool {
        self.generation.load(Ordering::Acquire) != generation
    }

    /// Counts a connection that has come.
    pub(super) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// The setting and its number.
    pub(super) fn get(&self) -> (u32, Arc<Setting>) {
        let state = self.state();
        let generation = self.generation.load(Ordering::Acquire);
        (generation, Arc::clone(&state.setting))
    }

    /// A worker runs with the setting of this number, or does not run any more.
    pub(super) fn note(&self, worker: usize, generation: Option<u32>) {
        let id = thread::current().id();
        self.state().workers[worker] = generation.map(|generation| (id, generation));
        self.changed.notify_all();
    }

    /// Another setting, from its text; returns what is in force then.
    ///
    /// `apply` does at once what needs no worker.
    pub(super) fn change(&self, change: &Change, apply: impl FnOnce(&Setting)) -> Result<String> {
        if change.tape.is_some() {
            let rule = "decisions are recorded per datagram, and a stream has none";
            return Err(Error::argument(
                "record",
                "the decisions of a TCP server",
                rule,
            ));
        }
        let first = self.connections.load(Ordering::Relaxed);
        let setting = Setting::of(change.spec.parse()?, first);
        let text = setting.text();
        self.set(setting, apply);
        Ok(text)
    }

    /// Another setting from now on: a connection that comes, and bytes that come, after this
    /// returned meet it. Waits for that, but not for a worker that takes its time.
    fn set(&self, setting: Setting, apply: impl FnOnce(&Setting)) {
        let mut state = self.state();
        state.setting = Arc::new(setting);
        apply(&state.setting);
        let wanted = self.generation.load(Ordering::Relaxed).wrapping_add(1);
        self.generation.store(wanted, Ordering::Release);
        self.wakers.iter().for_each(Waker::wake);
        let me = thread::current().id();
        // Another change may come meanwhile, which is as good.
        let is_behind = |worker: &Option<(ThreadId, u32)>| {
            worker.is_some_and(|(id, generation)| {
                id != me && wanted.wrapping_sub(generation) as i32 > 0
            })
        };
        drop(
            self.changed
                .wait_timeout_while(state, PATIENCE, |state| state.workers.iter().any(is_behind)),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::time::Instant;

    fn change(shared: &Impairing, spec: &str) -> Result<String> {
        let change = Change {
            spec: spec.into(),
            tape: None,
        };
        shared.change(&change, |_| {})
    }

    fn take(shared: &Impairing, worker: usize) -> (u32, Arc<Setting>) {
        let (generation, setting) = shared.get();
        shared.note(worker, Some(generation));
        (generation, setting)
    }

    fn impairing(workers: usize) -> Arc<Impairing> {
        let wakers: Vec<Waker> = (0..workers).map(|_| Waker::new().unwrap()).collect();
        Arc::new(Impairing::new(StreamImpairments::default(), wakers.into()))
    }

    #[test]
    fn a_change_waits_for_workers_that_run() {
        let shared = impairing(2);
        change(&shared, "latency 1ms").expect("nobody runs: at once");
        assert!(shared.has_changed(0));
        let (generation, setting) = take(&shared, 0);
        assert!(!setting.impairments.is_noop() && !shared.has_changed(generation));
        // This thread is the worker, which cannot wait for itself.
        let start = Instant::now();
        change(&shared, "").unwrap();
        assert!(start.elapsed() < PATIENCE);
        let took = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                take(&shared, 1);
                while !shared.has_changed(2) {
                    thread::yield_now();
                }
                let (generation, setting) = shared.get();
                took.store(setting.refuses_all(), Ordering::SeqCst);
                shared.note(1, Some(generation));
            });
            while shared.state().workers[1].is_none() {
                thread::yield_now();
            }
            change(&shared, "refuse").unwrap();
            assert!(took.load(Ordering::SeqCst), "it has it by now");
        });
        shared.note(0, None);
        shared.note(1, None);
    }

    #[test]
    fn connections_are_counted_anew_with_each_change() {
        let shared = impairing(1);
        assert_eq!(shared.next_connection(), 0);
        assert_eq!(shared.next_connection(), 1);
        change(&shared, "latency 1ms").unwrap();
        let (_, setting) = take(&shared, 0);
        assert!(
            setting.text().contains("seed"),
            "so that it can be repeated"
        );
        assert_eq!(setting.number(shared.next_connection()), 0);
        assert_eq!(setting.number(shared.next_connection()), 1);
    }

    #[test]
    fn what_cannot_be_done_changes_nothing() {
        let shared = impairing(1);
        assert!(change(&shared, "loss 10%").unwrap_err().is_argument());
        assert!(!shared.has_changed(0));
    }
}
