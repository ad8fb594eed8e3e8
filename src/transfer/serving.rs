//! All transfers of one worker of a server: THE PROTOCOL of `rsecho serve --transfer`.
//!
//! Rule 1: a peer that has not shown a cookie that this server made for its address gets no memory,
//! and nothing longer than what it sent.
//! Rule 2: a transfer is its peer's address and its id, both; nothing is delivered twice.
//! Rule 3: a datagram that does not begin as a packet does is another protocol's: the echo's, unless
//! told otherwise.

mod incoming;
mod outgoing;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::books::DropReason;
use crate::datagram::{Batch, Copied, Datagram, Outbox};
use crate::event::{Level, Observer, Part, Parts};
use crate::guard::Source as Who;
use crate::proto::{Echo, Pending, Progress, Protocol};

use super::budget::Budget;
use super::comparing::Comparing;
use super::cookie::Cookies;
use super::ended::{Ended, Ending, Key};
use super::failure::Failure;
use super::failure::Reason;
use super::receiver::{EARLY_BYTES, Incoming, Room};
use super::sender::Sender;
use super::store::{Name, Source, Storage};
use super::wire::{self, Body, Malformed};

/// A transfer has at least so much of the memory for what comes early.
const LEAST_EARLY_BYTES: u64 = 64 * 1024;
/// And of the socket's buffer: two packets as they are at first.
const LEAST_IN_FLIGHT_BYTES: u32 = 2 * 1_280;

/// Limits for all transfers of a server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Maximum number of open transfers per IPv4 address or IPv6 /64.
    pub open_per_source: u32,
    /// Maximum number of open transfers in total.
    pub open: u32,
    /// A transfer without progress for this time fails.
    pub progress_timeout_ns: u64,
    /// Maximum speed of each message that is sent to a client.
    pub bytes_per_second: Option<u64>,
}

/// Keeps messages until their senders fetch them back.
pub trait Kept: Send + Sync {
    /// Takes out the message that this peer sent with this id; `None`: there is none.
    fn take(&self, key: &(SocketAddr, u64)) -> Option<Box<dyn Source>>;
    /// Drops messages that were not fetched in time.
    fn expire(&self, now_ns: u64);
}

/// Returns the maximum length of a datagram to a peer on its first link.
pub type LinkMtu = dyn Fn(SocketAddr) -> usize + Send + Sync;

/// What all workers of a server share.
pub struct Shared {
    /// Where messages are stored and read.
    pub storage: Arc<dyn Storage>,
    /// Keeps messages that are sent back (echo); `None`: no message is.
    pub kept: Option<Arc<dyn Kept>>,
    /// Makes and checks cookies.
    pub cookies: Cookies,
    /// Memory for data that arrives out of order, and for messages.
    pub budget: Arc<Budget>,
    /// Limits for all transfers.
    pub limits: Limits,
    /// Is told about each transfer.
    pub observer: Arc<Observer>,
    /// Maximum length of a datagram to a peer.
    pub link_mtu: Box<LinkMtu>,
    open: Mutex<Open>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("transfer::Shared").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Open {
    all: u32,
    by_source: HashMap<Who, u32>,
}

impl Shared {
    /// Creates it from these parts.
    pub fn new(
        storage: Arc<dyn Storage>,
        kept: Option<Arc<dyn Kept>>,
        cookies: Cookies,
        budget: Arc<Budget>,
        limits: Limits,
        observer: Arc<Observer>,
        link_mtu: Box<LinkMtu>,
    ) -> Self {
        Self {
            storage,
            kept,
            cookies,
            budget,
            limits,
            observer,
            link_mtu,
            open: Mutex::default(),
        }
    }

    /// Counts one more in, if it may be.
    fn enter(&self, peer: SocketAddr) -> Result<(), Failure> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let who = Who::of(peer.ip());
        let of_source = open.by_source.get(&who).copied().unwrap_or(0);
        if open.all >= self.limits.open || of_source >= self.limits.open_per_source {
            let text = match of_source >= self.limits.open_per_source {
                true => format!("{of_source} transfers of this source are open"),
                false => format!("{} transfers are open", open.all),
            };
            return Err(Failure::new(Reason::TooMany, text));
        }
        open.all += 1;
        open.by_source.insert(who, of_source + 1);
        Ok(())
    }

