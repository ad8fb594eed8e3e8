//! Servers, echoes, clients and a forger who knows this code, on a simulated network that
//! loses, delays and reorders.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;

use proptest::prelude::*;

use super::super::repeats::{EXCESS, PER_SECOND, REPEATS};
use super::*;

/// What takes no part in a proof: whoever plays dice here, the same dice each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }
}

fn address(text: &str) -> RawAddress {
    RawAddress::from(text.parse::<SocketAddr>().unwrap())
}

impl Loops {
    /// Where no rate limit refuses anything.
    fn look(&mut self, seen: &Seen<'_>, datagrams: u64, now: impl FnMut() -> Millis) -> Finding {
        self.examine(seen, datagrams, || datagrams, now)
    }
}

const A: usize = 0;

/// How one of the two ends answers.
enum End {
    Ours {
        loops: Box<Loops>,
        copies: usize,
    },
    /// Sends everything back with this hop limit, as the world's echoes do.
    Plain(u8),
}

impl End {
    fn ours() -> Self {
        Self::copying(1)
    }

    fn copying(copies: usize) -> Self {
        Self::limited(64, copies)
    }

    /// With a hop limit of its own.
    fn limited(own: u8, copies: usize) -> Self {
        let mut loops = Box::new(Loops::new([own; 2]));
        loops.answers(copies, true);
        End::Ours { loops, copies }
    }
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Datagram {
    /// When it arrives, and its place among those that do then.
    arrives: (u64, u64),
    to: usize,
    hop_limit: u8,
    data: Rc<[u8]>,
    /// The forged one that it came of.
    forged: usize,
}

/// Two ends, so many routers apart, which take one off each or set it to something.
struct Network {
    ends: [End; 2],
    addresses: [RawAddress; 2],
    routers: u8,
    rewrites: Option<u8>,
    /// A rate limit refuses one in so many; 0: there is none.
    refuses: u64,
    /// Losses in a thousand, and the round trip with its spread.
    loss: u64,
    delay_us: (u64, u64),
    dice: Dice,
    now_us: u64,
    way: BinaryHeap<Reverse<Datagram>>,
    /// Of each forged datagram: how often each end received it or what came of it.
    visits: HashMap<usize, [u64; 2]>,
    answered: [u64; 2],
}

impl Network {
    fn new(ends: [End; 2], seed: u64) -> Self {
        Self {
            ends,
            addresses: [address("192.0.2.1:7"), address("198.51.100.2:7")],
            routers: 0,
            rewrites: None,
            refuses: 0,
            loss: 0,
            delay_us: (100, 0),
            dice: Dice(seed),
            now_us: 0,
            way: BinaryHeap::new(),
            visits: HashMap::new(),
            answered: [0; 2],
        }
    }

    fn forge(&mut self, to: usize, hop_limit: u8, length: usize) {
        let forged = self.visits.len();
        self.visits.insert(forged, [0; 2]);
        let mut data = vec![forged as u8; length];
        data[..length.min(4)].copy_from_slice(&(forged as u32).to_be_bytes()[..length.min(4)]);
        self.send(Datagram {
            to,
            hop_limit,
            data: data.into(),
            forged,
            arrives: (0, 0),
        });
    }

    fn send(&mut self, mut datagram: Datagram) {
        if self.dice.roll(1000) < self.loss {
            return;
        }
        datagram.hop_limit = match self.rewrites {
            Some(set) => set,
            // A router that would forward 0 drops it.
            None if datagram.hop_limit <= self.routers => return,
            None => datagram.hop_limit - self.routers,
        };
        let (least, spread) = self.delay_us;
        let arrives_us = self.now_us + least / 2 + self.dice.roll(spread / 2 + 1);
        datagram.arrives = (arrives_us, self.dice.roll(u64::MAX));
        self.way.push(Reverse(datagram));
    }

    /// Lets the next arrive, with others that arrive by then in one batch; false: there are
    /// none.
    fn step(&mut self) -> bool {
        let Some(Reverse(next)) = self.way.peek() else {
            return false;
        };
        self.now_us = self.now_us.max(next.arrives.0);
        for end in &mut self.ends {
            if let End::Ours { loops, .. } = end {
                loops.begin();
            }
        }
        let now_us = self.now_us;
        for _ in 0..=self.dice.roll(64) {
            match self.way.peek() {
                Some(Reverse(next)) if next.arrives.0 <= now_us => {}
                _ => break,
            }
            if let Some(Reverse(datagram)) = self.way.pop() {
                self.arrive(datagram);
            }
        }
        true
    }

