//! Shapers: each toxic's effect in time, and any toxics with any stream.

use proptest::prelude::*;

use super::grammar_tests::any_toxics;
use super::*;

const MS: u64 = 1_000_000;

fn shaper(text: &str) -> Shaper {
    Shaper::new(&text.parse().unwrap(), Direction::Out, 0)
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Wrote(u64, Vec<u8>),
    Did(u64, Action),
}

use Seen::{Did, Wrote};

/// What a shaper does from now on, asked whenever it says so: when, and in which writes.
fn watch(shaper: &mut Shaper, from_ns: u64) -> Vec<Seen> {
    let mut now_ns = from_ns;
    let mut seen = Vec::new();
    loop {
        loop {
            let data = shaper.ready(now_ns).to_vec();
            if data.is_empty() {
                break;
            }
            shaper.consume(data.len());
            seen.push(Wrote(now_ns, data));
        }
        seen.extend(shaper.action(now_ns).map(|action| Did(now_ns, action)));
        match shaper.next_due_ns() {
            Some(due_ns) => now_ns = due_ns,
            None => return seen,
        }
    }
}

#[test]
fn without_toxics_everything_goes_at_once() {
    let mut shaper = shaper("");
    assert!(shaper.is_noop() && shaper.room() == 65_536);
    shaper.push(5, b"abc");
    shaper.push(6, b"d");
    assert_eq!(shaper.held_bytes(), 4);
    shaper.end(7);
    assert_eq!(
        watch(&mut shaper, 7),
        [Wrote(7, b"abcd".to_vec()), Did(7, Action::Finish)]
    );
    assert_eq!(shaper.action(8), None);
}

#[test]
fn latency_holds_data_and_keeps_its_order() {
    let mut held = shaper("latency 100");
    held.push(0, b"a");
    held.push(30 * MS, b"b");
    assert!(held.ready(99 * MS).is_empty());
    assert_eq!(held.next_due_ns(), Some(100 * MS));
    held.end(40 * MS);
    assert_eq!(
        watch(&mut held, 100 * MS),
        [
            Wrote(100 * MS, b"a".to_vec()),
            Wrote(130 * MS, b"b".to_vec()),
            Did(130 * MS, Action::Finish),
        ]
    );
    // Two add up.
    let mut twice = shaper("latency 100, latency 50");
    twice.push(0, b"a");
    assert_eq!(watch(&mut twice, 0), [Wrote(150 * MS, b"a".to_vec())]);
}

#[test]
fn jitter_strays_evenly_to_both_sides() {
    let (mut least, mut most) = (u64::MAX, 0);
    for connection in 0..500 {
        let toxics = "latency 100 20".parse().unwrap();
        let mut shaper = Shaper::new(&toxics, Direction::Out, connection);
        shaper.push(0, b"a");
        let due_ns = shaper.next_due_ns().unwrap();
        (least, most) = (least.min(due_ns), most.max(due_ns));
    }
    assert!((80 * MS..82 * MS).contains(&least) && (118 * MS..120 * MS).contains(&most));
}

#[test]
fn bandwidth_lets_through_no_more_than_its_rate() {
    // 1 KB/s: a millisecond a byte, 100 bytes at once.
    let mut slow = shaper("bandwidth rate=1");
    slow.push(0, &[7; 250]);
    assert_eq!(
        watch(&mut slow, 0),
        [
            Wrote(100 * MS, vec![7; 100]),
            Wrote(200 * MS, vec![7; 100]),
            Wrote(250 * MS, vec![7; 50]),
        ]
    );
    // An idle line saves nothing up.
    slow.push(1000 * MS, &[7; 10]);
    assert_eq!(watch(&mut slow, 1000 * MS), [Wrote(1010 * MS, vec![7; 10])]);
    // The slower of two, below one byte in the 100 ms.
    let mut slowest = shaper("bandwidth 1, rate 8bit");
    slowest.push(0, b"ab");
    let second = 1000 * MS;
    let wanted = [
        Wrote(second, b"a".to_vec()),
        Wrote(2 * second, b"b".to_vec()),
    ];
    assert_eq!(watch(&mut slowest, 0), wanted);
}

