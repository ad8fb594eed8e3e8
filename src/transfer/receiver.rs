//! One message on its way in: what came is put in order, written, checked, and told.
//!
//! Law: memory is what came early and was not refused, within the window that was announced and the
//! budget that all share; what is acknowledged is written, or lies in that memory.

mod early;

use crate::datagram::{Outbox, Transmit};

use std::sync::Arc;

use super::budget::Budget;
use super::failure::{Failure, Reason};
use super::ranges::Seen;
use super::store::{Digest, Offer, Sink};
use super::wire::{self, AckBody, Body, MAX_RANGES};
use early::Early;

/// Bytes ahead of the first gap that are kept at most.
pub(crate) const EARLY_BYTES: u64 = 4 << 20;
/// What is hashed at once.
const HASH_SLICE: usize = 1 << 20;
/// So many bytes are gathered before they are written: a hash and a write cost by the call.
const GATHERED_BYTES: usize = 128 * 1024;

/// How much a receiver may announce, as its driver knows it.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Bytes of the socket's receive buffer that are for this transfer.
    pub in_flight_bytes: u32,
    /// Bytes of memory for data beyond the first gap.
    pub early_bytes: u64,
}

/// State of a message on its way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// Not complete yet.
    Open,
    /// Complete, verified and stored.
    Whole,
    /// Failed.
    Failed(Failure),
}

/// What a DATA packet brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// New bytes.
    New,
    /// Only bytes that were there already.
    Duplicate,
    /// Bytes that differ from those already there. The first ones stay.
    Conflicting,
    /// Beyond the window or the end, or there was no memory for it. It counts as lost.
    Refused,
}

/// One message on its way in.
pub struct Incoming {
    offer: Offer,
    to: Transmit,
    sink: Box<dyn Sink>,
    /// In order, but not written yet.
    gathered: Vec<u8>,
    early: Early,
    limit: u64,
    end: Option<(u64, Digest)>,
    hasher: blake3::Hasher,
    hashed: u64,
    resumed_from: u64,
    seen: Seen,
    largest: Option<(u64, u64)>,
    owes_ack: bool,
    began_ns: u64,
    last_progress_ns: u64,
    arrival: Arrival,
    scratch: Vec<u8>,
}

impl Incoming {
    /// Starts to receive into a sink, which may have a part of the message already.
    pub fn new(
        offer: Offer,
        to: Transmit,
        sink: Box<dyn Sink>,
        budget: &Arc<Budget>,
        now_ns: u64,
    ) -> Self {
        let there = sink.length();
        Self {
            end: offer.length.zip(offer.digest),
            early: Early::new(budget),
            offer,
            to,
            sink,
            gathered: Vec::new(),
            limit: there,
            hasher: blake3::Hasher::new(),
            hashed: 0,
            resumed_from: there,
            seen: Seen::new(MAX_RANGES),
            largest: None,
            owes_ack: true,
            began_ns: now_ns,
            last_progress_ns: now_ns,
            arrival: Arrival::Open,
            scratch: Vec::new(),
        }
    }

    /// The offer that began it.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// The current state.
    pub fn arrival(&self) -> &Arrival {
        &self.arrival
    }

    /// Number of bytes received without a gap, from the start of the message.
    pub fn prefix(&self) -> u64 {
        self.sink.length() + self.gathered.len() as u64
    }

    /// Number of bytes that were there from an earlier attempt.
    pub fn resumed_from(&self) -> u64 {
        self.resumed_from
    }

    /// True if the whole message was there before.
    pub fn was_there(&self) -> bool {
        self.resumed_from > 0 && self.resumed_from == self.prefix()
    }

    /// BLAKE3 over all bytes, once END has come.
    pub fn digest(&self) -> Digest {
        self.end.map(|(_, digest)| digest).unwrap_or_default()
    }

    /// Time of its start, in ns.
    pub fn began_ns(&self) -> u64 {
        self.began_ns
    }

    /// Time of the last new bytes, in ns.
    pub fn last_progress_ns(&self) -> u64 {
        self.last_progress_ns
    }

    /// The same sender has repeated its offer: answers with an ACK.
    pub fn offered_again(&mut self) {
        self.owes_ack = true;
    }

