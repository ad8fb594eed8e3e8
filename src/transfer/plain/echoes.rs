//! Messages that are sent back: to each peer one after the other, since nothing in the format would
//! keep two apart.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;

use super::chunks::Chunks;
use super::outgoing::Outgoing;
use super::settings::SendSettings;
use crate::datagram::{Outbox, Transmit};
use crate::proto::Progress;

/// Between the end of one and the count of the next, which must not overtake it.
const PAUSE_NS: u64 = 1_000_000;

struct Echo {
    to: Transmit,
    chunks: Chunks,
    cost_bytes: usize,
}

struct Queue {
    outgoing: Outgoing,
    cost_bytes: usize,
    waiting: VecDeque<Echo>,
}

/// What is on its way back, by peer.
#[derive(Default)]
pub(super) struct Echoes {
    bytes_per_second: u64,
    queues: HashMap<SocketAddr, Queue>,
    due: BTreeSet<(u64, SocketAddr)>,
}

/// What became of those that were due.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Of which all was sent.
    pub(super) echoed: u64,
    /// Memory that they no longer need.
    pub(super) freed_bytes: usize,
}

impl Echoes {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second,
            ..Self::default()
        }
    }

    /// A whole message, which costs so much memory, goes back; at once, or once those before it are
    /// gone.
    pub(super) fn add(
        &mut self,
        now_ns: u64,
        peer: SocketAddr,
        to: Transmit,
        chunks: Chunks,
        cost_bytes: usize,
    ) -> Told {
        let echo = Echo {
            to,
            chunks,
            cost_bytes,
        };
        match self.queues.get_mut(&peer) {
            Some(queue) => {
                queue.waiting.push_back(echo);
                Told::default()
            }
            None => self.begin(now_ns, peer, echo, VecDeque::new()),
        }
    }

    pub(super) fn deadline_ns(&self) -> Option<u64> {
        self.due.first().map(|(due_ns, _)| *due_ns)
    }

    /// Sends what is due. `More`: the outbox is to be sent first.
    pub(super) fn send_due(&mut self, now_ns: u64, out: &mut Outbox) -> (Progress, Told) {
        let mut told = Told::default();
        while let Some(&(due_ns, peer)) = self.due.first() {
            if due_ns > now_ns {
                break;
            }
            if out.is_full() {
                return (Progress::More(0), told);
            }
            self.due.pop_first();
            let Some(mut queue) = self.queues.remove(&peer) else {
                continue;
            };
            // Memory can be read: it does not fail. What could not be sent is no echo.
            let has_failed = queue.outgoing.send_due(now_ns, out).is_err();
            if !has_failed && !queue.outgoing.is_done() {
                self.due.insert((queue.outgoing.due_ns(), peer));
                self.queues.insert(peer, queue);
                continue;
            }
            told.echoed += u64::from(!has_failed);
            told.freed_bytes += queue.cost_bytes;
            if let Some(next) = queue.waiting.pop_front() {
                let rested_ns = queue.outgoing.rested_ns();
                let from_ns = now_ns.saturating_add(PAUSE_NS).max(rested_ns);
                told.freed_bytes += self.begin(from_ns, peer, next, queue.waiting).freed_bytes;
            }
        }
        (Progress::Done, told)
    }

    fn begin(
        &mut self,
        from_ns: u64,
        peer: SocketAddr,
        echo: Echo,
        waiting: VecDeque<Echo>,
    ) -> Told {
        let settings = SendSettings {
            chunk_bytes: echo.chunks.whole_chunk_bytes(),
            bytes_per_second: self.bytes_per_second,
        };
        let cost_bytes = echo.cost_bytes;
        match Outgoing::new(&settings, echo.to, Box::new(echo.chunks), from_ns) {
            Ok(outgoing) => {
                self.due.insert((outgoing.due_ns(), peer));
                let queue = Queue {
                    outgoing,
                    cost_bytes,
                    waiting,
                };
                self.queues.insert(peer, queue);
                Told::default()
            }
            // Never of a message that came in this format; its memory is free again.
            Err(_) => Told {
                echoed: 0,
                freed_bytes: cost_bytes + waiting.iter().map(|echo| echo.cost_bytes).sum::<usize>(),
            },
        }
    }
}
