//! Which messages are open, and the limits on them and their memory.
//!
//! A source is forged easily, and this format has no defence. So a forger can only displace what is
//! cheap to lose. At most [`MOST_BARE`] messages have a count and no chunk yet; a new one replaces the
//! oldest. When the memory is full, the message without a new chunk for the longest time is given up:
//! after [`STALLED_NS`] for any other message, before that only for one that has more bytes. A sender
//! that goes on loses nothing to a flood that takes longer to fill the memory than passes between two
//! of its chunks.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use super::chunks::Chunks;
use super::settings::ReceiveSettings;
use crate::datagram::Transmit;
use crate::guard::Source;

/// What an open message costs beside its chunks, at most: its places here, and the first node of its
/// tree. `tests/rust/plain_memory.rs` holds the allocator to it.
pub(super) const MESSAGE_COST_BYTES: usize = 1024;

/// Messages of which only the count came.
const MOST_BARE: usize = 1024;

/// After this time without a new chunk, a message gives way to another.
const STALLED_NS: u64 = 1_000_000_000;

/// An open message.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) number: u64,
    pub(super) chunks: Chunks,
    /// Whom an echo goes to, and how.
    pub(super) reply: Transmit,
    pub(super) began_ns: u64,
    /// When its count came, or its last new chunk.
    pub(super) progress_ns: u64,
    /// It may have begun with a late duplicate of the count before.
    pub(super) may_be_late: bool,
    pub(super) refused_packets: u64,
    pub(super) disputed_packets: u64,
    source: Source,
    /// Under which time it stands in its queue: no later than its progress.
    queued_ns: u64,
}

impl Open {
    pub(super) fn cost_bytes(&self) -> usize {
        MESSAGE_COST_BYTES + self.chunks.cost_bytes()
    }
}

/// A message that was given up for another.
pub(super) type Displaced = Vec<(SocketAddr, Box<Open>)>;

/// There is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// By the time under which they stand, and their number.
type Queue = BTreeMap<(u64, u64), SocketAddr>;

/// The open messages by their senders.
pub(super) struct Table {
    max_total_bytes: usize,
    max_open_per_source: usize,
    /// Boxed: the table has up to twice as many places, and for a moment three times.
    open: HashMap<SocketAddr, Box<Open>>,
    by_source: HashMap<Source, usize>,
    /// Of which only the count came.
    bare: Queue,
    /// Of which a chunk came.
    begun: Queue,
    held_bytes: usize,
    last_number: u64,
}

