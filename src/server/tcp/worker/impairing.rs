//! What is impaired: taken up while the worker runs, and done when its time has come.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::echo::Connection;
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
            ids.extend(self.lists.members(list));
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
        let Some(connection) = self.connections.get_mut(id) else {
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
        self.pump_by_number(id);
    }

    /// Whether a new connection is refused, though it was accepted.
    pub(super) fn refuses(&self, connection: &Connection) -> bool {
        self.setting.as_ref().is_some_and(|setting| {
            let number = setting.number(connection.number);
            setting.impairments.accept(number) == Accept::Refuse
        })
    }

    /// A new connection meets what is impaired.
    pub(super) fn impair_new(&mut self, id: u32, setting: &Arc<Setting>) {
        let Some(connection) = self.connections.get_mut(id) else {
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
        let held: Vec<u32> = self.lists.members(HELD).collect();
        for id in held {
            let connection = self.connections.get(id);
            let conversation = connection.and_then(|it| it.conversation.as_ref());
            if conversation.is_some_and(|it| it.hangs()) {
                self.end_by_number(id, Reason::Stopped);
            }
        }
    }

    /// After a step: notes when something of this connection changes by itself. One that is
    /// but an echo again becomes a plain one.
    pub(super) fn note_time(&mut self, id: u32, connection: &mut Connection) {
        let list = self.lists.list(id);
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
            let Some(mut connection) = self.connections.take(id) else {
                continue;
            };
            let noted = connection.conversation.as_mut();
            match noted.filter(|it| it.due_ns == Some(due_ns)) {
                None => self.connections.put(id, connection),
                Some(conversation) => {
                    conversation.due_ns = None;
                    if conversation.round == self.round {
                        // It had its step, after which there was this to come.
                        self.again.push(id);
                        self.connections.put(id, connection);
                    } else {
                        self.go_on_with(id, connection);
                    }
                }
            }
        }
        if self.is_timed
            && !self.is_always_timed
            && self.setting.is_none()
            && self.due.is_empty()
            && self.lists.oldest(LINGERING).is_none()
        {
            // Nothing is impaired any more: back to no clock at all.
            self.is_timed = false;
        }
    }
}
