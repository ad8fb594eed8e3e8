//! Waking a sleeping thread, and sleeping until a descriptor is ready.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::time::Duration;

use super::poll::poll;

/// Makes a sleeping [`wait_readable`] return; stays up until [`Waker::clear`].
///
/// An eventfd on Linux. Closing a descriptor does not wake the thread that sleeps on it,
/// so there has to be something that does.
#[derive(Debug)]
pub(crate) struct Waker {
    reader: File,
    #[cfg(not(target_os = "linux"))]
    writer: File,
}

impl Waker {
    #[cfg(target_os = "linux")]
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: eventfd(2) takes no pointer.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            // SAFETY: eventfd(2) returned a new descriptor that nobody else owns.
            reader: unsafe { File::from_raw_fd(fd) },
        })
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn new() -> io::Result<Self> {
        let mut ends = [0; 2];
        // SAFETY: pipe(2) writes two descriptors into the array it is given.
        if unsafe { libc::pipe(ends.as_mut_ptr()) } < 0 {
            return Err(io::Error::last_os_error());
        }
        for fd in ends {
            // SAFETY: fcntl(2) with F_SETFD and F_SETFL takes integers only.
            unsafe {
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
                libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK);
            }
        }
        // SAFETY: pipe(2) returned two new descriptors that nobody else owns.
        unsafe {
            Ok(Self {
                reader: File::from_raw_fd(ends[0]),
                writer: File::from_raw_fd(ends[1]),
            })
        }
    }

    #[cfg(target_os = "linux")]
    fn writer(&self) -> &File {
        &self.reader
    }

    #[cfg(not(target_os = "linux"))]
    fn writer(&self) -> &File {
        &self.writer
    }

    /// Wakes whoever sleeps, now or the next time.
    pub(crate) fn wake(&self) {
        // Full means that a wake-up is already waiting to be seen: nothing to add.
        let _ = self.writer().write(&1u64.to_ne_bytes());
    }

    /// Takes the wake-ups that are there back.
    pub(crate) fn clear(&self) {
        let mut counter = [0; 8];
        let _ = (&self.reader).read(&mut counter);
    }

    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> + use<> {
        let (reader, writer) = (self.reader.as_raw_fd(), self.writer().as_raw_fd());
        [Some(reader), (writer != reader).then_some(writer)]
            .into_iter()
            .flatten()
    }
}

impl AsRawFd for Waker {
    fn as_raw_fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    /// The descriptor can be read (or has an error to be read).
    Socket,
    /// The waker was used; it wins when both are up.
    Woken,
    /// Neither, in the time given.
    TimedOut,
}

/// Sleeps until `fd` can be read, `waker` is used, or `timeout` has passed (`None`: never).
pub(crate) fn wait_readable(
    fd: RawFd,
    waker: Option<&Waker>,
    timeout: Option<Duration>,
) -> io::Result<Ready> {
    wait(fd, libc::POLLIN, waker, timeout)
}

/// Sleeps until `fd` can be written, `waker` is used, or `timeout` has passed.
pub(crate) fn wait_writable(
    fd: RawFd,
    waker: Option<&Waker>,
    timeout: Option<Duration>,
) -> io::Result<Ready> {
    wait(fd, libc::POLLOUT, waker, timeout)
}

/// Sleeps until `fd` can be read or written, `waker` is used, or `timeout` has passed.
pub(crate) fn wait_either(
    fd: RawFd,
    waker: Option<&Waker>,
    timeout: Option<Duration>,
) -> io::Result<Ready> {
    wait(fd, libc::POLLIN | libc::POLLOUT, waker, timeout)
}

/// What poll(2) says of a datagram socket, beside whether something can be received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Condition {
    /// The waker was used.
    pub(crate) is_woken: bool,
    /// Its receive side was shut down: it is readable for ever, with nothing to read.
    pub(crate) is_shut_down: bool,
    /// An error waits to be taken, or the error queue is not empty (IP_RECVERR, timestamps).
    pub(crate) has_errors: bool,
}

/// The condition of `fd`, and whether `waker` was used, without waiting.
pub(crate) fn condition(fd: RawFd, waker: &Waker) -> io::Result<Condition> {
    // datagram_poll (net/core/datagram.c) tells a shutdown of the receive side by POLLRDHUP,
    // of both by POLLHUP.
    #[cfg(target_os = "linux")]
    const SHUT_DOWN: libc::c_short = libc::POLLRDHUP;
    #[cfg(not(target_os = "linux"))]
    const SHUT_DOWN: libc::c_short = 0;
    let mut polled = watched(fd, SHUT_DOWN, Some(waker));
    poll(&mut polled, Some(Duration::ZERO))?;
    let is = |index: usize, events| polled[index].revents & events != 0;
    Ok(Condition {
        is_woken: is(1, libc::POLLIN),
        is_shut_down: is(0, SHUT_DOWN | libc::POLLHUP),
        has_errors: is(0, libc::POLLERR),
    })
}

fn wait(
    fd: RawFd,
    events: libc::c_short,
    waker: Option<&Waker>,
    timeout: Option<Duration>,
) -> io::Result<Ready> {
    let mut polled = watched(fd, events, waker);
    poll(&mut polled, timeout)?;
    Ok(if polled[1].revents != 0 {
        Ready::Woken
    } else if polled[0].revents != 0 {
        Ready::Socket
    } else {
        Ready::TimedOut
    })
}

fn watched(fd: RawFd, events: libc::c_short, waker: Option<&Waker>) -> [libc::pollfd; 2] {
    // poll(2) ignores negative descriptors, which is how a missing waker is said.
    let waker_fd = waker.map_or(-1, AsRawFd::as_raw_fd);
    [
        libc::pollfd {
            fd,
            events,
            revents: 0,
        },
        libc::pollfd {
            fd: waker_fd,
            events: libc::POLLIN,
            revents: 0,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_wake_before_the_wait_is_not_lost_and_clear_takes_it_back() {
        let waker = Waker::new().unwrap();
        waker.wake();
        waker.wake();
        assert_eq!(wait_readable(-1, Some(&waker), None).unwrap(), Ready::Woken);
        waker.clear();
        let short = Some(Duration::from_micros(100));
        assert_eq!(
            wait_readable(-1, Some(&waker), short).unwrap(),
            Ready::TimedOut
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_shutdown_and_a_kept_error_are_told_apart() {
        use std::net::UdpSocket;
        let waker = Waker::new().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let look = || condition(socket.as_raw_fd(), &waker).unwrap();
        let nothing = Condition {
            is_woken: false,
            is_shut_down: false,
            has_errors: false,
        };
        assert_eq!(look(), nothing);
        // Something to read is neither.
        socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        assert_eq!(look(), nothing);
        waker.wake();
        // ENOTCONN is what an unconnected socket answers, having done it.
        let _ = socket2::SockRef::from(&socket).shutdown(std::net::Shutdown::Read);
        let told = look();
        assert!(told.is_woken && told.is_shut_down && !told.has_errors);
    }

    #[test]
    fn never_wakes_before_the_time_given() {
        let start = Instant::now();
        wait_readable(-1, None, Some(Duration::from_micros(1_500))).unwrap();
        assert!(start.elapsed() >= Duration::from_micros(1_500));
    }
}
