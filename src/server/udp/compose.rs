//! The other loop: receive → judge → (spoil) → respond → (spoil) → plan → send.
//!
//! For servers that answer with something else than what came, or spoil it. The same batch,
//! judges, planner and sends as the echo's; what lies between costs a copy a datagram, and
//! an allocation for each that is held back. Law, at any moment:
//! received + duplicated = sent + Σ dropped + pending.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::counters::Tally;
use super::echo::Worker;
use super::engine::Engine;
use crate::error::Result;
use crate::event;
use crate::guard::{Policy, Rate};
use crate::impair::{self, Delay, Direction, Fate, Flows, Letter, Line, Netem};
use crate::respond::{Completions, Outcome, Replies, Request, Respond, is_error_reply};
use crate::stats::DropReason;
use crate::sys::RawAddress;
use crate::sys::message::{Destination, Received};

/// The broadcast responder: what was sent to a broadcast address is answered from the
/// interface's own, after a random delay, and not too often (RFC 1122 §3.2.2.6 and RFC 919:
/// one datagram would otherwise have a whole network answer at once).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Broadcast {
    /// Replies are sent after a time between nothing and this one, evenly distributed.
    pub max_delay: Duration,
    /// Replies a second, more than 0, of all workers together: as often, and never two at once.
    pub per_second: f64,
}

impl Default for Broadcast {
    /// Within 100 ms, 10 a second.
    fn default() -> Self {
        Self {
            max_delay: Duration::from_millis(100),
            per_second: 10.0,
        }
    }
}

/// How often all workers of a server together answer a broadcast: one at once, and another as
/// soon as its turn has come (a token bucket of one).
pub(super) struct Turns {
    start: Instant,
    interval_ns: u64,
    next_ns: AtomicU64,
}

impl Turns {
    pub(super) fn new(broadcast: &Broadcast) -> Result<Self> {
        Rate::new(broadcast.per_second, Some(1)).validate("broadcast_rate")?;
        Ok(Self {
            start: Instant::now(),
            interval_ns: (1e9 / broadcast.per_second) as u64,
            next_ns: AtomicU64::new(0),
        })
    }

    fn take(&self) -> bool {
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let next = |next| (next <= now).then(|| now.saturating_add(self.interval_ns));
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        self.next_ns.fetch_update(success, failure, next).is_ok()
    }
}

/// Replies to be sent together: bytes, and for each whom it goes to. A reply is a message
/// that "came" from its target.
#[derive(Default)]
struct Page {
    bytes: Vec<u8>,
    letters: Vec<Received>,
    starts: Vec<usize>,
    /// Of each letter: why it was not sent, if so.
    verdicts: Vec<Option<DropReason>>,
}

/// A page is sent when it has so many bytes or letters: what a few full trains carry.
const PAGE_BYTES: usize = 256 * 1024;
const PAGE_LETTERS: usize = 1024;

/// Requests that a responder is asked at once: their replies are all in memory until the page is
/// looked at, 16 MiB of them at most.
const PART: usize = 256;

/// What no datagram carries, whatever the protocol (RFC 768 over RFC 8200).
const MAX_REPLY_BYTES: usize = 65_527;

/// Requests of a worker that may wait for late answers; beyond them they fail, rather than fill
/// the memory while an event loop is busy with something else.
const MOST_TICKETS: usize = 10_000;

/// How long a server that ends by itself waits for what it holds back, and for answers that were
/// promised; one that is told to end is told how long that may take.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// What a worker composes answers with.
pub(super) struct Composer {
    responder: Option<Box<dyn Respond>>,
    completions: Option<Arc<Completions>>,
    /// Requests whose answers will come late, by their tickets.
    tickets: HashMap<u64, Received>,
    replies: Replies,
    page: Page,
    /// Of this batch; in memory that is used again.
    asked: Vec<Asked>,
    flows: Flows,
    /// How many replies one request may come to, where datagrams are duplicated on purpose.
    copies: usize,
    incoming: Option<Line<Received>>,
    outgoing: Option<Line<Received>>,
    broadcast: Option<Line<Received>>,
    turns: Option<Arc<Turns>>,
    own: SocketAddr,
    start: Instant,
    /// The time of this batch, since `start`; stands still where nothing is held back.
    now_ns: u64,
    /// Of this batch.
    sends: usize,
}

