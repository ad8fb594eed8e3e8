//! A client's transfers, each as a protocol for its driver: a push, and a pull.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::books::DropReason;
use crate::datagram::{Batch, Outbox, Transmit};
use crate::proto::{Progress as Served, Protocol};

use super::budget::Budget;
use super::comparing::Comparing;
use super::failure::{Failure, Reason};
use super::receiver::{Arrival, EARLY_BYTES, Incoming, Room};
use super::sender::{Figures, Sender};
use super::store::{Name, Offer, Opened, Storage};
use super::wire::{self, Body, Cookie, PullBody};

const UNKNOWN: u64 = u64::MAX;

/// A sender that was silent for so long is asked again, then after twice as long: it may have been
/// restarted.
const SILENT_NS: u64 = 1_000_000_000;

/// A PULL is repeated after so long, then after twice as long, up to two seconds.
const PULL_NS: u64 = 200_000_000;
const LONGEST_NS: u64 = 2_000_000_000;

/// Progress of a transfer, readable from other threads.
#[derive(Debug, Clone)]
pub struct Reached(Arc<[AtomicU64; 2]>);

impl Default for Reached {
    fn default() -> Self {
        Self(Arc::new([AtomicU64::new(0), AtomicU64::new(UNKNOWN)]))
    }
}

impl Reached {
    /// Number of bytes that have arrived, and the total if it is known.
    pub fn get(&self) -> (u64, Option<u64>) {
        let [done, length] = &*self.0;
        let length = length.load(Ordering::Relaxed);
        let done = done.load(Ordering::Relaxed);
        (done, (length != UNKNOWN).then_some(length))
    }

    pub(crate) fn set(&self, done_bytes: u64, length_bytes: Option<u64>) {
        let [done, length] = &*self.0;
        done.store(done_bytes, Ordering::Relaxed);
        length.store(length_bytes.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }
}

/// Errors of a socket that a transfer outlives: its peer restarts, a probe is too long, a queue is
/// full, a filter or a route comes and goes.
pub(crate) fn is_passing(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNREFUSED
                | libc::EMSGSIZE
                | libc::ENOBUFS
                | libc::EPERM
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::ENETDOWN
        )
    )
}

fn is_refused(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(libc::ECONNREFUSED)
}

// --- push -----------------------------------------------------------------------------------

/// Sends one message.
pub struct Push {
    sender: Sender,
    given_up: Option<Failure>,
    reached: Reached,
}

impl Push {
    /// Runs this sender.
    pub fn new(sender: Sender) -> Self {
        Self {
            sender,
            given_up: None,
            reached: Reached::default(),
        }
    }

    /// The sender.
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Its progress, readable from other threads.
    pub fn reached(&self) -> Reached {
        self.reached.clone()
    }

    /// The result; `None`: not finished yet.
    pub fn outcome(&self) -> Option<Result<Figures, Failure>> {
        self.sender.outcome()
    }

    /// Gives the transfer up. The other side is told when this is driven next.
    pub fn give_up(&mut self, why: Failure) {
        self.given_up = Some(why);
    }
}

impl Protocol for Push {
    fn on_batch(&mut self, now_ns: u64, batch: &Batch<'_>, out: &mut Outbox) -> Served {
        for datagram in batch.datagrams() {
            let source = &datagram.message.came.source;
            match wire::decode(datagram.data) {
                Ok((id, body)) if id == self.sender.id() => {
                    self.sender.on_packet(now_ns, &body);
                    out.consume(&datagram);
                }
                Ok(_) => out.drop(DropReason::TransferUnknown, 1, source),
                Err(_) => out.drop(DropReason::TransferMalformed, 1, source),
            }
        }
        Served::Done
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.sender.deadline_ns()
    }

    fn on_time(&mut self, now_ns: u64, out: &mut Outbox) -> Served {
        if let Some(why) = self.given_up.take() {
            self.sender.cancel(why.reason, &why.text, out);
        }
        let is_done = self.sender.on_time(now_ns, out);
        let (done, length) = (self.sender.done_bytes(), self.sender.length());
        self.reached.set(done, length);
        match is_done {
            true => Served::Done,
            false => Served::More(0),
        }
    }

