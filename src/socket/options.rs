//! Socket options as plain data: validated, set, read back.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{SockRef, Socket, TcpKeepalive};

use super::report::{OptionReport, Severity, SocketReport, Value, judge_buffer};
use super::{limits, refusal};
use crate::error::{Error, Result};
use crate::sys;

/// TCP keep-alive probes: tcp(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeepAlive {
    /// Silence before the first probe (TCP_KEEPIDLE); `None`: the system's, 2 hours on Linux.
    pub idle: Option<Duration>,
    /// Time between probes (TCP_KEEPINTVL); `None`: the system's.
    pub interval: Option<Duration>,
    /// Unanswered probes before the connection is given up (TCP_KEEPCNT).
    pub count: Option<u32>,
}

/// The options of a socket. `None` keeps the system's default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SocketOptions {
    /// SO_REUSEADDR. For TCP it allows a bind during TIME_WAIT, and is on by default for a server. For
    /// UDP another socket could take the port and the traffic, so it is off by default.
    pub reuse_address: Option<bool>,
    /// SO_REUSEPORT: several sockets of one user share the port; each serves some of the
    /// peers.
    pub reuse_port: Option<bool>,
    /// SO_RCVBUF in bytes.
    pub recv_buffer_bytes: Option<usize>,
    /// SO_SNDBUF in bytes.
    pub send_buffer_bytes: Option<usize>,
    /// Exceed the ceiling of the buffers, if the process may (SO_RCVBUFFORCE, CAP_NET_ADMIN).
    pub force_buffers: bool,
    /// SO_BROADCAST: allow sending to broadcast addresses.
    pub broadcast: Option<bool>,
    /// SO_RCVTIMEO: how long one receive waits.
    pub recv_timeout: Option<Duration>,
    /// SO_SNDTIMEO: how long one send waits for room.
    pub send_timeout: Option<Duration>,
    /// IP_TTL, IPV6_UNICAST_HOPS: 1 to 255.
    pub ttl: Option<u8>,
    /// Differentiated services code point, 0 to 63 (RFC 2474): IP_TOS, IPV6_TCLASS.
    pub dscp: Option<u8>,
    /// IPV6_V6ONLY; off makes a socket on `::` answer IPv4 as well.
    pub ipv6_only: Option<bool>,
    /// TCP_NODELAY; on by default.
    pub no_delay: Option<bool>,
    /// SO_KEEPALIVE with its times.
    pub keep_alive: Option<KeepAlive>,
    /// SO_LINGER: how long close waits for unsent data; zero resets the connection.
    pub linger: Option<Duration>,
    /// TCP_CONGESTION, as in `cubic`.
    pub congestion: Option<String>,
    /// SO_BINDTODEVICE: only this interface.
    pub bind_to_device: Option<String>,
}

/// What kind of socket options are set on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Udp,
    TcpListener,
    TcpClient,
}

impl Target {
    fn is_tcp(self) -> bool {
        self != Target::Udp
    }
}

impl SocketOptions {
    /// Refuses what no kernel would take, by the option's name.
    pub fn validate(&self) -> Result<()> {
        let refuse = |name: &str, value: &dyn std::fmt::Display, rule: &str| {
            Err(Error::argument("set", format!("{name}={value}"), rule))
        };
        for (name, bytes) in [
            ("recv_buffer_bytes", self.recv_buffer_bytes),
            ("send_buffer_bytes", self.send_buffer_bytes),
        ] {
            if let Some(bytes) = bytes
                && i32::try_from(bytes).is_err()
            {
                return refuse(name, &bytes, "the kernel takes at most 2147483647 bytes");
            }
        }
        if self.ttl == Some(0) {
            return refuse("ttl", &0, "a time to live is 1 to 255");
        }
        if let Some(dscp) = self.dscp
            && dscp > 63
        {
            return refuse("dscp", &dscp, "a code point is 0 to 63 (RFC 2474)");
        }
        if let Some(device) = &self.bind_to_device
            && (device.is_empty() || device.len() > 15 || device.contains('\0'))
        {
            return refuse(
                "bind_to_device",
                &format!("{device:?}"),
                "an interface name has 1 to 15 bytes, as `ip link` shows them",
            );
        }
        if let Some(linger) = self.linger
            && linger.as_secs() > i32::MAX as u64
        {
            return refuse(
                "linger",
                &format!("{linger:?}"),
                "the kernel takes at most 68 years",
            );
        }
        if let Some(keep_alive) = self.keep_alive {
            keep_alive.validate()?;
        }
        if !cfg!(target_os = "linux")
            && let Some(name) = &self.congestion
        {
            return refuse("congestion", name, "this system has no TCP_CONGESTION");
        }
        Ok(())
    }

