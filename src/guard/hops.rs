//! Whether a peer's datagrams are our own replies come back: told by their hop limit. Pure.
//!
//! While a peer is checked, each of its datagrams is answered with a hop limit one below
//! that with which it came. A client starts each of its datagrams afresh, with its own hop
//! limit, whatever we answer. What only goes round between two servers that do this falls
//! with every round, and nothing fresh is among it; should it never be proven, it ends when
//! there is nothing left to fall, as the hop limit is meant to (RFC 791 §3.2, RFC 8200 §3).

use std::cmp::Ordering;

/// Falls without anything fresh in between that make a loop.
const FALLS: u8 = 8;

/// Receives without that after which the peer is taken for a client. The other server of a
/// loop may become suspicious later than we do: its falls begin only then.
const ROUNDS: u8 = 128;

/// What replies of a checked peer start with at most: far above any system's default of 64,
/// for the sake of [`RAISES`].
const HIGHEST: u8 = 127;

/// A datagram that starts a check with this or less came from a client that chose so, or from
/// so far away that one less might not arrive, as the way back may be longer than the way
/// here. It is answered with [`HIGHEST`] instead, and up to so many less, in turn, of which none
/// is less than a system's own: what only went round would follow that, and what a client
/// chose does not.
const LOW: u8 = 56;
const RAISES: u8 = 16;

/// One peer's check.
#[derive(Debug, Default)]
pub(super) struct Hops {
    /// What its last fresh datagram was answered with; 0: there was none yet.
    ceiling: u8,
    /// The lowest that came since then, and how often one was lower still.
    lowest: u8,
    lows: u8,
    /// The last that came, and how often it fell since it last rose.
    last: u8,
    falls: u8,
    rounds: u8,
    /// It began with a low one of its own.
    is_low: bool,
}

/// What a datagram's hop limit says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hop {
    /// Nothing yet: answer with this one, 0 for the socket's own.
    Answer(u8),
    /// It is a client: the check is over.
    Client,
    /// It is our own reply, come back again and again.
    Loop,
}

