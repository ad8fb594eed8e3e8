//! The only place that knows pyo3: thin wrappers, one file per capability.

mod address;
mod blocking;
mod buffer;
mod calls;
mod client;
mod columns;
mod errors;
mod event;
mod fork;
mod given;
mod guard;
mod layout;
mod ping;
mod responder;
mod server;
mod signals;
mod socket;
mod transfer;
mod values;

/// The native half of the `rsecho` package.
#[pyo3::pymodule(gil_used = false, name = "_rsecho")]
mod native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::address::{resolve, split_host_port};
    #[pymodule_export]
    use super::blocking::{after_fork, shut_down};
    #[pymodule_export]
    use super::client::{TcpClient, UdpClient};
    #[pymodule_export]
    use super::columns::{Column, ColumnIterator, Columns};
    #[pymodule_export]
    use super::event::{EventQueue, Throttle};
    #[pymodule_export]
    use super::guard::GuardPolicy;
    #[pymodule_export]
    use super::layout::{RecordIterator, RecordLayout};
    #[pymodule_export]
    use super::ping::{PingClient, PyDistribution};
    #[pymodule_export]
    use super::responder::{Answers, Later, Responder, upper_case};
    #[pymodule_export]
    use super::server::{Server, figures};
    #[pymodule_export]
    use super::signals::SignalWatch;
    #[pymodule_export]
    use super::socket::{SocketOptions, kernel_limits};
    #[pymodule_export]
    use super::transfer::{TransferClient, TransferPolicy, check_terms};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("is_debug_build", cfg!(debug_assertions))?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
