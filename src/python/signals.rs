//! Signals for the command: the first is told, the second ends the process, whatever the
//! interpreter does. A callable may hold the GIL for ever, and with it every thread of Python's.

use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::blocking::blocking;
use super::calls::call;
use super::values::{Seconds, checked};
use crate::sys::signal::{Signals, end_process};
use crate::sys::thread::block_signals;

/// How long last words may take: who reads them may hang.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Waits for signals on a thread of its own.
#[pyclass(frozen, module = "rsecho._rsecho")]
pub(super) struct SignalWatch(Arc<First>);

/// Whether the first has come.
#[derive(Default)]
struct First {
    has_come: Mutex<bool>,
    changed: Condvar,
}

#[pymethods]
impl SignalWatch {
    #[new]
    #[pyo3(signature = (signals, last_words, /))]
    fn new(signals: Vec<i32>, last_words: Py<PyAny>) -> PyResult<Self> {
        let fail = |error: std::io::Error| {
            let text = format!("cannot watch for signals: {error}");
            PyOSError::new_err((error.raw_os_error(), text))
        };
        let signals = Signals::new(&signals).map_err(fail)?;
        let first = Arc::new(First::default());
        let told = Arc::clone(&first);
        thread::Builder::new()
            .name("rsecho-signals".into())
            .spawn(move || watch(signals, &told, last_words))
            .map_err(fail)?;
        Ok(Self(first))
    }

    /// True once the first has come; waits for it, `timeout` seconds at most.
    #[pyo3(signature = (timeout, /))]
    fn wait(&self, py: Python<'_>, timeout: Seconds) -> PyResult<bool> {
        let timeout = checked(py, timeout.to("timeout"))?;
        blocking(py, |_| {
            let has_come = self.0.has_come.lock();
            let (has_come, _) = self
                .0
                .changed
                .wait_timeout_while(
                    has_come.unwrap_or_else(PoisonError::into_inner),
                    timeout,
                    |has_come| !*has_come,
                )
                .unwrap_or_else(PoisonError::into_inner);
            Ok(*has_come)
        })
    }
}

fn watch(signals: Signals, first: &First, last_words: Py<PyAny>) {
    block_signals();
    if signals.wait().is_err() {
        return;
    }
    *first
        .has_come
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = true;
    first.changed.notify_all();
    let Ok(number) = signals.wait() else { return };
    let (done, is_done) = mpsc::channel();
    let speaker = thread::Builder::new().spawn(move || {
        Python::try_attach(|py| {
            if let Err(error) = call(last_words.bind(py), &PyTuple::empty(py)) {
                error.write_unraisable(py, None);
            }
        });
        let _ = done.send(());
    });
    if speaker.is_ok() {
        let _ = is_done.recv_timeout(LAST_WORDS);
    }
    // As a shell reports an end by a signal.
    end_process(128 + number);
}
