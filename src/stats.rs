//! Counters that one thread writes and anyone may read, consistent in themselves.
//!
//! A worker adds what a batch brought in one go, so a reader at any moment finds
//! received = answered + Σ dropped, exactly. No lock and no read-modify-write: one writer,
//! and a sequence number around its stores (a seqlock) that tells a reader to look again.

use std::sync::atomic::{AtomicU64, Ordering, fence};

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

    /// Adds to the counters; readers see all of it or nothing. One thread only.
    pub(crate) fn update(&self, change: impl FnOnce(&Writer<'_, N>)) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence
            .store(sequence.wrapping_add(1), Ordering::Relaxed);
        // The odd number must be seen before any of the changes is.
        fence(Ordering::Release);
        change(&Writer(self));
        self.sequence
            .store(sequence.wrapping_add(2), Ordering::Release);
    }

    /// All counters as they were at one moment.
    pub(crate) fn snapshot(&self) -> [u64; N] {
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            let values = std::array::from_fn(|i| self.values[i].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if before % 2 == 0 && self.sequence.load(Ordering::Relaxed) == before {
                return values;
            }
            std::hint::spin_loop();
        }
    }
}

/// Write access inside [`Block::update`].
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
    pub const ALL: [(DropReason, &'static str); 16] = [
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
        (DropReason::SendBufferFull, "send_buffer_full"),
        (DropReason::SendFiltered, "send_filtered"),
        (DropReason::SendUnreachable, "send_unreachable"),
        (DropReason::SendTooLarge, "send_too_large"),
        (DropReason::SendRefused, "send_refused"),
        (DropReason::SendFailed, "send_failed"),
    ];

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
                    block.update(|w| {
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
