//! Token buckets: one per source, and one for all. The workers share them without a lock.
//!
//! A bucket is one number, the time at which it will be full again: the generic cell rate
//! algorithm (ITU-T I.371, "virtual scheduling"), which is a token bucket that never has to
//! be refilled, and is changed by one compare-and-swap.
//!
//! Rule 1: the table never grows. It is made once, for 65,536 sources: 1 MiB.
//! Rule 2: a flood of forged sources costs known sources nothing, and new ones as little as
//! possible (`rates/total.rs` says how little). A source that has come back within [`ACTIVE`]
//! keeps its entry; a known source keeps it for [`KNOWN_FOR`]. In a set that is full of such
//! sources, new ones take turns at the entry that was seen longest ago.
//! Rule 3: nobody can choose which sources share an entry: the hash has a random key, and an
//! entry is found by all 64 bits of it.
//! Rule 4: the time is handed in. What a bucket refuses takes no token, from no other bucket either.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Rate, Source};
use crate::books::DropReason;
use crate::error::{Error, Result};
use total::{Seen, Total};

mod total;

/// Sets of entries, and entries per set: a cache line of them.
const SETS: usize = 1 << 14;
const WAYS: usize = 4;

/// A source that was seen is expected back within this time.
const ACTIVE: Duration = Duration::from_secs(2);

/// Times are counted in eighths of a nanosecond, so that a token at the highest rate still
/// takes a whole number of them.
const UNITS_PER_NS: u64 = 8;
const ACTIVE_UNITS: u64 = ACTIVE.as_nanos() as u64 * UNITS_PER_NS;

/// A source that was away for less than this (8.6 s) has come back.
const BACK: u64 = 1 << 36;

/// A source that comes back in three slots of time in a row, while the total has enough for all,
/// is known: that takes 4.3 s to 8.6 s. During a flood the total is not enough for all, so a flood
/// makes none of its sources known.
const SLOT_BITS: u32 = 35;

/// A known source is forgotten when it was away for this long: 69 s.
const KNOWN_FOR: u64 = 1 << 39;

/// The moment at which a table is made. It is larger than the time in which a bucket fills, so
/// that a difference of times is never negative.
const START: u64 = 1 << 60;

/// A moment on a table's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Rate {
    /// The highest rate: a token per nanosecond.
    pub const MOST_PER_SECOND: f64 = 1e9;

    /// A bucket fills within this many seconds (some three years).
    const MOST_SECONDS: f64 = 1e8;

    /// `per_second` tokens per second, and `burst` at once: by default a tenth of `per_second`,
    /// at least 5. [`super::Policy::validate`] refuses what cannot be.
    pub fn new(per_second: f64, burst: Option<u32>) -> Self {
        let burst = burst.unwrap_or_else(|| (per_second / 10.0).ceil().max(5.0) as u32);
        Self { per_second, burst }
    }

    /// Refuses a rate of which no bucket can be made; `name` is the rule's.
    pub(crate) fn validate(&self, name: &str) -> Result<()> {
        let (rate, burst) = (self.per_second, self.burst);
        let refuse = |subject: String, rule: &str, way_out: &str| {
            Err(Error::argument("set", subject, rule).or(way_out))
        };
        if !(rate > 0.0 && rate <= Self::MOST_PER_SECOND) {
            let rule = "a rate is more than 0 per second, and at most 1000000000";
            return refuse(format!("{name}={rate}"), rule, "leave it out for no limit");
        }
        if burst == 0 {
            let rule = "a burst of 0 lets nothing through";
            return refuse(name.to_owned(), rule, "take 1 or more");
        }
        if f64::from(burst) / rate > Self::MOST_SECONDS {
            let rule = "a burst takes more than three years to come back at that rate";
            let way_out = "take a higher rate, or a smaller burst";
            return refuse(
                format!("{name}={rate:e} with a burst of {burst}"),
                rule,
                way_out,
            );
        }
        Ok(())
    }
}

/// A rate as times.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Time from one token to the next.
    interval: u64,
    /// Time in which all tokens come back.
    full: u64,
}