#[test]
fn a_slow_stream_pushes_back() {
    let mut slow = shaper("bandwidth rate=1");
    slow.push(0, &vec![7; 65_536]);
    assert_eq!((slow.room(), slow.held_bytes()), (0, 65_536));
    let count = slow.ready(300 * MS).len();
    assert_eq!(count, 300);
    // What nobody took is still held.
    assert_eq!(slow.room(), 0);
    slow.consume(120);
    assert_eq!((slow.room(), slow.ready(300 * MS).len()), (120, 180));
}

#[test]
fn many_small_pieces_are_bounded_too() {
    let mut shaper = shaper("latency 1000");
    for at in 0..65_536u64 {
        shaper.push(at, b"x");
    }
    assert_eq!((shaper.room(), shaper.held_bytes()), (0, 65_536));
    let wrote = watch(&mut shaper, 0);
    assert!((1..=4096).contains(&wrote.len()), "{}", wrote.len());
    let late = 1000 * MS + 65_535;
    assert!(matches!(wrote.last(), Some(Wrote(at, _)) if *at == late));
}

#[test]
fn slow_close_holds_the_end_back() {
    let mut shaper = shaper("slow_close 500, latency 100");
    shaper.push(0, b"a");
    shaper.end(1);
    assert_eq!(
        watch(&mut shaper, 1),
        [
            Wrote(100 * MS, b"a".to_vec()),
            Did(600 * MS, Action::Finish)
        ]
    );
}

#[test]
fn timeout_drops_data_and_closes() {
    let mut closing = shaper("timeout 50");
    // Asked before it has been told the time, it asks to be told.
    assert_eq!(closing.action(3), None);
    closing.push(10 * MS, b"abc");
    assert_eq!((closing.held_bytes(), closing.room()), (0, 65_536));
    assert_eq!(
        watch(&mut closing, 10 * MS),
        [Did(50 * MS + 3, Action::Close)]
    );
    assert!(closing.ready(100 * MS).is_empty() && closing.action(100 * MS).is_none());

    let mut staying = shaper("timeout timeout=0");
    staying.push(0, b"abc");
    assert_eq!(watch(&mut staying, 0), []);
    assert!(staying.ready(u64::MAX).is_empty());
    // Until the peer ends it.
    staying.end(9);
    assert_eq!(staying.action(u64::MAX), Some(Action::Finish));
}

#[test]
fn reset_peer_resets_after_the_first_data() {
    let mut shaper = shaper("reset_peer 20");
    assert_eq!((shaper.action(0), shaper.next_due_ns()), (None, None));
    shaper.push(100 * MS, b"abc");
    shaper.end(101 * MS);
    assert_eq!(watch(&mut shaper, 101 * MS), [Did(120 * MS, Action::Reset)]);
    let mut at_once = self::shaper("reset_peer");
    at_once.push(7, b"a");
    assert_eq!(at_once.action(7), Some(Action::Reset));
}

