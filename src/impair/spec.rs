//! One direction's datagrams: what is to become of them, as plain data.

use super::distribution::Distribution;
use super::percent::Percent;

/// Datagrams that wait at most, unless said otherwise: netem's own default.
pub const DEFAULT_LIMIT: u32 = 1000;

/// What is impaired of one direction's datagrams: the options of tc-netem(8), and `truncate`.
///
/// [`FromStr`](std::str::FromStr) takes tc's grammar, in which the order of options is free,
/// and a whole `tc qdisc add dev eth0 root netem …` line; [`Display`](std::fmt::Display)
/// gives a text that means the same. Where it differs from the kernel:
///
/// * Chains, correlations and gaps go by flow (a peer), not by device, so that a flow's
///   datagrams meet the same whatever others do.
/// * A correlated draw decides by its high bits. The kernel takes it modulo the jitter, and
///   what was correlated is lost in that.
/// * `rate` and `slot` count payload bytes; headers come in by PACKETOVERHEAD.
/// * A duplicate has no number in its flow: `duplicate` does not change what happens to the n-th
///   datagram.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Netem {
    /// How long datagrams are held.
    pub delay: Option<Delay>,
    /// Which are lost.
    pub loss: Option<Loss>,
    /// Which go twice. The second one is lost, impaired and held on its own, and as in the
    /// kernel a datagram that is both lost and duplicated goes once.
    pub duplicate: Option<Chance>,
    /// In which one bit is flipped.
    pub corrupt: Option<Chance>,
    /// Which overtake those that are held: they go at once. Needs a delay.
    pub reorder: Option<Chance>,
    /// At most one in `gap` datagrams overtakes: the `gap` − 1 after one that did are delayed in
    /// any case. Without it, as with 1, each may.
    pub gap: Option<u32>,
    /// How fast the line is.
    pub rate: Option<Rate>,
    /// When the line may send at all.
    pub slot: Option<Slot>,
    /// How many datagrams wait at most; those beyond are dropped. Without it
    /// [`DEFAULT_LIMIT`].
    pub limit: Option<u32>,
    /// Which are cut short. Ours: tc has no such option.
    pub truncate: Option<Truncate>,
    /// The start of all random numbers: the same seed gives the same decisions. Without it
    /// the code that runs the line chooses one ([`Netem::with_seed`]), or it is 0.
    pub seed: Option<u64>,
}

/// `delay TIME [JITTER [CORRELATION]] [distribution NAME]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delay {
    /// Its mean, in nanoseconds; a day at most.
    pub time_ns: u64,
    /// How far it strays: to each side (uniform), or the unit of the distribution's table.
    pub jitter_ns: u64,
    /// How much of the draw before is in each draw.
    pub correlation: Percent,
    /// How it strays. [`Distribution::Uniform`] unless said otherwise, as in the kernel.
    pub distribution: Distribution,
}

/// `loss …`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// `[random] PERCENT [CORRELATION]`: each by itself, or nearly so.
    Random(Chance),
    /// `state P13 [P31 [P32 [P23 [P14]]]]`: four states, of which 1 and 2 deliver (outside
    /// and within a burst) and 3 and 4 lose (within a burst; one by itself).
    State {
        /// A burst begins.
        p13: Percent,
        /// The burst ends. By default 100 % − `p13`.
        p31: Percent,
        /// The burst pauses. By default 0 %.
        p32: Percent,
        /// The pause ends. By default 100 %.
        p23: Percent,
        /// One is lost by itself. By default 0 %.
        p14: Percent,
    },
    /// `gemodel P [R [1-H [1-K]]]`: Gilbert and Elliott's good and bad state.
    Gemodel {
        /// From good to bad.
        p: Percent,
        /// From bad to good. By default 100 % − `p`.
        r: Percent,
        /// Loss in the bad state. By default 100 %.
        one_minus_h: Percent,
        /// Loss in the good state. By default 0 %.
        one_minus_k: Percent,
    },
}

/// `PERCENT [CORRELATION]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chance {
    /// How probable it is.
    pub percent: Percent,
    /// How much of the draw before is in each draw. Draws that depend on each other lie
    /// closer to the middle, so that rare events get rarer: netem's formula does that.
    pub correlation: Percent,
}

/// `rate RATE [PACKETOVERHEAD [CELLSIZE [CELLOVERHEAD]]]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate {
    /// Bytes per second; 0: unlimited.
    pub bytes_per_second: u64,
    /// Bytes that each datagram has besides its payload; negative ones are taken off.
    pub packet_overhead: i32,
    /// Bytes of a cell, of which a datagram takes whole ones; 0: there are none.
    pub cell_size: u32,
    /// Bytes that each cell has besides.
    pub cell_overhead: i32,
}

