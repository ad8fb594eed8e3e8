//! The ways to ask the kernel for datagrams, behind one interface that costs nothing.

use std::io;
use std::ops::Range;
use std::os::fd::RawFd;

use super::plan::Plan;
use crate::datagram::{Outbox, Received, Slots};
use crate::error::{Error, Result};
use crate::net::choice::EngineChoice;
use crate::sys::message::{self, Mode};

#[cfg(target_os = "linux")]
mod batch;

#[cfg(target_os = "linux")]
pub(crate) use batch::{Batch, MAX_SEGMENTS};
#[cfg(not(target_os = "linux"))]
pub(crate) const MAX_SEGMENTS: usize = 1;

/// One socket's receives and sends. Chosen once, at start; what drives it is compiled for each.
pub(crate) trait Engine: Send + 'static {
    /// How many messages one receive may bring.
    fn slots(&self) -> usize;

    /// Receives into these slots; at least one message, or an error.
    fn receive(&mut self, slots: Range<usize>, mode: Mode) -> io::Result<usize>;

    /// What came into a slot. Once a receive: it makes the slot ready for the next.
    fn take(&mut self, slot: usize) -> Received;

    /// Where the bytes lie.
    fn memory(&self) -> Slots<'_>;

    /// Datagrams that one send may carry; 1: it knows no trains.
    fn max_segments(&self) -> usize;

    /// Told that the kernel refused a send of this many datagrams with an error that holds
    /// for the socket, not for the peer.
    fn limit_segments(&mut self, refused: usize);

    /// Sends from group `start` of the plan on; how many groups went, at least one. An
    /// error is that of group `start`.
    fn send(&mut self, plan: &Plan, outbox: &Outbox, start: usize) -> io::Result<usize>;
}

/// The name of [`Portable`] in reports and statistics.
pub(crate) const PORTABLE: &str = "portable";
/// The name of `Batch`.
pub(crate) const BATCH: &str = "batch";

/// The name of the engine that a choice comes to here.
///
/// # Errors
///
/// An engine that this system lacks.
pub(crate) fn chosen(choice: EngineChoice) -> Result<&'static str> {
    match choice {
        EngineChoice::Portable => Ok(PORTABLE),
        EngineChoice::Auto if !cfg!(target_os = "linux") => Ok(PORTABLE),
        EngineChoice::Batch if !cfg!(target_os = "linux") => {
            let reason = "this system has no recvmmsg(2)";
            Err(Error::argument("set", "engine='batch'", reason).or("take auto or portable"))
        }
        EngineChoice::Auto | EngineChoice::Batch => Ok(BATCH),
    }
}

/// One recvmsg(2) and one sendto(2) or sendmsg(2) a datagram: what every Unix has.
pub(crate) struct Portable {
    fd: RawFd,
    buffer: Box<[u8]>,
    last: Option<Received>,
}

impl Portable {
    /// For datagrams of up to `slot_bytes`; the caller keeps `fd` open.
    pub(crate) fn new(fd: RawFd, slot_bytes: usize) -> Self {
        Self {
            fd,
            buffer: vec![0; slot_bytes].into_boxed_slice(),
            last: None,
        }
    }
}

impl Engine for Portable {
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

    fn memory(&self) -> Slots<'_> {
        Slots {
            memory: &self.buffer,
            stride: 0,
        }
    }

    fn max_segments(&self) -> usize {
        1
    }

    fn limit_segments(&mut self, _refused: usize) {}

    fn send(&mut self, plan: &Plan, outbox: &Outbox, start: usize) -> io::Result<usize> {
        let group = &plan.groups()[start];
        let entry = &outbox.entries()[usize::from(group.entry)];
        // One datagram a group: this engine's trains are of one.
        for piece in plan.pieces(group) {
            let (offset, length) = (piece.offset as usize, piece.length as usize);
            let data = outbox.data(self.memory(), entry, offset, length);
            message::send(self.fd, data, &entry.transmit)?;
        }
        Ok(1)
    }
}
