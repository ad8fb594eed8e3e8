//! With which hop limit a reply goes: what bounds every loop between servers that do this.
//!
//! A loop's only clock that both ends keep is the hop limit (RFC 791 §3.2, RFC 8200 §3): a
//! router takes one off, and so does this server. So what goes round falls with every visit
//! and ends, whatever it is, however many there are, and whatever is lost, copied or
//! reordered on the way: nothing has to be told from anything.
//!
//! Rule 1: a reply starts with less than its request came with, and with [`MOST`] at most.
//! Rule 2: where one request has several replies (duplicates on purpose), they share what it
//! came with, so that all that ever comes of it are fewer than [`MOST`] datagrams.
//! Rule 3: what comes with [`LOW`] or less may be from far away, or from somebody who chose
//! so, and one less might not arrive. It is answered with more, as long as its peer shows
//! that it does not depend on that: everything of it has come with about the same hop limit,
//! while our replies went with several, unpredictably. What only went round would have
//! followed them; the first that did ends it.
//! Rule 4: where replies start with less than [`LEAST_RAISED`] at most (a low `--ttl`, copies),
//! they may all come with the same hop limit, whatever the requests had: a peer that raises
//! them finds them steady, and nothing falls. What it raised is unsteady here. So such a server
//! ends it: of a peer that is not steady, it answers nothing that repeats (`loops.rs`).

use super::repeats::Millis;

/// What replies start with at most. A round takes two off, so 60 of them are the longest.
pub(super) const MOST: u8 = 120;

/// A datagram that comes with this or less may need more to be answered. With more than that,
/// one less is enough for any way back of 40 routers.
pub(super) const LOW: u8 = 40;

/// How far datagrams of one peer may be apart: paths of different lengths.
const NEAR: u8 = 3;

/// The hop limits with which low ones are answered in turn, so many of them, so far apart:
/// farther than [`NEAR`] allows. What went round once comes with more than [`LOW`], unless the
/// way is long, and then with another one each time.
const RAISES: u64 = 8;
const STEP: u8 = 8;

/// So many replies to a peer's low ones each go with another one; those after that with one a
/// batch, so that they can go together.
const TRIED: u8 = 64;

/// The least that low ones are answered with.
const LEAST_RAISED: u8 = MOST - (RAISES as u8 - 1) * STEP;

/// A peer that had others, but has come with the same hop limit for so long and so often, is
/// taken to have only that. What goes round in step has another one after each round, and those
/// that take longer are fewer.
const STEADY_MS: Millis = 2_000;
const STEADY: u16 = 1024;

/// What holds for all replies of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    /// Replies that one request may have.
    copies: u8,
    /// What replies start with at most, the copies' share.
    most: u8,
    /// Low ones are answered with more.
    raises: bool,
    /// By how much, unpredictably: three bits each.
    random: u64,
}

impl Terms {
    /// For a socket that sends with `own`, requests that may have `copies` replies each, and
    /// a random number for this batch.
    pub(super) fn new(own: u8, copies: usize, random: u64) -> Self {
        let copies = copies.clamp(1, usize::from(MOST)) as u8;
        // A socket that is to reach less far than any system's default reaches less far.
        let most = if own < LEAST_RAISED { own } else { MOST } / copies;
        // What comes of copies falls too fast to be told by that.
        Self {
            copies,
            most,
            raises: most == MOST,
            random,
        }
    }

    fn raised(&self, number: u8) -> u8 {
        let draw = (self.random >> (3 * (number % 20))) % RAISES;
        MOST - STEP * draw as u8
    }

    /// Replies may all start with the same hop limit although a peer raises: rule 4.
    #[inline]
    pub(super) fn are_short(&self) -> bool {
        self.most < LEAST_RAISED
    }
}

/// What is known of the hop limits of one peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hops {
    /// The one of its first datagram; 0: none has come.
    first: u8,
    /// Others came with one that was not near.
    is_varied: bool,
    /// The last, and where that matters since when all have come with the same; 0: not asked.
    last: u8,
    since_ms: Millis,
    /// And how many have.
    same: u16,
    /// How many replies have had more, up to [`TRIED`].
    raised: u8,
}