impl Composer {
    fn new(
        responder: Option<Box<dyn Respond>>,
        broadcast: Option<(Broadcast, Arc<Turns>)>,
        own: SocketAddr,
        start: Instant,
    ) -> Self {
        let (broadcast, turns) = broadcast.unzip();
        Self {
            completions: responder.as_ref().and_then(|one| one.completions()),
            responder,
            tickets: HashMap::new(),
            replies: Replies::default(),
            page: Page::default(),
            asked: Vec::new(),
            flows: Flows::new(Arc::default()),
            copies: 1,
            incoming: None,
            outgoing: None,
            broadcast: broadcast.map(broadcast_line),
            turns,
            own,
            start,
            now_ns: 0,
            sends: 0,
        }
    }

    /// When the first of what is held back is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let due_ns = self.lines().filter_map(Line::next_due_ns).min()?;
        self.start.checked_add(Duration::from_nanos(due_ns))
    }

    fn lines(&self) -> impl Iterator<Item = &Line<Received>> {
        let lines = [&self.incoming, &self.outgoing, &self.broadcast];
        lines.into_iter().flatten()
    }

    fn read_clock(&mut self) {
        if self.lines().next().is_some() {
            self.now_ns = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        }
    }

    /// What became of a request that was asked of the responder.
    fn settle(
        &mut self,
        tally: &mut Tally,
        policy: &Policy,
        (outcome, reply): (Outcome, &[u8]),
        (request, came): (&[u8], Came<'_>),
    ) {
        let reason = match outcome {
            Outcome::Reply => return self.send_back(tally, policy, reply, came),
            Outcome::Error if is_error_reply(request) => DropReason::ErrorReply,
            Outcome::Error => {
                tally.error_replies += 1;
                return self.send_back(tally, policy, reply, came);
            }
            Outcome::Later(ticket) => {
                self.tickets.insert(ticket, came.single());
                return;
            }
            Outcome::Silence => DropReason::NoReply,
            Outcome::Failed => DropReason::ResponderFailed,
        };
        tally.drop(reason, 1, &came.message.source);
    }

    /// Sends a reply on its way, which may be a long one.
    fn send_back(&mut self, tally: &mut Tally, policy: &Policy, reply: &[u8], came: Came<'_>) {
        let Some(peer) = came.message.source.to_std() else {
            return tally.drop(DropReason::SourceUnspecified, 1, &came.message.source);
        };
        if reply.len() > MAX_REPLY_BYTES {
            return tally.drop(DropReason::SendTooLarge, 1, &came.message.source);
        }
        if !policy.allows_reply(peer.ip(), came.length, reply.len(), self.copies) {
            return tally.drop(DropReason::Amplification, 1, &came.message.source);
        }
        let mut line = &mut self.outgoing;
        if came.message.destination.is_group() {
            line = &mut self.broadcast;
            if self.turns.as_ref().is_some_and(|turns| !turns.take()) {
                return tally.drop(DropReason::BroadcastLimited, 1, &came.message.source);
            }
        }
        let Some(line) = line else {
            return self.page.add(reply, came.message);
        };
        let letter = Letter {
            data: reply.to_vec(),
            tag: came.single(),
        };
        let fate = line.put(self.now_ns, self.flows.number(peer), letter);
        count_fate(tally, &fate, &came.message.source);
    }

    fn request<'a>(&self, data: &'a [u8], came: &Received) -> Request<'a> {
        let ip = came.destination.ip().unwrap_or(self.own.ip());
        Request {
            data,
            // Judged before: a source without an address is not answered.
            peer: came.source.to_std().unwrap_or(self.own),
            local: SocketAddr::new(ip, self.own.port()),
        }
    }
}

/// A datagram that is to be answered: where it lies, or the copy that was held back.
enum Asked {
    Slot {
        slot: usize,
        offset: usize,
        length: usize,
    },
    Held(Box<Letter<Received>>),
}

/// Which message a datagram came in, and its length.
#[derive(Clone, Copy)]
struct Came<'a> {
    message: &'a Received,
    length: usize,
}

impl Came<'_> {
    /// As a message of its own.
    fn single(self) -> Received {
        single(self.message, self.length)
    }
}

impl Asked {
    fn data<'a, E: Engine>(&'a self, engine: &'a E) -> &'a [u8] {
        match self {
            Asked::Slot {
                slot,
                offset,
                length,
            } => engine.data(*slot, *offset, *length),
            Asked::Held(letter) => &letter.data,
        }
    }

    fn came<'a>(&'a self, received: &'a [Received]) -> Came<'a> {
        match self {
            Asked::Slot { slot, length, .. } => Came {
                message: &received[*slot],
                length: *length,
            },
            Asked::Held(letter) => Came {
                message: &letter.tag,
                length: letter.data.len(),
            },
        }
    }
}

/// One datagram of a message, as a message of its own.
fn single(received: &Received, length: usize) -> Received {
    Received {
        length,
        segment_bytes: 0,
        ..*received
    }
}