/// `slot MIN [MAX] [packets N] [bytes N]`, `slot distribution NAME DELAY JITTER …`: datagrams
/// gather and go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// From one slot to the next.
    pub delay: SlotDelay,
    /// Datagrams in a slot at most; 0: any number.
    pub packets: u32,
    /// Bytes after which a slot is over; 0: any number.
    pub bytes: u32,
}

/// How long it is from one slot to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotDelay {
    /// Evenly between these two, in nanoseconds.
    Between {
        /// At least.
        min_ns: u64,
        /// At most.
        max_ns: u64,
    },
    /// By a distribution.
    Distribution {
        /// Its shape.
        distribution: Distribution,
        /// Its mean, in nanoseconds.
        delay_ns: u64,
        /// Its unit, in nanoseconds.
        jitter_ns: u64,
    },
}

/// `truncate PERCENT [BYTES]`: datagrams arrive shorter than they were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Truncate {
    /// How probable it is.
    pub percent: Percent,
    /// The length that remains (shorter datagrams do not change). `None`: a random length, from
    /// none to all but one byte.
    pub bytes: Option<u32>,
}

impl Netem {
    /// True where every datagram goes at once, unchanged.
    pub fn is_noop(&self) -> bool {
        self.delay
            .is_none_or(|delay| delay.time_ns == 0 && delay.jitter_ns == 0)
            && self.loss.is_none_or(|loss| loss.is_noop())
            && self.duplicate.is_none_or(|chance| chance.is_noop())
            && self.corrupt.is_none_or(|chance| chance.is_noop())
            && self.rate.is_none_or(|rate| rate.bytes_per_second == 0)
            && self.slot.is_none_or(|slot| slot.delay.is_noop())
            && self
                .truncate
                .is_none_or(|truncate| truncate.percent == Percent::NEVER)
            // Without a delay none waits, but a limit of 0 lets none in.
            && self.limit != Some(0)
    }

    /// The seed, where one was given.
    pub fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// With this seed, where none was given.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed.get_or_insert(seed);
        self
    }
}

impl Loss {
    fn is_noop(&self) -> bool {
        let never = |percent: &Percent| *percent == Percent::NEVER;
        match self {
            Self::Random(chance) => chance.is_noop(),
            Self::State { p13, p14, .. } => never(p13) && never(p14),
            Self::Gemodel {
                p,
                one_minus_h,
                one_minus_k,
                ..
            } => never(one_minus_k) && (never(p) || never(one_minus_h)),
        }
    }
}

impl Chance {
    fn is_noop(&self) -> bool {
        self.percent == Percent::NEVER
    }
}

impl SlotDelay {
    pub(super) fn is_noop(&self) -> bool {
        match *self {
            Self::Between { min_ns, max_ns } => min_ns == 0 && max_ns == 0,
            Self::Distribution {
                delay_ns,
                jitter_ns,
                ..
            } => delay_ns == 0 && jitter_ns == 0,
        }
    }
}

impl Rate {
    /// How long a datagram of so many bytes takes on the line, in nanoseconds: the kernel's
    /// packet_time_ns().
    pub(super) fn time_ns(&self, bytes: usize) -> u64 {
        if self.bytes_per_second == 0 {
            return 0;
        }
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let mut length = bytes.saturating_add(self.packet_overhead.into()).max(0);
        if self.cell_size > 0 {
            let size = i64::from(self.cell_size);
            let cells = length / size + i64::from(length % size > 0);
            length = cells.saturating_mul((size + i64::from(self.cell_overhead)).max(0));
        }
        // In 128 bits, which no length and no second overflow.
        let time = u128::from(length.unsigned_abs()) * 1_000_000_000;
        u64::try_from(time / u128::from(self.bytes_per_second)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_time_as_the_manual_page_counts_it() {
        let rate = |overhead, size, each| Rate {
            bytes_per_second: 1000,
            packet_overhead: overhead,
            cell_size: size,
            cell_overhead: each,
        };
        assert_eq!(rate(0, 0, 0).time_ns(500), 500_000_000);
        assert_eq!(rate(20, 0, 0).time_ns(500), 520_000_000);
        assert_eq!(rate(-14, 0, 0).time_ns(14), 0);
        assert_eq!(rate(-14, 0, 0).time_ns(3), 0);
        // tc-netem(8): 50 bytes over ATM take two cells, 106 bytes on the wire.
        assert_eq!(rate(0, 48, 5).time_ns(50), 106_000_000);
        assert_eq!(rate(0, 48, -100).time_ns(50), 0);
        assert_eq!(Rate::default().time_ns(usize::MAX), 0);
        assert_eq!(rate(i32::MAX, 1, i32::MAX).time_ns(usize::MAX), u64::MAX);
    }
}
