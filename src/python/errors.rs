//! Raises the standard library's exceptions where it has a name for what happened, and those
//! of `rsecho._errors` where it has not. The latter are defined in Python, so that they have
//! docstrings and several bases, and looked up once, when the first is raised.

use std::fmt::Display;

use pyo3::PyErrArguments;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::error::Error;

const MODULE: &str = "rsecho._errors";

/// `rsecho.FormatError`: a format that cannot be compiled.
pub(super) fn format_error(py: Python<'_>, message: impl Display) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    own(py, &CLASS, "FormatError", message.to_string())
}

/// `rsecho.RecordError`: data or values that do not fit a layout.
pub(super) fn record_error(py: Python<'_>, message: impl Display) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    own(py, &CLASS, "RecordError", message.to_string())
}

/// `rsecho.TransferError`: a large message did not arrive; or its subclass, if in time.
pub(super) fn transfer_error(
    py: Python<'_>,
    is_late: bool,
    arguments: (String, &'static str, bool),
) -> PyErr {
    static FAILED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static LATE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    match is_late {
        true => own(py, &LATE, "TransferTimeoutError", arguments),
        false => own(py, &FAILED, "TransferError", arguments),
    }
}

/// The exception for one of the core's errors.
pub(super) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    static STATE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static ENDED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static UNFINISHED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    if error.is_unfinished() {
        return own(
            py,
            &UNFINISHED,
            "StopTimeoutError",
            (error.errno(), error.to_string()),
        );
    }
    if let Some(errno) = error.errno() {
        // Two arguments make CPython pick the subclass by errno (PEP 3151).
        PyOSError::new_err((errno, error.to_string()))
    } else if error.is_resolve() {
        unresolved(py, error)
    } else if error.is_state() {
        own(py, &STATE, "StateError", error.to_string())
    } else if error.is_end_of_stream() {
        own(py, &ENDED, "EndOfStreamError", error.to_string())
    } else {
        PyValueError::new_err(error.to_string())
    }
}

/// `socket.gaierror`, an OSError with a number of its own.
fn unresolved(py: Python<'_>, error: &Error) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let build = || {
        let class = CLASS.import(py, "socket", "gaierror")?.clone();
        let number = py.import("socket")?.getattr("EAI_NONAME")?.unbind();
        Ok(PyErr::from_type(class, (number, error.to_string())))
    };
    build().unwrap_or_else(|error| error)
}

fn own(
    py: Python<'_>,
    class: &'static PyOnceLock<Py<PyType>>,
    name: &str,
    arguments: impl PyErrArguments + 'static,
) -> PyErr {
    match class.import(py, MODULE, name) {
        Ok(class) => PyErr::from_type(class.clone(), arguments),
        // The package is broken or being torn down: say that instead.
        Err(error) => error,
    }
}
