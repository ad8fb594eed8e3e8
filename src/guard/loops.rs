//! Datagrams that go round and round between this server and another one, or another echo.
//!
//! One forged datagram is enough to start that (CVE-1999-0103, CVE-2024-2169). Two bounds hold,
//! and neither has to tell a loop from a client:
//!
//! 1. Each reply has a smaller hop limit than its request (`hops.rs`), so between two servers
//!    that do this a loop ends within 64 rounds, on loopback as well.
//! 2. An echo that does not protect itself starts each datagram with a hop limit of its own, and
//!    some routers rewrite hop limits. So beyond loopback a few of the datagrams that repeat a reply
//!    are not answered (`repeats.rs`).
//!
//! Rule 1: memory is bounded by constants, whatever comes.
//! Rule 2: the time is handed in, and is asked for only where a peer repeats a reply.

use super::hops::{self, Terms};
use super::peers::Peers;
use super::repeats::{Millis, Sent};
use crate::books::DropReason;
use crate::sys::RawAddress;

/// One receive, as far as loops go.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) source: &'a RawAddress,
    /// The hop limit with which it came; 0: the system does not say.
    pub(super) hop_limit: u8,
    pub(super) data: &'a [u8],
    /// Length of each datagram but the last where the receive holds several; otherwise 0.
    pub(super) segment_bytes: usize,
}

/// What becomes of one receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Finding {
    /// The hop limit of its replies; 0: the socket's.
    pub(super) reply_hop_limit: u8,
    /// How many of its datagrams are not to be answered.
    pub(super) left_out: u64,
    /// Why not.
    pub(super) cause: Option<Cause>,
}

/// Why a datagram is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// A reply needs a smaller hop limit, and there is none.
    NoHopsLeft,
    /// It repeats a reply, and its peer's hop limits vary: for a server whose replies may all
    /// start with the same one (`hops.rs`, rule 4).
    HopLimitsVary,
    /// It repeats a reply: one of the few that are left out (`repeats.rs`).
    Repeats,
}

impl Cause {
    pub(super) fn reason(self) -> DropReason {
        match self {
            Cause::NoHopsLeft | Cause::HopLimitsVary => DropReason::EchoLoop,
            Cause::Repeats => DropReason::Repeated,
        }
    }
}

impl Finding {
    fn answer(reply_hop_limit: u8) -> Self {
        Self {
            reply_hop_limit,
            left_out: 0,
            cause: None,
        }
    }
}

/// One worker's bounds.
pub(super) struct Loops {
    peers: Peers,
    sent: Sent,
    /// For IPv4 and for IPv6.
    terms: [Terms; 2],
    own_hop_limits: [u8; 2],
    copies: usize,
    /// Replies are their request's own bytes.
    answers_alike: bool,
}

impl Loops {
    /// For a socket that sends with these hop limits by IPv4 and by IPv6.
    pub(super) fn new(own_hop_limits: [u8; 2]) -> Self {
        Self {
            peers: Peers::new(),
            sent: Sent::new(),
            terms: own_hop_limits.map(|own| Terms::new(own, 1, 0)),
            own_hop_limits,
            copies: 1,
            answers_alike: true,
        }
    }

    /// From now on a request has up to `copies` replies. If `alike`, they are the request's own
    /// bytes; otherwise each is told by [`Loops::sent`].
    pub(super) fn answers(&mut self, copies: usize, alike: bool) {
        (self.copies, self.answers_alike) = (copies, alike);
    }

    /// To be called before each batch.
    #[inline]
    pub(super) fn begin(&mut self) {
        self.peers.begin();
        let (copies, random) = (self.copies, self.peers.random());
        self.terms = self
            .own_hop_limits
            .map(|own| Terms::new(own, copies, random));
    }

    /// Looks at a receive of `datagrams`. `limit` says how many of them the rates let through; it is
    /// called unless none of them is answered anyway.
    #[inline]
    pub(super) fn examine(
        &mut self,
        seen: &Seen<'_>,
        datagrams: u64,
        limit: impl FnOnce() -> u64,
        mut now: impl FnMut() -> Millis,
    ) -> Finding {
        let (peer, forgotten) = self.peers.of(seen.source);
        let terms = &self.terms[usize::from(!peer.is_v4)];
        let (hash, is_new) = (peer.hash, peer.is_new);
        peer.is_new = false;
        let mut repeats = 0;
        if !peer.is_loopback || terms.are_short() {
            let (sent, answers_alike) = (&mut self.sent, self.answers_alike);
            let is_repeat = |data: &&[u8]| {
                if answers_alike {
                    sent.keep(hash, data)
                } else {
                    sent.has(hash, data)
                }
            };
            repeats = datagrams_of(seen).filter(is_repeat).count() as u64;
        }
        if repeats > 0 && is_new {
            peer.hops.forget();
        }
        let ended = |cause| Finding {
            reply_hop_limit: 0,
            left_out: datagrams,
            cause: Some(cause),
        };
        let finding = match seen.hop_limit {
            0 => Finding::answer(0),
            came => match peer.hops.answer(came, terms, &mut now) {
                Some(left) => Finding::answer(left),
                None => return ended(Cause::NoHopsLeft),
            },
        };
        if repeats > 0 && terms.are_short() && peer.hops.are_varied() {
            return ended(Cause::HopLimitsVary);
        }
        let limited = limit();
        if repeats == 0 || peer.is_loopback {
            return finding;
        }
        let allowance = if is_new {
            forgotten
        } else {
            &mut peer.allowance
        };
        // At least as many as really are answered.
        let answered = repeats.min(limited);
        if answered < repeats && self.copies == 1 {
            allowance.refused();
        }
        let left_out = match answered {
            0 => 0,
            _ if self.copies > 1 => allowance.take_copied(answered, now()),
            _ => allowance.take(answered, now()),
        };
        Finding {
            left_out,
            cause: (left_out > 0).then_some(Cause::Repeats),
            ..finding
        }
    }

    /// A reply with these bytes is sent, which are not those of its request.
    pub(super) fn sent(&mut self, to: &RawAddress, data: &[u8]) {
        let is_short = self.terms.iter().any(Terms::are_short);
        if is_short || !to.ip().is_some_and(crate::address::is_loopback) {
            let hash = self.peers.hash(to);
            self.sent.keep(hash, data);
        }
    }
}

/// Hop limit of replies where nothing else is known.
pub(super) const MOST: u8 = hops::MOST;

fn datagrams_of<'a>(seen: &Seen<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let size = match seen.segment_bytes {
        0 => seen.data.len().max(1),
        size => size,
    };
    // An empty datagram is one as well.
    let empty: Option<&[u8]> = seen.data.is_empty().then_some(&[]);
    empty.into_iter().chain(seen.data.chunks(size))
}

#[cfg(test)]
#[path = "loops_tests.rs"]
mod tests;
