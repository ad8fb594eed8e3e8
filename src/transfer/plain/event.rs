//! What a receiver tells of its messages.

use std::fmt;
use std::net::SocketAddr;

use super::missing::Missing;
use crate::transfer::failure::{Failure, Reason};
use crate::transfer::store::{Digest, Name};

/// The end of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// All chunks arrived, and the message was stored.
    Whole(Whole),
    /// Chunks are missing.
    Lost(Lost),
    /// All chunks arrived, but the message could not be stored.
    Failed(Failed),
}

/// A complete message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// Address of the sender.
    pub peer: SocketAddr,
    /// Number of the message at this receiver, from 1.
    pub number: u64,
    /// Its name; no components unless the receiver gives names.
    pub name: Name,
    /// Length in bytes.
    pub length: u64,
    /// Number of chunks.
    pub chunks: u32,
    /// BLAKE3 digest.
    pub digest: Digest,
    /// Datagrams of its sender that spoke against it: other bytes at an index that was here, another
    /// count. Beyond 0 it may be a mixture of two messages, which nothing in the format keeps apart.
    pub disputed_packets: u64,
    /// Time from the count to the last chunk, in ns.
    pub took_ns: u64,
}

/// Why chunks of a message are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No new chunk arrived in time.
    TimedOut,
    /// Memory was needed, and this message had waited longest for a new chunk.
    Displaced,
    /// There was no memory for its next chunk.
    NoRoom,
    /// The receiver was stopped.
    Ended,
}

/// An incomplete message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Address of the sender.
    pub peer: SocketAddr,
    /// As [`Whole::number`].
    pub number: u64,
    /// The reason.
    pub why: Why,
    /// The missing chunks.
    pub missing: Missing,
    /// Number of bytes that arrived.
    pub came_bytes: u64,
    /// Number of chunks that were refused because the message would have been too long.
    pub refused_packets: u64,
    /// As [`Whole::disputed_packets`].
    pub disputed_packets: u64,
    /// The part that was stored, or why it could not be. `None`: not asked for, or nothing arrived.
    pub kept: Option<Result<Kept, Failure>>,
}

/// The stored part of an incomplete message.
///
/// Chunk `n` starts at `n` times [`Kept::chunk_bytes`], with zeros for those that are missing, up to
/// the end of the last that came. Zeros are at most 64 times what came, so nobody has storage filled
/// by naming a large index: beyond that nothing is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its name; no components unless the receiver gives names.
    pub name: Name,
    /// Length in bytes, zeros included.
    pub length: u64,
    /// Bytes of each chunk; `None`: only the message's last chunk came, and is kept by itself, since
    /// it cannot be said how long those before it are.
    pub chunk_bytes: Option<usize>,
}

/// A complete message that could not be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Address of the sender.
    pub peer: SocketAddr,
    /// As [`Whole::number`].
    pub number: u64,
    /// Length in bytes.
    pub length: u64,
    /// Why it could not be stored.
    pub failure: Failure,
}

impl Lost {
    /// The loss as an error.
    pub fn failure(&self) -> Failure {
        let reason = match self.why {
            Why::TimedOut if self.refused_packets > 0 => Reason::TooLarge,
            Why::TimedOut => Reason::TimedOut,
            Why::Displaced | Why::NoRoom => Reason::TooMany,
            Why::Ended => Reason::Cancelled,
        };
        Failure::new(reason, self.to_string())
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (peer, missing) = (self.peer, &self.missing);
        let (why, way_out) = match self.why {
            Why::TimedOut if self.refused_packets > 0 => (
                "were refused, as it would be longer than a message may be",
                "raise that limit, or send it by a protocol that writes as it comes",
            ),
            Why::TimedOut => (
                "did not come in time",
                "send it again, or by the protocol that asks for what is missing",
            ),
            Why::Displaced => (
                "had not come when its memory was needed",
                "send it again, or raise the limit of all messages together",
            ),
            Why::NoRoom => (
                "had not come when no memory was left",
                "send it again later, or raise the limit of all messages together",
            ),
            Why::Ended => ("had not come when the receiver ended", "send it again"),
        };
        write!(
            f,
            "cannot complete a message from {peer}: chunks {missing} {why}; {way_out}"
        )
    }
}
