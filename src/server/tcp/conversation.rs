//! What one connection asks and is answered, in order, and what is impaired of that. Knows no
//! socket.
//!
//! ```text
//! take → (incoming way) → input → ask, answer or echo → output → (outgoing way) → ready
//! ```
//!
//! Rule 1: answers go out in the order of their requests, however late one of them comes.
//! Rule 2: nothing is taken in while output is pending, or while [`MOST_OPEN`] requests wait
//! for late answers. So a connection holds at most 64 KiB of input (or one request, where
//! that is longer) and the answers of one turn; and the requests of a turn grow in number
//! only while those answers stay small. A way holds 64 KiB more, where there is one.
//! Rule 3: each request ends in one way: answered, in an error, silent, failed, abandoned.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::buffer::{Buffer, PLAIN_BYTES};
use super::questions::{Answered, Questions};
use super::shaper_queue::ShaperQueue;
use crate::books::tcp::{Count, Reason, Tally};
use crate::impair::{Action, Direction, Shaper, Toxics};
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
    /// Nothing, but what it has said is on its way still.
    Ending,
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
    /// A late answer, or its time.
    Nothing,
    /// Nothing: the peer has ended its stream and has all answers.
    End,
    /// Nothing: the server has said all that it will.
    Farewell,
}

/// The state of one conversation.
#[derive(Debug)]
pub(super) struct Conversation {
    local: SocketAddr,
    /// Cuts requests; `None`: what comes in goes out.
    cutter: Option<Cutter>,
    input: Buffer,
    /// The input may hold a whole request.
    is_uncut: bool,
    /// The incoming way has more for the input.
    is_behind: bool,
    state: Input,
    /// The peer has ended its stream, whatever of that has come through.
    has_ended: bool,
    /// A line was too long, which is to be said after all answers.
    complains: bool,
    /// Answers from the first that is not there yet.
    slots: VecDeque<Slot>,
    /// Most requests of the next turn.
    burst: usize,
    /// Requests of this turn.
    asked: usize,
    output: Buffer,
    incoming: Option<ShaperQueue>,
    outgoing: Option<ShaperQueue>,
    /// It is neither read nor answered.
    hangs: bool,
    /// Nothing goes out any more.
    is_muted: bool,
    /// The server ends it for this reason.
    leaves: Option<Reason>,
    /// Bytes that requests took, that answers brought, and that were impaired away.
    consumed: u64,
    produced: u64,
    dropped: u64,
    /// The turn in which it had its step.
    pub(super) turn: u64,
    /// The time for which it is noted.
    pub(super) due_ns: Option<u64>,
}

impl Conversation {
    /// One whose requests are answered.
    pub(super) fn new(questions: &Questions, local: SocketAddr) -> Self {
        let framing = match questions.manner() {
            Manner::Answers => questions.framing,
            Manner::Greets | Manner::Listens => Framing::Chunks,
        };
        Self {
            cutter: Some(Cutter::new(framing, questions.max_line_bytes)),
            ..Self::echo(local)
        }
    }

    /// One in which what comes in goes out.
    pub(super) fn echo(local: SocketAddr) -> Self {
        Self {
            local,
            cutter: None,
            input: Buffer::default(),
            is_uncut: false,
            is_behind: false,
            state: Input::Open,
            has_ended: false,
            complains: false,
            slots: VecDeque::new(),
            burst: 1,
            asked: 0,
            output: Buffer::default(),
            incoming: None,
            outgoing: None,
            hangs: false,
            is_muted: false,
            leaves: None,
            consumed: 0,
            produced: 0,
            dropped: 0,
            turn: 0,
            due_ns: None,
        }
    }

    /// Which address was asked.
    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Most bytes of input that wait to be cut.
    fn input_room(&self) -> usize {
        let longest = self.cutter.as_ref().map_or(0, Cutter::longest);
        PLAIN_BYTES.max(longest) - self.input.len()
    }

    /// How many bytes may be received now.
    pub(super) fn room(&self) -> usize {
        if self.hangs
            || self.slots.len() >= MOST_OPEN
            || !self.output.is_empty()
            || self.state != Input::Open
        {
            return 0;
        }
        match &self.incoming {
            Some(way) => way.room().min(PLAIN_BYTES),
            None if self.is_uncut => 0,
            None => self.input_room(),
        }
    }

    /// These bytes came, at most as many as there was room for.
    pub(super) fn take(&mut self, now_ns: u64, bytes: &[u8], tally: &mut Tally) {
        match &mut self.incoming {
            Some(way) => {
                let dropped = way.push(now_ns, bytes);
                self.drop_bytes(dropped, tally);
            }
            None => {
                self.input.push(bytes);
                self.is_uncut = true;
            }
        }
    }

