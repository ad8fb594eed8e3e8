//! What a receiver tells of its messages.

use std::fmt;
use std::net::SocketAddr;

use super::missing::Missing;
use crate::transfer::failure::{Failure, Reason};
use crate::transfer::store::{Digest, Name};

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// All of it came, and is where it belongs.
    Whole(Whole),
    /// Not all of it came.
    Lost(Lost),
    /// All of it came, and could not be kept.
    Failed(Failed),
}

/// A message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// Who sent it.
    pub peer: SocketAddr,
    /// Which one, of this receiver's, from 1 on.
    pub number: u64,
    /// Its name; none, unless names are given.
    pub name: Name,
    /// How many bytes it has.
    pub length: u64,
    /// In how many chunks they came.
    pub chunks: u32,
    /// BLAKE3 of all of them.
    pub digest: Digest,
    /// Datagrams of its sender that spoke against it: other bytes at an index that was here, another
    /// count. Beyond 0 it may be a mixture of two messages, which nothing in the format keeps apart.
    pub disputed_packets: u64,
    /// From its count to its last chunk.
    pub took_ns: u64,
}

/// Why not all of a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nothing more came in time.
    TimedOut,
    /// It had gone longest without a new chunk when memory was needed.
    Displaced,
    /// It needed memory when none was left.
    NoRoom,
    /// The receiver ended.
    Ended,
}

/// A message of which not all came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Who sent it.
    pub peer: SocketAddr,
    /// Which one, as [`Whole::number`].
    pub number: u64,
    /// Why.
    pub why: Why,
    /// What did not come.
    pub missing: Missing,
    /// How many bytes came.
    pub came_bytes: u64,
    /// Chunks of it that came, and with which it would be longer than a message may be.
    pub refused_packets: u64,
    /// As [`Whole::disputed_packets`].
    pub disputed_packets: u64,
    /// What is kept of it, or why nothing could be; `None`: that was not asked for, or nothing came.
    pub kept: Option<Result<Kept, Failure>>,
}

/// A part of a message that was kept.
///
/// Chunk `n` starts at `n` times [`Kept::chunk_bytes`], with zeros for those that are missing, up to
/// the end of the last that came. Zeros are at most 64 times what came, so nobody has storage filled
/// by naming a large index: beyond that nothing is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its name; none, unless names are given.
    pub name: Name,
    /// How many bytes are kept, with the zeros.
    pub length: u64,
    /// Bytes of each chunk; `None`: only the message's last chunk came, and is kept by itself, since
    /// it cannot be said how long those before it are.
    pub chunk_bytes: Option<usize>,
}

/// A message that came and could not be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Who sent it.
    pub peer: SocketAddr,
    /// Which one, as [`Whole::number`].
    pub number: u64,
    /// How many bytes it had.
    pub length: u64,
    /// Why not.
    pub failure: Failure,
}

impl Lost {
    /// The same as an error of its user's.
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
