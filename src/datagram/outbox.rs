//! Datagrams to send, replies and others, and the count of requests that are not answered.

use super::{Datagram, Place, RawAddress, Slots, Transmit};
use crate::books::DropReason;
use crate::books::udp::{Count, Tally};
use crate::guard::Policy;

/// One send, or a train of them.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Its destination.
    pub transmit: Transmit,
    /// Where its bytes lie.
    pub place: Place,
    /// The number of bytes.
    pub length: usize,
    /// Of a train, the length of each datagram but the last; else 0.
    pub segment_bytes: usize,
    /// Why it was not sent, or not all of it.
    pub failed: Option<DropReason>,
}

impl Entry {
    /// So many of its bytes, from this one on.
    pub(crate) fn part(&self, offset: u32, length: u32) -> Self {
        let length = length as usize;
        Self {
            place: match self.place {
                Place::Slot(slot, start) => Place::Slot(slot, start + offset),
                Place::Page(start) => Place::Page(start + offset),
            },
            length,
            segment_bytes: if length > self.segment_bytes {
                self.segment_bytes
            } else {
                0
            },
            ..*self
        }
    }

    /// The length of each of its datagrams.
    pub fn lengths(&self) -> impl Iterator<Item = usize> + use<> {
        let (length, size) = match self.segment_bytes {
            0 => (self.length, self.length.max(1)),
            size => (self.length, size),
        };
        (0..length.div_ceil(size).max(1)).map(move |index| size.min(length - index * size))
    }
}

/// No datagram carries more, whatever the protocol (RFC 768 over RFC 8200).
const MAX_DATAGRAM_BYTES: usize = 65_527;

/// It is to be sent when it holds so much: what a few full trains carry.
const PAGE_BYTES: usize = 256 * 1024;
const PAGE_ENTRIES: usize = 1024;

/// What each datagram of several costs on the wire beside its bytes: UDP's header and that of IPv6,
/// which is the longer one.
const HEADER_BYTES: usize = 48;

/// The destination of a reply that is made after its batch, and the length of its request.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    /// The destination of the reply.
    pub transmit: Transmit,
    /// The bytes of the request.
    pub request_bytes: usize,
    /// The bytes that it was answered with already, with their headers.
    pub replied_bytes: usize,
}

impl From<&Datagram<'_>> for Asker {
    fn from(datagram: &Datagram<'_>) -> Self {
        Self {
            transmit: datagram.message.reply(),
            request_bytes: datagram.data.len(),
            replied_bytes: 0,
        }
    }
}

/// Datagrams to send, in order.
#[derive(Default)]
pub struct Outbox {
    entries: Vec<Entry>,
    page: Vec<u8>,
    pub(crate) tally: Tally,
    policy: Policy,
    /// How often each reply may go, where datagrams are duplicated on purpose.
    copies: usize,
}

