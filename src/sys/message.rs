//! One datagram in, one datagram out, with the address that it was sent to.
//!
//! A server bound to all addresses must answer from the one that was addressed, or a
//! connected client drops the reply; IP_PKTINFO and IPV6_PKTINFO say and set it (ip(7),
//! ipv6(7)).

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::RawFd;

use super::RawAddress;
use super::control::{self, Control};

/// The local side of a received datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Destination {
    /// The socket did not say (it is bound to one address, which is the one).
    #[default]
    Unknown,
    /// IPv4: `addressed` is the header's destination, `reply_from` the local address that
    /// the kernel would answer from. They differ for broadcast and multicast.
    V4 {
        addressed: Ipv4Addr,
        reply_from: Ipv4Addr,
    },
    /// IPv6, with the interface, which a link-local reply needs.
    V6 { addressed: Ipv6Addr, interface: u32 },
}

impl Destination {
    /// The address that the datagram was sent to, where known.
    pub(crate) fn ip(self) -> Option<IpAddr> {
        match self {
            Destination::Unknown => None,
            Destination::V4 { addressed, .. } => Some(IpAddr::V4(addressed)),
            Destination::V6 { addressed, .. } => Some(IpAddr::V6(addressed)),
        }
    }

    /// True when it was sent to a broadcast or multicast address.
    pub(crate) fn is_group(self) -> bool {
        match self {
            Destination::Unknown => false,
            Destination::V4 {
                addressed,
                reply_from,
            } => addressed.is_multicast() || addressed != reply_from,
            Destination::V6 { addressed, .. } => addressed.is_multicast(),
        }
    }
}

/// What a receive brought, beside the bytes.
#[derive(Clone, Copy)]
pub(crate) struct Received {
    /// Bytes in the buffer.
    pub(crate) length: usize,
    /// Who sent it; empty for the ghost of a shut-down socket.
    pub(crate) source: RawAddress,
    /// Whom it was sent to.
    pub(crate) destination: Destination,
    /// Where the bytes are several datagrams of one peer, the length of each but the last,
    /// which may be shorter (UDP_GRO, udp(7)); 0 where they are one.
    pub(crate) segment_bytes: usize,
    /// The datagram was longer than the buffer (MSG_TRUNC).
    pub(crate) truncated: bool,
    /// Control data was lost (MSG_CTRUNC): several datagrams may look like one.
    pub(crate) maybe_merged: bool,
    /// The hop limit with which it came; 0 unless [`super::option::receive_hop_limits`] is on.
    pub(crate) hop_limit: u8,
    /// The one that its replies are to have, as the guard says; 0: the socket's own.
    pub(crate) reply_hop_limit: u8,
}

impl Received {
    /// How many datagrams the bytes are.
    pub(crate) fn datagrams(&self) -> u64 {
        match self.segment_bytes {
            0 => 1,
            size => self.length.div_ceil(size) as u64,
        }
    }

    /// The length of each of them.
    pub(crate) fn lengths(&self) -> impl Iterator<Item = usize> + use<> {
        let (length, size) = match self.segment_bytes {
            0 => (self.length, self.length.max(1)),
            size => (self.length, size),
        };
        (0..length.div_ceil(size).max(1)).map(move |index| size.min(length - index * size))
    }
}

/// Room for both address messages of a dual-stack socket and two integers more, aligned as
/// control messages must be (cmsg(3)).
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) union ControlRoom {
    _align: libc::cmsghdr,
    bytes: [u8; CONTROL_BYTES],
}

pub(super) const CONTROL_BYTES: usize = 128;

impl ControlRoom {
    pub(super) const EMPTY: Self = Self {
        bytes: [0; CONTROL_BYTES],
    };
}

/// Whether a receive may sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Until something comes, the socket's receive timeout passes, or it is shut down.
    Block,
    /// `WouldBlock` at once when nothing is there.
    DontWait,
}

