//! The listener: taking connections in, within limits, without ever spinning.

use std::fs::File;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::gate::Gate;
use crate::socket::{self, Bound};
use crate::sys;
use crate::sys::readiness::{Interest, Readiness};
use crate::sys::stream::{NotAccepted, SharedListener, Stream, accept};

/// How long a listener rests when not even the spare descriptor helps.
const REST: Duration = Duration::from_millis(100);

/// What one look at the listener came to.
#[derive(Debug)]
pub(super) enum Offer {
    /// A connection, for which a place at the gate is taken.
    Connection(Stream, SocketAddr),
    /// None waits.
    Nothing,
    /// A connection failed before it was taken.
    Fault,
    /// A connection was closed at once, for want of a descriptor.
    Refused,
    /// As many connections as there may be: the rest waits in the backlog.
    Full,
    /// No descriptor or no memory, and nothing to be done about it now.
    Exhausted,
    /// The listener does not listen any more, since whoever else holds it has shut it down.
    ShutDown,
    /// The listener does not work any more.
    Broken(io::Error),
}

/// A listener as the server's handle sees it: its drops can be asked for while a worker
/// uses it and after that worker has ended.
#[derive(Debug)]
pub(super) struct Listener {
    fd: RawFd,
    /// False for a copy of a listener that another worker has: its drops count once.
    counts_drops: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Open(Bound, Door),
    /// The number is kept, so that a child of `fork` that lets go of the descriptors it
    /// was told does not close a stranger's.
    Closed(
        Option<u64>,
        #[expect(dead_code, reason = "held, not read")] Option<Bound>,
    ),
}

