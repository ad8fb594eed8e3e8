//! Many datagrams a call, trains in and trains out: Linux.

use std::io;
use std::ops::Range;
use std::os::fd::RawFd;

use super::Engine;
use crate::server::udp::plan::Plan;
use crate::sys::message::{Mode, Received};
use crate::sys::mmsg::{self, Mailbox};

/// recvmmsg(2) with UDP_GRO, sendmmsg(2) with UDP_SEGMENT.
pub(in crate::server::udp) struct Batch {
    fd: RawFd,
    mailbox: Mailbox,
    /// What UDP_GRO was, where that was changed.
    offload_before: Option<bool>,
    max_segments: usize,
    /// The groups of the plan that the mailbox holds now.
    ready: Range<usize>,
}

/// Messages a call. More gains nothing measurable and costs cache.
const SLOTS: usize = 64;

/// What the kernel takes in one send: `UDP_MAX_SEGMENTS` in include/linux/udp.h, 128 since
/// Linux 6.10, 64 before, which the first refusal tells.
pub(in crate::server::udp) const MAX_SEGMENTS: usize = 128;
const MAX_SEGMENTS_BEFORE: usize = 64;

impl Batch {
    /// For datagrams of up to `slot_bytes`, in trains where `offload` is on and the slots
    /// have room for them; the caller keeps `fd` open.
    /// Also why the kernel refuses them, where it does.
    pub(in crate::server::udp) fn new(
        fd: RawFd,
        slot_bytes: usize,
        offload: bool,
    ) -> (Self, Option<io::Error>) {
        let was_on = mmsg::receive_offload(fd).unwrap_or(false);
        // Off where a slot has no room for a train: it may have been on before.
        let refused = mmsg::set_receive_offload(fd, offload).err();
        let refused = refused.filter(|_| offload);
        // A kernel without UDP_GRO serves as well, datagram by datagram.
        let is_on = offload && refused.is_none();
        let engine = Self {
            fd,
            mailbox: Mailbox::new(SLOTS, slot_bytes),
            offload_before: (is_on != was_on).then_some(was_on),
            max_segments: if is_on { MAX_SEGMENTS } else { 1 },
            ready: 0..0,
        };
        (engine, refused)
    }
}

impl Batch {
    /// Fills the outbox with the groups from `start` on, as many as fit: usually all.
    fn prepare(&mut self, plan: &Plan, received: &[Received], start: usize) {
        self.mailbox.clear();
        let mut end = start;
        for group in &plan.groups()[start..] {
            if !self.mailbox.has_room_for(usize::from(group.datagrams)) {
                break;
            }
            let of = &received[usize::from(group.slot)];
            let segment = if group.datagrams > 1 {
                group.segment_bytes as u16
            } else {
                0
            };
            let hop_limit = of.reply_hop_limit;
            self.mailbox
                .open(of.source, of.destination, segment, hop_limit);
            for piece in plan.pieces(group) {
                let (offset, length) = (piece.offset as usize, piece.length as usize);
                self.mailbox.add(usize::from(piece.slot), offset, length);
            }
            end += 1;
        }
        self.ready = start..end;
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
    const NAME: &'static str = "batch";

    fn slots(&self) -> usize {
        SLOTS
    }

    fn receive(&mut self, slots: Range<usize>, mode: Mode) -> io::Result<usize> {
        self.mailbox.inbox.receive(self.fd, slots, mode)
    }

    fn take(&mut self, slot: usize) -> Received {
        self.mailbox.inbox.take(slot)
    }

    fn data(&self, slot: usize, offset: usize, length: usize) -> &[u8] {
        self.mailbox.data(slot, offset, length)
    }

    fn lend(&mut self, page: Vec<u8>) {
        self.mailbox.lend(page);
        self.ready = 0..0;
    }

    fn give_back(&mut self) -> Vec<u8> {
        self.ready = 0..0;
        self.mailbox.give_back()
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

    fn begin(&mut self) {
        self.ready = 0..0;
    }

    fn send(&mut self, plan: &Plan, received: &[Received], start: usize) -> io::Result<usize> {
        if !self.ready.contains(&start) {
            self.prepare(plan, received, start);
        }
        self.mailbox.send(self.fd, start - self.ready.start)
    }
}