/// Receives one datagram: recvmsg(2).
pub(crate) fn receive(fd: RawFd, buffer: &mut [u8], mode: Mode) -> io::Result<Received> {
    let mut source = RawAddress::empty();
    let mut control = ControlRoom {
        bytes: [0; CONTROL_BYTES],
    };
    let mut data = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: all-zero is a valid msghdr (null pointers, zero lengths).
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = source.as_mut_ptr();
    message.msg_namelen = RawAddress::CAPACITY;
    message.msg_iov = &raw mut data;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = CONTROL_BYTES as _;
    let flags = if mode == Mode::DontWait {
        libc::MSG_DONTWAIT
    } else {
        0
    };
    // SAFETY: recvmsg(2): name, iov and control point to live, exclusively borrowed memory
    // of the lengths given, which outlives the call.
    let length = unsafe { libc::recvmsg(fd, &raw mut message, flags) };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    source.set_length(message.msg_namelen);
    // SAFETY: `message` was filled by a successful recvmsg(2), and its control buffer is
    // still alive.
    let control = unsafe { read_control(&message) };
    Ok(describe(
        length as usize,
        source,
        control,
        message.msg_flags,
    ))
}

/// Throws away the errors and timestamps that the socket keeps, a bounded number of them:
/// MSG_ERRQUEUE (recvmsg(2)). While one is there, poll(2) returns at once.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn forget_kept_errors(fd: RawFd) {
    const MOST: usize = 1024;
    for _ in 0..MOST {
        // SAFETY: all-zero is a valid msghdr: nowhere to write anything to.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: recvmsg(2) writes to the live header alone, which names no other memory.
        if unsafe { libc::recvmsg(fd, &raw mut message, flags) } < 0 {
            return;
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn forget_kept_errors(_: RawFd) {}

/// Puts together what a receive left in its header.
pub(super) fn describe(
    length: usize,
    source: RawAddress,
    control: Control,
    flags: libc::c_int,
) -> Received {
    // One segment, or a size as long as all: a plain datagram.
    let is_train = control.segment_bytes > 0 && control.segment_bytes < length;
    let truncated = flags & libc::MSG_TRUNC != 0;
    Received {
        length,
        source,
        destination: control.destination,
        // Of a train that was cut within its first segment, it is still said that it was one.
        segment_bytes: if is_train || truncated {
            control.segment_bytes
        } else {
            0
        },
        truncated,
        maybe_merged: flags & libc::MSG_CTRUNC != 0,
        hop_limit: control.hop_limit,
        reply_hop_limit: 0,
    }
}

/// Reads the control messages of a receive: see [`control::decode`].
///
/// # Safety
///
/// `message` is as recvmsg(2) left it, its control buffer a [`ControlRoom`] that is alive.
pub(super) unsafe fn read_control(message: &libc::msghdr) -> Control {
    // size_t on Linux, socklen_t elsewhere.
    #[allow(clippy::unnecessary_cast)]
    let length = (message.msg_controllen as usize).min(CONTROL_BYTES);
    if length == 0 {
        return Control::default();
    }
    // SAFETY: per the contract above a live buffer of CONTROL_BYTES, all of them initialised
    // (it starts zeroed), which nobody writes to while `message` is borrowed.
    control::decode(unsafe { std::slice::from_raw_parts(message.msg_control.cast(), length) })
}

/// Sends one datagram, from the address that `from` names, with this hop limit unless it is
/// 0: sendmsg(2), never waiting, never raising SIGPIPE.
pub(crate) fn send(
    fd: RawFd,
    data: &[u8],
    to: &RawAddress,
    from: Destination,
    hop_limit: u8,
) -> io::Result<usize> {
    let mut control = ControlRoom {
        bytes: [0; CONTROL_BYTES],
    };
    let mut part = libc::iovec {
        iov_base: data.as_ptr().cast_mut().cast(),
        iov_len: data.len(),
    };
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = to.as_ptr().cast_mut();
    message.msg_namelen = to.length();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if from != Destination::Unknown || hop_limit > 0 {
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = CONTROL_BYTES as _;
        // SAFETY: the control buffer is aligned, zeroed, and CONTROL_BYTES long, which is
        // more than one message of each kind.
        message.msg_controllen = unsafe {
            let used = write_source(&message, from);
            used + write_hop_limit(&message, used, hop_limit, to.is_v4())
        } as _;
    }
    // SAFETY: sendmsg(2) only reads through the pointers, all of which outlive the call.
    let sent = unsafe {
        libc::sendmsg(
            fd,
            &raw const message,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(sent as usize)
    }
}

/// Writes the control message that sets the source address; returns its length.
///
/// # Safety
///
/// `message`'s control buffer is aligned, zeroed and has room for one such message.
pub(super) unsafe fn write_source(message: &libc::msghdr, from: Destination) -> usize {
    // SAFETY: per the contract above CMSG_FIRSTHDR is not null and CMSG_DATA has room for
    // the structure that is written, unaligned.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message);
        match from {
            Destination::Unknown => 0,
            Destination::V4 { reply_from, .. } => {
                let mut info: libc::in_pktinfo = mem::zeroed();
                info.ipi_spec_dst.s_addr = u32::from(reply_from).to_be();
                let size = mem::size_of::<libc::in_pktinfo>() as u32;
                (*header).cmsg_level = libc::IPPROTO_IP;
                (*header).cmsg_type = libc::IP_PKTINFO;
                (*header).cmsg_len = libc::CMSG_LEN(size) as _;
                libc::CMSG_DATA(header)
                    .cast::<libc::in_pktinfo>()
                    .write_unaligned(info);
                libc::CMSG_SPACE(size) as usize
            }
            Destination::V6 {
                addressed,
                interface,
            } => {
                let mut info: libc::in6_pktinfo = mem::zeroed();
                info.ipi6_addr.s6_addr = addressed.octets();
                // Elsewhere the routes choose; a link-local address means nothing without
                // its interface.
                if addressed.is_unicast_link_local() {
                    info.ipi6_ifindex = interface as _;
                }
                let size = mem::size_of::<libc::in6_pktinfo>() as u32;
                (*header).cmsg_level = libc::IPPROTO_IPV6;
                (*header).cmsg_type = libc::IPV6_PKTINFO;
                (*header).cmsg_len = libc::CMSG_LEN(size) as _;
                libc::CMSG_DATA(header)
                    .cast::<libc::in6_pktinfo>()
                    .write_unaligned(info);
                libc::CMSG_SPACE(size) as usize
            }
        }
    }
}

/// Writes the control message that sets the hop limit, unless that is 0, behind the `used`
/// bytes of others; returns its length.
///
/// # Safety
///
/// `message`'s control buffer is aligned, zeroed and has room for one such message behind
/// what is used of it.
pub(super) unsafe fn write_hop_limit(
    message: &libc::msghdr,
    used: usize,
    hop_limit: u8,
    is_v4: bool,
) -> usize {
    if hop_limit == 0 {
        return 0;
    }
    let size = mem::size_of::<libc::c_int>() as u32;
    // SAFETY: cmsg(3): messages take CMSG_SPACE each, which keeps the next one aligned; per
    // the contract above there is room for it. An int is written, unaligned.
    unsafe {
        let header = message.msg_control.cast::<u8>().add(used);
        let header = header.cast::<libc::cmsghdr>();
        // An IPv6 socket sends IPv4 as well, by IPv4's own option (net/ipv4/ip_sockglue.c,
        // `ip_cmsg_send`).
        ((*header).cmsg_level, (*header).cmsg_type) = if is_v4 {
            (libc::IPPROTO_IP, libc::IP_TTL)
        } else {
            (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT)
        };
        (*header).cmsg_len = libc::CMSG_LEN(size) as _;
        libc::CMSG_DATA(header)
            .cast::<libc::c_int>()
            .write_unaligned(hop_limit.into());
        libc::CMSG_SPACE(size) as usize
    }
}

#[cfg(all(any(test, feature = "fuzzing"), target_os = "linux"))]
pub(super) mod laws {
    //! For the laws in `control.rs`: what a send would hand to the kernel.

    use super::*;

    pub(in crate::sys) const UDP_SEGMENT: libc::c_int = 103;

    /// The control bytes of a send.
    pub(in crate::sys) fn control_of_send(
        from: Destination,
        segment_bytes: u16,
        hop_limit: u8,
        is_v4: bool,
    ) -> Vec<u8> {
        let mut control = ControlRoom::EMPTY;
        // SAFETY: all-zero is a valid msghdr.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = CONTROL_BYTES as _;
        // SAFETY: the control buffer is aligned, zeroed, and CONTROL_BYTES long.
        let length = unsafe {
            let used = crate::sys::mmsg::write_both(&message, from, segment_bytes);
            used + write_hop_limit(&message, used, hop_limit, is_v4)
        };
        // SAFETY: bytes, all initialised: zero at first.
        let bytes = unsafe { control.bytes };
        bytes[..length].to_vec()
    }
}