    /// Sets every option that was asked for and has to be set before bind(2), reads all of
    /// them back, and says what came of each.
    pub(crate) fn apply(&self, socket: &Socket, v6: bool, target: Target) -> Result<SocketReport> {
        self.validate()?;
        if self.ipv6_only.is_some() && !v6 {
            let rule = "it is an option of IPv6 sockets, and this address is IPv4";
            return Err(Error::argument("set", "ipv6_only", rule)
                .or("leave it out, or take an IPv6 address such as ::"));
        }
        let options = self.with_defaults(target);
        let mut report = SocketReport::default();
        for row in ROWS {
            if (row.on)(&options, v6, target) {
                report.add(row.apply(socket, &options)?);
            }
        }
        if v6 {
            // What a dual-stack socket sends as IPv4 has options of its own; an IPv6-only
            // socket may refuse them, and then nothing is lost.
            let _ = self.ttl.map(|ttl| socket.set_ttl_v4(ttl.into()));
            let _ = self.dscp.map(|dscp| socket.set_tos_v4(tos(dscp)));
        }
        Ok(report)
    }

    fn with_defaults(&self, target: Target) -> Self {
        let mut options = self.clone();
        if target == Target::TcpListener {
            options.reuse_address.get_or_insert(true);
        }
        options.no_delay.get_or_insert(true);
        options
    }
}

/// One option: which sockets have it, how it is set and read back, what is said of it.
struct Row {
    name: &'static str,
    option: &'static str,
    on: fn(&SocketOptions, v6: bool, Target) -> bool,
    requested: fn(&SocketOptions) -> Option<Value>,
    set: fn(&Socket, &SocketOptions) -> io::Result<()>,
    read: fn(&Socket) -> io::Result<Value>,
    /// Of a buffer: the sysctl that is its ceiling.
    sysctl: Option<&'static str>,
    /// The kernel keeps it in another unit.
    is_rounded: bool,
}

/// One whose field has its name: when it is there, how a value is set, how it is read.
macro_rules! row {
    ($name:ident, $option:literal, $on:expr, |$socket:ident, $value:ident| $set:expr, $read:expr) => {
        Row {
            name: stringify!($name),
            option: $option,
            on: $on,
            requested: |options| options.$name.to_owned().map(Value::from),
            set: |$socket, options| match options.$name.to_owned() {
                Some($value) => $set,
                None => Ok(()),
            },
            read: |$socket| $read.map(Value::from),
            sysctl: None,
            is_rounded: false,
        }
    };
}

/// One of the times and numbers that `keep_alive` sets.
macro_rules! keep_alive_row {
    ($name:literal, $option:literal, $field:ident, $read:ident) => {
        Row {
            name: $name,
            option: $option,
            on: |options, _, target| target.is_tcp() && options.keep_alive.is_some(),
            requested: |options| options.keep_alive?.$field.map(Value::from),
            set: |_, _| Ok(()),
            read: |s| s.$read().map(Value::from),
            sysctl: None,
            is_rounded: true,
        }
    };
}

type On = fn(&SocketOptions, bool, Target) -> bool;
const ANY: On = |_, _, _| true;
const UDP: On = |_, _, target| target == Target::Udp;
const TCP: On = |_, _, target| target.is_tcp();
const V4: On = |_, v6, _| !v6;
const V6: On = |_, v6, _| v6;

