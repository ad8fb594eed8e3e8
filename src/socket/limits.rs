//! The kernel's ceilings, each with the sysctl that holds it.

use std::fs;
use std::path::PathBuf;

/// One limit of the kernel, and the sysctl that changes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// The name of the field, as in `udp_recv_buffer_max_bytes`.
    pub name: &'static str,
    /// The sysctl, as in `net.core.rmem_max`; `None` where the system has no such number.
    pub sysctl: Option<&'static str>,
    /// Its values: one; three for `tcp_rmem` and `tcp_wmem` (smallest, first, largest); two for a
    /// range of ports. Empty where it cannot be read: another system, or a network namespace that
    /// hides it.
    pub values: Vec<u64>,
    /// What it limits.
    pub meaning: &'static str,
}

/// (field, sysctl, meaning); the meanings after socket(7), tcp(7), listen(2) and the
/// kernel's Documentation/admin-guide/sysctl/net.rst.
const KNOWN: [(&str, &str, &str); 10] = [
    (
        "udp_recv_buffer_max_bytes",
        "net.core.rmem_max",
        "largest SO_RCVBUF that setsockopt(2) takes, for UDP and TCP; the kernel doubles it",
    ),
    (
        "udp_send_buffer_max_bytes",
        "net.core.wmem_max",
        "largest SO_SNDBUF that setsockopt(2) takes, for UDP and TCP; the kernel doubles it",
    ),
    (
        "udp_recv_buffer_default_bytes",
        "net.core.rmem_default",
        "receive buffer of a new UDP socket",
    ),
    (
        "udp_send_buffer_default_bytes",
        "net.core.wmem_default",
        "send buffer of a new UDP socket",
    ),
    (
        "tcp_recv_buffer_bytes",
        "net.ipv4.tcp_rmem",
        "smallest, first and largest receive buffer that autotuning gives a TCP connection",
    ),
    (
        "tcp_send_buffer_bytes",
        "net.ipv4.tcp_wmem",
        "smallest, first and largest send buffer that autotuning gives a TCP connection",
    ),
    (
        "accept_queue_max",
        "net.core.somaxconn",
        "largest backlog that listen(2) takes: connections that wait to be accepted",
    ),
    (
        "syn_queue_max",
        "net.ipv4.tcp_max_syn_backlog",
        "half-open connections per listener, where SYN cookies are off",
    ),
    (
        "unprivileged_port_start",
        "net.ipv4.ip_unprivileged_port_start",
        "first port that needs no CAP_NET_BIND_SERVICE",
    ),
    (
        "ephemeral_ports",
        "net.ipv4.ip_local_port_range",
        "first and last port that the kernel picks from for port 0",
    ),
];

/// All known ceilings, as they are now.
pub fn kernel_limits() -> Vec<Limit> {
    KNOWN
        .iter()
        .map(|&(name, sysctl, meaning)| read(name, sysctl, meaning))
        .collect()
}

fn read(name: &'static str, sysctl: &'static str, meaning: &'static str) -> Limit {
    if !cfg!(target_os = "linux") {
        return Limit {
            name,
            sysctl: None,
            values: Vec::new(),
            meaning,
        };
    }
    Limit {
        name,
        sysctl: Some(sysctl),
        values: values(sysctl).unwrap_or_default(),
        meaning,
    }
}

fn values(sysctl: &str) -> Option<Vec<u64>> {
    words(sysctl)?
        .iter()
        .map(|word| word.parse().ok())
        .collect()
}

/// What one sysctl holds, word by word; `None` where it cannot be read.
pub(crate) fn words(sysctl: &str) -> Option<Vec<String>> {
    let path: PathBuf = ["/proc/sys", &sysctl.replace('.', "/")].iter().collect();
    let text = fs::read_to_string(path).ok()?;
    Some(text.split_whitespace().map(str::to_owned).collect())
}

/// The first value of one sysctl; `None` where it cannot be read.
pub(crate) fn single(sysctl: &str) -> Option<u64> {
    values(sysctl)?.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_what_the_file_says_or_absent() {
        for limit in kernel_limits() {
            let Some(sysctl) = limit.sysctl else { continue };
            let file = format!("/proc/sys/{}", sysctl.replace('.', "/"));
            let text = fs::read_to_string(file).unwrap_or_default();
            let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            assert_eq!(
                limit.values.iter().map(u64::to_string).collect::<Vec<_>>(),
                words
            );
        }
    }
}
