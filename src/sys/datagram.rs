//! One datagram: what came, and what goes.
//!
//! A server bound to all addresses must answer from the one that was addressed, or a
//! connected client drops the reply; so what came says where it was sent to, and what goes says
//! from where (IP_PKTINFO, IPV6_PKTINFO: ip(7), ipv6(7)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::RawAddress;

/// The local side of a received datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Destination {
    /// The socket did not say (it is bound to one address, which is the one).
    #[default]
    Unknown,
    /// IPv4: `addressed` is the header's destination, `reply_from` the local address that
    /// the kernel would answer from. They differ for broadcast and multicast.
    V4 {
        /// The header's destination.
        addressed: Ipv4Addr,
        /// The local address that the kernel would answer from.
        reply_from: Ipv4Addr,
    },
    /// IPv6, with the interface, which a link-local reply needs.
    V6 {
        /// The header's destination.
        addressed: Ipv6Addr,
        /// By number.
        interface: u32,
    },
}

impl Destination {
    /// The address that the datagram was sent to, where known.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Destination::Unknown => None,
            Destination::V4 { addressed, .. } => Some(IpAddr::V4(addressed)),
            Destination::V6 { addressed, .. } => Some(IpAddr::V6(addressed)),
        }
    }

    /// True when it was sent to a broadcast or multicast address.
    pub fn is_group(self) -> bool {
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
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// Bytes in the buffer.
    pub length: usize,
    /// Who sent it; empty for the ghost of a shut-down socket.
    pub source: RawAddress,
    /// Whom it was sent to.
    pub destination: Destination,
    /// Where the bytes are several datagrams of one peer, the length of each but the last,
    /// which may be shorter (UDP_GRO, udp(7)); 0 where they are one.
    pub segment_bytes: usize,
    /// The datagram was longer than the buffer (MSG_TRUNC).
    pub truncated: bool,
    /// Control data was lost (MSG_CTRUNC): several datagrams may look like one.
    pub maybe_merged: bool,
    /// The hop limit with which it came; 0 where the socket does not report it.
    pub hop_limit: u8,
    /// When the kernel received it, in nanoseconds since 1970; 0 where the socket does not
    /// report it (SO_TIMESTAMPING).
    pub kernel_ns: u64,
}

impl Received {
    /// How many datagrams the bytes are.
    pub fn datagrams(&self) -> u64 {
        match self.segment_bytes {
            0 => 1,
            size => self.length.div_ceil(size) as u64,
        }
    }

    /// The length of each of them.
    pub fn lengths(&self) -> impl Iterator<Item = usize> + use<> {
        let (length, size) = match self.segment_bytes {
            0 => (self.length, self.length.max(1)),
            size => (self.length, size),
        };
        (0..length.div_ceil(size).max(1)).map(move |index| size.min(length - index * size))
    }
}

/// Whom a send is for, and how it goes, beside the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// Whom it goes to.
    pub to: RawAddress,
    /// From which of the socket's addresses, as the datagram that it answers was sent to it.
    pub from: Destination,
    /// The hop limit; 0: the socket's own.
    pub hop_limit: u8,
}

impl Transmit {
    /// To `to`, from the address and with the hop limit that the kernel chooses.
    pub fn to(to: RawAddress) -> Self {
        Self {
            to,
            from: Destination::Unknown,
            hop_limit: 0,
        }
    }
}
