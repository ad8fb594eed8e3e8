//! THE CLIENT'S DRIVER: a protocol on its caller's thread, over one UDP socket.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::Socket;

use super::ends::Ends;
use super::patience::{Patience, Until};
use crate::address::{self, Family};
use crate::datagram::{Batch, Message, Outbox, RawAddress, Transmit};
use crate::error::{Error, Result};
use crate::guard::Policy;
use crate::net::udp::engine::Portable;
use crate::net::udp::link::Link;
use crate::proto::{Progress, Protocol};
use crate::socket::{self, Bound, SocketOptions};
use crate::sys::timestamps;

/// No datagram is longer: the length field of UDP has 16 bits (RFC 768).
const LONGEST: usize = 65_535;

/// How many datagrams are dropped at once at most, so that a peer that never stops sending
/// cannot hold the caller up.
const MOST_DROPPED: usize = 65_536;

const OPERATION: &str = "exchange with";

/// Runs protocols over one socket, each on the thread that asks for it. Threads that do so at
/// once share what comes; none waits for another.
///
/// Unlike a server, which goes on, its caller is told of every error of the socket, such as
/// that nothing listens there (ICMP).
pub struct Driver {
    // Declared before the socket, whose descriptor it uses.
    link: Mutex<Link<Portable>>,
    socket: Socket,
    ends: Ends,
    start: Instant,
    /// Memory for what goes, so that none is asked for between the clock and a send.
    spare: Mutex<Option<Outbox>>,
    reports_times: AtomicBool,
}

impl Driver {
    /// Resolves `host`, IPv4 first, and connects. Nothing is sent, so a server need not be
    /// there yet. What others send is never seen; what is sent goes to [`Driver::to_peer`].
    ///
    /// # Errors
    ///
    /// A name that does not resolve, an option that the kernel refuses, no route.
    pub fn connect(host: &str, port: u16, family: Family, options: &SocketOptions) -> Result<Self> {
        let peer = address::resolve_one(host, port, family)?;
        let bound = socket::connect_udp(peer, options)?;
        Ok(Self::new(bound, format!("udp://{peer}"), peer))
    }

    /// Takes an address, port 0 for any free one, and hears whoever sends there. It has no peer:
    /// each send needs its address.
    ///
    /// # Errors
    ///
    /// An option that the kernel refuses, an address that is taken or not this machine's.
    pub fn bind(address: SocketAddr, options: &SocketOptions) -> Result<Self> {
        let bound = socket::bind_udp(address, options)?;
        let name = format!("udp://{}", bound.address);
        Ok(Self::new(bound, name, unspecified(address)))
    }

    fn new(bound: Bound, name: String, peer: SocketAddr) -> Self {
        let engine = Portable::new(bound.socket.as_raw_fd(), LONGEST);
        Self {
            link: Mutex::new(Link::new(engine)),
            ends: Ends {
                name,
                address: bound.address,
                peer,
                report: bound.report,
            },
            socket: bound.socket,
            start: Instant::now(),
            spare: Mutex::new(None),
            reports_times: AtomicBool::new(false),
        }
    }

    /// Who talks to whom.
    pub fn ends(&self) -> &Ends {
        &self.ends
    }

    /// How to send to the peer to whom it is connected.
    pub fn to_peer() -> Transmit {
        Transmit::to(RawAddress::empty())
    }

