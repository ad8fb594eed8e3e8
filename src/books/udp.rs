//! All counters of a UDP worker, with their names.
//!
//! Law, at any moment:
//! received + duplicated + produced = sent + Σ dropped + consumed + pending.

use super::block::{self, Block, Writer};
use super::{Row, Totals, counted};
use crate::sys::RawAddress;

counted! {
    /// Counters beside those of the reasons. The first [`HOT`] change with each batch.
    pub(crate) enum Count {
        ReceivedPackets: "received_packets",
        ReceivedBytes: "received_bytes",
        SentPackets: "sent_packets",
        SentBytes: "sent_bytes",
        TruncatedPackets: "truncated_packets",
        Records: "records",
        UnfitRecords: "unfit_records",
        ReceiveTimeouts: "receive_timeouts",
        DuplicatedPackets: "duplicated_packets",
        CorruptedPackets: "corrupted_packets",
        DelayedPackets: "delayed_packets",
        ErrorReplies: "error_replies",
        /// Datagrams that a protocol took in, and does not answer one by one.
        ConsumedPackets: "consumed_packets",
        /// Datagrams that a protocol sends by itself.
        ProducedPackets: "produced_packets",
        /// Large messages that came whole.
        ReceivedTransfers: "received_transfers",
        /// Large messages that were pulled, and arrived.
        SentTransfers: "sent_transfers",
        /// Large messages that did not arrive, either way.
        FailedTransfers: "failed_transfers",
        /// Packets of large messages with other bytes than those that were there: the first win.
        ConflictingPackets: "conflicting_packets",
    }
}

counted! {
    /// Why a datagram is not answered.
    pub enum DropReason {
        /// The source port is 0: no reply can be sent (EINVAL).
        SourcePortZero: "source_port_zero",
        /// The source address is 0.0.0.0 or ::.
        SourceUnspecified: "source_unspecified",
        /// The source is in 0.0.0.0/8 (RFC 1122 §3.2.1.3).
        SourceZeroNetwork: "source_zero_network",
        /// The source is 255.255.255.255.
        SourceBroadcast: "source_broadcast",
        /// The source is a multicast address.
        SourceMulticast: "source_multicast",
        /// The source is the server's own address and port: it would answer itself.
        OwnAddress: "own_address",
        /// It was sent to a broadcast address.
        ToBroadcast: "to_broadcast",
        /// It was sent to a multicast address.
        ToMulticast: "to_multicast",
        /// It was longer than the buffer (MSG_TRUNC).
        Truncated: "truncated",
        /// Control data was lost, so it may be several datagrams that look like one.
        Merged: "merged",
        /// The socket did not say to which of its addresses it was sent, as it had been told to.
        DestinationUnknown: "destination_unknown",
        /// The source is not on the `allow` list, or is on the `deny` list.
        Denied: "denied",
        /// The source port is one of a service that answers whatever it gets.
        ServicePort: "service_port",
        /// It circulated between this server and another one.
        EchoLoop: "echo_loop",
        /// It repeats a reply to its source, which has done so often enough that it may be an
        /// echo.
        Repeated: "repeated",
        /// The source has used up its rate.
        RateLimited: "rate_limited",
        /// All sources together have used up their rate.
        RateLimitedTotal: "rate_limited_total",
        /// The reply would be much longer than the request, so a forger could use it as an amplifier.
        Amplification: "amplification",
        /// Broadcasts come more often than they may be answered.
        BroadcastLimited: "broadcast_limited",
        /// It is an error reply itself, which is not answered with an error.
        ErrorReply: "error_reply",
        /// The responder chose not to answer.
        NoReply: "no_reply",
        /// The responder failed.
        ResponderFailed: "responder_failed",
        /// A bad packet of a transfer: its checksum, version or a length is wrong.
        TransferMalformed: "transfer_malformed",
        /// A packet of an unknown transfer.
        TransferUnknown: "transfer_unknown",
        /// A limit on open transfers or their memory was reached.
        TransferLimit: "transfer_limit",
        /// An impairment lost it.
        ImpairLost: "impair_lost",
        /// An impairment's queue was full.
        ImpairOverflow: "impair_overflow",
        /// The server ended before the answer was due.
        Stopped: "stopped",
        /// No room in the send buffer within the send timeout.
        SendBufferFull: "send_buffer_full",
        /// A packet filter forbade the reply (EPERM).
        SendFiltered: "send_filtered",
        /// No route, or no address to send from.
        SendUnreachable: "send_unreachable",
        /// The reply is too long for the way back (EMSGSIZE).
        SendTooLarge: "send_too_large",
        /// The system refuses to send there (EACCES: a broadcast address).
        SendRefused: "send_refused",
        /// Any other failure of the send.
        SendFailed: "send_failed",
    }
}

impl DropReason {
    /// True where it is what the server was set up to do: nothing to warn of.
    pub fn is_meant(self) -> bool {
        matches!(
            self,
            DropReason::NoReply | DropReason::ImpairLost | DropReason::ImpairOverflow
        )
    }
}

const HOT: usize = 4;
const REASONS: usize = DropReason::ALL.len();
const COUNTS: usize = Count::ALL.len();

/// All counters of a worker: [`Count`], then [`DropReason`].
pub(crate) const COUNTERS: usize = COUNTS + REASONS;

/// One worker's counters, for anyone to read.
pub(crate) type Counters = Block<COUNTERS>;

/// Datagrams that are held back, or whose answer has been promised.
const PENDING: &str = "pending_packets";

/// What a UDP server tells, beside the reasons.
#[cfg_attr(not(feature = "python"), allow(dead_code))]
pub(crate) fn table() -> Vec<Row> {
    let mut rows = Count::ALL.map(|count| Row::counter(count.name())).to_vec();
    rows.push(Row::gauge(PENDING));
    rows
}

