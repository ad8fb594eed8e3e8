//! How long a caller waits, and who may end the wait early.

use std::cell::Cell;
use std::fmt;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::sys::{self, Ready};

/// The longest sleep without asking the caller whether to go on: Ctrl-C feels immediate.
const SLICE: Duration = Duration::from_millis(100);

/// A time limit, and a function that is called at least ten times per second during a call: it
/// returns true if the caller gives up.
pub struct Patience<'a> {
    start: Instant,
    asked_at: Cell<Instant>,
    limit: Option<Duration>,
    is_cancelled: &'a (dyn Fn() -> bool + 'a),
}

impl fmt::Debug for Patience<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patience")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// What a wait is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Until {
    Readable,
    Writable,
    Either,
}

impl<'a> Patience<'a> {
    /// Waits from now on for `limit` (`None`: for ever), or until `is_cancelled` returns true.
    pub fn new(limit: Option<Duration>, is_cancelled: &'a (dyn Fn() -> bool + 'a)) -> Self {
        let now = Instant::now();
        Self {
            start: now,
            asked_at: Cell::new(now),
            limit,
            is_cancelled,
        }
    }

    /// The same question with this share of the time that is left.
    pub(super) fn share(&self, of: u32) -> Self {
        let share = self.left().map(|left| left / of.max(1));
        Self::new(share, self.is_cancelled)
    }

    fn left(&self) -> Option<Duration> {
        self.limit
            .map(|limit| limit.saturating_sub(self.start.elapsed()))
    }

    /// Starts the time anew: something moved. A peer that never lets the caller wait for
    /// long must not make it deaf, so the question is asked here as well.
    ///
    /// # Errors
    ///
    /// A state error when the caller gave up.
    pub(super) fn renew(&mut self, operation: &'static str, subject: &str) -> Result<()> {
        self.start = Instant::now();
        self.ask_if_due(self.start, operation, subject)
    }

    /// Sleeps until `socket` is ready.
    ///
    /// # Errors
    ///
    /// A timeout when the time is over, `missing` saying what did not come; a state error
    /// when the caller gave up.
    pub(super) fn wait(
        &self,
        socket: &impl AsRawFd,
        until: Until,
        operation: &'static str,
        subject: &str,
        missing: &str,
    ) -> Result<()> {
        self.wait_until(None, socket, until, operation, subject, missing)
    }

    /// The same until `due` at most, which is no error.
    pub(super) fn wait_until(
        &self,
        due: Option<Instant>,
        socket: &impl AsRawFd,
        until: Until,
        operation: &'static str,
        subject: &str,
        missing: &str,
    ) -> Result<()> {
        let fd = socket.as_raw_fd();
        loop {
            let left = self.left();
            let until_due = due.map(|due| due.saturating_duration_since(Instant::now()));
            let shortest = [left, until_due].into_iter().flatten().min();
            let slice = Some(shortest.map_or(SLICE, |shortest| shortest.min(SLICE)));
            let ready = match until {
                Until::Readable => sys::wait_readable(fd, None, slice),
                Until::Writable => sys::wait_writable(fd, None, slice),
                Until::Either => sys::wait_either(fd, None, slice),
            };
            match ready {
                Ok(Ready::TimedOut) => {}
                Ok(Ready::Socket | Ready::Woken) => return Ok(()),
                Err(error) => return Err(Error::system(operation, subject, &error)),
            }
            // Whoever is due again and again would otherwise ask each time.
            let now = Instant::now();
            if due.is_some_and(|due| due <= now) {
                self.ask_if_due(now, operation, subject)?;
            } else {
                self.ask(now, operation, subject)?;
            }
            // What comes while the question is asked is looked at once more.
            if let (Some(limit), Some(left)) = (self.limit, left)
                && left <= SLICE
                && self.left() == Some(Duration::ZERO)
            {
                return Err(timeout(operation, subject, missing, limit));
            }
            if due.is_some_and(|due| due <= Instant::now()) {
                return Ok(());
            }
        }
    }

    /// For who never waits: whether there is time left, and now and then the question.
    ///
    /// # Errors
    ///
    /// As of [`Patience::wait`].
    pub(super) fn check(
        &self,
        operation: &'static str,
        subject: &str,
        missing: &str,
    ) -> Result<()> {
        let now = Instant::now();
        self.ask_if_due(now, operation, subject)?;
        match self.limit {
            Some(limit) if now - self.start >= limit => {
                Err(timeout(operation, subject, missing, limit))
            }
            _ => Ok(()),
        }
    }

    /// For who never waits and need not hurry.
    ///
    /// # Errors
    ///
    /// A state error when the caller gave up.
    pub(super) fn ask_now_and_then(&self, operation: &'static str, subject: &str) -> Result<()> {
        self.ask_if_due(Instant::now(), operation, subject)
    }

    fn ask_if_due(&self, now: Instant, operation: &'static str, subject: &str) -> Result<()> {
        match now - self.asked_at.get() < SLICE {
            true => Ok(()),
            false => self.ask(now, operation, subject),
        }
    }

    fn ask(&self, now: Instant, operation: &'static str, subject: &str) -> Result<()> {
        self.asked_at.set(now);
        if (self.is_cancelled)() {
            return Err(Error::state(operation, subject, "the wait was cancelled"));
        }
        Ok(())
    }
}

fn timeout(operation: &'static str, subject: &str, missing: &str, limit: Duration) -> Error {
    Error::timeout(operation, subject, format!("{missing} within {limit:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::net::UdpSocket;

    fn wait(patience: &Patience<'_>) -> Error {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        patience
            .wait(
                &socket,
                Until::Readable,
                "receive from",
                "x",
                "nothing came",
            )
            .unwrap_err()
    }

    #[test]
    fn ends_no_sooner_than_its_limit_and_names_it() {
        let start = Instant::now();
        let limit = Duration::from_millis(150);
        let error = wait(&Patience::new(Some(limit), &|| false));
        assert!(start.elapsed() >= limit);
        assert!(error.is_timeout());
        assert!(error.to_string().contains("within 150ms"), "{error}");
    }

    #[test]
    fn without_a_limit_it_ends_when_the_caller_gives_up() {
        let asked = Cell::new(0);
        let is_cancelled = || {
            asked.set(asked.get() + 1);
            asked.get() == 2
        };
        let error = wait(&Patience::new(None, &is_cancelled));
        assert!(error.is_state(), "{error}");
        assert_eq!(asked.get(), 2);
    }

    #[test]
    fn who_is_due_again_and_again_asks_no_more_often() {
        let (asked, socket) = (Cell::new(0), UdpSocket::bind("127.0.0.1:0").unwrap());
        let is_cancelled = || {
            asked.set(asked.get() + 1);
            false
        };
        let patience = Patience::new(None, &is_cancelled);
        let start = Instant::now();
        while start.elapsed() < 2 * SLICE {
            let due = Some(Instant::now() + Duration::from_millis(1));
            let until = Until::Readable;
            let waited = patience.wait_until(due, &socket, until, "x", "x", "x");
            waited.unwrap();
            patience.check("x", "x", "x").unwrap();
        }
        let most = start.elapsed().as_nanos() / SLICE.as_nanos();
        assert!((1..=most).contains(&asked.get()), "{}", asked.get());
    }

    #[test]
    fn a_peer_that_keeps_moving_does_not_make_it_deaf() {
        let mut patience = Patience::new(None, &|| true);
        patience.renew("receive from", "x").unwrap();
        std::thread::sleep(SLICE);
        assert!(patience.renew("receive from", "x").unwrap_err().is_state());
    }
}
