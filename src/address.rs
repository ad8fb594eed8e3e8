//! "host:port" and "[::1]:port" in, socket addresses out.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use crate::error::{Error, Result};

/// Which address family a name may resolve to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    /// Either, IPv4 first where a name has both.
    #[default]
    Any,
    /// IPv4 only (`-4`).
    V4,
    /// IPv6 only (`-6`).
    V6,
}

impl Family {
    fn admits(self, address: &SocketAddr) -> bool {
        match self {
            Family::Any => true,
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Any => "IPv4 or IPv6",
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// Splits `HOST:PORT`, `[IPv6]:PORT`, `:PORT` or `PORT`; `default_host` stands for none.
///
/// The port is checked here because getaddrinfo wraps what it is given (65536 became 0).
pub fn split_host_port(text: &str, default_host: &str) -> Result<(String, u16)> {
    let malformed = |reason: &str| {
        // Without a host by default, a port alone is not enough.
        let forms = if default_host.is_empty() {
            "write HOST:PORT or [IPv6]:PORT"
        } else {
            "write HOST:PORT, [IPv6]:PORT or PORT"
        };
        Error::argument("use address", format!("{text:?}"), reason).or(forms)
    };
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest
            .split_once(']')
            .ok_or_else(|| malformed("the bracket is not closed"))?;
        let port = after
            .strip_prefix(':')
            .ok_or_else(|| malformed("a port must follow the bracket"))?;
        (host, port)
    } else if text.matches(':').count() > 1 {
        return Err(malformed(
            "it has several colons, and an IPv6 address needs brackets",
        ));
    } else {
        match text.split_once(':') {
            Some(pair) => pair,
            None if text.bytes().any(|byte| !byte.is_ascii_digit()) => {
                return Err(malformed("it has no port"));
            }
            None => ("", text),
        }
    };
    let host = if host.is_empty() { default_host } else { host };
    Ok((host.to_owned(), parse_port(port)?))
}

/// Reads a port: 0 to 65535, decimal digits only.
pub fn parse_port(text: &str) -> Result<u16> {
    let fault = || {
        Error::argument(
            "use port",
            format!("{text:?}"),
            "a port is a number from 0 to 65535",
        )
    };
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(fault());
    }
    text.parse().map_err(|_| fault())
}

/// All addresses of a host, as the system orders them. An empty host means all interfaces
/// (IPv4, as in Python's socket module, unless `family` says IPv6).
pub fn resolve(host: &str, port: u16, family: Family) -> Result<Vec<SocketAddr>> {
    let host = match (host, family) {
        ("", Family::V6) => "::",
        ("", _) => "0.0.0.0",
        (host, _) => host,
    };
    // getaddrinfo says no more than "unknown" of a label that DNS cannot carry.
    if let Some(label) = host.split('.').find(|label| label.len() > 63) {
        return Err(Error::resolve(
            format!("{host:?}"),
            format!(
                "a label of {} characters; DNS (RFC 1035) allows 63",
                label.len()
            ),
        ));
    }
    if host.contains('\0') {
        return Err(Error::resolve(
            format!("{host:?}"),
            "a host name cannot contain NUL",
        ));
    }
    let found: Vec<SocketAddr> = (host, port)
        .to_socket_addrs()
        .map_err(|error| {
            let text = error.to_string();
            let reason = text
                .strip_prefix("failed to lookup address information: ")
                .unwrap_or(&text);
            unresolved(host, &reason.to_lowercase())
        })?
        .collect();
    let mut admitted: Vec<SocketAddr> = Vec::new();
    for address in found
        .iter()
        .copied()
        .filter(|address| family.admits(address))
    {
        if !admitted.contains(&address) {
            admitted.push(address);
        }
    }
    match (admitted.is_empty(), found.first()) {
        (false, _) => Ok(admitted),
        (true, Some(other)) => Err(Error::resolve(
            format!("{host:?}"),
            format!("it has no {family} address, only {}", other.ip()),
        )
        .or(format!(
            "allow {}, or give another name",
            other_family(family)
        ))),
        (true, None) => Err(Error::resolve(format!("{host:?}"), "it has no address")),
    }
}

/// In Python's words as well as the command's, which has `-4` and `-6` for it.
fn other_family(family: Family) -> &'static str {
    match family {
        Family::V6 => "IPv4",
        Family::V4 | Family::Any => "IPv6",
    }
}

