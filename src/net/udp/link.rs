//! What an endpoint and a client's driver have in common: one socket's engine, and the plan of
//! its sends. Neither waits nor judges an error.

use std::io;
use std::ops::Range;

use super::engine::{Engine, Portable};
use super::plan::{Item, Plan};
use crate::datagram::{Outbox, RawAddress, Received, Slots};
use crate::sys::message::Mode;

/// An engine, with memory that every batch uses again.
pub(crate) struct Link<E> {
    pub(super) engine: E,
    pub(super) plan: Plan,
}

impl<E: Engine> Link<E> {
    pub(crate) fn new(engine: E) -> Self {
        Self {
            plan: Plan::new(engine.slots()),
            engine,
        }
    }

    fn all(&self) -> Range<usize> {
        0..self.engine.slots()
    }

    /// What is there now; `WouldBlock` where nothing is.
    #[inline]
    pub(crate) fn receive_now(&mut self) -> io::Result<usize> {
        let slots = self.all();
        self.engine.receive(slots, Mode::DontWait)
    }

    /// What came into a slot. Once a receive.
    #[inline]
    pub(crate) fn take(&mut self, slot: usize) -> Received {
        self.engine.take(slot)
    }

    /// Where the bytes of what came lie.
    #[inline]
    pub(crate) fn slots(&self) -> Slots<'_> {
        self.engine.memory()
    }

    /// Plans what goes together; nothing to those who refuse trains.
    #[inline]
    pub(super) fn plan_sends(&mut self, outbox: &Outbox, refuse_trains: &[RawAddress]) {
        self.plan.clear();
        let entries = outbox.entries();
        assert!(
            entries.len() <= usize::from(u16::MAX),
            "an outbox is bounded"
        );
        let most = self.engine.max_segments();
        for (index, entry) in entries.iter().enumerate() {
            let to = &entry.transmit.to;
            let refuses = !refuse_trains.is_empty() && refuse_trains.contains(to);
            let item = Item {
                entry: index as u16,
                peer: to,
                length: entry.length,
                segment_bytes: entry.segment_bytes,
                max_segments: if refuses { 1 } else { most },
            };
            let same = |other: u16| entries[usize::from(other)].transmit == entry.transmit;
            self.plan.add(item, same);
        }
    }
}

impl Link<Portable> {
    /// Sends what is in the outbox, in order, and takes out what went: with this
    /// engine, each entry by itself. `WouldBlock` where the
    /// send buffer has no room; after any other error, what it is of is taken out as well.
    pub(crate) fn send_now(&mut self, outbox: &mut Outbox) -> io::Result<()> {
        self.plan_sends(outbox, &[]);
        let mut next = 0;
        while next < self.plan.groups().len() {
            match self.engine.send(&self.plan, outbox, next) {
                Ok(sent) => next += sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let is_full = error.kind() == io::ErrorKind::WouldBlock;
                    let first_left = next + usize::from(!is_full);
                    let left = self.plan.groups().get(first_left);
                    outbox.forget(left.map(|group| group.entry.into()));
                    return Err(error);
                }
            }
        }
        outbox.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::Transmit;
    use crate::guard::Policy;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;

    #[test]
    fn an_error_takes_its_own_datagram_away_and_no_other() {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = Transmit::to(RawAddress::from(peer.local_addr().unwrap()));
        let mut link = Link::new(Portable::new(socket.as_raw_fd(), 0));
        let mut outbox = Outbox::new(Policy::default());
        for data in [&b"first"[..], &[0; 65_508], b"last"] {
            outbox.send(to, data);
        }
        let error = link.send_now(&mut outbox).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(outbox.entries().len(), 1);
        link.send_now(&mut outbox).unwrap();
        assert!(outbox.is_empty());
        let mut room = [0; 10];
        for data in [&b"first"[..], b"last"] {
            let length = peer.recv(&mut room).unwrap();
            assert_eq!(&room[..length], data);
        }
    }
}
