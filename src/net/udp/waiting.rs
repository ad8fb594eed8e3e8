//! When to sleep, and how a sleeping worker is woken.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use socket2::Socket;

use super::engine::Engine;
use super::gather::Gather;
use super::owner::{BETWEEN_LOOKS, News, Owner};
use crate::net::pace::{Pace, Wait};
use crate::socket::set_receive_timeout;
use crate::sys::message::Mode;
use crate::sys::{self, Ready, Waker};
use crate::worker::Control;

/// How a worker sleeps until something comes.
pub(crate) enum Sleep {
    /// Inside the receive itself: one system call for both. Woken by shutting the receive
    /// side down, which Linux lets an unconnected socket do for just this
    /// (net/ipv4/af_inet.c, `inet_shutdown`), and which leaves what is queued readable. Not
    /// for a socket that others use too: it stays shut down.
    InReceive,
    /// In poll(2), with the waker beside it.
    InPoll,
}

/// What stops a worker's sleep, held by the server's handle.
pub(crate) enum Wake {
    Shutdown(Weak<Socket>),
    Waker(Arc<Waker>),
}

impl Sleep {
    /// The way to sleep on `socket`, and the way to wake it for its end.
    pub(crate) fn new(socket: &Arc<Socket>, in_receive: bool, waker: &Arc<Waker>) -> (Self, Wake) {
        if cfg!(target_os = "linux") && in_receive {
            (Sleep::InReceive, Wake::Shutdown(Arc::downgrade(socket)))
        } else {
            (Sleep::InPoll, Wake::Waker(Arc::clone(waker)))
        }
    }
}

impl Wake {
    pub(crate) fn wake(&self) {
        match self {
            Wake::Shutdown(socket) => {
                if let Some(socket) = socket.upgrade() {
                    // ENOTCONN is what an unconnected socket answers, having woken all.
                    let _ = socket.shutdown(std::net::Shutdown::Read);
                }
            }
            Wake::Waker(waker) => waker.wake(),
        }
    }
}

/// What the wait for datagrams ended with.
pub(crate) enum Arrival {
    /// So many messages are there.
    Messages(usize),
    /// One timeout's worth of nothing.
    TimedOut,
    /// The worker is to look at its control, and at answers that came late.
    Woken,
    /// It is time for what was held back.
    Due,
}

/// How long [`Wait::Balanced`] lets datagrams gather: about what twenty sends cost.
const NAP: Duration = Duration::from_micros(50);

/// A spinning worker looks at its waker once in so many receives, which costs a tenth of one.
const LOOK_AT_WAKER: u32 = 32;

/// Receives, sleeping, napping or spinning where nothing is there.
pub(crate) struct Receiver {
    fd: RawFd,
    pace: Pace,
    sleep: Sleep,
    waker: Arc<Waker>,
    /// How long a sleep may last; `None`: until something comes.
    timeout: Option<Duration>,
    gather: Gather,
    /// Somebody else who holds the socket too.
    owner: Option<Owner>,
}

impl Receiver {
    pub(crate) fn new(
        socket: &Socket,
        wait: Wait,
        sleep: Sleep,
        waker: Arc<Waker>,
        timeout: Option<Duration>,
    ) -> io::Result<Self> {
        if let (Sleep::InReceive, Some(timeout)) = (&sleep, timeout) {
            // Zero would mean "for ever" to the kernel.
            set_receive_timeout(socket, timeout.max(Duration::from_micros(1)))?;
        }
        Ok(Self {
            fd: socket.as_raw_fd(),
            pace: Pace::new(wait),
            sleep,
            waker,
            timeout,
            gather: Gather::default(),
            owner: None,
        })
    }

    /// The socket was passed in: it has an owner, who may do anything to it. Not for a worker
    /// that sleeps in the receive.
    pub(crate) fn shared(mut self, socket: &Arc<Socket>, is_v6: bool) -> Self {
        self.owner = Some(Owner::new(socket, is_v6));
        self
    }

    /// What the owner has done, if that is to be told.
    pub(crate) fn take_news(&mut self) -> Option<News> {
        self.owner.as_mut()?.take_news()
    }

    /// Has the calling thread's sleeps end as soon as this way of waiting needs.
    pub(crate) fn sharpen_timers(&self) {
        if self.pace.wait() == Wait::Balanced {
            sys::thread::sharpen_timers(Duration::from_micros(1));
        }
    }

