//! What one connection asks and is answered, in order. Knows no socket.
//!
//! Rule 1: answers go out in the order of their requests, however late one of them comes.
//! Rule 2: nothing is taken in while output is pending, or while [`MOST_OPEN`] requests wait
//! for late answers. So a connection holds at most 64 KiB of input (or one request, where
//! that is longer) and the answers of one turn; and the requests of a turn grow in number
//! only while those answers stay small.
//! Rule 3: each request ends in one way: answered, in an error, silent, failed, abandoned.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::buffer::Buffer;
use super::count::{Count, Tally};
use super::echo::PLAIN_BYTES;
use super::questions::{Answered, Questions};
use crate::respond::{Cutter, Framing, LineEnd, Manner, Outcome, TooLong, is_error_reply};

/// Requests of one connection that may wait for late answers, their own or an earlier one's.
pub(super) const MOST_OPEN: usize = 64;

/// Requests of one connection in one turn.
const MOST_BURST: usize = 1024;

/// Answers of one turn above which the next has fewer requests.
const LARGE_BYTES: usize = 32 << 10;

/// The error reply to a line that is longer than lines may be; the connection ends then, as
/// nobody knows what the rest of it means.
const LINE_TOO_LONG: &[u8] = b"Error: Line too long";

/// What more the peer may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    /// Anything.
    Open,
    /// Nothing, but what has come is not all cut yet.
    Ended,
    /// Nothing, and all that has come was cut.
    Over,
    /// Whatever it says is not listened to.
    Closed,
}

/// An answer that is not out yet, because an earlier one is not there yet.
#[derive(Debug)]
enum Slot {
    /// To be there later.
    Open {
        ticket: u64,
        end: LineEnd,
        /// The request was an error reply itself.
        to_error: bool,
    },
    /// There.
    Ready(Box<[u8]>),
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// More input.
    Input,
    /// Its turn: there is more to cut.
    Turn,
    /// A late answer.
    Answer,
    /// Nothing: the peer has ended its stream and has all answers.
    End,
    /// Nothing: the server has said all that it will.
    Farewell,
}

/// The state of one conversation.
#[derive(Debug)]
pub(super) struct Conversation {
    local: SocketAddr,
    cutter: Cutter,
    input: Buffer,
    /// The input may hold a whole request.
    is_uncut: bool,
    state: Input,
    /// A line was too long, which is to be said after all answers.
    complains: bool,
    /// Answers from the first that is not there yet.
    slots: VecDeque<Slot>,
    /// Most requests of the next turn.
    burst: usize,
    /// Requests of this turn.
    asked: usize,
    pub(super) output: Buffer,
    /// Bytes that requests took, and that answers brought.
    pub(super) consumed: u64,
    pub(super) produced: u64,
    /// The turn in which it had its step.
    pub(super) turn: u64,
}

impl Conversation {
    pub(super) fn new(questions: &Questions, local: SocketAddr) -> Self {
        let framing = match questions.manner() {
            Manner::Answers => questions.framing,
            Manner::Greets | Manner::Listens => Framing::Chunks,
        };
        Self {
            local,
            cutter: Cutter::new(framing, questions.max_line_bytes),
            input: Buffer::default(),
            is_uncut: false,
            state: Input::Open,
            complains: false,
            slots: VecDeque::new(),
            burst: 1,
            asked: 0,
            output: Buffer::default(),
            consumed: 0,
            produced: 0,
            turn: 0,
        }
    }

    /// Which address was asked.
    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    /// How many bytes may be received now.
    pub(super) fn room(&self) -> usize {
        if self.want() != Want::Input || !self.output.is_empty() {
            return 0;
        }
        PLAIN_BYTES.max(self.cutter.longest()) - self.input.len()
    }

