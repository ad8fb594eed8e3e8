//! Faults 34 to 37 of the fault table, for the tutorial's format.

use std::sync::Arc;

use super::chunks::CHUNK_COST_BYTES;
use super::event::{Event, Lost, Whole, Why};
use super::laws::{Shared, address, copied};
use super::receiving::PlainReceiving;
use super::settings::ReceiveSettings;
use super::table::MESSAGE_COST_BYTES;
use crate::datagram::{Batch, Outbox};
use crate::guard::Policy;
use crate::proto::{Progress, Protocol};
use crate::transfer::failure::Reason;
use crate::transfer::store::Name;
use std::net::SocketAddr;

const SECOND_NS: u64 = 1_000_000_000;

fn count(count: u32) -> Vec<u8> {
    count.to_be_bytes().into()
}

fn chunk(index: u32, data: &[u8]) -> Vec<u8> {
    [&index.to_be_bytes()[..], data].concat()
}

/// A receiver, and where it puts what came.
struct Receiver {
    receiving: PlainReceiving,
    kept: Shared,
    out: Outbox,
}

impl Receiver {
    fn new(settings: ReceiveSettings) -> Self {
        let kept = Shared::default();
        Self {
            receiving: PlainReceiving::new(settings, Arc::new(kept.clone())).unwrap(),
            kept,
            out: Outbox::new(Policy::default()),
        }
    }

    fn come(&mut self, now_ns: u64, peer: SocketAddr, datagrams: &[Vec<u8>]) {
        let copies: Vec<_> = datagrams.iter().map(|one| copied(peer, one)).collect();
        let batch = Batch::of_copies(&copies);
        let progress = self.receiving.on_batch(now_ns, &batch, &mut self.out);
        assert_eq!(progress, Progress::Done);
    }

    fn counted(&self, name: &str) -> u64 {
        let mut counters = self.receiving.counters();
        counters.find(|(one, _)| *one == name).unwrap().1
    }

    /// What is told of the only message, at this time.
    fn event(&mut self, now_ns: u64) -> Option<Event> {
        let _ = self.receiving.on_time(now_ns, &mut self.out);
        let events = self.receiving.take_events();
        assert!(events.len() < 2, "{events:?}");
        events.into_iter().next()
    }

    /// The only message is whole.
    fn whole(&mut self) -> (Whole, Vec<u8>) {
        match self.event(0) {
            Some(Event::Whole(whole)) => {
                let data = self.kept.take(&whole.name).1;
                (whole, data)
            }
            other => panic!("{other:?}"),
        }
    }

