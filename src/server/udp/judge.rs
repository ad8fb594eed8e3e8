//! What becomes of a message: whether it is answered, and how much of it.

use crate::books::DropReason;
use crate::books::udp::{Count, Tally};
use crate::datagram::{Message, Received};
use crate::guard::Guard;
use crate::guard::sources::Sources;
use crate::net::udp::Endpoint;
use crate::net::udp::engine::Engine;

/// One worker's.
pub(super) struct Judge {
    pub(super) sources: Sources,
    pub(super) guard: Guard,
    /// The user asked for datagrams to be cut, so a cut one is answered.
    pub(super) answer_truncated: bool,
}

impl Judge {
    /// Takes a message out of its slot, counts it in, and says what is to be answered.
    #[inline]
    pub(super) fn take<E: Engine>(
        &mut self,
        endpoint: &mut Endpoint<E>,
        slot: usize,
        tally: &mut Tally,
    ) -> Message {
        let came = endpoint.take(slot);
        let mut message = Message {
            came,
            admitted_bytes: None,
            dropped: None,
            reply_hop_limit: 0,
        };
        if came.source.is_empty() && came.length == 0 {
            // What a receive gives on a socket that was shut down: nobody sent it.
            message.dropped = Some(DropReason::SourceUnspecified);
            return message;
        }
        let packets = came.datagrams();
        tally.add(Count::ReceivedPackets, packets);
        tally.add(Count::ReceivedBytes, came.length as u64);
        if came.truncated {
            tally.add(Count::TruncatedPackets, packets);
        }
        message.dropped = self.refuse(endpoint, &came);
        if let Some(reason) = message.dropped {
            tally.drop(reason, packets, &came.source);
            return message;
        }
        let data = endpoint.slots().data(slot, 0, came.length);
        let (grant, hop_limit) = self.guard.weigh(&came, packets, data);
        message.reply_hop_limit = hop_limit;
        if let Some(reason) = grant.reason {
            message.dropped = Some(reason);
            tally.drop(reason, packets - grant.datagrams, &came.source);
        }
        message.admitted_bytes = match grant.datagrams {
            0 => None,
            all if all == packets => Some(came.length),
            some => Some(came.segment_bytes * some as usize),
        };
        message
    }

    /// Why nothing of a message is answered, whoever sent it how often.
    #[inline]
    fn refuse<E: Engine>(
        &mut self,
        endpoint: &mut Endpoint<E>,
        came: &Received,
    ) -> Option<DropReason> {
        let verdict = self
            .sources
            .judge(&came.source, came.destination)
            .or_else(|| self.guard.admit(&came.source));
        let is_train = came.segment_bytes > 0;
        // Of a train it is not a datagram that was cut, but the rest that is missing.
        let is_cut = came.truncated && (!self.answer_truncated || is_train);
        let may_be_merged = came.maybe_merged && !is_train && endpoint.has_trains();
        // From whichever address the kernel chose, to a group perhaps.
        let is_lost = endpoint.lacks_destination(came);
        verdict
            .or(is_cut.then_some(DropReason::Truncated))
            .or(may_be_merged.then_some(DropReason::Merged))
            .or(is_lost.then_some(DropReason::DestinationUnknown))
    }
}
