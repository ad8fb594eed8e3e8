//! Blocking calls: without the GIL, with an ear for signals, and out of the interpreter's
//! way when it ends.
//!
//! A thread that comes back for the GIL while the interpreter is torn down is ended by
//! CPython (before 3.14) by unwinding it, which native code does not survive; pyo3 lets it
//! hang instead, together with the thread that joins it. Only daemon threads are still there at that
//! point, so: [`shut_down`] makes their waits end with `SystemExit`, which ends a thread
//! without a word, and lets none begin.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;

use super::errors;
use super::fork;
use crate::error::{Error, Result};

static IS_EXITING: AtomicBool = AtomicBool::new(false);
/// Threads within [`blocking`].
static INSIDE: AtomicUsize = AtomicUsize::new(0);
/// The thread that ends the interpreter: it may go on calling until it is done.
static LAST: Mutex<Option<ThreadId>> = Mutex::new(None);

/// The longest sleep without looking for signals.
pub(super) const SLICE: Duration = Duration::from_millis(100);

/// How long [`shut_down`] waits for waits to end: ten slices.
const GRACE: Duration = Duration::from_secs(1);

/// Who made a blocking call, as the native side sees it.
#[derive(Default)]
pub(super) struct Caller {
    raised: Mutex<Option<PyErr>>,
}

impl Caller {
    /// True when the call is to end early: a signal handler raised (Ctrl-C), or the
    /// interpreter is exiting. To be asked once a slice; takes the GIL.
    pub(super) fn gives_up(&self) -> bool {
        let reason = if is_unwelcome() {
            Some(exits())
        } else {
            // None: the interpreter is already beyond running anything.
            Python::try_attach(|py| py.check_signals().err()).unwrap_or_else(|| Some(exits()))
        };
        let gives_up = reason.is_some();
        if gives_up {
            *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = reason;
        }
        gives_up
    }

    /// Calls back with how far it is; true: that raised, and the call is to end with it.
    pub(super) fn calls_back(&self, call: &Py<PyAny>, done: u64, of: Option<u64>) -> bool {
        let called = Python::try_attach(|py| call.call1(py, (done, of)).err());
        let raised = called.unwrap_or_else(|| Some(exits()));
        let has_raised = raised.is_some();
        if has_raised {
            *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = raised;
        }
        has_raised
    }

    /// The error that a sliced wait ends with; what was raised takes its place.
    pub(super) fn gone(&self) -> Error {
        Error::state("wait for", "the end", "the caller gave up")
    }
}

fn exits() -> PyErr {
    PySystemExit::new_err(())
}

fn is_unwelcome() -> bool {
    IS_EXITING.load(Ordering::SeqCst)
        && *LAST.lock().unwrap_or_else(PoisonError::into_inner) != Some(thread::current().id())
}

struct Inside;

impl Inside {
    fn enter() -> Self {
        INSIDE.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Runs `work` without the GIL; its error, or what a signal handler raised, becomes the
/// exception.
pub(super) fn blocking<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(&Caller) -> Result<T> + Send,
) -> PyResult<T> {
    let caller = Caller::default();
    // Counted before looking, and until the GIL is back: either we see the flag, or
    // shut_down sees us.
    let inside = Inside::enter();
    if is_unwelcome() {
        return Err(exits());
    }
    let result = py.detach(|| work(&caller));
    drop(inside);
    match caller
        .raised
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
    {
        Some(error) => Err(error),
        None => result.map_err(|error| errors::raise(py, &error)),
    }
}

/// To be called by the thread that ends the interpreter, once: ends every other thread's
/// wait. True when all have come back.
#[pyfunction]
pub(super) fn shut_down(py: Python<'_>) -> bool {
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current().id());
    IS_EXITING.store(true, Ordering::SeqCst);
    py.detach(|| {
        let start = Instant::now();
        while INSIDE.load(Ordering::SeqCst) > 0 {
            if start.elapsed() > GRACE {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
        true
    })
}

/// To be called in the child of a fork: the threads that were waiting are not there.
#[pyfunction]
pub(super) fn after_fork() {
    fork::begin_generation();
    INSIDE.store(0, Ordering::SeqCst);
}
