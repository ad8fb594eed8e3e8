//! Faults 36 to 40 of the fault table: bytes that differ, forged first packets, ids that are used
//! twice, and acknowledgements that do not come or are forged.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use proptest::collection::vec;
use proptest::prelude::*;
use rsecho::datagram::Outbox;
use rsecho::transfer::Reason;
use rsecho::transfer::budget::Budget;
use rsecho::transfer::receiver::{Arrival, Incoming, Room, Taken};
use rsecho::transfer::simulated::disk::Disk;
use rsecho::transfer::simulated::trial::Node;
use rsecho::transfer::simulated::{Network, Path, Random, transmit};
use rsecho::transfer::store::{Name, Offer, Opened, Storage};
use rsecho::transfer::wire::{self, AckBody, Body, OfferBody};

use crate::helper::{
    MILLISECOND, SECOND, client_address, message, push, server_address, serving, shared,
};

type Sent = Arc<Mutex<Vec<(u64, SocketAddr, SocketAddr, Vec<u8>)>>>;

/// A server, and clients by their numbers, 5 ms from it; and all that is sent.
fn network(disk: &Disk, clients: u16) -> (Network<Node>, Sent) {
    let mut network = Network::new(Random::new(3));
    let path = network.add_path(Path {
        delay_ns: 5 * MILLISECOND,
        ..Path::default()
    });
    for client in 0..clients {
        network.route(client_address(client), server_address(), path);
        network.route(server_address(), client_address(client), path);
    }
    let it = serving(&shared(disk, 64 << 20));
    network.add(server_address(), Node::Serving(Box::new(it)));
    let sent = Sent::default();
    let log = Arc::clone(&sent);
    network.watch = Some(Box::new(move |now_ns, from, to, data| {
        log.lock().unwrap().push((now_ns, from, to, data.to_vec()));
    }));
    (network, sent)
}

fn packet(id: u64, body: &Body<'_>) -> Vec<u8> {
    let mut packet = Vec::new();
    wire::encode(&mut packet, id, body);
    packet
}

fn offer(cookie: [u8; 16], length: u64) -> Body<'static> {
    Body::Offer(OfferBody {
        cookie,
        length: Some(length),
        identity: [0; 16],
        digest: None,
        replaces: false,
        name: Name::none(),
    })
}

fn outcome(network: &Network<Node>, host: usize) -> Option<Result<(), Reason>> {
    let Node::Push(push) = &network.hosts[host].node else {
        return None;
    };
    let outcome = push.outcome()?;
    Some(outcome.map(|_| ()).map_err(|failure| failure.reason))
}

fn run_until_ended(network: &mut Network<Node>, host: usize) -> Result<(), Reason> {
    while outcome(network, host).is_none() {
        assert!(network.step(1_000 * SECOND), "it does not end");
    }
    outcome(network, host).unwrap()
}

/// A message of so many bytes on its way into a disk.
fn incoming(disk: &Disk, length: usize, budget: &std::sync::Arc<Budget>) -> Incoming {
    let offer = Offer {
        peer: client_address(0),
        id: 9,
        name: Name::none(),
        length: Some(length as u64),
        identity: [0; 16],
        digest: None,
        replaces: false,
    };
    let Ok(Opened::Sink(sink)) = disk.open_sink(&offer) else {
        panic!("a disk takes a message");
    };
    let mut incoming = Incoming::new(offer, transmit(client_address(0)), sink, budget, 0);
    incoming.answer(0, &ROOM, &mut Outbox::default());
    incoming
}

#[test]
fn what_has_another_digest_is_not_what_was_sent() {
    let (disk, budget) = (Disk::default(), Budget::new(1 << 20));
    let (data, other) = (message(3_000), message(3_001));
    let mut incoming = incoming(&disk, data.len(), &budget);
    assert_eq!(incoming.on_data(0, 0, 0, &data), Taken::New);
    incoming.on_end(0, 1, 3_000, *blake3::hash(&other).as_bytes());
    incoming.advance(0);
    let Arrival::Failed(failure) = incoming.arrival() else {
        panic!("{:?}", incoming.arrival());
    };
    assert_eq!(failure.reason, Reason::Corrupt);
    assert!(disk.finished().is_empty());
}

const ROOM: Room = Room {
    in_flight_bytes: 1 << 20,
    early_bytes: 1 << 20,
};

