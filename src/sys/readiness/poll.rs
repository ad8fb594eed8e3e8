//! poll(2): what every Unix has. Each wait costs as much as there are descriptors.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::{Interest, Readiness, milliseconds};

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
        self.ready.clear();
        // SAFETY: poll(2) reads and writes the live vector, of the length given.
        let count = unsafe {
            libc::poll(
                self.watched.as_mut_ptr(),
                self.watched.len() as _,
                milliseconds(timeout),
            )
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted {
                Ok(0)
            } else {
                Err(error)
            };
        }
        let mut left = count;
        for (polled, token) in self.watched.iter().zip(&self.tokens) {
            if left == 0 {
                break;
            }
            if polled.revents != 0 {
                self.ready.push(*token);
                left -= 1;
            }
        }
        Ok(self.ready.len())
    }

    fn token(&self, index: usize) -> u32 {
        self.ready[index]
    }

    fn descriptor(&self) -> Option<Arc<OwnedFd>> {
        None
    }
}
