//! What one connection asks and is answered, and what is impaired of that. Knows no socket.
//!
//! ```text
//! take → inbound → ask → replies → outbound → ready
//!           └───────── echo ─────────┘
//! ```
//!
//! Rule 1: answers go out in the order of their requests, however late one of them comes.
//! Rule 2: nothing is taken in while output is pending, or while [`MOST_OPEN`] requests wait
//! for late answers. So a connection holds at most 64 KiB of input (or one request, where
//! that is longer) and the answers of one round; and the requests of a round grow in number
//! only while those answers stay small. Shapers hold 64 KiB more, where there are any.
//! Rule 3: each request ends in one way: answered, in an error, silent, failed, abandoned.

use std::net::SocketAddr;

use super::inbound::{By, Inbound, State};
use super::outbound::Outbound;
use super::questions::{Answered, Questions};
use super::replies::{Ending, Promise, Replies};
use super::shaper_queue::ShaperQueue;
use crate::books::tcp::{Count, Reason, Tally};
use crate::impair::{Action, Shaper};
use crate::respond::{Cutter, Framing, Manner, Outcome, is_error_reply};

/// Requests of one connection that may wait for late answers, their own or an earlier one's.
pub(super) const MOST_OPEN: usize = 64;

/// Requests of one connection in one round.
const MOST_BURST: usize = 1024;

/// Answers of one round above which the next has fewer requests.
const LARGE_BYTES: usize = 32 << 10;

/// The error reply to a line that is longer than lines may be; the connection ends then, as
/// nobody knows what the rest of it means.
const LINE_TOO_LONG: &[u8] = b"Error: Line too long";

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// More input.
    Input,
    /// The next round: there is more to cut.
    Round,
    /// A late answer, or its time.
    Nothing,
    /// Nothing: the peer has ended its stream and has all answers.
    End,
    /// Nothing: the server has said all that it will.
    Farewell,
}

