//! Addresses as Python's `(host, port)`.

use std::net::SocketAddr;

use crate::address;
use crate::sys;

/// Two items for both families, so that they can be passed on; a link-local host keeps its
/// interface, as in `fe80::1%eth0`, without which it means nothing.
pub(super) fn pair(address: SocketAddr) -> (String, u16) {
    let host = match address::plain(address) {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => {
            let interface = sys::interface_name(v6.scope_id());
            let interface = interface.unwrap_or_else(|| v6.scope_id().to_string());
            format!("{}%{interface}", v6.ip())
        }
        plain => plain.ip().to_string(),
    };
    (host, address.port())
}
