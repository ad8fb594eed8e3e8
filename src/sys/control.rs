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
pub(crate) mod laws {
    //! What holds for any bytes and any message that this crate writes.

    use super::*;
    use crate::sys::RawAddress;

    /// Decodes; panics unless all messages lie within `bytes`, in order, and end.
    pub(crate) fn hold_for(bytes: &[u8]) {
        let within = bytes.as_ptr_range();
        let mut end = within.start;
        let mut count = 0;
        let mut any = (false, false, false, false, false);
        for message in (Messages { left: bytes }) {
            let data = message.data.as_ptr_range();
            assert!(end <= data.start && data.end <= within.end);
            assert!(data.start as usize - end as usize >= HEADER_BYTES);
            end = data.end;
            count += 1;
            match (message.level, message.kind, message.data.len()) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO, 12..) => any.0 = true,
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, 20..) => any.1 = true,
                (SOL_UDP, UDP_GRO, 4..) => any.2 = true,
                (libc::IPPROTO_IP, libc::IP_TTL, 4..) => any.3 = true,
                (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, 4..) => any.3 = true,
                (libc::SOL_SOCKET, SCM_TIMESTAMPING, 48..) => any.4 = true,
                _ => {}
            }
        }
        assert!(count <= bytes.len() / HEADER_BYTES);
        let Control {
            destination,
            segment_bytes,
            hop_limit,
            kernel_ns,
        } = decode(bytes);
        match destination {
            Destination::V4 { .. } => assert!(any.0),
            Destination::V6 { .. } => assert!(any.1 && !any.0),
            Destination::Unknown => assert!(!any.0 && !any.1),
        }
        assert!(segment_bytes == 0 || any.2);
        assert!(segment_bytes <= i32::MAX as usize);
        assert!(hop_limit == 0 || any.3);
        assert!(kernel_ns == 0 || any.4);
        // What the reply would be sent with is read as what it says.
        for is_v4 in [true, false] {
            hold_for_reply(destination, segment_bytes as u16, hop_limit, is_v4);
        }
    }

    /// Writes the control messages of a send; panics unless they read as what was written.
    pub(crate) fn hold_for_reply(
        from: Destination,
        segment_bytes: u16,
        hop_limit: u8,
        is_v4: bool,
    ) {
        let ip = if is_v4 {
            "192.0.2.1:7"
        } else {
            "[2001:db8::1]:7"
        };
        let to = ip.parse::<std::net::SocketAddr>().expect("an address");
        let transmit = Transmit {
            to: RawAddress::from(to),
            from,
            hop_limit,
        };
        let mut room = Room::EMPTY;
        // Nothing of an earlier send is left in what is written.
        room.bytes_mut().fill(0xff);
        let length = encode(&mut room, &transmit, segment_bytes);
        let bytes = room.bytes(length);
        let messages: Vec<Message<'_>> = Messages { left: bytes }.collect();
        let is_multicast = |one: std::net::IpAddr| one.is_ipv6() && one.is_multicast();
        let from = match from.ip() {
            Some(ip) if is_multicast(ip) => Destination::Unknown,
            _ => from,
        };
        let wanted = usize::from(from != Destination::Unknown)
            + usize::from(segment_bytes > 0)
            + usize::from(hop_limit > 0);
        assert_eq!(messages.len(), wanted);
        if segment_bytes > 0 {
            let is_segment = |message: &&Message<'_>| message.level == SOL_UDP;
            let found = messages.iter().find(is_segment).expect("counted above");
            assert_eq!(found.kind, UDP_SEGMENT);
            assert_eq!(found.data, segment_bytes.to_ne_bytes());
        }
        if hop_limit > 0 {
            let last = messages.last().expect("counted above");
            let v4 = (libc::IPPROTO_IP, libc::IP_TTL);
            let v6 = (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT);
            assert_eq!((last.level, last.kind), if is_v4 { v4 } else { v6 });
        }
        let sent_from = match from {
            // The addressed one is for the kernel to fill in; a send names the source.
            Destination::V4 { reply_from, .. } => Destination::V4 {
                addressed: Ipv4Addr::UNSPECIFIED,
                reply_from,
            },
            Destination::V6 { addressed, .. } if !addressed.is_unicast_link_local() => {
                Destination::V6 {
                    addressed,
                    interface: 0,
                }
            }
            other => other,
        };
        let read = decode(bytes);
        assert_eq!((read.destination, read.hop_limit), (sent_from, hop_limit));
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A message with the length that its header is to claim.
    fn message(level: i32, kind: i32, data: &[u8], length: usize) -> Vec<u8> {
        // SAFETY: integers, for which zero is a value.
        let mut header: libc::cmsghdr = unsafe { mem::zeroed() };
        header.cmsg_len = length as _;
        header.cmsg_level = level;
        header.cmsg_type = kind;
        // SAFETY: a live structure without padding, on Linux, or with padding zeroed above.
        let header: [u8; mem::size_of::<libc::cmsghdr>()] = unsafe { mem::transmute(header) };
        let mut bytes = header.to_vec();
        bytes.resize(HEADER_BYTES, 0);
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
        bytes
    }

    fn honest(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        message(level, kind, data, HEADER_BYTES + data.len())
    }

    fn v4() -> Vec<u8> {
        let info = [[7, 0, 0, 0], [192, 0, 2, 1], [192, 0, 2, 255]];
        honest(libc::IPPROTO_IP, libc::IP_PKTINFO, info.as_flattened())
    }

    fn v6() -> Vec<u8> {
        let mut info = "fe80::1".parse::<Ipv6Addr>().unwrap().octets().to_vec();
        info.extend(3_i32.to_ne_bytes());
        honest(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info)
    }

    fn gro(size: i32) -> Vec<u8> {
        honest(SOL_UDP, UDP_GRO, &size.to_ne_bytes())
    }

    fn ttl(hop_limit: i32) -> Vec<u8> {
        honest(libc::IPPROTO_IP, libc::IP_TTL, &hop_limit.to_ne_bytes())
    }

    const V4: Destination = Destination::V4 {
        addressed: Ipv4Addr::new(192, 0, 2, 255),
        reply_from: Ipv4Addr::new(192, 0, 2, 1),
    };
    const V6: Destination = Destination::V6 {
        addressed: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
        interface: 3,
    };

    #[test]
    fn what_the_kernel_gives_is_read_in_any_order() {
        for (parts, destination, segment_bytes) in [
            (vec![], Destination::Unknown, 0),
            (vec![v4()], V4, 0),
            (vec![v6(), gro(1472)], V6, 1472),
            (vec![gro(1), v6()], V6, 1),
            (vec![v4(), v6()], V4, 0),
            (vec![v6(), v4()], V4, 0),
            // A level or a type that nobody asked for, and empty messages.
            (vec![honest(99, 1, &[1, 2, 3]), v4()], V4, 0),
            (vec![honest(libc::IPPROTO_IP, 99, b""), v6()], V6, 0),
        ] {
            let found = decode(&parts.concat());
            assert_eq!(
                (found.destination, found.segment_bytes),
                (destination, segment_bytes)
            );
            laws::hold_for(&parts.concat());
        }
    }

    #[test]
    fn a_segment_size_that_cannot_be_is_none() {
        for (size, read) in [
            (0, 0),
            (-1, 0),
            (i32::MIN, 0),
            (i32::MAX, i32::MAX as usize),
        ] {
            assert_eq!(decode(&gro(size)).segment_bytes, read);
        }
    }

    #[test]
    fn a_hop_limit_is_read_and_one_that_cannot_be_is_none() {
        let v6 = honest(
            libc::IPPROTO_IPV6,
            libc::IPV6_HOPLIMIT,
            &61_i32.to_ne_bytes(),
        );
        assert_eq!(decode(&[gro(9), v6].concat()).hop_limit, 61);
        for (hop_limit, read) in [(1, 1), (255, 255), (0, 0), (-1, 0), (256, 0)] {
            assert_eq!(decode(&[v4(), ttl(hop_limit)].concat()).hop_limit, read);
            laws::hold_for(&[v4(), ttl(hop_limit), gro(7)].concat());
        }
    }

    #[test]
    fn a_timestamp_is_read_in_nanoseconds_and_one_before_1970_is_none() {
        let times = |seconds: i64, part: i64| {
            let all = [[seconds, part], [0; 2], [0; 2]];
            let bytes = all.as_flattened().iter().flat_map(|one| one.to_ne_bytes());
            honest(
                libc::SOL_SOCKET,
                SCM_TIMESTAMPING,
                &bytes.collect::<Vec<_>>(),
            )
        };
        let found = decode(&[ttl(61), times(1_700_000_000, 5)].concat());
        assert_eq!(found.kernel_ns, 1_700_000_000_000_000_005);
        assert_eq!(decode(&times(-1, 0)).kernel_ns, 0);
        assert_eq!(decode(&times(i64::MAX, 9)).kernel_ns, u64::MAX);
        laws::hold_for(&[times(1, 1), gro(7)].concat());
    }

    #[test]
    fn messages_too_short_for_their_type_say_nothing() {
        for bytes in [
            honest(libc::IPPROTO_IP, libc::IP_PKTINFO, &[1; 11]),
            honest(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &[1; 19]),
            honest(SOL_UDP, UDP_GRO, &[1; 3]),
            honest(libc::IPPROTO_IP, libc::IP_TTL, &[1; 3]),
        ] {
            assert_eq!(decode(&bytes), Control::default());
        }
    }

    #[test]
    fn a_length_that_cannot_be_ends_the_walk_and_keeps_what_came_before() {
        let kept = decode(&v4());
        for length in [0, 1, HEADER_BYTES - 1, HEADER_BYTES + 21, 4096] {
            for huge in [length, usize::MAX - length] {
                let bad = message(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &[1; 20], huge);
                let bytes = [v4(), bad.clone(), gro(9)].concat();
                // 21 claims the padding behind, which is there: read, and not V6 after V4.
                let segment_bytes = if huge == HEADER_BYTES + 21 { 9 } else { 0 };
                assert_eq!(
                    decode(&bytes),
                    Control {
                        segment_bytes,
                        ..kept
                    },
                    "{huge}"
                );
                laws::hold_for(&bytes);
                laws::hold_for(&bad);
            }
        }
    }

    #[test]
    fn cut_anywhere_it_reads_what_is_whole() {
        let bytes = [v6(), gro(500), v4()].concat();
        for end in 0..=bytes.len() {
            let found = decode(&bytes[..end]);
            let whole = |parts: &[Vec<u8>], data: usize| {
                end >= parts.concat().len() - (HEADER_BYTES + data).wrapping_neg() % ALIGN
            };
            let wanted = match () {
                () if whole(&[v6(), gro(500), v4()], 12) => (V4, 500),
                () if whole(&[v6(), gro(500)], 4) => (V6, 500),
                () if whole(&[v6()], 20) => (V6, 0),
                () => (Destination::Unknown, 0),
            };
            assert_eq!((found.destination, found.segment_bytes), wanted, "{end}");
            laws::hold_for(&bytes[..end]);
        }
    }

    /// Messages that are nearly right, which random bytes never are.
    fn part() -> impl Strategy<Value = Vec<u8>> {
        let kinds = prop_oneof![
            Just((libc::IPPROTO_IP, libc::IP_PKTINFO)),
            Just((libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)),
            Just((SOL_UDP, UDP_GRO)),
            Just((libc::IPPROTO_IP, libc::IP_TTL)),
            Just((libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT)),
            any::<(i32, i32)>(),
        ];
        let data = prop::collection::vec(any::<u8>(), 0..40);
        let length = prop_oneof![
            4 => Just(None),
            1 => (0..64_usize).prop_map(Some),
            1 => any::<usize>().prop_map(Some),
            1 => (0..64_usize).prop_map(|n| Some(usize::MAX - n)),
        ];
        (kinds, data, length).prop_map(|((level, kind), data, length)| {
            message(
                level,
                kind,
                &data,
                length.unwrap_or(HEADER_BYTES + data.len()),
            )
        })
    }

    fn destination() -> impl Strategy<Value = Destination> {
        let v6 = prop_oneof![
            any::<[u8; 16]>(),
            any::<[u8; 8]>().prop_map(|end| {
                let start = [0xfe, 0x80, 0, 0, 0, 0, 0, 0];
                [start, end].as_flattened().try_into().unwrap()
            }),
        ];
        prop_oneof![
            Just(Destination::Unknown),
            any::<([u8; 4], [u8; 4])>().prop_map(|(addressed, reply_from)| Destination::V4 {
                addressed: addressed.into(),
                reply_from: reply_from.into(),
            }),
            (v6, any::<u32>()).prop_map(|(addressed, interface)| Destination::V6 {
                addressed: addressed.into(),
                interface,
            }),
        ]
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_within_bounds(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            laws::hold_for(&bytes);
        }

        #[test]
        fn nearly_right_messages_too(
            parts in prop::collection::vec(part(), 0..6),
            shift in 0..8_usize,
            cut in any::<prop::sample::Index>(),
        ) {
            // Shifted: the buffer need not be aligned for the walk to be right.
            let bytes = [vec![0; shift], parts.concat()].concat();
            let bytes = &bytes[shift..];
            laws::hold_for(bytes);
            laws::hold_for(&bytes[..cut.index(bytes.len() + 1)]);
        }

        #[test]
        fn what_is_written_is_what_is_read(
            from in destination(),
            segment_bytes: u16,
            hop_limit: u8,
            is_v4: bool,
        ) {
            laws::hold_for_reply(from, segment_bytes, hop_limit, is_v4);
        }
    }
}