    fn leave(&self, peer: SocketAddr) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let who = Who::of(peer.ip());
        open.all -= 1;
        if let Some(count) = open.by_source.get_mut(&who) {
            *count -= 1;
            if *count == 0 {
                open.by_source.remove(&who);
            }
        }
    }

    /// Number of open transfers.
    pub(crate) fn open(&self) -> u32 {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).all
    }

    /// `parts` come after the peer's address and the message's name.
    fn tell(&self, level: Level, text: &str, peer: SocketAddr, name: &Name, parts: Parts) {
        let text = format!("{}: {text}", self.observer.server());
        let mut all: Parts = vec![("peer", peer.into())];
        if !name.is_none() {
            all.push(("file_name", Part::Text(name.to_string())));
        }
        all.extend(parts);
        self.observer.notice_parts(level, "transfer", text, all);
    }
}

/// All transfers of one worker.
pub struct Serving {
    shared: Arc<Shared>,
    /// Half of the worker's receive buffer, as the kernel counts it: the other half is overhead.
    buffer_bytes: u32,
    incoming: BTreeMap<Key, Incoming>,
    comparing: BTreeMap<Key, Comparing>,
    outgoing: BTreeMap<Key, Sender>,
    ended: Ended,
    /// What is none of a transfer is for this one.
    beside: Box<dyn Protocol>,
    /// What it has not taken yet.
    others: Vec<Copied>,
    /// Whom this batch was of.
    touched: Vec<Key>,
    scratch: Vec<u8>,
}

