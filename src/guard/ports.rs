//! Source ports of services that answer whatever they get.
//!
//! A datagram with the forged source of a DNS, NTP or TFTP server is answered by that server,
//! and its answer by us, for ever (CVE-2024-2169, VU#417980). Such services have ports below 1024,
//! and NFS and memcached have 2049 and 11211. Clients lose nothing: the system picks their ports
//! (RFC 6335: 49152 and up, Linux 32768 and up).

use std::net::IpAddr;

use crate::address::is_loopback;

/// NFS and memcached.
const OTHERS: [u16; 2] = [2049, 11211];

/// True for a port that is a service's, unless it is on loopback.
#[inline]
pub(super) fn may_be_service(port: u16) -> bool {
    port < 1024 || OTHERS.contains(&port)
}

/// True where a datagram of this source is not answered. On loopback every port is answered, as
/// nobody outside can forge a source there.
pub(super) fn is_service(ip: IpAddr, port: u16) -> bool {
    may_be_service(port) && !is_loopback(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_services_off_loopback_and_no_others() {
        for (ip, port, wanted) in [
            ("192.0.2.1", 7, true),
            ("192.0.2.1", 1023, true),
            ("192.0.2.1", 1024, false),
            ("192.0.2.1", 2048, false),
            ("192.0.2.1", 2049, true),
            ("192.0.2.1", 11211, true),
            ("192.0.2.1", 32768, false),
            ("2001:db8::1", 53, true),
            ("2001:db8::1", 49152, false),
            ("127.0.0.1", 53, false),
            ("127.9.9.9", 2049, false),
            ("::1", 7, false),
            ("::ffff:127.0.0.1", 7, false),
        ] {
            assert_eq!(
                is_service(ip.parse().unwrap(), port),
                wanted,
                "{ip} port {port}"
            );
        }
    }
}