impl Hops {
    /// A datagram came with this hop limit, which is not 0: the one for its replies; `None`
    /// where nothing is left, so there are none.
    #[inline]
    pub(super) fn answer(
        &mut self,
        came: u8,
        terms: &Terms,
        now: impl FnOnce() -> Millis,
    ) -> Option<u8> {
        if came != self.last {
            (self.last, self.since_ms, self.same) = (came, 0, 0);
            if self.first == 0 {
                self.first = came;
            }
            self.is_varied |= came.abs_diff(self.first) > NEAR;
        }
        if self.is_varied && (came <= LOW || terms.are_short()) {
            self.forgive(now());
        }
        if came <= LOW && !self.is_varied && self.first <= LOW && terms.raises {
            self.raised = (self.raised + 1).min(TRIED);
            return Some(terms.raised(if self.raised < TRIED { self.raised } else { 0 }));
        }
        // Alone it is one less; of several each has its share, less one for itself.
        let share = match terms.copies {
            1 => came - 1,
            copies => (came / copies).saturating_sub(1),
        };
        match share.min(terms.most) {
            0 => None,
            share => Some(share),
        }
    }

    /// A peer that has been steady for long is so.
    fn forgive(&mut self, now: Millis) {
        self.same = self.same.saturating_add(1);
        if self.since_ms == 0 {
            // Not after now, and not 0.
            self.since_ms = now.wrapping_sub(1) | 1;
        } else if self.same >= STEADY && now.wrapping_sub(self.since_ms) >= STEADY_MS {
            (self.first, self.is_varied) = (self.last, false);
        }
    }

    /// What came had hop limits that were not near to each other.
    #[inline]
    pub(super) fn are_varied(&self) -> bool {
        self.is_varied
    }

