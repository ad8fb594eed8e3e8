//! One connection's step where it is more than an echo: receive → ask, answer → send.
//!
//! The step is in two halves, between which the responder is called once for all connections
//! of the round. The rules of `echo.rs` hold, but for what answers themselves need.

use super::conversation::{Conversation, Want};
use super::echo::{Connection, Mode, Next, Work};
use super::questions::Questions;
use crate::books::tcp::{Count, Reason};
use crate::impair::Action;
use crate::respond::{Manner, Outcome};
use crate::sys::stream::Moved;

/// What the first half came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gathered {
    /// It has asked something: the second half comes after the answers.
    Asked,
    /// It has not; did anything come?
    Nothing(bool),
    /// There is no second half.
    Over(Next),
}

impl Connection {
    /// Makes a new connection one whose requests are answered; what it is greeted with is
    /// asked for at once.
    pub(super) fn converse(&mut self, id: u32, questions: &mut Questions, work: &mut Work) {
        // Without an address of its own it is over, as its first step will find.
        let local = self.stream.local_address().unwrap_or(self.peer);
        let mut conversation = Box::new(Conversation::new(questions, local));
        if questions.manner() == Manner::Greets {
            conversation.greet(questions, &mut work.tally);
            questions.name(id, self.peer, local);
        }
        self.conversation = Some(conversation);
    }

    /// Its conversation; an echo gets one that is no more than that.
    pub(super) fn conversation(&mut self) -> &mut Conversation {
        let (peer, mode, pending) = (self.peer, &mut self.mode, &mut self.pending);
        self.conversation.get_or_insert_with(|| {
            let mut conversation = Box::new(Conversation::echo(peer));
            *mode = Mode::Plain;
            conversation.send_first(pending.rest());
            pending.release();
            conversation
        })
    }

    /// If it is but an echo with nothing under way, it is a plain one from now on.
    pub(super) fn simplify(&mut self) {
        if let Some(conversation) = &mut self.conversation
            && conversation.simplify()
        {
            // What did not come through was counted as it went.
            self.discarded = self.received - self.sent;
            self.conversation = None;
        }
    }

    /// Takes what has come, if it is to be looked for and may come now, and asks what is
    /// whole of it.
    pub(super) fn gather(
        &mut self,
        id: u32,
        is_readable: bool,
        questions: Option<&mut Questions>,
        work: &mut Work,
    ) -> Gathered {
        let Some(conversation) = &mut self.conversation else {
            return Gathered::Nothing(false);
        };
        let mut came = false;
        let room = conversation.room().min(work.buffer.len());
        if room > 0 && is_readable {
            match self.stream.receive(&mut work.buffer[..room]) {
                Moved::Bytes(0) => conversation.end_input(work.now_ns),
                Moved::Bytes(count) => {
                    conversation.take(work.now_ns, &work.buffer[..count], &mut work.tally);
                    self.count_received(count, work);
                    if work.tells {
                        // Before it is answered: whoever has the reply finds it told.
                        self.tell(count, work);
                    }
                    came = true;
                }
                Moved::Blocked => {}
                Moved::Failed(broken) => return Gathered::Over(Next::Ended(broken.into())),
            }
        }
        let Some(conversation) = &mut self.conversation else {
            return Gathered::Nothing(came);
        };
        let action = conversation.advance(work.now_ns, &mut work.tally);
        if let Some(next) = action.and_then(|action| self.act(action)) {
            return Gathered::Over(next);
        }
        let Some(conversation) = &mut self.conversation else {
            return Gathered::Nothing(came);
        };
        let Some(questions) = questions else {
            conversation.ask(None, &mut work.tally);
            return Gathered::Nothing(came);
        };
        if conversation.ask(Some(questions), &mut work.tally) {
            questions.name(id, self.peer, conversation.local());
            return Gathered::Asked;
        }
        Gathered::Nothing(came)
    }

    /// Sends what there is to send, and says what is waited for then.
    pub(super) fn pump(&mut self, work: &mut Work) -> Next {
        let now_ns = work.now_ns;
        let Some(conversation) = &mut self.conversation else {
            return Next::Moved;
        };
        let ready = conversation.ready(now_ns, &mut work.tally);
        if !ready.is_empty() {
            let count = ready.len();
            match self.stream.send(ready) {
                Moved::Bytes(sent) => {
                    conversation.sent(sent);
                    self.count_sent(sent, work);
                    if sent < count {
                        return Next::Stalled(sent > 0);
                    }
                }
                Moved::Blocked => return Next::Stalled(false),
                Moved::Failed(broken) => return Next::Ended(broken.into()),
            }
        }
        let Some(conversation) = &mut self.conversation else {
            return Next::Moved;
        };
        // One send a step, as rule 1 has it.
        if !conversation.ready(now_ns, &mut work.tally).is_empty() {
            return Next::Again;
        }
        if conversation.is_to_reset() {
            self.stream.reset();
            return Next::Ended(Reason::Finished);
        }
        let action = conversation.finish(now_ns, &mut work.tally);
        if let Some(next) = action.and_then(|action| self.act(action)) {
            return next;
        }
        let Some(conversation) = &mut self.conversation else {
            return Next::Moved;
        };
        match conversation.want() {
            Want::Input => Next::Moved,
            Want::Round => Next::Again,
            Want::Nothing => Next::Waits,
            Want::End => Next::Ended(Reason::Peer),
            Want::Farewell => {
                conversation.leave(Reason::Finished);
                Next::Farewell
            }
        }
    }

    /// Does what the toxics want done; `None`: the connection goes on.
    fn act(&mut self, action: Action) -> Option<Next> {
        match action {
            Action::Finish => {
                self.stream.finish();
                None
            }
            Action::Close => {
                if let Some(conversation) = &mut self.conversation {
                    conversation.leave(Reason::Impaired);
                }
                Some(Next::Farewell)
            }
            Action::Reset => {
                self.stream.reset();
                Some(Next::Ended(Reason::Impaired))
            }
        }
    }

    /// Why it ends when its peer's end of stream comes after ours.
    pub(super) fn farewell(&self) -> Reason {
        let leaves = self
            .conversation
            .as_ref()
            .and_then(|conversation| conversation.leaves());
        leaves.unwrap_or(Reason::Stopped)
    }

    /// It ends: what it asked and was not answered is not waited for any more.
    pub(super) fn abandon(&mut self, questions: &mut Questions, work: &mut Work) {
        if let Some(conversation) = &self.conversation {
            for ticket in conversation.open_tickets() {
                questions.redeem(ticket, Outcome::Failed);
                work.tally.add(Count::AbandonedRequests, 1);
            }
            if conversation.owes_an_error() {
                work.tally.add(Count::AbandonedRequests, 1);
            }
        }
    }
}
