//! Protocols: what is done with datagrams, without I/O, with the time passed in.
//!
//! A driver owns an endpoint and a protocol, and connects them: the server's driver on its own
//! thread, the client's on its caller's, and [`simulated`] without a network.
//!
//! ```text
//! receive → on_batch ─┐                     deadline() or a wake-up → on_time ─┐
//!                     └→ Outbox → send                                         └→ Outbox → send
//! ```

mod broadcast;
mod echo;
mod exchange;
mod impair;
mod respond;
pub mod simulated;

use crate::datagram::Sent;
pub use crate::datagram::{Batch, Datagram, Outbox};
pub use broadcast::Broadcast;
pub(crate) use broadcast::BroadcastRate;
pub use echo::Echo;
pub use exchange::Exchange;
pub(crate) use impair::{Impaired, Lines};
pub use respond::Responding;

/// How far a protocol got with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// All of it.
    Done,
    /// This many datagrams. Call it again with the others after sending the outbox.
    More(usize),
}

/// What a protocol still waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pending {
    /// Datagrams that it delays until their time: [`Protocol::deadline_ns`].
    pub held: usize,
    /// Datagrams with promised answers, which wake the driver when they are ready.
    pub promised: usize,
}

/// Decides what to do with datagrams. Each worker has its own, so it need not be `Sync`.
///
/// Times are nanoseconds since the driver's start.
pub trait Protocol: Send {
    /// Handles received datagrams. It answers, consumes or drops each through the outbox, delays it, or
    /// promises an answer.
    fn on_batch(&mut self, now_ns: u64, batch: &Batch<'_>, out: &mut Outbox) -> Progress;

    /// The latest time to call [`Protocol::on_time`]; `None`: no deadline.
    fn deadline_ns(&self) -> Option<u64> {
        None
    }

    /// Called when the deadline has come, the driver was woken, or a batch was served. Before its
    /// deadline, a protocol finds nothing to do here.
    fn on_time(&mut self, now_ns: u64, out: &mut Outbox) -> Progress {
        let _ = (now_ns, out);
        Progress::Done
    }

    /// Called with the time at which a send left, if the driver reports it: see
    /// [`crate::client::Driver::report_times`].
    fn on_sent(&mut self, sent: Sent) {
        let _ = sent;
    }

    /// True: it continues in spite of this error of the socket. A client's driver asks before it
    /// ends with the error; a server always continues, and counts it.
    ///
    /// ECONNREFUSED: nothing listened at the peer when an earlier datagram arrived; the outbox is
    /// still sent. EMSGSIZE: a datagram, or each of a train, was longer than the path allows, or the
    /// network said so about an earlier one. With other errors (ENOBUFS: the device's queue is
    /// full; EPERM: a packet filter; ENETUNREACH, EHOSTUNREACH: no route) the datagram is lost.
    /// So this is called at most once per datagram, and the protocol may send again only at its
    /// deadline.
    fn tolerates(&mut self, error: &std::io::Error) -> bool {
        let _ = error;
        false
    }

    /// True: it needs the time, and [`Protocol::on_time`].
    fn is_timed(&self) -> bool {
        true
    }

    /// True: it runs a user's code, which may read the statistics, or not return.
    fn calls_out(&self) -> bool {
        false
    }

    /// True: it only sends received bytes back to their senders, within their batch.
    fn only_echoes(&self) -> bool {
        false
    }

    /// What it still waits for.
    fn pending(&self) -> Pending {
        Pending::default()
    }
}

/// Makes the protocol of each worker, by its number.
#[derive(Clone)]
pub struct MakeProtocol(std::sync::Arc<dyn Fn(usize) -> Box<dyn Protocol> + Send + Sync>);

impl MakeProtocol {
    /// Makes it by a function of the worker's number.
    pub fn new(make: impl Fn(usize) -> Box<dyn Protocol> + Send + Sync + 'static) -> Self {
        Self(std::sync::Arc::new(make))
    }

    /// The protocol of one worker.
    pub fn make(&self, worker: usize) -> Box<dyn Protocol> {
        (self.0)(worker)
    }
}

impl std::fmt::Debug for MakeProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MakeProtocol")
    }
}
