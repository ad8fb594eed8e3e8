//! One message on its way out: offered, sent, ended. The protocol is docs/transfer.md.
//!
//! Law: every offset below the length is at any moment acknowledged, on its way, known as lost, or
//! not sent yet; so either all of it arrives or the transfer fails, by the progress timeout at the
//! latest.

mod scoreboard;
mod train;

use crate::datagram::{Outbox, Transmit};

use super::congestion::{Acked, Congestion};
use super::failure::{Failure, Reason};
use super::mtu::Mtu;
use super::pacing::Pacer;
use super::rtt::Rtt;
use super::store::{Digest, Name, Source};
use super::wire::{self, AckBody, Body, Cookie, OfferBody};
use scoreboard::Scoreboard;

pub(crate) use scoreboard::cost;

const MILLISECOND: u64 = 1_000_000;

/// An offer is repeated after so long, then after twice as long.
const OFFER_NS: u64 = 200 * MILLISECOND;
/// No wait for an answer is longer (docs/transfer.md: Tail).
const LONGEST_NS: u64 = 2_000 * MILLISECOND;
/// A source that has nothing yet is asked again after so long.
const STARVED_NS: u64 = 2 * MILLISECOND;
/// Who has nothing to send asks this often whether the other side is there.
const IDLE_NS: u64 = 250 * MILLISECOND;
/// A slice of bytes that are only hashed.
const HASH_SLICE: usize = 1 << 20;
/// After so many timeouts in a row nothing is known any more (RFC 9002 §7.6).
const SILENCE: u32 = 3;

/// How a message is sent.
#[derive(Debug, Clone)]
pub struct Sending {
    /// Name of the file; no components: a message without a name.
    pub name: Name,
    /// Asks to replace a file of this name.
    pub replaces: bool,
    /// Gives up after this time without progress.
    pub progress_timeout_ns: u64,
    /// The maximum speed, all packets included.
    pub bytes_per_second: Option<u64>,
    /// What one datagram may carry on the first link: its MTU less the headers of IP and UDP.
    pub max_datagram_bytes: usize,
}

/// Figures of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Length of the message in bytes.
    pub length: u64,
    /// Bytes that the receiver had from an earlier attempt.
    pub resumed_from: u64,
    /// True if it had the whole message.
    pub was_there: bool,
    /// Packets with data that were sent.
    pub sent_packets: u64,
    /// Those of them that repeated data.
    pub retransmitted_packets: u64,
    /// Packets that were considered lost.
    pub lost_packets: u64,
    /// Bytes on the wire, without the headers of UDP and IP.
    pub sent_bytes: u64,
    /// Smoothed round-trip time in ns; 0: none was measured.
    pub smoothed_rtt_ns: u64,
    /// Shortest round-trip time of late, in ns; 0: none was measured.
    pub least_rtt_ns: u64,
    /// Data per datagram at the end, in bytes.
    pub chunk_bytes: u64,
    /// Congestion window at the end, in bytes.
    pub window_bytes: u64,
    /// Number of times that it was reduced.
    pub congestions: u64,
    /// BLAKE3 over all bytes.
    pub digest: Digest,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Since when, and how often the offer was sent.
    Offering {
        next_ns: u64,
        times: u32,
    },
    Sending,
    Done,
    Failed(Failure),
}

/// What the receiver has room for.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    limit: u64,
    in_flight_bytes: u64,
    /// The largest packet number of the acknowledgement that said so.
    number: u64,
}

