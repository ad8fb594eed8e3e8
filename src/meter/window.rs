//! Which reply answers which probe: every reply is judged, and none counts twice.

/// Fewest probes that are remembered.
const FEWEST: usize = 8192;

/// Most probes that are remembered, 48 MiB of them.
pub const MOST: usize = 1 << 20;

/// What is known of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Its number, from 0 on.
    pub sequence: u64,
    /// When it was to be sent.
    pub intended_ns: u64,
    /// When it was handed to the kernel.
    pub sent_ns: u64,
    /// When the kernel handed it to the device; 0: not told. By the clock of the kernel's stamps.
    pub kernel_sent_ns: u64,
}

/// What became of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Answered,
    /// No reply came in time.
    Lost,
    /// Nor then; but one came later.
    LateSeen,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    probe: Probe,
    state: State,
}

/// A slot that no probe has had: no probe has this number.
const EMPTY: Slot = Slot {
    probe: Probe {
        sequence: u64::MAX,
        intended_ns: 0,
        sent_ns: 0,
        kernel_sent_ns: 0,
    },
    state: State::Lost,
};

/// What a reply is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The first one to a probe, in time.
    Answer(Probe),
    /// The first one, but after the probe was given up (RFC 6673: lost).
    Late,
    /// Of a probe that has one (RFC 5560).
    Duplicate,
    /// Of no probe that was sent.
    Unknown,
}

/// The probes that are on their way, and those before them.
#[derive(Debug)]
pub struct Window {
    slots: Vec<Slot>,
    /// A reply that takes longer than this is late (Tmax, RFC 6673).
    wait_ns: u64,
    next: u64,
    /// The first that is neither answered nor given up, or `next`.
    oldest: u64,
}

impl Window {
    /// With nothing on its way. A probe is lost when no reply came within `wait_ns`.
    pub fn new(wait_ns: u64) -> Self {
        Self::with_slots(wait_ns, FEWEST)
    }

    /// The same with room for `slots` probes to begin with, a power of two.
    pub(crate) fn with_slots(wait_ns: u64, slots: usize) -> Self {
        Self {
            slots: vec![EMPTY; slots],
            wait_ns,
            next: 0,
            oldest: 0,
        }
    }

    fn place(&self, sequence: u64) -> usize {
        // The length is a power of two that fits.
        sequence as usize & (self.slots.len() - 1)
    }

    /// Whether no more probe can be sent before [`Window::settle`] has taken one out.
    pub fn is_full(&self) -> bool {
        self.next - self.oldest >= MOST as u64
    }

    /// How many probes neither have a reply nor were given up, or wait for one before them.
    pub fn unsettled(&self) -> u64 {
        self.next - self.oldest
    }

    /// How many were sent.
    pub fn sent(&self) -> u64 {
        self.next
    }

    /// A probe was sent; its number. One that does not fit displaces the oldest, which can then
    /// not be answered any more: see [`Window::is_full`].
    pub fn send(&mut self, intended_ns: u64, sent_ns: u64) -> u64 {
        let sequence = self.next;
        if self.slots.len() < MOST && self.would_miss(sequence, sent_ns) {
            self.grow();
        }
        self.next += 1;
        self.oldest = self
            .oldest
            .max(self.next.saturating_sub(self.slots.len() as u64));
        let place = self.place(sequence);
        self.slots[place] = Slot {
            probe: Probe {
                sequence,
                intended_ns,
                sent_ns,
                kernel_sent_ns: 0,
            },
            state: State::Waiting,
        };
        sequence
    }

    /// Whether the probe whose place this one takes may still be answered, or its reply repeated:
    /// both are told apart for twice as long as a reply is waited for.
    fn would_miss(&self, sequence: u64, now_ns: u64) -> bool {
        let displaced = &self.slots[self.place(sequence)].probe;
        let has_one = displaced.sequence != EMPTY.probe.sequence;
        let until_ns = displaced
            .sent_ns
            .saturating_add(self.wait_ns.saturating_mul(2));
        has_one && (displaced.sequence >= self.oldest || now_ns <= until_ns)
    }

    fn grow(&mut self) {
        let twice = 2 * self.slots.len();
        let mut slots = vec![EMPTY; twice];
        let taken = |slot: &&Slot| slot.probe.sequence != EMPTY.probe.sequence;
        for slot in self.slots.iter().filter(taken) {
            slots[slot.probe.sequence as usize & (twice - 1)] = *slot;
        }
        self.slots = slots;
    }

    /// The kernel says when this one left.
    pub fn left(&mut self, sequence: u64, kernel_sent_ns: u64) {
        if let Some(slot) = self.slot(sequence) {
            slot.probe.kernel_sent_ns = kernel_sent_ns;
        }
    }

