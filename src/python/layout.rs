//! `rsecho.RecordLayout` over [`crate::unpack`].

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::exceptions::{PyKeyError, PyMemoryError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyInt, PyMapping, PyString, PyTuple, PyType};

use super::buffer::{Input, copy_out};
use super::columns::{Columns, Decoded, take};
use super::errors::{format_error, record_error};
use super::values::{Whole, shown};
use crate::unpack::{
    Code, ColumnsBuilder, DataError, FormatError, Layout, MAX_FIELDS, MAX_FORMAT_BYTES, Slot, Value,
};

/// Below this many bytes, decoding takes less time than giving up the GIL and waiting for it.
const DETACH_BYTES: usize = 64 << 10;

/// A compiled struct format: decodes and encodes records of a fixed size.
///
/// The formats are those of Python's `struct` module with standard sizes and no padding:
/// `<`, `>`, `!` or `=` first, then codes `xcbB?hHiIlLqQefdsp` with optional counts.
#[pyclass(frozen, module = "rsecho")]
pub(super) struct RecordLayout {
    layout: Arc<Layout>,
    /// Made when asked for: there may be 65,536 of them.
    names: PyOnceLock<Py<PyTuple>>,
}

#[pymethods]
impl RecordLayout {
    #[new]
    #[pyo3(signature = (format, names = None))]
    fn new(format: &Bound<'_, PyAny>, names: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let py = format.py();
        let refuse = |error: FormatError| format_error(py, error);
        let text = format_text(format)?;
        let layout = match names {
            None => Layout::compile(&text),
            Some(names) => Layout::with_names(&text, &name_list(names)?),
        };
        Ok(Self {
            layout: Arc::new(layout.map_err(refuse)?),
            names: PyOnceLock::new(),
        })
    }

    /// The format, as it was given.
    #[getter]
    fn format(&self) -> &str {
        self.layout.format()
    }

    /// Bytes of one record.
    #[getter]
    fn size(&self) -> usize {
        self.layout.size()
    }

    /// Values in one record; padding is no value.
    #[getter]
    fn field_count(&self) -> usize {
        self.layout.field_count()
    }

    /// The fields' names, in order.
    #[getter]
    fn names<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyTuple>> {
        self.names
            .get_or_try_init(py, || {
                let names = (0..self.layout.field_count()).map(|index| self.layout.name(index));
                Ok(PyTuple::new(py, names)?.unbind())
            })
            .map(|names| names.bind(py))
    }

