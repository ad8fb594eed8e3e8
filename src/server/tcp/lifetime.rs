//! How long a connection may live, and how much has to come over it meanwhile.
//!
//! An idle timeout does not end a peer that sends a byte now and then; these do. Both cost a
//! list that is kept only where they are asked for.

use std::time::{Duration, Instant};

use super::lru::Lru;
use crate::books::tcp::Reason;

/// The least rate at which a connection has to receive, on average over each window since it was
/// accepted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MinRate {
    /// Bytes per second, more than 0.
    pub bytes_per_second: f64,
    /// How long a window is; the first is a new connection's grace.
    pub window: Duration,
}

impl MinRate {
    /// A window, unless said otherwise.
    pub const WINDOW: Duration = Duration::from_secs(10);

    /// What has to come within a window: at least one byte.
    fn least_bytes(&self) -> u64 {
        // A rate above what a u64 holds is met by nobody, as one just below it.
        (self.bytes_per_second * self.window.as_secs_f64())
            .ceil()
            .max(1.0) as u64
    }
}

/// The connections of one worker, by when their time is over.
#[derive(Debug)]
pub(super) struct Lifetimes {
    longest: Option<(Duration, Lru<1>)>,
    least: Option<Windows>,
}

#[derive(Debug)]
struct Windows {
    rate: MinRate,
    /// By when the present window of each began.
    begun: Lru<1>,
    /// What had come by then.
    received: Vec<u64>,
}

/// A connection whose time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// It has lived as long as any may.
    Life(u32),
    /// A window has ended: whether enough came is for [`Lifetimes::review`] to say.
    Window(u32),
}

impl Lifetimes {
    pub(super) fn new(longest: Option<Duration>, least: Option<MinRate>) -> Self {
        Self {
            longest: longest.map(|longest| (longest, Lru::new())),
            least: least.map(|rate| Windows {
                rate,
                begun: Lru::new(),
                received: Vec::new(),
            }),
        }
    }

    /// There is something to keep time for.
    pub(super) fn is_needed(&self) -> bool {
        self.longest.is_some() || self.least.is_some()
    }

    /// A connection was accepted.
    pub(super) fn add(&mut self, id: u32, now: Instant) {
        if let Some((_, born)) = &mut self.longest {
            born.touch(id, 0, now);
        }
        if let Some(windows) = &mut self.least {
            windows.begin(id, 0, now);
        }
    }

    /// A connection has ended.
    pub(super) fn remove(&mut self, id: u32) {
        if let Some((_, born)) = &mut self.longest {
            born.remove(id);
        }
        if let Some(windows) = &mut self.least {
            windows.begun.remove(id);
        }
    }

    /// The next whose time is over by now. One that has lived too long is to be ended, one
    /// whose window has ended to be reviewed, before this is asked again.
    pub(super) fn next_over(&self, now: Instant) -> Option<Over> {
        let is_over = |at: Instant, time| now.saturating_duration_since(at) >= time;
        if let Some((longest, born)) = &self.longest
            && let Some((id, at)) = born.oldest(0)
            && is_over(at, *longest)
        {
            return Some(Over::Life(id));
        }
        if let Some(windows) = &self.least
            && let Some((id, at)) = windows.begun.oldest(0)
            && is_over(at, windows.rate.window)
        {
            return Some(Over::Window(id));
        }
        None
    }

    /// Begins the next window of a connection over which so much has come by now; why it is
    /// to be ended, if too little came in the last one. `is_waiting`: for the server, not for
    /// its peer, which has the next window as well then.
    pub(super) fn review(
        &mut self,
        id: u32,
        received: u64,
        is_waiting: bool,
        now: Instant,
    ) -> Option<Reason> {
        let windows = self.least.as_mut()?;
        let before = windows.received[id as usize];
        windows.begin(id, received, now);
        let came = received - before;
        (came < windows.rate.least_bytes() && !is_waiting).then_some(Reason::Slow)
    }

    /// How long until the next is over.
    pub(super) fn time_left(&self, now: Instant) -> Option<Duration> {
        let left =
            |at: Instant, time: Duration| time.saturating_sub(now.saturating_duration_since(at));
        let life = self.longest.as_ref().and_then(|(longest, born)| {
            let (_, at) = born.oldest(0)?;
            Some(left(at, *longest))
        });
        let window = self.least.as_ref().and_then(|windows| {
            let (_, at) = windows.begun.oldest(0)?;
            Some(left(at, windows.rate.window))
        });
        life.into_iter().chain(window).min()
    }
}

impl Windows {
    fn begin(&mut self, id: u32, received: u64, now: Instant) {
        self.begun.touch(id, 0, now);
        let place = id as usize;
        if self.received.len() <= place {
            self.received.resize(place + 1, 0);
        }
        self.received[place] = received;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rate(bytes_per_second: f64, seconds: u32) -> MinRate {
        MinRate {
            bytes_per_second,
            window: seconds * SECOND,
        }
    }

    #[test]
    fn a_life_is_counted_from_the_accept_whatever_comes() {
        let start = Instant::now();
        let mut lives = Lifetimes::new(Some(3 * SECOND), None);
        lives.add(7, start);
        lives.add(2, start + SECOND);
        assert_eq!(lives.time_left(start + SECOND), Some(2 * SECOND));
        assert_eq!(lives.next_over(start + 2 * SECOND), None);
        assert_eq!(lives.next_over(start + 3 * SECOND), Some(Over::Life(7)));
        lives.remove(7);
        assert_eq!(lives.next_over(start + 3 * SECOND), None);
        assert_eq!(lives.next_over(start + 4 * SECOND), Some(Over::Life(2)));
        lives.remove(2);
        assert_eq!(lives.time_left(start), None);
    }

    #[test]
    fn each_window_is_reviewed_by_itself() {
        let start = Instant::now();
        let mut lives = Lifetimes::new(None, Some(rate(100.0, 10)));
        lives.add(0, start);
        assert_eq!(lives.next_over(start + 9 * SECOND), None);
        let first = start + 10 * SECOND;
        assert_eq!(lives.next_over(first), Some(Over::Window(0)));
        // A lot at once does not pay for the next window.
        assert_eq!(lives.review(0, 1_000_000, false, first), None);
        assert_eq!(lives.next_over(first), None);
        let second = first + 10 * SECOND;
        assert_eq!(lives.review(0, 1_001_000, false, second), None);
        let third = second + 10 * SECOND;
        assert_eq!(
            lives.review(0, 1_001_999, true, third),
            None,
            "not its fault"
        );
        let fourth = third + 10 * SECOND;
        assert_eq!(
            lives.review(0, 1_002_998, false, fourth),
            Some(Reason::Slow)
        );
    }

    #[test]
    fn a_number_that_is_used_again_begins_anew() {
        let start = Instant::now();
        let mut lives = Lifetimes::new(None, Some(rate(1.0, 1)));
        lives.add(3, start);
        assert_eq!(lives.review(3, 500, false, start + SECOND), None);
        lives.remove(3);
        lives.add(3, start + 2 * SECOND);
        assert_eq!(lives.review(3, 1, false, start + 3 * SECOND), None);
    }

    #[test]
    fn the_least_rate_is_a_byte_a_window() {
        assert_eq!(rate(0.001, 10).least_bytes(), 1);
        assert_eq!(rate(100.0, 10).least_bytes(), 1000);
        assert_eq!(rate(1e300, 10).least_bytes(), u64::MAX);
    }
}
