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
fn the_number_of_a_send_is_read_and_that_of_an_icmp_error_is_none() {
    // ee_errno, then ee_origin (4: a timestamp, 2: ICMP), then ee_info and ee_data.
    let error = |origin: u8| {
        let words = [libc::ENOMSG as u32, u32::from(origin), 0, 7];
        let bytes = words.map(u32::to_le_bytes);
        honest(libc::IPPROTO_IP, libc::IP_RECVERR, bytes.as_flattened())
    };
    assert_eq!(decode(&error(4)).sent, Some(7));
    assert_eq!(decode(&error(2)).sent, None);
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
