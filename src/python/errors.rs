//! Raises the exceptions of `rsecho._errors`. They are defined in Python, so that they have
//! docstrings and several bases, and looked up once, when the first is raised.

use std::fmt::Display;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

const MODULE: &str = "rsecho._errors";

/// `rsecho.FormatError`: a format that cannot be compiled.
pub(super) fn format_error(py: Python<'_>, message: impl Display) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    raise(py, &CLASS, "FormatError", message)
}

/// `rsecho.RecordError`: data or values that do not fit a layout.
pub(super) fn record_error(py: Python<'_>, message: impl Display) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    raise(py, &CLASS, "RecordError", message)
}

fn raise(
    py: Python<'_>,
    class: &'static PyOnceLock<Py<PyType>>,
    name: &str,
    message: impl Display,
) -> PyErr {
    match class.import(py, MODULE, name) {
        Ok(class) => PyErr::from_type(class.clone(), message.to_string()),
        // The package is broken or being torn down: say that instead.
        Err(error) => error,
    }
}
