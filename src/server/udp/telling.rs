//! Telling of datagrams, for those who asked. Not on the fast path: entered only while
//! somebody listens, or when something was dropped.

use std::net::SocketAddr;

use crate::books::DropReason;
use crate::datagram::{Entry, Message, Slots};
use crate::event::{self, Level, Line, Lines, Observer, Part, Parts, What};
use crate::throttle::LeftOut;

/// Copies the datagrams of a batch out as events: what they were, and why they are not answered.
pub(super) struct Teller<'a> {
    observer: &'a Observer,
    /// Bytes of each payload; `None`: no event for each datagram.
    access: Option<usize>,
    /// Length of a record, where datagrams are records.
    record_bytes: Option<usize>,
    time_ns: u64,
}

impl<'a> Teller<'a> {
    #[cold]
    pub(super) fn new(
        observer: &'a Observer,
        access: Option<usize>,
        record_bytes: Option<usize>,
    ) -> Self {
        Self {
            observer,
            access,
            record_bytes,
            time_ns: event::now_ns(),
        }
    }

    /// Tells of all; returns how many records and misfits there were.
    pub(super) fn tell_all(&self, messages: &[Message], slots: Slots<'_>) -> (u64, u64) {
        let (mut records, mut misfits) = (0, 0);
        for (slot, message) in messages.iter().enumerate() {
            let came = &message.came;
            let Some(peer) = came.source.to_std() else {
                continue;
            };
            let (mut offset, admitted) = (0, message.admitted_bytes);
            for length in came.lengths() {
                let datagram = slots.data(slot, offset, length);
                offset += length;
                let is_admitted = admitted.is_some_and(|bytes| offset <= bytes);
                let dropped = message.dropped.filter(|_| !is_admitted);
                match self.tell(peer, datagram, dropped) {
                    Some(true) => records += 1,
                    Some(false) => misfits += 1,
                    None => {}
                }
            }
        }
        (records, misfits)
    }

    /// Tells of one; whether it is a record, where there are such.
    fn tell(&self, peer: SocketAddr, datagram: &[u8], dropped: Option<DropReason>) -> Option<bool> {
        let length = datagram.len();
        if let Some(most) = self.access {
            let what = What::Received {
                peer,
                length,
                data: head(datagram, most),
                dropped: dropped.map(DropReason::name),
            };
            self.observer.frequent(self.time_ns, what);
        }
        // What is not answered is not taken for data either.
        let record_bytes = self.record_bytes.filter(|_| dropped.is_none())?;
        let is_record = length == record_bytes;
        let what = if is_record {
            let data = datagram.into();
            What::Record { peer, data }
        } else {
            let data = head(datagram, MISFIT_BYTES);
            What::Unfit { peer, length, data }
        };
        self.observer.frequent(self.time_ns, what);
        Some(is_record)
    }
}

/// What came of what was to be sent.
#[cold]
pub(super) fn tell_answered(observer: &Observer, time_ns: u64, entries: &[Entry]) {
    for entry in entries {
        let Some(peer) = entry.transmit.to.to_std() else {
            continue;
        };
        let dropped = entry.failed.map(DropReason::name);
        for length in entry.lengths() {
            let what = What::Answered {
                peer,
                length,
                dropped,
            };
            observer.frequent(time_ns, what);
        }
    }
}

/// Enough of a misfit to see what it is.
const MISFIT_BYTES: usize = 64;

fn head(data: &[u8], most: usize) -> Box<[u8]> {
    data[..data.len().min(most)].into()
}

/// What was not answered since the last line about it, and the last who was not.
pub(super) struct Drops {
    packets: [u64; DropReason::ALL.len()],
    last_peer: Option<SocketAddr>,
}

impl Default for Drops {
    // Arrays of more than 32 have none that is derived.
    fn default() -> Self {
        Self {
            packets: [0; DropReason::ALL.len()],
            last_peer: None,
        }
    }
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
        for reason in DropReason::ALL {
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
        let counts = DropReason::ALL.iter().zip(self.packets);
        let counts = counts.filter(|(_, packets)| *packets > 0);
        let counts: Vec<_> = counts
            .map(|(reason, packets)| (reason.name(), packets))
            .collect();
        let told: Vec<String> = counts
            .iter()
            .map(|(name, packets)| format!("{name}={packets}"))
            .collect();
        let datagrams = if total == 1 { "datagram" } else { "datagrams" };
        let told = told.join(" ");
        let mut text = format!("{server} did not answer {total} {datagrams} ({told})");
        let mut parts: Parts = vec![("packets", total.into()), ("reasons", Part::Counts(counts))];
        if let Some(peer) = self.last_peer {
            text += &format!(", the last from {peer}");
            parts.push(("peer", peer.into()));
        }
        Line {
            level: Level::Warning,
            name: "dropped",
            text,
            parts,
        }
    }
}
