//! A receiver: any number of peers at once, of each one message at a time. The rules are in the
//! module's documentation, and the limits in `table.rs`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use super::chunks::{CHUNK_COST_BYTES, Verdict};
use super::echoes::{Echoes, Told};
use super::event::{Event, Failed, Lost, Whole, Why};
use super::settings::ReceiveSettings;
use super::shelf::Shelf;
use super::table::{Displaced, Open, Table};
use super::wire::{Packet, decode};
use crate::books::{DropReason, counted};
use crate::datagram::Datagram;
use crate::error::Result;
use crate::proto::{Batch, Outbox, Progress, Protocol};
use crate::transfer::store::Storage;

/// Events that wait to be taken; what comes beyond them is only counted.
const MOST_EVENTS: usize = 1024;

/// Messages that were delivered of late, and are remembered.
const MOST_DELIVERED: usize = 256;

counted! {
    /// What a receiver counts. Opened messages are whole, lost, failed, displaced, forgotten or open.
    pub(super) enum Count {
        OpenedMessages: "opened_messages",
        WholeMessages: "whole_messages",
        /// Also of those that were displaced after a chunk had come.
        LostMessages: "lost_messages",
        /// Complete, but could not be stored.
        FailedMessages: "failed_messages",
        /// Only their count had come, and their place was needed.
        DisplacedMessages: "displaced_messages",
        /// Begun by a count that had come twice.
        ForgottenMessages: "forgotten_messages",
        EchoedMessages: "echoed_messages",
        NewPackets: "new_packets",
        DuplicatePackets: "duplicate_packets",
        /// Other bytes at an index that was here.
        ConflictingPackets: "conflicting_packets",
        /// Another count while a message is open.
        ChangedCounts: "changed_counts",
        /// Too short, a count of 0, an index beyond the count, a length that disagrees.
        MalformedPackets: "malformed_packets",
        /// Without a count before it.
        UnknownPackets: "unknown_packets",
        /// Beyond a limit.
        RefusedPackets: "refused_packets",
        /// Nobody took the events before.
        LostEvents: "lost_events",
    }
}

/// Receives messages in the tutorial's format.
pub struct PlainReceiving {
    settings: ReceiveSettings,
    shelf: Shelf,
    table: Table,
    echoes: Echoes,
    delivered: VecDeque<Delivered>,
    events: VecDeque<Event>,
    counts: [u64; Count::ALL.len()],
}

/// A message that was whole, for as long as its duplicates may come.
struct Delivered {
    peer: SocketAddr,
    count: u32,
    at_ns: u64,
}

impl PlainReceiving {
    /// Creates a receiver that stores messages in `storage`.
    ///
    /// # Errors
    ///
    /// Settings that cannot work.
    pub fn new(settings: ReceiveSettings, storage: Arc<dyn Storage>) -> Result<Self> {
        settings.validate()?;
        Ok(Self {
            shelf: Shelf::new(storage, settings.gives_names),
            table: Table::new(&settings),
            echoes: Echoes::new(settings.echo_bytes_per_second.unwrap_or(1)),
            delivered: VecDeque::new(),
            events: VecDeque::new(),
            counts: [0; Count::ALL.len()],
            settings,
        })
    }

