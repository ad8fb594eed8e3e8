//! Senders and receivers in simulated time.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::event::Event;
use super::laws::{Shared, address};
use super::receiving::PlainReceiving;
use super::sending::{PlainSending, Sent};
use super::settings::{ReceiveSettings, SendSettings};
use crate::datagram::{RawAddress, Transmit};
use crate::proto::simulated::{Delivery, Network};
use crate::proto::{Batch, Outbox, Progress, Protocol};
use crate::transfer::failure::{Failure, Reason};
use crate::transfer::store::{Name, Source};

const MILLISECOND_NS: u64 = 1_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// One that can be looked at while it lives on a network.
struct Seen<P>(Arc<Mutex<P>>);

impl<P> Seen<P> {
    fn of(protocol: P) -> (Self, Arc<Mutex<P>>) {
        let seen = Arc::new(Mutex::new(protocol));
        (Self(Arc::clone(&seen)), seen)
    }
}

impl<P: Protocol> Protocol for Seen<P> {
    fn on_batch(&mut self, now_ns: u64, batch: &Batch<'_>, out: &mut Outbox) -> Progress {
        self.0.lock().unwrap().on_batch(now_ns, batch, out)
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.0.lock().unwrap().deadline_ns()
    }

    fn on_time(&mut self, now_ns: u64, out: &mut Outbox) -> Progress {
        self.0.lock().unwrap().on_time(now_ns, out)
    }
}

/// Bytes, of which some are not there yet, or no longer.
struct Bytes {
    data: Vec<u8>,
    length: Option<u64>,
    would_block: u32,
}

fn bytes(data: &[u8]) -> Box<Bytes> {
    Box::new(Bytes {
        data: data.to_vec(),
        length: Some(data.len() as u64),
        would_block: 0,
    })
}

impl Source for Bytes {
    fn length(&self) -> Option<u64> {
        self.length
    }

