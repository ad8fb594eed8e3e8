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

/// Room for both address messages of a dual-stack socket and one integer more, aligned as
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

/// Puts together what a receive left in its header.
pub(super) fn describe(
    length: usize,
    source: RawAddress,
    control: Control,
    flags: libc::c_int,
) -> Received {
    // One segment, or a size as long as all: a plain datagram.
    let is_train = control.segment_bytes > 0 && control.segment_bytes < length;
    Received {
        length,
        source,
        destination: control.destination,
        segment_bytes: if is_train { control.segment_bytes } else { 0 },
        truncated: flags & libc::MSG_TRUNC != 0,
        maybe_merged: flags & libc::MSG_CTRUNC != 0,
    }
}

/// What the control messages of one receive said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Control {
    pub(super) destination: Destination,
    pub(super) segment_bytes: usize,
}

const SOL_UDP: libc::c_int = 17;
const UDP_GRO: libc::c_int = 104;

/// Reads the control messages of a receive. IP_PKTINFO wins over IPV6_PKTINFO,
/// since a dual-stack socket gives both for an IPv4 datagram and only the first tells a
/// broadcast.
///
/// # Safety
///
/// `message` is as recvmsg(2) left it, its control buffer alive.
pub(super) unsafe fn read_control(message: &libc::msghdr) -> Control {
    let mut found = Control::default();
    // SAFETY: cmsg(3): the macros walk a control buffer that recvmsg(2) filled, within
    // msg_controllen; data is copied out unaligned, only when the message is long enough.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(current) = header.as_ref() {
            let data = libc::CMSG_DATA(header);
            // size_t on Linux, socklen_t elsewhere.
            #[allow(clippy::unnecessary_cast)]
            let room = (current.cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
            match (current.cmsg_level, current.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO)
                    if room >= mem::size_of::<libc::in_pktinfo>() =>
                {
                    let info: libc::in_pktinfo = data.cast::<libc::in_pktinfo>().read_unaligned();
                    found.destination = Destination::V4 {
                        addressed: Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)),
                        reply_from: Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)),
                    };
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)
                    if room >= mem::size_of::<libc::in6_pktinfo>()
                        && found.destination == Destination::Unknown =>
                {
                    let info: libc::in6_pktinfo = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    found.destination = Destination::V6 {
                        addressed: Ipv6Addr::from(info.ipi6_addr.s6_addr),
                        interface: info.ipi6_ifindex as u32,
                    };
                }
                // A C int, not the u16 that a send takes (net/ipv4/udp.c, udp_cmsg_recv).
                (SOL_UDP, UDP_GRO) if room >= mem::size_of::<libc::c_int>() => {
                    let size = data.cast::<libc::c_int>().read_unaligned();
                    found.segment_bytes = usize::try_from(size).unwrap_or(0);
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    found
}

/// Sends one datagram, from the address that `from` names: sendmsg(2), never waiting,
/// never raising SIGPIPE.
pub(crate) fn send(
    fd: RawFd,
    data: &[u8],
    to: &RawAddress,
    from: Destination,
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
    if from != Destination::Unknown {
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = CONTROL_BYTES as _;
        // SAFETY: the control buffer is aligned, zeroed, and CONTROL_BYTES long, which is
        // more than one message of either kind.
        message.msg_controllen = unsafe { write_source(&message, from) } as _;
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
