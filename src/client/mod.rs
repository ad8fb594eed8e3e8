//! Clients of an echo server: small and blocking; their caller can cancel every wait.
//!
//! Imports run one way: `udp → driver → {running → patience, ends}`, `ping → driver`, `tcp → {patience, ends}`;
//! `expectation` stands alone.

mod driver;
mod ends;
mod expectation;
mod patience;
mod ping;
mod running;
mod tcp;
mod transfer;
mod udp;

pub use crate::net::choice::EngineChoice;
pub use driver::Driver;
pub use ends::Ends;
pub use expectation::Expectation;
pub use patience::Patience;
pub use ping::PingClient;
pub use tcp::TcpClient;
pub use transfer::{Failed, Moved, Terms, TransferClient, Watch};
pub use udp::{Reply, UdpClient};