    /// It is offered by a new attempt, whose packet numbers start at 0 again.
    pub fn offered_anew(&mut self) {
        self.seen = Seen::new(MAX_RANGES);
        self.largest = None;
        self.owes_ack = true;
    }

    /// Takes the data of a DATA packet.
    pub fn on_data(&mut self, now_ns: u64, number: u64, offset: u64, data: &[u8]) -> Taken {
        if self.arrival != Arrival::Open {
            return Taken::Duplicate;
        }
        self.owes_ack = true;
        let end = offset + data.len() as u64;
        let length = self.end.map(|(length, _)| length).or(self.offer.length);
        if end > self.limit || length.is_some_and(|length| end > length) {
            return Taken::Refused;
        }
        let prefix = self.prefix();
        let taken = if end <= prefix {
            self.duplicate(offset, data)
        } else if offset <= prefix {
            self.append_around_early(offset, data);
            Taken::New
        } else {
            self.early.insert(offset, data)
        };
        if taken == Taken::Refused {
            return taken;
        }
        self.see(now_ns, number);
        if taken == Taken::New {
            self.last_progress_ns = now_ns;
        }
        taken
    }

    /// What is there already; whether with other bytes, as far as that is still in memory.
    fn duplicate(&self, offset: u64, data: &[u8]) -> Taken {
        let written = self.sink.length();
        let there = offset.checked_sub(written).map(|start| start as usize);
        match there.and_then(|start| self.gathered.get(start..start + data.len())) {
            Some(there) if there != data => Taken::Conflicting,
            _ => Taken::Duplicate,
        }
    }

    /// Takes a PROBE, which is acknowledged and has no data.
    pub fn on_probe(&mut self, now_ns: u64, number: u64) {
        if self.arrival == Arrival::Open {
            self.see(now_ns, number);
            if self.early.is_empty() && self.end.is_none() {
                // Nothing is missing: a pipe whose writer rests is no reason to give up.
                self.last_progress_ns = now_ns;
            }
        }
    }

    /// Takes an END.
    pub fn on_end(&mut self, now_ns: u64, number: u64, length: u64, digest: Digest) {
        if self.arrival != Arrival::Open {
            return;
        }
        self.see(now_ns, number);
        let is_other = self.offer.length.is_some_and(|offered| offered != length)
            || self.end.is_some_and(|end| end != (length, digest))
            || self.prefix().max(self.early.end()) > length;
        if is_other {
            let text = "what is said of its end does not fit what came";
            return self.fail(Failure::new(Reason::Corrupt, text));
        }
        self.end = Some((length, digest));
    }

    fn see(&mut self, now_ns: u64, number: u64) {
        self.seen.insert(number);
        if self.largest.is_none_or(|(largest, _)| number > largest) {
            self.largest = Some((number, now_ns));
        }
        self.owes_ack = true;
    }

    // --- in order -----------------------------------------------------------------------

    fn append(&mut self, data: &[u8]) {
        if self.gathered.is_empty() && data.len() >= GATHERED_BYTES / 4 {
            return self.write(data);
        }
        self.gathered.extend_from_slice(data);
        if self.gathered.len() >= GATHERED_BYTES {
            self.write_gathered();
        }
    }

    fn write_gathered(&mut self) {
        if !self.gathered.is_empty() {
            let gathered = std::mem::take(&mut self.gathered);
            self.write(&gathered);
            self.gathered = gathered;
            self.gathered.clear();
        }
    }

    fn write(&mut self, data: &[u8]) {
        if self.hashed == self.sink.length() {
            self.hasher.update(data);
            self.hashed += data.len() as u64;
        }
        if let Err(error) = self.sink.append(data) {
            self.fail(write_failure(&error));
        }
    }

    /// Appends what goes on from here, but for what came early: the first wins.
    fn append_around_early(&mut self, offset: u64, data: &[u8]) {
        let end = offset + data.len() as u64;
        let mut at = self.prefix();
        while at < end && self.arrival == Arrival::Open {
            let until = self.early.start().map_or(end, |start| start.min(end));
            self.append(&data[(at - offset) as usize..(until - offset) as usize]);
            self.drain_early();
            at = self.prefix();
        }
    }

