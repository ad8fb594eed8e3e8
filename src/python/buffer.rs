//! Memory across the border: other objects' bytes in, our columns out.
//!
//! With `calls.rs` the one place outside `src/sys` with `unsafe`, together with the method in
//! `columns.rs` whose signature is CPython's: the buffer protocol is a C structure of raw pointers, pyo3 has no
//! safe wrapper for either direction, and `src/sys` may not know pyo3. Nothing but the protocol
//! is here.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Bytes somebody passed to us, held until this is dropped.
pub(super) enum Input {
    /// Immutable, so that it may be read in place, even with the GIL released.
    Bytes(Py<PyBytes>),
    /// Anything else may be written to by its owner at any time: it is only ever copied from.
    Foreign(PyUntypedBuffer),
}

/// Records up to this size are copied to the stack.
const SMALL: usize = 512;

impl Input {
    /// Takes any C-contiguous buffer, like `struct.unpack`.
    pub(super) fn get(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = object.cast::<PyBytes>() {
            return Ok(Self::Bytes(bytes.clone().unbind()));
        }
        let buffer = PyUntypedBuffer::get(object)?;
        if !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err(
                "cannot read a buffer with gaps between its items: pass a contiguous one, \
                 such as bytes(data)",
            ));
        }
        Ok(Self::Foreign(buffer))
    }

    pub(super) fn len(&self, py: Python<'_>) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.as_bytes(py).len(),
            Self::Foreign(buffer) => buffer.len_bytes(),
        }
    }

    /// Calls `read` with `length` bytes from `start` on; a copy of them where they could change.
    ///
    /// Panics when they are not within the buffer.
    pub(super) fn with<R>(
        &self,
        py: Python<'_>,
        start: usize,
        length: usize,
        read: impl FnOnce(&[u8]) -> R,
    ) -> R {
        match self {
            Self::Bytes(bytes) => read(&bytes.as_bytes(py)[start..start + length]),
            Self::Foreign(buffer) if length <= SMALL => {
                let copy = &mut [0; SMALL][..length];
                copy_out(py, buffer, start, copy);
                read(copy)
            }
            Self::Foreign(buffer) => {
                let mut copy = vec![0; length];
                copy_out(py, buffer, start, &mut copy);
                read(&copy)
            }
        }
    }
}

/// Copies `out.len()` bytes from `start` on out of a C-contiguous buffer.
pub(super) fn copy_out(_py: Python<'_>, buffer: &PyUntypedBuffer, start: usize, out: &mut [u8]) {
    assert!(
        start <= buffer.len_bytes() && out.len() <= buffer.len_bytes() - start,
        "a read beyond the buffer's end"
    );
    if out.is_empty() {
        // An empty buffer's address may be NULL.
        return;
    }
    // SAFETY: docs.python.org/3/c-api/buffer.html: until PyBuffer_Release, `buf` points to the
    // exporter's memory, which it may neither free nor resize; C-contiguous (checked by
    // `Input::get`) means `len` bytes from there without gaps, and the range was checked above.
    // `out` is ours alone, so the two do not overlap. `_py` shows that we are attached: a
    // thread that writes to the exporter's memory meanwhile, without the GIL, makes the bytes
    // arbitrary, exactly as it does for the memcpy of `bytes(data)`; u8 has no invalid value.
    unsafe {
        let from = buffer.buf_ptr().cast::<u8>().add(start);
        ptr::copy_nonoverlapping(from, out.as_mut_ptr(), out.len());
    }
}

/// What a column shows of itself: one dimension, read-only. Lives as long as its owner,
/// because the exported structure points into it.
pub(super) struct Exported {
    pub(super) format: std::ffi::CString,
    pub(super) itemsize: isize,
    pub(super) shape: [isize; 1],
    pub(super) strides: [isize; 1],
}

/// Fills `view` for `bf_getbuffer`.
///
/// # Safety
/// `view` is NULL or points to a `Py_buffer`, as CPython passes it. `start` is the start of
/// `exported.itemsize * exported.shape[0]` initialised bytes. Those bytes and `exported` belong
/// to `owner`, which neither moves, changes nor frees them while it lives.
pub(super) unsafe fn export(
    view: *mut ffi::Py_buffer,
    flags: c_int,
    owner: Bound<'_, PyAny>,
    start: *const u8,
    exported: &Exported,
) -> PyResult<()> {
    if view.is_null() {
        return Err(PyBufferError::new_err("no view was given to fill"));
    }
    let wants = |flag: c_int| flags & flag == flag;
    let refusal = if wants(ffi::PyBUF_WRITABLE) {
        Some("a column is read-only; copy it, as in bytearray(column)")
    } else if exported.itemsize == 0 {
        Some("a column of empty strings has no memory; use tolist()")
    } else {
        None
    };
    if let Some(reason) = refusal {
        // SAFETY: not NULL, so a Py_buffer; the protocol asks for `obj = NULL` on failure.
        unsafe { (*view).obj = ptr::null_mut() };
        return Err(PyBufferError::new_err(reason));
    }
    let some = |wanted: bool, pointer: *const isize| {
        if wanted {
            pointer.cast_mut()
        } else {
            ptr::null_mut()
        }
    };
    let format: &CStr = &exported.format;
    // SAFETY: `view` points to a Py_buffer that is ours to fill. Its `obj` gets a reference of
    // its own to `owner`, which the consumer gives back in PyBuffer_Release, and the caller
    // promises that everything pointed to stays put while `owner` lives. The consumer must not
    // write through `buf`, `format`, `shape` or `strides`: the first because of `readonly`, the
    // others by the protocol.
    unsafe {
        (*view).buf = start.cast_mut().cast::<c_void>();
        (*view).obj = owner.into_ptr();
        (*view).len = exported.itemsize * exported.shape[0];
        (*view).itemsize = exported.itemsize;
        (*view).readonly = 1;
        (*view).ndim = 1;
        (*view).format = if wants(ffi::PyBUF_FORMAT) {
            format.as_ptr().cast_mut()
        } else {
            ptr::null_mut()
        };
        (*view).shape = some(wants(ffi::PyBUF_ND), exported.shape.as_ptr());
        (*view).strides = some(wants(ffi::PyBUF_STRIDES), exported.strides.as_ptr());
        (*view).suboffsets = ptr::null_mut();
        (*view).internal = ptr::null_mut();
    }
    Ok(())
}
