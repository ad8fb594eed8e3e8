//! What a TCP server counts, and how it is told.
//!
//! All counters only grow; what goes both ways is the difference of two, so that
//! accepted = active + Σ reasons and received = sent + discarded + pending hold exactly.
//!
//! Where a responder answers, what goes back is not what came: bytes are consumed by requests
//! and produced by replies, so received + produced = consumed + sent + discarded + pending;
//! and requests = replies + error replies + silent + failed + abandoned + pending.

use crate::books::block::{self as stats, Block};
use crate::server::Stats;
use crate::sys::stream::Broken;

/// What one worker counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    Accepted,
    Received,
    Sent,
    Discarded,
    Refused,
    Denied,
    RefusedBySource,
    AcceptErrors,
    Records,
    UnfitRecords,
    /// Bytes that requests took, and that answers to them brought.
    Consumed,
    Produced,
    Requests,
    Replies,
    ErrorReplies,
    SilentRequests,
    FailedReplies,
    AbandonedRequests,
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// The peer ended its stream, and got all of it back.
    Peer,
    /// The peer reset the connection.
    Reset,
    /// Nothing moved for the idle timeout.
    Idle,
    /// The peer took nothing for the send timeout.
    Stalled,
    /// It had lived as long as a connection may.
    Expired,
    /// Too little came over it.
    Slow,
    /// The server stopped.
    Stopped,
    /// The server had said all that it would: RFC 867, RFC 868, an error that ends it.
    Finished,
    /// What is spoiled on purpose ended it.
    Impaired,
    /// The network or the system failed it.
    Error,
}

impl From<Broken> for Reason {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Reset => Reason::Reset,
            Broken::Error => Reason::Error,
        }
    }
}

const COUNTS: usize = Count::AbandonedRequests as usize + 1;
const REASONS: [&str; 10] = [
    "peer", "reset", "idle", "stalled", "expired", "slow", "stopped", "finished", "impaired",
    "error",
];
/// Counters of one worker: those of [`Count`], then those of [`Reason`].
pub(super) const LENGTH: usize = COUNTS + REASONS.len();

impl Reason {
    pub(super) fn name(self) -> &'static str {
        REASONS[self as usize]
    }
}

/// What a worker has counted since it last told.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: [u64; LENGTH],
    is_dirty: bool,
}

impl Tally {
    pub(super) fn add(&mut self, count: Count, amount: usize) {
        self.counts[count as usize] += amount as u64;
        self.is_dirty = true;
    }

    pub(super) fn ended(&mut self, reason: Reason) {
        self.counts[COUNTS + reason as usize] += 1;
        self.is_dirty = true;
    }

    /// Tells all of it at once.
    pub(super) fn publish(&mut self, block: &Block<LENGTH>) {
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

/// All workers' counters, for people.
pub(super) fn stats(blocks: &[Block<LENGTH>], kernel_drops: Option<u64>) -> Stats {
    let total = stats::total(blocks);
    let get = |count: Count| total[count as usize];
    let ended: u64 = total[COUNTS..].iter().sum();
    let gone = get(Count::Consumed) + get(Count::Sent) + get(Count::Discarded);
    let done = [
        Count::Replies,
        Count::ErrorReplies,
        Count::SilentRequests,
        Count::FailedReplies,
        Count::AbandonedRequests,
    ];
    let done: u64 = done.into_iter().map(get).sum();
    Stats {
        counters: vec![
            ("accepted_connections", get(Count::Accepted)),
            ("active_connections", get(Count::Accepted) - ended),
            ("received_bytes", get(Count::Received)),
            ("sent_bytes", get(Count::Sent)),
            ("discarded_bytes", get(Count::Discarded)),
            (
                "pending_bytes",
                get(Count::Received) + get(Count::Produced) - gone,
            ),
            ("refused_connections", get(Count::Refused)),
            ("denied_connections", get(Count::Denied)),
            ("refused_by_source", get(Count::RefusedBySource)),
            ("accept_errors", get(Count::AcceptErrors)),
            ("records", get(Count::Records)),
            ("unfit_records", get(Count::UnfitRecords)),
            ("consumed_bytes", get(Count::Consumed)),
            ("produced_bytes", get(Count::Produced)),
            ("requests", get(Count::Requests)),
            ("replies", get(Count::Replies)),
            ("error_replies", get(Count::ErrorReplies)),
            ("silent_requests", get(Count::SilentRequests)),
            ("failed_replies", get(Count::FailedReplies)),
            ("abandoned_requests", get(Count::AbandonedRequests)),
            ("pending_requests", get(Count::Requests) - done),
        ],
        reasons: REASONS
            .iter()
            .copied()
            .zip(total[COUNTS..].iter().copied())
            .collect(),
        kernel_drops,
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
        let stats = stats(&blocks, Some(4));
        assert_eq!(stats.get("accepted_connections"), 6);
        assert_eq!(stats.get("active_connections"), 4);
        assert_eq!(stats.get("pending_bytes"), 40);
        assert_eq!(stats.reason("stalled"), 2);
        assert_eq!(stats.reasons_total(), 2);
        assert_eq!(stats.kernel_drops, Some(4));
    }
}