/// One message on its way out.
pub struct Sender {
    id: u64,
    to: Transmit,
    settings: Sending,
    source: Box<dyn Source>,
    state: State,
    cookie: Cookie,
    board: Scoreboard,
    window: Window,
    /// What was never sent to this receiver begins here.
    fresh: u64,
    rtt: Rtt,
    congestion: Congestion,
    pace: Pacer,
    rate: Pacer,
    mtu: Mtu,
    hasher: blake3::Hasher,
    hashed: u64,
    digest: Option<Digest>,
    /// How often END was sent, to any receiver.
    ends_sent: u32,
    /// Timeouts in a row.
    timeouts: u32,
    /// Packets that go whatever the windows say.
    probes: u32,
    /// Of these, only the short one goes.
    only_pings: bool,
    /// When something was last sent that is to be acknowledged.
    last_sent_ns: u64,
    last_progress_ns: u64,
    accepted_ns: u64,
    starved_until_ns: u64,
    is_limited: bool,
    scratch: Vec<u8>,
    figures: Figures,
}

impl Sender {
    /// Sends a source to a receiver, and offers it from `now_ns` on. No cookie is needed if the
    /// receiver has asked for the message.
    pub fn new(
        id: u64,
        to: Transmit,
        source: Box<dyn Source>,
        settings: Sending,
        now_ns: u64,
    ) -> Self {
        let mtu = Mtu::new(settings.max_datagram_bytes);
        let rate = settings.bytes_per_second.unwrap_or(0) as f64;
        Self {
            id,
            to,
            congestion: Congestion::new(cost(mtu.size())),
            pace: Pacer::new(0.0),
            rate: Pacer::new(rate),
            mtu,
            source,
            state: State::Offering {
                next_ns: now_ns,
                times: 0,
            },
            cookie: Cookie::default(),
            board: Scoreboard::default(),
            window: Window::default(),
            fresh: 0,
            rtt: Rtt::default(),
            hasher: blake3::Hasher::new(),
            hashed: 0,
            digest: None,
            ends_sent: 0,
            timeouts: 0,
            probes: 0,
            only_pings: false,
            last_sent_ns: now_ns,
            last_progress_ns: now_ns,
            accepted_ns: now_ns,
            starved_until_ns: 0,
            is_limited: false,
            scratch: Vec::new(),
            figures: Figures::default(),
            settings,
        }
    }

    /// Uses the cookie of an earlier transfer to the same receiver.
    pub fn set_cookie(&mut self, cookie: Cookie) {
        self.cookie = cookie;
    }

    /// The cookie that the receiver has sent.
    pub fn cookie(&self) -> Cookie {
        self.cookie
    }

    /// Where its packets go.
    pub fn transmit(&self) -> Transmit {
        self.to
    }

    /// The transfer's id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Name of the message.
    pub fn name(&self) -> &Name {
        &self.settings.name
    }

    /// How it ended; `None`: it goes on.
    pub fn outcome(&self) -> Option<Result<Figures, Failure>> {
        match &self.state {
            State::Done => Some(Ok(self.figures())),
            State::Failed(failure) => Some(Err(failure.clone())),
            _ => None,
        }
    }

    /// The current figures.
    pub fn figures(&self) -> Figures {
        let is_known = self.rtt.is_known();
        Figures {
            length: self.source.length().unwrap_or(self.fresh),
            smoothed_rtt_ns: if is_known { self.rtt.smoothed() } else { 0 },
            least_rtt_ns: if is_known { self.rtt.least() } else { 0 },
            chunk_bytes: scoreboard::payload(self.mtu.size()) as u64,
            window_bytes: self.congestion.window(),
            congestions: self.congestion.cuts,
            digest: self.digest.unwrap_or_default(),
            ..self.figures
        }
    }

    /// Number of bytes that the receiver has.
    pub fn done_bytes(&self) -> u64 {
        self.board.prefix
    }

    /// Bytes in all, where that is known.
    pub fn length(&self) -> Option<u64> {
        self.source.length()
    }

    /// Gives the transfer up, and tells the receiver.
    pub fn cancel(&mut self, reason: Reason, text: &str, out: &mut Outbox) {
        if self.outcome().is_none() {
            self.abort(Failure::new(reason, text), out);
        }
    }

    // --- what comes ---------------------------------------------------------------------

