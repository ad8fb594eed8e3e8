//! How often a line of one kind may be written: once a second, and the last of a burst on time.
//!
//! Pure: time is handed in, as what has passed since a moment of the caller's choice. Who
//! looks at [`Throttle::due`] is the caller's business: for native workers the event queue
//! (`event/lines.rs`), for what Python logs itself its pump thread.

use std::fmt;
use std::time::Duration;

/// Lines of one kind are at least this far apart.
pub const BETWEEN_LINES: Duration = Duration::from_secs(1);

/// When lines of one kind are written.
///
/// The first is written at once. Those that follow within [`BETWEEN_LINES`] are left out and
/// counted; when that time is over, the last of them is due, whether or not anything more
/// happens, and says how many were left out before it.
#[derive(Debug, Clone, Default)]
pub struct Throttle {
    /// From when on the next line may be written.
    next: Duration,
    /// Lines that have been held back since the last one that was written.
    held: u64,
}

impl Throttle {
    /// A line could be written now. `Some(n)`: it is to be, and says that `n` were left out
    /// since the last one; `None`: it is held back.
    pub fn offer(&mut self, now: Duration) -> Option<u64> {
        if now < self.next {
            self.held += 1;
            return None;
        }
        self.next = now + BETWEEN_LINES;
        Some(std::mem::take(&mut self.held))
    }

    /// From when on the last line that was held back is to be written; `None`: none is.
    pub fn due(&self) -> Option<Duration> {
        (self.held > 0).then_some(self.next)
    }

    /// As [`Throttle::offer`] for the last line that was held back, if that is due.
    pub fn take_due(&mut self, now: Duration) -> Option<u64> {
        self.due().filter(|due| *due <= now)?;
        self.next = now + BETWEEN_LINES;
        self.finish()
    }

    /// The same whether it is due or not: nothing more will be written after it.
    pub fn finish(&mut self) -> Option<u64> {
        // The one that is written now is not among those left out.
        std::mem::take(&mut self.held).checked_sub(1)
    }
}

/// What a line ends with that stands for others as well; nothing where there are none.
#[derive(Debug, Clone, Copy)]
pub struct LeftOut(pub u64);

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} more like it)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_first_at_once_the_last_when_the_second_is_over() {
        let mut throttle = Throttle::default();
        assert_eq!(throttle.offer(ms(300)), Some(0));
        assert_eq!(throttle.due(), None);
        assert_eq!(throttle.offer(ms(301)), None);
        assert_eq!(throttle.offer(ms(1_299)), None);
        assert_eq!(throttle.due(), Some(ms(1_300)));
        assert_eq!(throttle.take_due(ms(1_299)), None);
        // Of the two the second is written.
        assert_eq!(throttle.take_due(ms(1_300)), Some(1));
        assert_eq!(throttle.take_due(ms(9_000)), None);
        // That was a line as well.
        assert_eq!(throttle.offer(ms(2_299)), None);
        assert_eq!(throttle.finish(), Some(0));
        assert_eq!(throttle.finish(), None);
    }

    #[test]
    fn a_line_that_comes_when_the_last_was_due_stands_for_it() {
        let mut throttle = Throttle::default();
        throttle.offer(ms(0));
        throttle.offer(ms(1));
        assert_eq!(throttle.offer(ms(1_000)), Some(1));
        assert_eq!(throttle.due(), None);
    }

    #[test]
    fn one_line_needs_no_more_words() {
        assert_eq!(format!("x{}", LeftOut(0)), "x");
        assert_eq!(format!("x{}", LeftOut(3)), "x (3 more like it)");
    }

    proptest! {
        /// Whatever happens when: lines are a second apart, each happening is written or
        /// counted exactly once, and nothing waits longer than a second.
        #[test]
        fn everything_is_said_once_and_on_time(
            gaps in prop::collection::vec(prop_oneof![0u64..3, 0u64..2_500], 0..200),
        ) {
            let (mut throttle, mut now) = (Throttle::default(), Duration::ZERO);
            let (mut told, mut written) = (0, Vec::<Duration>::new());
            let mut held_since = None;
            for gap in &gaps {
                let next = now + ms(*gap);
                if let Some(due) = throttle.due().filter(|due| *due <= next) {
                    prop_assert!(due <= held_since.expect("something is held") + BETWEEN_LINES);
                    told += 1 + throttle.take_due(due).expect("it is due");
                    written.push(due);
                    held_since = None;
                }
                now = next;
                match throttle.offer(now) {
                    Some(left_out) => {
                        told += 1 + left_out;
                        written.push(now);
                        held_since = None;
                    }
                    None => held_since = held_since.or(Some(now)),
                }
            }
            told += throttle.finish().map_or(0, |left_out| 1 + left_out);
            prop_assert_eq!(told, gaps.len() as u64);
            prop_assert!(written.windows(2).all(|pair| pair[1] - pair[0] >= BETWEEN_LINES));
        }
    }
}
