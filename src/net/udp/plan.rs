//! From datagrams to sends: which go back together. Pure; knows no socket.
//!
//! A send costs about the same whether it carries one datagram or a train of them
//! (UDP_SEGMENT), so what goes to one peer with one size goes in one send. Laws:
//!
//! 1. Every byte given in comes out in exactly one send, in pieces of the length in which
//!    it came.
//! 2. The order of what goes to a peer is the order in which it came: only the newest
//!    group of a peer may grow.
//! 3. A group's datagrams all have its segment size, but the last, which may be shorter
//!    and closes it.

use crate::sys::RawAddress;

/// A train's bytes at most: what one IPv4 datagram carries, which the kernel checks before
/// it cuts (net/ipv4/ip_output.c, `__ip_append_data`).
pub(crate) const MAX_TRAIN_BYTES: usize = 65_507;

/// Datagrams that came in one read and go back in one piece, or a part of such.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Which entry it is of.
    pub(crate) entry: u16,
    pub(crate) offset: u32,
    pub(crate) length: u32,
    /// The next piece of the group; [`END`] for none.
    next: u32,
}

/// Pieces that go back in one send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) bytes: u32,
    /// Length of every datagram but the last.
    pub(crate) segment_bytes: u32,
    pub(crate) datagrams: u16,
    /// The entry whose target it has.
    pub(crate) entry: u16,
    first: u32,
    last: u32,
    open: bool,
}

const END: u32 = u32::MAX;

/// What is to be sent, as far as planning goes.
#[derive(Clone, Copy)]
pub(crate) struct Item<'a> {
    pub(crate) entry: u16,
    pub(crate) peer: &'a RawAddress,
    pub(crate) length: usize,
    /// 0 where it is a single datagram.
    pub(crate) segment_bytes: usize,
    /// Datagrams that one send to this peer may carry; 1 or less where the path refuses
    /// trains.
    pub(crate) max_segments: usize,
}

/// The plan for one batch; its memory is used again for the next.
pub(crate) struct Plan {
    groups: Vec<Group>,
    pieces: Vec<Piece>,
    /// Where the newest group of a peer probably is: (round, group). A collision only costs
    /// a send.
    newest: Box<[(u32, u32); TABLE]>,
    round: u32,
}

const TABLE: usize = 512;

/// Where a peer's newest group is looked for.
fn entry(peer: &RawAddress) -> usize {
    // The high bits: the low ones of a product depend on the low ones of its factors alone.
    (peer.fingerprint() >> (u32::BITS - TABLE.ilog2())) as usize
}

