//! The event queue, for the pump thread that feeds Python's logging.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use super::address::pair;
use super::blocking::{SLICE, blocking};
use super::values::{Seconds, checked};
use crate::event::{DEFAULT_CAPACITY, Event, Level, Observer, Part, Parts, Queue, What};
use crate::throttle;

// Python's signature shows literals only.
const _: () = assert!(DEFAULT_CAPACITY == 4096);

/// A bounded queue of what happened in servers.
#[pyclass(frozen, module = "rsecho._rsecho")]
pub(super) struct EventQueue(pub(super) Arc<Queue>);

#[pymethods]
impl EventQueue {
    #[new]
    #[pyo3(signature = (capacity = 4096))]
    fn new(capacity: usize) -> PyResult<Self> {
        let queue = Queue::new(capacity).map_err(|error| {
            let text = format!("cannot open an event queue: {error}");
            PyOSError::new_err((error.raw_os_error(), text))
        })?;
        Ok(Self(Arc::new(queue)))
    }

    /// Takes up to `limit` events, in the order of their times, each with its server's number.
    #[pyo3(signature = (limit, /))]
    fn drain<'py>(
        &self,
        py: Python<'py>,
        limit: usize,
    ) -> PyResult<Vec<(u64, Bound<'py, PyTuple>)>> {
        self.0
            .drain(limit)
            .iter()
            .map(|event| Ok((event.server_id, tuple(py, event)?)))
            .collect()
    }

    /// How many events were dropped since the last call.
    fn take_dropped(&self) -> u64 {
        self.0.take_dropped()
    }

    /// Sleeps until there may be an event, the queue is closed, or the time has passed.
    #[pyo3(signature = (timeout, /))]
    fn wait(&self, py: Python<'_>, timeout: Seconds) -> PyResult<()> {
        let mut left = checked(py, timeout.to("timeout"))?;
        blocking(py, |caller| {
            // Ends at the first wake-up, whatever it was; only silence is sliced.
            while !left.is_zero() && !self.0.is_closed() && self.0.is_empty() {
                let slice = left.min(SLICE);
                self.0.wait(slice);
                left -= slice;
                if caller.gives_up() {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Wakes the reader, by an event that says nothing.
    fn wake(&self) {
        Observer::new("", Some(Arc::clone(&self.0))).notice(Level::Debug, "wake", "");
    }

    /// Makes every later wait return at once.
    fn close(&self) {
        self.0.close();
    }

    /// Undoes `close`.
    fn reopen(&self) {
        self.0.reopen();
    }
}

/// When lines of one kind are written: once a second at most, the last of a burst on time.
#[pyclass(frozen, module = "rsecho._rsecho")]
#[derive(Default)]
pub(super) struct Throttle(Mutex<throttle::Throttle>);

#[pymethods]
impl Throttle {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// A line could be written now: how many were left out before it, if it is to be.
    #[pyo3(signature = (now, /))]
    fn offer(&self, py: Python<'_>, now: Seconds) -> PyResult<Option<u64>> {
        Ok(self.lock().offer(checked(py, now.to("now"))?))
    }

    /// When the last line is due that was held back.
    fn due(&self) -> Option<f64> {
        self.lock().due().map(|due| due.as_secs_f64())
    }

    /// As `offer` for the last line that was held back, if that is due.
    #[pyo3(signature = (now, /))]
    fn take_due(&self, py: Python<'_>, now: Seconds) -> PyResult<Option<u64>> {
        Ok(self.lock().take_due(checked(py, now.to("now"))?))
    }

    /// The same whether it is due or not.
    fn finish(&self) -> Option<u64> {
        self.lock().finish()
    }
}

impl Throttle {
    fn lock(&self) -> MutexGuard<'_, throttle::Throttle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// First the kind, the time and the server, then what belongs to the kind.
fn tuple<'py>(py: Python<'py>, event: &Event) -> PyResult<Bound<'py, PyTuple>> {
    let (time, server) = (event.time_ns, &*event.server);
    match &event.what {
        What::Notice {
            level,
            name,
            text,
            parts,
        } => {
            let parts = dict(py, parts)?;
            ("notice", time, server, number(*level), *name, text, parts).into_pyobject(py)
        }
        What::Received {
            peer,
            length,
            data,
            dropped,
        } => {
            let data = PyBytes::new(py, data);
            (
                "received",
                time,
                server,
                pair(*peer),
                *length,
                data,
                *dropped,
            )
                .into_pyobject(py)
        }
        What::Answered {
            peer,
            length,
            dropped,
        } => ("answered", time, server, pair(*peer), *length, *dropped).into_pyobject(py),
        What::Record { peer, data } => {
            let data = PyBytes::new(py, data);
            ("record", time, server, pair(*peer), data).into_pyobject(py)
        }
        What::Unfit { peer, length, data } => {
            let data = PyBytes::new(py, data);
            ("unfit", time, server, pair(*peer), *length, data).into_pyobject(py)
        }
        What::Opened { peer } => ("opened", time, server, pair(*peer)).into_pyobject(py),
        What::Closed {
            peer,
            why,
            received_bytes,
            sent_bytes,
        } => {
            let (received, sent) = (*received_bytes, *sent_bytes);
            ("closed", time, server, pair(*peer), *why, received, sent).into_pyobject(py)
        }
    }
}

fn dict<'py>(py: Python<'py>, parts: &Parts) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, part) in parts {
        match part {
            Part::Text(text) => dict.set_item(name, text)?,
            Part::Number(number) => dict.set_item(name, number)?,
            Part::Real(number) => dict.set_item(name, number)?,
            Part::Flag(flag) => dict.set_item(name, flag)?,
            Part::Counts(counts) => {
                let by_name = PyDict::new(py);
                for (name, count) in counts {
                    by_name.set_item(name, count)?;
                }
                dict.set_item(name, by_name)?;
            }
        }
    }
    Ok(dict)
}

/// As in Python's logging.
fn number(level: Level) -> u8 {
    match level {
        Level::Debug => 10,
        Level::Info => 20,
        Level::Warning => 30,
        Level::Error => 40,
    }
}
