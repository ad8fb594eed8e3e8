//! Transfers on a network that loses, doubles, delays, reorders, spoils and cuts off what is sent:
//! without sockets or a clock, and the same each time by its seed.
//!
//! [`trial::run`] makes up a network, transfers and mishaps from a number, and says which law of
//! docs/transfer.md was broken, if any was.

pub mod conditions;
pub mod disk;
pub mod path;
pub mod trial;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;

use crate::datagram::{
    Batch, Copied, Destination, Message, Outbox, RawAddress, Received, Slots, Transmit,
};
use crate::guard::Policy;
use crate::proto::{Progress, Protocol};

pub use path::{Path, Random};

/// How to send to an address.
pub fn transmit(to: SocketAddr) -> Transmit {
    Transmit {
        to: RawAddress::from(to),
        from: Destination::Unknown,
        hop_limit: 0,
    }
}

/// A datagram on its way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Delivery {
    time_ns: u64,
    number: u64,
    from: SocketAddr,
    to: SocketAddr,
    data: Vec<u8>,
}

/// Who lives on the network, and what came and went there.
pub struct Host<N> {
    /// Where.
    pub address: SocketAddr,
    /// What is done with datagrams.
    pub node: N,
    /// Datagrams that came, and went.
    pub received: u64,
    /// As above.
    pub sent: u64,
    /// When the last one came.
    pub heard_ns: u64,
    /// Calls for the time's sake that sent nothing.
    pub idle_calls: u64,
    due_ns: Option<u64>,
}

/// Protocols, and the paths between them.
pub struct Network<N> {
    now_ns: u64,
    number: u64,
    /// In the order in which they were added.
    pub hosts: Vec<Host<N>>,
    /// Some may be shared by several pairs: a bottleneck.
    pub paths: Vec<Path>,
    routes: BTreeMap<(SocketAddr, SocketAddr), usize>,
    on_way: BinaryHeap<Reverse<Delivery>>,
    outbox: Outbox,
    random: Random,
    /// What arrives is taken from sockets at multiples of this: several at once, as in trains.
    pub tick_ns: u64,
    /// What went, as (from, to, bytes), where somebody wants to see it.
    pub watch: Option<Box<Watch>>,
}

/// Sees each datagram that is sent: its time, from whom, to whom, and its bytes.
pub type Watch = dyn FnMut(u64, SocketAddr, SocketAddr, &[u8]) + Send;

impl<N: Protocol> Network<N> {
    /// Without anybody on it.
    pub fn new(random: Random) -> Self {
        Self {
            now_ns: 0,
            number: 0,
            hosts: Vec::new(),
            paths: Vec::new(),
            routes: BTreeMap::new(),
            on_way: BinaryHeap::new(),
            outbox: Outbox::new(Policy::default()),
            random,
            tick_ns: 1,
            watch: None,
        }
    }

    /// The time.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Has a protocol live at an address; its number.
    pub fn add(&mut self, address: SocketAddr, node: N) -> usize {
        let due_ns = node.deadline_ns();
        self.hosts.push(Host {
            address,
            node,
            received: 0,
            sent: 0,
            heard_ns: self.now_ns,
            idle_calls: 0,
            due_ns,
        });
        self.hosts.len() - 1
    }

    /// Another protocol lives there now; what was on its way arrives there.
    pub fn replace(&mut self, host: usize, node: N) -> N {
        let host = &mut self.hosts[host];
        host.due_ns = node.deadline_ns();
        host.heard_ns = self.now_ns;
        std::mem::replace(&mut host.node, node)
    }

    /// Adds a path; its number.
    pub fn add_path(&mut self, path: Path) -> usize {
        self.paths.push(path);
        self.paths.len() - 1
    }

    /// What one sends to the other takes this path. Without one it goes nowhere.
    pub fn route(&mut self, from: SocketAddr, to: SocketAddr, path: usize) {
        self.routes.insert((from, to), path);
    }

