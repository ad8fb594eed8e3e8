//! What a UDP worker counts.

use super::observe::Drops;
use crate::stats::{Block, DropReason, Writer};
use crate::sys::RawAddress;

const REASONS: usize = DropReason::ALL.len();

/// Counters before the reasons, by name.
pub(super) const NAMES: [&str; 12] = [
    "received_packets",
    "received_bytes",
    "sent_packets",
    "sent_bytes",
    "truncated_packets",
    "records",
    "unfit_records",
    "receive_timeouts",
    "duplicated_packets",
    "corrupted_packets",
    "delayed_packets",
    "error_replies",
];

pub(super) const COUNTERS: usize = NAMES.len() + REASONS;

/// received + duplicated = sent + Σ dropped + pending, at any moment.
pub(super) fn pending(values: &[u64; COUNTERS], dropped: u64) -> u64 {
    values[0] + values[8] - values[2] - dropped
}

pub(super) type Counters = Block<COUNTERS>;

/// What one batch adds; published in one go.
#[derive(Clone, Default)]
pub(super) struct Tally {
    pub(super) received_packets: u64,
    pub(super) received_bytes: u64,
    pub(super) sent_packets: u64,
    pub(super) sent_bytes: u64,
    pub(super) truncated_packets: u64,
    pub(super) records: u64,
    pub(super) unfit_records: u64,
    pub(super) receive_timeouts: u64,
    pub(super) duplicated_packets: u64,
    pub(super) corrupted_packets: u64,
    pub(super) delayed_packets: u64,
    pub(super) error_replies: u64,
    dropped: [u64; REASONS],
    any_dropped: bool,
    any_unmeant: bool,
    /// Whose datagram was the last of those that were not meant to be dropped.
    last_dropped: Option<RawAddress>,
}

impl Tally {
    /// Counts datagrams of `peer` as not answered.
    pub(super) fn drop(&mut self, reason: DropReason, packets: u64, peer: &RawAddress) {
        self.dropped[reason as usize] += packets;
        self.any_dropped = true;
        if !reason.is_meant() && packets > 0 {
            self.any_unmeant = true;
            self.last_dropped = Some(*peer);
        }
    }

    /// The same for datagrams of several peers, of which none is the last.
    pub(super) fn drop_many(&mut self, reason: DropReason, packets: u64) {
        self.drop(reason, packets, &RawAddress::empty());
    }

    /// What was dropped and not meant to be, if anything was.
    pub(super) fn drops(&self) -> Option<Drops> {
        let peer = self.last_dropped.and_then(RawAddress::to_std);
        let drops = || Drops::new(&self.dropped, peer);
        self.any_unmeant.then(drops).flatten()
    }

    /// Adds this to the worker's counters and starts again from zero.
    pub(super) fn publish(&mut self, counters: &Counters) {
        counters.commit(|writer| {
            writer.add(0, self.received_packets);
            writer.add(1, self.received_bytes);
            writer.add(2, self.sent_packets);
            writer.add(3, self.sent_bytes);
            if self.is_rare() {
                self.publish_rare(writer);
            }
        });
        self.received_packets = 0;
        self.received_bytes = 0;
        self.sent_packets = 0;
        self.sent_bytes = 0;
        if self.is_rare() {
            *self = Self::default();
        }
    }

    /// Publishes what is accounted for already, in the midst of a batch that has to wait.
    #[cold]
    pub(super) fn publish_part(&mut self, counters: &Counters) {
        let accounted = self.sent_packets + self.dropped.iter().sum::<u64>();
        let (packets, bytes) = (self.received_packets - accounted, self.received_bytes);
        self.received_packets = accounted;
        self.received_bytes = 0;
        self.publish(counters);
        self.received_packets = packets;
        self.received_bytes = bytes;
    }

    fn is_rare(&self) -> bool {
        self.any_dropped
            || self.truncated_packets | self.records | self.unfit_records | self.receive_timeouts
                != 0
            || self.duplicated_packets
                | self.corrupted_packets
                | self.delayed_packets
                | self.error_replies
                != 0
    }

    #[cold]
    fn publish_rare(&self, writer: &Writer<'_, COUNTERS>) {
        writer.add(4, self.truncated_packets);
        writer.add(5, self.records);
        writer.add(6, self.unfit_records);
        writer.add(7, self.receive_timeouts);
        writer.add(8, self.duplicated_packets);
        writer.add(9, self.corrupted_packets);
        writer.add(10, self.delayed_packets);
        writer.add(11, self.error_replies);
        for (index, packets) in self.dropped.iter().enumerate() {
            writer.add(NAMES.len() + index, *packets);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_numbered_in_order() {
        for (number, (reason, _)) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
        }
    }

    #[test]
    fn publishing_adds_each_figure_to_its_own_counter_once() {
        let counters = Counters::new();
        let mut tally = Tally {
            received_packets: 1,
            received_bytes: 2,
            sent_packets: 3,
            sent_bytes: 4,
            truncated_packets: 5,
            records: 6,
            unfit_records: 7,
            receive_timeouts: 8,
            duplicated_packets: 9,
            corrupted_packets: 10,
            delayed_packets: 11,
            error_replies: 12,
            ..Tally::default()
        };
        tally.drop_many(DropReason::SendFailed, 13);
        tally.publish(&counters);
        tally.publish(&counters);
        let values = counters.snapshot();
        assert_eq!(values[..12], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(values[COUNTERS - 1], 13);
        assert_eq!(values.iter().sum::<u64>(), 91);
    }
}