/// Why a name has no address, in plainer words than getaddrinfo(3)'s.
fn unresolved(host: &str, reason: &str) -> Error {
    let subject = format!("{host:?}");
    // It takes a zone that is no interface for a name that is unknown.
    if let Some((address, zone)) = host.split_once('%')
        && address.parse::<std::net::Ipv6Addr>().is_ok()
    {
        let reason = format!("this machine has no interface {zone:?}");
        return Error::resolve(subject, reason).or("`ip link` shows those that it has");
    }
    if host.starts_with('[') || host.contains(':') {
        let reason = "it is not a host alone";
        return Error::resolve(subject, reason)
            .or("give the address without brackets, and the port by itself");
    }
    if reason.contains("temporary failure") {
        return Error::resolve(subject, "no name server answered")
            .or("check the network and /etc/resolv.conf, or give a numeric address");
    }
    Error::resolve(subject, reason).or("check the spelling, or give a numeric address")
}

/// The one address that a single socket uses: the first IPv4 address where there is one,
/// since that is what a plain client of `localhost` asks, else the first.
pub fn resolve_one(host: &str, port: u16, family: Family) -> Result<SocketAddr> {
    let found = resolve(host, port, family)?;
    Ok(found
        .iter()
        .copied()
        .find(SocketAddr::is_ipv4)
        .unwrap_or(found[0]))
}

/// The plain address of a peer: an IPv4-mapped IPv6 address (`::ffff:1.2.3.4`, what a
/// dual-stack socket reports) becomes the IPv4 address it stands for.
pub fn plain(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), v6.port()),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

/// True for an address from which only this machine can send.
pub fn is_loopback(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.to_ipv4_mapped().is_some_and(is_loopback_v4),
    }
}

fn is_loopback_v4(ip: Ipv4Addr) -> bool {
    ip.is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_the_forms_that_people_write() {
        for (text, wanted) in [
            ("9999", ("localhost", 9999)),
            (":7", ("localhost", 7)),
            ("0.0.0.0:7", ("0.0.0.0", 7)),
            ("[::1]:7", ("::1", 7)),
            ("[fe80::1%eth0]:7", ("fe80::1%eth0", 7)),
            ("example.org:65535", ("example.org", 65535)),
        ] {
            let (host, port) = split_host_port(text, "localhost").unwrap();
            assert_eq!((host.as_str(), port), wanted, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_address() {
        for text in [
            "",
            ":",
            "host:",
            "host:65536",
            "host:99999",
            "host:-1",
            "host:+1",
            "::1:7",
            "[::1]7",
            "[::1",
            "host:7x",
            "host: 7",
        ] {
            assert!(
                split_host_port(text, "localhost")
                    .unwrap_err()
                    .is_argument(),
                "{text}"
            );
        }
    }

    #[test]
    fn keeps_numeric_addresses_and_families_apart() {
        assert_eq!(
            resolve_one("127.0.0.1", 7, Family::Any).unwrap(),
            "127.0.0.1:7".parse().unwrap()
        );
        assert_eq!(
            resolve_one("", 7, Family::Any).unwrap(),
            "0.0.0.0:7".parse().unwrap()
        );
        assert_eq!(
            resolve_one("", 7, Family::V6).unwrap(),
            "[::]:7".parse().unwrap()
        );
        let error = resolve_one("::1", 7, Family::V4).unwrap_err();
        assert!(
            error.is_resolve() && error.to_string().contains("no IPv4"),
            "{error}"
        );
    }

    #[test]
    fn names_the_label_that_is_too_long() {
        let error = resolve(&"a".repeat(64), 7, Family::Any).unwrap_err();
        assert!(
            error.is_resolve() && error.to_string().contains("64 characters"),
            "{error}"
        );
    }

    #[test]
    fn mapped_addresses_become_plain() {
        assert_eq!(
            plain("[::ffff:127.0.0.1]:7".parse().unwrap()),
            "127.0.0.1:7".parse().unwrap()
        );
        assert_eq!(
            plain("[::1]:7".parse().unwrap()),
            "[::1]:7".parse().unwrap()
        );
        assert!(is_loopback("::ffff:127.0.0.1".parse().unwrap()));
    }
}
