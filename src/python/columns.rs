//! `rsecho.Columns` and `rsecho.Column`: what `RecordLayout.unpack_many` returns.

use std::ffi::{CString, c_int};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::exceptions::{PyIndexError, PyKeyError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyIterator, PyList, PySlice, PyString, PyTuple};

use super::buffer::{Exported, export};
use super::values::Whole;
use crate::unpack::{self, Code, Layout, Value};

/// Many records, as one column per field.
#[pyclass(frozen, module = "rsecho")]
pub(super) struct Columns {
    layout: Arc<Layout>,
    columns: unpack::Columns,
}

impl Columns {
    pub(super) fn new(layout: Arc<Layout>, columns: unpack::Columns) -> Self {
        Self { layout, columns }
    }

    fn column(&self, index: usize) -> Column {
        let name = self.layout.name(index).unwrap_or_default();
        Column::new(name, self.columns.columns()[index].clone())
    }
}

#[pymethods]
impl Columns {
    /// The fields' names, in order.
    #[getter]
    fn names<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(
            py,
            (0..self.layout.field_count()).map(|index| self.layout.name(index)),
        )
    }

    /// The number of records, which is the length of every column.
    fn __len__(&self) -> usize {
        self.columns.records()
    }

    fn __getitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<Column> {
        if let Ok(name) = key.cast::<PyString>() {
            let position = self.layout.position(&name.to_cow()?);
            return position
                .map(|index| self.column(index))
                .ok_or_else(|| PyKeyError::new_err(key.clone().unbind()));
        }
        let Ok(index) = key.extract::<Whole>().map(Whole::index) else {
            return Err(PyTypeError::new_err(format!(
                "cannot find a column by a key of type {}: pass a field's name or position",
                key.get_type().name()?
            )));
        };
        position(index, self.layout.field_count())
            .map(|index| self.column(index))
            .ok_or_else(|| {
                PyIndexError::new_err(format!(
                    "no column {index}: a record has {} fields",
                    self.layout.field_count()
                ))
            })
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        PyList::new(
            py,
            (0..self.layout.field_count()).map(|index| self.column(index)),
        )?
        .try_iter()
    }

    fn __repr__(&self) -> String {
        let (records, fields) = (self.columns.records(), self.layout.field_count());
        format!("<rsecho.Columns: {records} records of {fields} fields>")
    }
}

/// One field of many records: a read-only, contiguous array with the buffer protocol.
#[pyclass(frozen, sequence, module = "rsecho")]
pub(super) struct Column {
    name: String,
    data: unpack::Column,
    exported: Exported,
}

impl Column {
    fn new(name: String, data: unpack::Column) -> Self {
        // A Vec is at most isize::MAX bytes, so these conversions lose nothing.
        let itemsize = data.width() as isize;
        let exported = Exported {
            format: CString::new(native_format(&data)).expect("formats hold no NUL"),
            itemsize,
            shape: [data.len() as isize],
            strides: [itemsize],
        };
        Self {
            name,
            data,
            exported,
        }
    }

    fn values(&self) -> impl ExactSizeIterator<Item = Decoded<'_>> {
        self.data.iter().map(Decoded)
    }
}

/// How `struct` and `memoryview` call the column's items in native mode, where `l` may be
/// 8 bytes.
fn native_format(column: &unpack::Column) -> String {
    let letter = match column.code() {
        Code::Char => 'c',
        Code::Bool => '?',
        Code::I8 => 'b',
        Code::U8 => 'B',
        Code::I16 => 'h',
        Code::U16 => 'H',
        Code::I32 => 'i',
        Code::U32 => 'I',
        Code::I64 => 'q',
        Code::U64 => 'Q',
        Code::F16 => 'e',
        Code::F32 => 'f',
        Code::F64 => 'd',
        Code::Pascal => return format!("{}p", column.width()),
        Code::Bytes | Code::Pad => return format!("{}s", column.width()),
    };
    letter.into()
}

#[pymethods]
impl Column {
    /// The field's name.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// The format of one item in this machine's byte order, as the buffer protocol has it.
    #[getter]
    fn format(&self) -> String {
        native_format(&self.data)
    }

    /// Bytes of one item.
    #[getter]
    fn itemsize(&self) -> usize {
        self.data.width()
    }

    /// Bytes of all items.
    #[getter]
    fn nbytes(&self) -> usize {
        self.data.width() * self.data.len()
    }

    /// All values, as a list.
    fn tolist<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.values())
    }

    fn __len__(&self) -> usize {
        self.data.len()
    }

    fn __getitem__<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (py, length) = (key.py(), self.data.len());
        if let Ok(slice) = key.cast::<PySlice>() {
            let range = slice.indices(length as isize)?;
            let items = (0..range.slicelength).map(|i| {
                let index = range.start + i as isize * range.step;
                Decoded(self.data.get(index as usize).expect("clipped by indices()"))
            });
            return Ok(PyList::new(py, items)?.into_any());
        }
        let index = key.extract::<Whole>()?.index();
        match position(index, length).and_then(|index| self.data.get(index)) {
            Some(value) => Decoded(value).into_pyobject(py),
            None => Err(PyIndexError::new_err(format!(
                "no record {index}: the column has {length}"
            ))),
        }
    }

    fn __iter__(slf: Bound<'_, Self>) -> ColumnIterator {
        ColumnIterator {
            column: slf.unbind(),
            next: AtomicUsize::new(0),
        }
    }

    fn __repr__(&self) -> String {
        let (name, length) = (&self.name, self.data.len());
        format!("<rsecho.Column {name:?}: {length} of '{}'>", self.format())
    }

    #[allow(unsafe_code)] // The signature is CPython's; see buffer.rs.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        let start = this.data.bytes().as_ptr();
        // SAFETY: CPython passes `view`. The column's memory holds `len` items of `width`
        // bytes; it and `exported` belong to `slf`, whose class is frozen: nothing changes or
        // moves them before it is freed.
        unsafe { export(view, flags, slf.clone().into_any(), start, &this.exported) }
    }
}

/// Iterates over a column's values.
#[pyclass(frozen, module = "rsecho")]
pub(super) struct ColumnIterator {
    column: Py<Column>,
    next: AtomicUsize,
}

#[pymethods]
impl ColumnIterator {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self) -> Option<Decoded<'_>> {
        let data = &self.column.get().data;
        data.get(take(&self.next, data.len())?).map(Decoded)
    }

    fn __length_hint__(&self) -> usize {
        self.column.get().data.len() - self.next.load(Ordering::Relaxed)
    }
}

/// A Python index, which may count from the end.
fn position(index: isize, length: usize) -> Option<usize> {
    let position = if index < 0 {
        length.checked_sub(index.unsigned_abs())?
    } else {
        index.unsigned_abs()
    };
    (position < length).then_some(position)
}

/// A decoded value on its way to Python.
pub(super) struct Decoded<'d>(pub(super) Value<'d>);

impl<'py> IntoPyObject<'py> for Decoded<'_> {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(match self.0 {
            Value::Int(number) => number.into_pyobject(py)?.into_any(),
            Value::Uint(number) => number.into_pyobject(py)?.into_any(),
            Value::Float(number) => PyFloat::new(py, number).into_any(),
            Value::Bool(truth) => PyBool::new(py, truth).to_owned().into_any(),
            Value::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
        })
    }
}

/// The next index below `end`; each is given out once, whichever threads ask.
pub(super) fn take(next: &AtomicUsize, end: usize) -> Option<usize> {
    next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |index| {
        (index < end).then_some(index + 1)
    })
    .ok()
}
