//! Steps of connections that are more than echoes: those of a round ask, and are answered by
//! one call.

use super::super::converse::Gathered;
use super::super::echo::Connection;
use super::super::questions::Questions;
use super::{LINGERING, STALLED, Worker};
use crate::sys::readiness::Readiness;

impl<R: Readiness> Worker<R> {
    /// The first half of a connection's step; the second, if it asks nothing.
    pub(super) fn converse(&mut self, id: u32, connection: Box<Connection>, list: usize) {
        if let Some((connection, _)) = self.gather(id, connection, list) {
            self.pump_and_keep(id, connection);
        }
    }

    /// The first half of a connection's step, which it has once a round. The connection, if it
    /// asked nothing, and whether anything came. `None`: it had its step, asked something, or is
    /// over; or nothing is to be asked any more.
    pub(super) fn gather(
        &mut self,
        id: u32,
        mut connection: Box<Connection>,
        list: usize,
    ) -> Option<(Box<Connection>, bool)> {
        let is_over = self.questions.as_ref().is_some_and(Questions::is_over);
        let conversation = connection.conversation.as_mut().filter(|_| !is_over);
        let is_its_step = conversation
            .is_some_and(|it| std::mem::replace(&mut it.round, self.round) != self.round);
        if !is_its_step {
            self.connections.put(id, connection);
            return None;
        }
        let questions = self.questions.as_mut();
        match connection.gather(id, list != STALLED, questions, &mut self.work) {
            Gathered::Nothing(came) => return Some((connection, came)),
            Gathered::Over(next) => self.put_back(id, connection, list, next),
            Gathered::Asked => {
                self.connections.put(id, connection);
                if self.questions.as_ref().is_some_and(Questions::is_full) {
                    self.answer();
                }
            }
        }
        None
    }

    /// The second half; `None`: the connection is over.
    pub(super) fn pump(
        &mut self,
        id: u32,
        mut connection: Box<Connection>,
    ) -> Option<Box<Connection>> {
        let list = self.lists.list(id);
        if list == LINGERING {
            // All was said; what is not out by now never will be.
            return Some(connection);
        }
        let next = connection.pump(&mut self.work);
        let mut connection = self.follow_up(id, connection, list, next)?;
        self.note_time(id, &mut connection);
        Some(connection)
    }

    fn pump_and_keep(&mut self, id: u32, connection: Box<Connection>) {
        if let Some(connection) = self.pump(id, connection) {
            self.connections.put(id, connection);
        }
    }

    /// The second half for one that is not being served.
    pub(super) fn pump_by_number(&mut self, id: u32) {
        if let Some(connection) = self.connections.take(id) {
            self.pump_and_keep(id, connection);
        }
    }

    /// Steps for those that go on by themselves, then answers for all.
    pub(super) fn go_on(&mut self) {
        let mut ids = std::mem::take(&mut self.going);
        for &id in &ids {
            if let Some(connection) = self.connections.take(id) {
                self.go_on_with(id, connection);
            }
        }
        ids.clear();
        self.going = ids;
        self.answer();
    }

    /// A step of one that goes on by itself.
    pub(super) fn go_on_with(&mut self, id: u32, connection: Box<Connection>) {
        match self.lists.list(id) {
            LINGERING => self.connections.put(id, connection),
            list => self.converse(id, connection, list),
        }
    }

    /// Has all that was asked answered, by one call. Nobody who asked is gone yet: between
    /// the halves of its step, nothing ends a connection.
    fn answer(&mut self) {
        let Some(questions) = &mut self.questions else {
            return;
        };
        if questions.is_empty() {
            return;
        }
        // Whoever answers may look at the statistics, which then must not wait for it.
        self.work.tally.publish(&self.shared.blocks[self.index]);
        questions.respond();
        self.shared.blocks[self.index].open();
        let mut ids = std::mem::take(&mut self.askers);
        for place in 0..questions.askers() {
            let id = questions.asker(place);
            let connection = self.connections.get_mut(id);
            if let Some(conversation) = connection.and_then(|it| it.conversation.as_mut()) {
                for answered in questions.answers(place) {
                    conversation.answer(&answered, &mut self.work.tally);
                }
                conversation.end_round(&mut self.work.tally);
            }
            ids.push(id);
        }
        questions.end();
        for &id in &ids {
            self.pump_by_number(id);
        }
        ids.clear();
        self.askers = ids;
    }

    /// Gives late answers to those that wait for them.
    pub(super) fn answer_late(&mut self) {
        let Some(questions) = &mut self.questions else {
            return;
        };
        let mut moved = Vec::new();
        for (ticket, outcome, reply) in questions.late() {
            let Some(id) = questions.redeem(ticket, outcome) else {
                continue;
            };
            if let Some(connection) = self.connections.get_mut(id)
                && let Some(conversation) = &mut connection.conversation
            {
                conversation.answer_late(ticket, outcome, &reply, &mut self.work.tally);
                moved.push(id);
            }
        }
        for id in moved {
            self.pump_by_number(id);
        }
    }
}
