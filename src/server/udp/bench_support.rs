//! The planner and the engines by themselves, for `benches/`. No part of the interface: it
//! changes without notice.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use socket2::Socket;

use super::worker::Worker;
use super::{Config, SLOT_BYTES, Shared};
use crate::net::udp::Endpoint;
#[cfg(target_os = "linux")]
use crate::net::udp::engine::Batch;
use crate::net::udp::engine::{Engine, PORTABLE, Portable};
use crate::net::udp::plan::{Item, Plan};
use crate::net::udp::waiting::{Receiver, Sleep};
use crate::sys::{RawAddress, Waker};
use crate::worker::Control;

/// Plans batches; sends nothing.
pub struct Planner {
    plan: Plan,
    /// Whom each receive of the batch is from.
    peers: Vec<RawAddress>,
    length: usize,
    segment_bytes: usize,
}

impl Planner {
    /// For batches of one receive from each of `peers` in turn: single datagrams of `length`
    /// bytes, or trains of such segments where `segment_bytes` is not 0.
    pub fn new(peers: &[SocketAddr], length: usize, segment_bytes: usize) -> Self {
        Self {
            plan: Plan::new(peers.len()),
            peers: peers.iter().copied().map(RawAddress::from).collect(),
            length,
            segment_bytes,
        }
    }

    /// Plans the batch; how many sends it takes.
    pub fn plan(&mut self) -> usize {
        self.plan.clear();
        for (slot, peer) in self.peers.iter().enumerate() {
            let item = Item {
                entry: slot as u16,
                peer,
                length: self.length,
                segment_bytes: self.segment_bytes,
                max_segments: 128,
            };
            self.plan
                .add(item, |other| self.peers[usize::from(other)] == *peer);
        }
        self.plan.groups().len()
    }
}

/// Serves a socket in the calling thread, a batch a call of what `body` is given, which
/// says how many messages there were: an error where there was none.
///
/// # Errors
///
/// When the socket cannot be prepared.
pub fn serve_by_hand(
    mut config: Config,
    socket: UdpSocket,
    body: impl FnOnce(&mut dyn FnMut() -> io::Result<usize>),
) -> crate::error::Result<()> {
    let engine = super::validate(&config)?;
    let socket = Arc::new(Socket::from(socket));
    let fail = |error: io::Error| crate::error::Error::system("serve", "a bench's socket", &error);
    let own = socket.local_addr().map_err(fail)?;
    let own = own.as_socket().expect("a UDP socket has an IP address");
    let waker = Arc::new(Waker::new().map_err(fail)?);
    let (sleep, _) = Sleep::new(&socket, false, &waker);
    let receiver = Receiver::new(&socket, config.wait, sleep, waker, None).map_err(fail)?;
    let fd = socket.as_raw_fd();
    let responder = config.responder.take().map(|make| make.make(0));
    let shared = Shared::new(config, engine, "bench", fd, &[], None)?;
    let control = Control::default();
    let protocol = shared.protocol(0, responder, own, &socket, control.orders())?;
    let service = shared.service(own);
    let parts = shared.endpoint(socket, own, receiver, false);
    let counters = &shared.counters[0];
    #[cfg(target_os = "linux")]
    if engine != PORTABLE {
        let (engine, _) = Batch::new(fd, SLOT_BYTES, true);
        run(
            Worker::new(
                Endpoint::new(parts, engine),
                service,
                protocol,
                counters,
                &control,
            ),
            body,
        );
        return Ok(());
    }
    let engine = Portable::new(fd, SLOT_BYTES);
    run(
        Worker::new(
            Endpoint::new(parts, engine),
            service,
            protocol,
            counters,
            &control,
        ),
        body,
    );
    Ok(())
}

fn run<E: Engine>(
    mut worker: Worker<'_, E>,
    body: impl FnOnce(&mut dyn FnMut() -> io::Result<usize>),
) {
    body(&mut || worker.serve_once());
}