impl Listener {
    pub(super) fn new(bound: Bound, counts_drops: bool) -> Self {
        Self {
            fd: bound.socket.as_raw_fd(),
            counts_drops,
            state: Mutex::new(State::Open(bound, Door::Open)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections that the kernel dropped because the backlog was full.
    pub(super) fn kernel_drops(&self) -> Option<u64> {
        match &*self.state() {
            _ if !self.counts_drops => Some(0),
            State::Open(bound, _) => socket::kernel_drops(&bound.socket),
            State::Closed(drops, _) => *drops,
        }
    }

    /// From now on, whoever connects is refused, and whoever waits to be accepted is reset.
    /// Does nothing where the system cannot, or where others listen on the same socket.
    ///
    /// Linux lets shutdown(2) end the listening (net/ipv4/af_inet.c, `inet_shutdown`), and
    /// listen(2) begin it again. A port that was chosen by the kernel is given back by that,
    /// so it is bound again at once. Meanwhile a program that asks for SO_REUSEADDR can take
    /// it, as nobody listens.
    pub(super) fn shut(&self) {
        if let State::Open(bound, door) = &mut *self.state()
            && *door != Door::Shut
            && !bound.is_shared
            && (*door == Door::Stuck || bound.socket.shutdown(Shutdown::Read).is_ok())
        {
            // Refused where it still has its port.
            let _ = bound.socket.bind(&bound.address.into());
            *door = Door::Shut;
        }
    }

    /// No longer so.
    pub(super) fn reopen(&self, backlog: i32) {
        if let State::Open(bound, door) = &mut *self.state()
            && *door != Door::Open
        {
            *door = match bound.socket.listen(backlog) {
                Ok(()) => Door::Open,
                Err(_) => Door::Stuck,
            };
        }
    }

    /// Somebody else holds the same socket.
    fn is_shared(&self) -> bool {
        match &*self.state() {
            State::Open(bound, _) => bound.is_shared,
            State::Closed(..) => false,
        }
    }

    fn door(&self) -> Door {
        match &*self.state() {
            State::Open(_, door) => *door,
            State::Closed(..) => Door::Open,
        }
    }

    /// Stops listening and frees the port. Does nothing the second time.
    fn close(&self) {
        let drops = self.kernel_drops();
        let mut state = self.state();
        if let State::Open(bound, _) = std::mem::replace(&mut *state, State::Closed(drops, None)) {
            if !bound.is_shared {
                // A child of `fork` may hold a copy, which would go on listening.
                let _ = bound.socket.shutdown(Shutdown::Both);
            }
            // Without a descriptor left for that, `bound` closes it in the ordinary way.
            if sys::abandon(self.fd).is_ok() {
                *state = State::Closed(drops, Some(bound));
            }
        }
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

/// Whether an open listener listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    /// It does.
    Open,
    /// Whoever connects is refused.
    Shut,
    /// It should, and could not: somebody else listens there.
    Stuck,
}

/// Why a listener is not watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    /// It is.
    On,
    /// The gate is full.
    Full,
    /// It rests until then.
    Resting(Instant),
    /// It does not listen: whoever connects is refused.
    Shut,
    /// It is to listen again, and that is tried then.
    Reopening(Instant),
}

/// One worker's side of a listener, which is closed when this is dropped.
#[derive(Debug)]
pub(super) struct Acceptor<L: AsRef<Listener>> {
    listener: L,
    token: u32,
    watch: Watch,
    /// How to accept where somebody else holds the listener too.
    shared: Option<SharedListener>,
    /// What whoever else holds it did to it has been told.
    has_told: bool,
    /// Held in reserve for when there are no descriptors.
    spare: Option<File>,
}

impl<L: AsRef<Listener>> Acceptor<L> {
    /// # Errors
    ///
    /// When the listener cannot be watched, or there is no descriptor to keep in reserve.
    pub(super) fn new<R: Readiness>(listener: L, token: u32, ready: &mut R) -> io::Result<Self> {
        let fd = listener.as_ref().fd;
        ready.add(fd, token, Interest::Read)?;
        let is_shared = listener.as_ref().is_shared();
        Ok(Self {
            shared: is_shared.then(|| SharedListener::new(fd)),
            has_told: false,
            listener,
            token,
            watch: Watch::On,
            spare: Some(sys::spare_descriptor()?),
        })
    }

    fn fd(&self) -> RawFd {
        self.listener.as_ref().fd
    }

    /// How many connections wait to be accepted, where the system says so.
    pub(super) fn waiting(&self) -> Option<usize> {
        let (waiting, _) = sys::option::accept_queue(self.fd()).ok()?;
        Some(waiting as usize)
    }

    /// Takes the next connection.
    pub(super) fn next(&mut self, gate: &Gate) -> Offer {
        if !gate.try_enter() {
            return Offer::Full;
        }
        let fault = match self.accept() {
            Ok((stream, peer)) => return Offer::Connection(stream, peer),
            Err(fault) => fault,
        };
        gate.leave();
        match fault {
            NotAccepted::Blocked => Offer::Nothing,
            NotAccepted::Connection => Offer::Fault,
            NotAccepted::Descriptors => self.refuse(),
            NotAccepted::Memory => Offer::Exhausted,
            NotAccepted::Listener(_) if self.shared.is_some() && !self.listens() => Offer::ShutDown,
            NotAccepted::Listener(error) => Offer::Broken(error),
        }
    }

    fn accept(&mut self) -> Result<(Stream, SocketAddr), NotAccepted> {
        match &mut self.shared {
            None => accept(self.fd()),
            Some(shared) => shared.accept(),
        }
    }

    fn listens(&self) -> bool {
        sys::option::is_listening(self.fd()).unwrap_or(false)
    }

    /// True once, after whoever else holds the listener has made it blocking.
    pub(super) fn has_news_of_blocking(&mut self) -> bool {
        let was_made_blocking = self
            .shared
            .as_ref()
            .is_some_and(SharedListener::was_made_blocking);
        was_made_blocking && !std::mem::replace(&mut self.has_told, true)
    }

    /// Accepts a connection with the spare descriptor, only to close it: left where it is,
    /// it would keep the listener ready for ever, and the peer waiting.
    fn refuse(&mut self) -> Offer {
        if self.spare.take().is_none() {
            return Offer::Exhausted;
        }
        let accepted = self.accept();
        let offer = match &accepted {
            Ok(_) => Offer::Refused,
            Err(NotAccepted::Blocked) => Offer::Nothing,
            Err(NotAccepted::Connection) => Offer::Fault,
            Err(_) => Offer::Exhausted,
        };
        drop(accepted);
        self.spare = sys::spare_descriptor().ok();
        offer
    }

    /// Stops watching until there is room at the gate.
    pub(super) fn wait_for_room<R: Readiness>(&mut self, ready: &mut R) {
        self.unwatch(ready, Watch::Full);
    }

    /// Stops watching for a while.
    pub(super) fn rest<R: Readiness>(&mut self, ready: &mut R) {
        self.unwatch(ready, Watch::Resting(Instant::now() + REST));
    }

    fn unwatch<R: Readiness>(&mut self, ready: &mut R, why: Watch) {
        ready.remove(self.fd(), self.token);
        self.watch = why;
    }

    /// Watches again if what kept it from that is over.
    pub(super) fn resume<R: Readiness>(&mut self, gate: &Gate, backlog: i32, ready: &mut R) {
        match self.watch {
            Watch::On | Watch::Shut => return,
            Watch::Full if gate.is_full() => return,
            Watch::Resting(until) | Watch::Reopening(until) if Instant::now() < until => return,
            Watch::Full | Watch::Resting(_) => {}
            Watch::Reopening(_) => {
                let listener = self.listener.as_ref();
                if listener.door() == Door::Stuck {
                    listener.reopen(backlog);
                }
                if listener.door() != Door::Open {
                    self.watch = Watch::Reopening(Instant::now() + REST);
                    return;
                }
            }
        }
        if self.spare.is_none() {
            self.spare = sys::spare_descriptor().ok();
        }
        self.watch = match ready.add(self.fd(), self.token, Interest::Read) {
            Ok(()) => Watch::On,
            Err(_) => Watch::Resting(Instant::now() + REST),
        };
    }

    /// How long the worker may sleep before it has to call [`Acceptor::resume`].
    pub(super) fn resting(&self) -> Option<Duration> {
        match self.watch {
            Watch::Resting(until) | Watch::Reopening(until) => {
                Some(until.saturating_duration_since(Instant::now()))
            }
            Watch::On | Watch::Full | Watch::Shut => None,
        }
    }

    /// Does as the listener does, which may have been shut, or may listen again.
    pub(super) fn follow<R: Readiness>(&mut self, ready: &mut R) {
        match (self.listener.as_ref().door(), self.watch) {
            (Door::Shut, _) => self.unwatch(ready, Watch::Shut),
            (Door::Open, Watch::Shut | Watch::Reopening(_)) => {
                self.watch = Watch::Resting(Instant::now());
            }
            (Door::Open, _) => {}
            (Door::Stuck, _) => self.unwatch(ready, Watch::Reopening(Instant::now())),
        }
    }

    /// There is nothing to accept on.
    pub(super) fn is_shut(&self) -> bool {
        self.listener.as_ref().door() != Door::Open
    }

    /// To be called before this is dropped, unless the whole set goes.
    pub(super) fn forget<R: Readiness>(&self, ready: &mut R) {
        ready.remove(self.fd(), self.token);
    }
}

impl<L: AsRef<Listener>> Drop for Acceptor<L> {
    fn drop(&mut self) {
        self.listener.as_ref().close();
    }
}
