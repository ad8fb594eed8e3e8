//! Sockets made, bound, adopted or connected, with their reports.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use socket2::{Domain, SockAddr, Socket, Type};

use super::limits;
use super::options::{SocketOptions, Target};
use super::refusal;
use super::report::{OptionReport, Severity, SocketReport, Value};
use crate::error::{Error, Result};
use crate::sys;

/// A socket that is bound (and, for TCP, listens).
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) socket: Socket,
    pub(crate) address: SocketAddr,
    pub(crate) report: SocketReport,
    /// The open file is shared with whoever passed it in: its state must survive us.
    pub(crate) is_shared: bool,
}

/// A descriptor that somebody else opened, duplicated so that both may close theirs.
#[derive(Debug)]
pub struct Adopted {
    socket: Socket,
    address: SocketAddr,
    is_stream: bool,
}

impl Adopted {
    /// True for TCP, false for UDP.
    pub fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// The address that it is bound to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Takes a copy of descriptor `fd`: an IPv4 or IPv6 UDP socket, or a TCP socket, bound.
/// The caller keeps its own, and may close it.
///
/// # Errors
///
/// When `fd` is not open, or is no such socket.
pub fn adopt(fd: RawFd) -> Result<Adopted> {
    let subject = format!("descriptor {fd}");
    let fail = |error: &std::io::Error| Error::system("adopt", &subject, error);
    let wrong =
        |reason: &str, way_out: &str| Err(Error::argument("adopt", &subject, reason).or(way_out));
    if fd < 0 {
        return wrong(
            "a descriptor is not negative",
            "the socket was closed: pass one that is open",
        );
    }
    let borrowed = sys::borrow(fd).map_err(|error| fail(&error).or("pass one that is open"))?;
    let socket: Socket = duplicate(borrowed).map_err(|error| fail(&error))?;
    let ty = socket.r#type().map_err(|error| {
        let is_other = error.raw_os_error() == Some(libc::ENOTSOCK);
        match is_other {
            true => fail(&error)
                .because("it is not a socket but a file, pipe or terminal")
                .or("pass a UDP or TCP socket that is bound"),
            false => fail(&error),
        }
    })?;
    let address = local_address(&socket).map_err(|error| fail(&error))?;
    let Some(address) = address else {
        return wrong(
            "it is neither an IPv4 nor an IPv6 socket (a UNIX socket, perhaps)",
            "pass a UDP or TCP socket that is bound",
        );
    };
    let is_stream = match ty {
        Type::STREAM => true,
        Type::DGRAM => false,
        _ => {
            return wrong(
                "it is neither a UDP nor a TCP socket",
                "pass one of SOCK_DGRAM or SOCK_STREAM",
            );
        }
    };
    if address.port() == 0 {
        return wrong("it is not bound to a port", "bind it first");
    }
    Ok(Adopted {
        socket,
        address,
        is_stream,
    })
}

fn duplicate(fd: BorrowedFd<'_>) -> std::io::Result<Socket> {
    // F_DUPFD_CLOEXEC, by std.
    fd.try_clone_to_owned().map(Socket::from)
}

fn local_address(socket: &Socket) -> std::io::Result<Option<SocketAddr>> {
    Ok(socket.local_addr()?.as_socket())
}

fn open(address: SocketAddr, ty: Type, subject: &str) -> Result<Socket> {
    // socket2 sets close-on-exec as it creates.
    Socket::new(Domain::for_address(address), ty, None)
        .map_err(|error| Error::system("open a socket for", subject, &error))
}

/// A UDP socket, bound, with its report.
pub(crate) fn bind_udp(address: SocketAddr, options: &SocketOptions) -> Result<Bound> {
    let subject = format!("udp://{address}");
    check_scope("bind", address, &subject)?;
    check_broadcast(address, options)?;
    let socket = open(address, Type::DGRAM, &subject)?;
    let report = options.apply(&socket, address.is_ipv6(), Target::Udp)?;
    bind(&socket, address, options, &subject)?;
    finish_udp(socket, report, false, &subject)
}