impl Shape {
    fn new(rate: Rate) -> Self {
        // Rounded up: the rate is a limit.
        let interval = (1e9 * UNITS_PER_NS as f64 / rate.per_second).ceil() as u64;
        Self {
            interval,
            full: interval * u64::from(rate.burst),
        }
    }

    /// How many of `wanted` tokens are there, and when the bucket will be full once they are
    /// taken; `depth` is how far from full that may be.
    fn draw(&self, full_at: u64, now: u64, wanted: u64, depth: u64) -> (u64, u64) {
        let from = full_at.max(now);
        let room = (now + depth).saturating_sub(from);
        let granted = match wanted.checked_mul(self.interval) {
            Some(price) if price <= room => wanted,
            _ => room / self.interval,
        };
        (granted, from + granted * self.interval)
    }
}

/// One source: by its hash, 0 where there is none and [`BUSY`] while it changes.
#[derive(Debug, Default)]
struct Entry {
    tag: AtomicU64,
    state: AtomicU64,
}

const BUSY: u64 = 1;

/// When its bucket is full again, which is never before it was last seen; and how well it is
/// known.
#[derive(Debug, Clone, Copy)]
struct State {
    full_at: u64,
    standing: u64,
}

/// How well a source is known; from 1 on it has come back.
const NEW: u64 = 0;
const RETURNED: u64 = 1;
const KNOWN: u64 = 3;
const STANDING_BITS: u32 = 2;

impl State {
    fn unpack(bits: u64) -> Self {
        Self {
            full_at: bits >> STANDING_BITS,
            standing: bits & ((1 << STANDING_BITS) - 1),
        }
    }

    fn pack(self) -> u64 {
        self.full_at << STANDING_BITS | self.standing
    }

    /// When it was last seen, or later where it took several tokens; `interval` is what one takes.
    fn last_seen(self, interval: u64) -> u64 {
        self.full_at.saturating_sub(interval)
    }

    /// How well it is known when it is seen again.
    fn next_standing(self, interval: u64, now: u64, is_calm: impl FnOnce() -> bool) -> u64 {
        let last_seen = self.last_seen(interval);
        let gap = now.saturating_sub(last_seen);
        match self.standing {
            KNOWN if gap < KNOWN_FOR => KNOWN,
            NEW if gap < BACK => RETURNED,
            KNOWN | NEW => NEW,
            _ if gap >= BACK => NEW,
            standing => {
                let is_next_slot = last_seen >> SLOT_BITS < now >> SLOT_BITS;
                standing + u64::from(is_next_slot && is_calm())
            }
        }
    }

    /// Its entry is not for a newcomer.
    fn is_kept(self, now: u64) -> bool {
        let gap = now.saturating_sub(self.full_at);
        match self.standing {
            NEW => false,
            KNOWN => gap < KNOWN_FOR,
            _ => gap <= ACTIVE_UNITS,
        }
    }
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([Entry; WAYS]);

impl Source {
    /// A small number, for a small table.
    #[inline]
    fn fold(self) -> usize {
        (self.1.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58) as usize
    }
}

/// The keyed hash of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag(u64);

/// How much of a receive may be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant {
    /// How many of its datagrams.
    pub(crate) datagrams: u64,
    /// Why the others may not.
    pub(crate) reason: Option<DropReason>,
}

impl Grant {
    /// All of them.
    pub(crate) fn all(datagrams: u64) -> Self {
        Self {
            datagrams,
            reason: None,
        }
    }
}

/// The buckets of one server.
#[derive(Debug)]
pub(crate) struct Rates {
    /// More than one worker takes from them.
    is_shared: bool,
    start: Instant,
    keys: RandomState,
    per_source: Option<Shape>,
    total: Option<Box<Total>>,
    sets: Box<[Set]>,
    /// Shared by sources for which there is no entry just now.
    others: Entry,
}

impl Rates {
    /// For that many workers; `None` where neither is limited. The rates are valid.
    pub(crate) fn new(
        per_source: Option<Rate>,
        total: Option<Rate>,
        workers: usize,
    ) -> Option<Self> {
        let is_limited = per_source.is_some() || total.is_some();
        is_limited.then(|| Self::with_sets(SETS, per_source, total, workers))
    }

