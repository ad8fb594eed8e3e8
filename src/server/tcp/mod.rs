//! The TCP echo server.

use std::sync::Arc;
use std::time::Duration;

use super::{EngineChoice, Listen, Parts};
use crate::error::Result;
use crate::event::Queue;
use crate::socket::SocketOptions;

/// What a TCP server is to be.
#[derive(Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: Listen,
    /// Options of the listener, which its connections inherit.
    pub socket: SocketOptions,
    /// Connections that may wait to be accepted: listen(2); `None`: as many as the kernel
    /// allows (`net.core.somaxconn`).
    pub backlog: Option<u32>,
    /// A connection over which nothing came or went for this long is closed.
    pub idle_timeout: Option<Duration>,
    /// Connections at a time; more wait in the backlog. `None`: as many as there are
    /// descriptors for.
    pub max_connections: Option<usize>,
    /// Threads, each with a listener of its own (SO_REUSEPORT).
    pub workers: usize,
    /// Which way to ask the kernel.
    pub engine: EngineChoice,
    /// Bytes come as records of this length, each of which is reported as an event.
    pub record_bytes: Option<usize>,
}

/// Binds and listens.
pub(crate) fn open(_config: Config, _queue: Option<Arc<Queue>>) -> Result<Parts> {
    todo!()
}
