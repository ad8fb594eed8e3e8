//! One direction of one worker: it carries out the decisions, and queues delayed datagrams in the
//! order of their time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::decide::{Decider, Decision, FlowState};
use super::directions::Direction;
use super::distribution::Table;
use super::flow::MOST_FLOWS;
use super::random::Draws;
use super::recent::Recent;
use super::spec::{DEFAULT_LIMIT, Netem, Rate, Slot, SlotDelay};
use super::tape::Tape;

/// A datagram on its way, and what its sender needs to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Letter<T> {
    pub(crate) data: Vec<u8>,
    pub(crate) tag: T,
}

/// What became of a letter that was put.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    /// It is gone.
    pub(crate) lost: bool,
    /// It is gone because as many as may wait did.
    pub(crate) overflow: bool,
    /// Copies that wait besides.
    pub(crate) duplicates: u32,
    pub(crate) corrupted: bool,
    pub(crate) truncated: bool,
    /// It is due later than now.
    pub(crate) delayed: bool,
    pub(crate) reordered: bool,
}

/// What the lines of all workers share, as netem has one queue and one wire a device: how many
/// letters wait, and since when the next one can be sent. Their clocks are one.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    waiting: AtomicUsize,
    /// When the last of those that take their time is through.
    busy_until_ns: AtomicU64,
}

impl Wire {
    /// A place for one more, where fewer than `limit` wait.
    fn enter(&self, limit: usize) -> bool {
        let next = |waiting| (waiting < limit).then_some(waiting + 1);
        self.waiting.fetch_update(Relaxed, Relaxed, next).is_ok()
    }

    fn leave(&self, letters: usize) {
        self.waiting.fetch_sub(letters, Relaxed);
    }

    /// When a letter is through that takes `time_ns` on the wire and is held for `delay_ns`: as
    /// netem_enqueue(), it follows the one before it, and what it would have waited for that one
    /// comes off its delay.
    fn send(&self, now_ns: u64, delay_ns: u64, time_ns: u64) -> u64 {
        let through = |busy_until_ns: u64| {
            let after = now_ns.max(busy_until_ns);
            let rest = delay_ns.saturating_sub(after - now_ns);
            after.saturating_add(rest).saturating_add(time_ns)
        };
        let before = self
            .busy_until_ns
            .fetch_update(Relaxed, Relaxed, |busy| Some(through(busy)));
        through(before.unwrap_or_else(|busy| busy))
    }
}

/// One direction of one worker: decisions, then a queue in order of due time.
#[derive(Debug)]
pub(crate) struct Line<T> {
    direction: Direction,
    seed: u64,
    decider: Decider,
    flows: Recent<u32, FlowState>,
    tape: Option<Arc<Tape>>,
    queue: BinaryHeap<Reverse<Entry<T>>>,
    /// How many were ever queued: first in first out among those that are due together.
    count: u64,
    limit: usize,
    rate: Option<Rate>,
    wire: Arc<Wire>,
    slots: Option<Slots>,
    is_noop: bool,
}

#[derive(Debug)]
struct Entry<T> {
    due_ns: u64,
    number: u64,
    letter: Letter<T>,
}

impl<T: Clone> Line<T> {
    /// By `spec`, whose seed is 0 unless it has one. A tape records what is decided, or
    /// decides.
    pub(crate) fn new(spec: &Netem, direction: Direction, tape: Option<Arc<Tape>>) -> Self {
        let seed = spec.seed.unwrap_or_default();
        Self {
            direction,
            seed,
            decider: Decider::new(spec, direction),
            flows: Recent::new(MOST_FLOWS),
            queue: BinaryHeap::new(),
            count: 0,
            limit: spec.limit.unwrap_or(DEFAULT_LIMIT) as usize,
            rate: spec.rate,
            wire: Arc::default(),
            slots: Slots::new(spec.slot, seed, direction),
            is_noop: spec.is_noop() && tape.is_none(),
            tape,
        }
    }

    /// Of several lines with one wire.
    pub(crate) fn on(mut self, wire: &Arc<Wire>) -> Self {
        self.wire = Arc::clone(wire);
        self
    }

    /// Decides for the next letter of a flow, and queues it and its duplicates unless they
    /// are lost.
    pub(crate) fn put(&mut self, now_ns: u64, flow: u32, letter: Letter<T>) -> Fate {
        let mut fate = Fate::default();
        if self.is_noop {
            // There is nothing to decide.
            fate.overflow = !self.enqueue(now_ns, letter);
            return fate;
        }
        let (decision, copy) = self.decide(flow, letter.data.len());
        if decision.lost {
            fate.lost = true;
            return fate;
        }
        let copied = copy
            .filter(|copy| !copy.lost)
            .map(|copy| (copy, letter.clone()));
        fate.reordered = decision.reordered;
        fate.overflow = !self.post(now_ns, &decision, letter, &mut fate);
        if let Some((copy, letter)) = copied {
            // Of a duplicate only this is told: that there was one.
            let has_room = self.post(now_ns, &copy, letter, &mut Fate::default());
            fate.duplicates = has_room.into();
        }
        fate
    }

    fn decide(&mut self, flow: u32, length: usize) -> (Decision, Option<Decision>) {
        let (seed, direction) = (self.seed, self.direction);
        let state = self
            .flows
            .get(flow, || FlowState::new(seed, direction, flow));
        let index = state.count_one();
        if let Some(tape) = &self.tape
            && tape.is_replaying()
        {
            return tape.find(direction, flow, index);
        }
        let (decision, copy) = self.decider.decide(state, flow, index, length);
        if let Some(tape) = &self.tape {
            tape.record(&decision);
            if let Some(copy) = &copy {
                tape.record(copy);
            }
        }
        (decision, copy)
    }

