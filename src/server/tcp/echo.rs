//! One connection's step: receive → answer. THE HOT LOOP of the TCP server.
//!
//! Rule 1: a step is one receive and one send (and, in bulk, one discard); level-triggered
//! readiness brings the connection back, so a busy peer cannot starve the others.
//! Rule 2: no log call, formatting, lock, clock read or dynamic dispatch. Memory is
//! allocated only for what the kernel did not take, and for events that somebody asked for.
//! Rule 3: while output is pending nothing is read. A peer that does not read holds at most
//! [`PLAIN_BYTES`] of this program's memory; the rest stays with the kernel and with itself.
//! Rule 4: received = sent + discarded + pending, after every step.
//!
//! Two modes keep rule 3 at full speed. `Plain` reads up to 64 KiB into the worker's one
//! buffer, sends at once, and keeps a copy of what was not taken. A stream that fills that
//! is `Bulk`: it is looked at 256 KiB at a time with MSG_PEEK, sent, and then exactly what
//! was sent is discarded with MSG_TRUNC, so what was not taken never left the kernel. That
//! takes fewer, longer calls for a bulk transfer and no more memory for a stalled one.
//! Over loopback that moved as much as plain reads of 256 KiB on one connection and about a
//! tenth less on eight, where plain reads of 64 KiB lost a quarter and more; splice(2)
//! through a pipe took a third less processor time but slowed the peers down by as much.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use super::buffer::{Buffer, PLAIN_BYTES};
use super::conversation::Conversation;
use super::records::Assembler;
use crate::books::tcp::{Count, Reason, Tally};
use crate::event::{Observer, What, now_ns};
use crate::sys::stream::{Moved, Stream};

/// Most that a bulk step moves: the length of a worker's buffer.
const BULK_BYTES: usize = 256 << 10;

/// What a worker's connections share.
pub(super) struct Work {
    pub(super) buffer: Box<[u8]>,
    pub(super) tally: Tally,
    observer: Arc<Observer>,
    record_bytes: Option<usize>,
    /// How much of each payload the observer wants, asked once a batch.
    access: Option<usize>,
    /// True when steps have to tell what came.
    pub(super) tells: bool,
    time_ns: u64,
    /// The time of this round, where anything is impaired, on the worker's own clock.
    pub(super) now_ns: u64,
}

impl Work {
    pub(super) fn new(observer: Arc<Observer>, record_bytes: Option<usize>) -> Self {
        Self {
            buffer: vec![0; BULK_BYTES].into(),
            tally: Tally::default(),
            observer,
            record_bytes,
            access: None,
            tells: false,
            time_ns: 0,
            now_ns: 0,
        }
    }

    /// To be called before each batch of steps.
    pub(super) fn begin_batch(&mut self) {
        self.access = self.observer.access();
        self.tells = self.access.is_some() || self.record_bytes.is_some();
        if self.tells {
            self.time_ns = now_ns();
        }
    }
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Bytes moved and none is pending: more input is welcome.
    Moved,
    /// Nothing had come.
    Empty,
    /// Output waits for room; did any go out in this step?
    Stalled(bool),
    /// It can go on without anything happening, in the next round.
    Again,
    /// Neither input nor room is what it waits for.
    Waits,
    /// The server has said all that it will: only the peer's end is waited for.
    Farewell,
    /// The connection is over.
    Ended(Reason),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Plain,
    Bulk,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) peer: SocketAddr,
    pub(super) mode: Mode,
    pub(super) pending: Buffer,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) discarded: u64,
    records: Option<Box<Assembler>>,
    /// What makes it more than an echo; `None`: it is one.
    pub(super) conversation: Option<Box<Conversation>>,
    /// By which the draws for it are made.
    pub(super) number: u64,
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

impl Connection {
    pub(super) fn new(stream: Stream, peer: SocketAddr, work: &mut Work) -> Self {
        work.tally.add(Count::Accepted, 1);
        if work.access.is_some() {
            work.observer.frequent(now_ns(), What::Opened { peer });
        }
        Self {
            stream,
            peer,
            mode: Mode::Plain,
            pending: Buffer::default(),
            received: 0,
            sent: 0,
            discarded: 0,
            records: work
                .record_bytes
                .map(|length| Box::new(Assembler::new(length))),
            conversation: None,
            number: 0,
        }
    }

    /// Who it is with.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// There may be input, and no output is pending.
    pub(super) fn echo(&mut self, work: &mut Work) -> Next {
        match self.mode {
            Mode::Plain => self.echo_plain(work),
            Mode::Bulk => self.echo_bulk(work),
        }
    }

    fn echo_plain(&mut self, work: &mut Work) -> Next {
        let came = match self.stream.receive(&mut work.buffer[..PLAIN_BYTES]) {
            Moved::Bytes(0) => return Next::Ended(Reason::Peer),
            Moved::Bytes(came) => came,
            Moved::Blocked => return Next::Empty,
            Moved::Failed(broken) => return Next::Ended(broken.into()),
        };
        self.count_received(came, work);
        if work.tells {
            // Before it is answered: whoever has the reply finds it told.
            self.tell(came, work);
        }
        match self.stream.send(&work.buffer[..came]) {
            Moved::Bytes(sent) => {
                self.count_sent(sent, work);
                if sent < came {
                    self.pending.push(&work.buffer[sent..came]);
                    Next::Stalled(true)
                } else {
                    if came == PLAIN_BYTES {
                        self.mode = Mode::Bulk;
                    }
                    Next::Moved
                }
            }
            Moved::Blocked => {
                self.pending.push(&work.buffer[..came]);
                Next::Stalled(false)
            }
            Moved::Failed(broken) => Next::Ended(broken.into()),
        }
    }

