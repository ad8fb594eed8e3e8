//! Packets and their bytes: tests/vectors/transfer.json has one of each kind, with its fields.

use std::fmt::Write as _;
use std::path::Path;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rsecho::transfer::Reason;
use rsecho::transfer::store::Name;
use rsecho::transfer::wire::{self, AckBody, Body, OfferBody, PullBody};

fn name(components: &[&str]) -> Name {
    Name::new(components.iter().map(|one| (*one).to_owned()).collect()).unwrap()
}

fn bytes<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|index| first.wrapping_add(index as u8))
}

/// One of each, as (name, what it says).
fn packets() -> Vec<(&'static str, Body<'static>)> {
    vec![
        (
            "offer of a message, first",
            Body::Offer(OfferBody {
                cookie: [0; 16],
                length: Some(1_000_000),
                identity: [0; 16],
                digest: None,
                replaces: false,
                name: Name::none(),
            }),
        ),
        (
            "offer of a file, with cookie and digest",
            Body::Offer(OfferBody {
                cookie: bytes(0x10),
                length: Some(3),
                identity: bytes(0x20),
                digest: Some(bytes(0x40)),
                replaces: true,
                name: name(&["a", "é.txt"]),
            }),
        ),
        (
            "offer of a pipe",
            Body::Offer(OfferBody {
                cookie: bytes(0x10),
                length: None,
                identity: [0; 16],
                digest: None,
                replaces: false,
                name: name(&["log"]),
            }),
        ),
        ("cookie", Body::Cookie(bytes(0x10))),
        (
            "data",
            Body::Data {
                number: 7,
                offset: 8_176,
                data: b"Hello, world",
            },
        ),
        (
            "acknowledgement of an offer",
            Body::Ack(AckBody {
                limit: 4_194_304,
                in_flight_bytes: 212_992,
                prefix: 0,
                delay_us: 0,
                ranges: Vec::new(),
            }),
        ),
        (
            "acknowledgement with gaps",
            Body::Ack(AckBody {
                limit: 4_202_480,
                in_flight_bytes: 212_992,
                prefix: 8_176,
                delay_us: 150,
                ranges: vec![(20, 25), (12, 18), (0, 10)],
            }),
        ),
        (
            "end",
            Body::End {
                number: 8,
                length: 8_188,
                digest: bytes(0x40),
            },
        ),
        ("done", Body::Done { was_there: false }),
        ("done, it was there", Body::Done { was_there: true }),
        (
            "abort",
            Body::Abort {
                reason: Some(Reason::TooLarge),
                text: "too large",
            },
        ),
        (
            "pull of a file",
            Body::Pull(PullBody {
                cookie: bytes(0x10),
                is_echo: false,
                name: name(&["log"]),
            }),
        ),
        (
            "pull of what was sent",
            Body::Pull(PullBody {
                cookie: [0; 16],
                is_echo: true,
                name: Name::none(),
            }),
        ),
        ("probe", Body::Probe { number: 9 }),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn named(name: &Name) -> String {
    let components: Vec<_> = name.components().iter().map(|one| quoted(one)).collect();
    format!("[{}]", components.join(", "))
}

fn or_null(value: Option<String>) -> String {
    value.unwrap_or_else(|| "null".to_owned())
}

/// The fields of a packet, as JSON.
fn fields(body: &Body<'_>) -> Vec<(&'static str, String)> {
    let digest = |digest: &[u8]| quoted(&hex(digest));
    match body {
        Body::Offer(it) => vec![
            ("type", "1".to_owned()),
            ("cookie", digest(&it.cookie)),
            ("length", or_null(it.length.map(|one| one.to_string()))),
            ("identity", digest(&it.identity)),
            ("digest", or_null(it.digest.map(|one| digest(&one)))),
            ("replaces", it.replaces.to_string()),
            ("name", named(&it.name)),
        ],
        Body::Cookie(cookie) => vec![("type", "2".to_owned()), ("cookie", digest(cookie))],
        Body::Data {
            number,
            offset,
            data,
        } => vec![
            ("type", "3".to_owned()),
            ("number", number.to_string()),
            ("offset", offset.to_string()),
            ("data", digest(data)),
        ],
        Body::Ack(it) => vec![
            ("type", "4".to_owned()),
            ("limit", it.limit.to_string()),
            ("in_flight_bytes", it.in_flight_bytes.to_string()),
            ("prefix", it.prefix.to_string()),
            ("delay_us", it.delay_us.to_string()),
            ("ranges", {
                let ranges = it.ranges.iter();
                let ranges: Vec<_> = ranges.map(|(a, b)| format!("[{a}, {b}]")).collect();
                format!("[{}]", ranges.join(", "))
            }),
        ],
        Body::End {
            number,
            length,
            digest: it,
        } => vec![
            ("type", "5".to_owned()),
            ("number", number.to_string()),
            ("length", length.to_string()),
            ("digest", digest(it)),
        ],
        Body::Done { was_there } => vec![
            ("type", "6".to_owned()),
            ("was_there", was_there.to_string()),
        ],
        Body::Abort { reason, text } => vec![
            ("type", "7".to_owned()),
            ("reason", or_null(reason.map(|one| (one as u8).to_string()))),
            ("text", quoted(text)),
        ],
        Body::Pull(it) => vec![
            ("type", "8".to_owned()),
            ("cookie", digest(&it.cookie)),
            ("is_echo", it.is_echo.to_string()),
            ("name", named(&it.name)),
        ],
        Body::Probe { number } => vec![("type", "9".to_owned()), ("number", number.to_string())],
    }
}

const ID: u64 = 0x0123_4567_89ab_cdef;

fn encoded(body: &Body<'_>) -> Vec<u8> {
    let mut packet = Vec::new();
    wire::encode(&mut packet, ID, body);
    packet
}

#[test]
fn the_bytes_of_each_packet_are_those_of_the_vectors() {
    let packets = packets().into_iter().map(|(what, body)| {
        let mut entry = format!("  {{\n    \"what\": {},\n", quoted(what));
        let _ = writeln!(entry, "    \"id\": {},", quoted(&format!("{ID:016x}")));
        for (field, value) in fields(&body) {
            let _ = writeln!(entry, "    {}: {value},", quoted(field));
        }
        let _ = write!(
            entry,
            "    \"hex\": {}\n  }}",
            quoted(&hex(&encoded(&body)))
        );
        entry
    });
    let text = format!("[\n{}\n]\n", packets.collect::<Vec<_>>().join(",\n"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/transfer.json");
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(text == kept, "the vectors would be:\n{text}");
}

#[test]
fn each_packet_says_what_it_said_and_nothing_with_a_bit_flipped() {
    for (what, body) in packets() {
        let mut packet = encoded(&body);
        assert_eq!(wire::decode(&packet), Ok((ID, body)), "{what}");
        for bit in 0..8 * packet.len() {
            packet[bit / 8] ^= 1 << (bit % 8);
            assert!(wire::decode(&packet).is_err(), "{what}: bit {bit}");
            packet[bit / 8] ^= 1 << (bit % 8);
        }
        for length in 0..packet.len() {
            assert!(wire::decode(&packet[..length]).is_err(), "{what}: {length}");
        }
    }
}

fn names() -> impl Strategy<Value = Name> {
    vec("[a-zé. -]{1,40}", 0..16).prop_map(|components| Name::new(components).unwrap_or_default())
}

/// Ranges as they are acknowledged: the newest first, with gaps between.
fn ranges() -> impl Strategy<Value = Vec<(u64, u64)>> {
    vec((2u64..1 << 31, 1u64..1 << 31), 0..wire::MAX_RANGES).prop_map(|steps| {
        let mut next = u64::MAX - 7;
        let range = |(gap, length): (u64, u64)| {
            let last = next - gap;
            next = last - (length - 1);
            (next, last)
        };
        steps.into_iter().map(range).collect()
    })
}

proptest! {
    #[test]
    fn offers(
        cookie: [u8; 16], length in option::of(0..u64::MAX), identity: [u8; 16],
        digest: Option<[u8; 32]>, replaces: bool, name in names(),
    ) {
        let body = Body::Offer(OfferBody { cookie, length, identity, digest, replaces, name });
        let packet = encoded(&body);
        prop_assert_eq!(wire::decode(&packet), Ok((ID, body)));
    }

    #[test]
    fn acknowledgements(
        limit: u64, in_flight_bytes: u32, prefix: u64, delay_us: u32, ranges in ranges(),
    ) {
        let body = Body::Ack(AckBody { limit, in_flight_bytes, prefix, delay_us, ranges });
        let packet = encoded(&body);
        prop_assert!(packet.len() <= 512);
        prop_assert_eq!(wire::decode(&packet), Ok((ID, body)));
    }

    #[test]
    fn bytes_and_texts(number: u64, offset in 0..1u64 << 62, data in vec(any::<u8>(), 1..2_000), text: String) {
        let body = Body::Data { number, offset, data: &data };
        let packet = encoded(&body);
        prop_assert_eq!(wire::decode(&packet), Ok((ID, body)));
        let mut packet = vec![0; wire::DATA_HEADER_BYTES];
        packet.extend(&data);
        wire::seal_data(&mut packet, ID, number, offset);
        prop_assert_eq!(packet, encoded(&Body::Data { number, offset, data: &data }));
        // A text is cut at its longest.
        let packet = encoded(&Body::Abort { reason: None, text: &text });
        let Ok((ID, Body::Abort { text: cut, .. })) = wire::decode(&packet) else {
            panic!("an abort is an abort");
        };
        prop_assert!(text.starts_with(cut) && (cut == text || cut.len() > wire::MAX_TEXT_BYTES - 4));
    }

    #[test]
    fn any_bytes_are_a_packet_or_not(bytes in vec(any::<u8>(), 0..300)) {
        let _ = wire::decode(&bytes);
        let mut like = b"rE\x01".to_vec();
        like.extend(bytes);
        let _ = wire::decode(&like);
    }
}

#[test]
fn an_offer_of_the_longest_name_fits_into_what_every_path_takes() {
    let component = |length: usize| "x".repeat(length);
    let longest = Name::new(vec![
        component(255),
        component(255),
        component(255),
        component(255),
        component(4),
    ]);
    let longest = longest.expect("1,024 bytes");
    let too_long = vec![component(255); 5];
    assert_eq!(Name::new(too_long), None);
    let body = Body::Offer(OfferBody {
        cookie: [1; 16],
        length: None,
        identity: [1; 16],
        digest: Some([1; 32]),
        replaces: true,
        name: longest,
    });
    let mut packet = Vec::new();
    wire::encode(&mut packet, 1, &body);
    assert!(packet.len() <= 1_200, "{}", packet.len());
}