    /// Takes the events since the last call, in order.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.events.drain(..).collect()
    }

    /// The counters by name.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Count::ALL
            .into_iter()
            .map(|one| (one.name(), self.count(one)))
    }

    /// Number of incomplete messages.
    pub fn open_messages(&self) -> usize {
        self.table.len()
    }

    /// True if this peer has an incomplete message.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn is_open(&self, peer: &SocketAddr) -> bool {
        self.table.has(peer)
    }

    /// Memory of messages that are incomplete or being echoed, in bytes. Never more than
    /// [`ReceiveSettings::max_total_bytes`].
    pub fn held_bytes(&self) -> usize {
        self.table.held_bytes()
    }

    /// Gives all incomplete messages up. Each becomes a `Lost` event.
    pub fn end(&mut self) {
        for (peer, open) in self.table.take_all() {
            self.lose(peer, &open, Why::Ended);
        }
    }

    // --- one datagram -----------------------------------------------------------------------

    fn take(&mut self, now_ns: u64, datagram: &Datagram<'_>, out: &mut Outbox) {
        let packet = decode(datagram.data).zip(datagram.peer());
        let (count, dropped) = match packet {
            None => (Count::MalformedPackets, Some(DropReason::TransferMalformed)),
            Some((packet, peer)) => {
                let count = match packet {
                    Packet::Count(count) => self.take_count(now_ns, peer, count, datagram),
                    Packet::Chunk { index, data } => {
                        self.take_chunk(now_ns, peer, index, data, datagram)
                    }
                };
                (count, dropped_as(count))
            }
        };
        self.add(count, 1);
        match dropped {
            Some(reason) => out.drop(reason, 1, &datagram.message.came.source),
            None => out.consume(datagram),
        }
    }

    fn take_count(
        &mut self,
        now_ns: u64,
        peer: SocketAddr,
        count: u32,
        datagram: &Datagram<'_>,
    ) -> Count {
        if count == 0 {
            return Count::MalformedPackets;
        }
        if let Some(open) = self.table.get_mut(&peer) {
            if open.chunks.count() == count {
                return Count::DuplicatePackets;
            }
            if !open.may_be_late || !open.chunks.is_empty() {
                open.disputed_packets += 1;
                return Count::ChangedCounts;
            }
        }
        if u64::from(count) > self.settings.max_message_bytes {
            return Count::RefusedPackets;
        }
        if self.table.forget(&peer).is_some() {
            // What is open is the count of a message that is here already.
            self.add(Count::ForgottenMessages, 1);
        }
        let may_be_late = self.has_delivered(now_ns, &peer, |one| one.count == count);
        let (mut displaced, reply) = (Displaced::new(), datagram.message.reply());
        let opened = self.table.open(now_ns, peer, count, reply, &mut displaced);
        let is_open = opened.map(|open| open.may_be_late = may_be_late).is_ok();
        self.displace(displaced);
        match is_open {
            true => Count::OpenedMessages,
            false => Count::RefusedPackets,
        }
    }

    fn take_chunk(
        &mut self,
        now_ns: u64,
        peer: SocketAddr,
        index: u32,
        data: &[u8],
        datagram: &Datagram<'_>,
    ) -> Count {
        let max_bytes = self.settings.max_message_bytes;
        let Some(open) = self.table.get_mut(&peer) else {
            return match self.has_delivered(now_ns, &peer, |one| index < one.count) {
                true => Count::DuplicatePackets,
                false => Count::UnknownPackets,
            };
        };
        match open.chunks.judge(index, data, max_bytes) {
            Verdict::New => {}
            Verdict::Duplicate => return Count::DuplicatePackets,
            Verdict::Malformed => return Count::MalformedPackets,
            Verdict::Conflicting => {
                open.disputed_packets += 1;
                return Count::ConflictingPackets;
            }
            Verdict::TooLarge => {
                open.refused_packets += 1;
                return Count::RefusedPackets;
            }
        }
        let (mut displaced, cost_bytes) = (Displaced::new(), data.len() + CHUNK_COST_BYTES);
        let charged = self
            .table
            .charge_chunk(now_ns, &peer, cost_bytes, &mut displaced);
        let is_whole = charged.map(|open| {
            open.chunks.insert(index, data);
            open.reply = datagram.message.reply();
            open.chunks.is_whole()
        });
        self.displace(displaced);
        match is_whole {
            Ok(true) => self.complete(now_ns, peer),
            Ok(false) => {}
            Err(_) => {
                // It can never be whole: nothing can be asked for again.
                if let Some((peer, open)) = self.table.forget(&peer) {
                    self.lose(peer, &open, Why::NoRoom);
                }
                return Count::RefusedPackets;
            }
        }
        Count::NewPackets
    }

    // --- what becomes of messages -----------------------------------------------------------

    fn complete(&mut self, now_ns: u64, peer: SocketAddr) {
        let Some(open) = self.table.take(&peer) else {
            return;
        };
        self.remember(now_ns, peer, open.chunks.count());
        let cost_bytes = open.cost_bytes();
        let (number, length) = (open.number, open.chunks.bytes());
        match self.shelf.keep(peer, number, &open.chunks) {
            Ok((name, digest)) => {
                self.add(Count::WholeMessages, 1);
                self.tell(Event::Whole(Whole {
                    peer,
                    number,
                    name,
                    length,
                    chunks: open.chunks.count(),
                    digest,
                    disputed_packets: open.disputed_packets,
                    took_ns: now_ns.saturating_sub(open.began_ns),
                }));
                if self.settings.echo_bytes_per_second.is_some() {
                    let (to, chunks) = (open.reply, open.chunks);
                    let told = self.echoes.add(now_ns, peer, to, chunks, cost_bytes);
                    return self.settle(&told);
                }
            }
            Err(failure) => {
                self.add(Count::FailedMessages, 1);
                self.tell(Event::Failed(Failed {
                    peer,
                    number,
                    length,
                    failure,
                }));
            }
        }
        self.table.release(cost_bytes);
    }

    /// Of a message whose memory counts no longer.
    fn lose(&mut self, peer: SocketAddr, open: &Open, why: Why) {
        if open.may_be_late && open.chunks.is_empty() {
            return self.add(Count::ForgottenMessages, 1);
        }
        let keeps = self.settings.keep_partial && !open.chunks.is_empty();
        let kept = keeps.then(|| self.shelf.keep_part(peer, open.number, &open.chunks));
        self.add(Count::LostMessages, 1);
        self.tell(Event::Lost(Lost {
            peer,
            number: open.number,
            why,
            missing: open.chunks.missing(),
            came_bytes: open.chunks.bytes(),
            refused_packets: open.refused_packets,
            disputed_packets: open.disputed_packets,
            kept,
        }));
    }

    /// Its place was needed. A count alone is no loss worth telling: anybody may have forged it.
    fn displace(&mut self, displaced: Displaced) {
        for (peer, open) in displaced {
            if open.chunks.is_empty() {
                self.add(Count::DisplacedMessages, 1);
            } else {
                self.lose(peer, &open, Why::Displaced);
            }
        }
    }

    fn remember(&mut self, at_ns: u64, peer: SocketAddr, count: u32) {
        if self.delivered.len() >= MOST_DELIVERED {
            self.delivered.pop_front();
        }
        self.delivered.push_back(Delivered { peer, count, at_ns });
    }

    /// Whether such a message of this sender was whole a moment ago.
    fn has_delivered(
        &self,
        now_ns: u64,
        peer: &SocketAddr,
        is_it: impl Fn(&Delivered) -> bool,
    ) -> bool {
        let since_ns = now_ns.saturating_sub(self.settings.progress_timeout_ns);
        let recent = self.delivered.iter().rev();
        let mut recent = recent.take_while(|one| one.at_ns >= since_ns);
        recent.any(|one| one.peer == *peer && is_it(one))
    }

    fn settle(&mut self, told: &Told) {
        self.table.release(told.freed_bytes);
        self.add(Count::EchoedMessages, told.echoed);
    }

    // --- what is told -----------------------------------------------------------------------

    fn tell(&mut self, event: Event) {
        if self.events.len() >= MOST_EVENTS {
            return self.add(Count::LostEvents, 1);
        }
        self.events.push_back(event);
    }

    fn add(&mut self, count: Count, amount: u64) {
        self.counts[count as usize] += amount;
    }

    pub(super) fn count(&self, count: Count) -> u64 {
        self.counts[count as usize]
    }
}