    fn echo_bulk(&mut self, work: &mut Work) -> Next {
        let came = match self.stream.peek(&mut work.buffer) {
            Moved::Bytes(0) => return Next::Ended(Reason::Peer),
            Moved::Bytes(came) => came,
            Moved::Blocked => {
                self.mode = Mode::Plain;
                return Next::Empty;
            }
            Moved::Failed(broken) => return Next::Ended(broken.into()),
        };
        let sent = match self.stream.send(&work.buffer[..came]) {
            Moved::Bytes(sent) => sent,
            Moved::Blocked => return Next::Stalled(false),
            Moved::Failed(broken) => return Next::Ended(broken.into()),
        };
        self.count_received(sent, work);
        if work.tells {
            self.tell(sent, work);
        }
        self.count_sent(sent, work);
        if let Some(reason) = self.consume(sent, work) {
            return Next::Ended(reason);
        }
        if sent < came {
            return Next::Stalled(true);
        }
        if came < PLAIN_BYTES {
            self.mode = Mode::Plain;
        }
        Next::Moved
    }

    /// Takes what was peeked at and sent out of the kernel; if that fails, it would be
    /// answered twice, so the connection has to end.
    fn consume(&self, count: usize, work: &mut Work) -> Option<Reason> {
        let mut left = count;
        while left > 0 {
            match self.stream.discard(left, &mut work.buffer) {
                Moved::Bytes(0) | Moved::Blocked => return Some(Reason::Error),
                Moved::Bytes(taken) => left -= taken.min(left),
                Moved::Failed(broken) => return Some(broken.into()),
            }
        }
        None
    }

    /// There may be room for the output that is pending.
    pub(super) fn flush(&mut self, work: &mut Work) -> Next {
        if self.pending.is_empty() {
            // Bulk: what is pending lies with the kernel.
            return self.echo(work);
        }
        match self.stream.send(self.pending.rest()) {
            Moved::Bytes(sent) => {
                self.count_sent(sent, work);
                self.pending.advance(sent);
                if self.pending.is_empty() {
                    self.pending.release();
                    Next::Moved
                } else {
                    Next::Stalled(sent > 0)
                }
            }
            Moved::Blocked => Next::Stalled(false),
            Moved::Failed(broken) => Next::Ended(broken.into()),
        }
    }

    /// All input was answered and the server stops: says so to the peer, and from now on
    /// only waits for its end of stream.
    pub(super) fn finish(&self) {
        self.stream.finish();
    }

    /// After [`Connection::finish`]: what still comes cannot be answered, but must be taken:
    /// closing with unread input resets the connection, and a reset destroys what the peer
    /// has not read yet (RFC 1122, 4.2.2.13).
    pub(super) fn linger(&mut self, work: &mut Work) -> Next {
        match self.stream.discard(BULK_BYTES, &mut work.buffer) {
            Moved::Bytes(0) => Next::Ended(self.farewell()),
            Moved::Bytes(came) => {
                self.count_received(came, work);
                self.discarded += came as u64;
                work.tally.add(Count::Discarded, came);
                Next::Moved
            }
            Moved::Blocked => Next::Empty,
            Moved::Failed(broken) => Next::Ended(broken.into()),
        }
    }

    /// Counts and tells the end; the connection is closed as it goes out of scope.
    pub(super) fn end(self, reason: Reason, work: &mut Work) {
        let unanswered = match &self.conversation {
            None => (self.received - self.sent - self.discarded) as usize,
            Some(conversation) => conversation.held(),
        };
        work.tally.discarded(unanswered);
        work.tally.ended(reason);
        if reason == Reason::Stalled {
            self.stream.abort_on_close();
        }
        if let Some(records) = &self.records
            && !records.rest().is_empty()
        {
            work.tally.add(Count::UnfitRecords, 1);
            let unfit = What::Unfit {
                peer: self.peer,
                length: records.rest().len(),
                data: records.rest().into(),
            };
            work.observer.frequent(now_ns(), unfit);
        }
        if work.access.is_some() {
            let closed = What::Closed {
                peer: self.peer,
                why: reason.name(),
                received_bytes: self.received,
                sent_bytes: self.sent,
            };
            work.observer.frequent(now_ns(), closed);
        }
    }

    pub(super) fn count_received(&mut self, count: usize, work: &mut Work) {
        self.received += count as u64;
        work.tally.add(Count::Received, count);
    }

    pub(super) fn count_sent(&mut self, count: usize, work: &mut Work) {
        self.sent += count as u64;
        work.tally.add(Count::Sent, count);
        if work.access.is_some() {
            let answered = What::Answered {
                peer: self.peer,
                length: count,
                dropped: None,
            };
            work.observer.frequent(work.time_ns, answered);
        }
    }

    /// Tells the first `count` bytes of the buffer to whoever asked for them.
    #[cold]
    pub(super) fn tell(&mut self, count: usize, work: &mut Work) {
        let data = &work.buffer[..count];
        let (peer, time_ns, observer) = (self.peer, work.time_ns, &work.observer);
        if let Some(most) = work.access {
            let received = What::Received {
                peer,
                length: count,
                data: data[..count.min(most)].into(),
                dropped: None,
            };
            observer.frequent(time_ns, received);
        }
        if let Some(records) = &mut self.records {
            let tally = &mut work.tally;
            records.push(data, |record| {
                tally.add(Count::Records, 1);
                let data = record.into();
                observer.frequent(time_ns, What::Record { peer, data });
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Connection>() <= 256);
    }
}