    /// A packet of this transfer came. What it leads to is sent by [`Sender::on_time`].
    pub fn on_packet(&mut self, now_ns: u64, body: &Body<'_>) {
        if self.outcome().is_some() {
            return;
        }
        match body {
            Body::Cookie(cookie) if self.is_offering() && *cookie != self.cookie => {
                if self.cookie == Cookie::default() {
                    // Somebody is there: the offer itself has all the time again.
                    self.last_progress_ns = now_ns;
                }
                self.cookie = *cookie;
                self.state = State::Offering {
                    next_ns: now_ns,
                    times: 1,
                };
            }
            Body::Ack(ack) => {
                if self.is_offering() {
                    self.accept(now_ns, ack);
                }
                self.acknowledge(now_ns, ack);
            }
            Body::Done { was_there } => self.finish(*was_there),
            Body::Abort { reason, text } => self.on_abort(now_ns, *reason, text),
            _ => {}
        }
    }

    fn is_offering(&self) -> bool {
        matches!(self.state, State::Offering { .. })
    }

    /// The receiver has taken the offer, and has so much from before.
    fn accept(&mut self, now_ns: u64, ack: &AckBody) {
        if self.source.length().is_some_and(|all| ack.prefix > all) {
            return;
        }
        if ack.prefix < self.source.first() {
            let text = "the receiver has lost what a pipe cannot give again; send it again";
            return self.fail(Failure::new(Reason::Io, text));
        }
        self.state = State::Sending;
        self.board.restart(ack.prefix);
        self.fresh = ack.prefix;
        self.figures.resumed_from = ack.prefix;
        self.window = Window::default();
        self.accepted_ns = now_ns;
        self.last_progress_ns = now_ns;
        self.last_sent_ns = now_ns;
        self.timeouts = 0;
    }

    fn acknowledge(&mut self, now_ns: u64, ack: &AckBody) {
        if !matches!(self.state, State::Sending) {
            return;
        }
        let newest = ack.ranges.first().map(|(_, last)| *last);
        let is_bogus = newest.is_some_and(|newest| newest >= self.board.next_number)
            || ack.prefix > self.fresh;
        if is_bogus {
            // Nobody has acknowledged what was not sent.
            return;
        }
        if newest.is_none() || newest >= Some(self.window.number) {
            self.window.number = newest.unwrap_or(0);
            self.window.in_flight_bytes = ack.in_flight_bytes.into();
        }
        self.window.limit = self.window.limit.max(ack.limit);
        let came = self.board.acknowledge(now_ns, &ack.ranges, ack.prefix);
        self.source.release(self.board.prefix);
        for size in &came.probes {
            self.mtu.passed(now_ns, *size);
            self.congestion.set_packet(cost(self.mtu.size()));
        }
        let sample = came.newest.map(|(number, sent_ns)| {
            let sample_ns = now_ns.saturating_sub(sent_ns).max(1);
            self.rtt
                .add(now_ns, sample_ns, u64::from(ack.delay_us) * 1_000);
            (number, sample_ns)
        });
        if came.packets > 0 {
            self.timeouts = 0;
            self.congestion.on_acked(&Acked {
                now_ns,
                bytes: came.bytes,
                packets: came.packets,
                largest: self.board.largest_acked.unwrap_or(0),
                next_number: self.board.next_number,
                rtt_ns: sample.map(|(_, sample_ns)| sample_ns),
                smoothed_ns: self.rtt.smoothed(),
                is_limiting: self.is_limited,
            });
        }
        // That a short packet came is none.
        if came.has_progress || came.longest > 0 || came.has_end {
            self.last_progress_ns = now_ns;
        }
        self.mtu.came(came.longest);
        self.find_lost(now_ns);
        self.pace();
    }