    fn arrive(&mut self, datagram: Datagram) {
        let here = datagram.to;
        if let Some(visits) = self.visits.get_mut(&datagram.forged) {
            visits[here] += 1;
        }
        let source = self.addresses[1 - here];
        let (hop_limit, copies) = match &mut self.ends[here] {
            End::Plain(hop_limit) => (*hop_limit, 1),
            End::Ours { loops, copies } => {
                let seen = Seen {
                    source: &source,
                    hop_limit: datagram.hop_limit,
                    data: &datagram.data,
                    segment_bytes: 0,
                };
                let is_refused = self.refuses > 0 && self.dice.roll(self.refuses) == 0;
                let now = || (self.now_us / 1000) as Millis;
                let finding = loops.examine(&seen, 1, || u64::from(!is_refused), now);
                if finding.left_out > 0 || is_refused {
                    return;
                }
                (finding.reply_hop_limit, *copies)
            }
        };
        self.answered[here] += 1;
        for _ in 0..copies {
            self.send(Datagram {
                to: 1 - here,
                hop_limit,
                ..datagram.clone()
            });
        }
    }

    /// Until nothing is on the way.
    fn end(&mut self, steps: u64) -> Result<(), TestCaseError> {
        for _ in 0..steps {
            if !self.step() {
                return Ok(());
            }
        }
        Err(TestCaseError::fail(format!(
            "{} still go round",
            self.way.len()
        )))
    }

