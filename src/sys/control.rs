//! Control messages: read from bytes, and written to them.
//!
//! The kernel is to be trusted, libc's walk is not: on Linux `CMSG_NXTHDR` believes each
//! `cmsg_len`, and one of 0 or of almost `usize::MAX` is beyond what it promises. Here a
//! message is a slice of what was received, or it is not read at all; so whatever the bytes
//! are, the walk stays within them and ends after `bytes / CMSG_LEN(0)` steps at most. What is
//! written goes into a slice as well.

use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::datagram::{Destination, Transmit};

/// Room for all messages of one receive or send, aligned as they must be (cmsg(3)).
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) union Room {
    _align: libc::cmsghdr,
    bytes: [u8; Room::BYTES],
}

impl Room {
    /// Both addresses of a dual-stack socket, a segment size, a hop limit and a timestamp are
    /// 184 bytes on Linux.
    pub(super) const BYTES: usize = 256;

    pub(super) const EMPTY: Self = Self {
        bytes: [0; Self::BYTES],
    };

    /// Its first bytes.
    pub(super) fn bytes(&self, length: usize) -> &[u8] {
        // SAFETY: bytes, all of them initialised: zero at first.
        let bytes = unsafe { &self.bytes };
        &bytes[..length.min(Self::BYTES)]
    }

    fn bytes_mut(&mut self) -> &mut [u8; Self::BYTES] {
        // SAFETY: as above; any bytes are a value.
        unsafe { &mut self.bytes }
    }
}

/// What the control messages of one receive said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Control {
    pub(super) destination: Destination,
    pub(super) segment_bytes: usize,
    /// 0 where nobody asked for it.
    pub(super) hop_limit: u8,
    /// When the kernel received it, in nanoseconds since 1970; 0 where nobody asked for it.
    pub(super) kernel_ns: u64,
    /// On the error queue: the number of the send whose time this is.
    pub(super) sent: Option<u32>,
}

pub(super) const SOL_UDP: libc::c_int = 17;
pub(super) const UDP_SEGMENT: libc::c_int = 103;
pub(super) const UDP_GRO: libc::c_int = 104;

/// The type of the message that carries timestamps: as the option's name (socket(7),
/// Documentation/networking/timestamping.rst).
#[cfg(target_os = "linux")]
pub(super) const SCM_TIMESTAMPING: libc::c_int = libc::SO_TIMESTAMPING;
#[cfg(not(target_os = "linux"))]
pub(super) const SCM_TIMESTAMPING: libc::c_int = -1;

/// Reads the control messages of a receive: `bytes` is the control buffer as far as
/// `msg_controllen` says. IP_PKTINFO wins over IPV6_PKTINFO, in either order, since a
/// dual-stack socket gives both for an IPv4 datagram and only the first tells a broadcast.
pub(super) fn decode(bytes: &[u8]) -> Control {
    let mut found = Control::default();
    for message in (Messages { left: bytes }) {
        match (message.level, message.kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                if let Some(info) = read::<libc::in_pktinfo>(message.data) {
                    found.destination = Destination::V4 {
                        addressed: Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)),
                        reply_from: Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)),
                    };
                }
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                if let Some(info) = read::<libc::in6_pktinfo>(message.data)
                    && !matches!(found.destination, Destination::V4 { .. })
                {
                    found.destination = Destination::V6 {
                        addressed: Ipv6Addr::from(info.ipi6_addr.s6_addr),
                        interface: info.ipi6_ifindex as _,
                    };
                }
            }
            // A C int, not the u16 that a send takes (net/ipv4/udp.c, udp_cmsg_recv).
            (SOL_UDP, UDP_GRO) => {
                if let Some(size) = read::<libc::c_int>(message.data) {
                    found.segment_bytes = usize::try_from(size).unwrap_or(0);
                }
            }
            // Both are an int (ip(7), RFC 3542 §6.3).
            (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                if let Some(hop_limit) = read::<libc::c_int>(message.data) {
                    found.hop_limit = u8::try_from(hop_limit).unwrap_or(0);
                }
            }
            // Software, a field that nobody uses any more, hardware.
            (libc::SOL_SOCKET, SCM_TIMESTAMPING) => {
                if let Some(times) = read::<[libc::timespec; 3]>(message.data) {
                    found.kernel_ns = nanoseconds(&times[0]);
                }
            }
            #[cfg(target_os = "linux")]
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => {
                if let Some(error) = read::<libc::sock_extended_err>(message.data)
                    && error.ee_origin == libc::SO_EE_ORIGIN_TIMESTAMPING
                {
                    found.sent = Some(error.ee_data);
                }
            }
            _ => {}
        }
    }
    found
}

/// A time since 1970; 0 where it cannot be.
pub(super) fn nanoseconds(time: &libc::timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let part = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(part)
}

