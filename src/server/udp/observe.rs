//! Telling of datagrams, for those who asked. Not on the fast path: entered only while
//! somebody listens, or when something was dropped.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::{self, Level, Observer, What};
use crate::stats::DropReason;
use crate::sys::message::Received;

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

/// One line a second at most about what was not answered.
pub(super) struct DropLog {
    observer: Arc<Observer>,
    waiting: [u64; DropReason::ALL.len()],
    last_peer: Option<std::net::SocketAddr>,
    last_line: Option<Instant>,
}

impl DropLog {
    pub(super) fn new(observer: Arc<Observer>) -> Self {
        Self {
            observer,
            waiting: [0; DropReason::ALL.len()],
            last_peer: None,
            last_line: None,
        }
    }

    /// Adds drops, the last of them from `peer`, and writes a line if one is due.
    pub(super) fn add(
        &mut self,
        dropped: &[u64; DropReason::ALL.len()],
        peer: Option<std::net::SocketAddr>,
    ) {
        for ((reason, _), packets) in DropReason::ALL.iter().zip(dropped) {
            if !reason.is_meant() {
                self.waiting[*reason as usize] += packets;
            }
        }
        self.last_peer = peer.or(self.last_peer);
        if self
            .last_line
            .is_none_or(|at| at.elapsed() >= Duration::from_secs(1))
        {
            self.last_line = Some(Instant::now());
            self.write();
        }
    }

    /// Writes what has not been told yet.
    pub(super) fn write(&mut self) {
        let total: u64 = self.waiting.iter().sum();
        if total == 0 {
            return;
        }
        let mut text = format!(
            "not answered on {}: {total} datagrams (",
            self.observer.server()
        );
        for ((_, name), packets) in DropReason::ALL.iter().zip(self.waiting) {
            if packets > 0 {
                let _ = write!(text, "{name}={packets} ");
            }
        }
        text.truncate(text.trim_end().len());
        text.push(')');
        if let Some(peer) = self.last_peer {
            let _ = write!(text, ", the last from {peer}");
        }
        self.waiting = [0; DropReason::ALL.len()];
        let what = What::Notice {
            level: Level::Warning,
            name: "dropped",
            text,
        };
        self.observer.frequent(event::now_ns(), what);
    }
}
