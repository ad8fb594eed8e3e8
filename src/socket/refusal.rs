//! Ways out of what the kernel refuses, where they depend on this machine: on its interfaces,
//! ports, addresses and algorithms. Looked up only when something was refused.

use std::io;
use std::net::SocketAddr;

use super::limits;
use crate::error::Error;
use crate::sys;

/// What bind(2) depends on: whether the socket is for IPv6 only, and whether it shares its port.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) is_ipv6_only: bool,
    pub(super) shares_port: bool,
}

/// No socket can be bound to the address. `subject` is its URL.
pub(super) fn bind(address: SocketAddr, asked: &Asked, subject: &str, error: &io::Error) -> Error {
    let refused = Error::system("bind", subject, error);
    let v6 = if address.is_ipv6() { "-6 " } else { "" };
    match refused.errno() {
        Some(libc::EADDRINUSE) => refused.or(in_use(address, asked, subject)),
        Some(libc::EACCES) => refused.or(not_allowed(address)),
        Some(libc::EADDRNOTAVAIL) if address.is_ipv6() && !has_v6() => {
            refused.or("IPv6 is off here (net.ipv6.conf.all.disable_ipv6): take an IPv4 address")
        }
        Some(libc::EADDRNOTAVAIL) => {
            let any = if address.is_ipv6() { "::" } else { "0.0.0.0" };
            refused.or(format!(
                "this machine does not have that address: `ip {v6}address` shows those that it \
                 has, and {any} stands for all of them"
            ))
        }
        _ => refused,
    }
}

fn in_use(address: SocketAddr, asked: &Asked, subject: &str) -> String {
    let which = if subject.starts_with("tcp") { "t" } else { "u" };
    let port = address.port();
    let who = format!("`ss -l{which}np 'sport = :{port}'` shows which socket has it");
    let other = "or take another port (0 picks a free one)";
    // A socket on :: has the IPv4 port as well, unless it is told not to: ipv6(7).
    let is_any = address.ip().is_unspecified();
    if is_any && address.is_ipv6() && !asked.is_ipv6_only {
        return format!(
            "{who}; where that is an IPv4 socket, ipv6_only=True leaves IPv4 to it; {other}"
        );
    }
    if is_any && address.is_ipv4() {
        return format!(
            "{who}; where that is a socket on [::], it takes IPv4 as well unless it has \
             ipv6_only=True; {other}"
        );
    }
    if asked.shares_port {
        return format!(
            "{who}; every socket on a shared port needs reuse_port=True, and the same user; \
             {other}"
        );
    }
    format!("{who}; {other}")
}

fn not_allowed(address: SocketAddr) -> String {
    const SYSCTL: &str = "net.ipv4.ip_unprivileged_port_start";
    let first = limits::single(SYSCTL).unwrap_or(1024);
    if u64::from(address.port()) < first {
        return format!(
            "ports below {first} ({SYSCTL}) need CAP_NET_BIND_SERVICE: take a higher port, or \
             grant it with `setcap cap_net_bind_service+ep PROGRAM`"
        );
    }
    "a security module (SELinux, AppArmor) forbids it: see `journalctl -k`".to_owned()
}

fn has_v6() -> bool {
    let found = sys::local_addresses();
    found.is_ok_and(|all| all.iter().any(|address| address.is_ipv6()))
}

/// No connection to the peer can begin. `subject` is its URL.
pub(super) fn connect(peer: SocketAddr, subject: &str, error: &io::Error) -> Error {
    let refused = Error::system("connect to", subject, error);
    match refused.errno() {
        // connect(2): the only one of UDP's.
        Some(libc::EACCES) if subject.starts_with("udp") => {
            refused.because("it is a broadcast address").or(
                "ask one host by its own address, from which its reply comes (SO_BROADCAST would \
                 only let you send)",
            )
        }
        Some(libc::EADDRNOTAVAIL) if peer.is_ipv6() && !has_v6() => {
            refused.or("IPv6 is off here (net.ipv6.conf.all.disable_ipv6): take an IPv4 address")
        }
        Some(libc::EADDRNOTAVAIL) => refused.or(
            "this machine has no address to send from, or no free port left \
             (net.ipv4.ip_local_port_range)",
        ),
        _ => refused,
    }
}

