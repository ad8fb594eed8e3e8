//! Arguments: numbers that may be anything, times in seconds, words with few meanings.

use std::fmt::Display;
use std::time::Duration;

use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyBool;

use super::errors;
use crate::address::Family;
use crate::error::{Error, Result};
use crate::server::{EngineChoice, Wait};

/// An integer of any size, held to 64 bits: what does not fit there breaks every rule that
/// is checked later, and is a ValueError by that rule's words.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Whole(i64);

impl<'py> FromPyObject<'_, 'py> for Whole {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let refuse = || {
            let text = format!("it is a whole number, not {}", shown(object));
            Err(PyTypeError::new_err(text))
        };
        match object.extract::<i64>() {
            Ok(_) if object.is_instance_of::<PyBool>() => refuse(),
            Ok(number) => Ok(Self(number)),
            Err(error) if error.is_instance_of::<PyOverflowError>(object.py()) => {
                let is_negative = object.lt(0)?;
                Ok(Self(if is_negative { i64::MIN } else { i64::MAX }))
            }
            Err(error) if error.is_instance_of::<PyTypeError>(object.py()) => refuse(),
            Err(error) => Err(error),
        }
    }
}

/// A value in an error: one line, however long or strange it is.
pub(super) fn shown(object: Borrowed<'_, '_, PyAny>) -> String {
    const MOST: usize = 60;
    let Ok(text) = object.repr() else {
        return "that".to_owned();
    };
    let text = text.to_string_lossy().replace(['\n', '\r'], " ");
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

impl Whole {
    /// This number as an index: one that does not fit lies beyond everything, on its side.
    pub(super) fn index(self) -> isize {
        let beyond = if self.0 < 0 { isize::MIN } else { isize::MAX };
        isize::try_from(self.0).unwrap_or(beyond)
    }

    /// This number as `T`, or an error that names it and states the `rule`.
    pub(super) fn to<T: TryFrom<i64>>(self, name: &str, rule: &str) -> Result<T> {
        T::try_from(self.0).map_err(|_| refuse(name, self.0, rule))
    }
}

/// A port: checked here since getaddrinfo wraps what it is given.
pub(super) fn port(number: Whole) -> Result<u16> {
    let rule = "a port is a number from 0 to 65535";
    u16::try_from(number.0).map_err(|_| Error::argument("use port", number.0, rule))
}

/// Seconds, as everywhere in Python.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seconds(f64);

impl<'py> FromPyObject<'_, 'py> for Seconds {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match object.extract() {
            Ok(seconds) => Ok(Self(seconds)),
            Err(_) => Err(PyTypeError::new_err(format!(
                "a time is a number of seconds, not {}",
                object.get_type().name()?
            ))),
        }
    }
}

impl Seconds {
    /// Not negative, not NaN, not beyond what a clock can hold.
    pub(super) fn to(self, name: &str) -> Result<Duration> {
        Duration::try_from_secs_f64(self.0).map_err(|_| match self.0 > 1e18 {
            // In digits, a line would not be long enough.
            true => {
                let value = format!("{:e}", self.0);
                refuse(
                    name,
                    value,
                    "a time is at most 1e18 seconds; leave it out for no limit",
                )
            }
            false => refuse(name, self.0, "a time is a number of seconds, 0 or more"),
        })
    }

    /// The same, and more than zero; `way_out` is for whom 0 meant something.
    pub(super) fn to_positive(self, name: &str, way_out: &str) -> Result<Duration> {
        match self.to(name)? {
            Duration::ZERO => Err(refuse(name, 0, "it takes more than 0 seconds").or(way_out)),
            time => Ok(time),
        }
    }
}

fn refuse(name: &str, value: impl Display, rule: &str) -> Error {
    Error::argument("set", format!("{name}={value}"), rule)
}

/// 0, 4 or 6.
pub(super) fn family(number: Whole) -> Result<Family> {
    match number.0 {
        0 => Ok(Family::Any),
        4 => Ok(Family::V4),
        6 => Ok(Family::V6),
        other => Err(refuse("family", other, "a family is 0 (either), 4 or 6")),
    }
}

/// Numbers of CPUs.
pub(super) fn cpus(numbers: Vec<Whole>) -> Result<Vec<usize>> {
    let rule = "a CPU is a number, 0 or more";
    numbers
        .into_iter()
        .map(|cpu| cpu.to("cpus", rule))
        .collect()
}

/// As in `--engine`.
pub(super) fn engine(name: &str) -> Result<EngineChoice> {
    match name {
        "auto" => Ok(EngineChoice::Auto),
        "batch" => Ok(EngineChoice::Batch),
        "portable" => Ok(EngineChoice::Portable),
        other => Err(refuse(
            "engine",
            format!("{other:?}"),
            "an engine is auto, batch or portable",
        )),
    }
}

/// As in `--wait`.
pub(super) fn wait(name: &str) -> Result<Wait> {
    match name {
        "balanced" => Ok(Wait::Balanced),
        "latency" => Ok(Wait::Latency),
        "busy" => Ok(Wait::Busy),
        other => Err(refuse(
            "wait",
            format!("{other:?}"),
            "a way to wait is balanced, latency or busy",
        )),
    }
}

/// The crate's error as an exception.
pub(super) fn checked<T>(py: Python<'_>, result: Result<T>) -> PyResult<T> {
    result.map_err(|error| errors::raise(py, &error))
}