/// What is not taken in is dropped, and why.
fn dropped_as(count: Count) -> Option<DropReason> {
    match count {
        Count::MalformedPackets | Count::ConflictingPackets | Count::ChangedCounts => {
            Some(DropReason::TransferMalformed)
        }
        Count::UnknownPackets => Some(DropReason::TransferUnknown),
        Count::RefusedPackets => Some(DropReason::TransferLimit),
        _ => None,
    }
}

impl Protocol for PlainReceiving {
    fn on_batch(&mut self, now_ns: u64, batch: &Batch<'_>, out: &mut Outbox) -> Progress {
        for datagram in batch.datagrams() {
            self.take(now_ns, &datagram, out);
        }
        Progress::Done
    }

    fn deadline_ns(&self) -> Option<u64> {
        let oldest_ns = self.table.oldest_ns();
        let timeout_ns = self.settings.progress_timeout_ns;
        let timeout = oldest_ns.map(|oldest_ns| oldest_ns.saturating_add(timeout_ns));
        timeout.into_iter().chain(self.echoes.deadline_ns()).min()
    }

    fn on_time(&mut self, now_ns: u64, out: &mut Outbox) -> Progress {
        if let Some(since_ns) = now_ns.checked_sub(self.settings.progress_timeout_ns) {
            while let Some((peer, open)) = self.table.take_stalled(since_ns) {
                self.lose(peer, &open, Why::TimedOut);
            }
        }
        let (progress, told) = self.echoes.send_due(now_ns, out);
        self.settle(&told);
        progress
    }
}
