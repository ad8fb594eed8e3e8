//! Large messages over UDP: whole, once, or a clear failure. The protocol is docs/transfer.md.
//!
//! Nothing here knows a socket or a clock: what comes and the time are handed in, what goes is put
//! into an outbox. What a message is read from and written to stands behind [`store::Source`] and
//! [`store::Sink`].

pub mod asking;
pub mod budget;
mod comparing;
mod congestion;
pub mod cookie;
mod ended;
pub mod failure;
mod mtu;
mod pacing;
mod ranges;
pub mod receiver;
mod rtt;
pub mod sender;
pub mod serving;
pub mod store;
pub mod wire;

pub use failure::{Failure, Reason};