    /// `sets` is a power of two.
    fn with_sets(
        sets: usize,
        per_source: Option<Rate>,
        total: Option<Rate>,
        workers: usize,
    ) -> Self {
        Self {
            is_shared: workers > 1,
            start: Instant::now(),
            keys: RandomState::new(),
            per_source: per_source.map(Shape::new),
            total: total.map(Total::new).map(Box::new),
            sets: (0..sets).map(|_| Set::default()).collect(),
            others: Entry::default(),
        }
    }

    /// This time on the table's clock.
    pub(crate) fn moment(&self, now: Instant) -> Moment {
        let ns = now.saturating_duration_since(self.start).as_nanos() as u64;
        Moment(START + ns * UNITS_PER_NS)
    }

    /// Takes a token for each of `wanted` datagrams that came at once from the source of this
    /// tag. Those without a token are not to be answered.
    #[inline]
    pub(crate) fn take(&self, tag: Tag, wanted: u64, now: Moment) -> Grant {
        let Tag(tag) = tag;
        let (entry, mut granted, seen) = self.draw(tag, now.0, wanted);
        let mut reason = (granted < wanted).then_some(DropReason::RateLimited);
        if let Some(total) = &self.total
            && granted > 0
        {
            let answered = total.take(self.is_shared, seen, now.0, granted);
            if answered < granted {
                if let Some(shape) = self.per_source {
                    self.give_back(entry, tag, (granted - answered) * shape.interval);
                }
                granted = answered;
                reason = Some(DropReason::RateLimitedTotal);
            }
        }
        Grant {
            datagrams: granted,
            reason,
        }
    }

    pub(super) fn tag(&self, source: Source) -> Tag {
        Tag(self.keys.hash_one(source).max(BUSY + 1))
    }

    fn set(&self, tag: u64) -> &Set {
        &self.sets[tag as usize & (self.sets.len() - 1)]
    }

    /// Sees a source, and draws on its bucket: its entry, what it got, and what is known of it.
    fn draw(&self, tag: u64, now: u64, wanted: u64) -> (&Entry, u64, Seen) {
        let set = self.set(tag);
        let known = set
            .0
            .iter()
            .find(|entry| entry.tag.load(Ordering::Acquire) == tag);
        if let Some(entry) = known
            && let Some((granted, seen)) = self.draw_known(entry, tag, now, wanted)
        {
            return (entry, granted, seen);
        }
        let seen = Seen {
            is_known: false,
            gap: u64::MAX,
        };
        let Some(entry) = claim(set, now) else {
            // Other workers are changing all of them just now. Who comes meanwhile shares a bucket.
            let granted = self.draw_new(&self.others, now, wanted);
            return (&self.others, granted, seen);
        };
        // Nobody looks at the state of a busy entry, whatever was in it.
        entry.state.store(0, Ordering::Relaxed);
        let granted = self.draw_new(entry, now, wanted);
        entry.tag.store(tag, Ordering::Release);
        (entry, granted, seen)
    }

    /// Draws on an entry that is `tag`'s; `None`: it is somebody else's by now.
    fn draw_known(&self, entry: &Entry, tag: u64, now: u64, wanted: u64) -> Option<(u64, Seen)> {
        let mut bits = entry.state.load(Ordering::Relaxed);
        loop {
            let state = State::unpack(bits);
            let (granted, full_at) = self.price(state.full_at, now, wanted);
            let interval = self.per_source.map_or(0, |shape| shape.interval);
            let standing = state.next_standing(interval, now, || self.is_calm(now));
            let next = State { full_at, standing };
            match replace(self.is_shared, &entry.state, bits, next.pack()) {
                Ok(()) => {
                    let seen = Seen {
                        is_known: standing == KNOWN,
                        gap: now.saturating_sub(state.last_seen(interval)),
                    };
                    return Some((granted, seen));
                }
                Err(found) => bits = found,
            }
            if entry.tag.load(Ordering::Acquire) != tag {
                return None;
            }
        }
    }