    /// The peer has ended its stream.
    pub(super) fn end_input(&mut self, now_ns: u64) {
        self.has_ended = true;
        if self.state == Input::Open {
            self.state = match &mut self.incoming {
                None => Input::Ended,
                Some(way) => {
                    way.end(now_ns);
                    Input::Ending
                }
            };
        }
    }

    /// Takes what has come through the incoming way; what is to be done with the connection
    /// at once.
    pub(super) fn advance(&mut self, now_ns: u64, tally: &mut Tally) -> Option<Action> {
        let mut room = self.input_room();
        let way = self.incoming.as_mut()?;
        loop {
            let ready = way.ready(now_ns);
            let count = ready.len().min(room);
            self.is_behind = count < ready.len();
            if count == 0 {
                break;
            }
            self.input.push(&ready[..count]);
            way.consume(count);
            room -= count;
            self.is_uncut = true;
        }
        if self.is_behind {
            return None;
        }
        let (action, held) = way.action(now_ns)?;
        self.drop_bytes(held, tally);
        if action == Action::Reset {
            return Some(action);
        }
        if matches!(self.state, Input::Open | Input::Ending) {
            self.state = Input::Ended;
        }
        if action == Action::Close {
            // What it has said is answered first.
            self.leave(Reason::Impaired);
        }
        None
    }

