//! The peers that were seen last, in a table that never grows.
//!
//! Rule 1: an entry belongs to one peer, by its whole address, so peers are never mixed up.
//! Rule 2: nobody can choose which peers share a set: the hash has a random key.
//! Rule 3: the peer that was away longest makes room. To have a peer forgotten, a forger has to send
//! from about as many addresses as there are entries, within one round of that peer.
//! Rule 4: peers that take turns to be forgotten share one bound: a new peer that repeats a reply
//! had an entry before.

use std::hash::{BuildHasher, RandomState};

use super::hops::Hops;
use super::repeats::Allowance;
use crate::address::is_loopback;
use crate::sys::RawAddress;

const SETS: usize = 1 << 10;
const WAYS: usize = 4;

/// What is known of one peer.
#[derive(Clone, Copy)]
pub(super) struct Peer {
    address: RawAddress,
    /// The keyed hash of its address.
    pub(super) hash: u64,
    /// The batch in which it was last seen.
    batch: u32,
    /// On loopback nobody outside can forge a source.
    pub(super) is_loopback: bool,
    pub(super) is_v4: bool,
    /// Nothing has come from it since it got this entry.
    pub(super) is_new: bool,
    pub(super) hops: Hops,
    pub(super) allowance: Allowance,
}

impl Peer {
    fn new(address: &RawAddress, hash: u64) -> Self {
        Self {
            address: *address,
            hash,
            batch: 0,
            is_loopback: address.ip().is_some_and(is_loopback),
            is_v4: address.is_v4(),
            is_new: true,
            hops: Hops::default(),
            allowance: Allowance::default(),
        }
    }
}

/// One worker's table.
pub(super) struct Peers {
    sets: Box<[[Peer; WAYS]]>,
    keys: [u64; 2],
    batch: u32,
    /// The allowance of all peers that were forgotten.
    pub(super) forgotten: Allowance,
}

impl Peers {
    pub(super) fn new() -> Self {
        let random = RandomState::new();
        let nobody = Peer::new(&RawAddress::empty(), 0);
        Self {
            sets: vec![[nobody; WAYS]; SETS].into_boxed_slice(),
            keys: [random.hash_one(0), random.hash_one(1)],
            batch: 0,
            forgotten: Allowance::default(),
        }
    }

    /// To be called before each batch.
    #[inline]
    pub(super) fn begin(&mut self) {
        self.batch = self.batch.wrapping_add(1);
    }

    /// A number that cannot be guessed from outside.
    #[inline]
    pub(super) fn random(&self) -> u64 {
        // The constants of splitmix64: multiplied only once, its bits would change too seldom.
        let mut mixed = u64::from(self.batch).wrapping_add(self.keys[0]);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9) ^ self.keys[1];
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A keyed hash of an address; never 0.
    #[inline]
    pub(super) fn hash(&self, address: &RawAddress) -> u64 {
        address.hash(self.keys) | 1
    }

    /// The entry of a peer, a new one if it has none; and the allowance of those that were
    /// forgotten.
    #[inline]
    pub(super) fn of(&mut self, address: &RawAddress) -> (&mut Peer, &mut Allowance) {
        let hash = self.hash(address);
        let batch = self.batch;
        let set = &mut self.sets[(hash >> 32) as usize % SETS];
        let known = set
            .iter()
            .position(|peer| peer.hash == hash && peer.address == *address);
        let forgotten = &mut self.forgotten;
        let way = known.unwrap_or_else(|| make_room(set, address, hash, batch, forgotten));
        set[way].batch = batch;
        (&mut set[way], forgotten)
    }
}

