//! The UDP echo server.

use std::sync::Arc;
use std::time::Duration;

use super::{EngineChoice, Listen, Parts};
use crate::error::Result;
use crate::event::Queue;
use crate::socket::SocketOptions;

/// What a UDP server is to be.
#[derive(Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: Listen,
    /// Options of the socket.
    pub socket: SocketOptions,
    /// The server ends when nothing came for this long.
    pub idle_timeout: Option<Duration>,
    /// Longer datagrams are answered with this many bytes of theirs; `None`: as they are,
    /// up to the protocol's limit.
    pub max_datagram_bytes: Option<usize>,
    /// An empty datagram ends the server.
    pub stop_on_empty: bool,
    /// Threads, each with a socket of its own (SO_REUSEPORT).
    pub workers: usize,
    /// Which way to ask the kernel.
    pub engine: EngineChoice,
    /// Datagrams are records of this length, each of which is reported as an event.
    pub record_bytes: Option<usize>,
}

/// Binds.
pub(crate) fn open(_config: Config, _queue: Option<Arc<Queue>>) -> Result<Parts> {
    todo!()
}