    /// Decodes exactly one record.
    #[pyo3(signature = (data, /))]
    fn unpack<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        // The usual argument, without a reference of our own.
        if let Ok(bytes) = data.cast_exact::<PyBytes>() {
            return self.tuple(py, bytes.as_bytes());
        }
        let input = Input::get(data)?;
        let length = input.len(py);
        if length != self.layout.size() {
            // Before it is copied: it may be of any size.
            let error = DataError::wrong_size(self.layout.size(), length);
            return Err(self.refuse(py, error));
        }
        input.with(py, 0, length, |record| self.tuple(py, record))
    }

    /// Decodes one record that starts at `offset`.
    #[pyo3(signature = (data, offset = Whole::default()), text_signature = "($self, data, offset=0)")]
    fn unpack_from<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
        offset: Whole,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let input = Input::get(data)?;
        let start = self
            .layout
            .start_at(input.len(py), offset.index())
            .map_err(|error| self.refuse(py, error))?;
        input.with(py, start, self.layout.size(), |record| {
            self.tuple(py, record)
        })
    }

    /// Decodes exactly one record into a dict by field name.
    #[pyo3(signature = (data, /))]
    fn unpack_dict<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let values = self.unpack(py, data)?;
        let fields = PyDict::new(py);
        for (name, value) in self.names(py)?.iter_borrowed().zip(values.iter_borrowed()) {
            fields.set_item(name, value)?;
        }
        Ok(fields)
    }

    /// Iterates over the records in `data`.
    #[pyo3(signature = (data, /))]
    fn iter_unpack(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<RecordIterator> {
        let py = slf.py();
        let input = Input::get(data)?;
        let this = slf.get();
        let records = this
            .layout
            .records_in(input.len(py))
            .map_err(|error| this.refuse(py, error))?;
        Ok(RecordIterator {
            layout: slf.clone().unbind(),
            input,
            records,
            next: AtomicUsize::new(0),
        })
    }

    /// Decodes all records in `data` into one contiguous column per field.
    #[pyo3(signature = (data, /))]
    fn unpack_many(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<Columns> {
        let input = Input::get(data)?;
        let length = input.len(py);
        let records = self
            .layout
            .records_in(length)
            .map_err(|error| self.refuse(py, error))?;
        let mut builder =
            ColumnsBuilder::new(&self.layout, records).map_err(|error| self.refuse(py, error))?;
        match &input {
            Input::Bytes(bytes) => {
                let bytes = bytes.as_bytes(py);
                if length < DETACH_BYTES {
                    builder.push(bytes);
                } else {
                    py.detach(|| builder.push(bytes));
                }
            }
            Input::Foreign(buffer) => {
                // Block by block through a copy that stays in the cache, since the owner may
                // write to its memory; that is also why the GIL is kept.
                let mut block = vec![0; builder.block_bytes().min(length)];
                let mut start = 0;
                while start < length {
                    let part = block.len().min(length - start);
                    copy_out(py, buffer, start, &mut block[..part]);
                    builder.push(&block[..part]);
                    start += part;
                }
            }
        }
        Ok(Columns::new(self.layout.clone(), builder.finish()))
    }

    /// Encodes one record.
    #[pyo3(signature = (*values))]
    fn pack<'py>(&self, values: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyBytes>> {
        let py = values.py();
        self.layout
            .check_count(values.len())
            .map_err(|error| self.refuse(py, error))?;
        PyBytes::new_with(py, self.layout.size(), |record| {
            for (slot, value) in self.layout.slots().zip(values.iter_borrowed()) {
                self.put(slot, &value, record)?;
            }
            Ok(())
        })
    }

    /// Encodes one record from a mapping of field names to values.
    #[pyo3(signature = (fields, /))]
    fn pack_dict<'py>(&self, fields: &Bound<'py, PyMapping>) -> PyResult<Bound<'py, PyBytes>> {
        let py = fields.py();
        let mut values = Vec::with_capacity(self.layout.field_count());
        for name in self.names(py)?.iter() {
            values.push(fields.get_item(&name).map_err(|error| {
                if error.is_instance_of::<PyKeyError>(py) {
                    let wanted = self.layout.field_count();
                    record_error(
                        py,
                        format!(
                            "cannot pack a record without field '{name}'; give all {wanted} fields"
                        ),
                    )
                } else {
                    error
                }
            })?);
        }
        let given = fields.len()?;
        if given != values.len() {
            return Err(record_error(
                py,
                format!(
                    "cannot pack {given} fields: a record has {}; leave the others out",
                    values.len()
                ),
            ));
        }
        self.pack(&PyTuple::new(py, values)?)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let format = PyString::new(py, self.layout.format()).repr()?;
        Ok(if self.layout.is_named() {
            format!("RecordLayout({format}, names={})", self.names(py)?.repr()?)
        } else {
            format!("RecordLayout({format})")
        })
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.layout == other.layout
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.layout.hash(&mut hasher);
        hasher.finish()
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Reduced<'py>> {
        let (py, this) = (slf.py(), slf.get());
        let names = if this.layout.is_named() {
            Some(this.names(py)?.clone())
        } else {
            None
        };
        Ok((slf.get_type(), (this.layout.format().to_owned(), names)))
    }
}

/// The class and its arguments, as pickle wants them.
type Reduced<'py> = (Bound<'py, PyType>, (String, Option<Bound<'py, PyTuple>>));

impl RecordLayout {
    fn tuple<'py>(&self, py: Python<'py>, record: &[u8]) -> PyResult<Bound<'py, PyTuple>> {
        let values = self
            .layout
            .decode(record)
            .map_err(|error| self.refuse(py, error))?;
        PyTuple::new(py, values.map(Decoded))
    }

    fn put(&self, slot: Slot, value: &Bound<'_, PyAny>, record: &mut [u8]) -> PyResult<()> {
        let py = value.py();
        let refuse = |error| self.refuse(py, error);
        let mut put = |value| self.layout.put(slot, &value, record).map_err(refuse);
        match slot.code {
            Code::Bool => put(Value::Bool(value.is_truthy()?)),
            Code::F16 | Code::F32 | Code::F64 => match value.extract::<f64>() {
                Ok(number) => put(Value::Float(number)),
                Err(cause) => {
                    let error = refuse(DataError::wrong_kind(slot.index, slot.letter));
                    error.set_cause(py, Some(cause));
                    Err(error)
                }
            },
            Code::Char | Code::Bytes | Code::Pascal => {
                if let Ok(bytes) = value.cast::<PyBytes>() {
                    put(Value::Bytes(bytes.as_bytes()))
                } else if let (true, Ok(bytes)) =
                    (slot.code != Code::Char, value.cast::<PyByteArray>())
                {
                    put(Value::Bytes(&bytes.to_vec()))
                } else {
                    Err(refuse(DataError::wrong_kind(slot.index, slot.letter)))
                }
            }
            _ => match integer(value, slot)? {
                Ok(number) => put(number),
                Err(error) => Err(refuse(error)),
            },
        }
    }

    /// The exception for `error`, with the field's name where there is one.
    #[cold]
    fn refuse(&self, py: Python<'_>, error: DataError) -> PyErr {
        if error.is_memory() {
            return PyMemoryError::new_err(error.to_string());
        }
        match error.field().and_then(|field| self.layout.name(field)) {
            Some(name) if self.layout.is_named() => {
                record_error(py, format!("{error} (field '{name}')"))
            }
            _ => record_error(py, error),
        }
    }
}

