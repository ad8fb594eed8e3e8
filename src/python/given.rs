//! Options as Python gives them: one dict, from which each is taken by its name.

use std::cell::RefCell;
use std::str::FromStr;
use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::values::{Seconds, Whole, checked};
use crate::error::{Error, Result};

/// What is not taken yet, and the names of what could be.
pub(super) struct Given<'py>(Bound<'py, PyDict>, RefCell<Vec<String>>);

impl<'py> Given<'py> {
    pub(super) fn new(given: &Bound<'py, PyDict>) -> PyResult<Self> {
        Ok(Self(given.copy()?, RefCell::default()))
    }

    pub(super) fn py(&self) -> Python<'py> {
        self.0.py()
    }

    /// Takes one; `None`: it was not given, or given as None.
    pub(super) fn take<T>(&self, name: &str) -> PyResult<Option<T>>
    where
        T: for<'a> FromPyObject<'a, 'py>,
    {
        self.1.borrow_mut().push(name.to_owned());
        let Some(value) = self.0.get_item(name)? else {
            return Ok(None);
        };
        self.0.del_item(name)?;
        value
            .extract()
            .map_err(|error: <Option<T> as FromPyObject<'_, 'py>>::Error| {
                let (py, error) = (self.py(), error.into());
                if !error.is_instance_of::<PyTypeError>(py) {
                    return error;
                }
                PyTypeError::new_err(format!("cannot set {name}: {}", error.value(py)))
            })
    }

    pub(super) fn flag(&self, name: &str) -> PyResult<bool> {
        Ok(self.take(name)?.unwrap_or_default())
    }

    /// A whole number that obeys a rule.
    pub(super) fn number<T: TryFrom<i64>>(&self, name: &str, rule: &str) -> PyResult<Option<T>> {
        self.convert(name, |number: Whole| number.to(name, rule))
    }

    /// Seconds, 0 or more.
    pub(super) fn time(&self, name: &str) -> PyResult<Option<Duration>> {
        self.convert(name, |time: Seconds| time.to(name))
    }

    /// Seconds, more than 0; None: no limit.
    pub(super) fn positive_time(&self, name: &str) -> PyResult<Option<Duration>> {
        self.time_or(name, "None turns it off")
    }

    /// Seconds, more than 0; `way_out` is for those who gave 0.
    pub(super) fn time_or(&self, name: &str, way_out: &str) -> PyResult<Option<Duration>> {
        self.convert(name, |time: Seconds| time.to_positive(name, way_out))
    }

    /// A text in a grammar of this crate's.
    pub(super) fn parsed<T: FromStr<Err = Error>>(&self, name: &str) -> PyResult<Option<T>> {
        self.convert(name, |text: String| text.parse())
    }

    /// Takes one and makes a value of it.
    pub(super) fn convert<T, U>(
        &self,
        name: &str,
        convert: impl FnOnce(T) -> Result<U>,
    ) -> PyResult<Option<U>>
    where
        T: for<'a> FromPyObject<'a, 'py>,
    {
        let value = self.take(name)?;
        checked(self.py(), value.map(convert).transpose())
    }

    /// Refuses what nobody has taken.
    pub(super) fn finish(self) -> PyResult<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = self.0.keys().extract()?;
        Err(PyTypeError::new_err(format!(
            "no such option: {}; there are {}",
            names.join(", "),
            self.1.borrow().join(", "),
        )))
    }
}
