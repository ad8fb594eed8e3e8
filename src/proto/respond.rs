//! Answers made by a responder, one datagram at a time: within the batch, or later, by a ticket.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use super::{Batch, Datagram, Outbox, Pending, Progress, Protocol};
use crate::books::DropReason;
use crate::datagram::Asker;
use crate::respond::{Completed, Completions, Outcome, Replies, Request, Respond, is_error_reply};
use crate::worker::Orders;

/// Requests that a responder is asked at once: their replies are all in memory until the outbox
/// is looked at, 16 MiB of them at most.
const PART: usize = 256;

/// Requests of a worker that may wait for late answers; beyond them they fail, rather than fill
/// the memory while an event loop is busy with something else.
const MOST_TICKETS: usize = 10_000;

/// Has a responder answer.
pub struct Responding {
    responder: Box<dyn Respond>,
    completions: Option<Arc<Completions>>,
    /// Requests whose answers will come late, by their tickets.
    tickets: HashMap<u64, Asker>,
    /// Late answers that have come.
    late: VecDeque<Completed>,
    replies: Replies,
    /// Where it serves.
    own: SocketAddr,
}

impl Responding {
    /// For a socket bound to `own`, until the orders are to drop everything.
    pub(crate) fn new(responder: Box<dyn Respond>, own: SocketAddr, orders: Arc<Orders>) -> Self {
        let mut replies = Replies::default();
        replies.heed(orders);
        Self {
            completions: responder.completions(),
            responder,
            tickets: HashMap::new(),
            late: VecDeque::new(),
            replies,
            own,
        }
    }

    fn request<'a>(&self, datagram: &Datagram<'a>) -> Request<'a> {
        let ip = datagram.local_ip().unwrap_or(self.own.ip());
        Request {
            data: datagram.data,
            // Judged before: a source without an address is not answered.
            peer: datagram.peer().unwrap_or(self.own),
            local: SocketAddr::new(ip, self.own.port()),
        }
    }

    /// Has some of these answered, at least the first; how many.
    fn ask(&mut self, part: &[Datagram<'_>], out: &mut Outbox) -> usize {
        let mut most = part.len();
        if self.completions.is_some() {
            most = most.min(MOST_TICKETS.saturating_sub(self.tickets.len()));
            if let (0, Some(last)) = (most, part.last()) {
                let (all, peer) = (part.len(), &last.message.came.source);
                out.drop(DropReason::ResponderFailed, all as u64, peer);
                return all;
            }
        }
        let requests: Vec<_> = part[..most].iter().map(|one| self.request(one)).collect();
        let mut replies = std::mem::take(&mut self.replies);
        replies.clear();
        self.responder.respond(&requests, &mut replies);
        let done = replies.len();
        assert!(
            (1..=most).contains(&done),
            "a responder answers at least one request, and each once"
        );
        for (index, datagram) in part[..done].iter().enumerate() {
            let (outcome, reply) = replies.get(index);
            self.take_up(outcome, reply, datagram.data, datagram.into(), out);
        }
        self.replies = replies;
        done
    }

    /// What became of a request.
    fn take_up(
        &mut self,
        outcome: Outcome,
        reply: &[u8],
        request: &[u8],
        asker: Asker,
        out: &mut Outbox,
    ) {
        let reason = match outcome {
            Outcome::Reply | Outcome::More => return out.reply(&asker, reply),
            Outcome::Close | Outcome::Reset if !reply.is_empty() => {
                return out.reply(&asker, reply);
            }
            Outcome::Error if is_error_reply(request) => DropReason::ErrorReply,
            Outcome::Error => {
                out.count_error_reply();
                return out.reply(&asker, reply);
            }
            Outcome::Later(ticket) => {
                self.tickets.insert(ticket, asker);
                return;
            }
            Outcome::Silence | Outcome::Close | Outcome::Reset => DropReason::NoReply,
            Outcome::Failed => DropReason::ResponderFailed,
        };
        out.drop(reason, 1, &asker.transmit.to);
    }
}

impl Protocol for Responding {
    fn on_batch(&mut self, _now_ns: u64, batch: &Batch<'_>, out: &mut Outbox) -> Progress {
        let mut datagrams = batch.datagrams();
        let mut taken = 0;
        loop {
            let part: Vec<_> = datagrams.by_ref().take(PART).collect();
            if part.is_empty() {
                return Progress::Done;
            }
            // Before each call, the first as well: no call begins after the deadline.
            if self.replies.is_over() {
                let left = part.len() + datagrams.count();
                out.tally.drop_many(DropReason::Stopped, left as u64);
                return Progress::Done;
            }
            let done = self.ask(&part, out);
            taken += done;
            // One that takes its time need not hold up what is answered.
            if done < part.len() || out.is_full() {
                return Progress::More(taken);
            }
        }
    }

    fn on_time(&mut self, _now_ns: u64, out: &mut Outbox) -> Progress {
        let Some(completions) = &self.completions else {
            return Progress::Done;
        };
        self.late.extend(completions.take());
        while let Some((ticket, outcome, reply)) = self.late.pop_front() {
            // One that is not there any more was answered before: a ticket counts once.
            if outcome == Outcome::More {
                if let Some(asker) = self.tickets.get_mut(&ticket) {
                    out.reply_more(asker, &reply);
                }
            } else if let Some(asker) = self.tickets.remove(&ticket) {
                // Whether the request was an error is known by whoever made the reply one.
                self.take_up(outcome, &reply, b"", asker, out);
            }
            if out.is_full() {
                return Progress::More(0);
            }
        }
        Progress::Done
    }

    fn is_timed(&self) -> bool {
        self.completions.is_some()
    }

    fn calls_out(&self) -> bool {
        true
    }

    fn pending(&self) -> Pending {
        Pending {
            held: 0,
            promised: self.tickets.len(),
        }
    }
}