    /// Impairs a letter as was decided and queues it; false where it has no room.
    fn post(
        &mut self,
        now_ns: u64,
        decision: &Decision,
        mut letter: Letter<T>,
        fate: &mut Fate,
    ) -> bool {
        if self.wire.waiting.load(Relaxed) >= self.limit {
            return false;
        }
        if let Some(to) = decision.truncate_to
            && to < letter.data.len()
        {
            letter.data.truncate(to);
            fate.truncated = true;
        }
        if let Some(bit) = decision.corrupt_bit {
            let byte = usize::try_from(bit / 8).ok();
            // A replayed trace may come from longer ones.
            if let Some(byte) = byte.and_then(|place| letter.data.get_mut(place)) {
                *byte ^= 1 << (bit % 8);
                fate.corrupted = true;
            }
        }
        let due_ns = match self.rate {
            Some(rate) if !decision.reordered => {
                let time_ns = rate.time_ns(letter.data.len());
                self.wire.send(now_ns, decision.delay_ns, time_ns)
            }
            _ => now_ns.saturating_add(decision.delay_ns),
        };
        fate.delayed = due_ns > now_ns;
        self.enqueue(due_ns, letter)
    }

    fn enqueue(&mut self, due_ns: u64, letter: Letter<T>) -> bool {
        if !self.wire.enter(self.limit) {
            return false;
        }
        self.queue.push(Reverse(Entry {
            due_ns,
            number: self.count,
            letter,
        }));
        self.count += 1;
        true
    }

    /// The next letter whose time has come: in order of due time, first in first out among
    /// equals.
    pub(crate) fn due(&mut self, now_ns: u64) -> Option<Letter<T>> {
        let Reverse(head) = self.queue.peek()?;
        if let Some(slots) = &mut self.slots
            && !slots.is_open(head.due_ns, now_ns)
        {
            return None;
        }
        if head.due_ns > now_ns {
            return None;
        }
        let Reverse(Entry { letter, .. }) = self.queue.pop()?;
        self.wire.leave(1);
        if let Some(slots) = &mut self.slots {
            slots.take(letter.data.len(), now_ns);
        }
        Some(letter)
    }

    /// When to ask for the next letter; `None` where none waits.
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        let Reverse(head) = self.queue.peek()?;
        let open_ns = self
            .slots
            .as_ref()
            .map_or(0, |slots| slots.next_ns.unwrap_or(0));
        Some(head.due_ns.max(open_ns))
    }

    /// How many letters wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// All letters that wait, in order of due time: the server stops.
    pub(crate) fn take_all(&mut self) -> Vec<Letter<T>> {
        self.wire.leave(self.queue.len());
        let mut letters = Vec::with_capacity(self.queue.len());
        while let Some(Reverse(entry)) = self.queue.pop() {
            letters.push(entry.letter);
        }
        letters
    }
}

/// When the line may send: get_slot_next() and its callers in sch_netem.c.
#[derive(Debug)]
struct Slots {
    slot: Slot,
    table: Table,
    draws: Draws,
    /// How many were drawn.
    count: u64,
    /// When the slot opens; `None` before the first.
    next_ns: Option<u64>,
    packets_left: u64,
    bytes_left: u64,
}

impl Slots {
    fn new(slot: Option<Slot>, seed: u64, direction: Direction) -> Option<Self> {
        let slot = slot.filter(|slot| !slot.delay.is_noop())?;
        let table = match slot.delay {
            SlotDelay::Between { .. } => Default::default(),
            SlotDelay::Distribution { distribution, .. } => distribution,
        };
        Some(Self {
            slot,
            table: table.table(),
            // Apart from all flows' draws, which have the directions' numbers.
            draws: Draws::new(seed, 2 + direction as u64, 0),
            count: 0,
            next_ns: None,
            packets_left: 0,
            bytes_left: 0,
        })
    }

    /// Whether what is due at `due_ns` may go now. What came after the slot opened waits for
    /// the next one.
    fn is_open(&mut self, due_ns: u64, now_ns: u64) -> bool {
        let next_ns = match self.next_ns {
            Some(next_ns) if next_ns >= due_ns => next_ns,
            _ => self.draw(now_ns),
        };
        next_ns <= now_ns
    }

    /// One has gone.
    fn take(&mut self, bytes: usize, now_ns: u64) {
        self.packets_left = self.packets_left.saturating_sub(1);
        self.bytes_left = self.bytes_left.saturating_sub(bytes as u64);
        if self.packets_left == 0 || self.bytes_left == 0 {
            self.draw(now_ns);
        }
    }

    fn draw(&mut self, now_ns: u64) -> u64 {
        let delay_ns = match self.slot.delay {
            SlotDelay::Between { min_ns, max_ns } => {
                let spread = max_ns.saturating_sub(min_ns);
                min_ns.saturating_add(self.draws.below(self.count, spread.saturating_add(1)))
            }
            SlotDelay::Distribution {
                delay_ns,
                jitter_ns,
                ..
            } => self
                .table
                .stray(delay_ns, jitter_ns, self.draws.draw(self.count)),
        };
        self.count += 1;
        let or_any = |most: u32| if most == 0 { u64::MAX } else { most.into() };
        self.packets_left = or_any(self.slot.packets);
        self.bytes_left = or_any(self.slot.bytes);
        let next_ns = now_ns.saturating_add(delay_ns);
        self.next_ns = Some(next_ns);
        next_ns
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due_ns, self.number).cmp(&(other.due_ns, other.number))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}
