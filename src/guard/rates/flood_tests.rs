//! Floods of forged sources, and what they leave to others: whatever their number, pace and order.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::{Moment, Rate, Rates, START, Source, UNITS_PER_NS};

const SECOND: u64 = 1_000_000_000;

/// How a flood's datagrams are divided among its sources.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Order {
    /// One after the other, from the first again.
    InTurn,
    /// Each twice at once.
    Pairs,
    /// Any, so that gaps are of all lengths.
    Random,
}

#[derive(Debug, Clone, Copy)]
struct Flood {
    sources: u32,
    per_second: u64,
    order: Order,
}

impl Flood {
    /// The source of its n-th datagram.
    fn source(&self, number: u64) -> IpAddr {
        let n = match self.order {
            Order::InTurn => number,
            Order::Pairs => number / 2,
            Order::Random => mix(number),
        };
        IpAddr::V4(Ipv4Addr::from(
            0x0B00_0000 + (n % u64::from(self.sources)) as u32,
        ))
    }
}

fn mix(number: u64) -> u64 {
    // splitmix64
    let mut z = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Somebody honest, who asks so many times a second between two moments.
#[derive(Debug, Clone, Copy)]
struct Client {
    per_second: u64,
    from: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Fate {
    asked: u64,
    answered: u64,
}

struct Outcome {
    clients: Vec<Fate>,
    /// Of the flood while it lasted.
    flood: Fate,
    all: u64,
}

/// Runs for so many nanoseconds; the flood from `flood_from` on. What happens when is shuffled
/// a little, so that nobody is in step with anybody.
fn run(rates: &Rates, clients: &[Client], flood: Flood, flood_from: u64, until: u64) -> Outcome {
    let jitter = |number: u64, who: u64, gap: u64| mix(number ^ who << 48) % gap.max(1);
    // Next times, of each client and then of the flood.
    let mut next: Vec<(u64, u64, u64)> = clients
        .iter()
        .map(|client| (client.from, 0, SECOND / client.per_second))
        .chain([(flood_from, 0, SECOND / flood.per_second)])
        .collect();
    let mut outcome = Outcome {
        clients: vec![Fate::default(); clients.len()],
        flood: Fate::default(),
        all: 0,
    };
    loop {
        let times = next.iter().enumerate();
        let (who, &(time, number, gap)) = times
            .min_by_key(|(who, (time, number, gap))| time + jitter(*number, *who as u64, gap / 4))
            .expect("a flood is there");
        if time >= until {
            return outcome;
        }
        let at = time + jitter(number, who as u64, gap / 4);
        next[who] = (time + gap, number + 1, gap);
        let source = if who < clients.len() {
            IpAddr::V4(Ipv4Addr::from(0xC000_0201 + who as u32))
        } else {
            flood.source(number)
        };
        let tag = rates.tag(Source::of(source));
        let grant = rates.take(tag, 1, Moment(START + at * UNITS_PER_NS));
        let granted = grant.datagrams;
        let fate = match outcome.clients.get_mut(who) {
            Some(fate) => fate,
            None => &mut outcome.flood,
        };
        fate.asked += 1;
        fate.answered += granted;
        outcome.all += granted;
    }
}

fn rates(per_source: Option<f64>, total: f64) -> Rates {
    let rate = |per_second| Rate::new(per_second, None);
    // A sixteenth of the real table, so that floods overflow it in a test's time.
    Rates::with_sets(1 << 10, per_source.map(rate), Some(rate(total)), 1)
}

fn any_flood() -> impl Strategy<Value = Flood> {
    let order = prop_oneof![Just(Order::InTurn), Just(Order::Pairs), Just(Order::Random)];
    // From one source to twelve times as many as there are entries; from what the total just
    // bears to ten times as much.
    let sources = prop_oneof![1u32..20, 20u32..1_000, 1_000u32..50_000];
    (sources, 2_000u64..20_000, order).prop_map(|(sources, per_second, order)| Flood {
        sources,
        per_second,
        order,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Who was known before the flood loses nothing, whatever the flood is.
    #[test]
    fn those_who_are_known_lose_nothing(
        flood in any_flood(),
        per_second in prop_oneof![1u64..5, 5u64..125],
        per_source in prop_oneof![Just(None), (200.0..1e4).prop_map(Some)],
    ) {
        let rates = rates(per_source, 2_000.0);
        let client = Client { per_second, from: 0 };
        let found = run(&rates, &[client], flood, 12 * SECOND, 18 * SECOND);
        prop_assert_eq!(found.clients[0].answered, found.clients[0].asked, "{:?}", flood);
        // The limit is one, and it is used.
        let time_of_flood = 6;
        prop_assert!(found.flood.answered <= 2_000 * time_of_flood + 200);
        if per_source.is_none() && flood.sources <= 1_000 {
            prop_assert!(
                found.flood.answered + found.clients[0].answered / 3 >= 2_000 * time_of_flood * 9 / 10,
                "{:?}: {:?}", flood, found.flood
            );
        }
    }

    /// A newcomer gets what the flood gets, or more.
    #[test]
    fn a_newcomer_gets_its_part(flood in any_flood(), per_second in 5u64..125) {
        let rates = rates(None, 2_000.0);
        let client = Client { per_second, from: 4 * SECOND };
        let found = run(&rates, &[client], flood, 0, 12 * SECOND);
        let (newcomer, all) = (found.clients[0], found.flood);
        // A sixteenth of what the total grants goes to each pace, if need be: in the worst case
        // all of the flood is at the newcomer's, and has others as well.
        let least = newcomer.asked * 125 / (flood.per_second + per_second);
        prop_assert!(newcomer.answered + 4 >= least * 9 / 10, "{newcomer:?} of {flood:?}, {all:?}");
    }

    /// At another pace than the flood's it loses its first datagrams, and no more.
    #[test]
    fn a_newcomer_at_another_pace_loses_a_few_datagrams(
        flood in any_flood(), per_second in 10u64..100,
    ) {
        let gap = u64::from(flood.sources) * SECOND / flood.per_second;
        let own = SECOND / per_second;
        if flood.order != Order::InTurn || (gap < 6 * own && own < 6 * gap) {
            return Ok(());
        }
        let rates = rates(None, 2_000.0);
        let client = Client { per_second, from: 4 * SECOND };
        let found = run(&rates, &[client], flood, 0, 10 * SECOND);
        let newcomer = found.clients[0];
        let most = match flood {
            // Just what the total bears: it takes some time to sink to where each has its part.
            Flood { per_second: ..2_100, .. } => 80,
            Flood { sources: ..500, .. } => 3,
            // Where it has to return before its entry is another's, it may take it some attempts.
            _ => 10,
        };
        prop_assert!(newcomer.asked - newcomer.answered <= most, "{newcomer:?} of {flood:?}");
    }
}

#[test]
fn a_flood_makes_none_of_its_sources_known() {
    let rates = rates(None, 2_000.0);
    // For a minute, each of them every second.
    let flood = Flood {
        sources: 3_000,
        per_second: 3_000,
        order: Order::InTurn,
    };
    let early = Client {
        per_second: 20,
        from: 0,
    };
    let found = run(&rates, &[early], flood, 12 * SECOND, 72 * SECOND);
    assert_eq!(found.clients[0].answered, found.clients[0].asked);
}

#[test]
fn sources_that_fill_the_table_leave_room_for_who_returns_often() {
    let rates = rates(None, 2_000.0);
    // Five for each entry, each every second.
    let flood = Flood {
        sources: 20_000,
        per_second: 20_000,
        order: Order::InTurn,
    };
    let newcomer = Client {
        per_second: 50,
        from: 3 * SECOND,
    };
    let found = run(&rates, &[newcomer], flood, 0, 10 * SECOND);
    let Fate { asked, answered } = found.clients[0];
    assert!(answered * 10 >= asked * 9, "{answered} of {asked}");
}
