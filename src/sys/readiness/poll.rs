//! poll(2): what every Unix has. Each wait costs as much as there are descriptors.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::{Interest, Readiness};
use crate::sys::poll::poll;

/// No descriptor has this token.
const ABSENT: u32 = u32::MAX;

#[derive(Default)]
pub(crate) struct Poll {
    watched: Vec<libc::pollfd>,
    /// The token of each element of `watched`.
    tokens: Vec<u32>,
    /// For each token, its place in `watched`.
    places: Vec<u32>,
    /// What the last wait found; apart from `watched`, which changes as it is worked off.
    ready: Vec<u32>,
}

fn events(interest: Interest) -> libc::c_short {
    match interest {
        Interest::Read => libc::POLLIN,
        Interest::Write => libc::POLLOUT,
    }
}

impl Poll {
    fn place(&self, token: u32) -> Option<usize> {
        match self.places.get(token as usize) {
            None | Some(&ABSENT) => None,
            Some(&place) => Some(place as usize),
        }
    }

    /// Notes the `count` tokens that are ready.
    fn collect(&mut self, count: usize) -> usize {
        self.ready.clear();
        let is_ready = |(polled, _): &(&libc::pollfd, &u32)| polled.revents != 0;
        let ready = self.watched.iter().zip(&self.tokens).filter(is_ready);
        // None is looked for beyond the last.
        self.ready
            .extend(ready.map(|(_, token)| *token).take(count));
        self.ready.len()
    }
}

impl Readiness for Poll {
    const NAME: &'static str = "portable";

    fn new() -> io::Result<Self> {
        Ok(Self::default())
    }

    fn add(&mut self, fd: RawFd, token: u32, interest: Interest) -> io::Result<()> {
        if self.place(token).is_some() {
            return Err(io::Error::from_raw_os_error(libc::EEXIST));
        }
        let index = token as usize;
        if self.places.len() <= index {
            self.places.resize(index + 1, ABSENT);
        }
        self.places[index] = self.watched.len() as u32;
        self.watched.push(libc::pollfd {
            fd,
            events: events(interest),
            revents: 0,
        });
        self.tokens.push(token);
        Ok(())
    }

    fn change(&mut self, _: RawFd, token: u32, interest: Interest) -> io::Result<()> {
        let place = self
            .place(token)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
        self.watched[place].events = events(interest);
        Ok(())
    }

    fn remove(&mut self, _: RawFd, token: u32) {
        if let Some(place) = self.place(token) {
            self.watched.swap_remove(place);
            self.tokens.swap_remove(place);
            self.places[token as usize] = ABSENT;
            if let Some(&moved) = self.tokens.get(place) {
                self.places[moved as usize] = place as u32;
            }
        }
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let count = poll(&mut self.watched, timeout)?;
        Ok(self.collect(count))
    }

    fn wait_exactly(&mut self, timeout: Duration) -> io::Result<usize> {
        self.wait(Some(timeout))
    }

    fn token(&self, index: usize) -> u32 {
        self.ready[index]
    }

    fn descriptor(&self) -> Option<Arc<OwnedFd>> {
        None
    }
}