#[cold]
fn make_room(
    set: &mut [Peer; WAYS],
    address: &RawAddress,
    hash: u64,
    batch: u32,
    forgotten: &mut Allowance,
) -> usize {
    let age = |way: &usize| {
        let peer = &set[*way];
        // Nobody was never there.
        (peer.hash == 0, batch.wrapping_sub(peer.batch))
    };
    let way = (0..WAYS).max_by_key(age).unwrap_or(0);
    forgotten.inherit(&set[way].allowance);
    set[way] = Peer::new(address, hash);
    way
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn address(number: u32) -> RawAddress {
        let [a, b, c, d] = number.to_be_bytes();
        RawAddress::from(SocketAddr::from(([10, b, c, d], 4000 + u16::from(a))))
    }

    fn came(peers: &mut Peers, address: &RawAddress) -> bool {
        let is_known = peers.of(address).0.hops != Hops::default();
        let terms = super::super::hops::Terms::new(64, 1, 0);
        peers.of(address).0.hops.answer(64, &terms, || 0);
        is_known
    }

    #[test]
    fn a_peer_is_known_by_all_of_its_address() {
        let mut peers = Peers::new();
        let all = [
            "192.0.2.1:9",
            "192.0.2.1:10",
            "192.0.2.2:9",
            "[2001:db8::1]:9",
            "[2001:db8::1]:10",
            "[2001:db8:0:1::1]:9",
            "[::ffff:192.0.2.1]:9",
            "[fe80::1%1]:9",
            "[fe80::1%2]:9",
        ];
        let raw = |text: &str| {
            let (text, scope) = match text.find('%') {
                Some(at) => (
                    text.replace(&text[at..at + 2], ""),
                    text[at + 1..at + 2].parse().unwrap(),
                ),
                None => (text.to_owned(), 0),
            };
            let mut address: SocketAddr = text.parse().unwrap();
            if let SocketAddr::V6(v6) = &mut address {
                v6.set_scope_id(scope);
            }
            RawAddress::from(address)
        };
        for text in all {
            assert!(!came(&mut peers, &raw(text)), "{text}");
            assert!(came(&mut peers, &raw(text)), "{text}");
        }
    }

    #[test]
    fn who_keeps_coming_is_known_whoever_else_comes() {
        let mut peers = Peers::new();
        let busy = address(1);
        came(&mut peers, &busy);
        for number in 0..200_000 {
            peers.begin();
            // That four of ten others meet it happens once in a hundred thousand runs.
            if number % 10 == 0 {
                assert!(came(&mut peers, &busy), "{number}");
            }
            came(&mut peers, &address(0x100 + number));
        }
    }

    #[test]
    fn which_peers_meet_differs_from_table_to_table() {
        let (one, other) = (Peers::new(), Peers::new());
        let set = |peers: &Peers, number| (peers.hash(&address(number)) >> 32) as usize % SETS;
        let same = (0..1000)
            .filter(|n| set(&one, *n) == set(&other, *n))
            .count();
        assert!(same < 20, "{same}");
        // And they are spread, also consecutive ones, whatever the keys. Four meet in a set on
        // average; that 30 do happens once in 10^13 runs.
        for _ in 0..2_000 {
            let peers = Peers::new();
            let mut counts = vec![0; SETS];
            (0..4096).for_each(|number| counts[set(&peers, number)] += 1);
            assert!(counts.iter().all(|count| *count < 30), "{:x?}", peers.keys);
        }
    }

    #[test]
    fn random_numbers_do_not_stay_the_same() {
        for _ in 0..1000 {
            let mut peers = Peers::new();
            let mut roll = || {
                peers.begin();
                peers.random() % 8
            };
            let all: Vec<_> = (0..1000).map(|_| roll()).collect();
            // One in eight, and no long run.
            let same = all.windows(2).filter(|two| two[0] == two[1]).count();
            assert!((60..200).contains(&same), "{same}");
            assert!(
                all.windows(12)
                    .all(|run| run.iter().any(|one| *one != run[0]))
            );
        }
    }

    #[test]
    fn loopback_is_told() {
        let mut peers = Peers::new();
        for (text, is_local) in [
            ("127.0.0.1:9", true),
            ("[::1]:9", true),
            ("[::ffff:127.0.0.5]:9", true),
            ("192.0.2.1:9", false),
            ("[fe80::1]:9", false),
        ] {
            let address = RawAddress::from(text.parse::<SocketAddr>().unwrap());
            assert_eq!(peers.of(&address).0.is_loopback, is_local, "{text}");
        }
    }
}
