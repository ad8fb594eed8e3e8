//! What a worker does while nothing comes: sleep, or ask for a while first.

use std::time::Duration;

/// What a worker does while nothing comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wait {
    /// Sleeps. While UDP datagrams come in groups, a nap of 50 µs lets more of them gather,
    /// so that they go back in fewer sends: the least CPU time, for 50 µs under load. Take it
    /// unless something below is worth more to you.
    #[default]
    Balanced,
    /// Asks for up to 50 µs before it sleeps, as long as something usually comes within
    /// 100 µs: saves the 15 to 18 µs of a wake-up, for CPU time between arrivals. Take it
    /// where the round trip is what counts, and a core can be spent while there is traffic.
    Latency,
    /// Asks without ever sleeping: the least latency also after a pause, for a whole core,
    /// always. Take it with a core to spare for each worker.
    Busy,
}

/// How long [`Wait::Latency`] asks before it sleeps. A sleep costs 15 to 18 µs on the way
/// out of it, so a few times that is worth spending.
const SPIN: Duration = Duration::from_micros(50);

/// Gaps between arrivals above which asking only burns: it would end in a sleep anyway.
const SHORT_GAP: Duration = Duration::from_micros(100);

/// Says how long to ask before a sleep, from how long it took of late. Knows no clock.
#[derive(Debug)]
pub(crate) struct Pace {
    wait: Wait,
    /// Running mean of the gaps after which something came.
    recent_gap: Duration,
}

impl Pace {
    pub(crate) fn new(wait: Wait) -> Self {
        Self {
            wait,
            recent_gap: Duration::ZERO,
        }
    }

    pub(crate) fn wait(&self) -> Wait {
        self.wait
    }

    /// How long to ask before sleeping; `Duration::MAX`: never sleep.
    pub(crate) fn patience(&self) -> Duration {
        match self.wait {
            Wait::Balanced => Duration::ZERO,
            Wait::Latency if self.recent_gap < SHORT_GAP => SPIN,
            Wait::Latency => Duration::ZERO,
            Wait::Busy => Duration::MAX,
        }
    }

    /// Told that something came after so long.
    pub(crate) fn learn(&mut self, gap: Duration) {
        // One long pause is no reason to give up on asking, a few are.
        self.recent_gap = (self.recent_gap * 3 + gap.min(SHORT_GAP * 3)) / 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_while_gaps_are_short_gives_up_after_some_pauses_and_comes_back() {
        let mut pace = Pace::new(Wait::Latency);
        assert_eq!(pace.patience(), SPIN);
        pace.learn(Duration::from_secs(1));
        assert_eq!(pace.patience(), SPIN, "once is nothing");
        pace.learn(Duration::from_secs(1));
        pace.learn(Duration::from_secs(1));
        assert_eq!(pace.patience(), Duration::ZERO);
        for _ in 0..10 {
            pace.learn(Duration::from_micros(10));
        }
        assert_eq!(pace.patience(), SPIN);
        assert_eq!(Pace::new(Wait::Balanced).patience(), Duration::ZERO);
        assert_eq!(Pace::new(Wait::Busy).patience(), Duration::MAX);
    }
}
