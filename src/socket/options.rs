//! Socket options as plain data: validated, set, read back.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{SockRef, Socket, TcpKeepalive};

use super::limits;
use super::report::{OptionReport, Severity, SocketReport, Value, judge_buffer};
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

/// What a socket is to be. `None` leaves the system's default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SocketOptions {
    /// SO_REUSEADDR. For TCP it skips TIME_WAIT and is on by default for a server. For UDP
    /// it lets another socket take the port and the traffic, so it is off.
    pub reuse_address: Option<bool>,
    /// SO_REUSEPORT: several sockets of one user share the port, each with a part of the
    /// peers.
    pub reuse_port: Option<bool>,
    /// SO_RCVBUF in bytes.
    pub recv_buffer_bytes: Option<usize>,
    /// SO_SNDBUF in bytes.
    pub send_buffer_bytes: Option<usize>,
    /// Pass the ceiling where the process may (SO_RCVBUFFORCE, CAP_NET_ADMIN).
    pub force_buffers: bool,
    /// SO_BROADCAST: may send to broadcast addresses.
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
    /// SO_LINGER: how long close waits for unsent data; zero resets.
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
                device,
                "an interface name has 1 to 15 characters",
            );
        }
        if let Some(linger) = self.linger
            && linger.as_secs() > i32::MAX as u64
        {
            return refuse(
                "linger",
                &format!("{linger:?}"),
                "the kernel takes 68 years at most",
            );
        }
        Ok(())
    }

    /// Sets every option that was asked for and has to be set before bind(2), reads all of
    /// them back, and says what came of each.
    pub(crate) fn apply(&self, socket: &Socket, v6: bool, target: Target) -> Result<SocketReport> {
        self.validate()?;
        let mut setter = Setter {
            socket,
            report: SocketReport::default(),
        };
        self.apply_generic(&mut setter, target)?;
        self.apply_buffers(&mut setter)?;
        self.apply_ip(&mut setter, v6)?;
        if target.is_tcp() {
            self.apply_tcp(&mut setter)?;
        }
        Ok(setter.report)
    }

    fn apply_generic(&self, set: &mut Setter<'_>, target: Target) -> Result<()> {
        let socket = set.socket;
        let reuse = self
            .reuse_address
            .or((target == Target::TcpListener).then_some(true));
        set.flag(
            "reuse_address",
            "SO_REUSEADDR",
            reuse,
            Socket::set_reuse_address,
            || socket.reuse_address(),
        )?;
        set.flag(
            "reuse_port",
            "SO_REUSEPORT",
            self.reuse_port,
            Socket::set_reuse_port,
            || socket.reuse_port(),
        )?;
        if target == Target::Udp {
            set.flag(
                "broadcast",
                "SO_BROADCAST",
                self.broadcast,
                Socket::set_broadcast,
                || socket.broadcast(),
            )?;
        }
        set.time(
            "recv_timeout",
            "SO_RCVTIMEO",
            self.recv_timeout,
            Socket::set_read_timeout,
            || socket.read_timeout(),
        )?;
        set.time(
            "send_timeout",
            "SO_SNDTIMEO",
            self.send_timeout,
            Socket::set_write_timeout,
            || socket.write_timeout(),
        )?;
        if let Some(device) = &self.bind_to_device {
            let done = socket.bind_device(Some(device.as_bytes()));
            let subject = format!("bind_to_device={device} (SO_BINDTODEVICE)");
            done.map_err(|error| Error::system("set", subject, &error))?;
            let effective = socket.device().ok().flatten();
            set.report.add(OptionReport {
                requested: Some(Value::Text(device.clone())),
                effective: effective.map(|name| Value::Text(text(&name))),
                ..plain("bind_to_device", "SO_BINDTODEVICE")
            });
        }
        Ok(())
    }

    fn apply_buffers(&self, set: &mut Setter<'_>) -> Result<()> {
        let buffers = [
            (
                "recv_buffer_bytes",
                "SO_RCVBUF",
                self.recv_buffer_bytes,
                true,
                "net.core.rmem_max",
            ),
            (
                "send_buffer_bytes",
                "SO_SNDBUF",
                self.send_buffer_bytes,
                false,
                "net.core.wmem_max",
            ),
        ];
        for (name, option, requested, receive, sysctl) in buffers {
            let socket = set.socket;
            if let Some(bytes) = requested {
                let forced = self.force_buffers
                    && sys::option::force_buffer(socket.as_raw_fd(), receive, bytes).is_ok();
                if !forced {
                    let done = if receive {
                        socket.set_recv_buffer_size(bytes)
                    } else {
                        socket.set_send_buffer_size(bytes)
                    };
                    done.map_err(|e| Error::system("set", format!("{name}={bytes}"), &e))?;
                }
            }
            let effective = if receive {
                socket.recv_buffer_size()
            } else {
                socket.send_buffer_size()
            };
            let ceiling = limits::single(sysctl);
            let warning = match (requested, &effective) {
                (Some(requested), Ok(effective)) => {
                    judge_buffer(option, requested as u64, *effective as u64, ceiling, sysctl)
                }
                _ => None,
            };
            set.report.add(OptionReport {
                requested: requested.map(|bytes| Value::Number(bytes as u64)),
                effective: effective.ok().map(|bytes| Value::Number(bytes as u64)),
                ceiling,
                sysctl: ceiling.map(|_| sysctl),
                warning,
                ..plain(name, option)
            });
        }
        Ok(())
    }

    fn apply_ip(&self, set: &mut Setter<'_>, v6: bool) -> Result<()> {
        let socket = set.socket;
        let dscp = self.dscp.map(|dscp| u32::from(dscp) << 2);
        let ttl = self.ttl.map(u32::from);
        if v6 {
            // Said always: the system's default (net.ipv6.bindv6only) differs.
            set.flag(
                "ipv6_only",
                "IPV6_V6ONLY",
                self.ipv6_only,
                Socket::set_only_v6,
                || socket.only_v6(),
            )?;
            set.number(
                "ttl",
                "IPV6_UNICAST_HOPS",
                ttl,
                Socket::set_unicast_hops_v6,
                || socket.unicast_hops_v6(),
            )?;
            set.shifted("dscp", "IPV6_TCLASS", dscp, Socket::set_tclass_v6, || {
                socket.tclass_v6()
            })?;
            // What a dual-stack socket sends as IPv4 has options of its own; an IPv6-only
            // socket may refuse them, and then nothing is lost.
            if let Some(ttl) = ttl {
                let _ = socket.set_ttl_v4(ttl);
            }
            if let Some(tos) = dscp {
                let _ = socket.set_tos_v4(tos);
            }
        } else {
            set.number("ttl", "IP_TTL", ttl, Socket::set_ttl_v4, || socket.ttl_v4())?;
            set.shifted("dscp", "IP_TOS", dscp, Socket::set_tos_v4, || {
                socket.tos_v4()
            })?;
        }
        Ok(())
    }

    fn apply_tcp(&self, set: &mut Setter<'_>) -> Result<()> {
        let socket = set.socket;
        let no_delay = Some(self.no_delay.unwrap_or(true));
        set.flag(
            "no_delay",
            "TCP_NODELAY",
            no_delay,
            Socket::set_tcp_nodelay,
            || socket.tcp_nodelay(),
        )?;
        if let Some(keep) = self.keep_alive {
            let mut parameters = TcpKeepalive::new();
            if let Some(idle) = keep.idle {
                parameters = parameters.with_time(idle);
            }
            if let Some(interval) = keep.interval {
                parameters = parameters.with_interval(interval);
            }
            if let Some(count) = keep.count {
                parameters = parameters.with_retries(count);
            }
            socket
                .set_tcp_keepalive(&parameters)
                .map_err(|error| Error::system("set", "keep_alive", &error))?;
        }
        set.report.add(OptionReport {
            requested: self.keep_alive.map(|_| Value::Flag(true)),
            effective: socket.keepalive().ok().map(Value::Flag),
            ..plain("keep_alive", "SO_KEEPALIVE")
        });
        if let Some(keep) = self.keep_alive {
            set.report.add(OptionReport {
                requested: keep.idle.map(Value::Time),
                effective: socket.tcp_keepalive_time().ok().map(Value::Time),
                ..plain("keep_alive_idle", "TCP_KEEPIDLE")
            });
            set.report.add(OptionReport {
                requested: keep.interval.map(Value::Time),
                effective: socket.tcp_keepalive_interval().ok().map(Value::Time),
                ..plain("keep_alive_interval", "TCP_KEEPINTVL")
            });
            set.report.add(OptionReport {
                requested: keep.count.map(|count| Value::Number(count.into())),
                effective: socket
                    .tcp_keepalive_retries()
                    .ok()
                    .map(|n| Value::Number(n.into())),
                ..plain("keep_alive_count", "TCP_KEEPCNT")
            });
        }
        set.time(
            "linger",
            "SO_LINGER",
            self.linger,
            Socket::set_linger,
            || socket.linger(),
        )?;
        self.apply_congestion(set)
    }

    #[cfg(target_os = "linux")]
    fn apply_congestion(&self, set: &mut Setter<'_>) -> Result<()> {
        let socket = set.socket;
        if let Some(name) = &self.congestion {
            socket
                .set_tcp_congestion(name.as_bytes())
                .map_err(|error| {
                    Error::system("set", format!("congestion={name} (TCP_CONGESTION)"), &error)
                        .or("see `sysctl net.ipv4.tcp_available_congestion_control`")
                })?;
        }
        let effective = socket.tcp_congestion().ok();
        set.report.add(OptionReport {
            requested: self.congestion.clone().map(Value::Text),
            effective: effective.map(|name| Value::Text(text(&name))),
            ..plain("congestion", "TCP_CONGESTION")
        });
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn apply_congestion(&self, _: &mut Setter<'_>) -> Result<()> {
        match &self.congestion {
            None => Ok(()),
            Some(name) => Err(Error::argument(
                "set",
                format!("congestion={name}"),
                "this system has no TCP_CONGESTION",
            )),
        }
    }
}