    fn tolerates(&mut self, error: &std::io::Error) -> bool {
        // Who has answered once may be restarting; where nobody ever did, nothing listens.
        let was_there = self.sender.cookie() != Cookie::default();
        is_passing(error) && (was_there || !is_refused(error))
    }
}

// --- pull -----------------------------------------------------------------------------------

/// What a [`Pull`] asks for.
#[derive(Debug, Clone)]
pub struct Pulling {
    /// The transfer's id: for an echo, that of the message that was sent.
    pub id: u64,
    /// Name of the file; no components: an echo.
    pub name: Name,
    /// Gives up after this time without progress.
    pub progress_timeout_ns: u64,
    /// Half of the receive buffer, as the kernel counts it.
    pub buffer_bytes: u32,
}

enum State {
    Asking { next_ns: u64, times: u32 },
    Receiving(Box<Incoming>),
    Comparing(Box<Comparing>),
    Ended(Result<Figures, Failure>),
}

/// Fetches one message.
pub struct Pull {
    what: Pulling,
    to: Transmit,
    peer: std::net::SocketAddr,
    cookie: Cookie,
    storage: Arc<dyn Storage>,
    budget: Arc<Budget>,
    state: State,
    last_progress_ns: u64,
    /// When something last came, and how often it was asked for since.
    heard_ns: u64,
    asked: u32,
    given_up: Option<Failure>,
    reached: Reached,
    scratch: Vec<u8>,
}

impl Pull {
    /// Fetches from a peer, into the sink that a storage opens for its offer.
    pub fn new(
        what: Pulling,
        to: Transmit,
        peer: std::net::SocketAddr,
        storage: Arc<dyn Storage>,
        now_ns: u64,
    ) -> Self {
        Self {
            what,
            to,
            peer,
            cookie: Cookie::default(),
            storage,
            budget: Budget::new(2 * EARLY_BYTES),
            state: State::Asking {
                next_ns: now_ns,
                times: 0,
            },
            last_progress_ns: now_ns,
            heard_ns: now_ns,
            asked: 0,
            given_up: None,
            reached: Reached::default(),
            scratch: Vec::new(),
        }
    }

    /// Its progress, readable from other threads.
    pub fn reached(&self) -> Reached {
        self.reached.clone()
    }