    #[cold]
    fn is_calm(&self, now: u64) -> bool {
        self.total.as_ref().is_none_or(|total| total.is_calm(now))
    }

    /// Gives time back to the bucket of an entry that was `tag`'s, or is the others'. Once it
    /// has been taken over it starts anew, so there is nothing to give back to.
    fn give_back(&self, entry: &Entry, tag: u64, time: u64) {
        let mut bits = entry.state.load(Ordering::Relaxed);
        loop {
            let is_its = entry.tag.load(Ordering::Acquire) == tag;
            if !is_its && !std::ptr::eq(entry, &raw const self.others) {
                return;
            }
            let state = State::unpack(bits);
            // Taken over after that look, it may hold 0.
            let next = State {
                full_at: state.full_at.saturating_sub(time),
                ..state
            };
            match replace(self.is_shared, &entry.state, bits, next.pack()) {
                Ok(()) => return,
                Err(found) => bits = found,
            }
        }
    }

    fn draw_new(&self, entry: &Entry, now: u64, wanted: u64) -> u64 {
        let mut bits = entry.state.load(Ordering::Relaxed);
        loop {
            let (granted, full_at) = self.price(State::unpack(bits).full_at, now, wanted);
            let next = State {
                full_at,
                standing: NEW,
            };
            match replace(self.is_shared, &entry.state, bits, next.pack()) {
                Ok(()) => return granted,
                Err(found) => bits = found,
            }
        }
    }

    /// What a source's bucket gives; where sources have no limit, all, and that it was seen.
    fn price(&self, full_at: u64, now: u64, wanted: u64) -> (u64, u64) {
        match self.per_source {
            Some(shape) => shape.draw(full_at, now, wanted, shape.full),
            None => (wanted, full_at.max(now)),
        }
    }
}

/// Changes a number that nobody else has changed meanwhile. What only one worker writes takes
/// no locked instruction.
#[inline]
fn replace(
    is_shared: bool,
    number: &AtomicU64,
    old: u64,
    new: u64,
) -> std::result::Result<(), u64> {
    if is_shared {
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        return number
            .compare_exchange_weak(old, new, success, failure)
            .map(|_| ());
    }
    number.store(new, Ordering::Relaxed);
    Ok(())
}

/// An entry for a newcomer, marked as busy: an empty one, or the one seen longest ago of those
/// that are not kept. Where all are kept, of those that are not known, or else of all. The next
/// newcomer finds that one not kept, so only one entry of a set changes hands like that, until
/// its source has come back; who returns often is soon among the others.
fn claim(set: &Set, now: u64) -> Option<&Entry> {
    let (mut free, mut kept, mut known) = (None, None, None);
    for entry in &set.0 {
        let tag = entry.tag.load(Ordering::Relaxed);
        if tag == BUSY {
            continue;
        }
        let state = State::unpack(entry.state.load(Ordering::Relaxed));
        let seen = if tag == 0 { 0 } else { state.full_at };
        let oldest = if tag == 0 || !state.is_kept(now) {
            &mut free
        } else if state.standing < KNOWN {
            &mut kept
        } else {
            &mut known
        };
        if oldest.is_none_or(|(_, _, least)| seen < least) {
            *oldest = Some((entry, tag, seen));
        }
    }
    let (entry, tag, _) = free.or(kept).or(known)?;
    let taken = entry
        .tag
        .compare_exchange(tag, BUSY, Ordering::Acquire, Ordering::Relaxed);
    taken.is_ok().then_some(entry)
}

/// Tags of the sources that came last: the hash is half of what a limit costs.
#[derive(Debug)]
pub(crate) struct Tags(Box<[(Source, Tag); REMEMBERED]>);

/// Tags that one worker remembers.
const REMEMBERED: usize = 64;

impl Tags {
    pub(crate) fn new() -> Self {
        // A tag that no source has: it is nobody's entry.
        Self(Box::new([(Source(0, 0), Tag(BUSY)); REMEMBERED]))
    }

