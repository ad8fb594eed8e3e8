//! epoll(7): what is ready is told in one call, at a cost that depends on that alone.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::{Interest, Readiness};
use crate::sys::poll::{milliseconds, poll, polled};

/// More ready descriptors than this wait for the next call.
const EVENTS: usize = 512;

pub(crate) struct Epoll {
    set: Arc<OwnedFd>,
    events: Box<[libc::epoll_event]>,
}

impl Epoll {
    fn control(&self, operation: i32, fd: RawFd, token: u32, events: i32) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: events as u32,
            u64: u64::from(token),
        };
        // SAFETY: epoll_ctl(2) reads one live epoll_event; a wrong descriptor is an error.
        let done = unsafe { libc::epoll_ctl(self.set.as_raw_fd(), operation, fd, &raw mut event) };
        if done < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

fn events(interest: Interest) -> i32 {
    match interest {
        Interest::Read => libc::EPOLLIN,
        Interest::Write => libc::EPOLLOUT,
    }
}

impl Readiness for Epoll {
    const NAME: &'static str = "epoll";

    fn new() -> io::Result<Self> {
        // SAFETY: epoll_create1(2) takes no pointer.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: epoll_create1(2) returned a new descriptor that nobody else owns.
        let set = Arc::new(unsafe { OwnedFd::from_raw_fd(fd) });
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS].into();
        Ok(Self { set, events })
    }

    fn add(&mut self, fd: RawFd, token: u32, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, events(interest))
    }

    fn change(&mut self, fd: RawFd, token: u32, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, events(interest))
    }

    fn remove(&mut self, fd: RawFd, token: u32) {
        // Not being in the set is what was asked for.
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, token, 0);
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        // SAFETY: epoll_wait(2) writes at most `EVENTS` elements to the live slice.
        let count = unsafe {
            libc::epoll_wait(
                self.set.as_raw_fd(),
                self.events.as_mut_ptr(),
                EVENTS as libc::c_int,
                milliseconds(timeout),
            )
        };
        polled(count)
    }

    fn wait_exactly(&mut self, timeout: Duration) -> io::Result<usize> {
        // epoll_pwait2(2) would do it in one call, but is younger than what is supported; an
        // epoll descriptor is readable when something in the set is ready (epoll(7)).
        let mut set = [libc::pollfd {
            fd: self.set.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        }];
        match poll(&mut set, Some(timeout))? {
            0 => Ok(0),
            _ => self.wait(Some(Duration::ZERO)),
        }
    }

    fn token(&self, index: usize) -> u32 {
        self.events[index].u64 as u32
    }

    fn descriptor(&self) -> Option<Arc<OwnedFd>> {
        Some(Arc::clone(&self.set))
    }
}
