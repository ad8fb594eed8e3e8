//! What all connections of a round ask, so that their responder is called once for all.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::respond::{
    Completed, Completions, Framing, LineEnd, Manner, Outcome, Replies, Request, Respond,
};
use crate::worker::Control;

/// Bytes asked beyond which a round is answered in more than one call.
const FULL_BYTES: usize = 1 << 20;

/// Calls after which a responder that once left requests for another call is tried with those of
/// many connections again.
const SLOW_FOR: u32 = 256;

/// A worker's responder, and what it is to be asked.
pub(super) struct Questions {
    responder: Box<dyn Respond>,
    completions: Option<Arc<Completions>>,
    /// Says when nothing is to be asked any more.
    control: Arc<Control>,
    /// The last call was not begun, or not gone on with: the server is to end now.
    is_cut_short: bool,
    /// Calls for which the responder is taken for a slow one.
    slow_for: u32,
    manner: Manner,
    pub(super) framing: Framing,
    pub(super) max_line_bytes: usize,
    bytes: Vec<u8>,
    asked: Vec<Asked>,
    askers: Vec<Asker>,
    replies: Replies,
    /// Memory for the requests of a call; empty between calls.
    requests: Vec<Request<'static>>,
    /// Who waits for which late answer.
    tickets: HashMap<u64, u32>,
}

/// A request: where its bytes end, which begin where those of the one before end.
#[derive(Debug, Clone, Copy)]
struct Asked {
    until: usize,
    end: LineEnd,
}

/// A connection: where its requests end, which begin where those of the one before end.
#[derive(Debug, Clone, Copy)]
struct Asker {
    until: usize,
    id: u32,
    peer: SocketAddr,
    local: SocketAddr,
}

/// One request and what became of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered<'a> {
    pub(super) request: &'a [u8],
    pub(super) end: LineEnd,
    /// `None`: it was not asked any more.
    pub(super) outcome: Option<Outcome>,
    pub(super) reply: &'a [u8],
}

impl fmt::Debug for Questions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Questions")
            .field("manner", &self.manner)
            .field("framing", &self.framing)
            .finish_non_exhaustive()
    }
}

impl Questions {
    pub(super) fn new(
        responder: Box<dyn Respond>,
        framing: Framing,
        max_line_bytes: usize,
    ) -> Self {
        Self {
            completions: responder.completions(),
            control: Arc::default(),
            is_cut_short: false,
            slow_for: 0,
            manner: responder.manner(),
            responder,
            framing,
            max_line_bytes,
            bytes: Vec::new(),
            asked: Vec::new(),
            askers: Vec::new(),
            replies: Replies::default(),
            requests: Vec::new(),
            tickets: HashMap::new(),
        }
    }

    /// The responder is not asked any further once this says that the worker is to end now.
    pub(super) fn heed(&mut self, control: &Arc<Control>) {
        self.control = Arc::clone(control);
        self.replies.heed(control.orders());
    }

    /// Nothing is to be asked any more.
    pub(super) fn is_over(&self) -> bool {
        self.control.is_over()
    }

    pub(super) fn manner(&self) -> Manner {
        self.manner
    }

    /// Answers may come later.
    pub(super) fn gives_tickets(&self) -> bool {
        self.completions.is_some()
    }

    /// What late answers come in by.
    pub(super) fn completions(&self) -> Option<&Arc<Completions>> {
        self.completions.as_ref()
    }

    /// One more request, of the connection that is named next.
    pub(super) fn ask(&mut self, data: &[u8], end: LineEnd) {
        self.bytes.extend_from_slice(data);
        self.asked.push(Asked {
            until: self.bytes.len(),
            end,
        });
    }

    /// What was asked since the last call of this was asked by connection `id`.
    pub(super) fn name(&mut self, id: u32, peer: SocketAddr, local: SocketAddr) {
        self.askers.push(Asker {
            until: self.asked.len(),
            id,
            peer,
            local,
        });
    }

    /// Nothing was asked.
    pub(super) fn is_empty(&self) -> bool {
        self.askers.is_empty()
    }