impl Table {
    pub(super) fn new(settings: &ReceiveSettings) -> Self {
        Self {
            max_total_bytes: settings.max_total_bytes,
            max_open_per_source: settings.max_open_per_source,
            open: HashMap::new(),
            by_source: HashMap::new(),
            bare: Queue::new(),
            begun: Queue::new(),
            held_bytes: 0,
            last_number: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Memory that is in use, also of what is sent back.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn has(&self, peer: &SocketAddr) -> bool {
        self.open.contains_key(peer)
    }

    pub(super) fn get_mut(&mut self, peer: &SocketAddr) -> Option<&mut Open> {
        self.open.get_mut(peer).map(Box::as_mut)
    }

    /// Opens a message of somebody who has none open. What it displaces is told also where that was
    /// not enough.
    pub(super) fn open(
        &mut self,
        now_ns: u64,
        peer: SocketAddr,
        count: u32,
        reply: Transmit,
        displaced: &mut Displaced,
    ) -> Result<&mut Open, Full> {
        let source = Source::of(peer.ip());
        let of_source = self.by_source.get(&source).copied().unwrap_or_default();
        if of_source >= self.max_open_per_source {
            return Err(Full);
        }
        if self.bare.len() >= MOST_BARE
            && let Some(oldest) = self.bare.first_entry().map(|entry| *entry.get())
        {
            displaced.extend(self.forget(&oldest));
        }
        self.make_room(now_ns, &peer, MESSAGE_COST_BYTES, displaced)?;
        *self.by_source.entry(source).or_default() += 1;
        self.last_number += 1;
        let number = self.last_number;
        self.bare.insert((now_ns, number), peer);
        let open = Open {
            number,
            chunks: Chunks::new(count),
            reply,
            began_ns: now_ns,
            progress_ns: now_ns,
            may_be_late: false,
            refused_packets: 0,
            disputed_packets: 0,
            source,
            queued_ns: now_ns,
        };
        Ok(self
            .open
            .entry(peer)
            .insert_entry(Box::new(open))
            .into_mut())
    }

    /// A new chunk for a message is about to be kept, which costs so much.
    pub(super) fn charge_chunk(
        &mut self,
        now_ns: u64,
        peer: &SocketAddr,
        bytes: usize,
        displaced: &mut Displaced,
    ) -> Result<&mut Open, Full> {
        self.make_room(now_ns, peer, bytes, displaced)?;
        let open = self.open.get_mut(peer).ok_or(Full)?;
        open.progress_ns = now_ns;
        if let Some(peer) = self.bare.remove(&(open.queued_ns, open.number)) {
            open.queued_ns = now_ns;
            self.begun.insert((now_ns, open.number), peer);
        }
        Ok(open)
    }

    /// Gives a message up.
    pub(super) fn forget(&mut self, peer: &SocketAddr) -> Option<(SocketAddr, Box<Open>)> {
        let open = self.take(peer)?;
        self.release(open.cost_bytes());
        Some((*peer, open))
    }

    /// Takes a message out. Its memory counts until [`Table::release`].
    pub(super) fn take(&mut self, peer: &SocketAddr) -> Option<Box<Open>> {
        let open = self.open.remove(peer)?;
        let place = (open.queued_ns, open.number);
        if self.bare.remove(&place).is_none() {
            self.begun.remove(&place);
        }
        if let Some(count) = self.by_source.get_mut(&open.source) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&open.source);
            }
        }
        Some(open)
    }

    /// So much memory is free again.
    pub(super) fn release(&mut self, bytes: usize) {
        self.held_bytes -= bytes;
    }

    /// A message without progress since this time.
    pub(super) fn take_stalled(&mut self, since_ns: u64) -> Option<(SocketAddr, Box<Open>)> {
        let bare = self.bare.first_key_value();
        let bare = bare.filter(|((queued_ns, _), _)| *queued_ns <= since_ns);
        let peer = match bare {
            Some((_, peer)) => *peer,
            None => self.most_stalled(since_ns)?,
        };
        self.forget(&peer)
    }

    /// All of them, in the order in which they were opened.
    pub(super) fn take_all(&mut self) -> Displaced {
        let peers: Vec<_> = self.open.keys().copied().collect();
        let mut all: Vec<_> = peers.iter().filter_map(|peer| self.forget(peer)).collect();
        all.sort_by_key(|(_, open)| open.number);
        all
    }

    /// No message has been without progress since before this time.
    pub(super) fn oldest_ns(&self) -> Option<u64> {
        let first = |queue: &Queue| Some(queue.first_key_value()?.0.0);
        first(&self.bare)
            .into_iter()
            .chain(first(&self.begun))
            .min()
    }

    /// Has so much more in use for somebody.
    fn make_room(
        &mut self,
        now_ns: u64,
        peer: &SocketAddr,
        bytes: usize,
        displaced: &mut Displaced,
    ) -> Result<(), Full> {
        let stalled_ns = now_ns.checked_sub(STALLED_NS);
        let brought = self.open.get(peer).map_or(0, |open| open.chunks.bytes());
        while self.held_bytes.saturating_add(bytes) > self.max_total_bytes {
            let since_ns = match brought {
                0 => stalled_ns.ok_or(Full)?,
                _ => now_ns,
            };
            let stalled = self.most_stalled(since_ns).ok_or(Full)?;
            let other = self.open.get(&stalled).ok_or(Full)?;
            let is_stalled = stalled_ns.is_some_and(|since_ns| other.progress_ns <= since_ns);
            if stalled == *peer || !is_stalled && other.chunks.bytes() >= brought {
                return Err(Full);
            }
            displaced.extend(self.forget(&stalled));
        }
        self.held_bytes += bytes;
        Ok(())
    }

    /// Whose message has gone longest without a new chunk, if that is since this time. Those that
    /// have gone on since they were queued are queued again, so that a chunk need not do that.
    fn most_stalled(&mut self, since_ns: u64) -> Option<SocketAddr> {
        loop {
            let (place, peer) = self.begun.first_key_value()?;
            let (place, peer) = (*place, *peer);
            if place.0 > since_ns {
                return None;
            }
            let open = self.open.get_mut(&peer)?;
            if open.progress_ns == place.0 {
                return Some(peer);
            }
            open.queued_ns = open.progress_ns;
            let again = (open.queued_ns, open.number);
            self.begun.remove(&place);
            self.begun.insert(again, peer);
        }
    }
}
