//! The end of a server: what has come is answered, and peers are told.

use std::time::Duration;

use super::super::accept::Acceptor;
use super::super::echo::{Connection, Next};
use super::{FLOWING, HELD, LAST_ACCEPTS, LINGERING, STEPS_A_LOOK, Worker};
use crate::error::Result;
use crate::sys::readiness::Readiness;
use crate::worker::Control;

impl<R: Readiness> Worker<R> {
    /// Answers what has come, says so, and waits for the peers to end their streams.
    pub(super) fn drain(&mut self, control: &Control) -> Result<()> {
        self.is_timed = true;
        self.is_always_timed = true;
        self.look_at_clock();
        self.begin_batch();
        if !control.time_left().is_zero() {
            let waiting = self.acceptor.as_ref().and_then(Acceptor::waiting);
            match self.accept(waiting.unwrap_or(LAST_ACCEPTS)) {
                // It was to end, and so was the listener: who has it too was quicker.
                Err(error) if error.is_state() => {}
                accepted => accepted?,
            }
        }
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.forget(&mut self.ready);
        }
        self.end_hung();
        loop {
            let is_busy = self.sweep(control);
            // Not held back while this sleeps.
            self.work.tally.publish(&self.shared.blocks[self.index]);
            let left = control.time_left();
            if self.connections.is_empty() || left.is_zero() {
                return Ok(());
            }
            let sleep = self.time_to_deadline().map_or(left, |time| time.min(left));
            let count = self.sleep(Some(if is_busy { Duration::ZERO } else { sleep }))?;
            self.serve_round(count, control)?;
        }
    }

    /// One step for each connection that may have input; those that have none are
    /// finished. True if some had.
    fn sweep(&mut self, control: &Control) -> bool {
        self.begin_batch();
        let mut sweep = std::mem::take(&mut self.sweep);
        sweep.clear();
        sweep.extend(self.lists.members(FLOWING));
        for (index, &id) in sweep.iter().enumerate() {
            if index % STEPS_A_LOOK == 0 && control.is_over() {
                break;
            }
            let Some(mut connection) = self.connections.take(id) else {
                continue;
            };
            if connection.conversation.is_some() {
                if let Some((connection, false)) = self.gather(id, connection, FLOWING) {
                    self.finish_or_hold(id, connection);
                }
                continue;
            }
            match connection.echo(&mut self.work) {
                Next::Empty => {
                    connection.finish();
                    self.lists.touch(id, LINGERING, self.now);
                    self.connections.put(id, connection);
                }
                next => self.put_back(id, connection, FLOWING, next),
            }
        }
        self.go_on();
        self.sweep = sweep;
        self.lists.oldest(FLOWING).is_some() || !self.again.is_empty()
    }

    /// Nothing has come for a conversation: it ends, unless an answer is under way.
    fn finish_or_hold(&mut self, id: u32, connection: Box<Connection>) {
        let Some(connection) = self.pump(id, connection) else {
            return;
        };
        let is_idle = connection
            .conversation
            .as_ref()
            .is_none_or(|conversation| conversation.is_idle());
        let kept = match self.lists.list(id) {
            FLOWING if is_idle => self.say_farewell(id, connection, FLOWING),
            FLOWING => self.watch_for(id, connection, HELD),
            _ => Some(connection),
        };
        if let Some(connection) = kept {
            self.connections.put(id, connection);
        }
    }
}
