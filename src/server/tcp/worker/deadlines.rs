//! When connections have been silent, or alive, for too long, and until when the worker may sleep.

use std::time::Duration;

use super::super::accept::Acceptor;
use super::super::echo::Connection;
use super::super::lifetime::Over;
use super::{FAREWELL, FLOWING, HELD, LINGER, LINGERING, LISTS, STALLED, Worker};
use crate::books::tcp::Reason;
use crate::sys::readiness::Readiness;

impl<R: Readiness> Worker<R> {
    /// How long a list's connections may be silent, and what they end by.
    fn patience(&self, list: usize) -> Option<(Duration, Reason)> {
        let idle = self.shared.idle_timeout.map(|time| (time, Reason::Idle));
        let stalled = self.shared.send_timeout.map(|time| (time, Reason::Stalled));
        match list {
            FLOWING | HELD => idle,
            STALLED => match (idle, stalled) {
                (Some(idle), Some(stalled)) => {
                    Some(if idle.0 < stalled.0 { idle } else { stalled })
                }
                (idle, stalled) => idle.or(stalled),
            },
            _ if self.acceptor.is_some() => Some((FAREWELL, Reason::Stopped)),
            _ => Some((LINGER, Reason::Stopped)),
        }
    }

    /// Ends whoever has been silent for too long.
    pub(super) fn end_late(&mut self) {
        if !self.is_timed {
            return;
        }
        self.end_lives();
        for list in LISTS {
            let Some((patience, reason)) = self.patience(list) else {
                continue;
            };
            while let Some((id, moved)) = self.lists.oldest(list)
                && self.now.saturating_duration_since(moved) >= patience
            {
                let leaves = self.connections.get(id).filter(|_| list == LINGERING);
                let reason = leaves.map_or(reason, Connection::farewell);
                self.end_by_number(id, reason);
            }
        }
    }

    /// Ends those that have lived too long, or over which too little came.
    fn end_lives(&mut self) {
        while let Some(over) = self.lifetimes.next_over(self.now) {
            let (id, reason) = match over {
                Over::Life(id) => (id, Some(Reason::Expired)),
                Over::Window(id) => {
                    let list = self.lists.list(id);
                    let (mut received, mut is_waiting) = (0, list == LINGERING);
                    if let Some(connection) = self.connections.get(id) {
                        received = connection.received;
                        let conversation = connection.conversation.as_ref();
                        is_waiting |=
                            list != STALLED && conversation.is_some_and(|it| it.is_waiting());
                    }
                    let lives = &mut self.lifetimes;
                    (id, lives.review(id, received, is_waiting, self.now))
                }
            };
            if let Some(reason) = reason {
                self.end_by_number(id, reason);
            }
        }
    }

    /// How long the worker may sleep; `None`: until something happens.
    pub(super) fn time_to_deadline(&mut self) -> Option<Duration> {
        let mut least = self.acceptor.as_ref().and_then(Acceptor::resting);
        if self.is_timed {
            for list in LISTS {
                if let (Some((patience, _)), Some((_, moved))) =
                    (self.patience(list), self.lists.oldest(list))
                {
                    let silent = self.now.saturating_duration_since(moved);
                    let left = patience.saturating_sub(silent);
                    least = Some(least.map_or(left, |least| least.min(left)));
                }
            }
            least = least
                .into_iter()
                .chain(self.lifetimes.time_left(self.now))
                .min();
        }
        self.is_exact = false;
        if let Some(left) = self.time_to_due()
            && least.is_none_or(|least| left < least)
        {
            self.is_exact = true;
            least = Some(left);
        }
        least
    }
}
