//! The only place that knows pyo3: thin wrappers, one file a capability.

/// The native half of the `rsecho` package.
#[pyo3::pymodule(gil_used = false, name = "_rsecho")]
mod native {
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
