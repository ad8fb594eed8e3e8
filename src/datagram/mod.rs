//! Datagrams as protocols see them: what came ([`Batch`]) and what goes ([`Outbox`]). No I/O.

mod batch;
mod outbox;

pub use crate::sys::RawAddress;
pub use crate::sys::datagram::{Destination, Received, Transmit};
pub use crate::sys::timestamps::Sent;
pub(crate) use batch::Slots;
pub use batch::{Batch, Copied, Datagram, Message, Place};
pub use outbox::{Asker, Entry, Outbox};