    /// The only message is lost once its time is over, and not before.
    fn lost(&mut self) -> Lost {
        assert_eq!(self.event(10 * SECOND_NS - 1), None);
        match self.event(10 * SECOND_NS) {
            Some(Event::Lost(lost)) => lost,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn f34_what_is_wrong_is_refused_and_counted_and_the_message_goes_on() {
    // What comes in the midst of a message of three chunks, and what it counts as.
    for (wrong, counter) in [
        (count(0), "malformed_packets"),
        (count(2), "changed_counts"),
        (count(4), "changed_counts"),
        (count(u32::MAX), "changed_counts"),
        (chunk(3, b"dd"), "malformed_packets"),
        (chunk(u32::MAX, b"dd"), "malformed_packets"),
        (chunk(1, b"b"), "malformed_packets"),
        (chunk(1, b"bbb"), "malformed_packets"),
        (chunk(2, b"ccc"), "malformed_packets"),
        (vec![], "malformed_packets"),
        (vec![0, 0, 3], "malformed_packets"),
    ] {
        let mut receiver = Receiver::new(ReceiveSettings::default());
        let (peer, right) = (
            address(1),
            [chunk(0, b"aa"), chunk(1, b"bb"), chunk(2, b"c")],
        );
        receiver.come(0, peer, &[count(3), right[0].clone()]);
        let held = receiver.receiving.held_bytes();
        receiver.come(0, peer, std::slice::from_ref(&wrong));
        assert_eq!(receiver.counted(counter), 1, "{wrong:?}");
        assert_eq!(receiver.receiving.held_bytes(), held);
        receiver.come(0, peer, &right[1..]);
        let (whole, data) = receiver.whole();
        assert_eq!(data, b"aabbc", "{wrong:?}");
        assert_eq!(
            whole.disputed_packets,
            u64::from(counter == "changed_counts")
        );
    }
}

#[test]
fn f34_counts_that_begin_nothing() {
    let mut receiver = Receiver::new(ReceiveSettings::default());
    let too_many = (16 << 20) + 1;
    receiver.come(0, address(1), &[count(0), count(u32::MAX), count(too_many)]);
    assert_eq!(receiver.counted("malformed_packets"), 1);
    assert_eq!(receiver.counted("refused_packets"), 2);
    assert_eq!(receiver.receiving.open_messages(), 0);
    assert_eq!(receiver.receiving.held_bytes(), 0);
}

#[test]
fn f34_memory_is_for_bytes_that_came() {
    let mut receiver = Receiver::new(ReceiveSettings::default());
    let peer = address(1);
    receiver.come(0, peer, &[count(16 << 20), chunk((16 << 20) - 1, b"x")]);
    assert_eq!(
        receiver.receiving.held_bytes(),
        MESSAGE_COST_BYTES + CHUNK_COST_BYTES + 1
    );
    // A chunk of two bytes says that the message is longer than one may be.
    receiver.come(0, peer, &[chunk(0, b"xx")]);
    assert_eq!(receiver.counted("refused_packets"), 1);
    let lost = receiver.lost();
    assert_eq!(lost.failure().reason, Reason::TooLarge);
    assert_eq!(lost.missing.to_string(), "0-16777214 of 16777216");
    assert_eq!(receiver.receiving.held_bytes(), 0);
}

#[test]
fn f34_memory_of_all_together_has_a_limit() {
    let mut receiver = Receiver::new(ReceiveSettings {
        max_total_bytes: 1 << 20,
        gives_names: true,
        ..ReceiveSettings::default()
    });
    // Together they need nearly four times that, and any one a half. All go on all the time, so
    // those that there is no room for are given up, and the others are whole.
    let mut most = 0;
    for index in 0..=5_000 {
        for peer in 0..8 {
            let data = match index {
                0 => count(5_000),
                index => chunk(index - 1, &[peer; 20]),
            };
            receiver.come(u64::from(index), address(peer), &[data]);
            most = most.max(receiver.receiving.held_bytes());
        }
    }
    assert!(((1 << 20) - 200..=1 << 20).contains(&most), "{most}");
    let whole = receiver.counted("whole_messages");
    assert!(whole >= 1, "{whole}");
    assert_eq!(receiver.counted("lost_messages"), 8 - whole);
    for event in receiver.receiving.take_events() {
        if let Event::Lost(lost) = event {
            assert!(matches!(lost.why, Why::NoRoom | Why::Displaced));
            assert_eq!(lost.failure().reason, Reason::TooMany);
        }
    }
    assert_eq!(receiver.receiving.held_bytes(), 0);
}

#[test]
fn f34_a_source_has_so_many_open_and_others_are_not_concerned() {
    let mut receiver = Receiver::new(ReceiveSettings::default());
    for port in 0..9 {
        receiver.come(0, address(port), &[count(2)]);
    }
    assert_eq!(receiver.receiving.open_messages(), 8);
    assert_eq!(receiver.counted("refused_packets"), 1);
    for (peer, is_opened) in [
        ("192.0.2.2:9", true),
        ("[2001:db8::1]:9", true),
        ("[2001:db8::1]:10", true),
    ] {
        let before = receiver.counted("opened_messages");
        receiver.come(0, peer.parse().unwrap(), &[count(2)]);
        assert_eq!(receiver.counted("opened_messages") > before, is_opened);
    }
    // One that is whole makes room.
    receiver.come(0, address(3), &[chunk(0, b"a"), chunk(1, b"b")]);
    receiver.come(0, address(9), &[count(2)]);
    assert_eq!(receiver.counted("refused_packets"), 1);
    let of_a_network = |number: u16| format!("[2001:db8::{number}:{number}]:9").parse().unwrap();
    (1..9).for_each(|number| receiver.come(0, of_a_network(number), &[count(2)]));
    assert_eq!(
        receiver.counted("refused_packets"),
        3,
        "two were there before"
    );
}

#[test]
fn f35_every_permutation_of_six_chunks_with_duplicates_and_one_loss() {
    let message = b"aabbccddeef";
    let chunks: Vec<_> = message
        .chunks(2)
        .zip(0..)
        .map(|(data, index)| chunk(index, data))
        .collect();
    let (peer, mut runs) = (address(1), 0);
    for order in permutations(6) {
        for twice in 0..6 {
            for again_at in 0..=6 {
                let mut order = order.clone();
                order.insert(again_at, twice);
                // Beyond the end: nothing is lost.
                for lost_at in 0..=7 {
                    let mut came = order.clone();
                    let lost = (lost_at < 7).then(|| came.remove(lost_at));
                    let mut datagrams = vec![count(6)];
                    datagrams.extend(came.iter().map(|index| chunks[*index].clone()));
                    let mut receiver = Receiver::new(ReceiveSettings::default());
                    receiver.come(0, peer, &datagrams);
                    match lost.filter(|lost| *lost != twice) {
                        None => {
                            // What is kept twice under a name is an error of `Shared`'s.
                            let (whole, data) = receiver.whole();
                            assert_eq!(data, message);
                            assert_eq!((whole.chunks, whole.disputed_packets), (6, 0));
                            assert_eq!(receiver.event(20 * SECOND_NS), None);
                        }
                        Some(lost) => {
                            let told = receiver.lost();
                            assert_eq!(told.missing.to_string(), format!("{lost} of 6"));
                        }
                    }
                    let duplicates = u64::from(lost.is_none_or(|lost| lost != twice));
                    assert_eq!(receiver.counted("duplicate_packets"), duplicates);
                    runs += 1;
                }
            }
        }
    }
    assert_eq!(runs, 720 * 6 * 7 * 8);
}

/// All orders of so many (Heap's algorithm).
fn permutations(count: usize) -> Vec<Vec<usize>> {
    fn heap(size: usize, order: &mut Vec<usize>, all: &mut Vec<Vec<usize>>) {
        if size <= 1 {
            return all.push(order.clone());
        }
        for place in 0..size {
            heap(size - 1, order, all);
            if place + 1 < size {
                order.swap(if size.is_multiple_of(2) { place } else { 0 }, size - 1);
            }
        }
    }
    let mut all = Vec::new();
    heap(count, &mut (0..count).collect(), &mut all);
    let distinct: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), (1..=count).product());
    all
}

#[test]
fn f35_counts_that_come_twice_open_nothing_for_good() {
    let mut receiver = Receiver::new(ReceiveSettings::default());
    let peer = address(1);
    receiver.come(
        0,
        peer,
        &[count(1), count(1), chunk(0, b"a"), chunk(0, b"a")],
    );
    assert_eq!(receiver.whole().1, b"a");
    assert_eq!(receiver.counted("duplicate_packets"), 2);
    // Late, and then the next message.
    receiver.come(
        1,
        peer,
        &[count(1), count(2), chunk(0, b"b"), chunk(1, b"c")],
    );
    assert_eq!(receiver.whole().1, b"bc");
    // Late, and then nothing.
    receiver.come(2, peer, &[count(2)]);
    assert_eq!(receiver.receiving.open_messages(), 1);
    assert_eq!(receiver.event(20 * SECOND_NS), None);
    assert_eq!(receiver.counted("forgotten_messages"), 2);
    assert_eq!(receiver.receiving.open_messages(), 0);
    // The same again, meant so.
    receiver.come(21 * SECOND_NS, peer, &[count(1), chunk(0, b"a")]);
    assert_eq!(receiver.whole().1, b"a");
}

#[test]
fn f35_strangers_chunks_are_ignored() {
    let mut receiver = Receiver::new(ReceiveSettings::default());
    receiver.come(0, address(1), &[count(2), chunk(0, b"a")]);
    receiver.come(0, address(2), &[chunk(1, b"x"), chunk(1, b"y")]);
    receiver.come(0, address(1), &[chunk(1, b"b")]);
    assert_eq!(receiver.whole().1, b"ab");
    assert_eq!(receiver.counted("unknown_packets"), 2);
}

#[test]
fn f36_the_first_of_an_index_wins_and_the_other_is_counted() {
    let mut receiver = Receiver::new(ReceiveSettings::default());
    let other = [chunk(0, b"xx"), chunk(0, b"a"), chunk(0, b"aaa")];
    receiver.come(0, address(1), &[count(2), chunk(0, b"aa")]);
    receiver.come(0, address(1), &other);
    receiver.come(0, address(1), &[chunk(1, b"b")]);
    let (whole, data) = receiver.whole();
    assert_eq!((data.as_slice(), whole.disputed_packets), (&b"aab"[..], 3));
    assert_eq!(receiver.counted("conflicting_packets"), 3);
}

#[test]
fn f37_forged_first_chunks_leave_room_for_an_honest_sender() {
    let settings = ReceiveSettings::default();
    // Counts alone; counts with a chunk each.
    for chunks in [0, 1] {
        let mut receiver = Receiver::new(settings);
        let (honest, message) = (address(1), vec![7; 1000]);
        let mut sent = 0;
        for forged in 0..100_000_u32 {
            // A hundred a millisecond; the honest sender begins among them, and its pace is slow.
            let now_ns = u64::from(forged) * 10_000;
            let peer = SocketAddr::from(((forged + (11 << 24)).to_be_bytes(), 9));
            receiver.come(now_ns, peer, &[count(1000)]);
            if chunks > 0 {
                receiver.come(now_ns, peer, &[chunk(0, &[1; 1024])]);
            }
            if forged >= 20_000 && forged % 50 == 0 && sent <= 1000 {
                let datagram = match sent {
                    0 => count(1000),
                    sent => chunk(sent - 1, &message),
                };
                receiver.come(now_ns, honest, &[datagram]);
                sent += 1;
            }
            assert!(receiver.receiving.held_bytes() <= settings.max_total_bytes);
        }
        assert_eq!(receiver.counted("whole_messages"), 1, "{chunks}");
        let opened = receiver.counted("opened_messages");
        let refused = receiver.counted("refused_packets");
        assert!(chunks > 0 || (opened, refused) == (100_001, 0));
        let (_, data) = receiver.kept.take(&Name::none());
        assert!(data == message.repeat(1000));
    }
}

#[test]
fn whoever_stalls_gives_way_where_memory_is_short() {
    let settings = ReceiveSettings {
        max_total_bytes: 2 * MESSAGE_COST_BYTES + 2976,
        ..ReceiveSettings::default()
    };
    let why = |receiver: &mut Receiver| match &receiver.receiving.take_events()[..] {
        [Event::Lost(lost)] => (lost.peer, lost.why, lost.missing.to_string()),
        other => panic!("{other:?}"),
    };
    let (one, two) = (address(1), address(2));
    let begun = |data: &[u8]| {
        let mut receiver = Receiver::new(settings);
        receiver.come(0, one, &[count(3), chunk(1, data)]);
        receiver
    };

    // To anybody, after a second.
    let mut receiver = begun(&[1; 2000]);
    receiver.come(SECOND_NS, two, &[count(3), chunk(0, &[2; 1000])]);
    assert_eq!(
        why(&mut receiver),
        (one, Why::Displaced, "0, 2 of 3".into())
    );

    // Not before that, to who has brought nothing yet.
    let mut receiver = begun(&[1; 2000]);
    receiver.come(SECOND_NS - 1, two, &[count(3), chunk(0, &[2; 1000])]);
    assert_eq!(why(&mut receiver), (two, Why::NoRoom, "0-2 of 3".into()));

    // To who has brought more; and not to who has brought as much.
    for (brought, wanted) in [
        (1001, (one, Why::Displaced, "0, 2 of 3".into())),
        (1000, (two, Why::NoRoom, "1-2 of 3".into())),
    ] {
        let mut receiver = begun(&[1; 1000]);
        let data = vec![2; brought];
        receiver.come(1, two, &[count(3), chunk(0, &data), chunk(1, &data)]);
        assert_eq!(why(&mut receiver), wanted);
    }
}

#[test]
fn what_came_can_be_kept_with_zeros_between() {
    let settings = ReceiveSettings {
        keep_partial: true,
        gives_names: true,
        ..ReceiveSettings::default()
    };
    let mut receiver = Receiver::new(settings);
    let came = [count(12), chunk(1, b"bb"), chunk(4, b"ee"), chunk(8, b"ii")];
    receiver.come(0, address(1), &came);
    let lost = receiver.lost();
    assert_eq!(lost.missing.to_string(), "0, 2-3, 5-7, 9-11 of 12");
    assert_eq!((lost.came_bytes, lost.why), (6, Why::TimedOut));
    let text = "cannot complete a message from 192.0.2.1:40001: chunks 0, 2-3, 5-7, 9-11 of 12 did \
                not come in time; send it again, or by the protocol that asks for what is missing";
    assert_eq!(lost.to_string(), text);
    let kept = lost.kept.unwrap().unwrap();
    assert_eq!((kept.length, kept.chunk_bytes), (18, Some(2)));
    assert_eq!(kept.name.to_string(), "192.0.2.1-40001-1.partial");
    assert_eq!(
        receiver.kept.take(&kept.name).1,
        b"\0\0bb\0\0\0\0ee\0\0\0\0\0\0ii"
    );

    // Nobody has much written by a large index.
    receiver.come(20 * SECOND_NS, address(1), &[count(1000), chunk(500, b"x")]);
    match receiver.event(30 * SECOND_NS) {
        Some(Event::Lost(lost)) => {
            let failure = lost.kept.unwrap().unwrap_err();
            assert_eq!(failure.reason, Reason::TooLarge);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_open_at_the_end_is_told() {
    let mut receiver = Receiver::new(ReceiveSettings::default());
    receiver.come(0, address(2), &[count(2), chunk(0, b"a")]);
    receiver.come(0, address(1), &[count(1)]);
    receiver.receiving.end();
    let events = receiver.receiving.take_events();
    let told = events.iter().map(|event| match event {
        Event::Lost(lost) => (lost.peer, lost.why, lost.missing.to_string()),
        other => panic!("{other:?}"),
    });
    let wanted = [(address(2), "1 of 2"), (address(1), "0 of 1")];
    assert!(told.eq(wanted.map(|(peer, missing)| (peer, Why::Ended, missing.to_owned()))));
    assert_eq!(receiver.receiving.held_bytes(), 0);
}
