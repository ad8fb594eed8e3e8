//! Telling of datagrams, for those who asked. Not on the fast path: entered only while
//! somebody listens, or when something was dropped.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::event::{Level, Line, Lines, Observer, What};
use crate::stats::DropReason;
use crate::sys::message::Received;
use crate::throttle::LeftOut;

/// Copies the datagrams of one message out as events: what it was, and what came of it.
pub(super) struct Teller<'a> {
    pub(super) observer: &'a Observer,
    /// Bytes of each payload; `None`: no event for each datagram.
    pub(super) access: Option<usize>,
    /// Length of a record, where datagrams are records.
    pub(super) record_bytes: Option<usize>,
    pub(super) time_ns: u64,
}

impl Teller<'_> {
    /// Tells of one message; returns how many records and misfits it held.
    pub(super) fn tell(
        &self,
        received: &Received,
        data: &[u8],
        dropped: Option<DropReason>,
    ) -> (u64, u64) {
        let Some(peer) = received.source.to_std() else {
            return (0, 0);
        };
        let (mut records, mut misfits) = (0, 0);
        let size = if received.segment_bytes == 0 {
            data.len()
        } else {
            received.segment_bytes
        };
        let mut rest = data;
        loop {
            let (datagram, after) = rest.split_at(size.min(rest.len()));
            if let Some(most) = self.access {
                let what = What::Received {
                    peer,
                    length: datagram.len(),
                    data: head(datagram, most),
                    dropped: dropped.map(DropReason::name),
                };
                self.observer.frequent(self.time_ns, what);
            }
            // What is not answered is not taken for data either.
            match self.record_bytes.filter(|_| dropped.is_none()) {
                Some(length) if datagram.len() == length => {
                    records += 1;
                    self.observer.frequent(
                        self.time_ns,
                        What::Record {
                            peer,
                            data: datagram.into(),
                        },
                    );
                }
                Some(_) => {
                    misfits += 1;
                    let (length, data) = (datagram.len(), head(datagram, MISFIT_BYTES));
                    self.observer
                        .frequent(self.time_ns, What::Unfit { peer, length, data });
                }
                None => {}
            }
            if after.is_empty() {
                return (records, misfits);
            }
            rest = after;
        }
    }
}

/// Enough of a misfit to see what it is.
const MISFIT_BYTES: usize = 64;

fn head(data: &[u8], most: usize) -> Box<[u8]> {
    data[..data.len().min(most)].into()
}

/// What was not answered since the last line about it, and the last who was not.
#[derive(Default)]
pub(super) struct Drops {
    packets: [u64; DropReason::ALL.len()],
    last_peer: Option<SocketAddr>,
}

/// One line a second at most about that.
pub(super) type DropLog = Lines<Drops>;

impl Drops {
    /// The part of these that is not what the server was set up to do, if there is any.
    pub(super) fn new(
        dropped: &[u64; DropReason::ALL.len()],
        last_peer: Option<SocketAddr>,
    ) -> Option<Self> {
        let mut packets = *dropped;
        for (reason, _) in DropReason::ALL {
            if reason.is_meant() {
                packets[reason as usize] = 0;
            }
        }
        let is_any = packets.iter().any(|packets| *packets > 0);
        is_any.then_some(Self { packets, last_peer })
    }

    pub(super) fn add(&mut self, newer: &Self) {
        for (packets, more) in self.packets.iter_mut().zip(newer.packets) {
            *packets += more;
        }
        // Where nobody is known to be the last, the one before is not: better nobody.
        self.last_peer = newer.last_peer;
    }

    /// The line. How many others were left out is no matter: it has the sum of them.
    pub(super) fn line(self, server: &str, _: LeftOut) -> Line {
        let total: u64 = self.packets.iter().sum();
        let mut text = format!("not answered on {server}: {total} datagrams (");
        for ((_, name), packets) in DropReason::ALL.iter().zip(self.packets) {
            if packets > 0 {
                let _ = write!(text, "{name}={packets} ");
            }
        }
        text.truncate(text.trim_end().len());
        text.push(')');
        if let Some(peer) = self.last_peer {
            let _ = write!(text, ", the last from {peer}");
        }
        Line {
            level: Level::Warning,
            name: "dropped",
            text,
        }
    }
}