    fn most_visits(&self) -> u64 {
        self.visits.values().flatten().copied().max().unwrap_or(0)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Between two of ours: any number, lengths, hop limits, ways, orders, losses and timing.
    #[test]
    fn f17_between_two_of_ours_each_ends_within_64_rounds(
        forged in 1usize..=500,
        highest in 1u64..=255,
        routers in 0u8..32,
        loss in 0u64..100,
        spread_us in 0u64..2000,
        seed: u64,
    ) {
        let mut network = Network::new([End::ours(), End::ours()], seed);
        (network.routers, network.loss, network.delay_us) = (routers, loss, (100, spread_us));
        for number in 0..forged {
            let to = network.dice.roll(2) as usize;
            let hop_limit = 1 + network.dice.roll(highest) as u8;
            let length = network.dice.roll(1400) as usize;
            network.forge(to, hop_limit, length);
            // Some of them while others go round already.
            if number % 3 == 0 {
                network.step();
            }
        }
        network.end(forged as u64 * 300)?;
        prop_assert!(network.most_visits() <= 64, "{}", network.most_visits());
    }

    /// A forger who goes on for as long as they go round, and knows which hop limits are low.
    #[test]
    fn f17_whoever_forges_more_gets_64_rounds_for_each(
        seed: u64,
        kinds in prop::collection::vec((0usize..2, prop_oneof![1u8..=hops::LOW, any::<u8>().prop_map(|hop| hop.max(1))], 1usize..40), 1..40),
        routers in 0u8..8,
    ) {
        let mut network = Network::new([End::ours(), End::ours()], seed);
        network.routers = routers;
        for (to, hop_limit, times) in kinds {
            for _ in 0..times {
                network.forge(to, hop_limit, 20);
                network.step();
            }
        }
        network.end(1_000_000)?;
        let rounds: u64 = network.visits.values().flatten().sum();
        prop_assert!(rounds <= 2 * 64 * network.visits.len() as u64);
        prop_assert!(network.most_visits() <= 2 * 64, "{}", network.most_visits());
    }

    /// `duplicate 100%` at both ends: of one forged datagram come fewer than 256 in all.
    #[test]
    fn f17_with_duplicates_all_that_comes_of_one_is_bounded(
        forged in 1usize..100,
        copies in [1usize..5, 1usize..5],
        hop_limit in 1u8..=255,
        routers in 0u8..4,
        seed: u64,
    ) {
        let ends = copies.map(End::copying);
        let mut network = Network::new(ends, seed);
        network.routers = routers;
        (0..forged).for_each(|number| network.forge(number % 2, hop_limit, 20));
        network.end(100_000)?;
        prop_assert!(network.most_visits() <= 256, "{}", network.most_visits());
    }

    /// `--ttl` at one end, whose replies may all come with the same low hop limit, on loopback
    /// or not.
    #[test]
    fn f17_with_a_low_hop_limit_of_its_own_each_ends_as_well(
        own in 1u8..64,
        copies in prop_oneof![Just(1usize), Just(2), Just(4)],
        forged in 1usize..100,
        hop_limit in prop_oneof![Just(0u8), 1u8..=255],
        routers in 0u8..4,
        is_loopback: bool,
        seed: u64,
    ) {
        let mut network = Network::new([End::ours(), End::limited(own, copies)], seed);
        network.routers = routers;
        if is_loopback {
            network.addresses = [address("127.0.0.1:7"), address("[::1]:7")];
        }
        let likeliest = (own / copies as u8).saturating_sub(routers).max(1);
        let hop_limit = if hop_limit == 0 { likeliest } else { hop_limit };
        (0..forged).for_each(|number| network.forge(number % 2, hop_limit.max(routers + 1), 20));
        network.end(100_000)?;
        let most = if copies == 1 { 64 } else { 256 };
        prop_assert!(network.most_visits() <= most, "{}", network.most_visits());
    }

    /// However many go round in step, with copies at one end or not.
    #[test]
    fn f17_any_number_that_goes_round_in_step_ends(
        forged in prop_oneof![1usize..100, 3000usize..6000],
        copies in prop_oneof![Just(1usize), Just(2), Just(4)],
        hop_limit in 1u8..=255,
        spread_us in prop_oneof![Just(0u64), Just(50)],
        seed: u64,
    ) {
        let mut network = Network::new([End::ours(), End::copying(copies)], seed);
        network.delay_us = (100, spread_us);
        (0..forged).for_each(|_| network.forge(A, hop_limit, 20));
        network.end(300_000)?;
        let most = if copies == 1 { 64 } else { 256 };
        prop_assert!(network.most_visits() <= most, "{}", network.most_visits());
    }

    /// Against an echo that starts afresh, and between two of ours with a router that does:
    /// so many replies a second once what may come at once is used up, and so many in all.
    #[test]
    fn f17_where_hop_limits_do_not_fall_replies_are_bounded(
        forged in 1usize..=500,
        is_foreign: bool,
        hop_limit in 1u8..=255,
        delay_us in prop_oneof![50u64..200, 200u64..20_000],
        seed: u64,
    ) {
        let other = if is_foreign { End::Plain(64) } else { End::ours() };
        let mut network = Network::new([End::ours(), other], seed);
        network.rewrites = (!is_foreign).then_some(hop_limit);
        network.delay_us = (delay_us, 10);
        (0..forged).for_each(|number| network.forge(A, 64, number % 100));
        let start = Instant::new(&network);
        while network.now_us < 1_000_000 && network.answered[A] < 400_000 && network.step() {}
        // Those whose digests fall together are known a few rounds later.
        let most = u64::from(REPEATS)
            + u64::from(PER_SECOND) * start.elapsed_us(&network) / 1_000_000
            + (u64::from(EXCESS) + 16) * forged as u64
            + 256;
        prop_assert!(network.answered[A] <= most, "{} of {most}", network.answered[A]);
    }

    /// Honest clients of ours, whatever else goes on, as long as they repeat nothing.
    #[test]
    fn clients_that_do_not_repeat_themselves_lose_nothing(
        own in prop_oneof![Just(64u8), Just(128), Just(255), 33u8..=255],
        routers in 0u8..32,
        forged in 0usize..200,
        seed: u64,
    ) {
        let mut loops = Loops::new([64; 2]);
        let client = address("203.0.113.9:5000");
        let others: Vec<_> = (0..forged).map(|n| address(&format!("203.0.113.10:{}", 1000 + n))).collect();
        let mut dice = Dice(seed);
        for number in 0..5000u32 {
            loops.begin();
            for _ in 0..dice.roll(4) {
                if let Some(other) = others.get(dice.roll(200) as usize) {
                    let hop_limit = 1 + dice.roll(255) as u8;
                    let seen = Seen { source: other, hop_limit, data: b"forged", segment_bytes: 0 };
                    loops.look(&seen, 1, || number);
                }
            }
            let data = number.to_be_bytes();
            let seen = Seen { source: &client, hop_limit: own - routers, data: &data, segment_bytes: 0 };
            let finding = loops.look(&seen, 1, || number);
            prop_assert_eq!(finding.cause, None);
            prop_assert!(finding.reply_hop_limit > routers);
        }
    }
}

/// The network's clock.
struct Instant(u64);

impl Instant {
    fn new(network: &Network) -> Self {
        Self(network.now_us)
    }

