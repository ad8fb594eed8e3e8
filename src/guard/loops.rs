//! Datagrams that go round and round between this server and another one, or another echo.
//!
//! One forged datagram is enough to start that (CVE-1999-0103, CVE-2024-2169), and a peer in
//! such a loop is told from a client by what it does, in three steps of rising cost:
//!
//! 1. Each batch's first receives are counted by source, in a small table: [`SIGHTINGS`] of
//!    one source, and it is suspected.
//! 2. A suspect is checked by its hop limit (`hops.rs`), which finds loops between two such
//!    servers, whatever they answer; they end within some 30 rounds.
//! 3. Other servers answer with a hop limit of their own. What sends back just what it was
//!    sent, one datagram at a time, faster than its limit, is left alone for a while: off
//!    loopback, or wherever sources have a limit.
//!
//! Rule 1: memory is bounded by constants, whatever comes.
//! Rule 2: a client that was checked costs nothing for the next [`CLIENT_SIGHTINGS`].
//! Rule 3: time is given, and is needed only while [`Loops::is_alert`].

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::hops::{Hop, Hops};
use crate::address::is_loopback;
use crate::stats::DropReason;
use crate::sys::RawAddress;

/// Sightings of one source that make it a suspect.
const SIGHTINGS: u32 = 16;

/// The same once it was found to be a client: that it is checked again costs nothing.
const CLIENT_SIGHTINGS: u32 = 1 << 20;

/// Sources that are counted at a time; a power of two.
const TABLE: usize = 256;

/// Places in which a source may be.
const WAYS: usize = 2;

/// Sources that are checked at a time.
const SUSPECTS: usize = 16;

/// Sources that are left alone, or were of late.
const QUARANTINED: usize = 64;

/// Batches without it after which a suspect is none any more.
const ABSENT_BATCHES: u64 = 4096;

/// Rounds of nothing but our own bytes, one datagram on the way, that make an echo.
const LOCK_STEPS: u64 = 64;

/// Rounds a second that such an echo is granted where sources have no limit, and the time
/// over which they are counted.
const ROUNDS_PER_SECOND: u64 = 10_000;
const WINDOW: Duration = Duration::from_millis(100);

/// The first quarantine of a peer; each further one is twice as long, up to the last.
const QUARANTINE: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(320);

/// How long a quarantine is remembered after its end.
const MEMORY: Duration = Duration::from_secs(600);

/// Datagrams from a peer that only seemed to be an echo after which it is none: an echo has
/// nothing to send while it is not answered.
const UNPROMPTED: u32 = 8;

/// The same of one that was told by its pace: it had one datagram on the way, and that is gone.
const UNPROMPTED_ALONE: u32 = 2;

/// What several datagrams that went round have left on the way when a quarantine begins was
/// prompted still. By then it has come, over any usual path.
const ON_THE_WAY: Duration = Duration::from_millis(500);

/// One receive, as far as loops go.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) source: &'a RawAddress,
    /// With which it came; 0: the system does not say.
    pub(super) hop_limit: u8,
    pub(super) datagrams: u64,
    pub(super) data: &'a [u8],
}

/// What is worth a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// A peer is left alone for so long, since its datagrams are our own replies.
    Quarantined(SocketAddr, Duration, Why),
    /// It sends without being answered: no echo.
    Released(SocketAddr),
}

/// By what a loop was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The hop limit fell from round to round.
    Hops,
    /// The same bytes came back, one datagram at a time, beyond a limit.
    LockStep,
}

/// What became of one receive of a peer that is looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Finding {
    /// It is not to be answered.
    pub(super) reason: Option<DropReason>,
    /// It is to be answered with this hop limit; 0: the socket's.
    pub(super) reply_hop_limit: u8,
    pub(super) news: Option<News>,
}