    /// It went on before, but what it came with is not known any more.
    pub(super) fn forget(&mut self) {
        self.is_varied = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn terms(random: u64) -> Terms {
        Terms::new(64, 1, random)
    }

    /// What a client is answered with whose datagrams start with `own`, `far` routers away.
    fn client(own: &[u8], far: u8, times: usize) -> Vec<u8> {
        let mut hops = Hops::default();
        let came = own.iter().cycle().take(times).map(|own| own - far);
        came.enumerate()
            .map(|(n, came)| {
                let terms = terms((n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
                hops.answer(came, &terms, || n as Millis).unwrap_or(0)
            })
            .collect()
    }

    #[test]
    fn a_reply_has_less_than_its_request() {
        let mut hops = Hops::default();
        for (came, wanted) in [(64, 63), (255, MOST), (57, 56), (128, MOST), (41, 40)] {
            assert_eq!(hops.answer(came, &terms(0), || 0), Some(wanted));
        }
        // It is varied by now, so low ones have less as well, down to nothing.
        for (came, wanted) in [(40, Some(39)), (2, Some(1)), (1, None)] {
            assert_eq!(hops.answer(came, &terms(0), || 0), wanted);
        }
    }

    #[test]
    fn a_client_from_far_away_or_of_its_own_choice_is_answered_with_what_arrives() {
        for (own, far, back) in [
            (64, 0, 40),
            (64, 7, 40),
            (64, 20, 40),
            (64, 24, 63),
            (64, 31, 63),
            (64, 40, 63),
            (64, 63, 63),
            (128, 15, 63),
            (128, 100, 63),
            (255, 30, 63),
            (1, 0, 63),
            (2, 1, 63),
            (32, 10, 63),
        ] {
            for hop_limit in client(&[own], far, 5000) {
                assert!(hop_limit > back, "{own} {far} {back}: {hop_limit}");
            }
        }
    }

    #[test]
    fn a_client_of_several_paths_is_answered_with_what_arrives() {
        for own in [&[64, 62][..], &[64, 63, 62, 61]] {
            assert!(client(own, 30, 1000).iter().all(|hop| *hop > 60));
        }
        // Far apart they do not count as one: each has one less, which is enough for its way.
        assert!(
            client(&[64, 54], 25, 1000)[1..]
                .iter()
                .all(|hop| *hop >= 28)
        );
    }

    #[test]
    fn a_client_that_lowers_it_for_good_is_answered_in_the_end() {
        let answers = client(&[[64; 1].as_slice(), &[5; 70_000]].concat(), 4, 70_001);
        assert_eq!(answers[1], 0);
        let steady = STEADY_MS as usize + 1;
        assert!(answers[1..steady].iter().all(|hop| *hop == 0));
        assert!(answers[steady..].iter().all(|hop| *hop > 60));
    }

    #[test]
    fn f17_any_number_in_step_is_not_steady() {
        let mut hops = Hops::default();
        hops.answer(64, &terms(0), || 0);
        // 100,000 of each hop limit, a second each.
        for (round, came) in (2..=LOW).rev().enumerate() {
            for _ in 0..100_000 {
                let now = 1000 * round as Millis;
                assert_eq!(hops.answer(came, &terms(0), || now), Some(came - 1));
            }
        }
    }

    #[test]
    fn a_socket_that_reaches_less_far_is_left_so() {
        for own in [1, 2, 9, 32, 63] {
            let terms = Terms::new(own, 1, 3);
            let mut hops = Hops::default();
            for came in [255, 64, 30, 2] {
                assert!(hops.answer(came, &terms, || 0).unwrap() <= own);
            }
        }
    }

    #[test]
    fn low_ones_are_answered_with_unlike_hop_limits() {
        let mut all: Vec<u8> = (0..8)
            .map(|random| Terms::new(64, 1, random).raised(0))
            .collect();
        all.sort_unstable();
        assert!(all[0] >= 64, "{all:?}");
        // No two of them are near to the same one.
        assert!(
            all.windows(2).all(|two| two[1] - two[0] > 2 * NEAR),
            "{all:?}"
        );
        assert!(!Terms::new(64, 2, 0).raises);
        // At first each reply has another one, later all of a batch have the same.
        let mut hops = Hops::default();
        let mut batch = |random| {
            let terms = Terms::new(64, 1, random);
            let answers = (0..64).map(|_| hops.answer(20, &terms, || 0).unwrap());
            answers.collect::<std::collections::BTreeSet<u8>>().len()
        };
        assert!(batch(0x9E37_79B9_7F4A_7C15) > 4);
        assert_eq!(batch(0x9E37_79B9_7F4A_7C15), 1);
    }

    proptest! {
        /// All that ever comes of one datagram, between two peers that both copy.
        #[test]
        fn f17_what_is_copied_on_purpose_shares_a_bound(came in 1u8..=255, copies in 1usize..9) {
            fn all(came: u8, terms: &Terms, first: u8) -> u64 {
                // Varied, as it is once anything went round.
                let mut hops = Hops { first, is_varied: true, ..Hops::default() };
                match hops.answer(came, terms, || 0) {
                    None => 0,
                    Some(left) if terms.copies == 1 => 1 + all(left, terms, came),
                    Some(left) => u64::from(terms.copies) * (1 + all(left, terms, came)),
                }
            }
            let count = all(came, &Terms::new(64, copies, 1), came);
            prop_assert!(count <= u64::from(MOST), "{count}");
        }

        #[test]
        fn a_reply_never_has_more_unless_its_peer_is_low_and_steady(
            own in 1u8..=255,
            copies in 1usize..5,
            steps in prop::collection::vec((1u8..=255, any::<u64>()), 1..300),
        ) {
            let mut hops = Hops::default();
            let (mut least, mut highest) = (255, 0);
            for (came, random) in steps {
                (least, highest) = (came.min(least), came.max(highest));
                let terms = Terms::new(own, copies, random);
                let left = hops.answer(came, &terms, || 0).unwrap_or(0);
                prop_assert!(left <= MOST && (own >= 64 || left <= own));
                let is_steady = highest <= LOW + NEAR && highest - least <= 2 * NEAR;
                prop_assert!(left < came || is_steady, "{came} {left}");
            }
        }
    }
}