/// Adds several workers' counters up.
pub(crate) fn totals(blocks: &[Counters]) -> Totals {
    let values = block::total(blocks);
    let count = |count: Count| values[count as usize];
    let dropped = DropReason::ALL.map(|reason| (reason.name(), values[index_of(reason)]));
    let all_dropped: u64 = dropped.iter().map(|(_, value)| value).sum();
    let mut counters: Vec<_> = Count::ALL.map(|one| (one.name(), count(one))).into();
    let came = count(Count::ReceivedPackets)
        + count(Count::DuplicatedPackets)
        + count(Count::ProducedPackets);
    let gone = count(Count::SentPackets) + count(Count::ConsumedPackets) + all_dropped;
    counters.push((PENDING, came - gone));
    Totals {
        counters,
        reasons: dropped.into(),
    }
}

fn index_of(reason: DropReason) -> usize {
    COUNTS + reason as usize
}

/// What one batch adds; published in one go.
#[derive(Clone)]
pub(crate) struct Tally {
    counts: [u64; COUNTERS],
    /// Something beyond the hot ones was counted.
    is_rare: bool,
    any_unmeant: bool,
    /// Whose datagram was the last of those that were not meant to be dropped.
    last_dropped: Option<RawAddress>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            counts: [0; COUNTERS],
            is_rare: false,
            any_unmeant: false,
            last_dropped: None,
        }
    }
}

impl Tally {
    /// Adds to a counter.
    #[inline]
    pub(crate) fn add(&mut self, count: Count, amount: u64) {
        self.counts[count as usize] += amount;
        self.is_rare |= count as usize >= HOT && amount > 0;
    }

    /// Counts datagrams of `peer` as not answered.
    pub(crate) fn drop(&mut self, reason: DropReason, packets: u64, peer: &RawAddress) {
        self.counts[index_of(reason)] += packets;
        self.is_rare = true;
        if !reason.is_meant() && packets > 0 {
            self.any_unmeant = true;
            self.last_dropped = Some(*peer);
        }
    }

    /// What was counted since it was published last.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn count(&self, count: Count) -> u64 {
        self.counts[count as usize]
    }

    /// What was dropped since then, for this reason.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn dropped(&self, reason: DropReason) -> u64 {
        self.counts[index_of(reason)]
    }

    /// The same for datagrams of several peers, of which none is the last.
    pub(crate) fn drop_many(&mut self, reason: DropReason, packets: u64) {
        self.drop(reason, packets, &RawAddress::empty());
    }

    /// What was dropped by reason, and whose datagram was the last, if any was dropped that was
    /// not meant to be.
    pub(crate) fn drops(&self) -> Option<([u64; REASONS], Option<RawAddress>)> {
        let dropped = std::array::from_fn(|index| self.counts[COUNTS + index]);
        self.any_unmeant.then_some((dropped, self.last_dropped))
    }

    /// Adds this to the worker's counters and starts again from zero.
    #[inline]
    pub(crate) fn publish(&mut self, counters: &Counters) {
        counters.commit(|writer| {
            for (index, amount) in self.counts[..HOT].iter().enumerate() {
                writer.add(index, *amount);
            }
            if self.is_rare {
                self.publish_rare(writer);
            }
        });
        self.counts[..HOT].fill(0);
        if self.is_rare {
            *self = Self::default();
        }
    }

    /// Publishes what is accounted for already, in the midst of a batch that has to wait.
    #[cold]
    pub(crate) fn publish_part(&mut self, counters: &Counters) {
        let [packets, bytes, sent, _] = self.hot();
        let accounted = sent + self.counts[COUNTS..].iter().sum::<u64>();
        self.counts[Count::ReceivedPackets as usize] = accounted;
        self.counts[Count::ReceivedBytes as usize] = 0;
        self.publish(counters);
        self.counts[Count::ReceivedPackets as usize] = packets - accounted;
        self.counts[Count::ReceivedBytes as usize] = bytes;
    }

    fn hot(&self) -> [u64; HOT] {
        std::array::from_fn(|index| self.counts[index])
    }

    #[cold]
    fn publish_rare(&self, writer: &Writer<'_, COUNTERS>) {
        for (index, amount) in self.counts.iter().enumerate().skip(HOT) {
            writer.add(index, *amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishing_adds_each_figure_to_its_own_counter_once() {
        let blocks = [Counters::new()];
        let mut tally = Tally::default();
        for count in Count::ALL {
            tally.add(count, 100 + count as u64);
        }
        tally.drop_many(DropReason::SendFailed, 2);
        tally.publish(&blocks[0]);
        tally.publish(&blocks[0]);
        let totals = totals(&blocks);
        for count in Count::ALL {
            assert!(
                totals
                    .counters
                    .contains(&(count.name(), 100 + count as u64))
            );
        }
        // 100 received, 108 duplicated and 113 produced; 102 sent, 112 consumed and 2 dropped.
        assert!(totals.counters.contains(&(PENDING, 105)));
        assert!(totals.reasons.contains(&("send_failed", 2)));
        assert_eq!(
            totals.reasons.iter().map(|(_, value)| value).sum::<u64>(),
            2
        );
    }

    #[test]
    fn what_is_published_in_part_is_accounted_for() {
        let blocks = [Counters::new()];
        let mut tally = Tally::default();
        tally.add(Count::ReceivedPackets, 10);
        tally.add(Count::SentPackets, 3);
        tally.drop_many(DropReason::Denied, 2);
        tally.publish_part(&blocks[0]);
        assert_eq!(blocks[0].snapshot()[..3], [5, 0, 3]);
        tally.publish(&blocks[0]);
        assert_eq!(blocks[0].snapshot()[0], 10);
    }
}
