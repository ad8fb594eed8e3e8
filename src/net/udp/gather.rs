//! How many datagrams to ask for at once, and whether to let more of them gather. Pure:
//! judges by what the last batches came to, and tries the other way now and then.

/// Sends that a nap must save. The sleep and the wake-up out of it cost some 20 µs, ten sends;
/// and without a nap datagrams gather as well while the batch before is answered. Measured
/// with 1 to 128 on the way, anything below this made some of them dearer.
const NAP_SAVES: usize = 48;

/// Batches with more than one datagram after which a nap is tried again.
const LEAN_BATCHES: u32 = 32;

/// Batches of one message after which one is all that is asked for: recvmmsg(2) looks for
/// a second one otherwise, in vain.
const LONELY_BATCHES: u32 = 4;

/// One receive in so many asks for a full batch all the same.
const LOOK_ROUND: u32 = 32;

/// What the last batches taught.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    is_napping: bool,
    /// Batches of more than one since a nap was tried.
    lean: u32,
    /// Batches of one message in a row.
    lonely: u32,
}

impl Gather {
    /// A batch of so many messages, some of them trains, went back in so many sends. Trains
    /// were gathered by the kernel already: waiting for more of them saves next to nothing.
    pub(crate) fn learn(&mut self, messages: usize, trains: usize, sends: usize) {
        self.lonely = if messages == 1 { self.lonely + 1 } else { 0 };
        let singles = messages - trains;
        self.is_napping = singles >= sends.saturating_sub(trains) + NAP_SAVES;
        if self.is_napping {
            self.lean = 0;
        } else if singles > 1 {
            self.lean += 1;
            if self.lean >= LEAN_BATCHES {
                self.lean = 0;
                self.is_napping = true;
            }
        }
    }

    /// Whether to nap before the next receive rather than sleep in it.
    pub(crate) fn is_napping(&self) -> bool {
        self.is_napping
    }

    /// A nap brought nothing.
    pub(crate) fn stop_napping(&mut self) {
        self.is_napping = false;
    }

    /// How many of `slots` to ask for.
    pub(crate) fn most(&self, slots: usize) -> usize {
        if self.lonely < LONELY_BATCHES || self.lonely.is_multiple_of(LOOK_ROUND) {
            slots
        } else {
            1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naps_while_that_saves_sends() {
        let mut gather = Gather::default();
        assert!(!gather.is_napping());
        gather.learn(60, 0, 1);
        assert!(gather.is_napping());
        gather.learn(64, 0, 64);
        assert!(!gather.is_napping(), "64 peers: nothing to gather");
        gather.learn(60, 60, 1);
        assert!(!gather.is_napping(), "trains came gathered");
        gather.learn(20, 0, 1);
        assert!(!gather.is_napping(), "19 sends saved are no nap's worth");
    }

    #[test]
    fn tries_a_nap_now_and_then_where_datagrams_come_close() {
        let mut gather = Gather::default();
        let tried = (0..1000).filter(|_| {
            gather.learn(2, 0, 1);
            gather.is_napping()
        });
        assert_eq!(tried.count(), 1000 / LEAN_BATCHES as usize);
        let mut gather = Gather::default();
        assert!((0..1000).all(|_| {
            gather.learn(1, 0, 1);
            !gather.is_napping()
        }));
    }

    #[test]
    fn asks_for_one_where_one_is_all_there_is_and_looks_round() {
        let mut gather = Gather::default();
        assert_eq!(gather.most(64), 64);
        let asked: Vec<usize> = (0..100)
            .map(|_| {
                gather.learn(1, 0, 1);
                gather.most(64)
            })
            .collect();
        assert_eq!(asked[..3], [64; 3]);
        assert!(asked.iter().filter(|most| **most == 64).count() < 20);
        gather.learn(2, 0, 1);
        assert_eq!(gather.most(64), 64);
    }
}
