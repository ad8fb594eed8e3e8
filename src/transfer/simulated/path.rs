//! One direction between two hosts, and what it does to datagrams.

use std::ops::Range;

/// splitmix64 (Steele, Lea and Flood 2014): what is drawn next.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits.
    pub fn wide(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// From 0 to below 1.
    pub fn share(&mut self) -> f64 {
        (self.wide() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From 0 to below `end`; 0 for an `end` of 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.wide()) * u128::from(end)) >> 64) as u64
    }

    /// True with this probability.
    pub fn chance(&mut self, share: f64) -> bool {
        share > 0.0 && self.share() < share
    }

    /// Evenly by its logarithm, from `least` to `most`.
    pub fn log(&mut self, least: f64, most: f64) -> f64 {
        least * (most / least).powf(self.share())
    }
}

/// What a path has done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Datagrams and bytes that were sent into it.
    pub sent: u64,
    /// As above.
    pub sent_bytes: u64,
    /// Found no room in the queue.
    pub overflowed: u64,
    /// How long the queue had room for one full datagram at most.
    pub full_ns: u64,
}

/// One direction. By default it takes everything at once and loses nothing.
#[derive(Debug, Clone, Default)]
pub struct Path {
    /// Shares of datagrams that are lost, that come twice, and of which bits are flipped.
    pub loss: f64,
    /// As above.
    pub duplication: f64,
    /// As above.
    pub corruption: f64,
    /// The delay of each, ...
    pub delay_ns: u64,
    /// ... and up to so much longer, each by itself: they overtake one another.
    pub jitter_ns: u64,
    /// The slowest link, if any is slow, and how much may wait in front of it.
    pub bytes_per_second: Option<f64>,
    /// As above.
    pub queue_bytes: u64,
    /// Longer datagrams vanish; `None`: none is too long. From a time on.
    pub mtu: Vec<(u64, usize)>,
    /// Nothing comes through in this time.
    pub cut_ns: Range<u64>,
    /// What happened.
    pub counts: Counts,
    /// What waits; nothing at first.
    pub queue: Queue,
}

/// What waits in front of the slowest link.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    free_at_ns: u64,
    seen_ns: u64,
    was_full: bool,
}

/// What IPv4 and UDP add to a datagram.
const HEADER_BYTES: u64 = 28;

impl Path {
    fn takes(&self, now_ns: u64, length: usize) -> bool {
        let mtu = self
            .mtu
            .iter()
            .rev()
            .find(|(from_ns, _)| *from_ns <= now_ns);
        mtu.is_none_or(|(_, most)| length <= *most)
    }

    /// What becomes of a datagram: it arrives once, twice, or not.
    pub(super) fn pass(
        &mut self,
        now_ns: u64,
        data: &[u8],
        random: &mut Random,
        mut arrive: impl FnMut(u64, Vec<u8>),
    ) {
        self.counts.sent += 1;
        self.counts.sent_bytes += data.len() as u64;
        if self.cut_ns.contains(&now_ns) || !self.takes(now_ns, data.len()) {
            return;
        }
        let Some(left_ns) = self.wait(now_ns, data.len() as u64 + HEADER_BYTES) else {
            self.counts.overflowed += 1;
            return;
        };
        if random.chance(self.loss) {
            return;
        }
        let copies = 1 + u64::from(random.chance(self.duplication));
        for _ in 0..copies {
            let mut data = data.to_vec();
            if random.chance(self.corruption) {
                for _ in 0..=random.below(3) {
                    let bit = random.below(8 * data.len() as u64);
                    data[(bit / 8) as usize] ^= 1 << (bit % 8);
                }
            }
            arrive(
                left_ns + self.delay_ns + random.below(self.jitter_ns + 1),
                data,
            );
        }
    }

    /// When it has passed the slowest link; `None`: there was no room in front of it.
    fn wait(&mut self, now_ns: u64, bytes: u64) -> Option<u64> {
        let Some(rate) = self.bytes_per_second else {
            return Some(now_ns);
        };
        let waits = |free_at_ns: u64| free_at_ns.saturating_sub(now_ns) as f64 * rate / 1e9;
        if self.queue.was_full {
            self.counts.full_ns +=
                now_ns.min(self.queue.free_at_ns) - self.queue.seen_ns.min(self.queue.free_at_ns);
        }
        let room = self.queue_bytes as f64 - waits(self.queue.free_at_ns);
        let fits = bytes as f64 <= room || self.queue.free_at_ns <= now_ns;
        (self.queue.seen_ns, self.queue.was_full) = (now_ns, room < 3_000.0);
        if !fits {
            return None;
        }
        let time_ns = (bytes as f64 * 1e9 / rate) as u64;
        self.queue.free_at_ns = self.queue.free_at_ns.max(now_ns) + time_ns;
        Some(self.queue.free_at_ns)
    }
}
