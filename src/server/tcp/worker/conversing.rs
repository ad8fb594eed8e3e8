//! Steps of connections that are more than echoes: those of a turn ask, and are answered by
//! one call.

use super::super::converse::Gathered;
use super::super::questions::Questions;
use super::{LINGERING, STALLED, Worker};
use crate::sys::readiness::Readiness;

impl<R: Readiness> Worker<R> {
    /// Where a responder answers: gives a new connection what it needs for that.
    pub(super) fn begin_conversation(&mut self, id: u32) {
        if let (Some(questions), Some(connection)) = (&mut self.questions, self.table.get_mut(id)) {
            connection.converse(id, questions, &mut self.work);
        }
    }

    /// The first half of a connection's step; the second, if it asks nothing.
    pub(super) fn converse(&mut self, id: u32, list: usize) {
        if let Some(Gathered::Nothing(_)) = self.gather(id, list) {
            self.pump(id);
        }
    }

    /// The first half of a connection's step, which it has once a turn: `None` if it had it,
    /// or is over, or nothing is to be asked any more.
    pub(super) fn gather(&mut self, id: u32, list: usize) -> Option<Gathered> {
        if self.questions.as_ref().is_some_and(Questions::is_over) {
            return None;
        }
        let connection = self.table.get_mut(id)?;
        let conversation = connection.conversation.as_mut()?;
        if std::mem::replace(&mut conversation.round, self.turn) == self.turn {
            return None;
        }
        let questions = self.questions.as_mut();
        let gathered = connection.gather(id, list != STALLED, questions, &mut self.work);
        if let Gathered::Over(next) = gathered {
            self.follow_up(id, list, next);
            return None;
        }
        if self.questions.as_ref().is_some_and(Questions::is_full) {
            self.answer();
        }
        Some(gathered)
    }

    /// The second half.
    pub(super) fn pump(&mut self, id: u32) {
        let list = self.table.list(id);
        let Some(connection) = self.table.get_mut(id) else {
            return;
        };
        if list == LINGERING {
            // All was said; what is not out by now never will be.
            return;
        }
        let next = connection.pump(&mut self.work);
        self.follow_up(id, list, next);
        self.note_time(id);
    }

    /// Steps for those that go on by themselves, then answers for all.
    pub(super) fn go_on(&mut self) {
        let mut ids = std::mem::take(&mut self.going);
        for &id in &ids {
            let list = self.table.list(id);
            if list != LINGERING {
                self.converse(id, list);
            }
        }
        ids.clear();
        self.going = ids;
        self.answer();
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
            let conversation = self
                .table
                .get_mut(id)
                .and_then(|connection| connection.conversation.as_mut());
            if let Some(conversation) = conversation {
                for answered in questions.answers(place) {
                    conversation.answer(&answered, &mut self.work.tally);
                }
                conversation.end_round(&mut self.work.tally);
            }
            ids.push(id);
        }
        questions.end();
        for &id in &ids {
            self.pump(id);
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
            let Some(id) = questions.redeem(ticket) else {
                continue;
            };
            if let Some(connection) = self.table.get_mut(id)
                && let Some(conversation) = &mut connection.conversation
            {
                conversation.answer_late(ticket, outcome, &reply, &mut self.work.tally);
                moved.push(id);
            }
        }
        for id in moved {
            self.pump(id);
        }
    }
}