    fn slot(&mut self, sequence: u64) -> Option<&mut Slot> {
        if sequence >= self.next {
            return None;
        }
        let place = self.place(sequence);
        let slot = &mut self.slots[place];
        (slot.probe.sequence == sequence).then_some(slot)
    }

    /// A reply with this number was received.
    pub fn reply(&mut self, sequence: u64, received_ns: u64) -> Verdict {
        let wait_ns = self.wait_ns;
        if sequence >= self.next {
            return Verdict::Unknown;
        }
        let Some(slot) = self.slot(sequence) else {
            // Sent, and forgotten: longer ago than twice the time that a reply is waited for.
            return Verdict::Late;
        };
        match slot.state {
            State::Waiting if received_ns.saturating_sub(slot.probe.sent_ns) <= wait_ns => {
                slot.state = State::Answered;
                Verdict::Answer(slot.probe)
            }
            State::Waiting | State::Lost => {
                slot.state = State::LateSeen;
                Verdict::Late
            }
            State::Answered | State::LateSeen => Verdict::Duplicate,
        }
    }

    /// Tells of each probe whose fate is known, in the order of their numbers: whether it is lost.
    /// At a time after which no reply is awaited, all are.
    pub fn settle(&mut self, now_ns: u64, mut tell: impl FnMut(&Probe, bool)) {
        while self.oldest < self.next {
            let place = self.place(self.oldest);
            let slot = &mut self.slots[place];
            match slot.state {
                State::Answered => tell(&slot.probe, false),
                State::Lost | State::LateSeen => tell(&slot.probe, true),
                State::Waiting if now_ns.saturating_sub(slot.probe.sent_ns) > self.wait_ns => {
                    slot.state = State::Lost;
                    tell(&slot.probe, true);
                }
                State::Waiting => return,
            }
            self.oldest += 1;
        }
    }

    /// When the next probe is to be given up; `None`: none is on its way.
    pub fn deadline_ns(&self) -> Option<u64> {
        let slot = &self.slots[self.place(self.oldest)];
        let give_up = slot.probe.sent_ns.saturating_add(self.wait_ns);
        (self.oldest < self.next).then(|| give_up.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(window: &mut Window, now_ns: u64) -> Vec<(u64, bool)> {
        let mut all = Vec::new();
        window.settle(now_ns, |probe, is_lost| all.push((probe.sequence, is_lost)));
        all
    }

    #[test]
    fn the_first_reply_in_time_is_the_answer() {
        let mut window = Window::new(100);
        assert_eq!(window.reply(0, 0), Verdict::Unknown);
        assert_eq!(window.send(5, 10), 0);
        window.left(0, 77);
        let answer = Probe {
            sequence: 0,
            intended_ns: 5,
            sent_ns: 10,
            kernel_sent_ns: 77,
        };
        assert_eq!(window.reply(0, 110), Verdict::Answer(answer));
        assert_eq!(window.reply(0, 110), Verdict::Duplicate);
        assert_eq!(window.reply(1, 110), Verdict::Unknown);
        assert_eq!(settled(&mut window, 110), [(0, false)]);
        assert_eq!(window.deadline_ns(), None);
    }

    #[test]
    fn what_comes_after_its_time_is_late_however_it_is_looked_at() {
        let mut window = Window::new(100);
        window.send(0, 0);
        window.send(0, 0);
        assert_eq!(window.reply(0, 101), Verdict::Late);
        assert_eq!(window.deadline_ns(), Some(101));
        assert_eq!(settled(&mut window, 101), [(0, true), (1, true)]);
        assert_eq!(window.reply(1, 5000), Verdict::Late);
        assert_eq!(window.reply(1, 5000), Verdict::Duplicate);
        assert_eq!(window.reply(0, 5000), Verdict::Duplicate);
    }

    #[test]
    fn fates_are_told_in_order() {
        let mut window = Window::new(100);
        for sent_ns in 0..3 {
            window.send(sent_ns, sent_ns);
        }
        window.reply(2, 50);
        window.reply(1, 50);
        assert_eq!(settled(&mut window, 100), []);
        assert_eq!(window.unsettled(), 3);
        assert_eq!(
            settled(&mut window, 101),
            [(0, true), (1, false), (2, false)]
        );
    }

    #[test]
    fn memory_grows_to_what_is_on_its_way_and_no_further() {
        let mut window = Window::new(u64::MAX / 2);
        let many = MOST as u64 + 5;
        for sequence in 0..many {
            assert_eq!(window.is_full(), sequence >= MOST as u64);
            window.send(sequence, sequence);
        }
        assert_eq!(window.slots.len(), MOST);
        assert_eq!(window.reply(4, many), Verdict::Late);
        assert!(matches!(window.reply(5, many), Verdict::Answer(_)));
    }
}
