//! What is impaired: taken up while the worker runs, and done when its time has come.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::impairing::Setting;
use super::{FLOWING, HELD, LINGERING, STALLED, Worker};
use crate::books::tcp::Reason;
use crate::impair::{Accept, Direction, Shaper};
use crate::sys::readiness::Readiness;
use crate::sys::thread;

/// Sleeps end on time to that.
const SLACK: Duration = Duration::from_micros(1);

impl<R: Readiness> Worker<R> {
    /// Takes up what is impaired from now on, if that has changed.
    pub(super) fn look_for_change(&mut self) {
        if self.shared.impairing.has_changed(self.generation) {
            self.take_up();
        }
    }

    #[cold]
    fn take_up(&mut self) {
        let (generation, setting) = self.shared.impairing.get();
        self.generation = generation;
        thread::sharpen_timers(SLACK);
        self.is_timed = true;
        self.look_at_clock();
        let mut ids = Vec::new();
        for list in [FLOWING, STALLED, HELD] {
            let mut next = self.table.oldest(list).map(|(id, _)| id);
            while let Some(id) = next {
                ids.push(id);
                next = self.table.newer(id);
            }
        }
        for id in ids {
            self.impair(id, &setting);
        }
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.follow(&mut self.ready);
        }
        self.setting = (!setting.impairments.is_noop()).then_some(setting);
        self.shared.impairing.note(self.index, Some(generation));
    }

    /// What comes over this connection from now on is impaired so.
    fn impair(&mut self, id: u32, setting: &Arc<Setting>) {
        let Some(connection) = self.table.get_mut(id) else {
            return;
        };
        let number = setting.number(connection.number);
        let impairments = &setting.impairments;
        let incoming = Shaper::new(&impairments.incoming, Direction::In, number);
        let outgoing = Shaper::new(&impairments.outgoing, Direction::Out, number);
        let is_untouched = incoming.is_noop() && outgoing.is_noop();
        if connection.conversation.is_none() && is_untouched {
            return;
        }
        let hangs = impairments.accept(number) == Accept::Hang;
        connection
            .conversation()
            .impair(self.work.now_ns, incoming, outgoing, hangs);
        self.pump(id);
    }

    /// Whether a new connection is refused, though it was accepted; if so, it is reset.
    pub(super) fn is_refused(&mut self, id: u32) -> bool {
        let (Some(setting), Some(connection)) = (&self.setting, self.table.get_mut(id)) else {
            return false;
        };
        let number = setting.number(connection.number);
        if setting.impairments.accept(number) != Accept::Refuse {
            return false;
        }
        connection.stream.reset();
        self.end(id, Reason::Impaired);
        true
    }

    /// A new connection meets what is impaired.
    pub(super) fn impair_new(&mut self, id: u32, setting: &Arc<Setting>) {
        let Some(connection) = self.table.get_mut(id) else {
            return;
        };
        let number = setting.number(connection.number);
        if setting.impairments.accept(number) == Accept::Hang {
            connection.conversation().hang();
        }
        self.impair(id, setting);
    }

    /// The server stops: who hangs is not waited for.
    pub(super) fn end_hung(&mut self) {
        let mut next = self.table.oldest(HELD).map(|(id, _)| id);
        while let Some(id) = next {
            next = self.table.newer(id);
            let hangs = self
                .table
                .get_mut(id)
                .and_then(|connection| connection.conversation.as_ref())
                .is_some_and(|conversation| conversation.hangs());
            if hangs {
                self.end(id, Reason::Stopped);
            }
        }
    }

    /// After a step: notes when something of this connection changes by itself. One that is
    /// but an echo again becomes a plain one.
    pub(super) fn note_time(&mut self, id: u32) {
        let list = self.table.list(id);
        let Some(connection) = self.table.get_mut(id) else {
            return;
        };
        if list == FLOWING {
            connection.simplify();
        }
        let Some(conversation) = &mut connection.conversation else {
            return;
        };
        let due_ns = conversation.next_due_ns().filter(|_| list != LINGERING);
        if due_ns != conversation.due_ns {
            conversation.due_ns = due_ns;
            self.due.extend(due_ns.map(|due_ns| Reverse((due_ns, id))));
        }
    }

    /// How long until the first of these times.
    pub(super) fn time_to_due(&self) -> Option<Duration> {
        let Reverse((due_ns, _)) = self.due.peek()?;
        let due = self.epoch + Duration::from_nanos(*due_ns);
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// Steps for those whose time has come.
    pub(super) fn serve_due(&mut self) {
        while let Some(&Reverse((due_ns, id))) = self.due.peek()
            && due_ns <= self.work.now_ns
        {
            self.due.pop();
            let conversation = self
                .table
                .get_mut(id)
                .and_then(|connection| connection.conversation.as_mut());
            let Some(conversation) = conversation.filter(|it| it.due_ns == Some(due_ns)) else {
                continue;
            };
            conversation.due_ns = None;
            if conversation.round == self.turn {
                // It had its step, after which there was this to come.
                self.again.push(id);
                continue;
            }
            let list = self.table.list(id);
            if list != LINGERING {
                self.converse(id, list);
            }
        }
        if self.is_timed
            && !self.is_always_timed
            && self.setting.is_none()
            && self.due.is_empty()
            && self.table.oldest(LINGERING).is_none()
        {
            // Nothing is impaired any more: back to no clock at all.
            self.is_timed = false;
        }
    }
}
