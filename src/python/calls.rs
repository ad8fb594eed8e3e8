//! Calls of Python code that may still be going on when the interpreter ends.
//!
//! CPython before 3.14 ends a thread that comes back for the GIL of an interpreter that is
//! being torn down: by pthread_exit(3), which unwinds the thread's stack. pyo3 has such a thread
//! hang instead, where it takes the GIL itself; a callable that sleeps, spins or waits for a lock
//! takes it in C code of CPython's, under the frame that called it. Unwinding from there into
//! Rust that does not expect it aborts the process. So it is expected here, and the thread
//! hangs, harmless: the process ends under it.

// pyo3 declares its calls as such that never unwind: this is the one that may.
#![allow(unsafe_code)]

use std::hint::black_box;
use std::mem;
use std::ptr;
use std::thread;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

type Object = *mut ffi::PyObject;

/// Dropped only by what unwinds.
struct Hang;

impl Drop for Hang {
    fn drop(&mut self) {
        loop {
            thread::park();
        }
    }
}

/// `function(*arguments)`, on a thread that Python did not make and that nobody joins at the
/// interpreter's end.
pub(super) fn call<'py>(
    function: &Bound<'py, PyAny>,
    arguments: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the same function by a type that allows for unwinding. A second declaration of it
    // would not do: linked together, what is true of pyo3's is taken to be true of both. For the
    // same reason the optimiser must not see which function it is.
    let call_object: unsafe extern "C-unwind" fn(Object, Object, Object) -> Object = unsafe {
        let known: unsafe extern "C" fn(Object, Object, Object) -> Object = ffi::PyObject_Call;
        mem::transmute(black_box(known))
    };
    let hang = Hang;
    // SAFETY: PyObject_Call takes a callable, a tuple and null for no keywords, all alive for
    // the call, by a thread that is attached, which `Bound` proves; it returns a new reference,
    // or null with an exception set. Should it end the thread instead, `hang` keeps the unwinding
    // from every other frame.
    let result = unsafe {
        let result = call_object(function.as_ptr(), arguments.as_ptr(), ptr::null_mut());
        Bound::from_owned_ptr_or_err(function.py(), result)
    };
    mem::forget(hang);
    result
}
