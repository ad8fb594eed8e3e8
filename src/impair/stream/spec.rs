//! One direction of streams: what is to become of them, as plain data.

use crate::impair::directions::Direction;
use crate::impair::random::Draws;

/// What is impaired of one direction of a server's connections. Nothing by default.
///
/// [`FromStr`](std::str::FromStr) takes Toxiproxy's names and units:
/// `latency latency=100 jitter=20, slicer average_size=64 delay=10`. A space will do for the
/// `=` (`latency 100 jitter 20`), values without a name go to the attributes in their order
/// (`latency 100 20`), and all may have a unit (`latency 100ms`). Behind a comma a toxic's name
/// is one again, where a toxic before has an attribute of the same (`reset_peer 5, timeout 9`).
/// netem's `delay TIME [JITTER]` and `rate RATE` are understood too, also in a whole line of
/// tc's, and `seed N`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Toxics {
    /// What is done. Whatever their order, data that is to be held is held before it is sent
    /// at its rate and in slices.
    pub list: Vec<Toxic>,
    /// What the draws are made from; 0 where nobody gives one.
    pub seed: Option<u64>,
}

/// One thing that is done to a connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Toxic {
    /// What is done.
    pub effect: Effect,
    /// To how many connections it is done: from 0 (none) to 1 (all, by default).
    pub toxicity: f64,
}

/// What is done to a connection. Of two of a kind both are, where that makes sense: latencies
/// add up, the lower rate and the lower limit hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// `latency latency=MS jitter=MS`: data is held so long, in order all the same.
    Latency {
        /// The mean.
        latency_ns: u64,
        /// How far it strays to each side, evenly.
        jitter_ns: u64,
    },
    /// `bandwidth rate=KB/s`: data goes no faster. A KB is 1000 bytes, as in Toxiproxy.
    Bandwidth {
        /// 0: any number.
        bytes_per_second: u64,
    },
    /// `slow_close delay=MS`: the end comes so long after the last byte.
    SlowClose {
        /// How long.
        delay_ns: u64,
    },
    /// `timeout timeout=MS`: data is dropped, and the connection closed so long after it
    /// began.
    Timeout {
        /// How long; 0: it is never closed.
        timeout_ns: u64,
    },
    /// `reset_peer timeout=MS`: data is dropped, and the connection reset so long after the
    /// first of it.
    ResetPeer {
        /// How long; 0: at once.
        timeout_ns: u64,
    },
    /// `slicer average_size=BYTES size_variation=BYTES delay=US`: data goes in small writes.
    Slicer {
        /// Bytes of a slice, more than 0.
        average_size: u32,
        /// How far they stray to each side; less than the average.
        size_variation: u32,
        /// From one slice to the next.
        delay_ns: u64,
    },
    /// `limit_data bytes=BYTES`: the connection is closed after so many bytes.
    LimitData {
        /// How many.
        bytes: u64,
    },
    /// `half_close bytes=BYTES`: this direction ends after so many bytes, the other goes on.
    /// What comes after is dropped. Ours.
    HalfClose {
        /// How many; 0, the default: none ever go.
        bytes: u64,
    },
    /// `accept_hang`: the connection is accepted, and then neither read nor answered. Ours.
    AcceptHang,
    /// `refuse`: the connection is refused. Ours.
    Refuse,
}

/// What becomes of a connection when it comes; the later ones are the stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Accept {
    /// It is accepted and served.
    #[default]
    Normal,
    /// It is accepted, and then neither read nor answered.
    Hang,
    /// It is refused.
    Refuse,
}

impl Toxics {
    /// True where no connection is impaired.
    pub fn is_noop(&self) -> bool {
        self.list
            .iter()
            .all(|toxic| toxic.toxicity <= 0.0 || toxic.effect.is_noop())
    }

    /// What becomes of the connection with this number when it comes.
    pub fn accept(&self, direction: Direction, connection: u64) -> Accept {
        let ways = self
            .meant_for(direction, connection)
            .map(|effect| match effect {
                Effect::AcceptHang => Accept::Hang,
                Effect::Refuse => Accept::Refuse,
                _ => Accept::Normal,
            });
        ways.max().unwrap_or_default()
    }

    /// The seed, where one was given.
    pub fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// With this seed, where none was given and there is something to draw for.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        if !self.list.is_empty() {
            self.seed.get_or_insert(seed);
        }
        self
    }

    /// The draws for the connection with this number.
    pub(super) fn draws(&self, direction: Direction, connection: u64) -> Draws {
        // Apart from all draws for datagrams (line.rs).
        let usage = 4 + direction as u64;
        Draws::new(self.seed.unwrap_or_default(), usage, connection)
    }

    /// What is done to the connection with this number.
    pub(super) fn meant_for(
        &self,
        direction: Direction,
        connection: u64,
    ) -> impl Iterator<Item = Effect> {
        let draws = self.draws(direction, connection);
        self.list
            .iter()
            .enumerate()
            .filter_map(move |(place, toxic)| {
                // 53 bits, as many as a fraction has; from numbers that no slice comes to.
                let drawn =
                    (draws.wide(u64::MAX - place as u64) >> 11) as f64 / (1u64 << 53) as f64;
                (drawn < toxic.toxicity).then_some(toxic.effect)
            })
    }
}

impl Effect {
    /// True where it does nothing to any connection.
    pub(super) fn is_noop(&self) -> bool {
        match *self {
            Self::Latency {
                latency_ns,
                jitter_ns,
            } => latency_ns == 0 && jitter_ns == 0,
            Self::Bandwidth { bytes_per_second } => bytes_per_second == 0,
            Self::SlowClose { delay_ns } => delay_ns == 0,
            _ => false,
        }
    }
}