    /// What came in goes out: where nobody is asked.
    fn pass(&mut self) {
        if !self.output.is_empty() || self.hangs {
            return;
        }
        self.output.push(self.input.rest());
        self.input.clear();
        self.is_uncut = false;
        if self.state == Input::Ended {
            self.state = Input::Over;
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
    pub(super) fn ask(&mut self, questions: Option<&mut Questions>, tally: &mut Tally) -> bool {
        let (Some(cutter), Some(questions)) = (&mut self.cutter, questions) else {
            self.pass();
            return false;
        };
        if self.asked > 0 {
            // A greeting, say, that is still to come.
            return false;
        }
        let mut most = self.burst;
        if questions.gives_tickets() {
            most = most.min(MOST_OPEN.saturating_sub(self.slots.len()));
        }
        let before = self.input.len();
        while (self.is_uncut || self.state == Input::Ended)
            && !self.hangs
            && self.state != Input::Closed
            && self.output.is_empty()
            && self.asked < most
        {
            match cutter.next(self.input.rest()) {
                Ok(Some(cut)) => {
                    questions.ask(&self.input.rest()[..cut.length], cut.end);
                    self.asked += 1;
                    self.input.advance(cut.taken);
                    self.is_uncut = !self.input.is_empty();
                }
                Ok(None) => {
                    self.is_uncut = false;
                    if self.state == Input::Ended {
                        self.state = Input::Over;
                        if let Some(cut) = cutter.last(self.input.rest()) {
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
        let Some(outcome) = outcome else {
            return tally.add(Count::AbandonedRequests, 1);
        };
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

    /// Moves output to the outgoing way, or away if nothing goes out any more.
    fn fill(&mut self, now_ns: u64, tally: &mut Tally) {
        let mut dropped = 0;
        if self.hangs {
            return;
        }
        if self.is_muted {
            dropped = self.output.len();
            self.output.clear();
        } else if let Some(way) = &mut self.outgoing {
            while !self.output.is_empty() {
                let count = way.room().min(self.output.len());
                if count == 0 {
                    break;
                }
                dropped += way.push(now_ns, &self.output.rest()[..count]);
                self.output.advance(count);
            }
        }
        self.drop_bytes(dropped, tally);
    }

    /// The bytes that are to be sent now.
    pub(super) fn ready(&mut self, now_ns: u64, tally: &mut Tally) -> &[u8] {
        self.fill(now_ns, tally);
        match &mut self.outgoing {
            _ if self.is_muted || self.hangs => &[],
            Some(way) => way.ready(now_ns),
            None => self.output.rest(),
        }
    }

    /// So many of them were sent.
    pub(super) fn sent(&mut self, count: usize) {
        match &mut self.outgoing {
            Some(way) => way.consume(count),
            None => self.output.advance(count),
        }
    }

    /// What is to be done with the connection now that nothing is ready any more.
    pub(super) fn finish(&mut self, now_ns: u64, tally: &mut Tally) -> Option<Action> {
        let is_all = self.is_all_said();
        let way = self.outgoing.as_mut()?;
        if is_all {
            way.end(now_ns);
        }
        let (action, held) = way.action(now_ns)?;
        self.drop_bytes(held, tally);
        self.is_muted = true;
        Some(action)
    }

    fn drop_bytes(&mut self, count: usize, tally: &mut Tally) {
        if count > 0 {
            self.dropped += count as u64;
            tally.add(Count::Discarded, count);
        }
    }

    /// No more will ever be added to the output.
    fn is_all_said(&self) -> bool {
        matches!(self.state, Input::Over | Input::Closed)
            && self.asked == 0
            && self.slots.is_empty()
            && self.output.is_empty()
    }

    /// What it waits for, once nothing more can be sent.
    pub(super) fn want(&self) -> Want {
        if self.hangs || self.slots.len() >= MOST_OPEN {
            return Want::Nothing;
        }
        match self.state {
            Input::Open | Input::Ending | Input::Ended if !self.output.is_empty() => Want::Nothing,
            Input::Ended => Want::Turn,
            Input::Open | Input::Ending if self.is_uncut || self.is_behind => Want::Turn,
            Input::Open if self.room() > 0 => Want::Input,
            Input::Open | Input::Ending => Want::Nothing,
            Input::Over | Input::Closed if !self.is_all_said() => Want::Nothing,
            // The outgoing way says when.
            Input::Over | Input::Closed if self.outgoing.is_some() && !self.is_muted => {
                Want::Nothing
            }
            // Closing with unread input would be a reset.
            Input::Over if self.has_ended => Want::End,
            Input::Over | Input::Closed => Want::Farewell,
        }
    }

    /// True when nothing is under way: no request, no answer.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_waiting() && self.want() == Want::Input
    }

    /// True while its peer waits for us: for an answer, or for what is held back.
    pub(super) fn is_waiting(&self) -> bool {
        let is_held = |way: &Option<ShaperQueue>| way.as_ref().is_some_and(|way| way.held() > 0);
        self.hangs || !self.slots.is_empty() || is_held(&self.incoming) || is_held(&self.outgoing)
    }

    // ---- what is impaired ------------------------------------------------------------

    /// From now on, what comes in and what goes out is impaired so; what is under way keeps
    /// its time. One that does not hang does not begin to.
    pub(super) fn impair(&mut self, now_ns: u64, incoming: Shaper, outgoing: Shaper, hangs: bool) {
        self.hangs &= hangs;
        if let Some(way) = &mut self.incoming {
            way.change(incoming);
        } else if !incoming.is_noop() {
            let mut way = ShaperQueue::new(incoming);
            if self.has_ended {
                way.end(now_ns);
            }
            self.incoming = Some(way);
        }
        if let Some(way) = &mut self.outgoing {
            way.change(outgoing);
        } else if !outgoing.is_noop() {
            // What waits to be sent has been answered already.
            let mut way = ShaperQueue::new(untouched());
            let count = way.room().min(self.output.len());
            way.push(now_ns, &self.output.rest()[..count]);
            self.output.advance(count);
            way.change(outgoing);
            self.outgoing = Some(way);
        }
    }

    /// It has come to hang.
    pub(super) fn hang(&mut self) {
        self.hangs = true;
    }

    pub(super) fn hangs(&self) -> bool {
        self.hangs
    }

    /// Sends what a plain connection had not sent.
    pub(super) fn send_first(&mut self, bytes: &[u8]) {
        self.output.push(bytes);
    }

    /// Lets go of ways on which nothing is impaired any more; true if it is but an echo then,
    /// with nothing under way.
    pub(super) fn simplify(&mut self) -> bool {
        for way in [&mut self.incoming, &mut self.outgoing] {
            if way.as_ref().is_some_and(ShaperQueue::is_spent) {
                *way = None;
            }
        }
        self.cutter.is_none()
            && self.incoming.is_none()
            && self.outgoing.is_none()
            && !self.is_muted
            && self.input.is_empty()
            && self.is_idle()
    }

    /// When something of it changes by itself.
    pub(super) fn next_due_ns(&self) -> Option<u64> {
        let due = |way: &Option<ShaperQueue>| way.as_ref().and_then(ShaperQueue::next_due_ns);
        match (due(&self.incoming), due(&self.outgoing)) {
            (Some(incoming), Some(outgoing)) => Some(incoming.min(outgoing)),
            (incoming, outgoing) => incoming.or(outgoing),
        }
    }

    /// The server ends it, for this reason.
    pub(super) fn leave(&mut self, reason: Reason) {
        self.leaves.get_or_insert(reason);
    }

    /// For which reason the server ends it, if it does.
    pub(super) fn leaves(&self) -> Option<Reason> {
        self.leaves
    }

    // ---- the books ------------------------------------------------------------------

    /// How many bytes were impaired away.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Of so many bytes received, sent and discarded, how many are still there.
    pub(super) fn pending(&self, received: u64, gone: u64) -> u64 {
        received + self.produced - self.consumed - self.dropped - gone
    }

    /// The tickets whose answers have not come.
    pub(super) fn open_tickets(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Open { ticket, .. } => Some(*ticket),
            Slot::Ready(_) => None,
        })
    }
}

/// Nothing is done to what goes through.
fn untouched() -> Shaper {
    Shaper::new(&Toxics::default(), Direction::Out, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::respond::{Completions, Replies, Request, Respond};
    use proptest::prelude::*;
    use std::sync::Arc;

    /// Answers each request with itself, as its first letter says.
    struct Lettered(u64);

    impl Respond for Lettered {
        fn respond(&mut self, requests: &[Request<'_>], replies: &mut Replies) {
            for request in requests {
                match request.data.first() {
                    Some(b'l') => {
                        replies.end(Outcome::Later(self.0));
                        self.0 += 1;
                    }
                    Some(b's') => replies.end(Outcome::Silence),
                    Some(b'f') => replies.end(Outcome::Failed),
                    Some(b'e') => replies.error(request.data),
                    _ => replies.reply(request.data),
                }
            }
        }

        fn completions(&self) -> Option<Arc<Completions>> {
            Some(Arc::default())
        }
    }

    fn line() -> impl Strategy<Value = (String, &'static str)> {
        (
            "[lsfer][a-z]{0,6}",
            prop::sample::select(vec!["\n", "\r\n"]),
        )
    }

    proptest! {
        /// Against the plain model: each line with its end, but those that get no answer;
        /// however the stream comes in pieces, and in whatever order late answers come.
        #[test]
        fn answers_come_in_the_order_of_the_requests(
            lines in prop::collection::vec(line(), 0..150),
            cuts in prop::collection::vec(1..60usize, 1..40),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 1..60),
        ) {
            let stream: String = lines.iter().map(|(line, end)| format!("{line}{end}")).collect();
            let wanted: String = lines
                .iter()
                .filter(|(line, _)| !line.starts_with(['s', 'f']))
                .map(|(line, end)| format!("{line}{end}"))
                .collect();
            let peer = "192.0.2.1:4711".parse().unwrap();
            let mut questions = Questions::new(Box::new(Lettered(0)), Framing::Lines, 100);
            let mut conversation = Conversation::new(&questions, peer);
            let (mut tally, mut left) = (Tally::default(), stream.as_bytes());
            let (mut cuts, mut picks) = (cuts.iter().cycle(), picks.iter().cycle());
            let mut late: Vec<(u64, Vec<u8>)> = Vec::new();
            let mut sent = Vec::new();
            loop {
                let ready = conversation.ready(0, &mut tally);
                let count = ready.len();
                sent.extend_from_slice(ready);
                conversation.sent(count);
                match conversation.want() {
                    Want::Input if left.is_empty() => conversation.end_input(0),
                    Want::Input => {
                        let most = conversation.room().min(left.len());
                        let (piece, rest) = left.split_at(most.min(*cuts.next().unwrap()));
                        conversation.take(0, piece, &mut tally);
                        left = rest;
                    }
                    Want::Nothing => {
                        prop_assert!(!late.is_empty(), "it waits for nobody");
                        let place = picks.next().unwrap().index(late.len());
                        let (ticket, reply) = late.swap_remove(place);
                        conversation.answer_late(ticket, Outcome::Reply, &reply, &mut tally);
                    }
                    Want::Turn => {}
                    Want::End => break,
                    Want::Farewell => prop_assert!(false, "nobody has said farewell"),
                }
                if conversation.ask(Some(&mut questions), &mut tally) {
                    questions.name(0, peer, peer);
                    questions.respond();
                    for answered in questions.answers(0) {
                        if let Some(Outcome::Later(ticket)) = answered.outcome {
                            late.push((ticket, answered.request.to_vec()));
                        }
                        conversation.answer(&answered, &mut tally);
                    }
                    conversation.end_turn(&mut tally);
                    questions.end();
                }
                prop_assert!(conversation.open_tickets().count() <= MOST_OPEN);
                prop_assert_eq!(conversation.open_tickets().count(), late.len());
            }
            prop_assert_eq!(String::from_utf8(sent).unwrap(), wanted);
            prop_assert_eq!(conversation.pending(stream.len() as u64, 0), wanted_len(&lines));
        }
    }

    /// Bytes that went out, of lines that are answered.
    fn wanted_len(lines: &[(String, &'static str)]) -> u64 {
        let answered = lines
            .iter()
            .filter(|(line, _)| !line.starts_with(['s', 'f']));
        answered
            .map(|(line, end)| (line.len() + end.len()) as u64)
            .sum()
    }
}
