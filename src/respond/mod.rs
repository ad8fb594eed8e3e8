//! WHAT to answer. One file per answer; none of them knows a socket.
//!
//! A responder gets a whole batch, so a fixed cost (attaching to an interpreter, reading a clock) is
//! paid once per batch. Plain echo is not
//! here: it sends back the bytes where they lie (`proto/echo.rs`, `server/tcp/echo.rs`).

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::worker::Orders;

mod choice;
mod clock;
mod command;
mod completions;
mod daytime;
mod discard;
mod framing;
mod lines;
mod prefix;
mod time;
mod upper;

pub use choice::Choice;
pub use command::UNKNOWN_COMMAND;
pub use completions::{Completed, Completions};
pub(crate) use framing::Cutter;
pub use framing::Framing;
#[cfg(all(any(test, feature = "fuzzing"), target_os = "linux"))]
pub(crate) use framing::laws_hold_for as framing_laws;
pub use lines::{LineEnd, TooLong};
pub use prefix::INVALID_ENCODING;
#[cfg(feature = "python")]
pub(crate) use upper::raise as upper_case;

/// A request: a datagram, or a stream's line, record, or bytes of one read.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Its bytes; a line comes without its end.
    pub data: &'a [u8],
    /// The peer's address.
    pub peer: SocketAddr,
    /// The address and port that received it. The address is unspecified (0.0.0.0, ::) if a socket
    /// bound to all addresses does not report it.
    pub local: SocketAddr,
}

/// The result of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is answered.
    Reply,
    /// It is answered with an error; the request must not be an error reply itself.
    Error,
    /// It is intentionally not answered (RFC 863).
    Silence,
    /// It is not answered, because the responder failed.
    Failed,
    /// It will be answered later, under this ticket, by [`Completions::complete`].
    Later(u64),
    /// A late answer's first part; its ticket stays open for the rest.
    More,
    /// It is answered, if there are bytes; then the server ends the connection. A datagram has
    /// none: it is only answered.
    Close,
    /// The same, with a reset (RST) instead of an orderly end.
    Reset,
}

/// Answers requests.
pub trait Respond: Send {
    /// Answers `requests` in order, by one call on `replies` for each: all of them, or at least the
    /// first. A slow responder may leave the rest, and is called again for them; it must do so once
    /// [`Replies::is_over`].
    fn respond(&mut self, requests: &[Request<'_>], replies: &mut Replies);

    /// The queue of its late answers; `None` if it gives no tickets.
    fn completions(&self) -> Option<Arc<Completions>> {
        None
    }

    /// How it behaves on a connection. For datagrams it makes no difference.
    fn manner(&self) -> Manner {
        Manner::Answers
    }
}

/// How a responder behaves on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It answers requests, into which the stream is cut.
    Answers,
    /// It answers as soon as a peer connects, asked once with no data, and the
    /// connection ends: RFC 867, RFC 868.
    Greets,
    /// It takes all bytes as they arrive: RFC 863.
    Listens,
}

/// True if the data is one of this package's own error replies. These are not answered with an
/// error, or two servers would send errors to each other for ever.
pub fn is_error_reply(data: &[u8]) -> bool {
    data.starts_with(b"Error: ") || data.trim_ascii() == UNKNOWN_COMMAND
}

/// Makes one responder for each worker.
#[derive(Clone)]
pub struct MakeResponder {
    make: Arc<dyn Fn(usize) -> Box<dyn Respond> + Send + Sync>,
    around: Option<Around>,
}

/// Runs a worker from start to end, with what its responder needs.
pub type Around = fn(&mut (dyn FnMut() + Send));

impl MakeResponder {
    /// Makes it by a function of the worker's number.
    pub fn new(make: impl Fn(usize) -> Box<dyn Respond> + Send + Sync + 'static) -> Self {
        Self {
            make: Arc::new(make),
            around: None,
        }
    }

    /// Runs its workers inside `around`, which calls its argument once, on the worker's thread.
    #[must_use]
    pub fn around(mut self, around: Around) -> Self {
        self.around = Some(around);
        self
    }

    /// The responder of one worker.
    pub fn make(&self, worker: usize) -> Box<dyn Respond> {
        (self.make)(worker)
    }

    /// Runs a worker.
    pub(crate) fn run<T: Send>(&self, serve: impl FnOnce() -> T + Send) -> T {
        let Some(around) = self.around else {
            return serve();
        };
        let (mut serve, mut result) = (Some(serve), None);
        around(&mut || result = serve.take().map(|serve| serve()));
        result.expect("a worker is run by what is around it")
    }
}

impl fmt::Debug for MakeResponder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MakeResponder")
    }
}

