//! The two ends of a client's socket.

use std::net::SocketAddr;

use crate::socket::SocketReport;

/// Who talks to whom, and what the socket in between got.
#[derive(Debug, Clone)]
pub struct Ends {
    /// The peer as in `udp://127.0.0.1:9999`; of a socket that has none, its own address.
    pub name: String,
    /// The client's own address.
    pub address: SocketAddr,
    /// The peer's; of a socket that has none, the unspecified address.
    pub peer: SocketAddr,
    /// What each socket option was to be and is.
    pub report: SocketReport,
}