#[test]
fn slicer_writes_slice_by_slice() {
    let mut even = shaper("slicer average_size=4 delay=10");
    even.push(0, b"abcdefghij");
    assert_eq!(
        watch(&mut even, 0),
        [
            Wrote(0, b"abcd".to_vec()),
            Wrote(10_000, b"efgh".to_vec()),
            Wrote(20_000, b"ij".to_vec()),
        ]
    );
    // A slice that the kernel takes in two is one slice.
    even.push(MS, b"abcdefgh");
    assert_eq!(even.ready(MS), b"abcd");
    even.consume(1);
    assert_eq!(even.ready(MS), b"bcd");
    even.consume(3);
    assert!(even.ready(MS).is_empty());
    assert_eq!(even.next_due_ns(), Some(MS + 10_000));

    let mut uneven = shaper("slicer average_size=64 size_variation=32");
    uneven.push(0, &vec![7; 65_536]);
    let sizes: Vec<usize> = watch(&mut uneven, 0)
        .iter()
        .map(|seen| match seen {
            Wrote(0, data) => data.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    let (_, whole) = sizes.split_last().unwrap();
    assert!(whole.iter().all(|size| (32..=96).contains(size)));
    for size in 32..=96 {
        assert!(whole.contains(&size), "{size}");
    }
}

#[test]
fn limit_data_closes_after_so_many_bytes() {
    let mut limited = shaper("limit_data bytes=4, latency 10");
    limited.push(0, b"ab");
    limited.push(0, b"cdef");
    assert_eq!(limited.held_bytes(), 4);
    assert_eq!(
        watch(&mut limited, 0),
        [
            Wrote(10 * MS, b"abcd".to_vec()),
            Did(10 * MS, Action::Close)
        ]
    );
    let mut none = shaper("limit_data 0");
    assert_eq!((none.action(0), none.next_due_ns()), (None, None));
    none.push(5, b"a");
    assert_eq!(watch(&mut none, 5), [Did(5, Action::Close)]);
    // An end before the limit is an end.
    let mut short = shaper("limit_data 4");
    short.push(0, b"a");
    short.end(1);
    assert_eq!(
        watch(&mut short, 1),
        [Wrote(1, b"a".to_vec()), Did(1, Action::Finish)]
    );
}

#[test]
fn half_close_ends_one_direction() {
    let mut half = shaper("half_close bytes=2");
    half.push(0, b"abc");
    assert_eq!(
        watch(&mut half, 0),
        [Wrote(0, b"ab".to_vec()), Did(0, Action::Finish)]
    );
    // What comes after goes nowhere, and the end is no second one.
    half.push(5, b"d");
    half.end(6);
    assert_eq!((half.room(), watch(&mut half, 6)), (65_536, vec![]));
    // From the beginning.
    let mut none = shaper("half_close");
    assert_eq!(none.next_due_ns(), Some(0));
    assert_eq!(none.action(9), Some(Action::Finish));
}

#[test]
fn toxicity_is_the_share_of_connections() {
    let toxics: Toxics = "latency 5 toxicity=0.25 seed 1".parse().unwrap();
    let is_hit = |connection| !Shaper::new(&toxics, Direction::Out, connection).is_noop();
    let count = (0..10_000).filter(|connection| is_hit(*connection)).count();
    // Four standard errors are 173.
    assert!((2327..=2673).contains(&count), "{count}");
    assert_eq!(is_hit(3), is_hit(3));
    assert!(shaper("refuse, accept_hang, latency 0, latency 5 toxicity=0").is_noop());
}

fn any_pieces() -> impl Strategy<Value = Vec<(u64, usize)>> {
    let gap = prop_oneof![Just(0), 0..200 * MS];
    let bytes = prop_oneof![1..20usize, 1..3000usize, Just(70_000usize)];
    prop::collection::vec((gap, bytes), 0..12)
}

/// Toxics whose stream is over in a test's time: no rate of a byte a second.
fn any_quick_toxics() -> impl Strategy<Value = Toxics> {
    any_toxics().prop_map(|mut toxics| {
        for toxic in &mut toxics.list {
            if let Effect::Bandwidth { bytes_per_second } = &mut toxic.effect {
                *bytes_per_second = (*bytes_per_second % 1_000_000).max(1000);
            }
        }
        toxics
    })
}

proptest! {
    #[test]
    fn what_goes_out_is_what_came_in(
        toxics in any_quick_toxics(),
        pieces in any_pieces(),
        taken in prop_oneof![1..100usize, Just(usize::MAX)],
    ) {
        laws::hold_for_stream(&toxics, &pieces, taken);
    }
}
