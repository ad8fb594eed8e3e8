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

/// Equal for two offers of the same unchanged file; all zeros: cannot be told.
pub type Identity = [u8; 16];

/// BLAKE3 digest of a message.
pub type Digest = [u8; 32];

/// The name of a message: components, none of which is used as a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Name(Vec<String>);

/// Maximum number of components of a name.
pub const MAX_COMPONENTS: usize = 16;

/// Maximum number of bytes of a name: an offer has to fit into datagrams that every path takes.
pub const MAX_NAME_BYTES: usize = 1_024;

impl Name {
    /// No components: a message without a name.
    pub fn none() -> Self {
        Self::default()
    }

    /// Makes a name if each component can be a file's name, and both limits are kept.
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

    /// The components; empty for a message without a name.
    pub fn components(&self) -> &[String] {
        &self.0
    }

    /// True for a message without a name.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("/"))
    }
}

/// A message to be sent.
pub trait Source: Send {
    /// Length in bytes; `None`: not known before the end (a pipe).
    fn length(&self) -> Option<u64>;

    /// Reads into `room` from this offset on, and returns the number of bytes: fewer at the end, and if
    /// a pipe has no more yet ([`Source::length`] tells them apart).
    ///
    /// # Errors
    ///
    /// `WouldBlock` where a pipe has nothing yet. Any other error ends the transfer.
    fn read(&mut self, offset: u64, room: &mut [u8]) -> io::Result<usize>;

    /// The first offset that can still be read. A receiver that was restarted cannot continue
    /// before it.
    fn first(&self) -> u64 {
        0
    }

    /// Bytes before this offset are not read again, unless the receiver is restarted.
    fn release(&mut self, before: u64) {
        let _ = before;
    }

    /// Tells whether the contents are the same as before a restart.
    fn identity(&self) -> Identity {
        Identity::default()
    }
}

/// Where a received message is written. If it is dropped before [`Sink::finish`], the part of a file
/// stays, and the next offer of the same file continues there.
pub trait Sink: Send {
    /// Number of bytes written so far.
    fn length(&self) -> u64;

    /// How many bytes [`Sink::append`] would take now, as far as that can be told: what a window
    /// may promise.
    fn room(&self) -> u64 {
        u64::MAX
    }

    /// Appends bytes, perhaps to a bounded buffer first.
    ///
    /// # Errors
    ///
    /// Of the write: the disk or the quota is full, say ([`Failure::io`] makes that `TooLarge`).
    fn append(&mut self, data: &[u8]) -> io::Result<()>;

    /// Reads bytes of an earlier attempt; as [`Source::read`].
    ///
    /// # Errors
    ///
    /// Of the read.
    fn read_back(&mut self, offset: u64, room: &mut [u8]) -> io::Result<usize>;

    /// The message is complete: stores it durably under its name, or hands it over.
    ///
    /// # Errors
    ///
    /// Something else has that name by now; of the write.
    fn finish(&mut self, digest: &Digest) -> Result<(), Failure>;

    /// The message is wrong: removes it.
    fn discard(&mut self);
}

/// The offer of a sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Address of the sender.
    pub peer: SocketAddr,
    /// The transfer's id.
    pub id: u64,
    /// Name of the file; no components: a message without a name.
    pub name: Name,
    /// Length in bytes, if the sender knows it.
    pub length: Option<u64>,
    /// Tells whether the file is the same as before.
    pub identity: Identity,
    /// BLAKE3 digest, if the sender knows it.
    pub digest: Option<Digest>,
    /// Asks to replace a file of this name.
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