/// How often the same bytes came in a row, each time as the one datagram of its source in
/// its batch.
#[derive(Debug, Clone, Copy, Default)]
struct LockStep {
    same: u64,
    digest: u64,
    batch: u64,
}

impl LockStep {
    fn see(&mut self, seen: &Seen<'_>, batch: u64) {
        let digest = digest(seen.data);
        let is_alone = seen.datagrams == 1 && self.batch != batch;
        self.same = if is_alone && digest == self.digest {
            self.same + 1
        } else {
            0
        };
        (self.digest, self.batch) = (digest, batch);
    }
}

/// A source that came of late.
#[derive(Debug, Clone, Copy, Default)]
struct Sighting {
    fingerprint: u32,
    /// Sightings until it is a suspect.
    left: u32,
    /// How often it came, less how often others wanted its place; 0: nobody has it.
    weight: u32,
    /// It was found to send by itself.
    is_client: bool,
    lock_step: LockStep,
}

struct Suspect {
    source: RawAddress,
    /// `None` once the hop limit told that it is no loop.
    hops: Option<Hops>,
    lock_step: LockStep,
    /// It has a limit of rounds should it be an echo.
    is_watched: bool,
    /// When it was last seen.
    batch: u64,
    /// Rounds since then, where it has no other limit.
    window: Option<Instant>,
    rounds: u64,
}

struct Quarantined {
    source: RawAddress,
    why: Why,
    times: u32,
    until: Instant,
    /// Datagrams that came since this moment were not prompted by an answer, and how many did.
    silent_from: Instant,
    came: u32,
}

impl Quarantined {
    fn time(&self) -> Duration {
        QUARANTINE
            .saturating_mul(1 << (self.times - 1).min(16))
            .min(LONGEST)
    }
}

/// One worker's look-out.
pub(super) struct Loops {
    sightings: Box<[Sighting; TABLE]>,
    suspects: Vec<Suspect>,
    quarantined: Vec<Quarantined>,
    /// Sources have a limit, which is theirs to keep to: see [`Loops::refused`].
    limits_sources: bool,
    batch: u64,
}

impl Loops {
    pub(super) fn new(limits_sources: bool) -> Self {
        Self {
            sightings: Box::new([Sighting::default(); TABLE]),
            suspects: Vec::with_capacity(SUSPECTS),
            quarantined: Vec::with_capacity(QUARANTINED),
            limits_sources,
            batch: 0,
        }
    }

    /// Somebody is looked at: every receive is to be [`Loops::examine`]d.
    pub(super) fn is_alert(&self) -> bool {
        !(self.suspects.is_empty() && self.quarantined.is_empty())
    }

    /// Some suspect's hop limits are to be asked for.
    pub(super) fn needs_hop_limits(&self) -> bool {
        self.suspects.iter().any(|suspect| suspect.hops.is_some())
    }

    /// To be called before each batch while alert, and where sources have a limit.
    pub(super) fn begin(&mut self, now: Instant) {
        self.batch += 1;
        let batch = self.batch;
        self.suspects
            .retain(|suspect| batch - suspect.batch < ABSENT_BATCHES);
        self.quarantined.retain(|peer| peer.until + MEMORY > now);
    }

    /// Counts a source. Its place in the table, if it has one.
    #[inline]
    pub(super) fn sight(&mut self, source: &RawAddress) -> Option<usize> {
        let fingerprint = source.fingerprint();
        let index = self.place(fingerprint)?;
        let sighting = &mut self.sightings[index];
        sighting.left = sighting.left.saturating_sub(1);
        if sighting.left == 0 {
            self.suspect(source, index);
        }
        Some(index)
    }

