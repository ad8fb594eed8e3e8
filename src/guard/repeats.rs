//! Repeats: datagrams that have the bytes of a reply that their sender got. How many of them are
//! answered.
//!
//! An echo that does not protect itself sends our replies back, with a hop limit of its own. A
//! client that asks the same again sends the same. They differ in one thing: a client goes on when
//! it gets no answer, and a datagram that goes round ends there. So repeats are counted by peer, and
//! a few of them are left unanswered.
//!
//! Rule 1: of a peer's repeats, one in [`REPEATS`] is not answered, so a forged datagram makes at
//! most that many rounds. One that a rate limit refuses counts as that one: a client beyond its
//! rate limit loses nothing here.
//! Rule 2: beyond [`PER_SECOND`], it is one in [`EXCESS`], so fast loops end sooner. A peer that
//! goes on although more were left out than can go round at once is not a loop: only rule 1 holds for
//! its next repeats, [`REPEATS`] for each that it lost.
//! Rule 3: replies are remembered as keyed digests in a table of fixed size. The first digest is of
//! the start and the end; only where that is known, one of all bytes is made. So datagrams that
//! never repeat cost little.

/// One in this many repeats is not answered.
pub(super) const REPEATS: u32 = 1 << 16;

/// Repeats of a peer per second on average, and at once, before rule 2 holds.
pub(super) const PER_SECOND: u32 = 10_000;
const BURST: u32 = REPEATS;

/// One in this many beyond that is not answered.
pub(super) const EXCESS: u32 = 64;

/// More than can go round at once: a peer that goes on after this many were left out is no loop.
const MANY: u16 = 1024;

/// Where replies are duplicated, no repeat of a peer that has used up its number is answered for
/// this time: longer than a round takes, as a loop that grows is not ended by less.
const CLOSED_MS: u32 = 1_000;

/// Milliseconds since some moment.
pub(super) type Millis = u32;

/// One peer's repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowance {
    /// Repeats that were answered since the last one that was not.
    answered: u32,
    /// Tokens of rule 2 that are left, at `at_ms`.
    tokens: u32,
    at_ms: Millis,
    /// Repeats without a token, and how many of them were left out.
    excess: u32,
    left_out: u16,
    /// Repeats that rule 2 lets through, since the peer has shown that it is no loop.
    shown: u32,
    /// Since when none is answered; 0: they are.
    closed_ms: Millis,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            answered: 0,
            tokens: BURST,
            at_ms: 0,
            excess: 0,
            left_out: 0,
            shown: 0,
            closed_ms: 0,
        }
    }
}

impl Allowance {
    /// Counts repeats that came at once; how many of them are not to be answered.
    pub(super) fn take(&mut self, repeats: u64, now: Millis) -> u64 {
        let passed = now.wrapping_sub(self.at_ms);
        self.at_ms = now;
        let earned = passed.saturating_mul(PER_SECOND / 1000);
        self.tokens = BURST.min(self.tokens.saturating_add(earned));
        (0..repeats).filter(|_| self.leaves_out()).count() as u64
    }

    /// The same where each may have several replies, so that a loop grows.
    pub(super) fn take_copied(&mut self, repeats: u64, now: Millis) -> u64 {
        if self.closed_ms != 0 {
            if now.wrapping_sub(self.closed_ms) < CLOSED_MS {
                return repeats;
            }
            (self.closed_ms, self.answered) = (0, 0);
        }
        let answered = repeats.min(u64::from(REPEATS - self.answered));
        self.answered += answered as u32;
        if self.answered == REPEATS {
            (self.closed_ms, self.answered) = (now.max(1), 0);
        }
        repeats - answered
    }

    /// Another peer is forgotten: what was answered of it counts here.
    pub(super) fn inherit(&mut self, other: &Self) {
        self.answered = (self.answered + other.answered).min(REPEATS - 1);
    }

    /// A rate limit refused a repeat. If it went round, it ends there, so the next one that rule 1
    /// leaves out is [`REPEATS`] away.
    pub(super) fn refused(&mut self) {
        self.answered = 0;
    }

    fn leaves_out(&mut self) -> bool {
        if self.is_excess() {
            self.answered = 0;
            return true;
        }
        self.answered += 1;
        if self.answered == REPEATS {
            self.answered = 0;
            return true;
        }
        false
    }