/// Memory that is kept from one batch to the next.
const KEPT_BYTES: usize = 1 << 20;

/// The outcomes of a batch and the bytes of its replies, in memory that is reused.
#[derive(Debug, Default)]
pub struct Replies {
    bytes: Vec<u8>,
    outcomes: Vec<(Outcome, usize)>,
    /// Of the server that wants them.
    orders: Option<Arc<Orders>>,
}

impl Replies {
    /// Forgets all.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.outcomes.clear();
    }

    /// Sets the control that [`Replies::is_over`] checks.
    pub(crate) fn heed(&mut self, orders: Arc<Orders>) {
        self.orders = Some(orders);
    }

    /// True once the server must end now: leave the remaining requests unanswered. Costs one
    /// load while the server is not stopping.
    pub fn is_over(&self) -> bool {
        let orders = self.orders.as_ref();
        orders.is_some_and(|orders| orders.is_over())
    }

    /// How many requests have an outcome.
    pub fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// True when none has.
    pub fn is_empty(&self) -> bool {
        self.outcomes.is_empty()
    }

    /// Answers with `data`.
    pub fn reply(&mut self, data: &[u8]) {
        self.reply_with(|bytes| bytes.extend_from_slice(data));
    }

    /// Answers with what `write` appends.
    pub fn reply_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.outcomes.push((Outcome::Reply, self.bytes.len()));
    }

    /// Answers with an error.
    pub fn error(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
        self.outcomes.push((Outcome::Error, self.bytes.len()));
    }

    /// Ends a request without bytes.
    pub fn end(&mut self, outcome: Outcome) {
        self.outcomes.push((outcome, self.bytes.len()));
    }

    /// The outcome of a request and the bytes of its reply, which are none but for
    /// [`Outcome::Reply`], [`Outcome::Error`], [`Outcome::Close`] and [`Outcome::Reset`].
    pub fn get(&self, index: usize) -> (Outcome, &[u8]) {
        let start = index.checked_sub(1).map_or(0, |last| self.outcomes[last].1);
        let (outcome, end) = self.outcomes[index];
        (outcome, &self.bytes[start..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a responder says to these, in one batch, from 192.0.2.1:4711 to 192.0.2.2:7.
    pub(super) fn ask(responder: &mut dyn Respond, data: &[&[u8]]) -> Vec<(Outcome, Vec<u8>)> {
        ask_from(responder, "192.0.2.1:4711", "192.0.2.2:7", data)
    }

    pub(super) fn ask_from(
        responder: &mut dyn Respond,
        peer: &str,
        local: &str,
        data: &[&[u8]],
    ) -> Vec<(Outcome, Vec<u8>)> {
        let (peer, local) = (peer.parse().unwrap(), local.parse().unwrap());
        let requests: Vec<_> = data
            .iter()
            .map(|data| Request { data, peer, local })
            .collect();
        let mut replies = Replies::default();
        responder.respond(&requests, &mut replies);
        assert_eq!(replies.len(), requests.len(), "one outcome a request");
        (0..replies.len())
            .map(|index| {
                let (outcome, reply) = replies.get(index);
                (outcome, reply.to_vec())
            })
            .collect()
    }

    #[test]
    fn every_error_reply_is_known_as_one() {
        for reply in [INVALID_ENCODING, UNKNOWN_COMMAND] {
            assert!(is_error_reply(reply));
            assert!(is_error_reply(&[reply, b"\r\n"].concat()));
        }
        for data in [&b""[..], b"Error", b"hello", b"Unknown commands"] {
            assert!(!is_error_reply(data));
        }
    }

    #[test]
    fn each_request_gets_its_own_bytes() {
        let mut replies = Replies::default();
        replies.reply(b"one");
        replies.end(Outcome::Silence);
        replies.error(b"two");
        replies.reply(b"");
        replies.end(Outcome::Later(7));
        assert_eq!(replies.len(), 5);
        assert_eq!(replies.get(0), (Outcome::Reply, &b"one"[..]));
        assert_eq!(replies.get(1), (Outcome::Silence, &b""[..]));
        assert_eq!(replies.get(2), (Outcome::Error, &b"two"[..]));
        assert_eq!(replies.get(3), (Outcome::Reply, &b""[..]));
        assert_eq!(replies.get(4), (Outcome::Later(7), &b""[..]));
        replies.clear();
        assert!(replies.is_empty());
    }
}
