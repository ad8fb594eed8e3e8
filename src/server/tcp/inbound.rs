//! What comes in over one connection, up to where requests are cut from it. No I/O.
//!
//! ```text
//! push → (shapers) → buffer → cut, or pass where nobody is asked
//!
//! state      what the peer may still say            next
//! Open       anything                               Ending, Ended, TooLong, Closed
//! Ending     nothing; its end is in the shapers     Ended, TooLong
//! Ended      nothing; not all that came is cut      Done, TooLong
//! Done       nothing; all that came is cut          -
//! TooLong    not listened to; is to be told so      Closed
//! Closed     not listened to                        -
//!
//! event                               from            to
//! the peer's end of stream            Open            Ending with shapers, else Ended
//! the shapers let the end through,
//!   or end the stream themselves      Open, Ending    Ended
//! nothing whole is left to cut        Ended           Done
//! a line is longer than lines may be  Open to Ended   TooLong
//! the server has told the peer so     TooLong         Closed
//! the server speaks and only speaks   Open            Closed
//! ```

use super::buffer::{Buffer, PLAIN_BYTES};
use super::shaper_queue::ShaperQueue;
use crate::books::tcp::{Count, Tally};
use crate::impair::{Action, Shaper};
use crate::respond::{Cutter, LineEnd, TooLong, is_error_reply};

/// What more the peer may say: see the table above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Open,
    Ending,
    Ended(By),
    Done(By),
    TooLong,
    Closed,
}

/// Who ended the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Peer,
    /// An impairment: the peer may go on, and is not heard.
    Impairment,
}

#[derive(Debug)]
pub(super) struct Inbound {
    state: State,
    /// Cuts requests; `None`: what comes in goes out.
    cutter: Option<Cutter>,
    shapers: Option<ShaperQueue>,
    buffer: Buffer,
    /// The buffer may hold a whole request.
    is_uncut: bool,
    /// The shapers have more for the buffer than it had room for.
    is_behind: bool,
}

