//! What goes: replies and what is sent unasked, and the count of what is not answered.

use super::{Datagram, Place, RawAddress, Slots, Transmit};
use crate::books::DropReason;
use crate::books::udp::{Count, Tally};
use crate::guard::Policy;

/// One send, or a train of them.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Whom it goes to.
    pub transmit: Transmit,
    /// Where its bytes lie.
    pub place: Place,
    /// How many they are.
    pub length: usize,
    /// The length of each of its datagrams but the last, where they are several; else 0.
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

/// Where a reply goes that is made later than its batch, and how long its request was.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    /// Whom the reply goes to.
    pub transmit: Transmit,
    /// The bytes of the request.
    pub request_bytes: usize,
    /// The bytes that it was answered with already.
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

/// What goes, in the order in which it was put in.
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
    /// One that lets replies be as long as this policy says.
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

    /// The same bytes back to their sender, from where they lie.
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

    /// Other bytes back to who asked, unless they are too many for that.
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

    /// One reply of several to a request, which stays open. Counted as produced, since the
    /// last one is the request's.
    pub fn reply_more(&mut self, asker: &mut Asker, data: &[u8]) {
        self.tally.add(Count::ProducedPackets, 1);
        self.reply(asker, data);
        asker.replied_bytes += data.len();
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

    /// A datagram that is nobody's reply.
    pub fn send(&mut self, transmit: Transmit, data: &[u8]) {
        self.tally.add(Count::ProducedPackets, 1);
        self.push(transmit, data);
    }

    /// A train of datagrams that are nobody's replies: `write` appends them, each of
    /// `segment_bytes` but the last, which may be shorter. Nothing is sent where it appends nothing.
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

    /// Counts a datagram as taken in: it is not answered by itself.
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

    /// Counts an entry as an error reply, too.
    pub fn count_error_reply(&mut self) {
        self.tally.add(Count::ErrorReplies, 1);
    }

    /// Whether it should be sent before more is put in.
    pub fn is_full(&self) -> bool {
        self.page.len() >= PAGE_BYTES || self.entries.len() >= PAGE_ENTRIES
    }

    /// Whether there is nothing to be sent.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What is to be sent.
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