    /// As much was asked as is to be answered at a time: what is kept in memory, or, of a
    /// responder that takes its time, one connection's, so that none waits for another's.
    pub(super) fn is_full(&self) -> bool {
        let most = if self.slow_for > 0 { 1 } else { usize::MAX };
        self.bytes.len() >= FULL_BYTES || self.askers.len() >= most
    }

    /// Asks the responder, once for all.
    pub(super) fn respond(&mut self) {
        self.replies.clear();
        let mut requests = reuse(std::mem::take(&mut self.requests));
        let (mut first, mut start) = (0, 0);
        for asker in &self.askers {
            for asked in &self.asked[first..asker.until] {
                requests.push(Request {
                    data: &self.bytes[start..asked.until],
                    peer: asker.peer,
                    local: asker.local,
                });
                start = asked.until;
            }
            first = asker.until;
        }
        self.slow_for = self.slow_for.saturating_sub(1);
        self.is_cut_short = false;
        while self.replies.len() < requests.len() {
            // Before each call, the first as well: what was cut before the deadline may have
            // to wait for others until long after it.
            if self.control.is_over() {
                self.is_cut_short = true;
                break;
            }
            let before = self.replies.len();
            if before > 0 {
                self.slow_for = SLOW_FOR;
            }
            // One that takes its time may leave the rest for another call.
            let (responder, replies) = (&mut self.responder, &mut self.replies);
            self.control
                .asking(|| responder.respond(&requests[before..], replies));
            if self.replies.len() == before {
                break;
            }
        }
        self.requests = reuse(requests);
    }

    /// How many connections asked.
    pub(super) fn askers(&self) -> usize {
        self.askers.len()
    }

    /// The number of the connection that asked in this place.
    pub(super) fn asker(&self, place: usize) -> u32 {
        self.askers[place].id
    }

    /// What it asked and was answered, in order.
    pub(super) fn answers(&self, place: usize) -> impl Iterator<Item = Answered<'_>> {
        let first = place
            .checked_sub(1)
            .map_or(0, |last| self.askers[last].until);
        (first..self.askers[place].until).map(|index| {
            let start = index
                .checked_sub(1)
                .map_or(0, |last| self.asked[last].until);
            let asked = self.asked[index];
            let (outcome, reply) = if index < self.replies.len() {
                let (outcome, reply) = self.replies.get(index);
                (Some(outcome), reply)
            } else {
                // A responder that forgot a request has failed it.
                let forgotten = Some(Outcome::Failed);
                (forgotten.filter(|_| !self.is_cut_short), &[][..])
            };
            Answered {
                request: &self.bytes[start..asked.until],
                end: asked.end,
                outcome,
                reply,
            }
        })
    }

    /// All answers have been given: notes who waits for a late one, and forgets the rest.
    pub(super) fn end(&mut self) {
        let mut first = 0;
        for asker in &self.askers {
            for index in first..asker.until.min(self.replies.len()) {
                if let (Outcome::Later(ticket), _) = self.replies.get(index) {
                    self.tickets.insert(ticket, asker.id);
                }
            }
            first = asker.until;
        }
        self.bytes.clear();
        self.bytes.shrink_to(FULL_BYTES);
        self.asked.clear();
        self.askers.clear();
        self.replies.clear();
    }

    /// The late answers that have come.
    pub(super) fn late(&self) -> Vec<Completed> {
        self.completions
            .as_ref()
            .map_or_else(Vec::new, |completions| completions.take())
    }

    /// The connection that waits for a late answer, which it does not from now on, unless this
    /// is a part of it.
    pub(super) fn redeem(&mut self, ticket: u64, outcome: Outcome) -> Option<u32> {
        if outcome == Outcome::More {
            return self.tickets.get(&ticket).copied();
        }
        self.tickets.remove(&ticket)
    }
}

/// An empty vector with the memory of this one, for what lives shorter: collecting what is
/// mapped one to one happens in place.
fn reuse<'a>(mut requests: Vec<Request<'_>>) -> Vec<Request<'a>> {
    requests.clear();
    requests
        .into_iter()
        .map(|_| unreachable!("it is empty"))
        .collect()
}