    fn is_excess(&mut self) -> bool {
        if self.tokens > 0 {
            self.tokens -= 1;
            return false;
        }
        if self.shown > 0 {
            self.shown -= 1;
            return false;
        }
        self.excess += 1;
        if !self.excess.is_multiple_of(EXCESS) {
            return false;
        }
        self.left_out += 1;
        if self.left_out == MANY {
            self.left_out = 0;
            self.shown = u32::from(MANY) * REPEATS;
        }
        true
    }
}

/// Digests of what was sent.
pub(super) struct Sent {
    /// By the digest's high bits; 0: nothing. Made when the first comes: on loopback none does.
    digests: Vec<u64>,
    /// A linear congruential generator: what comes in turn must not meet the same turn for ever.
    turn: u64,
}

const DIGESTS: usize = 1 << 16;

/// Where there is one already, one in so many takes its place: what goes round comes again
/// and finds a place soon; what comes once takes few.
const ONE_IN: u64 = 8;

impl Sent {
    pub(super) fn new() -> Self {
        Self {
            digests: Vec::new(),
            turn: 0,
        }
    }

    /// Whether such bytes were sent to the peer of this hash.
    #[inline]
    pub(super) fn has(&self, hash: u64, data: &[u8]) -> bool {
        let has = |digest: u64| self.digests.get(place(digest)) == Some(&digest);
        has(digest(hash, data)) && (data.len() <= 2 * PART || has(digest_of_all(hash, data)))
    }

    /// Keeps that such bytes are sent; whether they were before.
    #[inline]
    pub(super) fn keep(&mut self, hash: u64, data: &[u8]) -> bool {
        if self.digests.is_empty() {
            self.digests = vec![0; DIGESTS];
            self.turn = hash;
        }
        self.keep_digest(digest(hash, data))
            && (data.len() <= 2 * PART || self.keep_digest(digest_of_all(hash, data)))
    }

    #[inline]
    fn keep_digest(&mut self, digest: u64) -> bool {
        let known = &mut self.digests[place(digest)];
        if *known == digest {
            return true;
        }
        // Knuth's constants (MMIX); only its high bits are used.
        let turn = self.turn.wrapping_mul(6_364_136_223_846_793_005);
        self.turn = turn.wrapping_add(1_442_695_040_888_963_407);
        if *known == 0 || (self.turn >> 32).is_multiple_of(ONE_IN) {
            *known = digest;
        }
        false
    }
}

fn place(digest: u64) -> usize {
    (digest >> 32) as usize % DIGESTS
}

/// What of a long one's start and end is looked at first.
const PART: usize = 32;

/// A number of their length, their start and their end, by a key; never 0.
#[inline]
fn digest(key: u64, data: &[u8]) -> u64 {
    let start = &data[..data.len().min(PART)];
    let end = &data[data.len().saturating_sub(PART).max(start.len())..];
    mix(mix(key ^ data.len() as u64, key, start), key, end) | 1
}

/// A number of all of it, by a key; never 0, and another one than the above.
#[cold]
fn digest_of_all(key: u64, data: &[u8]) -> u64 {
    mix(!key ^ data.len() as u64, key.rotate_left(17), data) | 1
}

