//! Counters that one thread writes and anyone may read, consistent in themselves.
//!
//! A worker opens its block when a batch has come and commits when the batch is answered; a
//! reader that comes in between waits for the commit. So a reader at any moment finds
//! received = answered + Σ dropped, exactly, and a client that has a reply finds it counted.
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