    /// Told what a batch came to: see [`Gather::learn`].
    pub(crate) fn learn(&mut self, messages: usize, trains: usize, sends: usize) {
        self.gather.learn(messages, trains, sends);
    }

    /// The next datagrams, or why there are none; until `due` at most.
    pub(crate) fn receive<E: Engine>(
        &mut self,
        engine: &mut E,
        control: &Control,
        due: Option<Instant>,
    ) -> io::Result<Arrival> {
        if let Some(due) = due {
            return self.receive_until(engine, control, due);
        }
        match self.pace.wait() {
            Wait::Balanced => {
                if !self.gather.is_napping() {
                    return self.sleep(engine, control);
                }
                // The nap takes the place of the sleep: one wake-up a batch, not two. But
                // behind a full batch there is more already, and nobody has to sleep for it.
                let all = 0..engine.slots();
                let count = match engine.receive(all, Mode::DontWait) {
                    Ok(count) if count == engine.slots() => return Ok(Arrival::Messages(count)),
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                    Err(error) => return tolerate(error, control),
                };
                match nap(engine, count) {
                    0 => {
                        self.gather.stop_napping();
                        self.sleep(engine, control)
                    }
                    count => Ok(Arrival::Messages(count)),
                }
            }
            Wait::Latency | Wait::Busy => self.ask_then_sleep(engine, control),
        }
    }

    /// Sleeps, whatever comes, until the time is over or the worker is woken.
    pub(crate) fn rest(&self, time: Duration) {
        if let Ok(Ready::Woken) = sys::wait_readable(-1, Some(&self.waker), Some(time)) {
            self.waker.clear();
        }
    }

    #[cold]
    fn receive_until<E: Engine>(
        &mut self,
        engine: &mut E,
        control: &Control,
        due: Instant,
    ) -> io::Result<Arrival> {
        let all = 0..engine.slots();
        match engine.receive(all.clone(), Mode::DontWait) {
            Ok(count) => return Ok(Arrival::Messages(count)),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                return tolerate(error, control);
            }
            Err(_) => {}
        }
        let left = due.saturating_duration_since(Instant::now());
        let is_due_first = self.timeout.is_none_or(|timeout| left <= timeout);
        let sleep = self.timeout.map_or(left, |timeout| left.min(timeout));
        match sys::wait_readable(self.fd, Some(&self.waker), Some(sleep))? {
            Ready::Woken => {
                self.waker.clear();
                Ok(Arrival::Woken)
            }
            Ready::TimedOut if is_due_first => Ok(Arrival::Due),
            Ready::TimedOut => Ok(Arrival::TimedOut),
            Ready::Socket => self.receive_ready(engine, all, control),
        }
    }

    /// Receives what poll(2) said was there.
    fn receive_ready<E: Engine>(
        &mut self,
        engine: &mut E,
        slots: Range<usize>,
        control: &Control,
    ) -> io::Result<Arrival> {
        match engine.receive(slots, Mode::DontWait) {
            Ok(count) => Ok(Arrival::Messages(count)),
            // Another reader was faster, the checksum was wrong, or it is no datagram that
            // poll(2) spoke of.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Some(owner) = &mut self.owner {
                    owner.look(&self.waker)?;
                }
                Ok(Arrival::Woken)
            }
            Err(error) => tolerate(error, control),
        }
    }

    /// Whether somebody has woken this worker; takes the wake-up back.
    fn was_woken(&mut self) -> io::Result<bool> {
        let is_woken = match &mut self.owner {
            None => {
                let ready = sys::wait_readable(-1, Some(&self.waker), Some(Duration::ZERO))?;
                ready == Ready::Woken
            }
            Some(owner) => owner.look(&self.waker)?,
        };
        if is_woken {
            self.waker.clear();
        }
        Ok(is_woken)
    }

    /// Sleeps in poll(2) until there is something to receive or the worker is woken.
    fn poll(&mut self) -> io::Result<Ready> {
        let Some(owner) = &mut self.owner else {
            return sys::wait_readable(self.fd, Some(&self.waker), self.timeout);
        };
        let start = Instant::now();
        loop {
            let left = self
                .timeout
                .map(|timeout| timeout.saturating_sub(start.elapsed()));
            let slice = left.map_or(BETWEEN_LOOKS, |left| left.min(BETWEEN_LOOKS));
            let ready = sys::wait_readable(self.fd, Some(&self.waker), Some(slice))?;
            if ready != Ready::TimedOut || left.is_some_and(|left| left <= BETWEEN_LOOKS) {
                return Ok(ready);
            }
            owner.look_for_peer();
            if owner.has_news() {
                return Ok(Ready::Woken);
            }
        }
    }

    fn sleep<E: Engine>(&mut self, engine: &mut E, control: &Control) -> io::Result<Arrival> {
        match &self.sleep {
            Sleep::InReceive => {
                match engine.receive(0..self.gather.most(engine.slots()), Mode::Block) {
                    Ok(count) => Ok(Arrival::Messages(count)),
                    Err(error) => tolerate(error, control),
                }
            }
            Sleep::InPoll => match engine
                .receive(0..self.gather.most(engine.slots()), Mode::DontWait)
            {
                Ok(count) => Ok(Arrival::Messages(count)),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => tolerate(error, control),
                Err(_) => match self.poll()? {
                    Ready::Woken => {
                        // Whoever wakes said why before; a later wake-up is another one.
                        self.waker.clear();
                        Ok(Arrival::Woken)
                    }
                    Ready::TimedOut => Ok(Arrival::TimedOut),
                    Ready::Socket => {
                        let slots = 0..self.gather.most(engine.slots());
                        self.receive_ready(engine, slots, control)
                    }
                },
            },
        }
    }

    /// Asks for as long as the pace says, and then sleeps.
    fn ask_then_sleep<E: Engine>(
        &mut self,
        engine: &mut E,
        control: &Control,
    ) -> io::Result<Arrival> {
        // The clock is read only while there is nothing to do.
        let first = engine.receive(0..self.gather.most(engine.slots()), Mode::DontWait);
        let Some(idle_since) = nothing_yet(&first) else {
            return arrived(first, control);
        };
        let patience = self.pace.patience();
        let mut looks = 0_u32;
        while idle_since.elapsed() < patience {
            // A busy worker never comes to sleep where it would be woken.
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(LOOK_AT_WAKER) && self.was_woken()? {
                return Ok(Arrival::Woken);
            }
            let next = engine.receive(0..self.gather.most(engine.slots()), Mode::DontWait);
            if nothing_yet(&next).is_none() {
                self.pace.learn(idle_since.elapsed());
                return arrived(next, control);
            }
            if control.is_stopping() {
                return Ok(Arrival::Woken);
            }
            if self
                .timeout
                .is_some_and(|most| idle_since.elapsed() >= most)
            {
                return Ok(Arrival::TimedOut);
            }
            std::hint::spin_loop();
        }
        let arrival = self.sleep(engine, control)?;
        self.pace.learn(idle_since.elapsed());
        Ok(arrival)
    }
}