/// The same for a socket that was passed in: bound already, so what bind(2) depends on
/// stays as it is.
pub(crate) fn adopt_udp(adopted: Adopted, options: &SocketOptions) -> Result<Bound> {
    let subject = format!("udp://{}", adopted.address);
    if adopted.is_stream {
        return Err(
            Error::argument("serve UDP on", subject, "it is a TCP socket")
                .or("pass a socket of SOCK_DGRAM, or serve TCP on it"),
        );
    }
    check_broadcast(adopted.address, options)?;
    let report = options.apply(&adopted.socket, adopted.address.is_ipv6(), Target::Udp)?;
    // A client that vanishes is no error of the server's, and must not take its buffer.
    sys::option::forget_errors(adopted.socket.as_raw_fd(), adopted.address.is_ipv6())
        .map_err(|error| Error::system("turn IP_RECVERR off on", &subject, &error))?;
    finish_udp(adopted.socket, report, true, &subject)
}

fn finish_udp(
    socket: Socket,
    report: SocketReport,
    is_shared: bool,
    subject: &str,
) -> Result<Bound> {
    let address = local_address(&socket)
        .ok()
        .flatten()
        .ok_or_else(|| Error::argument("use", subject, "its address cannot be read"))?;
    sys::option::allow_fragments(socket.as_raw_fd(), address.is_ipv6())
        .map_err(|error| Error::system("allow fragments on", subject, &error))?;
    Ok(Bound {
        socket,
        address,
        report,
        is_shared,
    })
}

/// A TCP listener with its report, listening from now on.
pub(crate) fn bind_tcp(
    address: SocketAddr,
    options: &SocketOptions,
    backlog: Option<u32>,
) -> Result<Bound> {
    let subject = format!("tcp://{address}");
    check_scope("bind", address, &subject)?;
    let socket = open(address, Type::STREAM, &subject)?;
    let mut report = options.apply(&socket, address.is_ipv6(), Target::TcpListener)?;
    bind(&socket, address, options, &subject)?;
    report.add(listen(&socket, backlog, &subject)?);
    finish_tcp(socket, report, false, &subject)
}

/// The same for a socket that was passed in; it is told to listen where it does not yet,
/// or where another backlog is asked for.
pub(crate) fn adopt_tcp(
    adopted: Adopted,
    options: &SocketOptions,
    backlog: Option<u32>,
) -> Result<Bound> {
    let subject = format!("tcp://{}", adopted.address);
    if !adopted.is_stream {
        return Err(
            Error::argument("serve TCP on", subject, "it is a UDP socket")
                .or("pass a socket of SOCK_STREAM, or serve UDP on it"),
        );
    }
    if adopted.socket.peer_addr().is_ok() {
        return Err(Error::argument(
            "serve TCP on",
            subject,
            "it is a connection, not a listener",
        )
        .or("pass a socket that listens, or one that is only bound"));
    }
    let v6 = adopted.address.is_ipv6();
    let mut report = options.apply(&adopted.socket, v6, Target::TcpListener)?;
    let listening = sys::option::is_listening(adopted.socket.as_raw_fd()).unwrap_or(false);
    if !listening || backlog.is_some() {
        report.add(listen(&adopted.socket, backlog, &subject)?);
    } else {
        report.add(backlog_report(&adopted.socket, None));
    }
    finish_tcp(adopted.socket, report, true, &subject)
}

fn finish_tcp(
    socket: Socket,
    report: SocketReport,
    is_shared: bool,
    subject: &str,
) -> Result<Bound> {
    socket
        .set_nonblocking(true)
        .map_err(|error| Error::system("make non-blocking", subject, &error))?;
    let address = local_address(&socket)
        .ok()
        .flatten()
        .ok_or_else(|| Error::argument("use", subject, "its address cannot be read"))?;
    Ok(Bound {
        socket,
        address,
        report,
        is_shared,
    })
}

fn bind(
    socket: &Socket,
    address: SocketAddr,
    options: &SocketOptions,
    subject: &str,
) -> Result<()> {
    socket.bind(&SockAddr::from(address)).map_err(|error| {
        let asked = refusal::Asked {
            is_ipv6_only: options.ipv6_only == Some(true),
            shares_port: options.reuse_port == Some(true),
        };
        refusal::bind(address, &asked, subject, &error)
    })
}

/// IPv6 has multicast instead. A socket on `::` may send to IPv4 broadcast addresses as well, and so
/// may one that has an IPv4 address in IPv6's form.
fn check_broadcast(address: SocketAddr, options: &SocketOptions) -> Result<()> {
    match address {
        SocketAddr::V6(v6)
            if options.broadcast == Some(true)
                && v6.ip().to_ipv4_mapped().is_none()
                && (!v6.ip().is_unspecified() || options.ipv6_only == Some(true)) =>
        {
            let reason = format!("{} is an IPv6 address, and IPv6 has no broadcasts", v6.ip());
            Err(Error::argument("set", "broadcast=True", reason)
                .or("leave it out, or take an IPv4 address"))
        }
        _ => Ok(()),
    }
}

