//! THE CLIENT'S DRIVER: a protocol on its caller's thread, over one UDP socket.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use socket2::Socket;

use super::ends::Ends;
use super::patience::Patience;
use super::running::{self, Running, lock};
use crate::address::{self, Family};
use crate::datagram::{Outbox, RawAddress, Transmit};
use crate::error::{Error, Result};
use crate::guard::Policy;
use crate::net::choice::EngineChoice;
use crate::net::udp::direct::Direct;
use crate::net::udp::engine::{self, PORTABLE, Portable};
use crate::net::udp::offload::Offload;
use crate::proto::Protocol;
use crate::socket::{self, Bound, ReceiveQueue, SocketOptions, SocketReport};
use crate::sys::timestamps;

/// No datagram is longer: the length field of UDP has 16 bits (RFC 768).
const LONGEST: usize = 65_535;

/// Room for a train: not more than one datagram (udp(7)).
#[cfg(target_os = "linux")]
const SLOT_BYTES: usize = 65_536;

/// By which engine. Which one is asked once a run, so that a protocol is compiled for each.
enum Way {
    Portable(Mutex<Direct<Portable>>),
    #[cfg(target_os = "linux")]
    Batch(Mutex<Direct<engine::Batch>>),
}

/// Runs protocols over one socket, each on its caller's thread. Threads that run protocols at
/// the same time share the received datagrams, and do not wait for each other.
///
/// Unlike a server, it returns every socket error to its caller, for example that nothing listens
/// at the peer (ICMP).
pub struct Driver {
    // Declared before the socket, whose descriptor it uses.
    way: Way,
    socket: Socket,
    ends: Ends,
    /// What becomes of trains.
    offload: Arc<Offload>,
    start: Instant,
    /// Memory for what goes, so that none is asked for between the clock and a send.
    spare: Mutex<Option<Outbox>>,
    reports_times: AtomicBool,
}

impl Driver {
    /// Resolves `host`, IPv4 first, and connects. Nothing is sent, so a server need not be
    /// there yet. It receives only from the peer; sends use [`Driver::to_peer`].
    ///
    /// # Errors
    ///
    /// A name that does not resolve, an option that the kernel refuses, no route.
    pub fn connect(host: &str, port: u16, family: Family, options: &SocketOptions) -> Result<Self> {
        let peer = address::resolve_one(host, port, family)?;
        let bound = socket::connect_udp(peer, options)?;
        Ok(Self::new(bound, format!("udp://{peer}"), peer))
    }

    /// Binds an address (port 0: any free one) and receives from every sender. It has no peer, so
    /// each send needs its address.
    ///
    /// # Errors
    ///
    /// An option that the kernel refuses; an address that is in use, or not this machine's.
    pub fn bind(address: SocketAddr, options: &SocketOptions) -> Result<Self> {
        let bound = socket::bind_udp(address, options)?;
        let name = format!("udp://{}", bound.address);
        Ok(Self::new(bound, name, unspecified(address)))
    }

    fn new(bound: Bound, name: String, peer: SocketAddr) -> Self {
        let fd = bound.socket.as_raw_fd();
        let (engine, offload) = (Portable::new(fd, LONGEST), Arc::new(Offload::of(fd, false)));
        Self {
            way: Way::Portable(Mutex::new(Direct::new(fd, engine, Arc::clone(&offload)))),
            ends: Ends {
                name,
                address: bound.address,
                peer,
                report: bound.report,
            },
            socket: bound.socket,
            offload,
            start: Instant::now(),
            spare: Mutex::new(None),
            reports_times: AtomicBool::new(false),
        }
    }

    /// Uses another engine. The default is `portable`, which suffices for an occasional datagram.
    /// `batch` (Linux, the choice of `auto` there) is for many datagrams, and the only one that sends
    /// and receives trains.
    ///
    /// # Errors
    ///
    /// An engine that this system lacks. [`Driver::report`] shows what the kernel refuses of it.
    pub fn with_engine(mut self, choice: EngineChoice) -> Result<Self> {
        let fd = self.socket.as_raw_fd();
        let is_portable = engine::chosen(choice)? == PORTABLE;
        let offload = Arc::new(Offload::of(fd, !is_portable));
        self.offload = Arc::clone(&offload);
        #[cfg(target_os = "linux")]
        if !is_portable {
            let (engine, refused) = engine::Batch::new(fd, SLOT_BYTES, true);
            if let Some(error) = refused {
                let _ = offload.refuse_receive(&error);
            }
            self.way = Way::Batch(Mutex::new(Direct::new(fd, engine, offload)));
            return Ok(self);
        }
        let engine = Portable::new(fd, LONGEST);
        self.way = Way::Portable(Mutex::new(Direct::new(fd, engine, offload)));
        Ok(self)
    }