    fn read(&mut self, offset: u64, room: &mut [u8]) -> io::Result<usize> {
        if offset >= 4096 && self.would_block > 0 {
            self.would_block -= 1;
            return Err(ErrorKind::WouldBlock.into());
        }
        let rest = self.data.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(room.len());
        room[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// Bytes that repeat late.
fn message(length: usize) -> Vec<u8> {
    let byte = |place: usize| (place.wrapping_mul(2_654_435_761) >> 13) as u8;
    (0..length).map(byte).collect()
}

fn to(peer: SocketAddr) -> Transmit {
    Transmit::to(RawAddress::from(peer))
}

const SENDER: u8 = 1;
const RECEIVER: u8 = 2;

fn sending(settings: &SendSettings, data: &[u8]) -> PlainSending {
    PlainSending::new(settings, to(address(RECEIVER)), bytes(data)).unwrap()
}

/// What a sender sends, and when, with what became of it.
fn sent(sending: PlainSending) -> (Vec<Delivery>, Option<Result<Sent, Failure>>) {
    let mut network = Network::new(0);
    let (node, seen) = Seen::of(sending);
    network.add(address(SENDER), Box::new(node));
    let deliveries = network.run_until(1000 * SECOND_NS);
    let outcome = seen.lock().unwrap().outcome().cloned();
    (deliveries, outcome)
}

#[test]
fn a_message_goes_from_a_sender_to_a_receiver() {
    for (length, chunk_bytes) in [
        (1, 1024),
        (1024, 1024),
        (1025, 1024),
        (99, 1),
        (3 << 20, 1024),
        (200_000, 65_503),
    ] {
        let data = message(length);
        let settings = SendSettings {
            chunk_bytes,
            ..SendSettings::default()
        };
        let kept = Shared::default();
        let receiving = PlainReceiving::new(ReceiveSettings::default(), Arc::new(kept.clone()));
        let (receiver, received) = Seen::of(receiving.unwrap());
        let (sender, sent) = Seen::of(sending(&settings, &data));
        let mut network = Network::new(5 * MILLISECOND_NS);
        network.add(address(RECEIVER), Box::new(receiver));
        network.add(address(SENDER), Box::new(sender));
        assert!(network.run_until(2 * SECOND_NS).is_empty());
        let sent = sent.lock().unwrap();
        let chunks = length.div_ceil(chunk_bytes) as u32;
        let wanted = Sent {
            length: length as u64,
            chunks,
        };
        assert_eq!(
            (sent.outcome(), sent.sent_bytes()),
            (Some(&Ok(wanted)), length as u64)
        );
        let events = received.lock().unwrap().take_events();
        let [Event::Whole(whole)] = &events[..] else {
            panic!("{events:?}");
        };
        assert_eq!((whole.peer, whole.chunks), (address(SENDER), chunks));
        let (digest, came) = kept.take(&Name::none());
        assert!(came == data && digest == *blake3::hash(&data).as_bytes());
    }
}

#[test]
fn the_count_goes_first_and_the_rest_at_its_pace() {
    let data = message(1 << 20);
    let (went, outcome) = sent(sending(&SendSettings::default(), &data));
    let wanted = Sent {
        length: 1 << 20,
        chunks: 1024,
    };
    assert_eq!(outcome, Some(Ok(wanted)));
    let told = "sent 1048576 bytes in 1024 chunks; nothing tells whether they arrived";
    assert_eq!(wanted.to_string(), told);
    assert_eq!(
        (went[0].time_ns, went[0].data.as_slice()),
        (0, &[0, 0, 4, 0][..])
    );
    for (index, (one, chunk)) in went[1..].iter().zip(data.chunks(1024)).enumerate() {
        assert!(one.time_ns >= MILLISECOND_NS);
        assert_eq!(
            one.data,
            [&(index as u32).to_be_bytes()[..], chunk].concat()
        );
    }
    assert_eq!(went.len(), 1025);
    // 8 MiB a second, and no more than 16 KiB at once.
    let bytes = |from: u64, to: u64| {
        let those = went.iter().filter(|one| (from..=to).contains(&one.time_ns));
        those.map(|one| one.data.len() as u64).sum::<u64>()
    };
    for one in &went {
        assert!(bytes(one.time_ns, one.time_ns) <= 16 << 10);
        let ten_ms = 10 * MILLISECOND_NS;
        assert!(bytes(one.time_ns, one.time_ns + ten_ms) <= (16 << 10) + (8 << 20) / 100 + 1);
    }
    let end_ns = went.last().unwrap().time_ns;
    assert!(
        (120 * MILLISECOND_NS..126 * MILLISECOND_NS).contains(&end_ns),
        "{end_ns}"
    );
}

#[test]
fn what_is_slow_goes_chunk_by_chunk() {
    let settings = SendSettings {
        bytes_per_second: 1028,
        ..SendSettings::default()
    };
    let (went, _) = sent(sending(&settings, &message(20 * 1024)));
    // A burst at first; the others are a second apart.
    let gaps = went[16..]
        .windows(2)
        .map(|pair| pair[1].time_ns - pair[0].time_ns);
    assert!(
        gaps.clone().all(|gap_ns| gap_ns == SECOND_NS),
        "{:?}",
        gaps.collect::<Vec<_>>()
    );
}

#[test]
fn what_cannot_be_sent_is_refused_with_the_way_out() {
    let refused = |length, settings: SendSettings| {
        let source = Bytes {
            data: vec![],
            length,
            would_block: 0,
        };
        let sending = PlainSending::new(&settings, to(address(RECEIVER)), Box::new(source));
        let failure = sending.err().expect("it is refused");
        assert!(
            !failure.text.contains('\n') && failure.text.contains("; "),
            "{failure}"
        );
        failure.reason
    };
    let settings = SendSettings::default();
    assert_eq!(refused(None, settings), Reason::Refused);
    assert_eq!(refused(Some(0), settings), Reason::Refused);
    assert_eq!(refused(Some(u64::MAX), settings), Reason::TooLarge);
    assert_eq!(
        refused(Some(u64::from(u32::MAX) * 1024 + 1), settings),
        Reason::TooLarge
    );
    let most = Bytes {
        data: vec![],
        length: Some(u64::from(u32::MAX) * 1024),
        would_block: 0,
    };
    assert!(PlainSending::new(&settings, to(address(RECEIVER)), Box::new(most)).is_ok());
}

#[test]
fn a_source_that_was_cut_fails_and_one_that_waits_is_waited_for() {
    let mut source = bytes(&message(10_000));
    source.length = Some(20_000);
    let sending = PlainSending::new(&SendSettings::default(), to(address(RECEIVER)), source);
    let (_, outcome) = sent(sending.unwrap());
    let failure = outcome.unwrap().unwrap_err();
    assert_eq!(failure.reason, Reason::Io);
    assert!(failure.text.contains("byte 10000 of 20000"), "{failure}");

    let data = message(10_000);
    let mut source = bytes(&data);
    source.would_block = 3;
    let sending = PlainSending::new(&SendSettings::default(), to(address(RECEIVER)), source);
    let (went, outcome) = sent(sending.unwrap());
    assert!(matches!(outcome, Some(Ok(_))));
    let chunks = went[1..].iter().flat_map(|one| one.data[4..].to_vec());
    assert!(chunks.eq(data));
    assert!(went.last().unwrap().time_ns >= 30 * MILLISECOND_NS);
}

#[test]
fn messages_go_back_one_after_another() {
    let settings = ReceiveSettings {
        echo_bytes_per_second: Some(1 << 20),
        gives_names: true,
        ..ReceiveSettings::default()
    };
    let receiving = PlainReceiving::new(settings, Arc::new(Shared::default())).unwrap();
    let (node, seen) = Seen::of(receiving);
    let mut network = Network::new(MILLISECOND_NS);
    network.add(address(RECEIVER), Box::new(node));
    // Of two peers, three messages each at once, in chunks of 500.
    let mut wanted = [Vec::new(), Vec::new()];
    for peer in [3_u8, 4] {
        for length in [100_000, 50_001, 20_000] {
            let data = message(length + usize::from(peer));
            let mut datagrams = vec![(data.len().div_ceil(500) as u32).to_be_bytes().to_vec()];
            let chunks = data.chunks(500).zip(0_u32..);
            datagrams
                .extend(chunks.map(|(chunk, index)| [&index.to_be_bytes()[..], chunk].concat()));
            for datagram in &datagrams {
                network.send(address(peer), address(RECEIVER), datagram);
            }
            wanted[usize::from(peer - 3)].extend(datagrams);
        }
    }
    let back = network.run_until(10 * SECOND_NS);
    for (peer, wanted) in [3_u8, 4].into_iter().zip(wanted) {
        let of_peer = back.iter().filter(|one| one.to == address(peer));
        assert!(of_peer.map(|one| &one.data).eq(&wanted));
    }
    // Both peers at once, each at the pace, but for a burst at first.
    let end_ns = back.last().unwrap().time_ns;
    assert!(
        (150 * MILLISECOND_NS..160 * MILLISECOND_NS).contains(&end_ns),
        "{end_ns}"
    );
    let receiving = seen.lock().unwrap();
    assert_eq!((receiving.held_bytes(), receiving.open_messages()), (0, 0));
    assert!(
        receiving
            .counters()
            .any(|one| one == ("echoed_messages", 6))
    );
}

#[test]
fn what_is_lost_is_told_by_its_ranges() {
    // Every seventh datagram is.
    let data = message(20 * 1024);
    let (went, _) = sent(sending(&SendSettings::default(), &data));
    let kept = Shared::default();
    let receiving = PlainReceiving::new(ReceiveSettings::default(), Arc::new(kept)).unwrap();
    let (node, seen) = Seen::of(receiving);
    let mut network = Network::new(0);
    network.add(address(RECEIVER), Box::new(node));
    for (place, one) in went.iter().enumerate() {
        if place % 7 != 6 {
            network.send(one.from, one.to, &one.data);
        }
    }
    network.run_until(10 * SECOND_NS);
    let events = seen.lock().unwrap().take_events();
    let [Event::Lost(lost)] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(lost.missing.to_string(), "5, 12, 19 of 20");
    assert_eq!(lost.failure().reason, Reason::TimedOut);
}