impl Page {
    fn add(&mut self, reply: &[u8], to: &Received) {
        let mut letter = single(to, reply.len());
        if let Destination::V6 { addressed, .. } = letter.destination
            && addressed.is_multicast()
        {
            // Nothing can be sent from a group's address: the kernel chooses one of ours.
            letter.destination = Destination::Unknown;
        }
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(reply);
        self.letters.push(letter);
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= PAGE_BYTES || self.letters.len() >= PAGE_LETTERS
    }
}

fn count_fate(tally: &mut Tally, fate: &Fate, peer: &RawAddress) {
    let lost = u64::from(fate.lost) + u64::from(fate.overflow);
    if fate.lost {
        tally.drop(DropReason::ImpairLost, 1, peer);
    }
    if fate.overflow {
        tally.drop(DropReason::ImpairOverflow, 1, peer);
    }
    tally.duplicated_packets += u64::from(fate.duplicates);
    tally.corrupted_packets += u64::from(fate.corrupted);
    tally.delayed_packets += u64::from(fate.delayed && lost == 0);
}

/// A delay between nothing and the most, evenly: for the replies to a broadcast.
fn broadcast_line(broadcast: Broadcast) -> Line<Received> {
    let half_ns = u64::try_from(broadcast.max_delay.as_nanos() / 2).unwrap_or(u64::MAX);
    let spec = Netem {
        delay: Some(Delay {
            time_ns: half_ns,
            jitter_ns: half_ns,
            ..Delay::default()
        }),
        seed: Some(impair::random_seed()),
        ..Netem::default()
    };
    Line::new(&spec, Direction::Out, None)
}

