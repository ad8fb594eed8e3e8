//! Many datagrams a call, trains in and trains out: Linux.

use std::io;
use std::ops::Range;
use std::os::fd::RawFd;

use super::Engine;
use crate::datagram::{Outbox, Received, Slots};
use crate::net::udp::plan::Plan;
use crate::sys::message::Mode;
use crate::sys::mmsg::{self, Inbox, Sends};

/// recvmmsg(2) with UDP_GRO, sendmmsg(2) with UDP_SEGMENT.
pub(crate) struct Batch {
    fd: RawFd,
    inbox: Inbox,
    sends: Sends,
    /// What UDP_GRO was, where that was changed.
    offload_before: Option<bool>,
    max_segments: usize,
    /// Groups that the next call takes at most: few behind a refused one, which may not be the
    /// last.
    most_groups: usize,
}

/// Messages a call. More gains nothing measurable and costs cache.
const SLOTS: usize = 64;

/// A train that is too long for one send is cut; room for that without a second round, in
/// all but strange cases.
const SENDS: usize = 4 * SLOTS;

/// What the kernel takes in one send: `UDP_MAX_SEGMENTS` in include/linux/udp.h, 128 since
/// Linux 6.10, 64 before, which the first refusal tells.
pub(crate) const MAX_SEGMENTS: usize = 128;
const MAX_SEGMENTS_BEFORE: usize = 64;

impl Batch {
    /// For datagrams of up to `slot_bytes`, in trains where `offload` is on and the slots
    /// have room for them; the caller keeps `fd` open.
    /// Also why the kernel refuses them, where it does.
    pub(crate) fn new(fd: RawFd, slot_bytes: usize, offload: bool) -> (Self, Option<io::Error>) {
        let was_on = mmsg::receive_offload(fd).unwrap_or(false);
        // Off where a slot has no room for a train: it may have been on before.
        let refused = mmsg::set_receive_offload(fd, offload).err();
        let refused = refused.filter(|_| offload);
        // A kernel without UDP_GRO serves as well, datagram by datagram.
        let is_on = offload && refused.is_none();
        let engine = Self {
            fd,
            inbox: Inbox::new(SLOTS, slot_bytes),
            sends: Sends::new(SENDS),
            offload_before: (is_on != was_on).then_some(was_on),
            max_segments: if is_on { MAX_SEGMENTS } else { 1 },
            most_groups: SENDS,
        };
        (engine, refused)
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // A socket that was passed in goes on living with somebody who expects one datagram
        // a read, unless it was otherwise. Nothing is lost where this fails: it is closed.
        if let Some(before) = self.offload_before {
            let _ = mmsg::set_receive_offload(self.fd, before);
        }
    }
}

impl Engine for Batch {
    fn slots(&self) -> usize {
        SLOTS
    }

    fn receive(&mut self, slots: Range<usize>, mode: Mode) -> io::Result<usize> {
        self.inbox.receive(self.fd, slots, mode)
    }

    fn take(&mut self, slot: usize) -> Received {
        self.inbox.take(slot)
    }

    fn memory(&self) -> Slots<'_> {
        let (memory, stride) = self.inbox.memory();
        Slots { memory, stride }
    }

    fn max_segments(&self) -> usize {
        self.max_segments
    }

    fn limit_segments(&mut self, refused: usize) {
        self.max_segments = if refused > MAX_SEGMENTS_BEFORE {
            MAX_SEGMENTS_BEFORE
        } else {
            1
        };
    }

    fn send(&mut self, plan: &Plan, outbox: &Outbox, start: usize) -> io::Result<usize> {
        let (memory, stride) = self.inbox.memory();
        let slots = Slots { memory, stride };
        if start == 0 {
            self.most_groups = SENDS;
        }
        let mut sends = self.sends.fill();
        for group in plan.groups()[start..].iter().take(self.most_groups) {
            if !sends.has_room_for(group.datagrams.into()) {
                break;
            }
            let entry = &outbox.entries()[usize::from(group.entry)];
            let is_train = group.datagrams > 1;
            let segment_bytes = if is_train { group.segment_bytes } else { 0 };
            sends.open(&entry.transmit, segment_bytes as u16);
            for piece in plan.pieces(group) {
                let entry = &outbox.entries()[usize::from(piece.entry)];
                let (offset, length) = (piece.offset as usize, piece.length as usize);
                sends.add(outbox.data(slots, entry, offset, length));
            }
        }
        let sent = sends.send(self.fd);
        self.most_groups = match sent {
            Ok(_) => (2 * self.most_groups).min(SENDS),
            Err(_) => 1,
        };
        sent
    }
}
