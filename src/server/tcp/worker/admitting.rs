//! Connections taken in, or closed at once.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Instant;

use super::super::accept::Offer;
use super::super::echo::Connection;
use super::{CONNECTIONS, Exhausted, FLOWING, Worker, shut_down};
use crate::books::tcp::{Count, Reason};
use crate::error::Result;
use crate::guard::Refusal;
use crate::sys::readiness::{Interest, Readiness};
use crate::sys::stream::Stream;

impl<R: Readiness> Worker<R> {
    /// Takes in up to `most` connections.
    pub(super) fn accept(&mut self, most: usize) -> Result<()> {
        for _ in 0..most {
            let Some(acceptor) = &mut self.acceptor else {
                return Ok(());
            };
            let offer = acceptor.next(&self.shared.gate);
            if acceptor.has_news_of_blocking() {
                self.shared.tell_of_blocking();
            }
            match offer {
                Offer::Connection(stream, peer) => self.admit(stream, peer),
                Offer::Nothing => break,
                Offer::Fault => self.work.tally.add(Count::AcceptErrors, 1),
                Offer::Refused => {
                    self.work.tally.add(Count::Refused, 1);
                    self.warn("a connection was closed at once");
                }
                Offer::Full => {
                    acceptor.wait_for_room(&mut self.ready);
                    break;
                }
                Offer::Exhausted => {
                    self.work.tally.add(Count::AcceptErrors, 1);
                    acceptor.rest(&mut self.ready);
                    self.warn("connections have to wait");
                    break;
                }
                // Shut just now, as this worker is about to learn.
                Offer::Broken(_) if acceptor.is_shut() => {
                    acceptor.follow(&mut self.ready);
                    break;
                }
                Offer::ShutDown => return Err(shut_down(self.shared.observer.server())),
                Offer::Broken(error) => return Err(self.failed("accept on", &error)),
            }
        }
        Ok(())
    }

    /// Says that there are no descriptors, or no memory.
    #[cold]
    fn warn(&mut self, what: &'static str) {
        let warning = Exhausted(what);
        self.warnings.add(Instant::now(), |last| *last = warning);
    }

    /// Serves a connection, or closes it at once where the guard refuses its source.
    fn admit(&mut self, stream: Stream, peer: SocketAddr) {
        let now = Instant::now();
        let Err(refusal) = self.shared.sources.try_enter(peer.ip(), now) else {
            return self.open(stream, peer);
        };
        self.shared.gate.leave();
        let count = match refusal {
            Refusal::Denied => Count::Denied,
            Refusal::Source => Count::RefusedBySource,
            Refusal::Rate => Count::RefusedByRate,
        };
        self.work.tally.add(count, 1);
        self.refusals.add(now, |all| all.add(refusal, peer));
    }

    fn open(&mut self, stream: Stream, peer: SocketAddr) {
        let fd = stream.as_raw_fd();
        let mut connection = Box::new(Connection::new(stream, peer, &mut self.work));
        connection.number = self.shared.impairing.next_connection();
        let id = self.connections.reserve();
        self.lists.touch(id, FLOWING, self.now);
        self.lifetimes.add(id, self.now);
        if self
            .ready
            .add(fd, id + CONNECTIONS, Interest::Read)
            .is_err()
        {
            return self.end(id, connection, Reason::Error);
        }
        if self.refuses(&connection) {
            connection.stream.reset();
            return self.end(id, connection, Reason::Impaired);
        }
        if let Some(questions) = &mut self.questions {
            connection.converse(id, questions, &mut self.work);
        }
        self.connections.put(id, connection);
        if let Some(setting) = self.setting.clone() {
            self.impair_new(id, &setting);
        }
    }
}
