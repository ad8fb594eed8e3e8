//! WHAT to answer. One file an answer; none of them knows a socket.
//!
//! A responder is asked with a whole batch, so that what it costs to get going (an
//! interpreter to attach, a clock to read) is paid once for all of it. Plain echo is not
//! here: it sends back the bytes where they lie (`server/udp/echo.rs`, `server/tcp/echo.rs`).

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

mod completions;

pub use completions::{Completed, Completions};

/// What was asked: a datagram, or of a stream a line, a record, or what was read.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Its bytes; of a line without the line's end.
    pub data: &'a [u8],
    /// Whom the server sees.
    pub peer: SocketAddr,
    /// Which address was asked, and its port; the address is unspecified (0.0.0.0, ::) where
    /// a socket that is bound to all addresses does not say.
    pub local: SocketAddr,
}

/// What is to become of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is answered.
    Reply,
    /// It is answered with an error, which must not be the answer to an error.
    Error,
    /// It is not answered, and that is how it is meant (RFC 863).
    Silence,
    /// It is not answered because answering failed.
    Failed,
    /// It will be answered later, under this ticket, by [`Completions::complete`].
    Later(u64),
}

/// Answers requests.
pub trait Respond: Send {
    /// Says what is to become of each of `requests`, in their order, by one call a request
    /// on `replies`: of all of them, or at least of the first. One that takes its time may
    /// leave the rest, for which it is asked again unless the server was told to end.
    fn respond(&mut self, requests: &[Request<'_>], replies: &mut Replies);

    /// Where its late answers come in; `None` for one that gives no tickets.
    fn completions(&self) -> Option<Arc<Completions>> {
        None
    }
}

/// stub
pub(crate) fn is_error_reply(data: &[u8]) -> bool {
    data.starts_with(b"Error: ")
}

/// Makes one responder for each worker.
#[derive(Clone)]
pub struct MakeResponder {
    make: Arc<dyn Fn(usize) -> Box<dyn Respond> + Send + Sync>,
    around: Option<Around>,
}

/// Runs a worker from its beginning to its end, with whatever its responder needs.
pub type Around = fn(&mut (dyn FnMut() + Send));

impl MakeResponder {
    /// From a function of the worker's number.
    pub fn new(make: impl Fn(usize) -> Box<dyn Respond> + Send + Sync + 'static) -> Self {
        Self {
            make: Arc::new(make),
            around: None,
        }
    }

    /// Its workers run within `around`, which calls what it is given once, on their threads.
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

/// The outcomes of a batch and the bytes of its replies, in memory that is used again.
#[derive(Debug, Default)]
pub struct Replies {
    bytes: Vec<u8>,
    outcomes: Vec<(Outcome, usize)>,
}

impl Replies {
    /// Forgets all.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.outcomes.clear();
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
    /// [`Outcome::Reply`] and [`Outcome::Error`].
    pub fn get(&self, index: usize) -> (Outcome, &[u8]) {
        let start = index.checked_sub(1).map_or(0, |last| self.outcomes[last].1);
        let (outcome, end) = self.outcomes[index];
        (outcome, &self.bytes[start..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
