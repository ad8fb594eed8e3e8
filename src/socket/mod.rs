//! From options to a bound socket, and a report of what the kernel really gave.

pub mod limits;
pub mod options;
pub mod report;

mod host;
mod kernel;
mod open;
mod refusal;

pub use crate::sys::option::ReceiveQueue;
pub use host::host;
pub(crate) use kernel::{forbid_fragments, kernel_drops, path_mtu, receive_queue};
pub use open::{Adopted, adopt};
pub(crate) use open::{
    Bound, adopt_tcp, adopt_udp, begin_connect_tcp, bind_tcp, bind_udp, connect_udp,
};
pub(crate) use options::set_receive_timeout;
pub use options::{KeepAlive, SocketOptions};
pub use report::{OptionReport, Severity, SocketReport, Value};
