//! Socket options and kernel counters that socket2 has no name for.

use std::io;
use std::mem;
use std::os::fd::RawFd;

pub(super) fn set_int(fd: RawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let length = mem::size_of::<i32>() as libc::socklen_t;
    // SAFETY: setsockopt(2) reads `length` bytes from a live i32.
    let done = unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), length) };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Reads an option that is an integer.
fn get_int(fd: RawFd, level: i32, name: i32) -> io::Result<i32> {
    let mut value: libc::c_int = 0;
    let mut length = mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: getsockopt(2) writes at most `length` bytes to the live integer.
    let done =
        unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut length) };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(value)
    }
}

/// Reads an option that is on or off.
#[cfg(target_os = "linux")]
pub(super) fn get_bool(fd: RawFd, level: i32, name: i32) -> io::Result<bool> {
    Ok(get_int(fd, level, name)? != 0)
}

#[cfg(not(target_os = "linux"))]
fn unsupported<T>() -> io::Result<T> {
    Err(io::Error::from_raw_os_error(libc::ENOPROTOOPT))
}

/// Sets a buffer size past the system's ceiling: SO_RCVBUFFORCE, SO_SNDBUFFORCE
/// (socket(7)); needs CAP_NET_ADMIN.
#[cfg(target_os = "linux")]
pub(crate) fn force_buffer(fd: RawFd, receive: bool, bytes: usize) -> io::Result<()> {
    let name = if receive {
        libc::SO_RCVBUFFORCE
    } else {
        libc::SO_SNDBUFFORCE
    };
    set_int(
        fd,
        libc::SOL_SOCKET,
        name,
        i32::try_from(bytes).unwrap_or(i32::MAX),
    )
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn force_buffer(_: RawFd, _: bool, _: usize) -> io::Result<()> {
    unsupported()
}

/// Asks for the destination of each IPv4 datagram: IP_PKTINFO (ip(7)).
pub(crate) fn receive_destination_v4(fd: RawFd) -> io::Result<()> {
    set_int(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)
}

/// Asks for the destination of each IPv6 datagram: IPV6_RECVPKTINFO (ipv6(7)).
pub(crate) fn receive_destination_v6(fd: RawFd) -> io::Result<()> {
    set_int(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)
}

/// Of which datagrams each receive says with which hop limit it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HopLimits {
    /// IP_RECVTTL (ip(7)).
    pub(crate) v4: bool,
    /// IPV6_RECVHOPLIMIT (ipv6(7)); an IPv4 socket has none.
    pub(crate) v6: bool,
}

