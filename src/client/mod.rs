//! Clients that ask an echo server: small, blocking, and never deaf to their caller.

mod patience;
mod tcp;
mod udp;

pub use patience::Patience;
pub use tcp::TcpClient;
pub use udp::UdpClient;