/// In the order in which they are set and reported.
#[rustfmt::skip]
static ROWS: &[Row] = &[
    row!(reuse_address, "SO_REUSEADDR", ANY, |s, on| s.set_reuse_address(on), s.reuse_address()),
    row!(reuse_port, "SO_REUSEPORT", ANY, |s, on| s.set_reuse_port(on), s.reuse_port()),
    row!(broadcast, "SO_BROADCAST", UDP, |s, on| s.set_broadcast(on), s.broadcast()),
    row!(recv_timeout, "SO_RCVTIMEO", ANY, |s, t| s.set_read_timeout(Some(t)), s.read_timeout()),
    row!(send_timeout, "SO_SNDTIMEO", ANY, |s, t| s.set_write_timeout(Some(t)), s.write_timeout()),
    row!(bind_to_device, "SO_BINDTODEVICE", |options, _, _| options.bind_to_device.is_some(),
        |s, name| s.bind_device(Some(name.as_bytes())), s.device().map(Option::unwrap_or_default)),
    Row {
        sysctl: Some("net.core.rmem_max"),
        ..row!(recv_buffer_bytes, "SO_RCVBUF", ANY,
            |s, bytes| s.set_recv_buffer_size(bytes), s.recv_buffer_size())
    },
    Row {
        sysctl: Some("net.core.wmem_max"),
        ..row!(send_buffer_bytes, "SO_SNDBUF", ANY,
            |s, bytes| s.set_send_buffer_size(bytes), s.send_buffer_size())
    },
    // Said always: the system's default (net.ipv6.bindv6only) differs.
    row!(ipv6_only, "IPV6_V6ONLY", V6, |s, on| s.set_only_v6(on), s.only_v6()),
    row!(ttl, "IPV6_UNICAST_HOPS", V6, |s, n| s.set_unicast_hops_v6(n.into()), s.unicast_hops_v6()),
    row!(dscp, "IPV6_TCLASS", V6, |s, n| s.set_tclass_v6(tos(n)), s.tclass_v6().map(dscp)),
    row!(ttl, "IP_TTL", V4, |s, n| s.set_ttl_v4(n.into()), s.ttl_v4()),
    row!(dscp, "IP_TOS", V4, |s, n| s.set_tos_v4(tos(n)), s.tos_v4().map(dscp)),
    row!(no_delay, "TCP_NODELAY", TCP, |s, on| s.set_tcp_nodelay(on), s.tcp_nodelay()),
    Row {
        on: TCP,
        requested: |options| options.keep_alive.map(|_| Value::Flag(true)),
        set: |s, o| o.keep_alive.map_or(Ok(()), |keep| s.set_tcp_keepalive(&keep.parameters())),
        ..keep_alive_row!("keep_alive", "SO_KEEPALIVE", idle, keepalive)
    },
    keep_alive_row!("keep_alive_idle", "TCP_KEEPIDLE", idle, tcp_keepalive_time),
    keep_alive_row!("keep_alive_interval", "TCP_KEEPINTVL", interval, tcp_keepalive_interval),
    keep_alive_row!("keep_alive_count", "TCP_KEEPCNT", count, tcp_keepalive_retries),
    row!(linger, "SO_LINGER", TCP, |s, t| s.set_linger(Some(t)), s.linger()),
    #[cfg(target_os = "linux")]
    row!(congestion, "TCP_CONGESTION", TCP,
        |s, name| s.set_tcp_congestion(name.as_bytes()), s.tcp_congestion()),
];

impl KeepAlive {
    /// What Linux takes: MAX_TCP_KEEPIDLE and the like in include/net/tcp.h. The kernel keeps
    /// seconds, so less than one would become none.
    fn validate(self) -> Result<()> {
        let refuse = |what: &str, value: &dyn std::fmt::Display, rule: &str| {
            let reason = format!("{what} is {value}, and the kernel takes {rule} (tcp(7))");
            Err(Error::argument("set", "keep_alive", reason))
        };
        for (what, time, option) in [
            ("its idle time", self.idle, "TCP_KEEPIDLE"),
            ("its interval", self.interval, "TCP_KEEPINTVL"),
        ] {
            if let Some(time) = time
                && !(1..=32_767).contains(&time.as_secs())
            {
                let rule = format!("1 to 32767 s as {option}");
                return refuse(what, &format!("{} s", time.as_secs_f64()), &rule);
            }
        }
        match self.count {
            Some(count) if !(1..=127).contains(&count) => {
                refuse("its number of probes", &count, "1 to 127 as TCP_KEEPCNT")
            }
            _ => Ok(()),
        }
    }

