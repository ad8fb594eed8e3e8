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
pub(super) const MAX_TRAIN_BYTES: usize = 65_507;

/// Datagrams that came in one read and go back in one piece, or a part of such.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Which receive it is from.
    pub(super) slot: u16,
    pub(super) offset: u32,
    pub(super) length: u32,
    /// The next piece of the group; [`END`] for none.
    next: u32,
}

/// Pieces that go back in one send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) bytes: u32,
    /// Length of every datagram but the last.
    pub(super) segment_bytes: u32,
    pub(super) datagrams: u16,
    /// The receive whose peer and destination it has.
    pub(super) slot: u16,
    first: u32,
    last: u32,
    open: bool,
}

const END: u32 = u32::MAX;

/// What one receive brought, as far as planning goes.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) slot: u16,
    pub(super) peer: &'a RawAddress,
    pub(super) length: usize,
    /// 0 where it is a single datagram.
    pub(super) segment_bytes: usize,
    /// Datagrams that one send to this peer may carry; 1 where the path refuses trains.
    pub(super) max_segments: usize,
}

/// The plan for one batch; its memory is used again for the next.
pub(super) struct Plan {
    groups: Vec<Group>,
    pieces: Vec<Piece>,
    /// Where the newest group of a peer probably is: (round, group). A collision only costs
    /// a send.
    newest: Box<[(u32, u32); TABLE]>,
    round: u32,
}

const TABLE: usize = 512;

impl Plan {
    /// A plan with room for what `slots` receives bring.
    pub(super) fn new(slots: usize) -> Self {
        Self {
            groups: Vec::with_capacity(slots * 4),
            pieces: Vec::with_capacity(slots * 4),
            newest: Box::new([(0, 0); TABLE]),
            round: 0,
        }
    }

    /// Forgets everything, for the next batch.
    pub(super) fn clear(&mut self) {
        self.groups.clear();
        self.pieces.clear();
        // Old entries are told by their round. After 2^32 rounds one could be taken for
        // new; it would point to a group of the same peer or fail the comparison.
        self.round = self.round.wrapping_add(1);
    }

    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The pieces of a group, in order.
    pub(super) fn pieces(&self, group: &Group) -> impl Iterator<Item = Piece> + '_ {
        let mut next = group.first;
        std::iter::from_fn(move || {
            let piece = *self.pieces.get(next as usize)?;
            next = piece.next;
            Some(piece)
        })
    }

    /// Adds what a receive brought. `same` says whether that of another slot came from the
    /// same peer to the same destination.
    pub(super) fn add(&mut self, item: Item<'_>, same: impl Fn(u16) -> bool) {
        if item.segment_bytes == 0 {
            self.add_piece(&item, 0, item.length, item.length, &same);
            return;
        }
        let most = item
            .max_segments
            .min((MAX_TRAIN_BYTES / item.segment_bytes).max(1));
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
            slot: item.slot,
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
        let entry = item.peer.fingerprint() as usize % TABLE;
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
            && same(group.slot)
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
            slot: item.slot,
            first: index,
            last: index,
            open: length > 0 && length.is_multiple_of(segment),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::SocketAddr;

    /// (peer, length, segment size)
    type Came = (u16, usize, usize);

    fn peer(number: u16) -> RawAddress {
        RawAddress::from(SocketAddr::from(([127, 0, 0, 1], number)))
    }

    fn plan(came: &[Came], max_segments: usize) -> Plan {
        let mut plan = Plan::new(came.len().max(1));
        plan.clear();
        let peers: Vec<RawAddress> = came.iter().map(|&(number, ..)| peer(number)).collect();
        for (slot, &(_, length, segment_bytes)) in came.iter().enumerate() {
            let item = Item {
                slot: slot as u16,
                peer: &peers[slot],
                length,
                segment_bytes,
                max_segments,
            };
            plan.add(item, |other| peers[usize::from(other)] == peers[slot]);
        }
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
        let singles: Vec<Came> = (0..100).map(|_| (1, 10, 0)).collect();
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

    proptest! {
        #[test]
        fn the_laws_hold(
            came in prop::collection::vec((0u16..6, 0usize..3000, 0usize..700), 0..64),
            max_segments in prop_oneof![Just(1usize), Just(2), Just(64), Just(128)],
        ) {
            let came: Vec<Came> = came
                .into_iter()
                .map(|(p, l, s)| (p + 1, l, if s < l { s } else { 0 }))
                .collect();
            let plan = plan(&came, max_segments);
            // What goes to each peer, datagram by datagram, as (slot, offset, length).
            let mut sent: Vec<Vec<(u16, usize, usize)>> = vec![Vec::new(); 8];
            for group in plan.groups() {
                let segment = group.segment_bytes as usize;
                prop_assert!(usize::from(group.datagrams) <= max_segments.max(1));
                prop_assert!(group.bytes as usize <= MAX_TRAIN_BYTES);
                let to = usize::from(came[usize::from(group.slot)].0);
                let pieces: Vec<Piece> = plan.pieces(group).collect();
                let total: u32 = pieces.iter().map(|p| p.length).sum();
                prop_assert_eq!(total, group.bytes);
                let mut before = 0usize;
                for piece in pieces {
                    // Law 3: what came before fills whole segments.
                    prop_assert!(segment == 0 || before.is_multiple_of(segment));
                    let mut at = 0;
                    loop {
                        let length = segment.min(piece.length as usize - at);
                        sent[to].push((piece.slot, piece.offset as usize + at, length));
                        at += length;
                        if at >= piece.length as usize { break }
                    }
                    before += piece.length as usize;
                }
            }
            // Laws 1 and 2.
            let mut wanted: Vec<Vec<(u16, usize, usize)>> = vec![Vec::new(); 8];
            for (slot, &(to, length, segment)) in came.iter().enumerate() {
                let size = if segment == 0 { length } else { segment };
                let mut at = 0;
                loop {
                    let part = size.min(length - at);
                    wanted[usize::from(to)].push((slot as u16, at, part));
                    at += part;
                    if at >= length { break }
                }
            }
            prop_assert_eq!(sent, wanted);
        }
    }
}