impl Plan {
    /// A plan with room for what `slots` receives bring.
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            groups: Vec::with_capacity(slots * 4),
            pieces: Vec::with_capacity(slots * 4),
            newest: Box::new([(0, 0); TABLE]),
            round: 0,
        }
    }

    /// Forgets everything, for the next batch.
    pub(crate) fn clear(&mut self) {
        self.groups.clear();
        self.pieces.clear();
        // Old entries are told by their round. After 2^32 rounds one could be taken for
        // new; it would point to a group of the same peer or fail the comparison.
        self.round = self.round.wrapping_add(1);
    }

    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The pieces of a group, in order.
    pub(crate) fn pieces(&self, group: &Group) -> impl Iterator<Item = Piece> + '_ {
        let mut next = group.first;
        std::iter::from_fn(move || {
            let piece = *self.pieces.get(next as usize)?;
            next = piece.next;
            Some(piece)
        })
    }

    /// Adds what a receive brought. `same` says whether that of another slot came from the
    /// same peer to the same destination.
    pub(crate) fn add(&mut self, item: Item<'_>, same: impl Fn(u16) -> bool) {
        // A train of nothing, or of one, is a datagram.
        if item.segment_bytes == 0 || item.segment_bytes >= item.length {
            self.add_piece(&item, 0, item.length, item.length, &same);
            return;
        }
        let most = item
            .max_segments
            .min(MAX_TRAIN_BYTES / item.segment_bytes)
            .max(1);
        let part = most * item.segment_bytes;
        let mut offset = 0;
        while offset < item.length {
            let length = part.min(item.length - offset);
            self.add_piece(&item, offset, length, item.segment_bytes, &same);
            offset += length;
        }
    }

    /// `segment` is the length of all the piece's datagrams but the last.
    fn add_piece(
        &mut self,
        item: &Item<'_>,
        offset: usize,
        length: usize,
        segment: usize,
        same: &impl Fn(u16) -> bool,
    ) {
        let index = self.pieces.len() as u32;
        self.pieces.push(Piece {
            entry: item.entry,
            offset: offset as u32,
            length: length as u32,
            next: END,
        });
        let datagrams = if length == 0 {
            1
        } else {
            length.div_ceil(segment)
        };
        let is_single = datagrams == 1;
        let entry = entry(item.peer);
        let (round, newest) = self.newest[entry];
        if round == self.round
            && let Some(group) = self.groups.get_mut(newest as usize)
            && group.open
            // Equal segments, or one shorter datagram as the last.
            && (segment == group.segment_bytes as usize
                || (is_single && length < group.segment_bytes as usize))
            && length > 0
            && usize::from(group.datagrams) + datagrams <= item.max_segments
            && group.bytes as usize + length <= MAX_TRAIN_BYTES
            && same(group.entry)
        {
            group.open = length.is_multiple_of(group.segment_bytes as usize);
            group.bytes += length as u32;
            group.datagrams += datagrams as u16;
            let last = group.last as usize;
            group.last = index;
            self.pieces[last].next = index;
            return;
        }
        self.newest[entry] = (self.round, self.groups.len() as u32);
        self.groups.push(Group {
            bytes: length as u32,
            segment_bytes: segment as u32,
            datagrams: datagrams as u16,
            entry: item.entry,
            first: index,
            last: index,
            open: length > 0 && length.is_multiple_of(segment),
        });
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod laws {
    //! The three laws, for any batches of anything.

    use std::cell::RefCell;
    use std::net::{Ipv6Addr, SocketAddr};

    use super::*;

    /// What a receive brought.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Came {
        pub(crate) peer: u16,
        pub(crate) destination: u8,
        pub(crate) length: usize,
        pub(crate) segment_bytes: usize,
        pub(crate) max_segments: usize,
    }

    /// Odd numbers are IPv6, and their ports are few, so that addresses matter too.
    pub(crate) fn peer(number: u16) -> RawAddress {
        RawAddress::from(if number.is_multiple_of(2) {
            SocketAddr::from(([127, 0, 0, 1], number))
        } else {
            SocketAddr::from((Ipv6Addr::from(u128::from(number)), number % 8))
        })
    }

    /// Adds all to a cleared plan; their slots are their positions.
    pub(crate) fn fill(plan: &mut Plan, came: &[Came]) {
        plan.clear();
        let peers: Vec<RawAddress> = came.iter().map(|came| peer(came.peer)).collect();
        for (slot, now) in came.iter().enumerate() {
            let item = Item {
                entry: slot as u16,
                peer: &peers[slot],
                length: now.length,
                segment_bytes: now.segment_bytes,
                max_segments: now.max_segments,
            };
            plan.add(item, |other| {
                let other = &came[usize::from(other)];
                other.peer == now.peer && other.destination == now.destination
            });
        }
    }

    thread_local! {
        /// Used again and again, as a worker does.
        static PLAN: RefCell<Plan> = RefCell::new(Plan::new(64));
    }

    /// Plans the batches one after another; panics unless the laws hold for each.
    pub(crate) fn hold_for(batches: &[Vec<Came>]) {
        PLAN.with_borrow_mut(|plan| {
            for came in batches {
                fill(plan, came);
                assert_laws(plan, came);
            }
        });
    }

    /// A datagram as a part of what was received: (slot, offset, length).
    type Datagram = (u16, usize, usize);

    fn cut(piece: Datagram, segment: usize, mut to: impl FnMut(Datagram)) {
        let (slot, mut at, length) = piece;
        let end = at + length;
        loop {
            let length = segment.min(end - at);
            to((slot, at, length));
            at += length;
            if at >= end {
                break;
            }
        }
    }

    fn assert_laws(plan: &Plan, came: &[Came]) {
        // What goes to each peer, datagram by datagram, in the order of the sends.
        let mut sent: Vec<(u16, Datagram)> = Vec::new();
        for group in plan.groups() {
            let of = &came[usize::from(group.entry)];
            let segment = group.segment_bytes as usize;
            let (mut bytes, mut datagrams) = (0usize, 0usize);
            for piece in plan.pieces(group) {
                let now = &came[usize::from(piece.entry)];
                assert_eq!((of.peer, of.destination), (now.peer, now.destination));
                // Law 3: what came before fills whole segments.
                assert!(bytes == 0 || bytes.is_multiple_of(segment));
                let whole = (piece.entry, piece.offset as usize, piece.length as usize);
                cut(whole, segment, |datagram| {
                    datagrams += 1;
                    sent.push((now.peer, datagram));
                });
                bytes += whole.2;
                // No more than may go in one send, as each was told.
                assert!(datagrams == 1 || datagrams <= now.max_segments);
            }
            assert_eq!(bytes, group.bytes as usize);
            assert_eq!(datagrams, usize::from(group.datagrams));
            // A single datagram has no other limit than that it came.
            assert!(datagrams == 1 || bytes <= MAX_TRAIN_BYTES);
        }
        // Laws 1 and 2.
        let mut wanted: Vec<(u16, Datagram)> = Vec::new();
        for (slot, now) in came.iter().enumerate() {
            let segment = match now.segment_bytes {
                0 => now.length,
                size => size,
            };
            let whole = (slot as u16, 0, now.length);
            cut(whole, segment, |datagram| wanted.push((now.peer, datagram)));
        }
        // By peer, and otherwise as they were: these sorts are stable.
        sent.sort_by_key(|(peer, _)| *peer);
        wanted.sort_by_key(|(peer, _)| *peer);
        assert_eq!(sent, wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::laws::Came;
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::net::SocketAddr;

    /// (peer, length, segment size)
    type Brief = (u16, usize, usize);

    fn plan(came: &[Brief], max_segments: usize) -> Plan {
        let mut plan = Plan::new(came.len().max(1));
        let came: Vec<Came> = came
            .iter()
            .map(|&(peer, length, segment_bytes)| Came {
                peer,
                destination: 0,
                length,
                segment_bytes,
                max_segments,
            })
            .collect();
        laws::fill(&mut plan, &came);
        plan
    }

    fn shape(plan: &Plan) -> Vec<(u32, u32, u16)> {
        plan.groups()
            .iter()
            .map(|g| (g.bytes, g.segment_bytes, g.datagrams))
            .collect()
    }

    #[test]
    fn one_peer_and_one_size_is_one_send_and_a_shorter_one_ends_it() {
        let came = [(1, 100, 0), (1, 100, 0), (1, 60, 0), (1, 100, 0)];
        assert_eq!(shape(&plan(&came, 64)), [(260, 100, 3), (100, 100, 1)]);
    }

    #[test]
    fn a_longer_one_and_an_empty_one_go_alone() {
        let came = [(1, 100, 0), (1, 101, 0), (1, 0, 0), (1, 5, 0)];
        let wanted = [(100, 100, 1), (101, 101, 1), (0, 0, 1), (5, 5, 1)];
        assert_eq!(shape(&plan(&came, 64)), wanted);
    }

    #[test]
    fn interleaved_peers_are_kept_apart_and_gathered() {
        let came = [(1, 8, 0), (2, 8, 0), (1, 8, 0), (2, 8, 0)];
        assert_eq!(shape(&plan(&came, 64)), [(16, 8, 2), (16, 8, 2)]);
    }

    #[test]
    fn trains_go_back_as_trains_and_join_when_full() {
        let came = [(1, 3200, 1000)];
        assert_eq!(shape(&plan(&came, 64)), [(3200, 1000, 4)]);
        let came = [(1, 2000, 1000), (1, 2500, 1000), (1, 1000, 0)];
        assert_eq!(shape(&plan(&came, 64)), [(4500, 1000, 5), (1000, 1000, 1)]);
    }

    #[test]
    fn f10_too_many_segments_or_bytes_are_split() {
        assert_eq!(shape(&plan(&[(1, 127, 1)], 64)), [(64, 1, 64), (63, 1, 63)]);
        let bytes = 65_535;
        let groups = shape(&plan(&[(1, bytes, 10_000)], 64));
        assert_eq!(groups, [(60_000, 10_000, 6), (5_535, 10_000, 1)]);
        let singles: Vec<Brief> = (0..100).map(|_| (1, 10, 0)).collect();
        assert_eq!(shape(&plan(&singles, 64)), [(640, 10, 64), (360, 10, 36)]);
    }

    #[test]
    fn where_trains_are_refused_everything_goes_singly() {
        let groups = shape(&plan(&[(1, 3200, 1000), (1, 7, 0), (1, 7, 0)], 1));
        assert_eq!(
            groups.iter().map(|g| g.0).collect::<Vec<_>>(),
            [1000, 1000, 1000, 200, 7, 7]
        );
        assert!(groups.iter().all(|g| g.2 == 1));
    }

    #[test]
    fn what_no_engine_should_ask_for_still_keeps_the_laws() {
        let one = Came {
            peer: 1,
            destination: 0,
            length: 3000,
            segment_bytes: 1000,
            max_segments: 64,
        };
        for odd in [
            // No datagram in a send: would never end.
            Came {
                max_segments: 0,
                ..one
            },
            // Nothing in segments of something, one segment, a segment that nothing fills.
            Came { length: 0, ..one },
            Came {
                segment_bytes: 3000,
                ..one
            },
            Came {
                segment_bytes: 65_535,
                ..one
            },
            // The largest there is: one datagram over IPv4, one over IPv6, one read.
            Came {
                length: 65_507,
                segment_bytes: 0,
                ..one
            },
            Came {
                length: 65_535,
                segment_bytes: 0,
                ..one
            },
            Came {
                length: 65_535,
                segment_bytes: 1,
                ..one
            },
            Came {
                length: 65_535,
                segment_bytes: 65_534,
                max_segments: 65_535,
                ..one
            },
        ] {
            laws::hold_for(&[vec![one, odd, one], vec![odd, odd]]);
        }
    }

    #[test]
    fn peers_of_one_host_or_one_network_are_told_apart() {
        let told_apart = |what: &str, peers: &dyn Fn(u16) -> SocketAddr| {
            let entries: HashSet<usize> = (0..64)
                .map(|number| entry(&RawAddress::from(peers(number))))
                .collect();
            // 64 balls thrown into 512 boxes meet 60 of them.
            assert!(entries.len() >= 56, "{what}: {} of 64", entries.len());
        };
        let v4 = |end, port| SocketAddr::from(([192, 0, 2, end], port));
        let v6 = |end, port| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, end], port));
        told_apart("ports in a row", &|i| v4(1, 40_000 + i));
        // What Linux gives out to those who connect: every other port.
        told_apart("every other port", &|i| v4(1, 33_000 + 2 * i));
        told_apart("ports in a row, IPv6", &|i| v6(1, 50_000 + i));
        told_apart("hosts in a row", &|i| v4(i as u8, 7));
        told_apart("hosts in a row, IPv6", &|i| v6(i, 7));
    }

    /// Peers close enough for trains and gathering, and enough of them to fall together in
    /// the table.
    fn came() -> impl Strategy<Value = Came> {
        let peers = prop_oneof![4 => 0u16..6, 1 => 0u16..2000, 1 => any::<u16>()];
        let edges = prop::sample::select(vec![0, 1, 1000, 65_507, 65_508, 65_527, 65_535]);
        let length =
            prop_oneof![6 => 0usize..3000, 2 => Just(1000), 1 => edges, 1 => 0..65_536usize];
        let segment = prop_oneof![
            4 => Just(0usize), 4 => 100usize..700, 2 => Just(1000), 1 => 1..65_536usize
        ];
        let most = prop_oneof![Just(1usize), Just(2), Just(64), Just(128), 0..200usize];
        (peers, 0u8..2, length, segment, most).prop_map(
            |(peer, destination, length, segment_bytes, max_segments)| Came {
                peer,
                destination,
                length,
                segment_bytes,
                max_segments,
            },
        )
    }

    proptest! {
        #[test]
        fn the_laws_hold(batches in prop::collection::vec(prop::collection::vec(came(), 0..64), 1..4)) {
            laws::hold_for(&batches);
        }

        #[test]
        fn the_laws_hold_for_more_peers_than_the_table_has_room_for(
            order in Just((0u16..1500).chain(0..1500).collect::<Vec<_>>()).prop_shuffle(),
            segment_bytes in 0usize..3,
        ) {
            let batch = order.into_iter().map(|peer| Came {
                peer, destination: 0, length: 4, segment_bytes, max_segments: 64,
            });
            laws::hold_for(&[batch.collect()]);
        }
    }
}