/// What a socket reports now; nothing where it cannot be asked.
#[cfg(target_os = "linux")]
pub(crate) fn received_hop_limits(fd: RawFd, v6: bool) -> HopLimits {
    let is_on = |level, name| get_bool(fd, level, name).unwrap_or(false);
    HopLimits {
        v4: is_on(libc::IPPROTO_IP, libc::IP_RECVTTL),
        v6: v6 && is_on(libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT),
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn received_hop_limits(_: RawFd, _: bool) -> HopLimits {
    HopLimits {
        v4: false,
        v6: false,
    }
}

/// Has a socket report these; `v6`: it is an IPv6 one.
#[cfg(target_os = "linux")]
pub(crate) fn receive_hop_limits(fd: RawFd, v6: bool, of: HopLimits) -> io::Result<()> {
    if v6 {
        let on = of.v6.into();
        set_int(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, on)?;
    }
    // Also on an IPv6 socket, for its IPv4 half; one without may refuse.
    match set_int(fd, libc::IPPROTO_IP, libc::IP_RECVTTL, of.v4.into()) {
        Err(_) if v6 => Ok(()),
        done => done,
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn receive_hop_limits(_: RawFd, _: bool, _: HopLimits) -> io::Result<()> {
    unsupported()
}

/// With which hop limits a socket sends by itself, as its options have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SentHopLimits {
    /// IP_TTL (ip(7)); `None`: an IPv6 socket that has none.
    v4: Option<u8>,
    /// IPV6_UNICAST_HOPS (ipv6(7)); an IPv4 socket has none.
    v6: Option<u8>,
}

impl SentHopLimits {
    /// The same for all; `is_v6`: of an IPv6 socket, which may send IPv4 too.
    pub(crate) fn of(hop_limit: u8, is_v6: bool) -> Self {
        Self {
            v4: Some(hop_limit),
            v6: is_v6.then_some(hop_limit),
        }
    }

    /// The one for IPv4.
    pub(crate) fn v4(self) -> Option<u8> {
        self.v4
    }

    /// The one for IPv6.
    pub(crate) fn v6(self) -> Option<u8> {
        self.v6
    }

    /// The one that holds whatever is sent; 0: there is none.
    pub(crate) fn both(self) -> u8 {
        match (self.v4, self.v6) {
            (Some(v4), Some(v6)) if v4 != v6 => 0,
            (one, other) => one.or(other).unwrap_or(0),
        }
    }
}

/// With which hop limits a socket sends; `is_v6`: it is an IPv6 one.
pub(crate) fn sent_hop_limits(fd: RawFd, is_v6: bool) -> io::Result<SentHopLimits> {
    let get = |level, name| {
        let hop_limit = get_int(fd, level, name)?;
        u8::try_from(hop_limit).map_err(io::Error::other)
    };
    let v4 = get(libc::IPPROTO_IP, libc::IP_TTL);
    if !is_v6 {
        return Ok(SentHopLimits {
            v4: Some(v4?),
            v6: None,
        });
    }
    let v6 = get(libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS)?;
    Ok(SentHopLimits {
        v4: v4.ok(),
        v6: Some(v6),
    })
}

/// Has a socket send with these.
pub(crate) fn set_sent_hop_limits(fd: RawFd, of: SentHopLimits) -> io::Result<()> {
    if let Some(v6) = of.v6 {
        set_int(fd, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, v6.into())?;
    }
    match of.v4 {
        None => Ok(()),
        // An IPv6 socket that carries no IPv4 may refuse.
        Some(v4) => match set_int(fd, libc::IPPROTO_IP, libc::IP_TTL, v4.into()) {
            Err(_) if of.v6.is_some() => Ok(()),
            done => done,
        },
    }
}

/// Never sets DF, so that a reply as long as the request can be fragmented on its way:
/// IP_PMTUDISC_DONT (ip(7)); Linux's default would set it on all that fit the MTU.
#[cfg(target_os = "linux")]
pub(crate) fn allow_fragments(fd: RawFd, v6: bool) -> io::Result<()> {
    discover_mtu(fd, v6, libc::IPV6_PMTUDISC_DONT, libc::IP_PMTUDISC_DONT)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn allow_fragments(_: RawFd, _: bool) -> io::Result<()> {
    Ok(())
}

/// Always sets DF, whatever the kernel has heard of the path, which anybody can forge (RFC 8899
/// §4.6.1): IP_PMTUDISC_PROBE (ip(7)). What is longer than the interface's MTU is EMSGSIZE.
#[cfg(target_os = "linux")]
pub(crate) fn forbid_fragments(fd: RawFd, v6: bool) -> io::Result<()> {
    if v6 {
        // By itself the mode only says by which MTU an IPv6 sender cuts (net/ipv6/ip6_output.c,
        // `__ip6_append_data`).
        set_int(fd, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1)?;
    }
    discover_mtu(fd, v6, libc::IPV6_PMTUDISC_PROBE, libc::IP_PMTUDISC_PROBE)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn forbid_fragments(_: RawFd, _: bool) -> io::Result<()> {
    unsupported()
}

/// Sets IPV6_MTU_DISCOVER and IP_MTU_DISCOVER.
#[cfg(target_os = "linux")]
fn discover_mtu(fd: RawFd, v6: bool, mode_v6: i32, mode_v4: i32) -> io::Result<()> {
    if v6 {
        set_int(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, mode_v6)?;
    }
    // Also on an IPv6 socket: it carries IPv4 when it is dual-stack.
    match set_int(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, mode_v4) {
        Err(_) if v6 => Ok(()),
        done => done,
    }
}

/// The MTU of the route to a connected socket's peer, headers included, as the kernel has it by
/// now: IP_MTU (ip(7)), IPV6_MTU (ipv6(7)). ENOTCONN for a socket that has no peer.
#[cfg(target_os = "linux")]
pub(crate) fn path_mtu(fd: RawFd, v6: bool) -> io::Result<u32> {
    let mtu = match v6 {
        true => get_int(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU)?,
        false => get_int(fd, libc::IPPROTO_IP, libc::IP_MTU)?,
    };
    u32::try_from(mtu).map_err(io::Error::other)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn path_mtu(_: RawFd, _: bool) -> io::Result<u32> {
    unsupported()
}

/// Forgets ICMP errors, and has no more of them kept: IP_RECVERR and IPV6_RECVERR off
/// (ip(7), ipv6(7)). Kept errors that nobody reads take the receive buffer's room until it
/// holds nothing else, and make poll(2) return at once for ever.
#[cfg(target_os = "linux")]
pub(crate) fn forget_errors(fd: RawFd, v6: bool) -> io::Result<()> {
    if v6 {
        set_int(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 0)?;
    }
    // Also on an IPv6 socket, for its IPv4 half; one without may refuse.
    match set_int(fd, libc::IPPROTO_IP, libc::IP_RECVERR, 0) {
        Err(_) if v6 => Ok(()),
        done => done,
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn forget_errors(_: RawFd, _: bool) -> io::Result<()> {
    Ok(())
}

/// What a socket's receive queue holds, and what it could not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveQueue {
    /// Memory that it takes now, the kernel's own for each datagram included. Linux gives memory of
    /// UDP back late: up to a quarter of `limit_bytes` of this may be free already
    /// (net/ipv4/udp.c, `udp_rmem_release`).
    pub used_bytes: u32,
    /// How much it may take, by the same measure: SO_RCVBUF.
    pub limit_bytes: u32,
    /// Datagrams, or connections of a listener, that were dropped because it was full, ever;
    /// 2³² of them start from 0 again.
    pub dropped: u32,
}

/// Of one socket: SO_MEMINFO (sock_diag(7)). A UDP receive buffer, or a TCP listener's backlog.
#[cfg(target_os = "linux")]
pub(crate) fn receive_queue(fd: RawFd) -> io::Result<ReceiveQueue> {
    const SK_MEMINFO_RMEM_ALLOC: usize = 0;
    const SK_MEMINFO_RCVBUF: usize = 1;
    const SK_MEMINFO_DROPS: usize = 8;
    let mut values = [0u32; SK_MEMINFO_DROPS + 1];
    let mut length = mem::size_of_val(&values) as libc::socklen_t;
    // SAFETY: getsockopt(2) writes at most `length` bytes to the live array.
    let done = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ReceiveQueue {
        used_bytes: values[SK_MEMINFO_RMEM_ALLOC],
        limit_bytes: values[SK_MEMINFO_RCVBUF],
        dropped: values[SK_MEMINFO_DROPS],
    })
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn receive_queue(_: RawFd) -> io::Result<ReceiveQueue> {
    unsupported()
}

/// A listener's accept queue: how many wait now, and how many may. The kernel's tcp_diag
/// documents the two fields' meaning for a listener: `tcpi_unacked` and `tcpi_sacked`
/// (net/ipv4/tcp.c, `tcp_get_info`).
#[cfg(target_os = "linux")]
pub(crate) fn accept_queue(fd: RawFd) -> io::Result<(u32, u32)> {
    // SAFETY: tcp_info is plain integers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = mem::size_of_val(&info) as libc::socklen_t;
    // SAFETY: getsockopt(2) writes at most `length` bytes to the live structure.
    let done = unsafe {
        libc::getsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok((info.tcpi_unacked, info.tcpi_sacked))
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn accept_queue(_: RawFd) -> io::Result<(u32, u32)> {
    unsupported()
}

/// The type of socket behind a descriptor, and whether it listens: SO_TYPE, SO_ACCEPTCONN.
pub(crate) fn is_listening(fd: RawFd) -> io::Result<bool> {
    Ok(get_int(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? != 0)
}
