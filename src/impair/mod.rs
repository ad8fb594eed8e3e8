//! WHAT TO IMPAIR. Pure: no socket, no clock, no thread; time comes in as `now_ns`.
//!
//! Datagrams take tc-netem(8)'s grammar and net/sched/sch_netem.c's meaning of it
//! ([`DatagramImpairments`]), streams take Toxiproxy's names and units
//! ([`StreamImpairments`]). The decision about a datagram is a function of the seed, its
//! flow, its number in the flow and the stage that asks. Threads and timing do not change
//! it. A [`Tape`] records or replays decisions.
//!
//! docs/impair.md documents both grammars for users.

use std::hash::{BuildHasher, RandomState};

mod decide;
mod directions;
mod distribution;
mod flow;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod laws;
mod line;
mod parse;
mod percent;
mod print;
mod random;
mod recent;
mod spec;
mod stream;
mod tape;
mod trace;
mod units;

#[cfg(test)]
mod grammar_tests;
#[cfg(test)]
mod line_tests;
#[cfg(test)]
mod shaper_tests;
#[cfg(test)]
mod statistics_tests;

pub use decide::Decision;
pub use directions::{DatagramImpairments, Direction, StreamImpairments};
pub use distribution::Distribution;
pub use percent::Percent;
pub use spec::{Chance, DEFAULT_LIMIT, Delay, Loss, Netem, Rate, Slot, SlotDelay, Truncate};
pub use stream::{Accept, Effect, Toxic, Toxics};
pub use tape::{MOST_DECISIONS, Tape};
pub use trace::{parse_trace, print_trace};

pub(crate) use flow::{FlowNumbers, Flows};
pub(crate) use line::{Fate, Letter, Line, Wire};
pub(crate) use stream::{Action, Shaper};

/// A seed for a user who named none. Short, so that it can be typed.
pub fn random_seed() -> u64 {
    // The standard library's own source of randomness, which hash tables are keyed by.
    RandomState::new().hash_one(0_u8) >> 32
}
