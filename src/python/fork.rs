//! A child that a callable forks has a copy of its parent's worker: this thread, and nothing
//! else that serves. It ends where it would go on as that worker, on its parent's connections.

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;

use crate::sys;

/// How often this process and those that it is a child of were forked, each time as the child.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// A number that no process shares with those that it is a child of. A load, where the
/// process id would be a system call for each request.
pub(super) fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// To be called in the child of a fork, before anything else of this package is.
pub(super) fn begin_generation() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// Ends this process, which a callable forked: by what it raised, or because it returned.
pub(super) fn end_child(py: Python<'_>, raised: Option<PyErr>) -> ! {
    let ended = py
        .import("rsecho._child")
        .and_then(|module| module.call_method1("end_child", (raised,)));
    // That does not return; without it there is nobody to tell.
    drop(ended);
    sys::exit_now(FAILED)
}

/// Of a child that could not be ended properly.
const FAILED: i32 = 1;