    fn find_lost(&mut self, now_ns: u64) {
        let lost = self.board.find_lost(now_ns, self.rtt.loss_delay());
        for _ in 0..lost.probes {
            self.mtu.failed(now_ns);
        }
        if lost.packets > 0 {
            self.figures.lost_packets += lost.packets;
            let least_ns = self.rtt.least();
            self.congestion.on_lost(now_ns, lost.packets, least_ns);
        }
        if self.mtu.lost(now_ns, lost.longest, self.rtt.smoothed()) {
            self.congestion.set_packet(cost(self.mtu.size()));
        }
        if lost.any() {
            self.pace();
        }
    }

    fn finish(&mut self, was_there: bool) {
        // Without END nobody can have it all, but for who has it from before.
        if self.ends_sent == 0 && !(was_there && self.digest.is_some()) {
            return;
        }
        self.figures.was_there = was_there && self.ends_sent == 0;
        self.board.prefix = self.source.length().unwrap_or(self.fresh);
        self.state = State::Done;
    }

    fn on_abort(&mut self, now_ns: u64, reason: Option<Reason>, text: &str) {
        match reason {
            Some(Reason::Unknown) => self.restart(now_ns),
            Some(Reason::TooMany) => {
                // Later there may be room; how long that may take, the progress timeout says.
                match self.state {
                    State::Offering { .. } => self.offer_again(now_ns + OFFER_NS),
                    // It had been taken, and has run out of room: nothing of it was delivered.
                    _ => self.begin_again(now_ns + OFFER_NS),
                }
            }
            // Said to an offer before the one with the digest.
            Some(Reason::ExistsAlike) if self.digest.is_some() => {}
            Some(Reason::ExistsAlike)
                if self.is_offering() && self.digest.is_none() && self.length().is_some() =>
            {
                // `on_time` reads all of it, and then there is a digest.
                self.offer_again(u64::MAX);
            }
            reason => {
                let reason = reason.unwrap_or(Reason::Cancelled);
                let text = match text {
                    "" => format!("the other side gave up ({})", reason.name()),
                    text => format!("the other side gave up: {text}"),
                };
                self.fail(Failure {
                    reason,
                    text,
                    is_remote: true,
                });
            }
        }
    }

    fn offer_again(&mut self, next_ns: u64) {
        self.state = State::Offering { next_ns, times: 1 };
    }

    /// The receiver does not know this transfer: it was restarted.
    fn restart(&mut self, now_ns: u64) {
        let is_late = now_ns < self.accepted_ns + self.rtt.probe_timeout();
        if self.is_offering() || is_late {
            return;
        }
        if self.ends_sent > 0 && self.settings.name.is_none() {
            let text = "the receiver was restarted when all was sent: it may or may not have \
                        delivered the message";
            return self.fail(Failure::new(Reason::Unknown, text));
        }
        self.begin_again(now_ns);
    }

    /// By another id: an acknowledgement of before says what is not true any more.
    fn begin_again(&mut self, next_ns: u64) {
        self.id = next_id(self.id);
        self.board.restart(self.board.prefix);
        self.mtu.forget_probe();
        self.offer_again(next_ns);
    }

    fn fail(&mut self, failure: Failure) {
        self.state = State::Failed(failure);
    }

    fn abort(&mut self, failure: Failure, out: &mut Outbox) {
        let body = Body::Abort {
            reason: Some(failure.reason),
            text: &failure.text,
        };
        self.send(out, &body);
        self.fail(failure);
    }

    // --- what goes ----------------------------------------------------------------------

    /// When [`Sender::on_time`] has to be called next; `None`: the transfer has ended.
    pub fn deadline_ns(&self) -> Option<u64> {
        let give_up_ns = self.last_progress_ns + self.settings.progress_timeout_ns;
        let next_ns = match &self.state {
            State::Done | State::Failed(_) => return None,
            State::Offering { next_ns, .. } if *next_ns == u64::MAX => 0,
            State::Offering { next_ns, .. } => *next_ns,
            State::Sending => self.next_ns(),
        };
        Some(next_ns.min(give_up_ns))
    }