/// One conversation.
#[derive(Debug)]
pub(super) struct Conversation {
    local: SocketAddr,
    inbound: Inbound,
    replies: Replies,
    outbound: Outbound,
    /// Most requests of the next round.
    burst: usize,
    /// Requests of this round.
    asked: usize,
    /// It is neither read nor answered.
    hangs: bool,
    /// The server ends it for this reason.
    leaves: Option<Reason>,
    /// The round in which it had its step.
    pub(super) round: u64,
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
        Self::of(Some(Cutter::new(framing, questions.max_line_bytes)), local)
    }

    /// One in which what comes in goes out.
    pub(super) fn echo(local: SocketAddr) -> Self {
        Self::of(None, local)
    }

    fn of(cutter: Option<Cutter>, local: SocketAddr) -> Self {
        Self {
            local,
            inbound: Inbound::new(cutter),
            replies: Replies::default(),
            outbound: Outbound::default(),
            burst: 1,
            asked: 0,
            hangs: false,
            leaves: None,
            round: 0,
            due_ns: None,
        }
    }

    /// Which address was asked.
    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    // ---- in -------------------------------------------------------------------------

    /// How many bytes may be received now.
    pub(super) fn room(&self) -> usize {
        if self.hangs || self.replies.len() >= MOST_OPEN || self.outbound.waiting() > 0 {
            return 0;
        }
        self.inbound.room()
    }

    /// These bytes came, at most as many as there was room for.
    pub(super) fn take(&mut self, now_ns: u64, bytes: &[u8], tally: &mut Tally) {
        self.inbound.push(now_ns, bytes, tally);
    }

    /// The peer has ended its stream.
    pub(super) fn end_input(&mut self, now_ns: u64) {
        self.inbound.end(now_ns);
    }

    /// Takes what has come through the shapers; what is to be done with the connection at once.
    pub(super) fn advance(&mut self, now_ns: u64, tally: &mut Tally) -> Option<Action> {
        match self.inbound.advance(now_ns, tally)? {
            Action::Reset => Some(Action::Reset),
            Action::Close => {
                // What it has said is answered first.
                self.leave(Reason::Impaired);
                None
            }
            Action::Finish => None,
        }
    }

    // ---- asked and answered ---------------------------------------------------------

    /// The server speaks, and does not listen.
    pub(super) fn greet(&mut self, questions: &mut Questions, tally: &mut Tally) {
        self.inbound.close();
        self.asked = 1;
        tally.add(Count::Requests, 1);
        questions.ask(b"", crate::respond::LineEnd::None);
    }

    /// Asks what is whole of the input, as much of it as may be; true if there was any.
    pub(super) fn ask(&mut self, questions: Option<&mut Questions>, tally: &mut Tally) -> bool {
        let may_go_on = !self.hangs && self.outbound.waiting() == 0;
        let (true, Some(questions)) = (self.inbound.has_requests(), questions) else {
            if may_go_on {
                self.inbound.pass(|bytes| self.outbound.push(bytes));
            }
            return false;
        };
        if self.asked > 0 {
            // A greeting, say, that is still to come.
            return false;
        }
        if may_go_on {
            let mut most = self.burst;
            if questions.gives_tickets() {
                most = most.min(MOST_OPEN.saturating_sub(self.replies.len()));
            }
            let cut = self
                .inbound
                .cut(most, tally, |data, end| questions.ask(data, end));
            self.asked = cut;
        }
        self.complain(tally);
        self.asked > 0
    }

    /// What became of the next request of this round.
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
        let to_error = is_error_reply(request);
        if let Outcome::Later(ticket) = outcome {
            let promise = Promise {
                ticket,
                end,
                to_error,
            };
            self.replies.promise(promise);
        } else if let Some(bytes) = judge(outcome, to_error, reply, tally) {
            tally.add(Count::Produced, bytes.len() + end.bytes().len());
            self.replies.push(bytes, end.bytes(), &mut self.outbound);
        }
        if let Some(ending) = ending(outcome) {
            self.replies.end(ending, &mut self.outbound);
            self.stop_listening(tally);
        }
    }

    /// All requests of this round have been answered, or will be later.
    pub(super) fn end_round(&mut self, tally: &mut Tally) {
        if self.outbound.waiting() > LARGE_BYTES {
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
        let Some(Promise { end, to_error, .. }) = self.replies.promised(ticket) else {
            return;
        };
        if outcome == Outcome::More {
            tally.add(Count::Produced, reply.len() + end.bytes().len());
            return self.replies.add(ticket, reply, &mut self.outbound);
        }
        let answer = judge(outcome, to_error, reply, tally);
        if let Some(bytes) = answer {
            tally.add(Count::Produced, bytes.len() + end.bytes().len());
        }
        self.replies
            .keep(ticket, answer, ending(outcome), &mut self.outbound);
        self.stop_listening(tally);
        self.complain(tally);
    }

    /// Where an answer ends the connection: what its peer still says is not listened to.
    fn stop_listening(&mut self, tally: &mut Tally) {
        if self.replies.ending().is_some() {
            if self.owes_an_error() {
                tally.add(Count::AbandonedRequests, 1);
            }
            self.inbound.close();
        }
    }

    /// An answer wants the connection reset, and all that was said before is sent.
    pub(super) fn is_to_reset(&self) -> bool {
        self.replies.ending() == Some(Ending::Reset) && self.outbound.held() == 0
    }

    /// Says that a line was too long, after all that is to be said before.
    fn complain(&mut self, tally: &mut Tally) {
        if !self.replies.is_empty() || self.asked > 0 {
            return;
        }
        let Some(to_error) = self.inbound.take_too_long() else {
            return;
        };
        if let Some(bytes) = judge(Outcome::Error, to_error, LINE_TOO_LONG, tally) {
            tally.add(Count::Produced, bytes.len() + 1);
            self.outbound.push(bytes);
            self.outbound.push(b"\n");
        }
    }

    // ---- out ------------------------------------------------------------------------

    /// The bytes that are to be sent now.
    pub(super) fn ready(&mut self, now_ns: u64, tally: &mut Tally) -> &[u8] {
        if self.hangs {
            return &[];
        }
        self.outbound.ready(now_ns, tally)
    }

    /// So many of them were sent.
    pub(super) fn sent(&mut self, count: usize) {
        self.outbound.sent(count);
    }

    /// What is to be done with the connection now that nothing is ready any more.
    pub(super) fn finish(&mut self, now_ns: u64, tally: &mut Tally) -> Option<Action> {
        let is_all = self.is_all_said();
        self.outbound.finish(now_ns, is_all, tally)
    }

    /// No more will ever be added to the output.
    fn is_all_said(&self) -> bool {
        let is_answered = match self.replies.ending() {
            Some(ending) => ending == Ending::Close,
            None => self.replies.is_empty(),
        };
        matches!(self.inbound.state(), State::Done(_) | State::Closed)
            && self.asked == 0
            && is_answered
            && self.outbound.waiting() == 0
    }

    /// What it waits for, once nothing more can be sent.
    pub(super) fn want(&self) -> Want {
        let is_full = self.replies.len() >= MOST_OPEN && self.replies.ending().is_none();
        if self.hangs || is_full {
            return Want::Nothing;
        }
        let is_stuck = self.outbound.waiting() > 0;
        match self.inbound.state() {
            State::Open | State::Ending | State::Ended(_) if is_stuck => Want::Nothing,
            State::Ended(_) => Want::Round,
            State::Open | State::Ending if self.inbound.has_more() => Want::Round,
            State::Open if self.room() > 0 => Want::Input,
            State::Open | State::Ending | State::TooLong => Want::Nothing,
            State::Done(_) | State::Closed if !self.is_all_said() => Want::Nothing,
            State::Done(_) | State::Closed if self.outbound.ends_by_itself() => Want::Nothing,
            // Closing with unread input would be a reset.
            State::Done(By::Peer) => Want::End,
            State::Done(By::Impairment) | State::Closed => Want::Farewell,
        }
    }

    /// True when nothing is under way: no request, no answer.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_waiting() && self.want() == Want::Input
    }

    /// True while its peer waits for us: for an answer, or for what is held back.
    pub(super) fn is_waiting(&self) -> bool {
        let is_held = |queue: &ShaperQueue| queue.held() > 0;
        self.hangs || !self.replies.is_empty() || self.shapers().any(is_held)
    }

    // ---- what is impaired -----------------------------------------------------------

    /// From now on, what comes in and what goes out is impaired so; what is under way keeps
    /// its time. One that does not hang does not begin to.
    pub(super) fn impair(&mut self, now_ns: u64, incoming: Shaper, outgoing: Shaper, hangs: bool) {
        self.hangs &= hangs;
        self.inbound.impair(now_ns, incoming);
        self.outbound.impair(now_ns, outgoing);
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
        self.outbound.push(bytes);
    }

    /// Lets go of shapers that do nothing any more; true if it is but an echo then, with nothing
    /// under way.
    pub(super) fn simplify(&mut self) -> bool {
        let (inbound, outbound) = (self.inbound.simplify(), self.outbound.simplify());
        inbound && outbound && !self.inbound.has_requests() && self.is_idle()
    }

    fn shapers(&self) -> impl Iterator<Item = &ShaperQueue> {
        let (inbound, outbound) = (self.inbound.shapers(), self.outbound.shapers());
        inbound.into_iter().chain(outbound)
    }

    /// When something of it changes by itself.
    pub(super) fn next_due_ns(&self) -> Option<u64> {
        self.shapers().filter_map(ShaperQueue::next_due_ns).min()
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

    /// How many bytes are here that came, or that answers brought, and are not sent.
    pub(super) fn held(&self) -> usize {
        self.inbound.held() + self.replies.held() + self.outbound.held()
    }

    /// A line was too long, and that is still to be said.
    pub(super) fn owes_an_error(&self) -> bool {
        self.inbound.state() == State::TooLong
    }

    /// The tickets whose answers have not come.
    pub(super) fn open_tickets(&self) -> impl Iterator<Item = u64> {
        self.replies.promises().map(|promise| promise.ticket)
    }
}