proptest! {
    #[test]
    fn f36_of_two_that_claim_the_same_bytes_the_first_wins(
        pieces in vec((0usize..3_000, 1usize..600, any::<bool>()), 0..60),
    ) {
        let (disk, budget) = (Disk::default(), Budget::new(1 << 20));
        let mut incoming = incoming(&disk, 3_000, &budget);
        let (right, wrong) = (message(3_000), vec![0u8; 3_000]);
        // What is known of each byte, as the first who said something of it said.
        let mut model: Vec<Option<u8>> = vec![None; 3_000];
        let everything = (0..3_000).step_by(500).map(|at| (at, 500, false));
        for (number, (at, length, lies)) in pieces.into_iter().chain(everything).enumerate() {
            let range = at..(at + length).min(3_000);
            let data = if lies { &wrong[range.clone()] } else { &right[range.clone()] };
            let taken = incoming.on_data(0, number as u64, at as u64, data);
            let known = &mut model[range];
            let is_new = known.iter().any(Option::is_none);
            let differs = known.iter().zip(data).any(|(one, it)| one.is_some_and(|one| one != *it));
            prop_assert_eq!(taken == Taken::New, is_new);
            prop_assert_eq!(taken == Taken::Conflicting, !is_new && differs);
            for (one, it) in known.iter_mut().zip(data) {
                one.get_or_insert(*it);
            }
        }
        let model: Vec<u8> = model.into_iter().flatten().collect();
        prop_assert_eq!(budget.taken_bytes(), 0);
        incoming.on_end(0, 1_000, 3_000, *blake3::hash(&model).as_bytes());
        incoming.advance(0);
        prop_assert_eq!(incoming.arrival(), &Arrival::Whole);
        prop_assert_eq!(&*disk.finished()[0].data, &model);
    }
}

#[test]
fn f37_forged_first_packets_leave_nothing_behind() {
    let disk = Disk::default();
    let (mut network, sent) = network(&disk, 1);
    let shared = shared(&disk, 64 << 20);
    network.replace(0, Node::Serving(Box::new(serving(&shared))));
    let data = message(300_000);
    let honest = network.add(
        client_address(0),
        Node::Push(Box::new(push(1, data.clone(), 0))),
    );
    let path = network.add_path(Path::default());
    let mut forged = Random::new(11);
    for number in 0..100_000u32 {
        let [.., a, b, c] = number.to_be_bytes();
        let source = SocketAddr::from(([10, a, b, c], 9));
        network.route(source, server_address(), path);
        let id = forged.wide();
        let body = match number % 3 {
            0 => offer([0; 16], 1 << 40),
            1 => offer(forged.wide().to_be_bytes().repeat(2).try_into().unwrap(), 9),
            _ => Body::Data {
                number: 0,
                offset: 0,
                data: &[1; 20],
            },
        };
        network.send(source, server_address(), &packet(id, &body));
        while network.next_ns() == Some(network.now_ns()) {
            network.step(u64::MAX);
        }
        if number % 500 == 0 {
            // The honest one goes on in the meantime.
            network.step(u64::MAX);
        }
        assert!(
            disk.opened() <= 1,
            "a forged first packet was taken for one"
        );
    }
    assert_eq!(run_until_ended(&mut network, honest), Ok(()));
    assert_eq!(*disk.finished()[0].data, data);
    assert_eq!((disk.opened(), shared.budget.taken_bytes()), (1, 0));
    let (mut asked, mut told) = (BTreeMap::new(), BTreeMap::new());
    for (_, from, to, data) in sent.lock().unwrap().iter() {
        *asked.entry(*from).or_insert(0) += data.len();
        *told.entry(*to).or_insert(0) += data.len();
    }
    for (address, bytes) in told {
        let is_forged = address != client_address(0) && address != server_address();
        assert!(
            !is_forged || bytes <= asked[&address],
            "{bytes} to {address}"
        );
    }
}

#[test]
fn f38_an_id_of_two_peers_is_two_transfers() {
    let disk = Disk::default();
    let (mut network, _) = network(&disk, 2);
    let both = [message(50_000), vec![9; 70_000]];
    let hosts: Vec<_> = (0..2)
        .map(|client| {
            let data = both[usize::from(client)].clone();
            network.add(
                client_address(client),
                Node::Push(Box::new(push(5, data, 0))),
            )
        })
        .collect();
    for host in hosts {
        assert_eq!(run_until_ended(&mut network, host), Ok(()));
    }
    let finished = disk.finished();
    assert_eq!(finished.len(), 2);
    for client in 0..2 {
        let mut its = finished
            .iter()
            .filter(|it| it.peer == client_address(client));
        assert_eq!(*its.next().unwrap().data, both[usize::from(client)]);
        assert!(its.next().is_none());
    }
}

#[test]
fn f38_an_id_that_is_used_again_delivers_nothing_twice_or_mixed() {
    // After its end, and in the midst of it.
    for steps in [usize::MAX, 60] {
        let disk = Disk::default();
        let (mut network, _) = network(&disk, 1);
        let first = message(200_000);
        let node = Node::Push(Box::new(push(5, first.clone(), 0)));
        let host = network.add(client_address(0), node);
        for _ in 0..steps {
            if outcome(&network, host).is_some() {
                break;
            }
            network.step(u64::MAX);
        }
        let again = push(5, vec![1; 200_000], network.now_ns());
        network.replace(host, Node::Push(Box::new(again)));
        assert!(run_until_ended(&mut network, host).is_err());
        let finished = disk.finished();
        let wanted = usize::from(steps == usize::MAX);
        assert_eq!(finished.len(), wanted);
        assert!(finished.iter().all(|it| *it.data == first));
    }
}

