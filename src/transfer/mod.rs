//! Large messages over UDP: complete and once, or a clear failure. docs/transfer.md specifies the
//! protocol.
//!
//! Nothing here knows a socket or a clock: packets and the time are passed in, and packets to send go
//! into an outbox. [`store::Source`] and [`store::Sink`] abstract what a message is read from and
//! written to.

pub mod asking;
pub mod budget;
mod comparing;
mod congestion;
pub mod cookie;
pub mod echoes;
mod ended;
pub mod failure;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod laws;
mod mtu;
mod pacing;
pub mod plain;
mod ranges;
pub mod receiver;
mod rtt;
pub mod sender;
pub mod serving;
pub mod simulated;
pub mod store;
pub mod wire;

pub use failure::{Failure, Reason};

/// What a datagram to a peer carries where a link has this MTU: less the headers of IP, without
/// options, and of UDP.
pub(crate) fn longest_payload(mtu_bytes: usize, peer: std::net::SocketAddr) -> usize {
    let headers = match crate::address::plain(peer) {
        std::net::SocketAddr::V4(_) => 20 + 8,
        std::net::SocketAddr::V6(_) => 40 + 8,
    };
    mtu_bytes.saturating_sub(headers)
}