/// Writes the control messages of a send, as datagrams of `segment_bytes` each where that is
/// not 0 (UDP_SEGMENT, udp(7)); how many bytes they are. 0 where the kernel is to choose all.
pub(super) fn encode(room: &mut Room, transmit: &Transmit, segment_bytes: u16) -> usize {
    let bytes = room.bytes_mut();
    let mut used = 0;
    match transmit.from {
        Destination::Unknown => {}
        // Nothing can be sent from a group's address: the kernel chooses one of ours.
        Destination::V6 { addressed, .. } if addressed.is_multicast() => {}
        Destination::V4 { reply_from, .. } => {
            // SAFETY: integers, for which zero is a value.
            let mut info: libc::in_pktinfo = unsafe { mem::zeroed() };
            info.ipi_spec_dst.s_addr = u32::from(reply_from).to_be();
            used += write(bytes, used, (libc::IPPROTO_IP, libc::IP_PKTINFO), info);
        }
        Destination::V6 {
            addressed,
            interface,
        } => {
            // SAFETY: as above.
            let mut info: libc::in6_pktinfo = unsafe { mem::zeroed() };
            info.ipi6_addr.s6_addr = addressed.octets();
            // Elsewhere the routes choose; a link-local address means nothing without its
            // interface.
            if addressed.is_unicast_link_local() {
                info.ipi6_ifindex = interface as _;
            }
            used += write(bytes, used, (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO), info);
        }
    }
    if segment_bytes > 0 {
        used += write(bytes, used, (SOL_UDP, UDP_SEGMENT), segment_bytes);
    }
    if transmit.hop_limit > 0 {
        // An IPv6 socket sends IPv4 as well, by IPv4's own option (net/ipv4/ip_sockglue.c,
        // `ip_cmsg_send`).
        let kind = if transmit.to.is_v4() {
            (libc::IPPROTO_IP, libc::IP_TTL)
        } else {
            (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT)
        };
        let hop_limit = libc::c_int::from(transmit.hop_limit);
        used += write(bytes, used, kind, hop_limit);
    }
    used
}

/// Writes one message behind the `used` bytes of others; how many bytes it takes.
fn write<T: Plain>(
    bytes: &mut [u8; Room::BYTES],
    used: usize,
    (level, kind): (libc::c_int, libc::c_int),
    value: T,
) -> usize {
    // SAFETY: arithmetic on its argument, no memory (cmsg(3)).
    let space = unsafe { libc::CMSG_SPACE(mem::size_of::<T>() as u32) } as usize;
    let room = &mut bytes[used..used + space];
    room.fill(0);
    // SAFETY: integers, for which zero is a value.
    let mut header: libc::cmsghdr = unsafe { mem::zeroed() };
    header.cmsg_len = (HEADER_BYTES + mem::size_of::<T>()) as _;
    (header.cmsg_level, header.cmsg_type) = (level, kind);
    // SAFETY: `space` bytes, which are a header with its padding and a T with its own
    // (cmsg(3)), exclusively borrowed; aligned or not.
    unsafe {
        let start = room.as_mut_ptr();
        start.cast::<libc::cmsghdr>().write_unaligned(header);
        start.add(HEADER_BYTES).cast::<T>().write_unaligned(value);
    }
    space
}

/// One control message, its data as long as its header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) level: libc::c_int,
    pub(super) kind: libc::c_int,
    pub(super) data: &'a [u8],
}

/// The control messages in a buffer. Ends before the first whose length cannot be.
pub(super) struct Messages<'a> {
    pub(super) left: &'a [u8],
}

// SAFETY: arithmetic on its argument, no memory (cmsg(3)).
const HEADER_BYTES: usize = unsafe { libc::CMSG_LEN(0) } as usize;

/// What a message's length is rounded up to before the next one starts (cmsg(3)).
// SAFETY: as above.
const ALIGN: usize = unsafe { libc::CMSG_SPACE(1) - libc::CMSG_SPACE(0) } as usize;

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    #[inline]
    fn next(&mut self) -> Option<Message<'a>> {
        let header = read::<libc::cmsghdr>(self.left)?;
        // size_t on Linux, socklen_t elsewhere.
        #[allow(clippy::unnecessary_cast)]
        let length = header.cmsg_len as usize;
        // None for a length below the header's and for one beyond the buffer.
        let data = self.left.get(HEADER_BYTES..length)?;
        // The last message may lack its padding. At most ALIGN more than a slice's length:
        // it cannot overflow.
        let next = length.next_multiple_of(ALIGN).min(self.left.len());
        self.left = &self.left[next..];
        Some(Message {
            level: header.cmsg_level,
            kind: header.cmsg_type,
            data,
        })
    }
}

/// Types of which any bytes are a value.
///
/// # Safety
///
/// Integers, or structures of nothing but such.
unsafe trait Plain: Copy {}

// SAFETY: integers (cmsg(3)).
unsafe impl Plain for libc::cmsghdr {}
// SAFETY: integers (ip(7)).
unsafe impl Plain for libc::in_pktinfo {}
// SAFETY: integers (ipv6(7), RFC 3542).
unsafe impl Plain for libc::in6_pktinfo {}
// SAFETY: an integer.
unsafe impl Plain for libc::c_int {}
// SAFETY: an integer.
unsafe impl Plain for u16 {}
// SAFETY: integers (ip(7)).
#[cfg(target_os = "linux")]
unsafe impl Plain for libc::sock_extended_err {}
// SAFETY: integers (clock_gettime(2)).
unsafe impl Plain for [libc::timespec; 3] {}

/// The value at the start of `bytes`, if they are enough for it.
#[inline]
fn read<T: Plain>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.get(..mem::size_of::<T>())?;
    // SAFETY: as many initialised bytes as a T has, of which any are a value; aligned or not.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

#[cfg(all(any(test, feature = "fuzzing"), target_os = "linux"))]
#[path = "control_laws.rs"]
pub(crate) mod laws;

#[cfg(all(test, target_os = "linux"))]
#[path = "control_tests.rs"]
mod tests;
