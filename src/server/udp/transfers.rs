//! Large messages at a server: what its workers have together, and each by itself.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use socket2::Socket;

use super::plain::{Plain, PlainServing};
use crate::address;
use crate::error::{Error, Result};
use crate::event::Observer;
use crate::proto::Protocol;
use crate::socket;
use crate::sys::option;
use crate::transfer::budget::Budget;
use crate::transfer::cookie::Cookies;
use crate::transfer::longest_payload;
use crate::transfer::serving::{Kept, Limits, Serving, Shared};
use crate::transfer::store::Storage;

/// What is asked of the kernel unless the user says otherwise; it gives what its ceiling allows.
pub(super) const BUFFER_BYTES: usize = 4 << 20;

/// Of a path of which nothing is known: Ethernet.
const UNKNOWN_MTU: usize = 1_500;

/// Large messages are taken, and given.
#[derive(Clone)]
pub enum Transfers {
    /// By the protocol of docs/transfer.md.
    Native(Native),
    /// By the tutorial's format: only taken, or sent back.
    Plain(Plain),
}

/// The protocol of docs/transfer.md.
#[derive(Clone)]
pub struct Native {
    /// Where messages are put, and taken from.
    pub storage: Arc<dyn Storage>,
    /// Where messages are kept that are to come back; `None`: none is.
    pub kept: Option<Arc<dyn Kept>>,
    /// Memory for all of them.
    pub budget: Arc<Budget>,
    /// What all of them obey.
    pub limits: Limits,
}

impl std::fmt::Debug for Transfers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Native(_) => "Transfers::Native",
            Self::Plain(_) => "Transfers::Plain",
        })
    }
}

/// What all workers of a server have together.
pub(super) enum Together {
    Native(Arc<Shared>),
    Plain(Plain),
}

impl Transfers {
    pub(super) fn share(&self, observer: &Arc<Observer>) -> Result<Together> {
        let native = match self {
            Self::Plain(plain) => {
                plain.settings.validate()?;
                return Ok(Together::Plain(plain.clone()));
            }
            Self::Native(native) => native,
        };
        let cookies = Cookies::new();
        let cookies =
            cookies.map_err(|error| Error::system("draw a key for", observer.server(), &error))?;
        Ok(Together::Native(Arc::new(Shared::new(
            Arc::clone(&native.storage),
            native.kept.clone(),
            cookies,
            Arc::clone(&native.budget),
            native.limits.clone(),
            Arc::clone(observer),
            Box::new(longest_datagram),
        ))))
    }
}

/// One worker's, with the protocol that all other datagrams are for.
pub(super) fn protocol(
    together: &Together,
    observer: &Arc<Observer>,
    socket: &Socket,
    beside: Box<dyn Protocol>,
) -> Result<Box<dyn Protocol>> {
    let shared = match together {
        Together::Plain(plain) => {
            // There, every datagram is one of a message, or malformed.
            return Ok(Box::new(PlainServing::new(plain, Arc::clone(observer))?));
        }
        Together::Native(shared) => shared,
    };
    // The other half is what the kernel adds to each datagram (socket(7), SO_RCVBUF).
    let buffer_bytes = socket.recv_buffer_size().unwrap_or_default() / 2;
    let buffer_bytes = u32::try_from(buffer_bytes).unwrap_or(u32::MAX);
    let serving = Serving::new(Arc::clone(shared), buffer_bytes);
    Ok(Box::new(serving.beside(beside)))
}

/// Nothing may be cut on its way, or a probe would say that what is cut comes through.
pub(super) fn prepare(socket: &Socket, name: &str) -> Result<()> {
    match socket::forbid_fragments(socket) {
        Ok(()) => Ok(()),
        // Then probes find what fragments reach.
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => Ok(()),
        Err(error) => Err(Error::system("forbid fragments on", name, &error)),
    }
}

/// What a datagram to a peer may carry on its first link.
pub(crate) fn longest_datagram(peer: SocketAddr) -> usize {
    longest_payload(route_mtu(peer).unwrap_or(UNKNOWN_MTU), peer)
}

/// Connecting sends nothing, but asks for a route.
fn route_mtu(peer: SocketAddr) -> Option<usize> {
    let peer = address::plain(peer);
    let any: SocketAddr = match peer {
        SocketAddr::V4(_) => ([0; 4], 0).into(),
        SocketAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(peer).ok()?;
    let mtu = option::path_mtu(socket.as_raw_fd(), peer.is_ipv6()).ok()?;
    usize::try_from(mtu).ok()
}