impl Hops {
    /// A datagram came with this hop limit, 0 where the system does not say.
    pub(super) fn see(&mut self, came: u8) -> Hop {
        self.rounds += 1;
        if self.rounds == ROUNDS {
            return Hop::Client;
        }
        if came == 0 {
            return Hop::Answer(0);
        }
        let is_first = self.ceiling == 0;
        // One that is low no more was no choice: it is what we raised.
        self.is_low = came <= LOW && (is_first || self.is_low);
        // A client's own is above what we answered it with.
        if is_first || (came > self.ceiling && !self.is_low) {
            self.ceiling = if self.is_low {
                HIGHEST
            } else {
                (came - 1).min(HIGHEST)
            };
            (self.lowest, self.lows) = (came, 0);
            (self.last, self.falls) = (came, 0);
            return Hop::Answer(self.ceiling);
        }
        // Several that go round at once may have begun at different times; then only the
        // lowest falls. Where one of two servers raises, only the last does.
        if came < self.lowest {
            (self.lowest, self.lows) = (came, self.lows + 1);
        }
        match came.cmp(&self.last) {
            Ordering::Less => self.falls += 1,
            Ordering::Equal => {}
            Ordering::Greater => self.falls = 0,
        }
        self.last = came;
        if self.lows.max(self.falls) == FALLS {
            return Hop::Loop;
        }
        Hop::Answer(if self.is_low {
            HIGHEST - (self.rounds - 1) % RAISES
        } else {
            (came - 1).max(1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    /// What a client that always starts with one of `own` is answered with; panics when it
    /// is taken for a loop.
    fn client(own: &[u8], far: u8) -> Vec<u8> {
        let mut hops = Hops::default();
        let mut answers = Vec::new();
        for own in own.iter().cycle() {
            match hops.see(own - far) {
                Hop::Answer(hop) => answers.push(hop),
                Hop::Client => break,
                Hop::Loop => panic!("{own} from {far} is no loop"),
            }
        }
        answers
    }

    /// Rounds that datagrams make between two servers which start with `own` and check each
    /// other from round `starts` on, `far` routers apart; `None`: more than `most`.
    fn rounds(
        own: [u8; 2],
        starts: [u32; 2],
        far: u8,
        on_the_way: usize,
        most: u32,
    ) -> Option<u32> {
        let mut checks = [Hops::default(), Hops::default()];
        let mut came: VecDeque<u8> = std::iter::repeat_n(64, on_the_way).collect();
        for round in 0..most {
            for _ in 0..on_the_way {
                for server in 0..2 {
                    let Some(hop) = came.pop_front() else {
                        return Some(round);
                    };
                    let answer = if round < starts[server] {
                        own[server]
                    } else {
                        match checks[server].see(hop) {
                            Hop::Answer(0) => own[server],
                            Hop::Answer(hop) => hop,
                            Hop::Client => return None,
                            Hop::Loop => return Some(round),
                        }
                    };
                    // A router that would forward 0 drops it.
                    if answer > far {
                        // The first server's answer is for the second one, now.
                        if server == 0 {
                            came.push_front(answer - far);
                        } else {
                            came.push_back(answer - far);
                        }
                    }
                }
            }
        }
        None
    }

    #[test]
    fn a_client_is_answered_with_what_arrives_and_is_left_alone() {
        for (own, far, back) in [
            (64, 0, 0),
            (64, 7, 55),
            (64, 20, 20),
            (64, 31, 31),
            (64, 32, 32),
            (64, 33, 33),
            (64, 30, 40),
            (64, 32, 63),
            (64, 63, 63),
            (128, 15, 63),
            (128, 80, 63),
            (255, 30, 63),
        ] {
            let answers = client(&[own], far);
            assert_eq!(answers.len(), usize::from(ROUNDS) - 1);
            assert!(
                answers.iter().all(|hop| *hop > back),
                "{own} {far} {back}: {answers:?}"
            );
        }
    }

    #[test]
    fn a_client_that_chose_a_low_one_is_answered_with_what_arrives() {
        for (own, far) in [(1, 0), (2, 1), (5, 4), (31, 30), (32, 10)] {
            let answers = client(&[own], far);
            assert!(
                answers.iter().all(|hop| *hop > far),
                "{own} {far}: {answers:?}"
            );
        }
    }

    #[test]
    fn a_client_of_several_ways_or_of_a_new_one_is_no_loop() {
        client(&[64, 62], 3);
        client(&[64, 63, 62, 61, 60, 59, 58], 3);
        // Changes its mind for good in the midst of it.
        let mut hops = Hops::default();
        for hop in [64; 20].into_iter().chain([3; 100]) {
            assert_ne!(hops.see(hop), Hop::Loop);
        }
    }

    #[test]
    fn a_system_that_does_not_say_is_answered_as_ever() {
        let mut hops = Hops::default();
        assert!((1..ROUNDS).all(|_| hops.see(0) == Hop::Answer(0)));
        assert_eq!(hops.see(0), Hop::Client);
    }

    #[test]
    fn f17_between_two_such_servers_it_ends_within_some_rounds() {
        assert!(rounds([64, 64], [0, 0], 0, 1, 64).is_some_and(|rounds| rounds <= 9));
        // Started with another hop limit, one of them a little later.
        assert!(rounds([64, 64], [0, 3], 0, 1, 64).is_some_and(|rounds| rounds <= 12));
        assert!(rounds([9, 9], [1, 0], 0, 1, 64).is_some());
        assert!(rounds([255, 128], [1, 0], 0, 1, 64).is_some());
    }

    proptest! {
        #[test]
        fn f17_wherever_they_are_and_however_many_go_round(
            own in [33u8..=255, 33u8..=255],
            starts in [0u32..32, 0u32..32],
            far in 0u8..32,
            on_the_way in 1usize..12,
        ) {
            // One that began much earlier has taken the other for a client meanwhile.
            let late = starts[0].abs_diff(starts[1]) * on_the_way as u32;
            let starts = if late + (u32::from(FALLS) + 2) * (on_the_way as u32) < u32::from(ROUNDS) {
                starts
            } else {
                [0, 1]
            };
            let most = 32 + 64 * on_the_way as u32;
            prop_assert!(rounds(own, starts, far, on_the_way, most).is_some());
        }

        #[test]
        fn a_client_is_never_a_loop_whatever_it_starts_with(own: u8, far in 0u8..40) {
            prop_assume!(own > far);
            client(&[own], far);
        }

        /// To a way back of 55 routers, and where the way here says that it is long, of any
        /// number that a system's own 64 reaches.
        #[test]
        fn no_reply_dies_on_its_way_back(
            own in prop_oneof![Just(64u8), Just(128), Just(255), 1u8..=255],
            far in 0u8..64,
        ) {
            prop_assume!(own > far);
            let reach = if own - far <= 56 { 63 } else { 55 };
            let answers = client(&[own], far);
            prop_assert!(answers.iter().all(|hop| *hop > reach), "{:?}", answers);
        }
    }
}