impl Outbox {
    /// An outbox whose replies are limited by this policy.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            copies: 1,
            ..Self::default()
        }
    }

    /// From now on each reply goes up to so many times.
    pub(crate) fn set_copies(&mut self, copies: usize) {
        self.copies = copies;
    }

    /// Sends the datagram back to its sender, from where its bytes lie.
    #[inline]
    pub fn echo(&mut self, datagram: &Datagram<'_>) {
        if self.copies > 1 && !self.may_reply(&datagram.into(), datagram.data.len()) {
            let packets = datagram.each().count() as u64;
            let peer = &datagram.message.came.source;
            return self.drop(DropReason::Amplification, packets, peer);
        }
        let place = datagram.slot();
        let place = place.unwrap_or_else(|| self.write(datagram.data));
        self.entries.push(Entry {
            transmit: datagram.message.reply(),
            place,
            length: datagram.data.len(),
            segment_bytes: datagram.segment_bytes,
            failed: None,
        });
    }

    /// Sends other bytes to the sender of a request, unless the amplification guard forbids it.
    pub fn reply(&mut self, asker: &Asker, data: &[u8]) {
        let peer = &asker.transmit.to;
        if data.len() > MAX_DATAGRAM_BYTES {
            return self.drop(DropReason::SendTooLarge, 1, peer);
        }
        if !self.may_reply(asker, data.len()) {
            return self.drop(DropReason::Amplification, 1, peer);
        }
        self.push(asker.transmit, data);
    }

    /// Sends one of several replies; the request stays open. It is counted as produced, because the
    /// last reply counts as the request's.
    pub fn reply_more(&mut self, asker: &mut Asker, data: &[u8]) {
        self.tally.add(Count::ProducedPackets, 1);
        self.reply(asker, data);
        asker.replied_bytes += data.len() + HEADER_BYTES;
    }

    fn may_reply(&self, asker: &Asker, reply_bytes: usize) -> bool {
        let request_bytes = asker.request_bytes;
        let reply_bytes = reply_bytes.saturating_add(asker.replied_bytes);
        let allows = |ip| {
            self.policy
                .allows_reply(ip, request_bytes, reply_bytes, self.copies)
        };
        asker.transmit.to.ip().is_some_and(allows)
    }

    /// Sends a datagram that is not a reply.
    pub fn send(&mut self, transmit: Transmit, data: &[u8]) {
        self.tally.add(Count::ProducedPackets, 1);
        self.push(transmit, data);
    }

    /// Sends a train of datagrams that are not replies. `write` appends them, each of
    /// `segment_bytes` except the last, which may be shorter. If it appends nothing, nothing is sent.
    pub fn send_train(
        &mut self,
        transmit: Transmit,
        segment_bytes: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.page.len();
        write(&mut self.page);
        let length = self.page.len() - start;
        if length == 0 {
            return;
        }
        let datagrams = length.div_ceil(segment_bytes.max(1)) as u64;
        self.tally.add(Count::ProducedPackets, datagrams);
        self.entries.push(Entry {
            transmit,
            place: Place::Page(start as u32),
            length,
            segment_bytes: if datagrams > 1 { segment_bytes } else { 0 },
            failed: None,
        });
    }

    /// Counts a datagram as consumed: it gets no reply of its own.
    pub fn consume(&mut self, _: &Datagram<'_>) {
        self.tally.add(Count::ConsumedPackets, 1);
    }

    pub(crate) fn push(&mut self, transmit: Transmit, data: &[u8]) {
        let place = self.write(data);
        self.entries.push(Entry {
            transmit,
            place,
            length: data.len(),
            segment_bytes: 0,
            failed: None,
        });
    }

    fn write(&mut self, data: &[u8]) -> Place {
        let start = self.page.len();
        self.page.extend_from_slice(data);
        Place::Page(start as u32)
    }

    /// Counts datagrams of `peer` as not answered.
    pub fn drop(&mut self, reason: DropReason, packets: u64, peer: &RawAddress) {
        self.tally.drop(reason, packets, peer);
    }

    /// Also counts the entry as an error reply.
    pub fn count_error_reply(&mut self) {
        self.tally.add(Count::ErrorReplies, 1);
    }

    /// Whether it should be sent before more is put in.
    pub fn is_full(&self) -> bool {
        self.page.len() >= PAGE_BYTES || self.entries.len() >= PAGE_ENTRIES
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The datagrams to send.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn entries_mut(&mut self) -> &mut [Entry] {
        &mut self.entries
    }

    /// Bytes of an entry.
    #[inline]
    pub(crate) fn data<'a>(
        &'a self,
        slots: Slots<'a>,
        entry: &Entry,
        offset: usize,
        length: usize,
    ) -> &'a [u8] {
        match entry.place {
            Place::Slot(slot, start) => slots.data(slot.into(), start as usize + offset, length),
            Place::Page(start) => &self.page[start as usize + offset..][..length],
        }
    }

    /// Copies what lies in slots, which are to be used again.
    pub(crate) fn keep(&mut self, slots: Slots<'_>) {
        for entry in &mut self.entries {
            if let Place::Slot(slot, start) = entry.place {
                let data = slots.data(slot.into(), start as usize, entry.length);
                entry.place = Place::Page(self.page.len() as u32);
                self.page.extend_from_slice(data);
            }
        }
    }

    /// These instead of its first entries, of which they are what has not been sent.
    pub(crate) fn replace_first(&mut self, entries: usize, left: impl Iterator<Item = Entry>) {
        // The bytes of what went stay until the rest is gone.
        drop(self.entries.splice(..entries, left));
        if self.entries.is_empty() {
            self.clear();
        }
    }

    /// Forgets what was to be sent, which it has been, or has been counted.
    #[inline]
    pub fn clear(&mut self) {
        self.entries.clear();
        if !self.page.is_empty() {
            self.page.clear();
            self.page.shrink_to(2 * PAGE_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    /// How many replies of so many bytes each a request of 100 bytes from there may have.
    fn replies(peer: &str, length: usize) -> usize {
        let peer: SocketAddr = peer.parse().unwrap();
        let mut asker = Asker {
            transmit: Transmit::to(RawAddress::from(peer)),
            request_bytes: 100,
            replied_bytes: 0,
        };
        let mut out = Outbox::new(Policy::default());
        for _ in 0..50 {
            out.reply_more(&mut asker, &vec![0; length]);
        }
        assert_eq!(out.tally.count(Count::ProducedPackets), 50);
        out.entries().len()
    }

    #[test]
    fn several_replies_together_amplify_no_more_than_one() {
        assert_eq!(replies("127.0.0.1:4000", 100), 50);
        // Three times 128 bytes on the wire, of which each takes 128, or 148 where it counts.
        assert_eq!(replies("192.0.2.1:4000", 100), 2);
        assert_eq!(replies("[2001:db8::1]:4000", 100), 3);
        assert!(replies("192.0.2.1:4000", 0) <= 10);
    }
}
