//! What is done with datagrams: protocols, without I/O, the time handed in.
//!
//! A driver owns an endpoint and a protocol, and brings them together: the server's on a thread
//! of its own, the client's on its caller's, [`simulated`] where there is no network at all.
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

/// How far a protocol came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// It is through with what it was given.
    Done,
    /// It took so many datagrams, and is to be called again, with the others, once what is in
    /// the outbox is sent.
    More(usize),
}

/// What a protocol waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pending {
    /// Datagrams that it holds until their time has come: [`Protocol::deadline_ns`].
    pub held: usize,
    /// Datagrams whose answers were promised, and wake the driver when they come.
    pub promised: usize,
}

/// What is done with datagrams. One worker's, so it need not be shared.
///
/// Times are nanoseconds since the driver's start.
pub trait Protocol: Send {
    /// These came. Each is answered by the outbox, consumed or dropped there, held, or promised.
    fn on_batch(&mut self, now_ns: u64, batch: &Batch<'_>, out: &mut Outbox) -> Progress;

    /// When [`Protocol::on_time`] is to be called at the latest; `None`: not for the time's sake.
    fn deadline_ns(&self) -> Option<u64> {
        None
    }

    /// The deadline has come, the driver was woken, or a batch was served. Whoever has not
    /// passed its deadline yet finds nothing to do.
    fn on_time(&mut self, now_ns: u64, out: &mut Outbox) -> Progress {
        let _ = (now_ns, out);
        Progress::Done
    }

    /// When a send left, where the driver is told: see [`crate::client::Driver::report_times`].
    fn on_sent(&mut self, sent: Sent) {
        let _ = sent;
    }

    /// Whether it goes on in spite of an error of the socket. A client's driver asks before it ends
    /// with one; a server goes on by itself, and counts.
    ///
    /// ECONNREFUSED: nothing listened at the peer when an earlier datagram came there; what is in
    /// the outbox still goes. EMSGSIZE: a datagram, or each of a train, was longer than the path
    /// takes, or the network said so of an earlier one. Of others (ENOBUFS: the device's queue is
    /// full; EPERM: a packet filter; ENETUNREACH, EHOSTUNREACH: no route) what was to go is lost.
    /// So it is asked once a datagram at most, and may send again only by its deadline.
    fn tolerates(&mut self, error: &std::io::Error) -> bool {
        let _ = error;
        false
    }

    /// Whether it needs the time, and [`Protocol::on_time`].
    fn is_timed(&self) -> bool {
        true
    }

    /// Whether it runs code of a user's, who may ask for the statistics there, or not return.
    fn calls_out(&self) -> bool {
        false
    }

    /// Whether all that it sends is what came, to who sent it, within its batch.
    fn only_echoes(&self) -> bool {
        false
    }

    /// What it waits for.
    fn pending(&self) -> Pending {
        Pending::default()
    }
}

/// Makes the protocol of each worker, by its number.
#[derive(Clone)]
pub struct MakeProtocol(std::sync::Arc<dyn Fn(usize) -> Box<dyn Protocol> + Send + Sync>);

impl MakeProtocol {
    /// From a function of the worker's number.
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