    /// The tag of a plain address's source.
    #[inline]
    pub(crate) fn of(&mut self, rates: &Rates, source: IpAddr) -> Tag {
        let source = Source::of(source);
        let (known, tag) = &mut self.0[source.fold() % REMEMBERED];
        if *known != source {
            (*known, *tag) = (source, rates.tag(source));
        }
        *tag
    }
}

#[cfg(test)]
mod flood_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    const SECOND: u64 = 1_000_000_000;

    fn rates(per_source: Option<(f64, u32)>, total: Option<(f64, u32)>) -> Rates {
        let rate = |(per_second, burst)| Rate { per_second, burst };
        Rates::with_sets(1 << 8, per_source.map(rate), total.map(rate), 2)
    }

    fn at(ns: u64) -> Moment {
        Moment(START + ns * UNITS_PER_NS)
    }

    fn ip(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(number))
    }

    impl Rates {
        fn ask(&self, source: IpAddr, wanted: u64, now: Moment) -> Grant {
            self.take(self.tag(Source::of(source)), wanted, now)
        }

        fn sources(&self) -> usize {
            let entries = self.sets.iter().flat_map(|set| &set.0);
            entries
                .filter(|entry| entry.tag.load(Ordering::Relaxed) > BUSY)
                .count()
        }
    }

    #[test]
    fn a_burst_at_once_and_then_the_rate() {
        let rates = rates(Some((10.0, 3)), None);
        let take = |ns| rates.ask(ip(1), 1, at(ns)).datagrams;
        assert_eq!((0..5).map(|_| take(0)).sum::<u64>(), 3);
        assert_eq!(take(99_000_000), 0);
        assert_eq!(take(100_000_000), 1);
        assert_eq!(take(100_000_000), 0);
        // A long silence fills it again, and no further.
        assert_eq!((0..5).map(|_| take(60 * SECOND)).sum::<u64>(), 3);
        // Nobody else's bucket.
        assert_eq!(rates.ask(ip(2), 9, at(60 * SECOND)).datagrams, 3);
    }

    #[test]
    fn a_train_is_answered_as_far_as_there_are_tokens() {
        let rates = rates(Some((10.0, 8)), None);
        let grant = rates.ask(ip(1), 64, at(0));
        assert_eq!(
            (grant.datagrams, grant.reason),
            (8, Some(DropReason::RateLimited))
        );
    }

    #[test]
    fn a_remembered_tag_is_the_sources_own() {
        let (rates, mut tags) = (rates(Some((1.0, 1)), None), Tags::new());
        for number in (0..500).chain(0..500) {
            for source in [ip(number), IpAddr::from([number as u16; 8])] {
                assert_eq!(tags.of(&rates, source), rates.tag(Source::of(source)));
            }
        }
    }

    #[test]
    fn all_addresses_of_an_ipv6_64_are_one_source() {
        let rates = rates(Some((1.0, 1)), None);
        let take = |ip: &str| rates.ask(ip.parse().unwrap(), 1, at(0)).datagrams;
        assert_eq!(take("2001:db8::1"), 1);
        assert_eq!(take("2001:db8::ffff:1"), 0);
        assert_eq!(take("2001:db8:0:1::1"), 1);
        assert_eq!(take("192.0.2.1"), 1);
        assert_eq!(take("192.0.2.2"), 1);
    }

    #[test]
    fn what_the_total_refuses_takes_nothing_from_the_source() {
        let rates = rates(Some((1.0, 100)), Some((1.0, 32)));
        // Two newcomers draw the total down to half, and have a share.
        assert_eq!(rates.ask(ip(1), 1, at(0)).datagrams, 1);
        assert_eq!(rates.ask(ip(2), 50, at(0)).datagrams, 15 + 2);
        let refused = rates.ask(ip(3), 1, at(0));
        assert_eq!(
            (refused.datagrams, refused.reason),
            (0, Some(DropReason::RateLimitedTotal))
        );
        // Back now, it has the rest. Much later it is a newcomer again, whose own bucket is full
        // but for what it got.
        assert_eq!(rates.ask(ip(3), 50, at(0)).datagrams, 14);
        assert_eq!(rates.ask(ip(3), 50, at(1000 * SECOND)).datagrams, 16 + 2);
        let bucket = rates
            .draw(rates.tag(Source::of(ip(3))).0, (at(1000 * SECOND)).0, 200)
            .1;
        assert_eq!(bucket, 100 - 18);
    }

    #[test]
    fn a_flood_of_forged_sources_leaves_an_honest_one_its_own() {
        let (per_source, total) = (Rate::new(2_000.0, None), Rate::new(10_000.0, None));
        let rates = Rates::new(Some(per_source), Some(total), 1).unwrap();
        let (honest, mut forged) = (ip(0xC000_0201), 0u64);
        let (mut answered, mut asked, mut total) = (0, 0, 0);
        // 200,000 sources in a second, and somebody who asks 1,000 times.
        for tick in 0..1_000u64 {
            let now = at(tick * 1_000_000);
            for _ in 0..200 {
                forged += 1;
                let source = ip(0x0B00_0000 + forged as u32);
                total += rates.ask(source, 1, now).datagrams;
            }
            asked += 1;
            let got = rates.ask(honest, 1, now).datagrams;
            answered += got;
            total += got;
        }
        assert_eq!(forged, 200_000);
        assert!(answered * 100 >= asked * 99, "{answered} of {asked}");
        assert!(total <= 10_000 + 1_000, "{total}");
        // Newcomers are not shut out either while there is room.
        assert!(total >= 10_000 - 1_000, "{total}");
        assert!(rates.sources() <= SETS * WAYS);
    }

    #[test]
    fn newcomers_to_a_full_set_take_turns_at_one_entry() {
        let rates = rates(Some((1.0, 2)), None);
        // More sources than there are entries, all of which come back: every set is full.
        let entries = rates.sets.len() * WAYS;
        for number in 0..entries as u32 * 16 {
            rates.ask(ip(number), 1, at(0));
            rates.ask(ip(number), 1, at(1));
        }
        assert_eq!(rates.sources(), entries);
        let tags = || -> Vec<u64> {
            let entries = rates.sets.iter().flat_map(|set| &set.0);
            entries
                .map(|entry| entry.tag.load(Ordering::Relaxed))
                .collect()
        };
        let before = tags();
        for number in 0..entries as u32 * 4 {
            assert_eq!(rates.ask(ip(0xF000_0000 + number), 1, at(2)).datagrams, 1);
        }
        let changed = tags()
            .iter()
            .zip(&before)
            .filter(|(new, old)| new != old)
            .count();
        assert_eq!(changed, rates.sets.len(), "one of each set");
    }

    #[test]
    fn workers_together_grant_no_more_than_there_is() {
        let rates = rates(Some((1.0, 1000)), Some((1.0, 1500)));
        let granted: u64 = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let take = |number: u32| rates.ask(ip(number % 2), 1, at(0)).datagrams;
                        (0..10_000).map(take).sum::<u64>()
                    })
                })
                .collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap())
                .sum()
        });
        assert_eq!(granted, 1500);
    }

    #[test]
    fn what_is_given_back_late_is_not_given_to_another_source() {
        let rates = rates(Some((1.0, 10)), None);
        let (tag, other) = (1 << 20, 1 << 21);
        let (entry, granted, _) = rates.draw(tag, at(0).0, 5);
        assert_eq!(granted, 5);
        let full_at = || State::unpack(entry.state.load(Ordering::Relaxed)).full_at;
        let second = SECOND * UNITS_PER_NS;
        assert_eq!(full_at(), START + 5 * second);
        rates.give_back(entry, tag, 2 * second);
        assert_eq!(full_at(), START + 3 * second);
        // Another worker has the entry now, for another source, and then its state as well.
        for (tag_now, state) in [
            (BUSY, 0),
            (other, 0),
            (other, (START + 4 * second) << STANDING_BITS),
        ] {
            entry.tag.store(tag_now, Ordering::Relaxed);
            entry.state.store(state, Ordering::Relaxed);
            rates.give_back(entry, tag, 2 * second);
            assert_eq!(entry.state.load(Ordering::Relaxed), state);
        }
        // Between the two looks: nothing is less than nothing.
        entry.tag.store(tag, Ordering::Relaxed);
        entry.state.store(0, Ordering::Relaxed);
        rates.give_back(entry, tag, 2 * second);
        assert_eq!(full_at(), 0);
    }

    #[test]
    fn however_workers_meet_no_bucket_is_owed_more_than_it_holds() {
        let rate = |(per_second, burst)| Rate { per_second, burst };
        // One place for all, so that each takes it from another, and a total that refuses.
        let rates = Rates::with_sets(1, Some(rate((1.0, 10))), Some(rate((1.0, 4))), 4);
        std::thread::scope(|scope| {
            for worker in 0..4u32 {
                let rates = &rates;
                scope.spawn(move || {
                    // So far apart that every entry is to be had, and the total has tokens.
                    for turn in 0..50_000u64 {
                        let source = ip((worker << 16) | (turn as u32 % 64));
                        rates.ask(source, 9, at(turn * 3 * SECOND));
                    }
                });
            }
        });
        let latest = at(50_000 * 3 * SECOND).0 + 10 * SECOND * UNITS_PER_NS;
        let entries = rates.sets[0].0.iter().chain([&rates.others]);
        for entry in entries {
            let state = State::unpack(entry.state.load(Ordering::Relaxed));
            assert!(state.full_at <= latest, "{state:?}");
        }
    }

    #[test]
    fn rates_that_no_bucket_can_be_made_of_are_refused() {
        for (per_second, burst) in [
            (0.0, 1),
            (-1.0, 1),
            (f64::NAN, 1),
            (f64::INFINITY, 1),
            (1e9 + 1.0, 1),
            (1.0, 0),
            (1e-9, 1),
            (1.0, u32::MAX),
        ] {
            let rate = Rate::new(per_second, Some(burst));
            let error = rate.validate("a rate").unwrap_err();
            assert!(error.is_argument(), "{per_second}:{burst}");
        }
        for (per_second, burst) in [(1.0, 5), (1000.0, 100), (1001.0, 101), (1e9, 100_000_000)] {
            let rate = Rate::new(per_second, None);
            assert_eq!(rate.burst, burst);
            rate.validate("a rate").unwrap();
        }
    }

    proptest! {
        /// Against a bucket of tokens that is filled as time passes, in whole numbers.
        #[test]
        fn is_a_token_bucket(
            per_second in prop_oneof![0.01..100.0, 100.0..1e6, 1e6..1e9],
            burst in 1u32..1000,
            steps in prop::collection::vec((0u64..2_000, 1u64..130), 1..200),
        ) {
            let rates = rates(Some((per_second, burst)), None);
            let interval = (8e9 / per_second).ceil() as u64;
            let full = u128::from(interval) * u128::from(burst);
            let (mut level, mut now) = (full, 0);
            for (gap, wanted) in steps {
                // Gaps of about the time that a token takes, in nanoseconds.
                let gap = gap * (interval / 8).max(1) / 1000;
                now += gap;
                level = full.min(level + u128::from(gap * UNITS_PER_NS));
                let expected = u128::from(wanted).min(level / u128::from(interval));
                level -= expected * u128::from(interval);
                let grant = rates.ask(ip(1), wanted, at(now));
                prop_assert_eq!(u128::from(grant.datagrams), expected);
                let reason = (grant.datagrams < wanted).then_some(DropReason::RateLimited);
                prop_assert_eq!(grant.reason, reason);
            }
        }

        /// Whoever asks for twice the rate gets the rate, to a burst and what rounding takes.
        #[test]
        fn twice_the_rate_gets_the_rate(per_second in 1.0..1e6) {
            let rates = rates(Some((per_second, 5)), None);
            let gap = 1e9 / per_second / 2.0;
            let granted: u64 = (0..10_000u64)
                .map(|n| rates.ask(ip(1), 1, at((n as f64 * gap).ceil() as u64)).datagrams)
                .sum();
            prop_assert!((4_990..=5_005).contains(&granted), "{granted}");
        }
    }
}
