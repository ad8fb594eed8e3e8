//! What transfers make of a path, and what they leave of it: in simulated time.

use rsecho::transfer::sender::Figures;
use rsecho::transfer::simulated::disk::Disk;
use rsecho::transfer::simulated::path::Counts;
use rsecho::transfer::simulated::trial::Node;
use rsecho::transfer::simulated::{Network, Path, Random};

use crate::helper::{
    MILLISECOND, SECOND, client_address, message, push, server_address, serving, shared,
};

struct Ran {
    /// When each ended, and how.
    ended: Vec<(u64, Figures)>,
    /// What each had delivered when the first ended.
    delivered: Vec<u64>,
    bottleneck: Counts,
}

/// Sends so many messages of this length at once over one bottleneck.
fn run(there: Path, flows: u16, length: usize) -> Ran {
    let (disk, server) = (Disk::default(), server_address());
    let mut network = Network::new(Random::new(7));
    let back = network.add_path(Path {
        delay_ns: there.delay_ns,
        ..Path::default()
    });
    let there = network.add_path(there);
    let shared = shared(&disk, 64 << 20);
    network.add(server, Node::Serving(Box::new(serving(&shared))));
    for flow in 0..flows {
        let client = client_address(flow);
        network.route(client, server, there);
        network.route(server, client, back);
        let it = push(flow.into(), message(length), 0);
        network.add(client, Node::Push(Box::new(it)));
    }
    let mut ran = Ran {
        ended: Vec::new(),
        delivered: Vec::new(),
        bottleneck: Counts::default(),
    };
    let mut open: Vec<_> = (1..=usize::from(flows)).collect();
    while !open.is_empty() {
        assert!(network.step(600 * SECOND), "it does not end");
        let now_ns = network.now_ns();
        open.retain(|host| {
            let Node::Push(push) = &network.hosts[*host].node else {
                return false;
            };
            let Some(outcome) = push.outcome() else {
                return true;
            };
            ran.ended.push((now_ns, outcome.expect("it arrives")));
            if ran.delivered.is_empty() {
                ran.bottleneck = network.paths[there].counts;
                let pushes = network.hosts[1..].iter().map(|host| match &host.node {
                    Node::Push(push) => push.sender().done_bytes(),
                    _ => 0,
                });
                ran.delivered = pushes.collect();
            }
            false
        });
    }
    assert_eq!(disk.finished().len(), usize::from(flows));
    ran
}

/// A link of so many Mbit/s behind 50 ms there and back, with a queue of as many ms.
fn link(mbit: f64, queue_ms: f64) -> Path {
    let bytes_per_second = mbit * 1e6 / 8.0;
    Path {
        delay_ns: 25 * MILLISECOND,
        bytes_per_second: Some(bytes_per_second),
        queue_bytes: (bytes_per_second * queue_ms / 1e3) as u64,
        mtu: vec![(0, 1_472)],
        ..Path::default()
    }
}

#[test]
fn losses_that_are_no_congestion_leave_half_of_a_link() {
    for loss in [0.0, 0.01, 0.05] {
        let length = 30_000_000;
        let path = Path {
            loss,
            ..link(100.0, 50.0)
        };
        let ran = run(path, 1, length);
        let (ended_ns, figures) = &ran.ended[0];
        let share = length as f64 / (*ended_ns as f64 / 1e9) / 12.5e6;
        println!(
            "{loss}: {share:.2} of the link, {:?}, {} congestions, window {}",
            ran.bottleneck, figures.congestions, figures.window_bytes
        );
        assert!(share > 0.5, "{loss}: {share}");
    }
}

#[test]
fn two_flows_share_a_link() {
    for queue_ms in [25.0, 50.0, 100.0] {
        let ran = run(link(20.0, queue_ms), 2, 15_000_000);
        let (one, other) = (ran.delivered[0] as f64, ran.delivered[1] as f64);
        println!("{queue_ms}: {one} and {other}, {:?}", ran.bottleneck);
        assert!(one < 3.0 * other && other < 3.0 * one, "{one} and {other}");
    }
}

#[test]
fn a_queue_is_not_kept_full() {
    for flows in [1, 2] {
        // Long enough that slow start, which does fill it once, is not all that is seen.
        for (mbit, length) in [(20.0, 40_000_000), (50.0, 60_000_000)] {
            let ran = run(link(mbit, 50.0), flows, length);
            let Counts {
                sent,
                overflowed,
                full_ns,
                ..
            } = ran.bottleneck;
            let lost = overflowed as f64 / sent as f64;
            let full = full_ns as f64 / ran.ended[0].0 as f64;
            println!("{flows} at {mbit}: {lost:.4} lost, {full:.2} of the time full");
            assert!(lost < 0.02, "{lost}");
            assert!(full < 0.5, "{full}");
        }
    }
}
