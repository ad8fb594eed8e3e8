//! What was decided, kept to be read, or given to be decided again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_queue::ArrayQueue;

use super::decide::Decision;
use super::directions::Direction;
use crate::error::{Error, Result};

/// Decisions that a tape has room for at most: some 100 MB.
pub const MOST_DECISIONS: usize = 1 << 20;

/// A trace of decisions, shared by a server's workers. It is recorded, or it is replayed.
#[derive(Debug)]
pub struct Tape(Mode);

#[derive(Debug)]
enum Mode {
    Recording(Box<Record>),
    Replaying(HashMap<Key, Decision>),
}

#[derive(Debug)]
struct Record {
    /// Workers push without a lock; whoever reads puts it to the rest.
    new: ArrayQueue<Decision>,
    kept: Mutex<Vec<Decision>>,
    dropped: AtomicU64,
}

/// Direction, flow, index, copy.
type Key = (Direction, u32, u64, u32);

fn key(decision: &Decision) -> Key {
    let Decision {
        direction,
        flow,
        index,
        copy,
        ..
    } = *decision;
    (direction, flow, index, copy)
}

impl Tape {
    /// As [`Tape::recording`], for a number that a user gave.
    ///
    /// # Errors
    ///
    /// It is 0, or more than [`MOST_DECISIONS`].
    pub fn checked(capacity: usize) -> Result<Self> {
        match capacity {
            1..=MOST_DECISIONS => Ok(Self::recording(capacity)),
            _ => Err(Error::argument(
                "record",
                format_args!("{capacity} decisions"),
                format_args!("a trace has room for 1 to {MOST_DECISIONS}"),
            )
            .or("record fewer, and take the trace before it is full")),
        }
    }

    /// Records the first `capacity` decisions and counts the rest. What is not from 1 to
    /// [`MOST_DECISIONS`] is taken for the nearer of the two.
    pub fn recording(capacity: usize) -> Self {
        Self(Mode::Recording(Box::new(Record {
            new: ArrayQueue::new(capacity.clamp(1, MOST_DECISIONS)),
            kept: Mutex::default(),
            dropped: AtomicU64::new(0),
        })))
    }

    /// Decides as these say; datagrams that they do not mention go untouched.
    pub fn replaying(decisions: Vec<Decision>) -> Self {
        let entry = |decision| (key(&decision), decision);
        Self(Mode::Replaying(decisions.into_iter().map(entry).collect()))
    }

    /// What was recorded so far, or what is replayed: by direction, flow and index, however
    /// many workers there are.
    pub fn decisions(&self) -> Vec<Decision> {
        let mut decisions = match &self.0 {
            Mode::Recording(record) => record.collect().clone(),
            Mode::Replaying(decisions) => decisions.values().cloned().collect(),
        };
        decisions.sort_unstable_by_key(key);
        decisions
    }

    /// What was recorded so far, as [`Tape::decisions`], and forgets it: there is room again.
    /// Of a replayed tape nothing is forgotten.
    pub fn take(&self) -> Vec<Decision> {
        let Mode::Recording(record) = &self.0 else {
            return self.decisions();
        };
        let mut decisions = std::mem::take(&mut *record.collect());
        decisions.sort_unstable_by_key(key);
        decisions
    }

    /// How many decisions there was no room for.
    pub fn dropped(&self) -> u64 {
        match &self.0 {
            Mode::Recording(record) => record.dropped.load(Ordering::Relaxed),
            Mode::Replaying(_) => 0,
        }
    }

    /// Whether it decides.
    pub fn is_replaying(&self) -> bool {
        matches!(self.0, Mode::Replaying(_))
    }

    pub(super) fn record(&self, decision: &Decision) {
        if let Mode::Recording(record) = &self.0
            && record.new.push(decision.clone()).is_err()
        {
            record.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What it says of a datagram, and of its duplicate.
    pub(super) fn find(
        &self,
        direction: Direction,
        flow: u32,
        index: u64,
    ) -> (Decision, Option<Decision>) {
        let untouched = |copy| Decision::untouched(direction, flow, index, copy);
        let Mode::Replaying(decisions) = &self.0 else {
            return (untouched(0), None);
        };
        let find = |copy| decisions.get(&(direction, flow, index, copy)).cloned();
        let decision = find(0).unwrap_or_else(|| untouched(0));
        let copy = (decision.duplicates > 0).then(|| find(1).unwrap_or_else(|| untouched(1)));
        (decision, copy)
    }
}

impl Record {
    /// Puts what is new to what was kept, as far as there is room.
    fn collect(&self) -> MutexGuard<'_, Vec<Decision>> {
        // A reader that panicked left whole decisions behind.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // No more than are there now: workers may go on pushing.
        for _ in 0..self.new.len() {
            match self.new.pop() {
                Some(decision) if kept.len() < self.new.capacity() => kept.push(decision),
                Some(_) => _ = self.dropped.fetch_add(1, Ordering::Relaxed),
                None => break,
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(flow: u32, index: u64) -> Decision {
        Decision::untouched(Direction::Out, flow, index, 0)
    }

    #[test]
    fn keeps_the_first_ones_in_order_and_counts_the_rest() {
        let tape = Tape::recording(3);
        for (flow, index) in [(1, 1), (0, 7), (1, 0), (2, 0)] {
            tape.record(&decision(flow, index));
        }
        let wanted = [decision(0, 7), decision(1, 0), decision(1, 1)];
        assert_eq!((tape.decisions(), tape.dropped()), (wanted.to_vec(), 1));
        // What has been read once takes room all the same.
        tape.record(&decision(5, 0));
        assert_eq!((tape.decisions(), tape.dropped()), (wanted.to_vec(), 2));
        assert_eq!(tape.take(), wanted);
        tape.record(&decision(5, 1));
        assert_eq!(tape.take(), [decision(5, 1)]);
        assert_eq!(tape.take(), []);
    }

    #[test]
    fn has_no_more_room_than_it_says() {
        for capacity in [1, MOST_DECISIONS] {
            assert!(!Tape::checked(capacity).unwrap().is_replaying());
        }
        for capacity in [0, MOST_DECISIONS + 1, usize::MAX] {
            let error = Tape::checked(capacity).unwrap_err();
            assert!(error.is_argument(), "{error}");
            assert!(error.to_string().contains("1 to 1048576; "), "{error}");
        }
    }

    #[test]
    fn says_nothing_of_what_it_does_not_know() {
        let lost = Decision {
            lost: true,
            ..decision(0, 3)
        };
        let tape = Tape::replaying(vec![lost.clone()]);
        assert_eq!(tape.find(Direction::Out, 0, 3), (lost, None));
        let untouched = Decision::untouched(Direction::In, 0, 3, 0);
        assert_eq!(tape.find(Direction::In, 0, 3), (untouched, None));
    }
}