/// Lets more datagrams gather behind the `count` that are here.
fn nap<E: Engine>(engine: &mut E, count: usize) -> usize {
    std::thread::sleep(NAP);
    // Whatever is wrong now is there to be found by the next receive.
    count
        + engine
            .receive(count..engine.slots(), Mode::DontWait)
            .unwrap_or(0)
}

/// The time, where nothing was there.
fn nothing_yet(received: &io::Result<usize>) -> Option<Instant> {
    match received {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(Instant::now()),
        _ => None,
    }
}

fn arrived(received: io::Result<usize>, control: &Control) -> io::Result<Arrival> {
    match received {
        Ok(count) => Ok(Arrival::Messages(count)),
        Err(error) => tolerate(error, control),
    }
}

/// Takes errors of a receive that are no reason to end for an arrival of nothing.
pub(crate) fn tolerate(error: io::Error, control: &Control) -> io::Result<Arrival> {
    match error.raw_os_error() {
        // SO_RCVTIMEO passed (socket(7)).
        Some(libc::EAGAIN) if control.is_stopping() => Ok(Arrival::Woken),
        Some(libc::EAGAIN) => Ok(Arrival::TimedOut),
        Some(libc::EINTR) => Ok(Arrival::Woken),
        // An ICMP error for an earlier reply, on a socket that was passed in connected or
        // with IP_RECVERR: the receive took it off the socket, which was all it needed.
        Some(
            libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN
            | libc::ENETDOWN | libc::ECONNRESET | libc::EPROTO | libc::EMSGSIZE | libc::ENOPROTOOPT
            // Short of memory for a moment.
            | libc::ENOBUFS | libc::ENOMEM,
        ) => Ok(Arrival::Woken),
        _ => Err(error),
    }
}
