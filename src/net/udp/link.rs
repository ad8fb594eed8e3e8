//! What an endpoint and a client's driver have in common: one socket's engine, the plan of its
//! sends, and what is known of trains. Does not wait.

use std::io;
use std::ops::Range;

use super::engine::Engine;
use super::offload::Offload;
use super::plan::{Item, Plan};
use crate::datagram::{Outbox, RawAddress, Received, Slots};
use crate::sys::message::Mode;

/// Peers that are remembered to be behind a narrow link; the oldest is asked again.
const NARROW_PEERS: usize = 64;

/// Of how many entries a plan may be.
const MOST_ENTRIES: usize = u16::MAX as usize;

/// An engine, with memory that every batch uses again.
pub(crate) struct Link<E> {
    pub(super) engine: E,
    pub(super) plan: Plan,
    /// Peers to whom the path refuses trains (a segment above its MTU).
    refuse_trains: Vec<RawAddress>,
}

impl<E: Engine> Link<E> {
    pub(crate) fn new(engine: E) -> Self {
        Self {
            plan: Plan::new(engine.slots()),
            engine,
            refuse_trains: Vec::new(),
        }
    }

    fn all(&self) -> Range<usize> {
        0..self.engine.slots()
    }

    /// What is there now; `WouldBlock` where nothing is.
    #[inline]
    pub(crate) fn receive_now(&mut self) -> io::Result<usize> {
        let slots = self.all();
        self.engine.receive(slots, Mode::DontWait)
    }

    /// What came into a slot. Once a receive.
    #[inline]
    pub(crate) fn take(&mut self, slot: usize) -> Received {
        self.engine.take(slot)
    }

    /// Where the bytes of what came lie.
    #[inline]
    pub(crate) fn slots(&self) -> Slots<'_> {
        self.engine.memory()
    }

    /// Plans what goes together, to those who refuse trains each by itself. Returns how many
    /// entries that is of: all, or as many as a plan has numbers for.
    #[inline]
    pub(super) fn plan_sends(&mut self, outbox: &Outbox) -> usize {
        self.plan.clear();
        let entries = outbox.entries();
        let planned = &entries[..entries.len().min(MOST_ENTRIES)];
        let most = self.engine.max_segments();
        for (index, entry) in planned.iter().enumerate() {
            let to = &entry.transmit.to;
            let refuses = !self.refuse_trains.is_empty() && self.refuse_trains.contains(to);
            let item = Item {
                entry: index as u16,
                peer: to,
                length: entry.length,
                segment_bytes: entry.segment_bytes,
                max_segments: if refuses { 1 } else { most },
            };
            let same = |other: u16| entries[usize::from(other)].transmit == entry.transmit;
            self.plan.add(item, same);
        }
        planned.len()
    }

    /// Remembers which trains are refused, by an error for one of so many datagrams that went by
    /// themselves: so it was the train that was refused, not the peer. Returns the line to tell.
    #[cold]
    pub(super) fn learn_of_trains(
        &mut self,
        datagrams: u16,
        to: &RawAddress,
        error: &io::Error,
        offload: &Offload,
    ) -> Option<String> {
        if !refuses_trains(error) {
            return None;
        }
        // A segment above the MTU of this peer's path (udp(7)): others may take trains.
        if error.raw_os_error() == Some(libc::EMSGSIZE) {
            if self.refuse_trains.len() == NARROW_PEERS {
                self.refuse_trains.remove(0);
            }
            self.refuse_trains.push(*to);
            return offload.refuse_path();
        }
        // The kernel or the driver does not do it at all, or no longer.
        self.engine.limit_segments(datagrams.into());
        offload.limit_segments(self.engine.max_segments(), error)
    }
}

/// Whether an error of a train may be one that its datagrams by themselves do not have.
pub(super) fn refuses_trains(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    matches!(
        errno,
        Some(libc::EMSGSIZE | libc::EINVAL | libc::EIO | libc::ENOPROTOOPT | libc::EOPNOTSUPP)
    )
}