    fn place(&mut self, fingerprint: u32) -> Option<usize> {
        // The high bits are the ones that differ.
        let first = (fingerprint >> (u32::BITS - TABLE.ilog2())) as usize & !(WAYS - 1);
        let ways = &mut self.sightings[first..first + WAYS];
        if let Some(way) = ways
            .iter()
            .position(|way| way.fingerprint == fingerprint && way.weight > 0)
        {
            ways[way].weight = ways[way].weight.saturating_add(1);
            return Some(first + way);
        }
        let way = (0..WAYS).min_by_key(|way| ways[*way].weight)?;
        // Who comes more often than all newcomers together keeps its place (Misra and Gries).
        ways[way].weight = ways[way].weight.saturating_sub(1);
        if ways[way].weight > 0 {
            return None;
        }
        ways[way] = Sighting {
            fingerprint,
            left: SIGHTINGS,
            weight: 1,
            ..Sighting::default()
        };
        Some(first + way)
    }

    #[cold]
    fn suspect(&mut self, source: &RawAddress, index: usize) {
        // Again soon, should there be no room now.
        self.sightings[index].left = SIGHTINGS;
        if self.suspects.iter().any(|known| known.source == *source) {
            return;
        }
        if self.suspects.len() == SUSPECTS {
            // Those whose hop limit is checked are through with it soon.
            let Some(done) = self.suspects.iter().position(|known| known.hops.is_none()) else {
                return;
            };
            self.suspects.remove(done);
        }
        let is_loopback = source.ip().is_some_and(is_loopback);
        let is_client = self.sightings[index].is_client;
        self.suspects.push(Suspect {
            source: *source,
            hops: Some(Hops::default()),
            lock_step: LockStep::default(),
            is_watched: !(self.limits_sources || is_loopback || is_client),
            batch: self.batch,
            window: None,
            rounds: 0,
        });
    }

    /// Looks at a receive, which may be of somebody who is suspected or left alone.
    pub(super) fn examine(&mut self, seen: &Seen<'_>, now: Instant) -> Finding {
        if let Some(finding) = self.examine_quarantined(seen.source, now) {
            return finding;
        }
        let Some(index) = self
            .suspects
            .iter()
            .position(|known| known.source == *seen.source)
        else {
            return Finding::default();
        };
        let suspect = &mut self.suspects[index];
        suspect.batch = self.batch;
        suspect.lock_step.see(seen, self.batch);
        let mut finding = Finding::default();
        if let Some(hops) = &mut suspect.hops {
            match hops.see(seen.hop_limit) {
                Hop::Answer(hop_limit) => {
                    finding.reply_hop_limit = hop_limit;
                    return finding;
                }
                Hop::Loop => {
                    finding.reason = Some(DropReason::EchoLoop);
                    finding.news = self.quarantine(seen.source, Why::Hops, now);
                    return finding;
                }
                Hop::Client => suspect.hops = None,
            }
        }
        if !suspect.is_watched || suspect.lock_step.same < LOCK_STEPS {
            self.suspects.remove(index);
            self.clear(seen.source, false);
        } else if is_beyond_limit(suspect, now) {
            finding.reason = Some(DropReason::RateLimited);
            finding.news = self.quarantine(seen.source, Why::LockStep, now);
        }
        finding
    }

    fn examine_quarantined(&mut self, source: &RawAddress, now: Instant) -> Option<Finding> {
        let index = self
            .quarantined
            .iter()
            .position(|known| known.source == *source)?;
        let peer = &mut self.quarantined[index];
        if now >= peer.until {
            return None;
        }
        peer.came += u32::from(now >= peer.silent_from);
        let mut finding = Finding {
            reason: Some(DropReason::Quarantined),
            ..Finding::default()
        };
        // Anybody may have forged falling hop limits, so each time is as good as the first.
        let (why, may_leave) = (peer.why, peer.why == Why::Hops || peer.times == 1);
        let enough = match why {
            Why::Hops => UNPROMPTED,
            Why::LockStep => UNPROMPTED_ALONE,
        };
        if may_leave && peer.came == enough {
            self.quarantined.remove(index);
            // Of its pace nothing is known where it was told by its hop limit; else a forger
            // could have an echo of lock-step exempted.
            self.clear(source, why == Why::LockStep);
            finding.news = source.to_std().map(News::Released);
        }
        Some(finding)
    }