    fn parameters(self) -> TcpKeepalive {
        let mut parameters = TcpKeepalive::new();
        if let Some(idle) = self.idle {
            parameters = parameters.with_time(idle);
        }
        if let Some(interval) = self.interval {
            parameters = parameters.with_interval(interval);
        }
        if let Some(count) = self.count {
            parameters = parameters.with_retries(count);
        }
        parameters
    }
}

/// A DSCP lies in the upper six bits of its byte; the lower two are ECN's (RFC 3168).
fn tos(dscp: u8) -> u32 {
    u32::from(dscp) << 2
}

/// A value as an argument is written.
fn literal(value: &Value) -> String {
    match value {
        Value::Flag(true) => "True".to_owned(),
        Value::Flag(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Time(time) => time.as_secs_f64().to_string(),
        Value::Text(text) => format!("{text:?}"),
    }
}

fn dscp(tos: u32) -> u32 {
    tos >> 2
}

impl Row {
    /// Sets it, if that was asked for, and reads it back.
    fn apply(&self, socket: &Socket, options: &SocketOptions) -> Result<OptionReport> {
        let requested = (self.requested)(options);
        if let Some(value) = &requested
            && !self.is_forced(socket, options, value)
        {
            (self.set)(socket, options).map_err(|error| {
                let subject = format!("{}={} ({})", self.name, literal(value), self.option);
                refusal::option(self.name, &subject, &error)
            })?;
        }
        let effective = (self.read)(socket).ok();
        let ceiling = self.sysctl.and_then(limits::single);
        let warning = match (&requested, &effective) {
            (Some(requested), Some(effective)) => self.judge(requested, effective, ceiling),
            _ => None,
        };
        Ok(OptionReport {
            name: self.name,
            option: self.option,
            requested,
            effective,
            ceiling,
            sysctl: ceiling.and(self.sysctl),
            warning,
        })
    }

    /// Sets a buffer beyond its ceiling, where that is asked for and allowed.
    fn is_forced(&self, socket: &Socket, options: &SocketOptions, value: &Value) -> bool {
        let (Some(_), true, Value::Number(bytes)) = (self.sysctl, options.force_buffers, value)
        else {
            return false;
        };
        let is_receive = self.option == "SO_RCVBUF";
        sys::option::force_buffer(socket.as_raw_fd(), is_receive, *bytes as usize).is_ok()
    }

    fn judge(
        &self,
        requested: &Value,
        effective: &Value,
        ceiling: Option<u64>,
    ) -> Option<(Severity, String)> {
        let option = self.option;
        match (self.sysctl, requested, effective) {
            (Some(sysctl), Value::Number(requested), Value::Number(effective)) => {
                judge_buffer(option, *requested, *effective, ceiling, sysctl)
            }
            _ if requested == effective => None,
            _ if self.is_rounded => Some((
                Severity::Notice,
                format!("{option}: asked for {requested}, the kernel keeps {effective}"),
            )),
            _ => Some((
                Severity::Warning,
                format!("{option}: asked for {requested}, the kernel gave {effective}"),
            )),
        }
    }
}

/// Sets a receive timeout on a socket that is already there (the wait loops' own).
pub(crate) fn set_receive_timeout(fd: &impl std::os::fd::AsFd, time: Duration) -> io::Result<()> {
    SockRef::from(fd).set_read_timeout(Some(time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Type};

    fn tcp() -> Socket {
        Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()
    }

    #[test]
    fn each_option_is_set_and_read_back() {
        let options = SocketOptions {
            reuse_port: Some(true),
            recv_buffer_bytes: Some(65536),
            send_buffer_bytes: Some(65536),
            recv_timeout: Some(Duration::from_secs(3)),
            send_timeout: Some(Duration::from_secs(4)),
            ttl: Some(9),
            dscp: Some(46),
            keep_alive: Some(KeepAlive {
                idle: Some(Duration::from_secs(11)),
                interval: Some(Duration::from_secs(12)),
                count: Some(3),
            }),
            linger: Some(Duration::from_secs(2)),
            ..SocketOptions::default()
        };
        let socket = tcp();
        let report = options.apply(&socket, false, Target::TcpListener).unwrap();
        let number = |n| Some(Value::Number(n));
        let seconds = |n| Some(Value::Time(Duration::from_secs(n)));
        for (name, wanted) in [
            ("reuse_address", Some(Value::Flag(true))),
            ("reuse_port", Some(Value::Flag(true))),
            ("recv_timeout", seconds(3)),
            ("send_timeout", seconds(4)),
            ("ttl", number(9)),
            ("dscp", number(46)),
            ("no_delay", Some(Value::Flag(true))),
            ("keep_alive", Some(Value::Flag(true))),
            ("keep_alive_idle", seconds(11)),
            ("keep_alive_interval", seconds(12)),
            ("keep_alive_count", number(3)),
            ("linger", seconds(2)),
        ] {
            assert_eq!(report.get(name).unwrap().effective, wanted, "{name}");
        }
        // And the kernel agrees, by another way of asking.
        assert_eq!(socket.tos_v4().unwrap(), 46 << 2);
        assert!(socket.recv_buffer_size().unwrap() >= 65536);
    }

    #[test]
    fn a_buffer_above_the_ceiling_is_warned_about() {
        let Some(ceiling) = limits::single("net.core.rmem_max") else {
            return;
        };
        let asked = ceiling as usize + 1;
        if i32::try_from(asked).is_err() {
            return;
        }
        let options = SocketOptions {
            recv_buffer_bytes: Some(asked),
            ..SocketOptions::default()
        };
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        let report = options.apply(&socket, false, Target::Udp).unwrap();
        let line = report.get("recv_buffer_bytes").unwrap();
        assert_eq!(line.ceiling, Some(ceiling));
        let (severity, text) = line.warning.as_ref().unwrap();
        assert_eq!(*severity, Severity::Warning);
        assert!(text.contains("net.core.rmem_max"), "{text}");
    }

    #[test]
    fn f22_udp_does_not_reuse_addresses_unless_asked() {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        let report = SocketOptions::default()
            .apply(&socket, false, Target::Udp)
            .unwrap();
        assert_eq!(
            report.get("reuse_address").unwrap().effective,
            Some(Value::Flag(false))
        );
        assert!(!socket.reuse_address().unwrap());
    }

    #[test]
    fn refuses_what_no_kernel_takes() {
        for (options, name) in [
            (
                SocketOptions {
                    ttl: Some(0),
                    ..SocketOptions::default()
                },
                "ttl",
            ),
            (
                SocketOptions {
                    dscp: Some(64),
                    ..SocketOptions::default()
                },
                "dscp",
            ),
            (
                SocketOptions {
                    recv_buffer_bytes: Some(1 << 32),
                    ..SocketOptions::default()
                },
                "recv_buffer_bytes",
            ),
            (
                SocketOptions {
                    bind_to_device: Some("x".repeat(16)),
                    ..SocketOptions::default()
                },
                "bind_to_device",
            ),
        ] {
            let error = options.validate().unwrap_err();
            assert!(
                error.is_argument() && error.to_string().contains(name),
                "{error}"
            );
        }
    }

    #[test]
    fn an_unknown_congestion_control_is_named() {
        let options = SocketOptions {
            congestion: Some("nonesuch".into()),
            ..SocketOptions::default()
        };
        let error = options.apply(&tcp(), false, Target::TcpClient).unwrap_err();
        assert!(error.to_string().contains("nonesuch"), "{error}");
    }
}