/// Both halves of products of what is secret: whoever does not know the key cannot choose which
/// datagrams have the same place, as he could if only the sum were.
#[inline]
fn mix(mut digest: u64, key: u64, data: &[u8]) -> u64 {
    let word = |part: &[u8]| {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        u64::from_le_bytes(word)
    };
    for chunk in data.chunks(16) {
        let (one, other) = chunk.split_at(chunk.len().min(8));
        let (one, other) = (word(one) ^ digest, word(other) ^ key.rotate_left(32));
        let product = u128::from(one) * u128::from(other);
        digest = (product as u64 ^ (product >> 64) as u64) ^ key;
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Rounds of `many` on the way at once, `per_ms` repeats a millisecond while all are
    /// there, until none is left; and milliseconds.
    fn loop_of(many: u64, per_ms: u64) -> (u64, u64) {
        let mut allowance = Allowance::default();
        let (mut left, mut rounds) = (many, 0);
        for now in 0..10_000_000 {
            // Fewer go round less often.
            let batch = (per_ms * left).div_ceil(many).max(1);
            left -= allowance.take(batch, now as u32).min(left);
            rounds += batch;
            if left == 0 {
                return (rounds, now);
            }
        }
        (rounds, u64::MAX)
    }

    #[test]
    fn f17_one_that_goes_round_ends() {
        for per_ms in [1, 5, 10, 20] {
            let (rounds, _) = loop_of(1, per_ms);
            assert!(rounds < u64::from(REPEATS) + per_ms, "{per_ms}: {rounds}");
        }
    }

    #[test]
    fn f17_many_that_go_round_fast_are_soon_less() {
        for many in [2, 10, 100, 500] {
            let (rounds, ms) = loop_of(many, 300);
            let most = u64::from(REPEATS) + u64::from(EXCESS) * many;
            // Those that are left within the rate have rule 1 only.
            assert!(
                rounds <= most + u64::from(PER_SECOND) * ms / 1000 + 300,
                "{many}: {rounds}"
            );
        }
    }

    #[test]
    fn f17_what_grows_with_each_round_ends_as_well() {
        let mut allowance = Allowance::default();
        let (mut left, mut rounds) = (1u64, 0);
        for now in 0..1_000 {
            let answered = left - allowance.take_copied(left, now);
            rounds += answered;
            left = answered.saturating_mul(2);
        }
        assert_eq!((left, rounds), (0, u64::from(REPEATS)));
        // Who goes on is answered again.
        assert_eq!(allowance.take_copied(10, 999), 10);
        assert_eq!(allowance.take_copied(10, 2_100), 0);
    }

    #[test]
    fn a_client_that_repeats_itself_loses_next_to_nothing() {
        let lost = |per_ms: u64, ms: u32| {
            let mut allowance = Allowance::default();
            (0..ms).map(|now| allowance.take(per_ms, now)).sum::<u64>()
        };
        // Within the rate, one in 65,536.
        assert_eq!(lost(10, 6_000), 0);
        assert_eq!(lost(10, 60_000), 600_000 / u64::from(REPEATS));
        // Beyond it, some at first.
        let beyond = lost(100, 60_000);
        assert!(
            beyond <= u64::from(MANY) + 6_000_000 / u64::from(REPEATS) + 1,
            "{beyond}"
        );
    }

    #[test]
    fn a_client_that_goes_on_beyond_a_rate_limit_loses_no_more_than_that() {
        let mut allowance = Allowance::default();
        for now in 0..1_000_000 {
            // One of 20 is answered.
            assert_eq!(allowance.take(1, now), 0);
            allowance.refused();
        }
    }

    #[test]
    fn f17_a_silence_gives_no_more_than_its_time() {
        let mut allowance = Allowance::default();
        assert_eq!(allowance.take(u64::from(BURST) - 1, 0), 0);
        assert!(allowance.take(640, 1) >= 9);
        assert_eq!(allowance.take(640, 101), 0);
        assert!(allowance.take(640, 102) > 0);
    }

    #[test]
    fn what_was_sent_is_known_by_peer_length_start_and_end() {
        let mut sent = Sent::new();
        assert!(!sent.has(1, b"hello"));
        assert!(!sent.keep(1, b"hello"));
        assert!(sent.keep(1, b"hello") && sent.has(1, b"hello"));
        assert!(!sent.has(3, b"hello") && !sent.has(1, b"hellp") && !sent.has(1, b"hello\0"));
        let long = [7u8; 1400];
        sent.keep(1, &long);
        assert!(!sent.keep(1, &long));
        assert!(sent.keep(1, &long) && sent.has(1, &long));
        for at in [0, 31, 32, 700, 1367, 1368, 1399] {
            let mut other = long;
            other[at] = 8;
            assert!(!sent.has(1, &other) && !sent.keep(1, &other), "{at}");
        }
        assert!(!sent.keep(1, b""));
        assert!(sent.has(1, b""));
    }

    #[test]
    fn what_goes_round_is_kept_among_much_that_is_new() {
        let mut sent = Sent::new();
        let mut known = 0;
        for round in 0..1000u32 {
            known += u32::from(sent.keep(9, b"round and round"));
            for other in 0..1000u32 {
                sent.keep(9, &(round * 1000 + other).to_be_bytes());
            }
        }
        assert!(known > 900, "{known}");
    }

    proptest! {
        #[test]
        fn never_more_are_left_out_than_came(steps in prop::collection::vec((0u64..70_000, any::<u32>()), 0..50)) {
            let mut allowance = Allowance::default();
            for (repeats, now) in steps {
                prop_assert!(allowance.take(repeats, now) <= repeats);
            }
        }
    }
}