    /// Sources have a limit, and this receive, sighted at `place`, is counted against it:
    /// keeps what is needed to tell an echo.
    pub(super) fn note(&mut self, place: usize, seen: &Seen<'_>) {
        self.sightings[place].lock_step.see(seen, self.batch);
    }

    /// A source, sighted at `place`, is beyond its limit, of which it may use `burst` at once.
    pub(super) fn refused(
        &mut self,
        place: usize,
        source: &RawAddress,
        burst: u64,
        now: Instant,
    ) -> Option<News> {
        let sighting = &self.sightings[place];
        // No more rounds than the limit allows, so small ones have to do with less.
        let enough = burst.saturating_sub(1).clamp(2, LOCK_STEPS);
        if sighting.is_client || sighting.lock_step.same < enough {
            return None;
        }
        self.quarantine(source, Why::LockStep, now)
    }

    /// It is left in peace; for good where it showed that it sends by itself.
    fn clear(&mut self, source: &RawAddress, is_client: bool) {
        if let Some(index) = self.place(source.fingerprint()) {
            let sighting = &mut self.sightings[index];
            sighting.left = CLIENT_SIGHTINGS;
            sighting.is_client |= is_client;
        }
    }

    #[cold]
    fn quarantine(&mut self, source: &RawAddress, why: Why, now: Instant) -> Option<News> {
        self.suspects.retain(|known| known.source != *source);
        let known = self
            .quarantined
            .iter()
            .position(|known| known.source == *source);
        let index = known.unwrap_or_else(|| {
            if self.quarantined.len() == QUARANTINED {
                let first = (0..QUARANTINED).min_by_key(|index| self.quarantined[*index].until);
                self.quarantined.swap_remove(first.unwrap_or(0));
            }
            self.quarantined.push(Quarantined {
                source: *source,
                why,
                times: 0,
                until: now,
                silent_from: now,
                came: 0,
            });
            self.quarantined.len() - 1
        });
        let peer = &mut self.quarantined[index];
        (peer.why, peer.times, peer.came) = (why, peer.times + 1, 0);
        let time = peer.time();
        peer.until = now + time;
        peer.silent_from = match why {
            Why::Hops => now + ON_THE_WAY,
            // One datagram at a time: none is left on the way.
            Why::LockStep => now,
        };
        source
            .to_std()
            .map(|peer| News::Quarantined(peer, time, why))
    }
}

/// Counts a round of an echo that has no other limit.
fn is_beyond_limit(suspect: &mut Suspect, now: Instant) -> bool {
    let since = suspect
        .window
        .map(|since| now.saturating_duration_since(since));
    if since.is_none_or(|since| since >= WINDOW) {
        (suspect.window, suspect.rounds) = (Some(now), 0);
    }
    suspect.rounds += 1;
    suspect.rounds * 1000 > ROUNDS_PER_SECOND * WINDOW.as_millis() as u64
}