/// An integer, or what `operator.index` makes of another object. Exceptions that `__index__`
/// raises are passed on; the inner error is about the value.
fn integer(value: &Bound<'_, PyAny>, slot: Slot) -> PyResult<Result<Value<'static>, DataError>> {
    let py = value.py();
    let indexed;
    let number = if let Ok(number) = value.cast::<PyInt>() {
        number
    } else if value.get_type().hasattr("__index__")? {
        static INDEX: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        indexed = INDEX.import(py, "operator", "index")?.call1((value,))?;
        indexed.cast::<PyInt>()?
    } else {
        return Ok(Err(DataError::wrong_kind(slot.index, slot.letter)));
    };
    // The likely one first: a failed extraction builds an exception.
    let found = if slot.code == Code::U64 {
        number
            .extract()
            .map(Value::Uint)
            .or_else(|_| number.extract().map(Value::Int))
    } else {
        number
            .extract()
            .map(Value::Int)
            .or_else(|_| number.extract().map(Value::Uint))
    };
    Ok(found.map_err(|_| DataError::out_of_range(slot.index, slot.letter, None)))
}

/// The text of a `str` or `bytes` format. What is no text becomes U+FFFD, which no format
/// holds; what is too long is not even copied.
fn format_text(format: &Bound<'_, PyAny>) -> PyResult<String> {
    let py = format.py();
    let bounded = |length: usize| {
        if length > MAX_FORMAT_BYTES {
            Err(format_error(py, FormatError::too_long(length)))
        } else {
            Ok(())
        }
    };
    if let Ok(text) = format.cast::<PyString>() {
        bounded(text.len()?)?;
        Ok(text.to_string_lossy().into_owned())
    } else if let Ok(bytes) = format.cast::<PyBytes>() {
        bounded(bytes.as_bytes().len())?;
        Ok(String::from_utf8_lossy(bytes.as_bytes()).into_owned())
    } else {
        Err(PyTypeError::new_err(format!(
            "cannot compile a format of type {}: pass a str, such as '!I'",
            format.get_type().name()?
        )))
    }
}

/// Names as `collections.namedtuple` takes them: an iterable, or one string.
fn name_list(names: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    if let Ok(text) = names.cast::<PyString>() {
        return Ok(name_text(text)
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect());
    }
    let refuse = |named: &Bound<'_, PyAny>| {
        let rule = "it takes names as one str or as a list of str";
        PyTypeError::new_err(format!(
            "cannot set names={}: {rule}",
            shown(named.as_borrowed())
        ))
    };
    names
        .try_iter()
        .map_err(|_| refuse(names))?
        // One more than can be right, should the iterator never end.
        .take(MAX_FIELDS + 1)
        .map(|name| {
            let name = name?;
            match name.cast::<PyString>() {
                Ok(text) => Ok(name_text(text).into_owned()),
                Err(_) => Err(refuse(names)),
            }
        })
        .collect()
}

/// The text of a name. What is no text (a lone surrogate, as an argument in another encoding
/// leaves it) becomes U+FFFF, which no name may hold.
fn name_text<'a>(name: &'a Bound<'_, PyString>) -> Cow<'a, str> {
    name.to_cow().unwrap_or_else(|_| {
        name.to_string_lossy()
            .replace('\u{fffd}', "\u{ffff}")
            .into()
    })
}

/// What `RecordLayout.iter_unpack` returns: one tuple per record.
#[pyclass(frozen, module = "rsecho")]
pub(super) struct RecordIterator {
    layout: Py<RecordLayout>,
    input: Input,
    records: usize,
    next: AtomicUsize,
}

#[pymethods]
impl RecordIterator {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let Some(index) = take(&self.next, self.records) else {
            return Ok(None);
        };
        let layout = self.layout.get();
        let size = layout.layout.size();
        self.input
            .with(py, index * size, size, |record| layout.tuple(py, record))
            .map(Some)
    }

    fn __length_hint__(&self) -> usize {
        self.records - self.next.load(Ordering::Relaxed)
    }
}