impl Serving {
    /// `buffer_bytes`: the payload that the receive buffer has room for.
    pub fn new(shared: Arc<Shared>, buffer_bytes: u32) -> Self {
        Self {
            shared,
            buffer_bytes,
            incoming: BTreeMap::new(),
            comparing: BTreeMap::new(),
            outgoing: BTreeMap::new(),
            ended: Ended::default(),
            beside: Box::new(Echo),
            others: Vec::new(),
            touched: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Gives datagrams that are not packets of transfers to this protocol, instead of echoing them.
    #[must_use]
    pub fn beside(mut self, other: Box<dyn Protocol>) -> Self {
        self.beside = other;
        self
    }

    /// Has the other protocol look at what came between packets of transfers.
    fn serve_others(&mut self, now_ns: u64, out: &mut Outbox) -> Progress {
        if self.others.is_empty() {
            return Progress::Done;
        }
        let batch = Batch::of_copies(&self.others);
        match self.beside.on_batch(now_ns, &batch, out) {
            Progress::Done => self.others.clear(),
            Progress::More(taken) => {
                self.others.drain(..taken);
                return Progress::More(0);
            }
        }
        Progress::Done
    }

    fn room(&self) -> Room {
        let here = (self.incoming.len() as u32).max(1);
        let all = u64::from(self.shared.open()).max(1);
        let early_bytes = self.shared.budget.max_total_bytes() / 2 / all;
        // What comes in order needs none of that memory: something always goes.
        let left = self.shared.budget.left_bytes();
        let left = left.max(LEAST_IN_FLIGHT_BYTES.into());
        Room {
            in_flight_bytes: (self.buffer_bytes / here).max(LEAST_IN_FLIGHT_BYTES),
            early_bytes: early_bytes.clamp(LEAST_EARLY_BYTES, EARLY_BYTES).min(left),
        }
    }

    // --- one datagram -------------------------------------------------------------------

    fn take(&mut self, now_ns: u64, datagram: &Datagram<'_>, out: &mut Outbox) {
        let Some(peer) = datagram.peer() else {
            let came = &datagram.message.came;
            return out.drop(DropReason::SourceUnspecified, 1, &came.source);
        };
        let (id, body) = match wire::decode(datagram.data) {
            Ok(packet) => packet,
            Err(Malformed::Version(_)) => {
                let text = "version 1 is spoken here";
                let failure = Failure::new(Reason::Version, text);
                return self.refuse(wire::id_of(datagram.data), datagram, &failure, out);
            }
            Err(_) => {
                let source = &datagram.message.came.source;
                return out.drop(DropReason::TransferMalformed, 1, source);
            }
        };
        let key = (peer, id);
        match body {
            Body::Offer(offer) => self.on_offer(now_ns, key, offer, datagram, out),
            Body::Pull(pull) => self.on_pull(now_ns, key, pull, datagram, out),
            Body::Data {
                number,
                offset,
                data,
            } => {
                let data = (number, offset, data);
                self.on_data(now_ns, key, data, datagram, out);
            }
            Body::End { .. } | Body::Probe { .. } => {
                self.on_mark(now_ns, key, &body, datagram, out);
            }
            Body::Ack(_) | Body::Done { .. } | Body::Abort { .. } | Body::Cookie(_) => {
                self.on_answer(now_ns, key, &body, datagram, out);
            }
        }
    }

    /// Answers with an ABORT, unless that is longer than what came.
    fn refuse(&mut self, id: u64, datagram: &Datagram<'_>, failure: &Failure, out: &mut Outbox) {
        let room = datagram.data.len().saturating_sub(wire::HEADER_BYTES + 1);
        let body = Body::Abort {
            reason: Some(failure.reason),
            text: wire::cut(&failure.text, room),
        };
        self.reply(id, datagram, &body, out);
    }

    fn reply(&mut self, id: u64, datagram: &Datagram<'_>, body: &Body<'_>, out: &mut Outbox) {
        self.scratch.clear();
        wire::encode(&mut self.scratch, id, body);
        out.reply(&datagram.into(), &self.scratch);
    }

    /// What is said of a transfer that has ended, or was never known.
    fn reply_ending(&mut self, key: Key, datagram: &Datagram<'_>, out: &mut Outbox) {
        let failure = match self.ended.get(&key) {
            Some(ending) => match &ending.failed {
                None => {
                    let was_there = ending.was_there;
                    return self.reply(key.1, datagram, &Body::Done { was_there }, out);
                }
                Some((reason, text)) => Failure::new(*reason, text.clone()),
            },
            None => Failure::new(Reason::Unknown, ""),
        };
        self.refuse(key.1, datagram, &failure, out);
    }

    fn touch(&mut self, key: Key) {
        if self.touched.last() != Some(&key) && !self.touched.contains(&key) {
            self.touched.push(key);
        }
    }

    /// Lets go of a transfer.
    fn end(
        &mut self,
        now_ns: u64,
        key: Key,
        failed: Option<&Failure>,
        was_there: bool,
        name: Name,
    ) {
        self.shared.leave(key.0);
        let failed = failed.map(|failure| (failure.reason, failure.text.clone()));
        let ending = Ending::new(failed, was_there, name);
        self.ended.add(now_ns, key, ending);
    }
}

impl Protocol for Serving {
    fn on_batch(&mut self, now_ns: u64, batch: &Batch<'_>, out: &mut Outbox) -> Progress {
        if batch.datagrams().all(|one| !wire::is_ours(one.data)) {
            return self.beside.on_batch(now_ns, batch, out);
        }
        for datagram in batch.datagrams() {
            match wire::is_ours(datagram.data) {
                true => self.take(now_ns, &datagram, out),
                false => self.others.push(datagram.copied()),
            }
        }
        self.answer_touched(now_ns, out);
        Progress::Done
    }

    fn deadline_ns(&self) -> Option<u64> {
        let timeout_ns = self.shared.limits.progress_timeout_ns;
        let incoming = self.incoming.values().map(|one| match one.has_work() {
            true => 0,
            false => one.last_progress_ns() + timeout_ns,
        });
        let outgoing = self.outgoing.values().filter_map(Sender::deadline_ns);
        let comparing = self.comparing.values().map(|_| 0);
        let others = (!self.others.is_empty()).then_some(0);
        let beside = self.beside.deadline_ns().into_iter().chain(others);
        let own = incoming.chain(outgoing).chain(comparing);
        own.chain(beside).min()
    }

    fn on_time(&mut self, now_ns: u64, out: &mut Outbox) -> Progress {
        if self.serve_others(now_ns, out) != Progress::Done {
            return Progress::More(0);
        }
        if self.beside.is_timed() && self.beside.on_time(now_ns, out) != Progress::Done {
            return Progress::More(0);
        }
        self.advance_comparing(now_ns, out);
        self.advance_incoming(now_ns, out);
        if let Some(kept) = &self.shared.kept {
            kept.expire(now_ns);
        }
        match self.advance_outgoing(now_ns, out) {
            true => Progress::Done,
            false => Progress::More(0),
        }
    }

    fn pending(&self) -> Pending {
        // A transfer is no datagram that is held back: whoever stops the server ends it.
        let beside = self.beside.pending();
        Pending {
            held: beside.held + self.others.len(),
            ..beside
        }
    }

    fn calls_out(&self) -> bool {
        self.beside.calls_out()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let keys = self.incoming.keys().chain(self.comparing.keys());
        for key in keys.chain(self.outgoing.keys()) {
            self.shared.leave(key.0);
        }
    }
}