    /// The engine that it uses, such as `batch`.
    pub fn engine(&self) -> &'static str {
        match self.way {
            Way::Portable(_) => PORTABLE,
            #[cfg(target_os = "linux")]
            Way::Batch(_) => engine::BATCH,
        }
    }

    /// Each socket option as requested and as granted, and whether trains work.
    pub fn report(&self) -> SocketReport {
        let mut report = self.ends.report.clone();
        report.options.extend(self.offload.report());
        report
    }

    /// Both addresses.
    pub fn ends(&self) -> &Ends {
        &self.ends
    }

    /// The destination that stands for the connected peer.
    pub fn to_peer() -> Transmit {
        Transmit::to(RawAddress::empty())
    }

    /// From now on receives report the kernel's receive time (`Received::kernel_ns`), and protocols get
    /// the time at which each send left ([`Protocol::on_sent`]). Linux only (SO_TIMESTAMPING).
    ///
    /// # Errors
    ///
    /// The system does not report times.
    pub fn report_times(&self) -> Result<()> {
        let fd = self.socket.as_raw_fd();
        let done = timestamps::report_times(fd);
        done.map_err(|error| Error::system("have times reported by", &self.ends.name, &error))?;
        self.reports_times.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Runs `protocol` until `is_done` returns true and all is sent.
    ///
    /// While the send buffer has no room, nothing is received. `patience` is asked even if traffic
    /// never pauses, so another thread can end a run.
    ///
    /// # Errors
    ///
    /// Socket errors that the protocol does not tolerate: the peer's host refused an earlier
    /// datagram, no route, too long. A timeout when the time of `patience` is over; a
    /// state error when the caller gave up.
    pub fn run<P: Protocol + ?Sized>(
        &self,
        protocol: &mut P,
        is_done: impl FnMut(&P) -> bool,
        patience: Patience<'_>,
    ) -> Result<()> {
        let spare = lock(&self.spare).take();
        let mut outbox = spare.unwrap_or_else(|| Outbox::new(Policy::default()));
        let ran = match &self.way {
            Way::Portable(direct) => self
                .running(direct, &mut outbox, protocol, patience)
                .run(is_done),
            #[cfg(target_os = "linux")]
            Way::Batch(direct) => self
                .running(direct, &mut outbox, protocol, patience)
                .run(is_done),
        };
        outbox.clear();
        *lock(&self.spare) = Some(outbox);
        ran
    }

    fn running<'a, E, P: ?Sized>(
        &'a self,
        direct: &'a Mutex<Direct<E>>,
        outbox: &'a mut Outbox,
        protocol: &'a mut P,
        patience: Patience<'a>,
    ) -> Running<'a, E, P> {
        Running {
            direct,
            socket: &self.socket,
            name: &self.ends.name,
            start: self.start,
            reports_times: &self.reports_times,
            outbox,
            protocol,
            patience,
            held: Vec::new(),
        }
    }

    /// Drops the received datagrams, and the errors that reading clears.
    pub fn drop_received(&self) {
        match &self.way {
            Way::Portable(direct) => running::drop_received(direct),
            #[cfg(target_os = "linux")]
            Way::Batch(direct) => running::drop_received(direct),
        }
    }

    /// The current time on its protocols' clock.
    pub(super) fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The kernel's current MTU of the route to its peer, IP and UDP headers included;
    /// `None` if it is not connected, or the system does not say.
    pub fn path_mtu(&self) -> Option<u32> {
        socket::path_mtu(&self.socket)
    }

    /// The real size of the receive buffer (SO_RCVBUF), which also holds the kernel's own memory for
    /// each datagram.
    pub fn recv_buffer_bytes(&self) -> usize {
        self.socket.recv_buffer_size().unwrap_or_default()
    }

    /// Data received and not yet read; `None` if the system does not say (Linux does).
    pub fn receive_queue(&self) -> Option<ReceiveQueue> {
        socket::receive_queue(&self.socket)
    }

    /// Forbids fragments from now on (DF), whatever the kernel has learnt about the path: a datagram
    /// longer than the interface's MTU fails with EMSGSIZE, one longer than the MTU of a later link is
    /// lost. Linux only.
    ///
    /// # Errors
    ///
    /// The system cannot forbid it.
    pub fn forbid_fragments(&self) -> Result<()> {
        let done = socket::forbid_fragments(&self.socket);
        done.map_err(|error| Error::system("forbid fragments on", &self.ends.name, &error))
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Driver").field(&self.ends).finish()
    }
}

/// No address, of the same family.
fn unspecified(like: SocketAddr) -> SocketAddr {
    match like {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}