/// The bytes that go out for this outcome, if any do; counts it.
fn judge<'a>(
    outcome: Outcome,
    to_error: bool,
    reply: &'a [u8],
    tally: &mut Tally,
) -> Option<&'a [u8]> {
    let (count, bytes) = match outcome {
        Outcome::Reply | Outcome::More => (Count::Replies, Some(reply)),
        Outcome::Close | Outcome::Reset if !reply.is_empty() => (Count::Replies, Some(reply)),
        // An error is not answered with an error.
        Outcome::Error if to_error => (Count::SilentRequests, None),
        Outcome::Error => (Count::ErrorReplies, Some(reply)),
        Outcome::Silence | Outcome::Close | Outcome::Reset => (Count::SilentRequests, None),
        // A late answer that is to come later still never would.
        Outcome::Failed | Outcome::Later(_) => (Count::FailedReplies, None),
    };
    tally.add(count, 1);
    bytes
}

/// How this outcome ends the connection, if it does.
fn ending(outcome: Outcome) -> Option<Ending> {
    match outcome {
        Outcome::Close => Some(Ending::Close),
        Outcome::Reset => Some(Ending::Reset),
        _ => None,
    }
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
                    Want::Round => {}
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
                    conversation.end_round(&mut tally);
                    questions.end();
                }
                prop_assert!(conversation.replies.promises().count() <= MOST_OPEN);
                prop_assert_eq!(conversation.replies.promises().count(), late.len());
            }
            prop_assert_eq!(String::from_utf8(sent).unwrap(), wanted);
            prop_assert_eq!(conversation.held(), 0);
        }
    }
}