/// A link-local address means nothing without its interface (RFC 4007).
fn check_scope(operation: &'static str, address: SocketAddr, subject: &str) -> Result<()> {
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => {
            let reason = "a link-local address needs the name of its interface (RFC 4007)";
            let way_out = format!(
                "write it with one, as in {}%{}; {}",
                v6.ip(),
                refusal::an_interface(),
                refusal::interfaces()
            );
            Err(Error::argument(operation, subject, reason).or(way_out))
        }
        _ => Ok(()),
    }
}

/// What no peer has: a link-local address without its interface, or port 0.
fn check_peer(peer: SocketAddr, subject: &str) -> Result<()> {
    check_scope(CONNECT, peer, subject)?;
    if peer.port() == 0 {
        let reason = "no server listens on port 0, which stands for a free port where one is bound";
        return Err(Error::argument(CONNECT, subject, reason).or("give the port of the server"));
    }
    Ok(())
}

const CONNECT: &str = "connect to";

fn listen(socket: &Socket, backlog: Option<u32>, subject: &str) -> Result<OptionReport> {
    // The kernel takes the smaller of this and somaxconn, so the most is "all there is".
    let asked = backlog.map_or(i32::MAX, |n| i32::try_from(n).unwrap_or(i32::MAX));
    socket.listen(asked).map_err(|error| {
        let refused = Error::system("listen on", subject, &error);
        match refused.errno() {
            Some(libc::EINVAL) => refused
                .because("it is or was a connection")
                .or("pass a socket that is only bound"),
            // Port 0 of a socket that shares it, or a race for a port: listen(2).
            Some(libc::EADDRINUSE) => refused.or("take another port (0 picks a free one)"),
            _ => refused,
        }
    })?;
    Ok(backlog_report(socket, backlog))
}

fn backlog_report(socket: &Socket, requested: Option<u32>) -> OptionReport {
    const SYSCTL: &str = "net.core.somaxconn";
    let ceiling = limits::single(SYSCTL);
    let effective = sys::option::accept_queue(socket.as_raw_fd())
        .ok()
        .map(|(_, most)| most);
    let warning = match (requested, effective) {
        (Some(requested), Some(effective)) if effective < requested => Some((
            Severity::Warning,
            format!(
                "backlog: asked for {requested}, the kernel took {effective}, the most that \
                 {SYSCTL} allows: raise that with `sysctl -w {SYSCTL}={requested}`"
            ),
        )),
        _ => None,
    };
    OptionReport {
        name: "backlog",
        option: "listen(2)",
        requested: requested.map(|n| Value::Number(n.into())),
        effective: effective.map(|n| Value::Number(n.into())),
        ceiling,
        sysctl: ceiling.map(|_| SYSCTL),
        warning,
    }
}

/// A UDP socket that talks to one peer, so that its refusals (ICMP) become errors.
pub(crate) fn connect_udp(peer: SocketAddr, options: &SocketOptions) -> Result<Bound> {
    let subject = format!("udp://{peer}");
    check_peer(peer, &subject)?;
    check_broadcast(peer, options)?;
    let socket = open(peer, Type::DGRAM, &subject)?;
    let report = options.apply(&socket, peer.is_ipv6(), Target::Udp)?;
    socket
        .connect(&SockAddr::from(peer))
        .map_err(|error| refusal::connect(peer, &subject, &error))?;
    finish_udp(socket, report, false, &subject)
}

/// A TCP socket that has begun to connect and does not block. It is connected once it can
/// be written and has no error.
pub(crate) fn begin_connect_tcp(peer: SocketAddr, options: &SocketOptions) -> Result<Bound> {
    let subject = format!("tcp://{peer}");
    check_peer(peer, &subject)?;
    let socket = open(peer, Type::STREAM, &subject)?;
    let report = options.apply(&socket, peer.is_ipv6(), Target::TcpClient)?;
    let fail = |error: &std::io::Error| refusal::connect(peer, &subject, error);
    socket.set_nonblocking(true).map_err(|error| fail(&error))?;
    match socket.connect(&SockAddr::from(peer)) {
        Ok(()) => {}
        // connect(2): the answer comes later.
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(fail(&error)),
    }
    let address = local_address(&socket)
        .ok()
        .flatten()
        .ok_or_else(|| Error::argument("use", &subject, "its address cannot be read"))?;
    Ok(Bound {
        socket,
        address,
        report,
        is_shared: false,
    })
}