    /// These bytes came.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.input.push(bytes);
        self.is_uncut = true;
    }

    /// The peer has ended its stream.
    pub(super) fn end_input(&mut self) {
        if self.state == Input::Open {
            self.state = Input::Ended;
        }
    }

    /// The server speaks, and does not listen.
    pub(super) fn greet(&mut self, questions: &mut Questions, tally: &mut Tally) {
        self.state = Input::Closed;
        self.asked = 1;
        tally.add(Count::Requests, 1);
        questions.ask(b"", LineEnd::None);
    }

    /// Asks what is whole of the input, as much of it as may be; true if there was any.
    pub(super) fn ask(&mut self, questions: &mut Questions, tally: &mut Tally) -> bool {
        self.asked = 0;
        let before = self.input.len();
        while self.want() == Want::Turn && self.output.is_empty() && self.asked < self.burst {
            match self.cutter.next(self.input.rest()) {
                Ok(Some(cut)) => {
                    questions.ask(&self.input.rest()[..cut.length], cut.end);
                    self.asked += 1;
                    self.input.advance(cut.taken);
                    self.is_uncut = !self.input.is_empty();
                    if questions.gives_tickets() && self.slots.len() + self.asked >= MOST_OPEN {
                        break;
                    }
                }
                Ok(None) => {
                    self.is_uncut = false;
                    if self.state == Input::Ended {
                        self.state = Input::Over;
                        if let Some(cut) = self.cutter.last(self.input.rest()) {
                            questions.ask(&self.input.rest()[..cut.length], cut.end);
                            self.asked += 1;
                            self.input.advance(cut.taken);
                        }
                    }
                }
                Err(TooLong) => {
                    self.state = Input::Closed;
                    self.complains = true;
                    tally.add(Count::Requests, 1);
                }
            }
        }
        let taken = before - self.input.len();
        self.consumed += taken as u64;
        tally.add(Count::Consumed, taken);
        tally.add(Count::Requests, self.asked);
        self.complain(tally);
        self.asked > 0
    }

    /// What became of the next request of this turn.
    pub(super) fn answer(&mut self, answered: &Answered<'_>, tally: &mut Tally) {
        let &Answered {
            request,
            end,
            outcome,
            reply,
        } = answered;
        if let Outcome::Later(ticket) = outcome {
            let to_error = is_error_reply(request);
            self.slots.push_back(Slot::Open {
                ticket,
                end,
                to_error,
            });
        } else if let Some(bytes) = self.judge(outcome, is_error_reply(request), reply, tally) {
            self.count_produced(bytes.len() + end.bytes().len(), tally);
            if self.slots.is_empty() {
                self.output.push(bytes);
                self.output.push(end.bytes());
            } else {
                let bytes = [bytes, end.bytes()].concat();
                self.slots.push_back(Slot::Ready(bytes.into()));
            }
        }
    }

    /// All requests of this turn have been answered, or will be later.
    pub(super) fn end_turn(&mut self, tally: &mut Tally) {
        if self.output.len() > LARGE_BYTES {
            self.burst = (self.burst / 2).max(1);
        } else if self.asked == self.burst {
            self.burst = (self.burst * 2).min(MOST_BURST);
        }
        self.asked = 0;
        self.complain(tally);
    }

    /// A late answer has come.
    pub(super) fn answer_late(
        &mut self,
        ticket: u64,
        outcome: Outcome,
        reply: &[u8],
        tally: &mut Tally,
    ) {
        let place = self
            .slots
            .iter()
            .position(|slot| matches!(slot, Slot::Open { ticket: open, .. } if *open == ticket));
        let Some(place) = place else { return };
        let Slot::Open { end, to_error, .. } = self.slots[place] else {
            return;
        };
        match self.judge(outcome, to_error, reply, tally) {
            Some(bytes) => {
                let bytes = [bytes, end.bytes()].concat();
                self.count_produced(bytes.len(), tally);
                self.slots[place] = Slot::Ready(bytes.into());
            }
            None => drop(self.slots.remove(place)),
        }
        while let Some(Slot::Ready(_)) = self.slots.front() {
            if let Some(Slot::Ready(bytes)) = self.slots.pop_front() {
                self.output.push(&bytes);
            }
        }
        self.complain(tally);
    }

    /// The bytes that go out for this outcome, if any do; counts it.
    fn judge<'a>(
        &self,
        outcome: Outcome,
        to_error: bool,
        reply: &'a [u8],
        tally: &mut Tally,
    ) -> Option<&'a [u8]> {
        let (count, bytes) = match outcome {
            Outcome::Reply => (Count::Replies, Some(reply)),
            // An error is not answered with an error.
            Outcome::Error if to_error => (Count::SilentRequests, None),
            Outcome::Error => (Count::ErrorReplies, Some(reply)),
            Outcome::Silence => (Count::SilentRequests, None),
            // A late answer that is to come later still never would.
            Outcome::Failed | Outcome::Later(_) => (Count::FailedReplies, None),
        };
        tally.add(count, 1);
        bytes
    }

    /// Says that a line was too long, after all that is to be said before.
    fn complain(&mut self, tally: &mut Tally) {
        if !self.complains || !self.slots.is_empty() || self.asked > 0 {
            return;
        }
        self.complains = false;
        let to_error = is_error_reply(self.input.rest());
        if let Some(bytes) = self.judge(Outcome::Error, to_error, LINE_TOO_LONG, tally) {
            self.output.push(bytes);
            self.output.push(b"\n");
            self.count_produced(bytes.len() + 1, tally);
        }
    }

    fn count_produced(&mut self, count: usize, tally: &mut Tally) {
        self.produced += count as u64;
        tally.add(Count::Produced, count);
    }

    /// What it waits for, once its output is out.
    pub(super) fn want(&self) -> Want {
        if self.slots.len() >= MOST_OPEN {
            return Want::Answer;
        }
        match self.state {
            Input::Open if self.is_uncut => Want::Turn,
            Input::Open => Want::Input,
            Input::Ended => Want::Turn,
            Input::Over | Input::Closed if !self.slots.is_empty() => Want::Answer,
            Input::Over => Want::End,
            Input::Closed => Want::Farewell,
        }
    }

    /// True when nothing is under way: no request, no answer.
    pub(super) fn is_idle(&self) -> bool {
        self.slots.is_empty() && self.output.is_empty() && self.want() == Want::Input
    }

    /// The tickets whose answers have not come.
    pub(super) fn open_tickets(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Open { ticket, .. } => Some(*ticket),
            Slot::Ready(_) => None,
        })
    }
}
