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
use crate::sys::signal::{Signals, end_process, is_hang_up};
use crate::sys::thread::block_signals;

/// How long last words may take: who reads them may hang.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Waits for signals on a thread of its own.
#[pyclass(frozen, module = "rsecho._rsecho")]
pub(super) struct SignalWatch(Arc<Seen>);

/// How many have come.
#[derive(Default)]
struct Seen {
    count: Mutex<u32>,
    changed: Condvar,
}

impl Seen {
    fn add(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    /// Whether more than so many have come; waits for that.
    fn wait_beyond(&self, count: u32, most: Duration) -> bool {
        let seen = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(seen, most, |seen| *seen <= count);
        *waited.unwrap_or_else(PoisonError::into_inner).0 > count
    }
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
        let seen = Arc::new(Seen::default());
        let told = Arc::clone(&seen);
        thread::Builder::new()
            .name("rsecho-signals".into())
            .spawn(move || watch(signals, &told, last_words))
            .map_err(fail)?;
        Ok(Self(seen))
    }

    /// True once the first has come; waits for it, `timeout` seconds at most.
    #[pyo3(signature = (timeout, /))]
    fn wait(&self, py: Python<'_>, timeout: Seconds) -> PyResult<bool> {
        let timeout = checked(py, timeout.to("timeout"))?;
        blocking(py, |_| Ok(self.0.wait_beyond(0, timeout)))
    }

    /// If the second has come, leaves the end of the process to it: what stopped did so because of
    /// that.
    fn give_way(&self, py: Python<'_>) -> PyResult<()> {
        blocking(py, |_| {
            if self.0.wait_beyond(1, Duration::ZERO) {
                thread::sleep(2 * LAST_WORDS);
            }
            Ok(())
        })
    }
}

fn watch(signals: Signals, seen: &Seen, last_words: Py<PyAny>) {
    block_signals();
    if signals.wait().is_err() {
        return;
    }
    seen.add();
    let number = loop {
        match signals.wait() {
            // A terminal that closes sends two within a millisecond, its shell's and the
            // kernel's, and systemd one after SIGTERM (SendSIGHUP=): nobody insists by it.
            Ok(number) if is_hang_up(number) => {}
            Ok(number) => break number,
            Err(_) => return,
        }
    };
    // Before the last words end anything: see `give_way`.
    seen.add();
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