    /// From now on receives say when the kernel received (`Received::kernel_ns`), and protocols are
    /// told when each send left ([`Protocol::on_sent`]). Linux only (SO_TIMESTAMPING).
    ///
    /// # Errors
    ///
    /// Where the system does not report times.
    pub fn report_times(&self) -> Result<()> {
        let fd = self.socket.as_raw_fd();
        let done = timestamps::report_times(fd);
        done.map_err(|error| Error::system("have times reported by", &self.ends.name, &error))?;
        self.reports_times.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Runs `protocol` until `is_done` says so and all is sent.
    ///
    /// While the send buffer has no room, nothing is received.
    ///
    /// # Errors
    ///
    /// The socket's: refused by the peer's host (of an earlier datagram), no route, too long. A
    /// timeout when the time of `patience` is over; a state error when the caller gave up.
    pub fn run<P: Protocol + ?Sized>(
        &self,
        protocol: &mut P,
        mut is_done: impl FnMut(&P) -> bool,
        mut patience: Patience<'_>,
    ) -> Result<()> {
        let spare = lock(&self.spare).take();
        let mut outbox = spare.unwrap_or_else(|| Outbox::new(Policy::default()));
        let ran = self.run_with(&mut outbox, protocol, &mut is_done, &mut patience);
        outbox.clear();
        *lock(&self.spare) = Some(outbox);
        ran
    }

    fn run_with<P: Protocol + ?Sized>(
        &self,
        outbox: &mut Outbox,
        protocol: &mut P,
        is_done: &mut impl FnMut(&P) -> bool,
        patience: &mut Patience<'_>,
    ) -> Result<()> {
        loop {
            let is_sent = self.checked(self.pass_time(protocol, outbox))?;
            if self.reports_times.load(Ordering::Relaxed) {
                // While one is kept, the socket counts as ready.
                while let Some(sent) = timestamps::next_sent(self.socket.as_raw_fd()) {
                    protocol.on_sent(sent);
                }
            }
            if is_sent && is_done(protocol) {
                return Ok(());
            }
            let due = protocol.deadline_ns().map(Duration::from_nanos);
            let due = due.and_then(|due| self.start.checked_add(due));
            let (until, due, missing) = match is_sent {
                true => (Until::Readable, due, "nothing came back"),
                false => (Until::Writable, None, "the send buffer had no room"),
            };
            let name = &self.ends.name;
            if is_sent && self.checked(self.serve_batch(protocol, outbox))? {
                if !(outbox.is_empty() && is_done(protocol)) {
                    patience.check(OPERATION, name, missing)?;
                }
            } else {
                patience.wait_until(due, &self.socket, until, OPERATION, name, missing)?;
            }
        }
    }

    /// Drops what has come so far, and the errors that reading clears.
    pub fn drop_received(&self) {
        let mut link = self.link();
        for _ in 0..MOST_DROPPED {
            match link.receive_now() {
                Ok(_) => drop(link.take(0)),
                Err(error) if is_not_yet(&error) => return,
                Err(_) => {}
            }
        }
    }

    /// Has what is due sent; false: the send buffer has no room.
    fn pass_time<P: Protocol + ?Sized>(
        &self,
        protocol: &mut P,
        outbox: &mut Outbox,
    ) -> io::Result<bool> {
        if !self.send(outbox)? {
            return Ok(false);
        }
        loop {
            let progress = protocol.on_time(self.now_ns(), outbox);
            if !self.send(outbox)? {
                return Ok(false);
            }
            if progress == Progress::Done {
                return Ok(true);
            }
        }
    }

    /// Sends what is in the outbox; false: the send buffer has no room.
    fn send(&self, outbox: &mut Outbox) -> io::Result<bool> {
        if outbox.is_empty() {
            return Ok(true);
        }
        match self.link().send_now(outbox) {
            Ok(()) => Ok(true),
            Err(error) if is_not_yet(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Has the protocol look at what has come; false: nothing has.
    fn serve_batch<P: Protocol + ?Sized>(
        &self,
        protocol: &mut P,
        outbox: &mut Outbox,
    ) -> io::Result<bool> {
        let mut link = self.link();
        match link.receive_now() {
            Ok(_) => {}
            Err(error) if is_not_yet(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
        let now_ns = self.now_ns();
        let messages = [Message::admitted(link.take(0))];
        let mut taken = 0;
        loop {
            let batch = Batch::of_slots(link.slots(), &messages).without(taken);
            let progress = protocol.on_batch(now_ns, &batch, outbox);
            // What lies in the slot does not outlive the lock.
            outbox.keep(link.slots());
            match progress {
                Progress::Done => return Ok(true),
                Progress::More(more) => taken += more,
            }
        }
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn checked<T>(&self, done: io::Result<T>) -> Result<T> {
        done.map_err(|error| Error::system(OPERATION, &self.ends.name, &error))
    }

    /// Held for calls that do not wait.
    fn link(&self) -> MutexGuard<'_, Link<Portable>> {
        lock(&self.link)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

fn is_not_yet(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
