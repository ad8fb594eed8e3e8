//! What becomes of one datagram, before any queue: netem_enqueue() in sch_netem.c, with each
//! draw a function of the seed, the flow, the datagram's number and the stage.

use super::directions::Direction;
use super::distribution::Table;
use super::percent::Percent;
use super::random::{Draws, correlated};
use super::spec::{Chance, Loss, Netem};

/// What was decided for one datagram, or for its duplicate. Without what depends on when it
/// came: the line's rate, its slots and its limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Which way it went.
    pub direction: Direction,
    /// Whose it was: peers are numbered from 0 in the order in which they first came.
    pub flow: u32,
    /// Its number in its flow and direction, from 0.
    pub index: u64,
    /// 0: the datagram itself; 1: its duplicate, which has an entry of its own.
    pub copy: u32,
    /// It was lost.
    pub lost: bool,
    /// How many duplicates it had.
    pub duplicates: u32,
    /// How long it was held, in nanoseconds.
    pub delay_ns: u64,
    /// The bit that was flipped: eight times the byte's place, plus the bit's (0 is the
    /// lowest).
    pub corrupt_bit: Option<u64>,
    /// To how many bytes it was cut.
    pub truncate_to: Option<usize>,
    /// It was not held, and may so have overtaken others.
    pub reordered: bool,
}

impl Decision {
    /// That nothing becomes of it.
    pub(super) fn untouched(direction: Direction, flow: u32, index: u64, copy: u32) -> Self {
        Self {
            direction,
            flow,
            index,
            copy,
            lost: false,
            duplicates: 0,
            delay_ns: 0,
            corrupt_bit: None,
            truncate_to: None,
            reordered: false,
        }
    }
}

/// The draws that one datagram may need, numbered.
#[derive(Clone, Copy)]
enum Stage {
    Duplicate,
    Loss,
    StateLoss,
    Truncate,
    TruncateTo,
    Corrupt,
    CorruptBit,
    Reorder,
    Delay,
}

/// Numbers set aside for the draws of one datagram, and of it or its duplicate.
const DRAWS: u64 = 32;
const DRAWS_OF_COPY: u64 = 16;

/// What a flow remembers of its datagrams, one way.
#[derive(Debug, Clone)]
pub(super) struct FlowState {
    draws: Draws,
    /// Datagrams so far.
    count: u64,
    /// The last correlated draws.
    duplicate: u32,
    loss: u32,
    corrupt: u32,
    reorder: u32,
    delay: u32,
    chain: Chain,
    /// Datagrams since one was reordered.
    since_reordered: u32,
}

/// Where the loss model is. Gilbert and Elliott's good state is `Good`, their bad `Burst`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chain {
    /// 1: delivers, outside of a burst.
    Good,
    /// 2: delivers, within a burst.
    Pause,
    /// 3: loses, within a burst.
    Burst,
    /// 4: lost one by itself.
    Single,
}

impl FlowState {
    pub(super) fn new(seed: u64, direction: Direction, flow: u32) -> Self {
        let draws = Draws::new(seed, direction as u64, flow.into());
        // As init_crandom(): what was before the first is drawn, from numbers that no
        // datagram comes to.
        let first = |stage: Stage| draws.draw(u64::MAX - stage as u64);
        Self {
            draws,
            count: 0,
            duplicate: first(Stage::Duplicate),
            loss: first(Stage::Loss),
            corrupt: first(Stage::Corrupt),
            reorder: first(Stage::Reorder),
            delay: first(Stage::Delay),
            chain: Chain::Good,
            since_reordered: 0,
        }
    }

    /// The number of the next datagram.
    pub(super) fn count_one(&mut self) -> u64 {
        self.count += 1;
        self.count - 1
    }
}

/// Decides by one specification.
#[derive(Debug)]
pub(super) struct Decider {
    spec: Netem,
    direction: Direction,
    table: Table,
}

impl Decider {
    pub(super) fn new(spec: &Netem, direction: Direction) -> Self {
        Self {
            spec: spec.clone(),
            direction,
            table: spec.delay.unwrap_or_default().distribution.table(),
        }
    }

    /// What becomes of datagram `index` of a flow, `length` bytes long, and of its duplicate.
    pub(super) fn decide(
        &self,
        state: &mut FlowState,
        flow: u32,
        index: u64,
        length: usize,
    ) -> (Decision, Option<Decision>) {
        let mut decision = Decision::untouched(self.direction, flow, index, 0);
        let draw = Draw::new(state.draws, index, 0);
        let duplicate = chance(self.spec.duplicate, &mut state.duplicate, || {
            draw.of(Stage::Duplicate)
        });
        let lost = self.lose(state, &draw);
        // In netem_enqueue() a loss takes away the one that a duplication added.
        decision.lost = lost && !duplicate;
        if decision.lost {
            return (decision, None);
        }
        decision.duplicates = u32::from(duplicate && !lost);
        self.impair(state, &draw, length, &mut decision);
        let copy = (decision.duplicates > 0).then(|| {
            let mut copy = Decision::untouched(self.direction, flow, index, 1);
            let draw = Draw::new(state.draws, index, 1);
            copy.lost = self.lose(state, &draw);
            if !copy.lost {
                self.impair(state, &draw, length, &mut copy);
            }
            copy
        });
        (decision, copy)
    }

