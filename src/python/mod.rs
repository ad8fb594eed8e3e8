//! The only place that knows pyo3: thin wrappers, one file a capability.


/// The native half of the `rsecho` package.
#[pymodule(gil_used = false, name = "_rsecho")]
mod native {
    use pyo3::prelude::*;

    #[pymodule_export]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