impl<E: Engine> Worker<'_, E> {
    /// Takes up what the server spoils from now on. What was held back goes on its way.
    #[cold]
    pub(super) fn settle_composer(&mut self) {
        let (generation, setting) = self.service.impairing.get();
        self.generation = generation;
        let line = |spec: &Option<Netem>, direction, wire| {
            let replays = setting
                .tape
                .as_ref()
                .is_some_and(|tape| tape.is_replaying());
            let spec = spec.clone().unwrap_or_default();
            let is_needed = replays || !spec.is_noop();
            is_needed.then(|| Line::new(&spec, direction, setting.tape.clone()).on(wire))
        };
        let incoming = line(
            &setting.impairments.incoming,
            Direction::In,
            &setting.wires[0],
        );
        let outgoing = line(
            &setting.impairments.outgoing,
            Direction::Out,
            &setting.wires[1],
        );
        let mut composer = match self.composer.take() {
            Some(old) => old,
            None => Box::new(Composer::new(
                self.service.responder.take(),
                self.service.broadcast.clone(),
                self.service.own,
                self.service.impairing.start,
            )),
        };
        composer.replies.heed(self.control.orders());
        let asked = composer
            .incoming
            .as_mut()
            .map_or_else(Vec::new, Line::take_all);
        let replies = composer
            .outgoing
            .as_mut()
            .map_or_else(Vec::new, Line::take_all);
        let doubles = |spec: &Option<Netem>| {
            let has = spec.as_ref().is_some_and(|spec| spec.duplicate.is_some());
            let replays = setting
                .tape
                .as_ref()
                .is_some_and(|tape| tape.is_replaying());
            1 + usize::from(has || replays)
        };
        composer.copies =
            doubles(&setting.impairments.incoming) * doubles(&setting.impairments.outgoing);
        composer.incoming = incoming;
        composer.outgoing = None;
        composer.flows = Flows::new(setting.flows);
        if !(asked.is_empty() && replies.is_empty()) {
            self.begin();
            for letter in replies {
                self.post(&mut composer, &letter);
            }
            let asked: Vec<_> = asked.into_iter().map(Box::new).map(Asked::Held).collect();
            self.answer(&mut composer, &asked);
            self.post_page(&mut composer);
            self.end();
        }
        composer.outgoing = outgoing;
        let is_needed = composer.responder.is_some() || composer.lines().next().is_some();
        self.service.guard.answers(composer.copies, is_needed);
        if is_needed {
            self.composer = Some(composer);
        }
    }

    /// Serves `count` messages as [`Worker::batch`] does.
    pub(super) fn compose(&mut self, count: usize) -> bool {
        let Some(mut composer) = self.composer.take() else {
            return false;
        };
        self.begin();
        composer.read_clock();
        let (mut end, mut trains) = (false, 0);
        let mut asked = std::mem::take(&mut composer.asked);
        for slot in 0..count {
            let mut received = self.engine.take(slot);
            let verdict = self.judge(slot, &mut received);
            trains += usize::from(received.segment_bytes > 0);
            self.received.push(received);
            self.verdicts.push(verdict);
            if verdict.is_none() {
                end |= received.length == 0 && self.service.stop_on_empty;
                self.let_in(&mut composer, slot, &mut asked);
            }
        }
        let access = self.service.observer.access();
        if access.is_some() || self.service.record_bytes.is_some() {
            self.tell_received(access);
        }
        let sends = self.serve_asked(&mut composer, asked);
        self.service.receiver.learn(count, trains, sends);
        self.composer = Some(composer);
        self.end();
        end
    }

    /// Serves what needs no datagram: answers that came late, what is due now.
    #[cold]
    pub(super) fn compose_late(&mut self) {
        if self.service.impairing.has_changed(self.generation) {
            self.settle_composer();
        }
        let Some(mut composer) = self.composer.take() else {
            return;
        };
        self.begin();
        composer.read_clock();
        let asked = std::mem::take(&mut composer.asked);
        self.serve_asked(&mut composer, asked);
        self.composer = Some(composer);
        self.end();
    }

    /// The worker ends: waits for what is due and for late answers as long as it may; counts the
    /// rest as dropped.
    #[cold]
    pub(super) fn drain_composer(&mut self) {
        let end = Instant::now() + LAST_ANSWERS;
        while let Some(composer) = &self.composer {
            let now = Instant::now();
            let left = if self.control.is_stopping() {
                self.control.time_left()
            } else {
                end.saturating_duration_since(now)
            };
            let last = now.checked_add(left).unwrap_or(end);
            let due = composer.next_due().filter(|due| *due <= last);
            if left.is_zero() || (due.is_none() && composer.tickets.is_empty()) {
                break;
            }
            // Looked at again soon: a second stop may say "now".
            let mut sleep = left.min(Duration::from_millis(20));
            if let Some(due) = due {
                sleep = sleep.min(due.saturating_duration_since(Instant::now()));
            }
            self.service.receiver.rest(sleep);
            self.compose_late();
        }
        let Some(mut composer) = self.composer.take() else {
            return;
        };
        self.counters.open();
        let lines = [
            &mut composer.incoming,
            &mut composer.outgoing,
            &mut composer.broadcast,
        ];
        let held = lines.into_iter().flatten().map(|line| line.len());
        let lost = held.sum::<usize>() + composer.tickets.len();
        if lost > 0 {
            self.tally.drop_many(DropReason::Stopped, lost as u64);
        }
        self.end();
    }

    /// Lets the datagrams of a slot through the incoming line, or straight in.
    fn let_in(&mut self, composer: &mut Composer, slot: usize, asked: &mut Vec<Asked>) {
        let received = &self.received[slot];
        let mut offset = 0;
        for length in received.lengths() {
            if let Some(line) = &mut composer.incoming
                && let Some(peer) = received.source.to_std()
            {
                let letter = Letter {
                    data: self.engine.data(slot, offset, length).to_vec(),
                    tag: single(received, length),
                };
                let flow = composer.flows.number(peer);
                let fate = line.put(composer.now_ns, flow, letter);
                count_fate(&mut self.tally, &fate, &received.source);
            } else {
                asked.push(Asked::Slot {
                    slot,
                    offset,
                    length,
                });
            }
            offset += length;
        }
    }

    /// Answers what was asked, and sends what is due by now; in how many sends.
    fn serve_asked(&mut self, composer: &mut Composer, mut asked: Vec<Asked>) -> usize {
        composer.sends = 0;
        let now_ns = composer.now_ns;
        let due = |line: &mut Option<Line<Received>>| line.as_mut()?.due(now_ns);
        while let Some(letter) = due(&mut composer.incoming) {
            asked.push(Asked::Held(Box::new(letter)));
        }
        self.answer(composer, &asked);
        asked.clear();
        composer.asked = asked;
        self.settle_late(composer);
        while let Some(letter) = due(&mut composer.outgoing) {
            self.post(composer, &letter);
        }
        while let Some(letter) = due(&mut composer.broadcast) {
            self.post(composer, &letter);
        }
        self.post_page(composer);
        composer.sends
    }

    fn answer(&mut self, composer: &mut Composer, mut asked: &[Asked]) {
        let mut responder = composer.responder.take();
        while !asked.is_empty() {
            let part = &asked[..asked.len().min(PART)];
            let done = match &mut responder {
                None => {
                    for one in part {
                        let (data, came) = (one.data(&self.engine), one.came(&self.received));
                        composer.send_back(&mut self.tally, &self.service.policy, data, came);
                    }
                    part.len()
                }
                // Before each call, the first as well: no call begins after the deadline.
                Some(_) if self.control.is_over() => {
                    let left = asked.len() as u64;
                    self.tally.drop_many(DropReason::Stopped, left);
                    break;
                }
                Some(responder) => self.respond(composer, responder.as_mut(), part),
            };
            // One that takes its time need not hold up what is answered.
            if done < part.len() || composer.page.is_full() {
                self.post_page(composer);
            }
            asked = &asked[done..];
        }
        composer.responder = responder;
    }

    /// Has some of these answered, at least the first; how many.
    fn respond(
        &mut self,
        composer: &mut Composer,
        responder: &mut dyn Respond,
        part: &[Asked],
    ) -> usize {
        let mut most = part.len();
        if composer.completions.is_some() {
            most = most.min(MOST_TICKETS.saturating_sub(composer.tickets.len()));
            if most == 0 {
                let left = part.len();
                let last = part[left - 1].came(&self.received).message.source;
                self.tally
                    .drop(DropReason::ResponderFailed, left as u64, &last);
                return left;
            }
        }
        // Whoever asks for the statistics need not wait for it; it may be the one who asks.
        self.log_drops();
        self.tally.publish(self.counters);
        let requests: Vec<Request<'_>> = part[..most]
            .iter()
            .map(|one| composer.request(one.data(&self.engine), one.came(&self.received).message))
            .collect();
        let mut replies = std::mem::take(&mut composer.replies);
        replies.clear();
        self.control
            .asking(|| responder.respond(&requests, &mut replies));
        self.counters.open();
        let done = replies.len();
        assert!(
            (1..=most).contains(&done),
            "a responder answers at least one request, and each once"
        );
        for (index, request) in requests[..done].iter().enumerate() {
            let came = part[index].came(&self.received);
            composer.settle(
                &mut self.tally,
                &self.service.policy,
                replies.get(index),
                (request.data, came),
            );
        }
        composer.replies = replies;
        done
    }

    /// Answers that were promised and have come.
    fn settle_late(&mut self, composer: &mut Composer) {
        let Some(completions) = composer.completions.clone() else {
            return;
        };
        for (ticket, outcome, reply) in completions.take() {
            // One that is not there any more was answered before: a ticket counts once.
            if let Some(came) = composer.tickets.remove(&ticket) {
                // Whether the request was an error is known by whoever made the reply one.
                let outcome = (outcome, &*reply);
                let came = Came {
                    message: &came,
                    length: came.length,
                };
                composer.settle(&mut self.tally, &self.service.policy, outcome, (b"", came));
            }
            if composer.page.is_full() {
                self.post_page(composer);
            }
        }
    }

    /// Puts a letter on the page, and sends that when it is full.
    fn post(&mut self, composer: &mut Composer, letter: &Letter<Received>) {
        composer.page.add(&letter.data, &letter.tag);
        if composer.page.is_full() {
            self.post_page(composer);
        }
    }

    /// Plans and sends what is on the page.
    fn post_page(&mut self, composer: &mut Composer) {
        let page = &mut composer.page;
        if page.letters.is_empty() {
            return;
        }
        assert!(
            page.letters.len() <= usize::from(u16::MAX),
            "a page is bounded"
        );
        // For as long as this takes, the letters are what "was received".
        std::mem::swap(&mut self.received, &mut page.letters);
        std::mem::swap(&mut self.verdicts, &mut page.verdicts);
        self.verdicts.clear();
        self.verdicts.resize(self.received.len(), None);
        self.is_composing = true;
        for (letter, start) in self.received.iter().zip(&page.starts) {
            let data = &page.bytes[*start..start + letter.length];
            self.service.guard.sent(&letter.source, data);
        }
        self.engine.lend(std::mem::take(&mut page.bytes));
        self.plan.clear();
        for (slot, start) in page.starts.iter().enumerate() {
            self.plan_answer(slot, *start);
        }
        composer.sends += self.plan.groups().len();
        self.send();
        if self.service.observer.access().is_some() {
            self.time_ns = event::now_ns();
            self.admitted.clear();
            self.admitted.resize(self.received.len(), true);
            self.tell_answered();
        }
        self.is_composing = false;
        page.bytes = self.engine.give_back();
        page.bytes.clear();
        page.bytes.shrink_to(2 * PAGE_BYTES);
        page.starts.clear();
        std::mem::swap(&mut self.received, &mut page.letters);
        std::mem::swap(&mut self.verdicts, &mut page.verdicts);
        page.letters.clear();
    }
}
