//! The tutorial's format (`--wire plain`): a datagram with a count of chunks (4 bytes, big-endian),
//! then each chunk behind its index (4 bytes). A datagram of 4 bytes is always a count, a longer one
//! always a chunk, and a message has one sender: who sends from the same address and port.
//!
//! Nothing is acknowledged and nothing can be asked for again, so the sender goes no faster than it
//! is told, and the receiver says what is missing once it has waited long enough. Neither knows a
//! message by anything but its sender, so these are the rules of the receiver:
//!
//! - Nothing that comes takes away what came before it: a count that differs, an index beyond the
//!   count, a length that disagrees, other bytes at the same index are refused and counted, and the
//!   message goes on.
//! - A chunk without a count before it is a stranger's. Keeping it would give memory to
//!   strangers, and the sender lets its count go first by a millisecond.
//! - A count that was delivered from that sender a moment ago, and that nothing follows, is a
//!   duplicate, not the beginning of a message. What else comes late of the message before cannot be
//!   told from the next one's; where the two differ, the next one is told as disputed.
//! - Memory is for bytes that came. A count alone costs the same whatever it says.

mod chunks;
mod echoes;
mod event;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod laws;
mod missing;
mod outgoing;
mod pace;
mod receiving;
mod sending;
mod settings;
mod shelf;
mod table;
mod wire;

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod simulated_tests;

pub use event::{Event, Failed, Kept, Lost, Whole, Why};
pub use missing::Missing;
pub use receiving::PlainReceiving;
pub use sending::{PlainSending, Sent};
pub use settings::{MAX_CHUNK_BYTES, ReceiveSettings, SendSettings};
