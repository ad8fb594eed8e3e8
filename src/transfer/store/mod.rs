//! What a message is read from, and what it is written to.
//!
//! A message is written in order, by appending: so what is there of a file is its length, and that
//! survives the process. What came early stays in memory, with the receiver.

#[cfg(test)]
mod crash_tests;
pub mod destination;
pub mod directory;
#[cfg(test)]
mod directory_tests;
pub mod file;
pub mod inbox;
mod ledger;
pub mod memory;
mod part;
pub mod pipe;
#[cfg(test)]
mod temporary;
mod walk;

use std::io;
use std::net::SocketAddr;

use super::failure::Failure;

/// What tells whether two offers are of the same unchanged file; all zeros: it cannot be told.
pub type Identity = [u8; 16];

/// BLAKE3 over all bytes.
pub type Digest = [u8; 32];

/// A name in components, of which none is a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Name(Vec<String>);

/// Components that a name has at most.
pub const MAX_COMPONENTS: usize = 16;

/// And bytes in all: an offer has to fit into the datagrams that every path takes.
pub const MAX_NAME_BYTES: usize = 1_024;

impl Name {
    /// None: a message without a name.
    pub fn none() -> Self {
        Self::default()
    }

    /// From components, if each can be the name of a file, and they are neither too many nor too
    /// long all together.
    pub fn new(components: Vec<String>) -> Option<Self> {
        let is_fine = |name: &String| {
            (1..=255).contains(&name.len())
                && name != "."
                && name != ".."
                && !name.contains(['/', '\0'])
        };
        let bytes: usize = components.iter().map(String::len).sum();
        let is_short = components.len() <= MAX_COMPONENTS && bytes <= MAX_NAME_BYTES;
        (is_short && components.iter().all(is_fine)).then_some(Self(components))
    }

    /// The components; none of a message without a name.
    pub fn components(&self) -> &[String] {
        &self.0
    }

    /// Whether it is none.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("/"))
    }
}

/// What a message is read from.
pub trait Source: Send {
    /// How long it is; `None`: not known before its end is reached (a pipe).
    fn length(&self) -> Option<u64>;

    /// Fills `room` from this offset on; how many bytes it has there: fewer at the end, and where
    /// a pipe has no more yet ([`Source::length`] tells them apart).
    ///
    /// # Errors
    ///
    /// `WouldBlock` where a pipe has nothing yet. Any other error ends the transfer.
    fn read(&mut self, offset: u64, room: &mut [u8]) -> io::Result<usize>;

    /// The first offset that can be read: behind it a receiver that was restarted has to be.
    fn first(&self) -> u64 {
        0
    }

    /// What lies before this offset will not be read again, if the receiver is not restarted.
    fn release(&mut self, before: u64) {
        let _ = before;
    }

    /// Whether it is the same as before, after a restart.
    fn identity(&self) -> Identity {
        Identity::default()
    }
}

/// What a message is written to. Dropped before [`Sink::finish`], it keeps what is there of a
/// file, for an offer of the same to go on with.
pub trait Sink: Send {
    /// How many bytes are there.
    fn length(&self) -> u64;

    /// How many bytes [`Sink::append`] would take now, as far as that can be told: what a window
    /// may promise.
    fn room(&self) -> u64 {
        u64::MAX
    }

    /// Writes at the end, or keeps it for that in a bounded buffer.
    ///
    /// # Errors
    ///
    /// Of the write: the disk or the quota is full, say ([`Failure::io`] makes that `TooLarge`).
    fn append(&mut self, data: &[u8]) -> io::Result<()>;

    /// Reads what is there, from before a restart; as [`Source::read`].
    ///
    /// # Errors
    ///
    /// Of the read.
    fn read_back(&mut self, offset: u64, room: &mut [u8]) -> io::Result<usize>;

    /// It is whole: puts it where it belongs, durably, or hands it over.
    ///
    /// # Errors
    ///
    /// Something else has that name by now; of the write.
    fn finish(&mut self, digest: &Digest) -> Result<(), Failure>;

    /// It is no good: removes what is there.
    fn discard(&mut self);
}

/// What a sender offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Who sends.
    pub peer: SocketAddr,
    /// The transfer's id.
    pub id: u64,
    /// Under which name; none: a message.
    pub name: Name,
    /// How long it is, where the sender knows.
    pub length: Option<u64>,
    /// Whether it is the same as before.
    pub identity: Identity,
    /// Of all bytes, where the sender knows.
    pub digest: Option<Digest>,
    /// May take the place of what has the name.
    pub replaces: bool,
}

/// What an offer is answered with.
pub enum Opened {
    /// It is to be sent, from the length of this on.
    Sink(Box<dyn Sink>),
    /// It may be there already: these bytes, of the offered length, tell, whose digest is offered.
    Compare(Box<dyn Source>),
}

/// Where a receiver puts messages, and whence it takes what is pulled. One for all workers.
pub trait Storage: Send + Sync {
    /// An offer: room for it, or why not.
    ///
    /// # Errors
    ///
    /// `TooLarge`, `Exists`, `ExistsAlike`, `BadName`, `Refused`, `Io`; `TooMany` while another
    /// transfer writes to the same name.
    fn open_sink(&self, offer: &Offer) -> Result<Opened, Failure>;

    /// What is pulled by this name.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Refused`, `BadName`, `Io`.
    fn open_source(&self, name: &Name) -> Result<Box<dyn Source>, Failure>;
}
