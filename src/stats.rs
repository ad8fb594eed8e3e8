//! Counters that one thread writes and anyone may read, consistent in themselves.
//!
//! A worker opens its block when a batch has come and commits when the batch is answered; a
//! reader that comes in between waits for the commit. So a reader at any moment finds
//! received = answered + Σ dropped, exactly, and whoever has got a reply finds it counted.
//! No lock and no read-modify-write: one writer, and a sequence number around its stores
//! (a seqlock) that tells a reader to look again.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

/// A reader that has looked so often in vain goes to sleep between its looks.
const PATIENT_ATTEMPTS: u32 = 100;

const BETWEEN_ATTEMPTS: Duration = Duration::from_micros(100);

/// `N` counters of one worker, on cache lines of their own so that two workers never
/// share one.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Block<const N: usize> {
    /// Odd while the writer is between two states.
    sequence: AtomicU64,
    values: [AtomicU64; N],
}

impl<const N: usize> Block<N> {
    pub(crate) fn new() -> Self {
        Self {
            sequence: AtomicU64::new(0),
            values: [const { AtomicU64::new(0) }; N],
        }
    }

    /// Makes readers wait for the next [`Block::commit`]. The writer's thread only.
    pub(crate) fn open(&self) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        if sequence.is_multiple_of(2) {
            self.sequence
                .store(sequence.wrapping_add(1), Ordering::Relaxed);
            // The odd number must be seen before any of the changes is, and before any
            // reply that they count.
            fence(Ordering::SeqCst);
        }
    }

    /// Adds to the counters; readers see all of it or nothing. The writer's thread only.
    pub(crate) fn commit(&self, change: impl FnOnce(&Writer<'_, N>)) {
        self.open();
        change(&Writer(self));
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence
            .store(sequence.wrapping_add(1), Ordering::Release);
    }

    /// Lets readers go on, whatever happened to the batch: for a writer that goes away.
    pub(crate) fn release(&self) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        if sequence % 2 == 1 {
            self.sequence
                .store(sequence.wrapping_add(1), Ordering::Release);
        }
    }

    /// All counters as they were at one moment.
    pub(crate) fn snapshot(&self) -> [u64; N] {
        for attempt in 0_u32.. {
            match attempt {
                0 => {}
                // A batch takes microseconds; its worker may need this very CPU for it.
                1..=PATIENT_ATTEMPTS => std::thread::yield_now(),
                // This one takes longer, for whatever reason: asking costs no CPU by then.
                _ => std::thread::sleep(BETWEEN_ATTEMPTS),
            }
            let before = self.sequence.load(Ordering::Acquire);
            let values = std::array::from_fn(|i| self.values[i].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.sequence.load(Ordering::Relaxed) == before {
                return values;
            }
        }
        unreachable!("attempts do not run out");
    }
}

/// Write access inside [`Block::commit`].
pub(crate) struct Writer<'a, const N: usize>(&'a Block<N>);

impl<const N: usize> Writer<'_, N> {
    /// Adds to one counter.
    pub(crate) fn add(&self, index: usize, amount: u64) {
        let value = &self.0.values[index];
        value.store(
            value.load(Ordering::Relaxed).wrapping_add(amount),
            Ordering::Relaxed,
        );
    }
}

/// The sum of several workers' counters.
pub(crate) fn total<const N: usize>(blocks: &[Block<N>]) -> [u64; N] {
    let mut sum = [0; N];
    for block in blocks {
        for (total, value) in sum.iter_mut().zip(block.snapshot()) {
            *total += value;
        }
    }
    sum
}

