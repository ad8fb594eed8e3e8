//! The ways to ask the kernel for datagrams, behind one interface that costs nothing.

use std::io;
use std::ops::Range;
use std::os::fd::RawFd;

use super::plan::Plan;
use crate::sys::message::{self, Mode, Received};

#[cfg(any(target_os = "linux", target_os = "android"))]
mod batch;

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) use batch::{Batch, MAX_SEGMENTS};

/// One socket's receives and sends. Chosen once, at start; the loop is compiled for each.
pub(super) trait Engine: Send + 'static {
    /// The name that reports and statistics give.
    const NAME: &'static str;

    /// How many messages one receive may bring.
    fn slots(&self) -> usize;

    /// Receives into these slots; at least one message, or an error.
    fn receive(&mut self, slots: Range<usize>, mode: Mode) -> io::Result<usize>;

    /// What came into a slot. Once a receive: it makes the slot ready for the next.
    fn take(&mut self, slot: usize) -> Received;

    /// Bytes of a slot; of the page, where there is one.
    fn data(&self, slot: usize, offset: usize, length: usize) -> &[u8];

    /// From now on sends are of this page, in which a plan's offsets lie.
    fn lend(&mut self, page: Vec<u8>);

    /// The page back: sends are of what came into the slots again.
    fn give_back(&mut self) -> Vec<u8>;

    /// Datagrams that one send may carry; 1: it knows no trains.
    fn max_segments(&self) -> usize;

    /// Told that the kernel refused a send of this many datagrams with an error that holds
    /// for the socket, not for the peer.
    fn limit_segments(&mut self, refused: usize);

    /// A new plan follows: what was made ready for the last one is void.
    fn begin(&mut self);

    /// Sends from group `start` of the plan on; how many groups went, at least one. An
    /// error is that of group `start`.
    fn send(&mut self, plan: &Plan, received: &[Received], start: usize) -> io::Result<usize>;
}

/// One recvmsg(2) and one sendmsg(2) a datagram: what every Unix has.
pub(super) struct Portable {
    fd: RawFd,
    buffer: Box<[u8]>,
    last: Option<Received>,
    page: Option<Vec<u8>>,
}

impl Portable {
    /// For datagrams of up to `slot_bytes`; the caller keeps `fd` open.
    pub(super) fn new(fd: RawFd, slot_bytes: usize) -> Self {
        Self {
            fd,
            buffer: vec![0; slot_bytes].into_boxed_slice(),
            last: None,
            page: None,
        }
    }
}

impl Engine for Portable {
    const NAME: &'static str = "portable";

    fn slots(&self) -> usize {
        1
    }

    fn receive(&mut self, _slots: Range<usize>, mode: Mode) -> io::Result<usize> {
        self.last = Some(message::receive(self.fd, &mut self.buffer, mode)?);
        Ok(1)
    }

    fn take(&mut self, _slot: usize) -> Received {
        self.last.take().expect("a receive came before")
    }

    fn data(&self, _slot: usize, offset: usize, length: usize) -> &[u8] {
        &self.page.as_deref().unwrap_or(&self.buffer)[offset..offset + length]
    }

    fn lend(&mut self, page: Vec<u8>) {
        self.page = Some(page);
    }

    fn give_back(&mut self) -> Vec<u8> {
        self.page.take().unwrap_or_default()
    }

    fn max_segments(&self) -> usize {
        1
    }

    fn limit_segments(&mut self, _refused: usize) {}

    fn begin(&mut self) {}

    fn send(&mut self, plan: &Plan, received: &[Received], start: usize) -> io::Result<usize> {
        let group = &plan.groups()[start];
        let of = &received[usize::from(group.slot)];
        // One datagram a group: this engine's trains are of one.
        let offset = plan.pieces(group).next().map_or(0, |piece| piece.offset);
        let data = self.data(0, offset as usize, group.bytes as usize);
        let (to, from) = (&of.source, of.destination);
        message::send(self.fd, data, to, from, of.reply_hop_limit)?;
        Ok(1)
    }
}
