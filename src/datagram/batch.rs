//! Received datagrams: those of one receive, where the kernel put them, or copies that were
//! delayed.

use std::net::{IpAddr, SocketAddr};

use super::{Received, Transmit};
use crate::books::DropReason;

/// The message of one slot, and the decision about it.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    /// The received message.
    pub came: Received,
    /// How many of its bytes are to be answered, from the first on; `None`: none.
    pub admitted_bytes: Option<usize>,
    /// Why the rest is not answered.
    pub dropped: Option<DropReason>,
    /// The hop limit of its replies; 0: the socket's own.
    pub reply_hop_limit: u8,
}

impl Message {
    /// One that is to be answered as a whole.
    pub fn admitted(came: Received) -> Self {
        Self {
            came,
            admitted_bytes: Some(came.length),
            dropped: None,
            reply_hop_limit: 0,
        }
    }

    /// Where its replies go.
    pub fn reply(&self) -> Transmit {
        Transmit {
            to: self.came.source,
            from: self.came.destination,
            hop_limit: self.reply_hop_limit,
        }
    }
}

/// A delayed datagram.
#[derive(Debug, Clone)]
pub struct Copied {
    /// Its bytes.
    pub data: Vec<u8>,
    /// Its message, as if it had come alone.
    pub message: Message,
}

/// The memory of an engine's slots, and how far apart they start.
#[derive(Clone, Copy, Default)]
pub(crate) struct Slots<'a> {
    pub(crate) memory: &'a [u8],
    pub(crate) stride: usize,
}

impl<'a> Slots<'a> {
    /// Bytes of a slot.
    #[inline]
    pub(crate) fn data(self, slot: usize, offset: usize, length: usize) -> &'a [u8] {
        &self.memory[slot * self.stride + offset..][..length]
    }
}

#[derive(Clone, Copy)]
enum Content<'a> {
    Slots(Slots<'a>, &'a [Message]),
    Copies(&'a [Copied]),
}

/// Datagrams to be answered, in the order in which they were received.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    content: Content<'a>,
    /// So many were taken before.
    taken: usize,
}

/// One datagram, or a train: several of one peer, received in one read (UDP_GRO), all of one length
/// except the last, which may be shorter.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// Its message.
    pub message: &'a Message,
    /// The bytes.
    pub data: &'a [u8],
    /// Of a train, the length of each but the last; 0 for a single datagram.
    pub segment_bytes: usize,
    place: Option<(u16, u32)>,
}

/// Where the bytes of what is sent lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the slot that received them, from this offset on.
    Slot(u16, u32),
    /// In the outbox, from this offset on.
    Page(u32),
}

impl<'a> Batch<'a> {
    /// What lies in an engine's slots.
    pub(crate) fn of_slots(slots: Slots<'a>, messages: &'a [Message]) -> Self {
        Self {
            content: Content::Slots(slots, messages),
            taken: 0,
        }
    }

    /// Datagrams that were held back.
    pub fn of_copies(copies: &'a [Copied]) -> Self {
        Self {
            content: Content::Copies(copies),
            taken: 0,
        }
    }

    /// Where its bytes lie, as far as that is in slots.
    pub(crate) fn slots(&self) -> Slots<'a> {
        match self.content {
            Content::Slots(slots, _) => slots,
            Content::Copies(_) => Slots::default(),
        }
    }

    /// The batch without its next `taken` datagrams.
    #[must_use]
    pub fn without(self, taken: usize) -> Self {
        Self {
            taken: self.taken + taken,
            ..self
        }
    }

    /// What is to be answered, trains as they came. Only of a batch of which nothing was taken.
    #[inline]
    pub fn trains(self) -> impl Iterator<Item = Datagram<'a>> {
        let count = match self.content {
            Content::Slots(_, messages) => messages.len(),
            Content::Copies(copies) => copies.len(),
        };
        (0..count).filter_map(move |index| self.train(index))
    }

    #[inline]
    fn train(self, index: usize) -> Option<Datagram<'a>> {
        match self.content {
            Content::Slots(slots, messages) => {
                let message = &messages[index];
                let length = message.admitted_bytes?;
                Some(Datagram {
                    message,
                    data: slots.data(index, 0, length),
                    segment_bytes: message.came.segment_bytes,
                    place: Some((index as u16, 0)),
                })
            }
            Content::Copies(copies) => Some(Datagram {
                message: &copies[index].message,
                data: &copies[index].data,
                segment_bytes: 0,
                place: None,
            }),
        }
    }

    /// What is to be answered, one by one.
    pub fn datagrams(self) -> impl Iterator<Item = Datagram<'a>> {
        self.trains().flat_map(Datagram::each).skip(self.taken)
    }
}

impl<'a> Datagram<'a> {
    /// Its datagrams, one by one.
    pub fn each(self) -> impl Iterator<Item = Self> {
        let size = match self.segment_bytes {
            0 => self.data.len().max(1),
            size => size,
        };
        let count = self.data.len().div_ceil(size).max(1);
        (0..count).map(move |index| {
            let start = index * size;
            Self {
                data: &self.data[start..self.data.len().min(start + size)],
                segment_bytes: 0,
                place: self.place.map(|(slot, at)| (slot, at + start as u32)),
                ..self
            }
        })
    }

    /// Where the bytes lie, if that is in a slot.
    pub(super) fn slot(&self) -> Option<Place> {
        self.place.map(|(slot, offset)| Place::Slot(slot, offset))
    }

    /// The sender; an invalid address if the kernel gave none.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.message.came.source.to_std()
    }

    /// The address that it was sent to, if the socket reports it.
    pub fn local_ip(&self) -> Option<IpAddr> {
        self.message.came.destination.ip()
    }

    /// A copy, to be answered later.
    pub fn copied(&self) -> Copied {
        let mut message = *self.message;
        message.came.length = self.data.len();
        message.came.segment_bytes = 0;
        message.admitted_bytes = Some(self.data.len());
        Copied {
            data: self.data.to_vec(),
            message,
        }
    }
}
