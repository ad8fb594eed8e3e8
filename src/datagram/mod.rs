//! Datagrams as protocols see them: received ([`Batch`]) and to be sent ([`Outbox`]). No I/O.

mod batch;
mod outbox;

pub use crate::sys::RawAddress;
pub use crate::sys::datagram::{Destination, Received, Transmit};
pub use crate::sys::timestamps::Sent;
pub(crate) use batch::Slots;
pub use batch::{Batch, Copied, Datagram, Message, Place};
pub use outbox::{Asker, Entry, Outbox};
