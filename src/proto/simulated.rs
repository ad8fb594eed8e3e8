//! Protocols on a network without loss, in simulated time: what they do, without sockets, to the
//! nanosecond and always the same.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;

use super::{Batch, Outbox, Progress, Protocol};
use crate::datagram::{Copied, Destination, Message, RawAddress, Received, Slots};
use crate::guard::Policy;

/// A datagram on its way, or at its end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Delivery {
    /// When it arrives, in nanoseconds since the network's start.
    pub time_ns: u64,
    /// First in first out among those that arrive together.
    number: u64,
    /// Who sent it.
    pub from: SocketAddr,
    /// Whom to.
    pub to: SocketAddr,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// Protocols by their addresses, and what is on its way between them.
pub struct Network {
    now_ns: u64,
    delay_ns: u64,
    count: u64,
    nodes: BTreeMap<SocketAddr, Box<dyn Protocol>>,
    on_the_way: BinaryHeap<Reverse<Delivery>>,
    outbox: Outbox,
    arrived: Vec<Delivery>,
}

impl Network {
    /// Without anybody on it; each datagram takes `delay_ns`.
    pub fn new(delay_ns: u64) -> Self {
        Self {
            now_ns: 0,
            delay_ns,
            count: 0,
            nodes: BTreeMap::new(),
            on_the_way: BinaryHeap::new(),
            outbox: Outbox::new(Policy::default()),
            arrived: Vec::new(),
        }
    }

    /// Has a protocol live at an address.
    pub fn add(&mut self, address: SocketAddr, protocol: Box<dyn Protocol>) {
        self.nodes.insert(address, protocol);
    }

    /// Somebody sends a datagram now.
    pub fn send(&mut self, from: SocketAddr, to: SocketAddr, data: &[u8]) {
        self.on_the_way.push(Reverse(Delivery {
            time_ns: self.now_ns.saturating_add(self.delay_ns),
            number: self.count,
            from,
            to,
            data: data.to_vec(),
        }));
        self.count += 1;
    }

    /// Runs until `end_ns`: what arrived by then where no protocol lives.
    pub fn run_until(&mut self, end_ns: u64) -> Vec<Delivery> {
        loop {
            let arrival = self.on_the_way.peek().map(|Reverse(next)| next.time_ns);
            let timers = self.nodes.iter();
            let timer = timers
                .filter_map(|(at, node)| Some((node.deadline_ns()?, *at)))
                .min();
            let next_ns = arrival.into_iter().chain(timer.map(|(due, _)| due)).min();
            match next_ns {
                Some(next_ns) if next_ns <= end_ns => self.now_ns = self.now_ns.max(next_ns),
                _ => break,
            }
            if arrival == next_ns {
                if let Some(Reverse(delivery)) = self.on_the_way.pop() {
                    self.deliver(delivery);
                }
            } else if let Some((_, at)) = timer {
                self.pass_time(at);
            }
        }
        self.now_ns = self.now_ns.max(end_ns);
        std::mem::take(&mut self.arrived)
    }

    fn deliver(&mut self, delivery: Delivery) {
        let (at, now_ns) = (delivery.to, self.now_ns);
        let Some(node) = self.nodes.get_mut(&at) else {
            return self.arrived.push(delivery);
        };
        let copies = [Copied {
            message: Message::admitted(Received {
                length: delivery.data.len(),
                source: RawAddress::from(delivery.from),
                destination: Destination::Unknown,
                segment_bytes: 0,
                truncated: false,
                maybe_merged: false,
                hop_limit: 64,
                kernel_ns: now_ns,
            }),
            data: delivery.data,
        }];
        let _ = node.on_batch(now_ns, &Batch::of_copies(&copies), &mut self.outbox);
        self.pass_time(at);
    }

    fn pass_time(&mut self, at: SocketAddr) {
        while let Some(node) = self.nodes.get_mut(&at) {
            let progress = node.on_time(self.now_ns, &mut self.outbox);
            let outbox = std::mem::replace(&mut self.outbox, Outbox::new(Policy::default()));
            for entry in outbox.entries() {
                let Some(to) = entry.transmit.to.to_std() else {
                    continue;
                };
                let mut offset = 0;
                for length in entry.lengths() {
                    let data = outbox.data(Slots::default(), entry, offset, length);
                    self.send(at, to, data);
                    offset += length;
                }
            }
            if progress == Progress::Done {
                break;
            }
        }
    }
}