    fn elapsed_us(&self, network: &Network) -> u64 {
        network.now_us - self.0
    }
}

#[test]
fn f17_one_that_an_echo_sends_back_for_ever_ends() {
    for foreign in [true, false] {
        let other = if foreign { End::Plain(64) } else { End::ours() };
        let mut network = Network::new([End::ours(), other], 1);
        network.rewrites = (!foreign).then_some(64);
        network.forge(A, 64, 20);
        network.end(1_000_000).unwrap();
        let rounds = network.answered[A];
        assert!((60_000..=REPEATS.into()).contains(&rounds), "{rounds}");
    }
}

#[test]
fn f17_whoever_starts_it_again_gets_no_more_for_each() {
    // The order of a loop, two that would release it, and one more.
    let mut network = Network::new([End::ours(), End::Plain(64)], 1);
    for _ in 0..4 {
        network.forge(A, 64, 20);
        network.end(1_000_000).unwrap();
        network.now_us += 1_000_000;
    }
    assert!(network.answered[A] <= 4 * u64::from(REPEATS));
}

#[test]
fn f17_beyond_a_rate_limit_the_bound_is_the_same() {
    // What the limit refuses ends: the count towards the next that is left out starts again.
    for (refuses, seed) in [
        (100, 1),
        (20_000, 2),
        (60_000, 3),
        (60_000, 4),
        (500_000, 5),
    ] {
        let mut network = Network::new([End::ours(), End::Plain(64)], seed);
        network.refuses = refuses;
        // Slower than the rate that has a rule of its own.
        network.delay_us = (2_000, 100);
        for number in 0..5 {
            network.forge(A, 64, 20);
            // The forger goes on, and does not wait for the end.
            while network.answered[A] < 30_000 * (number + 1) && network.step() {}
        }
        network.end(1_000_000).unwrap();
        let answered = network.answered[A];
        assert!(
            answered <= 5 * u64::from(REPEATS),
            "1 in {refuses}: {answered}"
        );
    }
}

/// What a client gets back that asks the same each time, `window` at once.
fn repeating(window: u64, per_ms: u64, ms: u32) -> (u64, u64) {
    let mut loops = Loops::new([64; 2]);
    let client = address("203.0.113.9:5000");
    let (mut asked, mut lost) = (0, 0);
    for now in 0..ms {
        for _ in 0..per_ms / window {
            loops.begin();
            for _ in 0..window {
                let seen = Seen {
                    source: &client,
                    hop_limit: 57,
                    data: b"ping",
                    segment_bytes: 0,
                };
                asked += 1;
                lost += loops.look(&seen, 1, || now).left_out;
            }
        }
    }
    (asked, lost)
}

#[test]
fn clients_that_repeat_themselves_lose_what_is_stated() {
    // Within 10,000 a second one in 65,536, in lock-step or not.
    assert_eq!(repeating(1, 10, 6_000), (60_000, 0));
    assert_eq!(repeating(1, 10, 60_000), (600_000, 9));
    assert_eq!(repeating(5, 10, 60_000), (600_000, 9));
    // Above that, some at first.
    let (asked, lost) = repeating(64, 256, 60_000);
    assert!(
        lost <= 1024 + asked / u64::from(REPEATS) + 1,
        "{lost} of {asked}"
    );
}

#[test]
fn on_loopback_whoever_repeats_loses_nothing() {
    let mut loops = Loops::new([64; 2]);
    let client = address("127.0.0.1:5000");
    for _ in 0..1_000_000 {
        loops.begin();
        let seen = Seen {
            source: &client,
            hop_limit: 64,
            data: b"ping",
            segment_bytes: 0,
        };
        let finding = loops.look(&seen, 1, || panic!("nobody asks for the time"));
        assert_eq!(finding, Finding::answer(63));
    }
}

#[test]
fn each_datagram_of_a_train_counts() {
    let mut loops = Loops::new([64; 2]);
    let client = address("203.0.113.9:5000");
    let data = [7u8; 10 * 100 + 5];
    let seen = Seen {
        source: &client,
        hop_limit: 64,
        data: &data,
        segment_bytes: 100,
    };
    // All but the last are the same: the first is new.
    let repeats = |loops: &mut Loops| {
        let mut asked = 0;
        loops.begin();
        loops.look(&seen, 11, || {
            asked += 1;
            0
        });
        asked
    };
    assert_eq!(repeats(&mut loops), 1);
    let all: Vec<_> = datagrams_of(&seen).map(<[u8]>::len).collect();
    assert_eq!(all, [vec![100; 10], vec![5]].concat());
    let empty = Seen {
        data: b"",
        segment_bytes: 0,
        ..seen
    };
    assert_eq!(
        datagrams_of(&empty).map(<[u8]>::len).collect::<Vec<_>>(),
        [0]
    );
}

#[test]
fn what_is_sent_instead_is_what_counts() {
    let mut loops = Loops::new([64; 2]);
    loops.answers(1, false);
    let echo = address("203.0.113.9:5000");
    let mut times = 0;
    let mut came = |loops: &mut Loops, data: &[u8]| {
        loops.begin();
        let seen = Seen {
            source: &echo,
            hop_limit: 64,
            data,
            segment_bytes: 0,
        };
        loops.look(&seen, 1, || {
            times += 1;
            0
        });
        times
    };
    assert_eq!(came(&mut loops, b"what time is it?"), 0);
    assert_eq!(came(&mut loops, b"what time is it?"), 0);
    loops.sent(&echo, b"noon");
    assert_eq!(came(&mut loops, b"noon"), 1);
}

/// One datagram goes round with each of so many others, which come in turn: how often they
/// were answered in all, and how many are left.
fn crowd(others: u32, is_ours: bool, most: u64) -> (u64, usize) {
    let mut loops = Loops::new([64; 2]);
    let mut hops = vec![hops::Hops::default(); others as usize];
    let mut way: VecDeque<(u32, u8)> = (0..others).map(|number| (number, 64)).collect();
    let (mut answered, mut batches) = (0, 0u64);
    while !way.is_empty() && answered < most {
        loops.begin();
        batches += 1;
        let now = || (batches * 64 / 1000) as Millis;
        for _ in 0..64 {
            let Some((number, hop_limit)) = way.pop_front() else {
                break;
            };
            let [_, b, c, d] = number.to_be_bytes();
            let seen = Seen {
                source: &RawAddress::from(SocketAddr::from(([10, b, c, d], 7000))),
                hop_limit,
                data: b"to all",
                segment_bytes: 0,
            };
            let finding = loops.look(&seen, 1, now);
            if finding.left_out > 0 {
                continue;
            }
            answered += 1;
            let terms = Terms::new(64, 1, batches);
            let back = if is_ours {
                hops[number as usize].answer(finding.reply_hop_limit, &terms, now)
            } else {
                Some(64)
            };
            way.extend(back.map(|hop_limit| (number, hop_limit)));
        }
    }
    (answered, way.len())
}

#[test]
fn f17_more_peers_than_are_known_at_once_end_as_well() {
    // They have each other forgotten, at no cost to whoever forged one of each.
    let others = 8000;
    let (answered, left) = crowd(others, true, 64 * u64::from(others));
    assert_eq!(left, 0, "{answered}");
    // A million a second: 65,536 at once, 10,000 a second, and one in 64 of the others ends.
    let (answered, left) = crowd(others, false, 500_000);
    let ended = others as usize - left;
    assert!(ended > 1000, "{ended} of {answered}");
}

#[test]
fn a_client_whose_datagrams_differ_in_their_middle_does_not_repeat_itself() {
    let mut loops = Loops::new([64; 2]);
    let client = address("203.0.113.9:5000");
    for number in 0..300_000u32 {
        loops.begin();
        let mut data = [7u8; 200];
        data[100..104].copy_from_slice(&number.to_be_bytes());
        let seen = Seen {
            source: &client,
            hop_limit: 57,
            data: &data,
            segment_bytes: 0,
        };
        let finding = loops.look(&seen, 1, || number / 100);
        assert_eq!(finding.cause, None, "{number}");
    }
}

#[test]
fn each_family_has_the_hop_limit_of_its_own() {
    let mut loops = Loops::new([64, 5]);
    loops.begin();
    for (source, wanted) in [("203.0.113.9:5000", 63), ("[2001:db8::9]:5000", 5)] {
        let source = address(source);
        let seen = Seen {
            source: &source,
            hop_limit: 64,
            data: b"",
            segment_bytes: 0,
        };
        assert_eq!(loops.look(&seen, 1, || 0), Finding::answer(wanted));
    }
}