/// Why a datagram is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// The source port is 0: no reply can be sent (EINVAL).
    SourcePortZero,
    /// The source address is 0.0.0.0 or ::.
    SourceUnspecified,
    /// The source is in 0.0.0.0/8 (RFC 1122 §3.2.1.3).
    SourceZeroNetwork,
    /// The source is 255.255.255.255.
    SourceBroadcast,
    /// The source is a multicast address.
    SourceMulticast,
    /// The source is the server's own address and port: it would answer itself.
    OwnAddress,
    /// It was sent to a broadcast address.
    ToBroadcast,
    /// It was sent to a multicast address.
    ToMulticast,
    /// It was longer than the buffer (MSG_TRUNC).
    Truncated,
    /// Control data was lost, so it may be several datagrams that look like one.
    Merged,
    /// The socket did not say to which of its addresses it was sent, as it had been told to.
    DestinationUnknown,
    /// The source is on no `allow` list, or on the `deny` list.
    Denied,
    /// The source port is one of a service that answers whatever it gets.
    ServicePort,
    /// It went round and round between this server and another one.
    EchoLoop,
    /// Its source was sent the same bytes before, and has sent back so much of that by now that
    /// it may be an echo.
    Repeated,
    /// The source has used up its rate.
    RateLimited,
    /// All sources together have used up their rate.
    RateLimitedTotal,
    /// The reply would be so much longer than the request that a forger could use it.
    Amplification,
    /// Broadcasts are answered less often than that.
    BroadcastLimited,
    /// It is an error reply, which is not answered with an error.
    ErrorReply,
    /// The responder did not want to answer.
    NoReply,
    /// The responder failed.
    ResponderFailed,
    /// An impairment lost it.
    ImpairLost,
    /// An impairment's queue was full.
    ImpairOverflow,
    /// The server ended before the answer was due.
    Stopped,
    /// No room in the send buffer within the send timeout.
    SendBufferFull,
    /// A packet filter forbade the reply (EPERM).
    SendFiltered,
    /// No route, or no address to send from.
    SendUnreachable,
    /// The reply is too long for the way back (EMSGSIZE).
    SendTooLarge,
    /// The system refuses to send there (EACCES: a broadcast address).
    SendRefused,
    /// Any other failure of the send.
    SendFailed,
}

impl DropReason {
    /// All, in the order of their numbers.
    pub const ALL: [(DropReason, &'static str); 31] = [
        (DropReason::SourcePortZero, "source_port_zero"),
        (DropReason::SourceUnspecified, "source_unspecified"),
        (DropReason::SourceZeroNetwork, "source_zero_network"),
        (DropReason::SourceBroadcast, "source_broadcast"),
        (DropReason::SourceMulticast, "source_multicast"),
        (DropReason::OwnAddress, "own_address"),
        (DropReason::ToBroadcast, "to_broadcast"),
        (DropReason::ToMulticast, "to_multicast"),
        (DropReason::Truncated, "truncated"),
        (DropReason::Merged, "merged"),
        (DropReason::DestinationUnknown, "destination_unknown"),
        (DropReason::Denied, "denied"),
        (DropReason::ServicePort, "service_port"),
        (DropReason::EchoLoop, "echo_loop"),
        (DropReason::Repeated, "repeated"),
        (DropReason::RateLimited, "rate_limited"),
        (DropReason::RateLimitedTotal, "rate_limited_total"),
        (DropReason::Amplification, "amplification"),
        (DropReason::BroadcastLimited, "broadcast_limited"),
        (DropReason::ErrorReply, "error_reply"),
        (DropReason::NoReply, "no_reply"),
        (DropReason::ResponderFailed, "responder_failed"),
        (DropReason::ImpairLost, "impair_lost"),
        (DropReason::ImpairOverflow, "impair_overflow"),
        (DropReason::Stopped, "stopped"),
        (DropReason::SendBufferFull, "send_buffer_full"),
        (DropReason::SendFiltered, "send_filtered"),
        (DropReason::SendUnreachable, "send_unreachable"),
        (DropReason::SendTooLarge, "send_too_large"),
        (DropReason::SendRefused, "send_refused"),
        (DropReason::SendFailed, "send_failed"),
    ];

    /// True where it is what the server was set up to do: nothing to warn of.
    pub fn is_meant(self) -> bool {
        matches!(
            self,
            DropReason::NoReply | DropReason::ImpairLost | DropReason::ImpairOverflow
        )
    }

    /// The name by which it is counted and logged.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    #[test]
    fn a_reader_never_sees_half_an_update() {
        let block = Block::<3>::new();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for i in 0..200_000u64 {
                    block.open();
                    block.commit(|w| {
                        w.add(0, 3 + i % 2);
                        w.add(1, 1);
                        w.add(2, 2 + i % 2);
                    });
                }
                done.store(true, Ordering::Release);
            });
            while !done.load(Ordering::Acquire) {
                let [received, answered, dropped] = block.snapshot();
                assert_eq!(received, answered + dropped);
            }
        });
        assert_eq!(block.snapshot()[1], 200_000);
    }
}
