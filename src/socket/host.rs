//! Hosts as people write them.

use std::net::SocketAddr;

use crate::{address, sys};

/// The host of an address: a link-local one with its interface, as in `fe80::1%eth0`,
/// without which it means nothing (RFC 4007); an IPv4-mapped one as plain IPv4.
pub fn host(address: SocketAddr) -> String {
    match address::plain(address) {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => {
            let interface = sys::interface_name(v6.scope_id());
            let interface = interface.unwrap_or_else(|| v6.scope_id().to_string());
            format!("{}%{interface}", v6.ip())
        }
        plain => plain.ip().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddrV6;

    #[test]
    fn names_the_interface_of_a_scoped_address_only() {
        let scoped = |scope| SocketAddrV6::new("fe80::1".parse().unwrap(), 7, 0, scope).into();
        if cfg!(target_os = "linux") {
            assert_eq!(host(scoped(1)), "fe80::1%lo");
        }
        // There is no such interface (any more): its number is better than nothing.
        assert_eq!(host(scoped(u32::MAX)), "fe80::1%4294967295");
        for (address, wanted) in [
            ("127.0.0.1:7", "127.0.0.1"),
            ("[::1]:7", "::1"),
            ("[::ffff:10.0.0.1]:7", "10.0.0.1"),
        ] {
            assert_eq!(host(address.parse().unwrap()), wanted);
        }
    }
}