/// A number that differs for most payloads: of their length, their start and their end.
fn digest(data: &[u8]) -> u64 {
    const PART: usize = 32;
    let (start, end) = (
        &data[..data.len().min(PART)],
        &data[data.len().saturating_sub(PART)..],
    );
    // FNV-1a, on words rather than bytes.
    let mut digest = 0xCBF2_9CE4_8422_2325 ^ data.len() as u64;
    for chunk in start.chunks(8).chain(end.chunks(8)) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        digest = (digest ^ u64::from_le_bytes(word)).wrapping_mul(0x0000_0100_0000_01B3);
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(text: &str) -> RawAddress {
        RawAddress::from(text.parse::<SocketAddr>().unwrap())
    }

    fn seen<'a>(source: &'a RawAddress, hop_limit: u8, data: &'a [u8]) -> Seen<'a> {
        Seen {
            source,
            hop_limit,
            datagrams: 1,
            data,
        }
    }

    /// A batch of one receive.
    fn batch(loops: &mut Loops, seen: &Seen<'_>, now: Instant) -> Finding {
        loops.begin(now);
        let finding = if loops.is_alert() {
            loops.examine(seen, now)
        } else {
            Finding::default()
        };
        if finding.reason.is_none() {
            loops.sight(seen.source);
        }
        finding
    }

    /// Batches of a loop with falling hop limits, until it is found out; how many.
    fn loop_rounds(loops: &mut Loops, source: &RawAddress, now: Instant) -> (u32, Finding) {
        let mut hop_limit = 64;
        for round in 1.. {
            let finding = batch(loops, &seen(source, hop_limit, b"round"), now);
            if finding.reason.is_some() {
                return (round, finding);
            }
            if finding.reply_hop_limit > 0 {
                hop_limit = finding.reply_hop_limit - 1;
            }
        }
        unreachable!("rounds do not run out");
    }

    #[test]
    fn f17_falling_hop_limits_are_found_and_the_peer_is_left_alone() {
        let mut loops = Loops::new(false);
        let (echo, start) = (address("127.0.0.1:7"), Instant::now());
        let (rounds, finding) = loop_rounds(&mut loops, &echo, start);
        assert!(rounds < 32, "{rounds}");
        assert_eq!(finding.reason, Some(DropReason::EchoLoop));
        let peer = "127.0.0.1:7".parse().unwrap();
        let news = News::Quarantined(peer, Duration::from_secs(10), Why::Hops);
        assert_eq!(finding.news, Some(news));
        // Nobody is asked for hop limits any more, and other ports are other peers.
        assert!(!loops.needs_hop_limits() && loops.is_alert());
        for _ in 0..1000 {
            let finding = batch(&mut loops, &seen(&echo, 64, b"again"), start);
            assert_eq!(finding.reason, Some(DropReason::Quarantined));
            assert_eq!(finding.news, None);
        }
        let later = start + Duration::from_secs(9);
        assert_eq!(
            batch(&mut loops, &seen(&echo, 64, b"again"), later).reason,
            Some(DropReason::Quarantined)
        );
        let other = address("127.0.0.1:8");
        assert_eq!(
            batch(&mut loops, &seen(&other, 64, b"hello"), later).reason,
            None
        );
    }

    #[test]
    fn each_quarantine_is_twice_as_long_and_in_the_end_all_is_forgotten() {
        let mut loops = Loops::new(false);
        let (echo, mut now) = (address("192.0.2.1:5000"), Instant::now());
        for wanted in [10, 20, 40, 80, 160, 320, 320] {
            let (_, finding) = loop_rounds(&mut loops, &echo, now);
            let Some(News::Quarantined(_, time, _)) = finding.news else {
                panic!("{finding:?}");
            };
            assert_eq!(time, Duration::from_secs(wanted));
            now += time;
        }
        loops.begin(now + MEMORY);
        assert!(!loops.is_alert());
    }

    #[test]
    fn a_client_is_checked_once_and_left_in_peace() {
        let mut loops = Loops::new(false);
        let (client, now) = (address("127.0.0.1:5000"), Instant::now());
        let mut checked = 0;
        for _ in 0..10_000 {
            let finding = batch(&mut loops, &seen(&client, 64, b"same"), now);
            assert_eq!(finding.reason, None);
            checked += u32::from(loops.is_alert());
        }
        assert!((64..200).contains(&checked), "{checked}");
    }

    #[test]
    fn f17_off_loopback_an_echo_with_its_own_hop_limit_has_a_limit_of_rounds() {
        let (mut loops, start) = (Loops::new(false), Instant::now());
        let echo = address("192.0.2.1:5000");
        // 30,000 rounds a second: the limit is reached within a window of them.
        let found = (0..30_000u32).find_map(|round| {
            let now = start + Duration::from_nanos(u64::from(round) * 33_333);
            let finding = batch(&mut loops, &seen(&echo, 64, b"round"), now);
            finding.reason.map(|reason| (round, reason, finding.news))
        });
        let (round, reason, news) = found.unwrap();
        assert!((1000..2000).contains(&round), "{round}");
        assert_eq!(reason, DropReason::RateLimited);
        assert!(matches!(news, Some(News::Quarantined(_, _, Why::LockStep))));
    }

    #[test]
    fn what_is_no_echo_has_no_limit_of_rounds() {
        let start = Instant::now();
        let served = |source: &str, data: &dyn Fn(u32) -> [u8; 4], pause_ns: u64| {
            let (mut loops, source) = (Loops::new(false), address(source));
            (0..20_000u32).all(|round| {
                let now = start + Duration::from_nanos(u64::from(round) * pause_ns);
                let data = data(round);
                batch(&mut loops, &seen(&source, 64, &data), now)
                    .reason
                    .is_none()
            })
        };
        let same = |_| [7; 4];
        assert!(served("127.0.0.1:5000", &same, 20_000), "on loopback");
        assert!(
            served("192.0.2.1:5000", &u32::to_be_bytes, 20_000),
            "new data"
        );
        assert!(served("192.0.2.1:5000", &same, 110_000), "slow enough");
        assert!(!served("192.0.2.1:5000", &same, 20_000));
    }

    #[test]
    fn who_goes_on_without_being_answered_is_released_once() {
        let (mut loops, now) = (Loops::new(true), Instant::now());
        let client = address("192.0.2.1:5000");
        let fills_its_bucket = |loops: &mut Loops| {
            for _ in 0..LOCK_STEPS + 1 {
                loops.begin(now);
                let place = loops.sight(&client).unwrap();
                loops.note(place, &seen(&client, 64, b"same"));
            }
            let place = loops.place(client.fingerprint()).unwrap();
            loops.refused(place, &client, 100, now)
        };
        assert!(matches!(
            fills_its_bucket(&mut loops),
            Some(News::Quarantined(..))
        ));
        let findings: Vec<Finding> = (0..9)
            .map(|_| batch(&mut loops, &seen(&client, 64, b"same"), now))
            .collect();
        let held = |finding: &&Finding| finding.reason == Some(DropReason::Quarantined);
        assert_eq!(findings.iter().filter(held).count(), 2);
        assert!(matches!(findings[1].news, Some(News::Released(_))));
        assert_eq!(fills_its_bucket(&mut loops), None, "it is known by now");
    }

    /// Datagrams from `source` that are not answered, one every millisecond, until it is
    /// released; how many.
    fn held(loops: &mut Loops, source: &RawAddress, start: Instant) -> u32 {
        (0..)
            .find(|sent| {
                let now = start + Duration::from_millis((*sent).into());
                let finding = batch(loops, &seen(source, 60, b"hello"), now);
                assert_eq!(finding.reason, Some(DropReason::Quarantined), "{sent}");
                matches!(finding.news, Some(News::Released(_)))
            })
            .unwrap()
    }

    #[test]
    fn f17_forged_falling_hop_limits_lock_nobody_out_for_long() {
        let (mut loops, mut now) = (Loops::new(false), Instant::now());
        let client = address("192.0.2.1:5000");
        // As often as somebody likes to, for each time is as good as the first.
        for _ in 0..4 {
            loop_rounds(&mut loops, &client, now);
            let lost = held(&mut loops, &client, now);
            assert_eq!(
                Duration::from_millis(lost.into()),
                ON_THE_WAY + Duration::from_millis(7)
            );
            // A client it is now: as many forged again, and more, change nothing.
            now += Duration::from_secs(1);
            for forged in 0..1000u32 {
                let hop_limit = 200 - (forged % 200) as u8;
                let finding = batch(&mut loops, &seen(&client, hop_limit, b"forged"), now);
                assert_eq!(finding.reason, None);
            }
            // Until others have taken its place in the table.
            loops.sightings.fill(Sighting::default());
        }
    }

    #[test]
    fn f17_who_is_released_by_hop_limit_is_still_told_by_its_pace() {
        let (mut loops, now) = (Loops::new(false), Instant::now());
        let echo = address("192.0.2.1:5000");
        loop_rounds(&mut loops, &echo, now);
        held(&mut loops, &echo, now);
        let place = loops.place(echo.fingerprint()).unwrap();
        assert!(!loops.sightings[place].is_client);
    }

    #[test]
    fn f17_what_was_on_the_way_releases_no_loop() {
        let (mut loops, now) = (Loops::new(false), Instant::now());
        let echo = address("127.0.0.1:7");
        loop_rounds(&mut loops, &echo, now);
        // A hundred that went round at once, and a few stragglers.
        for sent in 0..107u64 {
            let after = if sent < 100 { sent * 4 } else { 500 + sent };
            let now = now + Duration::from_millis(after);
            let finding = batch(&mut loops, &seen(&echo, 64, b"round"), now);
            assert_eq!(finding.reason, Some(DropReason::Quarantined));
            assert_eq!(finding.news, None);
        }
    }

    #[test]
    fn two_on_the_way_or_other_bytes_are_no_lock_step() {
        let client = address("192.0.2.1:5000");
        let mut step = LockStep::default();
        for batch in 1..=10 {
            step.see(&seen(&client, 0, b"same"), batch);
        }
        assert_eq!(step.same, 9);
        step.see(&seen(&client, 0, b"same"), 10);
        assert_eq!(step.same, 0, "two in a batch");
        step.see(&seen(&client, 0, b"same"), 11);
        assert_eq!(step.same, 1);
        let train = Seen {
            datagrams: 2,
            ..seen(&client, 0, b"same")
        };
        step.see(&train, 12);
        assert_eq!(step.same, 0);
        step.see(&seen(&client, 0, b"other"), 13);
        assert_eq!(step.same, 0);
    }

    #[test]
    fn a_loop_is_found_among_many_clients() {
        let (mut loops, now) = (Loops::new(false), Instant::now());
        let echo = address("192.0.2.1:5000");
        let mut hop_limit = 64;
        let found = (0..4000u32).find(|round| {
            loops.begin(now);
            for other in 0..7 {
                let number = round * 7 + other;
                let other = address(&format!("10.{}.{}.1:9", number >> 8 & 255, number & 255));
                loops.sight(&other);
                loops.examine(&seen(&other, 60, b"hello"), now);
            }
            loops.sight(&echo);
            let finding = loops.examine(&seen(&echo, hop_limit, b"round"), now);
            hop_limit = match finding.reply_hop_limit {
                0 => 64,
                reply => reply - 1,
            };
            finding.reason == Some(DropReason::EchoLoop)
        });
        assert!(found.is_some_and(|round| round < 200), "{found:?}");
    }

    proptest! {
        #[test]
        fn memory_is_bounded_and_time_may_stand_still(
            steps in prop::collection::vec((any::<u16>(), 0u8..4, any::<u8>(), 0u64..20), 0..2000),
        ) {
            let (mut loops, mut now) = (Loops::new(false), Instant::now());
            for (number, port, hop_limit, seconds) in steps {
                now += Duration::from_secs(seconds / 19 * seconds);
                let source = address(&format!("10.0.{}.{}:{}", number >> 14, number & 3, 4000 + u16::from(port)));
                batch(&mut loops, &seen(&source, hop_limit, b"x"), now);
                prop_assert!(loops.suspects.len() <= SUSPECTS);
                prop_assert!(loops.quarantined.len() <= QUARANTINED);
            }
        }
    }
}
