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
        sent: _,
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
pub(crate) fn hold_for_reply(from: Destination, segment_bytes: u16, hop_limit: u8, is_v4: bool) {
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