    fn drain_early(&mut self) {
        while self.arrival == Arrival::Open
            && let Some(data) = self.early.take(self.prefix())
        {
            self.append(&data);
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.early.clear();
        self.arrival = Arrival::Failed(failure);
    }

    /// Gives the transfer up. The received part of a file stays, for the next attempt.
    pub fn give_up(&mut self, failure: Failure) {
        if self.arrival == Arrival::Open {
            self.write_gathered();
            self.fail(failure);
        }
    }

    /// Hashes at most one slice of bytes from an earlier attempt, and finishes a complete message.
    /// True: there is more to hash.
    pub fn advance(&mut self, now_ns: u64) -> bool {
        if self.arrival != Arrival::Open {
            return false;
        }
        let is_whole = self.end.is_some_and(|(length, _)| self.prefix() == length);
        if is_whole {
            self.write_gathered();
        }
        if self.arrival == Arrival::Open && self.hashed < self.sink.length() {
            // Work is progress.
            self.last_progress_ns = now_ns;
            self.hash_back();
            if self.hashed < self.sink.length() {
                return self.arrival == Arrival::Open;
            }
        }
        if is_whole && self.arrival == Arrival::Open {
            self.finish();
        }
        false
    }

    /// Whether [`Incoming::advance`] has work.
    pub fn has_work(&self) -> bool {
        self.arrival == Arrival::Open && self.hashed < self.sink.length()
    }

    fn hash_back(&mut self) {
        let most = (self.sink.length() - self.hashed).min(HASH_SLICE as u64) as usize;
        self.scratch.resize(most, 0);
        match self.sink.read_back(self.hashed, &mut self.scratch) {
            Ok(0) => self.fail(Failure::new(
                Reason::Io,
                "what was there from before is gone",
            )),
            Ok(read) => {
                self.hasher.update(&self.scratch[..read]);
                self.hashed += read as u64;
            }
            Err(error) => self.fail(Failure::io("read what is there from before", &error)),
        }
    }

    fn finish(&mut self) {
        let digest = *self.hasher.finalize().as_bytes();
        if self.end.is_none_or(|(_, wanted)| wanted != digest) {
            self.sink.discard();
            let text = "its digest is another: what came is not what was sent";
            return self.fail(Failure::new(Reason::Corrupt, text));
        }
        match self.sink.finish(&digest) {
            Ok(()) => self.arrival = Arrival::Whole,
            Err(failure) => self.fail(failure),
        }
    }

    // --- what is told -------------------------------------------------------------------

    /// Puts the ACK that is due into the outbox, or DONE or ABORT after the end.
    pub fn answer(&mut self, now_ns: u64, room: &Room, out: &mut Outbox) {
        if !std::mem::take(&mut self.owes_ack) {
            return;
        }
        let body = match &self.arrival {
            Arrival::Open => {
                let early_bytes = room.early_bytes.min(EARLY_BYTES);
                let room_bytes = self.sink.room().saturating_sub(self.gathered.len() as u64);
                let limit = self.prefix().saturating_add(early_bytes.min(room_bytes));
                // What was announced once is not taken back.
                self.limit = self.limit.max(limit);
                let waited_ns = self.largest.map_or(0, |(_, at_ns)| now_ns - at_ns);
                Body::Ack(AckBody {
                    limit: self.limit,
                    in_flight_bytes: room.in_flight_bytes,
                    prefix: self.prefix(),
                    delay_us: u32::try_from(waited_ns / 1_000).unwrap_or(u32::MAX),
                    ranges: self.seen.ranges().to_vec(),
                })
            }
            Arrival::Whole => Body::Done {
                was_there: self.was_there(),
            },
            Arrival::Failed(failure) => Body::Abort {
                reason: Some(failure.reason),
                text: &failure.text,
            },
        };
        self.scratch.clear();
        wire::encode(&mut self.scratch, self.offer.id, &body);
        out.send(self.to, &self.scratch);
    }

    /// Makes an answer due: the transfer has ended and the peer asks again.
    pub fn owe(&mut self) {
        self.owes_ack = true;
    }
}

fn write_failure(error: &std::io::Error) -> Failure {
    use std::io::ErrorKind::{FileTooLarge, OutOfMemory, QuotaExceeded, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => {
            Failure::new(Reason::TooLarge, format!("no room for it: {error}"))
        }
        OutOfMemory => Failure::new(Reason::TooMany, format!("no memory for it: {error}")),
        _ => Failure::io("write it", error),
    }
}
