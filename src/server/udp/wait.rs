//! When to sleep, and how a sleeping worker is woken.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Weak};
use std::time::Duration;

use socket2::Socket;

use super::engine::Engine;
use crate::socket::set_receive_timeout;
use crate::sys::message::Mode;
use crate::sys::{self, Ready, Waker};
use crate::worker::Control;

/// How a worker sleeps until something comes.
pub(super) enum Sleep {
    /// Inside the receive itself: one system call for both. Woken by shutting the receive
    /// side down, which Linux lets an unconnected socket do for just this
    /// (net/ipv4/af_inet.c, `inet_shutdown`), and which leaves what is queued readable. Not
    /// for a socket that others use too: it stays shut down.
    InReceive,
    /// In poll(2), with a waker beside it.
    InPoll(Arc<Waker>),
}

/// What stops a worker's sleep, held by the server's handle.
pub(super) enum Wake {
    Shutdown(Weak<Socket>),
    Waker(Arc<Waker>),
}

impl Sleep {
    /// The way to sleep on `socket`, and the way to wake.
    pub(super) fn new(socket: &Arc<Socket>, is_shared: bool) -> io::Result<(Self, Wake)> {
        if cfg!(target_os = "linux") && !is_shared {
            return Ok((Sleep::InReceive, Wake::Shutdown(Arc::downgrade(socket))));
        }
        let waker = Arc::new(Waker::new()?);
        Ok((Sleep::InPoll(Arc::clone(&waker)), Wake::Waker(waker)))
    }
}

impl Wake {
    pub(super) fn wake(&self) {
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
pub(super) enum Arrival {
    /// So many messages are there.
    Some(usize),
    /// One timeout's worth of nothing.
    TimedOut,
    /// The worker is to look at its control.
    Woken,
}

/// Receives, sleeping where nothing is there.
pub(super) struct Receiver {
    fd: RawFd,
    sleep: Sleep,
    /// How long a sleep may last; `None`: until something comes.
    timeout: Option<Duration>,
}

impl Receiver {
    pub(super) fn new(
        socket: &Socket,
        sleep: Sleep,
        timeout: Option<Duration>,
    ) -> io::Result<Self> {
        if let (Sleep::InReceive, Some(timeout)) = (&sleep, timeout) {
            // Zero would mean "for ever" to the kernel.
            set_receive_timeout(socket, timeout.max(Duration::from_micros(1)))?;
        }
        Ok(Self {
            fd: socket.as_raw_fd(),
            sleep,
            timeout,
        })
    }

    /// The next datagrams, or why there are none.
    pub(super) fn receive<E: Engine>(
        &self,
        engine: &mut E,
        control: &Control,
    ) -> io::Result<Arrival> {
        match &self.sleep {
            Sleep::InReceive => match engine.receive(0, Mode::Block) {
                Ok(count) => Ok(Arrival::Some(count)),
                Err(error) => explain(error, control),
            },
            Sleep::InPoll(waker) => match engine.receive(0, Mode::DontWait) {
                Ok(count) => Ok(Arrival::Some(count)),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => explain(error, control),
                Err(_) => match sys::wait_readable(self.fd, Some(waker), self.timeout)? {
                    // Left up: every worker of the server is to see it.
                    Ready::Woken => Ok(Arrival::Woken),
                    Ready::TimedOut => Ok(Arrival::TimedOut),
                    Ready::Socket => match engine.receive(0, Mode::DontWait) {
                        Ok(count) => Ok(Arrival::Some(count)),
                        // Another reader was faster, or the checksum was wrong.
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            Ok(Arrival::Woken)
                        }
                        Err(error) => explain(error, control),
                    },
                },
            },
        }
    }
}

/// Errors of a receive that are no reason to end.
fn explain(error: io::Error, control: &Control) -> io::Result<Arrival> {
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