/// An option cannot be set. `subject` names it with its value.
pub(super) fn option(name: &str, subject: &str, error: &io::Error) -> Error {
    let refused = Error::system("set", subject, error);
    match (name, refused.errno()) {
        ("bind_to_device", Some(libc::ENODEV)) => refused
            .because("there is no such interface")
            .or(interfaces()),
        ("bind_to_device", Some(libc::EPERM)) => refused.or(
            "it needs CAP_NET_RAW: the kernel is older than 5.7, or the socket is bound to an \
             interface already",
        ),
        // The kernel has no algorithm without a name either.
        ("congestion", Some(libc::ENOENT | libc::EINVAL)) => {
            let there = algorithms("net.ipv4.tcp_available_congestion_control");
            refused
                .because("the kernel has no such algorithm")
                .or(format!("it has {there}; `modprobe tcp_NAME` loads others"))
        }
        ("congestion", Some(libc::EPERM)) => {
            let there = algorithms("net.ipv4.tcp_allowed_congestion_control");
            refused.or(format!(
                "without CAP_NET_ADMIN there are {there} \
                 (net.ipv4.tcp_allowed_congestion_control)"
            ))
        }
        _ => refused,
    }
}

fn algorithms(sysctl: &str) -> String {
    match limits::words(sysctl) {
        Some(words) if !words.is_empty() => words.join(", "),
        _ => format!("those of `sysctl {sysctl}`"),
    }
}

/// How many interfaces are named: a host of containers has hundreds.
const MOST_NAMED: usize = 8;

/// The name of an interface for an example: one beside the loopback, where there is one.
pub(super) fn an_interface() -> String {
    sys::interface_names()
        .into_iter()
        .find(|name| !name.starts_with("lo"))
        .unwrap_or_else(|| "eth0".to_owned())
}

/// The interfaces of this machine, for who named none of them.
pub(super) fn interfaces() -> String {
    let mut names = sys::interface_names();
    let more = names.len().saturating_sub(MOST_NAMED);
    names.truncate(MOST_NAMED);
    match (names.is_empty(), more) {
        (true, _) => "this machine has no interfaces: see `ip link`".to_owned(),
        (_, 0) => format!("this machine has {}", names.join(", ")),
        _ => format!(
            "this machine has {} and {more} more: see `ip link`",
            names.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_by(errno: i32) -> io::Error {
        io::Error::from_raw_os_error(errno)
    }

    fn bound(address: &str, asked: &Asked, errno: i32) -> String {
        let subject = format!("udp://{address}");
        bind(
            address.parse().unwrap(),
            asked,
            &subject,
            &refused_by(errno),
        )
        .to_string()
    }

    #[test]
    fn a_taken_port_says_who_may_have_it() {
        let plain = Asked::default();
        let text = bound("127.0.0.1:7", &plain, libc::EADDRINUSE);
        assert!(text.contains("`ss -lunp 'sport = :7'`"), "{text}");
        assert!(text.contains("0 picks a free one"), "{text}");
        assert!(!text.contains("ipv6_only"), "{text}");
        for any in ["[::]:7", "0.0.0.0:7"] {
            let text = bound(any, &plain, libc::EADDRINUSE);
            assert!(text.contains("ipv6_only=True"), "{text}");
        }
        let shared = Asked {
            shares_port: true,
            ..Asked::default()
        };
        let text = bound("127.0.0.1:7", &shared, libc::EADDRINUSE);
        assert!(text.contains("reuse_port=True"), "{text}");
    }

    #[test]
    fn a_low_port_and_a_foreign_address_have_their_way_out() {
        let plain = Asked::default();
        let text = bound("127.0.0.1:0", &plain, libc::EACCES);
        let start = limits::single("net.ipv4.ip_unprivileged_port_start");
        if start.is_none_or(|first| first > 0) {
            assert!(text.contains("CAP_NET_BIND_SERVICE"), "{text}");
        }
        let text = bound("127.0.0.1:65535", &plain, libc::EACCES);
        assert!(text.contains("security module"), "{text}");
        let text = bound("192.0.2.1:7", &plain, libc::EADDRNOTAVAIL);
        assert!(text.contains("`ip address`"), "{text}");
        assert!(text.contains("0.0.0.0"), "{text}");
    }

    #[test]
    fn what_is_there_is_listed() {
        let text = option("bind_to_device", "x", &refused_by(libc::ENODEV)).to_string();
        assert!(
            text.contains("no such interface; this machine has lo"),
            "{text}"
        );
        let text = option("congestion", "x", &refused_by(libc::ENOENT)).to_string();
        assert!(text.contains("it has "), "{text}");
        let text = option("congestion", "x", &refused_by(libc::EPERM)).to_string();
        assert!(text.contains("CAP_NET_ADMIN there are "), "{text}");
    }

    #[test]
    fn a_broadcast_address_is_told_from_a_missing_right() {
        let peer = "255.255.255.255:7".parse().unwrap();
        let text = connect(peer, "udp://255.255.255.255:7", &refused_by(libc::EACCES)).to_string();
        assert!(
            text.contains("it is a broadcast address; ask one host"),
            "{text}"
        );
    }
}
