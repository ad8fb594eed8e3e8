//! The planner and the engines by themselves, for `benches/`. No part of the interface: it
//! changes without notice.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use socket2::Socket;

use super::counters::Counters;
use super::echo::Worker;
use super::engine::{Engine, Portable};
use super::impairing::{Impairing, Setting};
use super::plan::{Item, Plan};
use super::wait::{Receiver, Sleep};
use super::{Config, SLOT_BYTES, service};
use crate::event::Observer;
use crate::guard::Rates;
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
                start: 0,
                slot: slot as u16,
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
    config: &Config,
    socket: UdpSocket,
    body: impl FnOnce(&mut dyn FnMut() -> io::Result<usize>),
) -> crate::error::Result<()> {
    let is_portable = super::validate(config)? == Portable::NAME;
    let socket = Arc::new(Socket::from(socket));
    let fail = |error: io::Error| crate::error::Error::system("serve", "a bench's socket", &error);
    let own = socket.local_addr().map_err(fail)?;
    let own = own.as_socket().expect("a UDP socket has an IP address");
    let waker = Arc::new(Waker::new().map_err(fail)?);
    let (sleep, _) = Sleep::new(&socket, false, &waker);
    let receiver = Receiver::new(&socket, config.wait, sleep, waker, None).map_err(fail)?;
    let impairing = Impairing::new(Setting::of(config.impair.clone()), Vec::new());
    let observer = Arc::new(Observer::new("bench", None));
    let fd = std::os::fd::AsRawFd::as_raw_fd(&*socket);
    let service = service(
        config,
        "bench",
        own,
        Arc::clone(&socket),
        receiver,
        observer,
        Arc::new(impairing),
        Rates::new(config.guard.rate_per_source, config.guard.rate_total, 1).map(Arc::new),
    );
    let (counters, control) = (Counters::new(), Control::default());
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if !is_portable {
        let (engine, _) = super::engine::Batch::new(fd, SLOT_BYTES, true);
        run(Worker::new(service, engine, &counters, &control), body);
        return Ok(());
    }
    debug_assert!(is_portable);
    let engine = Portable::new(fd, SLOT_BYTES);
    run(Worker::new(service, engine, &counters, &control), body);
    Ok(())
}

fn run<E: Engine>(
    mut worker: Worker<'_, E>,
    body: impl FnOnce(&mut dyn FnMut() -> io::Result<usize>),
) {
    body(&mut || worker.turn());
}