/// The times at which a client sends, of one burst one.
fn bursts(sent: &Sent, from_ns: u64) -> Vec<u64> {
    let sent = sent.lock().unwrap();
    let its = sent
        .iter()
        .filter(|(_, from, ..)| *from == client_address(0));
    let mut times: Vec<_> = its
        .map(|(time, ..)| *time)
        .filter(|t| *t >= from_ns)
        .collect();
    times.dedup();
    times
}

#[test]
fn f40_without_acknowledgements_it_backs_off_and_fails_by_its_deadline() {
    // Nobody ever answers; nobody does any more after a while.
    for cut_ns in [0, 200 * MILLISECOND] {
        let disk = Disk::default();
        let (mut network, sent) = network(&disk, 1);
        let back = network.add_path(Path {
            delay_ns: 5 * MILLISECOND,
            cut_ns: cut_ns..u64::MAX,
            ..Path::default()
        });
        network.paths[0].bytes_per_second = Some(1e6);
        network.paths[0].queue_bytes = 50_000;
        network.route(server_address(), client_address(0), back);
        let it = push(5, message(1_000_000), 0);
        let host = network.add(client_address(0), Node::Push(Box::new(it)));
        assert_eq!(run_until_ended(&mut network, host), Err(Reason::TimedOut));
        let ended_s = network.now_ns() as f64 / 1e9;
        let deadline_s = 10.0 + cut_ns as f64 / 1e9;
        assert!(ended_s < deadline_s + 0.5, "{ended_s}");
        let times = bursts(&sent, cut_ns + 100 * MILLISECOND);
        let waits: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // The last wait is the one for the deadline.
        let (_, waits) = waits.split_last().unwrap();
        // What the windows let go leaves first, at its pace.
        let silent = waits.iter().position(|wait| *wait >= 100 * MILLISECOND);
        let waits = &waits[silent.expect("it waits")..];
        let grown = waits.iter().position(|wait| *wait >= 1_900 * MILLISECOND);
        let grown = grown.expect("up to two seconds");
        for pair in waits[..=grown].windows(2) {
            assert!(pair[1] >= pair[0], "{waits:?}");
        }
        assert!(
            waits.iter().all(|wait| *wait <= 2_000 * MILLISECOND),
            "{waits:?}"
        );
        assert!(waits.len() < 16, "{waits:?}");
    }
}

#[test]
fn f40_forged_acknowledgements_bring_nothing_about() {
    let disk = Disk::default();
    let (mut network, sent) = network(&disk, 1);
    let data = message(400_000);
    let it = push(5, data.clone(), 0);
    let host = network.add(client_address(0), Node::Push(Box::new(it)));
    // A twin of it, to which nobody lies.
    let (mut twin, twins) = self::network(&Disk::default(), 1);
    let it = push(5, data.clone(), 0);
    let honest = twin.add(client_address(0), Node::Push(Box::new(it)));
    assert_eq!(run_until_ended(&mut twin, honest), Ok(()));

    let path = network.add_path(Path::default());
    network.route(server_address(), client_address(0), path);
    let mut forged = (Random::new(2), 0);
    while outcome(&network, host).is_none() && forged.1 < 100_000 {
        network.step(u64::MAX);
        for _ in 0..100 {
            let (random, count) = &mut forged;
            *count += 1;
            let beyond = 1 << 40 | random.below(1 << 20);
            let ack = Body::Ack(AckBody {
                limit: u64::MAX,
                in_flight_bytes: u32::MAX,
                prefix: if random.chance(0.5) { beyond } else { 0 },
                delay_us: random.wide() as u32,
                ranges: vec![(beyond - random.below(1 << 20), beyond)],
            });
            let id = if random.chance(0.5) { 5 } else { random.wide() };
            let packet = packet(id, &ack);
            network.send(server_address(), client_address(0), &packet);
            while network.next_ns() == Some(network.now_ns()) {
                network.step(u64::MAX);
            }
        }
    }
    assert_eq!(run_until_ended(&mut network, host), Ok(()));
    assert_eq!(*disk.finished()[0].data, data);
    let bytes = |sent: &Sent| {
        let sent = sent.lock().unwrap();
        let its = sent
            .iter()
            .filter(|(_, from, ..)| *from == client_address(0));
        its.map(|(.., data)| data.len()).sum::<usize>()
    };
    let (with, without) = (bytes(&sent), bytes(&twins));
    assert!(with <= without + without / 2, "{with} and {without} bytes");
}