impl Inbound {
    pub(super) fn new(cutter: Option<Cutter>) -> Self {
        Self {
            state: State::Open,
            cutter,
            shapers: None,
            buffer: Buffer::default(),
            is_uncut: false,
            is_behind: false,
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// There is more to do with what is here.
    pub(super) fn has_more(&self) -> bool {
        self.is_uncut || self.is_behind
    }

    /// Requests are cut from it.
    pub(super) fn has_requests(&self) -> bool {
        self.cutter.is_some()
    }

    /// Most bytes that the buffer takes: a request more than that is still held whole.
    fn buffer_room(&self) -> usize {
        let longest = self.cutter.as_ref().map_or(0, Cutter::longest);
        PLAIN_BYTES.max(longest) - self.buffer.len()
    }

    /// How many bytes may be received now.
    pub(super) fn room(&self) -> usize {
        match &self.shapers {
            _ if self.state != State::Open => 0,
            Some(shapers) => shapers.room().min(PLAIN_BYTES),
            None if self.is_uncut => 0,
            None => self.buffer_room(),
        }
    }

    /// These bytes came, at most as many as there was room for.
    pub(super) fn push(&mut self, now_ns: u64, bytes: &[u8], tally: &mut Tally) {
        if let Some(shapers) = &mut self.shapers {
            tally.discarded(shapers.push(now_ns, bytes));
        } else {
            self.buffer.push(bytes);
            self.is_uncut = true;
        }
    }

    /// The peer has ended its stream.
    pub(super) fn end(&mut self, now_ns: u64) {
        if self.state == State::Open {
            self.state = match &mut self.shapers {
                None => State::Ended(By::Peer),
                Some(shapers) => {
                    shapers.end(now_ns);
                    State::Ending
                }
            };
        }
    }

    /// The server does not listen.
    pub(super) fn close(&mut self) {
        self.state = State::Closed;
    }

    /// Takes what has come through the shapers; what these want done with the connection.
    pub(super) fn advance(&mut self, now_ns: u64, tally: &mut Tally) -> Option<Action> {
        let mut room = self.buffer_room();
        let shapers = self.shapers.as_mut()?;
        loop {
            let ready = shapers.ready(now_ns);
            let count = ready.len().min(room);
            self.is_behind = count < ready.len();
            if count == 0 {
                break;
            }
            self.buffer.push(&ready[..count]);
            shapers.consume(count);
            room -= count;
            self.is_uncut = true;
        }
        if self.is_behind {
            return None;
        }
        let (action, held) = shapers.action(now_ns)?;
        tally.discarded(held);
        if action != Action::Reset {
            self.state = match self.state {
                State::Open => State::Ended(By::Impairment),
                State::Ending => State::Ended(By::Peer),
                state => state,
            };
        }
        Some(action)
    }

    /// Cuts up to `most` requests off, and gives each to `ask`; how many there were.
    pub(super) fn cut(
        &mut self,
        most: usize,
        tally: &mut Tally,
        mut ask: impl FnMut(&[u8], LineEnd),
    ) -> usize {
        let Some(cutter) = &mut self.cutter else {
            return 0;
        };
        let (before, mut asked) = (self.buffer.len(), 0);
        while asked < most {
            let ended = match self.state {
                State::Ended(by) => Some(by),
                State::Open | State::Ending if self.is_uncut => None,
                _ => break,
            };
            let data = self.buffer.rest();
            let cut = match (cutter.next(data), ended) {
                (Ok(None), Some(by)) => {
                    self.state = State::Done(by);
                    cutter.last(data)
                }
                (Ok(cut), _) => cut,
                (Err(TooLong), _) => {
                    self.state = State::TooLong;
                    tally.add(Count::Requests, 1);
                    break;
                }
            };
            self.is_uncut = false;
            if let Some(cut) = cut {
                ask(&data[..cut.length], cut.end);
                asked += 1;
                self.buffer.advance(cut.taken);
                self.is_uncut = !self.buffer.is_empty();
            }
        }
        tally.add(Count::Consumed, before - self.buffer.len());
        tally.add(Count::Requests, asked);
        asked
    }

    /// A line was too long, which is to be told now; true if it is an error reply itself.
    pub(super) fn take_too_long(&mut self) -> Option<bool> {
        (self.state == State::TooLong).then(|| {
            self.state = State::Closed;
            is_error_reply(self.buffer.rest())
        })
    }

    /// Where nobody is asked: what has come goes out.
    pub(super) fn pass(&mut self, send: impl FnOnce(&[u8])) {
        send(self.buffer.rest());
        self.buffer.clear();
        self.is_uncut = false;
        if let State::Ended(by) = self.state {
            self.state = State::Done(by);
        }
    }

    /// From now on, what comes is impaired so.
    pub(super) fn impair(&mut self, now_ns: u64, shaper: Shaper) {
        if let Some(shapers) = &mut self.shapers {
            shapers.change(shaper);
        } else if !shaper.is_noop() {
            let mut shapers = ShaperQueue::new(shaper);
            if matches!(self.state, State::Ended(By::Peer) | State::Done(By::Peer)) {
                shapers.end(now_ns);
            }
            self.shapers = Some(shapers);
        }
    }

    /// Lets go of shapers that do nothing any more; true if there are none, and nothing here.
    pub(super) fn simplify(&mut self) -> bool {
        self.shapers.take_if(|shapers| shapers.is_spent());
        self.shapers.is_none() && self.buffer.is_empty()
    }

    pub(super) fn shapers(&self) -> Option<&ShaperQueue> {
        self.shapers.as_ref()
    }

    /// How many bytes are here.
    pub(super) fn held(&self) -> usize {
        self.buffer.len() + self.shapers.as_ref().map_or(0, ShaperQueue::held)
    }
}
