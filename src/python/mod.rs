//! The only place that knows pyo3: thin wrappers, one file a capability.

mod buffer;
mod columns;
mod errors;
mod layout;

/// The native half of the `rsecho` package.
#[pyo3::pymodule(gil_used = false, name = "_rsecho")]
mod native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::columns::{Column, ColumnIterator, Columns};
    #[pymodule_export]
    use super::layout::{RecordIterator, RecordLayout};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