/// Kernel names end with NUL.
fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name)
        .trim_end_matches('\0')
        .to_owned()
}

fn plain(name: &'static str, option: &'static str) -> OptionReport {
    OptionReport {
        name,
        option,
        requested: None,
        effective: None,
        ceiling: None,
        sysctl: None,
        warning: None,
    }
}

/// Sets one option, reads it back, adds its line to the report.
struct Setter<'a> {
    socket: &'a Socket,
    report: SocketReport,
}

impl Setter<'_> {
    fn one<T: Copy>(
        &mut self,
        name: &'static str,
        option: &'static str,
        requested: Option<T>,
        set: impl FnOnce(&Socket, T) -> io::Result<()>,
        get: impl FnOnce() -> io::Result<Value>,
        value: impl Fn(T) -> Value,
    ) -> Result<()> {
        if let Some(wanted) = requested {
            set(self.socket, wanted).map_err(|error| {
                Error::system(
                    "set",
                    format!("{name}={} ({option})", value(wanted)),
                    &error,
                )
            })?;
        }
        let requested = requested.map(value);
        let effective = get().ok();
        let warning = match (&requested, &effective) {
            (Some(requested), Some(effective)) if requested != effective => Some((
                Severity::Warning,
                format!("{option}: asked for {requested}, the kernel gave {effective}"),
            )),
            _ => None,
        };
        self.report.add(OptionReport {
            requested,
            effective,
            warning,
            ..plain(name, option)
        });
        Ok(())
    }

    fn flag(
        &mut self,
        name: &'static str,
        option: &'static str,
        requested: Option<bool>,
        set: impl FnOnce(&Socket, bool) -> io::Result<()>,
        get: impl FnOnce() -> io::Result<bool>,
    ) -> Result<()> {
        self.one(
            name,
            option,
            requested,
            set,
            || get().map(Value::Flag),
            Value::Flag,
        )
    }

    fn number(
        &mut self,
        name: &'static str,
        option: &'static str,
        requested: Option<u32>,
        set: impl FnOnce(&Socket, u32) -> io::Result<()>,
        get: impl FnOnce() -> io::Result<u32>,
    ) -> Result<()> {
        let value = |number: u32| Value::Number(number.into());
        self.one(name, option, requested, set, || get().map(value), value)
    }

    /// A DSCP lies in the upper six bits of its byte; the lower two are ECN's (RFC 3168).
    fn shifted(
        &mut self,
        name: &'static str,
        option: &'static str,
        requested: Option<u32>,
        set: impl FnOnce(&Socket, u32) -> io::Result<()>,
        get: impl FnOnce() -> io::Result<u32>,
    ) -> Result<()> {
        let value = |number: u32| Value::Number(u64::from(number >> 2));
        self.one(name, option, requested, set, || get().map(value), value)
    }

    fn time(
        &mut self,
        name: &'static str,
        option: &'static str,
        requested: Option<Duration>,
        set: impl FnOnce(&Socket, Option<Duration>) -> io::Result<()>,
        get: impl FnOnce() -> io::Result<Option<Duration>>,
    ) -> Result<()> {
        self.one(
            name,
            option,
            requested,
            |socket, time| set(socket, Some(time)),
            || get().map(|time| Value::Time(time.unwrap_or_default())),
            Value::Time,
        )
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