    /// Somebody sends a datagram now.
    pub fn send(&mut self, from: SocketAddr, to: SocketAddr, data: &[u8]) {
        if let Some(watch) = &mut self.watch {
            watch(self.now_ns, from, to, data);
        }
        let Some(path) = self.routes.get(&(from, to)) else {
            return;
        };
        let (now_ns, tick_ns) = (self.now_ns, self.tick_ns.max(1));
        let (on_way, number) = (&mut self.on_way, &mut self.number);
        self.paths[*path].pass(now_ns, data, &mut self.random, |time_ns, data| {
            *number += 1;
            on_way.push(Reverse(Delivery {
                time_ns: time_ns.div_ceil(tick_ns) * tick_ns,
                number: *number,
                from,
                to,
                data,
            }));
        });
    }

    /// When something happens next; `None`: never.
    pub fn next_ns(&self) -> Option<u64> {
        let arrival = self.on_way.peek().map(|Reverse(next)| next.time_ns);
        let due = self.hosts.iter().filter_map(|host| host.due_ns);
        let next_ns = due.chain(arrival).min()?;
        Some(next_ns.max(self.now_ns))
    }

    /// Lets that happen, and lets time pass until `end_ns` at most. False: nothing happened.
    pub fn step(&mut self, end_ns: u64) -> bool {
        let Some(next_ns) = self.next_ns().filter(|next_ns| *next_ns <= end_ns) else {
            self.now_ns = self.now_ns.max(end_ns);
            return false;
        };
        self.now_ns = next_ns;
        let arrival = self.on_way.peek().map(|Reverse(next)| next.time_ns);
        if arrival.is_some_and(|time_ns| time_ns <= next_ns) {
            self.deliver();
        } else {
            let is_due = |host: &Host<N>| host.due_ns.is_some_and(|due_ns| due_ns <= next_ns);
            if let Some(host) = self.hosts.iter().position(is_due) {
                let sent = self.pass_time(host);
                self.hosts[host].idle_calls += u64::from(sent == 0);
            }
        }
        true
    }

    /// Hands all that has arrived at one of them to it, as one batch.
    fn deliver(&mut self) {
        let mut copies = Vec::new();
        let mut at = None;
        while let Some(Reverse(next)) = self.on_way.peek() {
            if next.time_ns > self.now_ns || at.is_some_and(|at| at != next.to) {
                break;
            }
            at = Some(next.to);
            let Some(Reverse(delivery)) = self.on_way.pop() else {
                break;
            };
            copies.push(Copied {
                message: Message::admitted(Received {
                    length: delivery.data.len(),
                    source: RawAddress::from(delivery.from),
                    destination: Destination::Unknown,
                    segment_bytes: 0,
                    truncated: false,
                    maybe_merged: false,
                    hop_limit: 64,
                    kernel_ns: self.now_ns,
                }),
                data: delivery.data,
            });
        }
        let Some(host) = self.hosts.iter().position(|host| Some(host.address) == at) else {
            return;
        };
        let (now_ns, it) = (self.now_ns, &mut self.hosts[host]);
        it.received += copies.len() as u64;
        it.heard_ns = now_ns;
        let batch = Batch::of_copies(&copies);
        let _ = it.node.on_batch(now_ns, &batch, &mut self.outbox);
        self.pass_time(host);
    }

    /// Calls a protocol for the time's sake, and sends what it wants to; how many datagrams.
    fn pass_time(&mut self, host: usize) -> u64 {
        let mut sent = 0;
        loop {
            let it = &mut self.hosts[host];
            let (progress, at) = (it.node.on_time(self.now_ns, &mut self.outbox), it.address);
            let mut outbox = std::mem::take(&mut self.outbox);
            for entry in outbox.entries() {
                let Some(to) = entry.transmit.to.to_std() else {
                    continue;
                };
                let mut start = 0;
                for length in entry.lengths() {
                    let data = outbox.data(Slots::default(), entry, start, length);
                    self.send(at, to, data);
                    (start, sent) = (start + length, sent + 1);
                }
            }
            outbox.clear();
            self.outbox = outbox;
            if progress == Progress::Done {
                break;
            }
        }
        let it = &mut self.hosts[host];
        it.sent += sent;
        it.due_ns = it.node.deadline_ns();
        sent
    }
}
