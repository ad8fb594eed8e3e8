//! One connection's step where it is more than an echo: receive → ask, answer → send.
//!
//! The step is in two halves, between which the responder is called once for all connections
//! of the turn. The rules of `echo.rs` hold, but for what answers themselves need.

use super::conversation::{Conversation, Want};
use super::count::{Count, Reason};
use super::echo::{Connection, Next, Work};
use super::questions::Questions;
use crate::respond::Manner;
use crate::sys::stream::Moved;

/// What the first half came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gathered {
    /// It has asked something: the second half comes after the answers.
    Asked,
    /// It has not; did anything come?
    Nothing(bool),
    /// The connection is over.
    Ended(Reason),
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

    /// Takes what has come, if it may come now, and asks what is whole of it.
    pub(super) fn gather(
        &mut self,
        id: u32,
        questions: &mut Questions,
        work: &mut Work,
    ) -> Gathered {
        let Some(conversation) = &mut self.conversation else {
            return Gathered::Nothing(false);
        };
        let mut came = false;
        let room = conversation.room().min(work.buffer.len());
        if room > 0 {
            match self.stream.receive(&mut work.buffer[..room]) {
                Moved::Bytes(0) => conversation.end_input(),
                Moved::Bytes(count) => {
                    conversation.take(&work.buffer[..count]);
                    self.count_received(count, work);
                    if work.tells {
                        // Before it is answered: whoever has the reply finds it told.
                        self.tell(count, work);
                    }
                    came = true;
                }
                Moved::Blocked => {}
                Moved::Failed(broken) => return Gathered::Ended(broken.into()),
            }
        }
        let Some(conversation) = &mut self.conversation else {
            return Gathered::Nothing(came);
        };
        if conversation.ask(questions, &mut work.tally) {
            questions.name(id, self.peer, conversation.local());
            return Gathered::Asked;
        }
        Gathered::Nothing(came)
    }

    /// Sends what there is to send, and says what is waited for then.
    pub(super) fn pump(&mut self, work: &mut Work) -> Next {
        let Some(conversation) = &mut self.conversation else {
            return Next::Moved;
        };
        if !conversation.output.is_empty() {
            match self.stream.send(conversation.output.rest()) {
                Moved::Bytes(sent) => {
                    conversation.output.advance(sent);
                    let is_done = conversation.output.is_empty();
                    self.count_sent(sent, work);
                    if !is_done {
                        return Next::Stalled(sent > 0);
                    }
                }
                Moved::Blocked => return Next::Stalled(false),
                Moved::Failed(broken) => return Next::Ended(broken.into()),
            }
        }
        match self
            .conversation
            .as_ref()
            .map(|conversation| conversation.want())
        {
            None | Some(Want::Input) => Next::Moved,
            Some(Want::Turn) => Next::Again,
            Some(Want::Answer) => Next::Waits,
            Some(Want::End) => Next::Ended(Reason::Peer),
            Some(Want::Farewell) => Next::Farewell,
        }
    }

    /// Why it ends when its peer's end of stream comes after ours.
    pub(super) fn farewell(&self) -> Reason {
        match &self.conversation {
            Some(conversation) if conversation.want() == Want::Farewell => Reason::Finished,
            _ => Reason::Stopped,
        }
    }

    /// It ends: what it asked and was not answered is not waited for any more.
    pub(super) fn abandon(&mut self, questions: &mut Questions, work: &mut Work) {
        if let Some(conversation) = &self.conversation {
            for ticket in conversation.open_tickets() {
                questions.redeem(ticket);
                work.tally.add(Count::AbandonedRequests, 1);
            }
        }
    }
}