    /// When something can be sent, or is lost, or was not answered.
    fn next_ns(&self) -> u64 {
        let mut next_ns = self.timeout_ns();
        if let Some(lost_ns) = self.board.next_lost_ns(self.rtt.loss_delay()) {
            next_ns = next_ns.min(lost_ns);
        }
        if self.needs_hash() {
            return 0;
        }
        if self.probes > 0 {
            return self.rate.next_ns();
        }
        if self.has_room() && self.has_more() {
            let pace_ns = self.pace.next_ns().max(self.rate.next_ns());
            next_ns = next_ns.min(pace_ns.max(self.starved_until_ns));
        }
        next_ns
    }

    /// Whether nothing is on its way, and no answer is owed.
    fn is_idle(&self) -> bool {
        self.board.in_flight == 0 && !self.board.has_lost() && !self.board.has_end()
    }

    /// When nothing has come for too long.
    fn timeout_ns(&self) -> u64 {
        let factor = 1u64 << self.timeouts.min(20);
        let wait_ns = self.rtt.probe_timeout().saturating_mul(factor);
        let wait_ns = if self.is_idle() {
            wait_ns.max(IDLE_NS)
        } else {
            wait_ns
        };
        self.last_sent_ns + wait_ns.min(LONGEST_NS.max(self.rtt.probe_timeout()))
    }

    /// Puts packets that are due into the outbox. False: the outbox is full, and more are due.
    pub fn on_time(&mut self, now_ns: u64, out: &mut Outbox) -> bool {
        if self.outcome().is_some() {
            return true;
        }
        if now_ns >= self.last_progress_ns + self.settings.progress_timeout_ns {
            return self.give_up(out);
        }
        if let State::Offering { next_ns, times } = self.state {
            if next_ns == u64::MAX {
                return self.hash_for_offer(now_ns, out);
            }
            if now_ns >= next_ns {
                self.offer(now_ns, times, out);
            }
            return true;
        }
        self.find_lost(now_ns);
        if now_ns >= self.timeout_ns() {
            self.time_out(now_ns);
        }
        if self.needs_hash() {
            self.hash_slice(out);
        }
        self.send_probe(now_ns, out);
        self.send_all(now_ns, out)
    }

    fn give_up(&mut self, out: &mut Outbox) -> bool {
        let seconds = self.settings.progress_timeout_ns as f64 / 1e9;
        let what = match (&self.state, self.cookie == Cookie::default()) {
            (State::Offering { .. }, true) => {
                "nobody answers there: is `rsecho serve --transfer` running, and UDP let through?"
            }
            (State::Offering { .. }, false) => "the receiver does not take it",
            _ if self.window.limit <= self.board.prefix => "the receiver makes no room",
            _ => "the receiver does not answer any more",
        };
        let text = format!("no progress for {seconds} s: {what}");
        self.abort(Failure::new(Reason::TimedOut, text), out);
        true
    }

    fn offer(&mut self, now_ns: u64, times: u32, out: &mut Outbox) {
        let body = Body::Offer(OfferBody {
            cookie: self.cookie,
            length: self.source.length(),
            identity: self.source.identity(),
            digest: self.digest,
            replaces: self.settings.replaces,
            name: self.settings.name.clone(),
        });
        self.send(out, &body);
        let wait_ns = (OFFER_NS << times.min(10)).min(LONGEST_NS);
        self.state = State::Offering {
            next_ns: now_ns + wait_ns,
            times: times + 1,
        };
    }

    fn send(&mut self, out: &mut Outbox, body: &Body<'_>) {
        self.scratch.clear();
        wire::encode(&mut self.scratch, self.id, body);
        self.figures.sent_bytes += self.scratch.len() as u64;
        out.send(self.to, &self.scratch);
    }