    fn lose(&self, state: &mut FlowState, draw: &Draw) -> bool {
        match self.spec.loss {
            None => false,
            Some(Loss::Random(random)) => {
                chance(Some(random), &mut state.loss, || draw.of(Stage::Loss))
            }
            Some(Loss::State {
                p13,
                p31,
                p32,
                p23,
                p14,
            }) => {
                let drawn = u64::from(draw.of(Stage::Loss));
                // Either of two ways out of a state, one above the other.
                let above = |first: Percent, second: Percent| {
                    drawn < first.threshold() + second.threshold()
                };
                let below = |percent: Percent| drawn < percent.threshold();
                state.chain = match state.chain {
                    Chain::Good if below(p14) => Chain::Single,
                    Chain::Good if above(p14, p13) => Chain::Burst,
                    Chain::Pause if below(p23) => Chain::Burst,
                    Chain::Burst if below(p32) => Chain::Pause,
                    Chain::Burst if above(p32, p31) => Chain::Good,
                    Chain::Single => Chain::Good,
                    stays => stays,
                };
                matches!(state.chain, Chain::Burst | Chain::Single)
            }
            Some(Loss::Gemodel {
                p,
                r,
                one_minus_h,
                one_minus_k,
            }) => {
                // The state changes first, and the one that was loses.
                let (way_out, next, loss) = match state.chain {
                    Chain::Good => (p, Chain::Burst, one_minus_k),
                    _ => (r, Chain::Good, one_minus_h),
                };
                if way_out.holds(draw.of(Stage::Loss)) {
                    state.chain = next;
                }
                loss.holds(draw.of(Stage::StateLoss))
            }
        }
    }

    /// What becomes of one that is not lost.
    fn impair(&self, state: &mut FlowState, draw: &Draw, length: usize, decision: &mut Decision) {
        let mut left = length;
        if let Some(truncate) = self.spec.truncate
            && truncate.percent.holds(draw.of(Stage::Truncate))
        {
            let to = match truncate.bytes {
                Some(bytes) => bytes as usize,
                None => draw.below(Stage::TruncateTo, length),
            };
            if to < length {
                decision.truncate_to = Some(to);
                left = to;
            }
        }
        let corrupt = chance(self.spec.corrupt, &mut state.corrupt, || {
            draw.of(Stage::Corrupt)
        });
        if corrupt && left > 0 {
            decision.corrupt_bit = Some(draw.below(Stage::CorruptBit, left * 8) as u64);
        }
        if self.overtakes(state, draw) {
            state.since_reordered = 0;
            decision.reordered = true;
            return;
        }
        state.since_reordered = state.since_reordered.saturating_add(1);
        if let Some(delay) = self.spec.delay {
            let drawn = correlated(draw.of(Stage::Delay), &mut state.delay, delay.correlation);
            decision.delay_ns = self.table.stray(delay.time_ns, delay.jitter_ns, drawn);
        }
    }

    fn overtakes(&self, state: &mut FlowState, draw: &Draw) -> bool {
        let gap = self.spec.gap.unwrap_or(1).max(1);
        state.since_reordered >= gap - 1
            && chance(self.spec.reorder, &mut state.reorder, || {
                draw.of(Stage::Reorder)
            })
    }
}

/// Whether a chance comes true; what is correlated goes on from `last`.
fn chance(chance: Option<Chance>, last: &mut u32, draw: impl FnOnce() -> u32) -> bool {
    match chance {
        // Nothing is drawn where nothing can come of it, as in the kernel.
        Some(chance) if chance.percent != Percent::NEVER => {
            chance
                .percent
                .holds(correlated(draw(), last, chance.correlation))
        }
        _ => false,
    }
}

/// The draws of one datagram or of its duplicate.
struct Draw {
    draws: Draws,
    first: u64,
}

impl Draw {
    fn new(draws: Draws, index: u64, copy: u64) -> Self {
        let first = index.wrapping_mul(DRAWS).wrapping_add(copy * DRAWS_OF_COPY);
        Self { draws, first }
    }

    fn of(&self, stage: Stage) -> u32 {
        self.draws.draw(self.first.wrapping_add(stage as u64))
    }

    fn below(&self, stage: Stage, end: usize) -> usize {
        // Below `end`, so it fits.
        self.draws
            .below(self.first.wrapping_add(stage as u64), end as u64) as usize
    }
}
