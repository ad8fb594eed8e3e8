//! All counters of a TCP worker, with their names.
//!
//! All counters only grow; what goes both ways is the difference of two, so that
//! accepted = active + Σ reasons and received = sent + discarded + pending hold exactly.
//!
//! Where a responder answers, what goes back is not what came: bytes are consumed by requests
//! and produced by replies, so received + produced = consumed + sent + discarded + pending;
//! and requests = replies + error replies + silent + failed + abandoned + pending.

use super::block::{self, Block};
use super::{Row, Totals, counted};
use crate::sys::stream::Broken;

counted! {
    /// What one worker counts.
    pub(crate) enum Count {
        Accepted: "accepted_connections",
        Received: "received_bytes",
        Sent: "sent_bytes",
        Discarded: "discarded_bytes",
        Refused: "refused_connections",
        Denied: "denied_connections",
        RefusedBySource: "refused_by_source",
        RefusedByRate: "refused_by_rate",
        AcceptErrors: "accept_errors",
        Records: "records",
        UnfitRecords: "unfit_records",
        /// Bytes that requests took, and that answers to them brought.
        Consumed: "consumed_bytes",
        Produced: "produced_bytes",
        Requests: "requests",
        Replies: "replies",
        ErrorReplies: "error_replies",
        SilentRequests: "silent_requests",
        FailedReplies: "failed_replies",
        AbandonedRequests: "abandoned_requests",
    }
}

counted! {
    /// Why a connection ended.
    pub(crate) enum Reason {
        /// The peer ended its stream, and got all of it back.
        Peer: "peer",
        /// The peer reset the connection.
        Reset: "reset",
        /// Nothing moved for the idle timeout.
        Idle: "idle",
        /// The peer read nothing for the send timeout.
        Stalled: "stalled",
        /// It reached the longest lifetime of a connection.
        Expired: "expired",
        /// It received less than the minimum rate.
        Slow: "slow",
        /// The server stopped.
        Stopped: "stopped",
        /// The server had sent all that it had to say: RFC 867, RFC 868, an error that ends it.
        Finished: "finished",
        /// An impairment ended it.
        Impaired: "impaired",
        /// The network or the system failed it.
        Error: "error",
    }
}

impl From<Broken> for Reason {
    fn from(broken: Broken) -> Self {
        if broken.is_reset() {
            Reason::Reset
        } else {
            Reason::Error
        }
    }
}

const COUNTS: usize = Count::ALL.len();

/// Counters of one worker: those of [`Count`], then those of [`Reason`].
pub(crate) const LENGTH: usize = COUNTS + Reason::ALL.len();

const ACTIVE: &str = "active_connections";
const PENDING_BYTES: &str = "pending_bytes";
const PENDING_REQUESTS: &str = "pending_requests";

/// What a TCP server tells, beside the reasons.
#[cfg_attr(not(feature = "python"), allow(dead_code))]
pub(crate) fn table() -> Vec<Row> {
    let counters = Count::ALL.map(|count| Row::counter(count.name()));
    let gauges = [ACTIVE, PENDING_BYTES, PENDING_REQUESTS].map(Row::gauge);
    [counters.as_slice(), &gauges].concat()
}

/// What a worker has counted since it last told.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counts: [u64; LENGTH],
    is_dirty: bool,
}

impl Tally {
    pub(crate) fn add(&mut self, count: Count, amount: usize) {
        self.counts[count as usize] += amount as u64;
        self.is_dirty = true;
    }

    /// Bytes that came and go nowhere.
    pub(crate) fn discarded(&mut self, count: usize) {
        if count > 0 {
            self.add(Count::Discarded, count);
        }
    }

    pub(crate) fn ended(&mut self, reason: Reason) {
        self.counts[COUNTS + reason as usize] += 1;
        self.is_dirty = true;
    }

    /// Tells all of it at once.
    pub(crate) fn publish(&mut self, block: &Block<LENGTH>) {
        if self.is_dirty {
            block.commit(|writer| {
                for (index, amount) in self.counts.iter().enumerate() {
                    writer.add(index, *amount);
                }
            });
            *self = Self::default();
        }
        block.release();
    }
}

/// Adds several workers' counters up.
pub(crate) fn totals(blocks: &[Block<LENGTH>]) -> Totals {
    let values = block::total(blocks);
    let all = |counts: &[Count]| counts.iter().map(|one| values[*one as usize]).sum::<u64>();
    let ended: u64 = values[COUNTS..].iter().sum();
    let came = all(&[Count::Received, Count::Produced]);
    let gone = all(&[Count::Consumed, Count::Sent, Count::Discarded]);
    let done = all(&[
        Count::Replies,
        Count::ErrorReplies,
        Count::SilentRequests,
        Count::FailedReplies,
        Count::AbandonedRequests,
    ]);
    let mut counters: Vec<_> = Count::ALL.map(|one| (one.name(), all(&[one]))).into();
    counters.push((ACTIVE, all(&[Count::Accepted]) - ended));
    counters.push((PENDING_BYTES, came - gone));
    counters.push((PENDING_REQUESTS, all(&[Count::Requests]) - done));
    let reasons = Reason::ALL.map(|one| (one.name(), values[COUNTS + one as usize]));
    Totals {
        counters,
        reasons: reasons.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_workers_add_up_and_differences_are_exact() {
        let blocks = [Block::new(), Block::new()];
        for block in &blocks {
            let mut tally = Tally::default();
            tally.add(Count::Accepted, 3);
            tally.add(Count::Received, 100);
            tally.add(Count::Sent, 70);
            tally.add(Count::Discarded, 10);
            tally.ended(Reason::Stalled);
            tally.publish(block);
            tally.publish(block);
        }
        let totals = totals(&blocks);
        let get = |figures: &[(&str, u64)], name| {
            figures
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| *value)
        };
        assert_eq!(get(&totals.counters, "accepted_connections"), Some(6));
        assert_eq!(get(&totals.counters, "active_connections"), Some(4));
        assert_eq!(get(&totals.counters, "pending_bytes"), Some(40));
        assert_eq!(get(&totals.reasons, "stalled"), Some(2));
        assert_eq!(
            totals.reasons.iter().map(|(_, value)| value).sum::<u64>(),
            2
        );
    }
}