    /// Nothing came in time: what is oldest goes once more, to have something come.
    fn time_out(&mut self, now_ns: u64) {
        if self.is_idle() {
            // Nothing was lost: a pipe has nothing, or a limit to the rate lets nothing go.
            self.last_sent_ns = now_ns;
            self.probes = 1;
            return;
        }
        self.timeouts += 1;
        self.last_sent_ns = now_ns;
        // The oldest bytes, and a short packet behind them; that alone where the receiver's buffer may
        // be full of what it has not read.
        let room = self
            .window
            .in_flight_bytes
            .saturating_sub(self.board.in_flight);
        let has_room = room >= cost(self.mtu.size()) as u64;
        self.probes = 1;
        self.mtu.forget_probe();
        let longest = self.board.longest_on_way();
        if self.mtu.lost(now_ns, longest, 0) {
            self.congestion.set_packet(cost(self.mtu.size()));
        }
        if self.timeouts.is_multiple_of(SILENCE) {
            // Nothing of all that is on its way will come.
            self.figures.lost_packets += self.board.lose_all();
            self.congestion.on_silence();
        } else if has_room {
            self.board.lose_oldest(1);
        } else {
            self.only_pings = true;
        }
        self.pace();
    }

    fn pace(&mut self) {
        self.pace.set_rate(self.congestion.bytes_per_second());
    }

    /// What the windows have room for.
    fn room(&self) -> u64 {
        let most = self.congestion.window().min(self.window.in_flight_bytes);
        most.saturating_sub(self.board.in_flight)
    }

    fn has_room(&self) -> bool {
        // One packet is always let through: a window may be smaller than that.
        self.room() >= cost(self.mtu.size()) as u64 || self.board.in_flight == 0
    }

    /// Whether there is something that the receiver would take.
    fn has_more(&self) -> bool {
        self.board.has_lost() || self.may_send_fresh() || self.end_is_due()
    }

    fn may_send_fresh(&self) -> bool {
        self.fresh < self.window.limit && self.source.length().is_none_or(|all| self.fresh < all)
    }

    fn end_is_due(&self) -> bool {
        let is_all_sent = self.source.length() == Some(self.fresh);
        is_all_sent && self.digest.is_some() && !self.board.has_end()
    }

    // --- hashing ------------------------------------------------------------------------

    /// Whether bytes are to be hashed that are not sent at the same time.
    fn needs_hash(&self) -> bool {
        match self.source.length() {
            Some(length) => self.digest.is_none() && self.hashed < self.fresh.min(length),
            None => self.hashed < self.fresh,
        }
    }

    fn hash_slice(&mut self, out: &mut Outbox) {
        let end = self.fresh.max(self.hashed);
        if let Err(failure) = self.hash_until(end) {
            self.abort(failure, out);
        }
    }

    /// Hashes one slice of what lies before `end`.
    fn hash_until(&mut self, end: u64) -> Result<(), Failure> {
        let most = (end - self.hashed).min(HASH_SLICE as u64) as usize;
        self.scratch.resize(most, 0);
        let read = self
            .source
            .read(self.hashed, &mut self.scratch)
            .map_err(|error| Failure::io("read what is sent", &error))?;
        self.hasher.update(&self.scratch[..read]);
        self.hashed += read as u64;
        if read < most {
            return Err(Failure::new(
                Reason::Io,
                "it has become shorter while it was sent",
            ));
        }
        self.conclude();
        Ok(())
    }

    /// Takes the digest once all is hashed.
    fn conclude(&mut self) {
        if self.digest.is_none() && self.source.length() == Some(self.hashed) {
            self.digest = Some(*self.hasher.finalize().as_bytes());
        }
    }

    /// The receiver has something alike: whether it is the same, the digest tells.
    fn hash_for_offer(&mut self, now_ns: u64, out: &mut Outbox) -> bool {
        self.last_progress_ns = now_ns;
        let length = self.source.length().unwrap_or(0);
        if let Err(failure) = self.hash_until(length.max(self.hashed)) {
            self.abort(failure, out);
        } else if self.digest.is_some() {
            self.offer_again(now_ns);
        }
        true
    }
}

/// The id of the next attempt, as random as the one before (splitmix64).
fn next_id(id: u64) -> u64 {
    let mixed = id.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