    /// The result; `None`: not finished yet.
    pub fn outcome(&self) -> Option<&Result<Figures, Failure>> {
        match &self.state {
            State::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Gives the transfer up. The other side is told when this is driven next. The received part
    /// of a file stays.
    pub fn give_up(&mut self, why: Failure) {
        self.given_up = Some(why);
    }

    fn send(&mut self, out: &mut Outbox, body: &Body<'_>) {
        self.scratch.clear();
        wire::encode(&mut self.scratch, self.what.id, body);
        out.send(self.to, &self.scratch);
    }

    fn ask(&mut self, out: &mut Outbox) {
        let body = Body::Pull(PullBody {
            cookie: self.cookie,
            is_echo: self.what.name.is_none(),
            name: self.what.name.clone(),
        });
        self.send(out, &body);
    }

    /// When a sender that is silent is asked again.
    fn ask_again_ns(&self) -> u64 {
        let wait_ns = (SILENT_NS << self.asked.min(10)).min(2 * SILENT_NS);
        self.heard_ns + u64::from(self.asked) * wait_ns + wait_ns
    }

    fn fail(&mut self, failure: Failure, out: &mut Outbox) {
        let body = Body::Abort {
            reason: Some(failure.reason),
            text: &failure.text,
        };
        self.send(out, &body);
        self.end(Err(failure));
    }

    fn end(&mut self, outcome: Result<Figures, Failure>) {
        let last = std::mem::replace(&mut self.state, State::Ended(outcome));
        if let (State::Receiving(mut incoming), State::Ended(Err(failure))) = (last, &self.state) {
            incoming.give_up(failure.clone());
        }
    }

    fn room(&self) -> Room {
        Room {
            in_flight_bytes: self.what.buffer_bytes,
            early_bytes: EARLY_BYTES,
        }
    }

    fn take(&mut self, now_ns: u64, body: &Body<'_>, out: &mut Outbox) {
        match (body, &mut self.state) {
            (Body::Cookie(cookie), State::Asking { .. }) if *cookie != self.cookie => {
                self.cookie = *cookie;
                self.state = State::Asking {
                    next_ns: now_ns,
                    times: 1,
                };
            }
            (Body::Offer(offer), State::Asking { .. }) => {
                let offer = Offer {
                    peer: self.peer,
                    id: self.what.id,
                    name: self.what.name.clone(),
                    length: offer.length,
                    identity: offer.identity,
                    digest: offer.digest,
                    replaces: true,
                };
                self.open(now_ns, offer, out);
            }
            (Body::Cookie(cookie), State::Receiving(_)) if *cookie != self.cookie => {
                self.cookie = *cookie;
                self.ask(out);
            }
            (Body::Offer(offer), State::Receiving(incoming)) => {
                let before = incoming.offer();
                match (before.identity, before.length) == (offer.identity, offer.length) {
                    // By the same sender, or by one that counts its packets from 0 again.
                    true => incoming.offered_anew(),
                    false => {
                        let text = "it has changed while it was fetched: fetch it again";
                        self.fail(Failure::new(Reason::Corrupt, text), out);
                    }
                }
            }
            (
                Body::Data {
                    number,
                    offset,
                    data,
                },
                State::Receiving(incoming),
            ) => drop(incoming.on_data(now_ns, *number, *offset, data)),
            (Body::Probe { number }, State::Receiving(incoming)) => {
                incoming.on_probe(now_ns, *number);
            }
            (
                Body::End {
                    number,
                    length,
                    digest,
                },
                State::Receiving(incoming),
            ) => incoming.on_end(now_ns, *number, *length, *digest),
            (Body::End { .. }, State::Ended(Ok(figures))) => {
                let was_there = figures.was_there;
                self.send(out, &Body::Done { was_there });
            }
            (Body::Abort { reason, text }, State::Asking { .. } | State::Receiving(_)) => {
                self.on_abort(now_ns, *reason, text);
            }
            _ => {}
        }
    }

    fn open(&mut self, now_ns: u64, offer: Offer, out: &mut Outbox) {
        self.last_progress_ns = now_ns;
        match self.storage.open_sink(&offer) {
            Ok(Opened::Sink(sink)) => {
                let incoming = Incoming::new(offer, self.to, sink, &self.budget, now_ns);
                self.state = State::Receiving(Box::new(incoming));
            }
            Ok(Opened::Compare(source)) => {
                let comparing = Comparing::new(offer, source, self.to);
                self.state = State::Comparing(Box::new(comparing));
            }
            // The sender reads all of it, and offers it with its digest.
            Err(failure) if failure.reason == Reason::ExistsAlike => {
                let body = Body::Abort {
                    reason: Some(failure.reason),
                    text: "",
                };
                self.send(out, &body);
            }
            Err(failure) => self.fail(failure, out),
        }
    }

    fn on_abort(&mut self, now_ns: u64, reason: Option<Reason>, text: &str) {
        if reason == Some(Reason::TooMany) && matches!(self.state, State::Asking { .. }) {
            self.state = State::Asking {
                next_ns: now_ns + PULL_NS,
                times: 1,
            };
            return;
        }
        let reason = reason.unwrap_or(Reason::Cancelled);
        let text = match text {
            "" => format!("the other side gave up ({})", reason.name()),
            text => format!("the other side gave up: {text}"),
        };
        self.end(Err(Failure {
            reason,
            text,
            is_remote: true,
        }));
    }

    /// Answers what came, and finishes what is whole.
    fn settle(&mut self, now_ns: u64, out: &mut Outbox) {
        let room = self.room();
        let State::Receiving(incoming) = &mut self.state else {
            return;
        };
        incoming.advance(now_ns);
        self.last_progress_ns = self.last_progress_ns.max(incoming.last_progress_ns());
        let length = incoming.offer().length;
        self.reached.set(incoming.prefix(), length);
        let outcome = match incoming.arrival().clone() {
            Arrival::Open => return incoming.answer(now_ns, &room, out),
            Arrival::Whole => Ok(Figures {
                length: incoming.prefix(),
                resumed_from: incoming.resumed_from(),
                was_there: incoming.was_there(),
                digest: incoming.digest(),
                ..Figures::default()
            }),
            Arrival::Failed(failure) => Err(failure),
        };
        // Twice: nobody is there any more to say it again.
        for _ in 0..2 {
            incoming.owe();
            incoming.answer(now_ns, &room, out);
        }
        self.state = State::Ended(outcome);
    }

    fn compare(&mut self, now_ns: u64, out: &mut Outbox) {
        let State::Comparing(comparing) = &mut self.state else {
            return;
        };
        self.last_progress_ns = now_ns;
        match comparing.advance() {
            None => {}
            Some(Ok(digest)) => {
                let length = comparing.offer.length.unwrap_or(0);
                for _ in 0..2 {
                    self.send(out, &Body::Done { was_there: true });
                }
                self.end(Ok(Figures {
                    length,
                    was_there: true,
                    digest,
                    ..Figures::default()
                }));
            }
            Some(Err(failure)) => self.fail(failure, out),
        }
    }
}

impl Protocol for Pull {
    fn on_batch(&mut self, now_ns: u64, batch: &Batch<'_>, out: &mut Outbox) -> Served {
        for datagram in batch.datagrams() {
            let source = &datagram.message.came.source;
            match wire::decode(datagram.data) {
                Ok((id, body)) if id == self.what.id => {
                    (self.heard_ns, self.asked) = (now_ns, 0);
                    self.take(now_ns, &body, out);
                    out.consume(&datagram);
                }
                Ok((id, Body::Data { .. } | Body::End { .. })) => {
                    // Of a pull that was given up: nobody wants it any more.
                    self.scratch.clear();
                    let body = Body::Abort {
                        reason: Some(Reason::Cancelled),
                        text: "",
                    };
                    wire::encode(&mut self.scratch, id, &body);
                    out.send(self.to, &self.scratch);
                    out.consume(&datagram);
                }
                Ok(_) => out.drop(DropReason::TransferUnknown, 1, source),
                Err(_) => out.drop(DropReason::TransferMalformed, 1, source),
            }
        }
        self.settle(now_ns, out);
        Served::Done
    }

    fn deadline_ns(&self) -> Option<u64> {
        let give_up_ns = self.last_progress_ns + self.what.progress_timeout_ns;
        match &self.state {
            State::Asking { next_ns, .. } => Some(give_up_ns.min(*next_ns)),
            State::Receiving(incoming) if incoming.has_work() => Some(0),
            State::Receiving(_) => Some(give_up_ns.min(self.ask_again_ns())),
            State::Comparing(_) => Some(0),
            State::Ended(_) => None,
        }
    }

    fn on_time(&mut self, now_ns: u64, out: &mut Outbox) -> Served {
        if self.outcome().is_some() {
            return Served::Done;
        }
        if let Some(why) = self.given_up.take() {
            self.fail(why, out);
            return Served::Done;
        }
        self.settle(now_ns, out);
        self.compare(now_ns, out);
        if self.outcome().is_some() {
            return Served::Done;
        }
        if now_ns >= self.last_progress_ns + self.what.progress_timeout_ns {
            let seconds = self.what.progress_timeout_ns as f64 / 1e9;
            let what = match &self.state {
                State::Asking { .. } if self.cookie == Cookie::default() => {
                    "nobody answers there: is `rsecho serve --transfer` running, and UDP let through?"
                }
                _ => "the sender does not answer any more",
            };
            let text = format!("no progress for {seconds} s: {what}");
            self.fail(Failure::new(Reason::TimedOut, text), out);
            return Served::Done;
        }
        if matches!(self.state, State::Receiving(_)) && now_ns >= self.ask_again_ns() {
            self.asked += 1;
            self.ask(out);
        }
        if let State::Asking { next_ns, times } = self.state
            && now_ns >= next_ns
        {
            self.ask(out);
            let wait_ns = (PULL_NS << times.min(10)).min(LONGEST_NS);
            self.state = State::Asking {
                next_ns: now_ns + wait_ns,
                times: times + 1,
            };
        }
        Served::Done
    }

    fn tolerates(&mut self, error: &std::io::Error) -> bool {
        let was_there = self.cookie != Cookie::default();
        is_passing(error) && (was_there || !is_refused(error))
    }
}
