//! A client that moves large messages: docs/transfer.md, on its caller's thread.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::driver::Driver;
use super::ends::Ends;
use super::patience::Patience;
use crate::address::Family;
use crate::datagram::{Batch, Outbox};
use crate::error::{Error, Result};
use crate::net::choice::EngineChoice;
use crate::proto::{Progress, Protocol};
use crate::socket::{SocketOptions, SocketReport};
use crate::transfer::asking::{self, Pull, Pulling, Push, Reached};
use crate::transfer::cookie::random_id;
use crate::transfer::plain::{PlainSending, SendSettings};
use crate::transfer::sender::{Figures, Sender, Sending};
use crate::transfer::store::{Name, Source, Storage};
use crate::transfer::wire::Cookie;
use crate::transfer::{Failure, Reason, longest_payload};

/// The default buffer size to request; the kernel grants what its ceiling allows.
const BUFFER_BYTES: usize = 4 << 20;

/// The assumed MTU of an unknown path: Ethernet's.
const UNKNOWN_MTU: u32 = 1_500;

/// How long the other side is told of the end that somebody made.
const FAREWELL: Duration = Duration::from_millis(100);

/// Why a message did not arrive.
#[derive(Debug)]
pub enum Failed {
    /// The transfer's reason.
    Transfer(Failure),
    /// The socket's error, or that the caller gave up.
    Socket(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Socket(error)
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self::Transfer(failure)
    }
}

/// How a message is sent or fetched.
#[derive(Debug, Clone)]
pub struct Terms {
    /// None: a message without a name; when fetching, an echo.
    pub name: Name,
    /// True: may replace a file that has the name there.
    pub replaces: bool,
    /// The longest time in total; `None`: as long as there is progress.
    pub timeout: Option<Duration>,
    /// The longest time without progress.
    pub progress_timeout: Duration,
    /// The maximum speed; `None`: unlimited.
    pub bytes_per_second: Option<u64>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            name: Name::none(),
            replaces: false,
            timeout: None,
            progress_timeout: Duration::from_secs(10),
            bytes_per_second: None,
        }
    }
}

/// Called ten times per second and at the end with the bytes that have arrived and their total;
/// returns true to give up.
pub type Watch<'a> = dyn Fn(u64, Option<u64>) -> bool + 'a;

/// A message that arrived.
#[derive(Debug, Clone, Copy)]
pub struct Moved {
    /// The transfer's id, which fetches its echo.
    pub id: u64,
    /// The statistics of the transfer.
    pub figures: Figures,
    /// The time from the first packet to the last.
    pub duration: Duration,
}

/// A connected UDP socket that sends and fetches large messages, one at a time.
#[derive(Debug)]
pub struct TransferClient {
    driver: Driver,
    /// What the peer gave the last time: it serves again.
    cookie: Mutex<Cookie>,
}

impl TransferClient {
    /// Resolves `host`, IPv4 first, and connects. Nothing is sent.
    ///
    /// # Errors
    ///
    /// A name that does not resolve, an option that the kernel refuses, no route.
    pub fn connect(
        host: &str,
        port: u16,
        family: Family,
        options: &SocketOptions,
        engine: EngineChoice,
    ) -> Result<Self> {
        let mut options = options.clone();
        let buffer = options.recv_buffer_bytes;
        options.recv_buffer_bytes = buffer.or(Some(BUFFER_BYTES));
        let driver = Driver::connect(host, port, family, &options)?.with_engine(engine)?;
        if cfg!(target_os = "linux") {
            driver.forbid_fragments()?;
        }
        Ok(Self {
            driver,
            cookie: Mutex::default(),
        })
    }

    /// Both addresses.
    pub fn ends(&self) -> &Ends {
        self.driver.ends()
    }

    /// The engine that it uses.
    pub fn engine(&self) -> &'static str {
        self.driver.engine()
    }

    /// What each socket option was requested and granted.
    pub fn report(&self) -> SocketReport {
        self.driver.report()
    }

    fn now_ns(&self) -> u64 {
        self.driver.now_ns()
    }

    /// Sends a message; returns once the receiver has verified and stored all of it.
    ///
    /// # Errors
    ///
    /// Why it did not arrive, or that it may not have.
    pub fn send(
        &self,
        source: Box<dyn Source>,
        terms: &Terms,
        watch: &Watch<'_>,
    ) -> std::result::Result<Moved, Failed> {
        let began = Instant::now();
        let settings = Sending {
            name: terms.name.clone(),
            replaces: terms.replaces,
            progress_timeout_ns: nanoseconds(terms.progress_timeout),
            bytes_per_second: terms.bytes_per_second,
            max_datagram_bytes: longest_payload(
                self.driver.path_mtu().unwrap_or(UNKNOWN_MTU) as usize,
                self.ends().peer,
            ),
        };
        let id = self.new_id()?;
        let to = Driver::to_peer();
        let mut sender = Sender::new(id, to, source, settings, self.now_ns());
        sender.set_cookie(*self.cookie());
        let mut push = Push::new(sender);
        let reached = push.reached();
        let is_done = |push: &Push| push.outcome().is_some();
        self.run(&mut push, is_done, Push::give_up, &reached, terms, watch)?;
        *self.cookie() = push.sender().cookie();
        let figures = push.outcome().unwrap_or_else(|| Err(unfinished()))?;
        watch(figures.length, Some(figures.length));
        Ok(Moved {
            id: push.sender().id(),
            figures,
            duration: began.elapsed(),
        })
    }

    /// Fetches the message with this name into the place that `storage` opens for it; without a name,
    /// the message that was sent from here as `echo`.
    ///
    /// # Errors
    ///
    /// Why it did not arrive.
    pub fn fetch(
        &self,
        storage: Arc<dyn Storage>,
        echo: Option<u64>,
        terms: &Terms,
        watch: &Watch<'_>,
    ) -> std::result::Result<Moved, Failed> {
        let began = Instant::now();
        let buffer_bytes = self.driver.recv_buffer_bytes() / 2;
        let what = Pulling {
            id: echo.map_or_else(|| self.new_id(), Ok)?,
            name: terms.name.clone(),
            progress_timeout_ns: nanoseconds(terms.progress_timeout),
            buffer_bytes: u32::try_from(buffer_bytes).unwrap_or(u32::MAX),
        };
        let (id, to, peer) = (what.id, Driver::to_peer(), self.ends().peer);
        let mut pull = Pull::new(what, to, peer, storage, self.now_ns());
        let reached = pull.reached();
        let is_done = |pull: &Pull| pull.outcome().is_some();
        self.run(&mut pull, is_done, Pull::give_up, &reached, terms, watch)?;
        let outcome = pull.outcome().cloned();
        let figures = outcome.unwrap_or_else(|| Err(unfinished()))?;
        watch(figures.length, Some(figures.length));
        Ok(Moved {
            id,
            figures,
            duration: began.elapsed(),
        })
    }

    /// Runs a transfer to its end; where its caller gives it up, or its time is over, the other
    /// side is told.
    fn run<P: Protocol>(
        &self,
        protocol: &mut P,
        is_done: impl Fn(&P) -> bool,
        give_up: impl FnOnce(&mut P, Failure),
        reached: &Reached,
        terms: &Terms,
        watch: &Watch<'_>,
    ) -> std::result::Result<(), Failed> {
        let gives_up = || {
            let (done, length) = reached.get();
            watch(done, length)
        };
        let patience = Patience::new(terms.timeout, &gives_up);
        let Err(error) = self.driver.run(protocol, &is_done, patience) else {
            return Ok(());
        };
        if is_done(protocol) {
            return Ok(());
        }
        let failure = match error.is_timeout() {
            true => Failure::new(Reason::TimedOut, over(terms, reached)),
            false => Failure::new(Reason::Cancelled, "cancelled"),
        };
        give_up(protocol, failure.clone());
        let patience = Patience::new(Some(FAREWELL), &|| false);
        // Who is not there to be told is told by its own timeout.
        let _ = self.driver.run(protocol, is_done, patience);
        match error.is_timeout() {
            true => Err(failure.into()),
            false => Err(error.into()),
        }
    }

    fn new_id(&self) -> Result<u64> {
        let drawn = random_id();
        drawn.map_err(|error| Error::system("draw a number for", &self.ends().name, &error))
    }

    fn cookie(&self) -> std::sync::MutexGuard<'_, Cookie> {
        self.cookie.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn over(terms: &Terms, reached: &Reached) -> String {
    let (done, length) = reached.get();
    let of = length.map_or_else(String::new, |length| format!(" of {length}"));
    let limit = terms.timeout.unwrap_or_default();
    format!(
        "{done}{of} bytes had arrived within {limit:?}: give it more time, or try again to go on"
    )
}

/// The driver ends no run before its protocol.
fn unfinished() -> Failure {
    Failure::new(Reason::Cancelled, "it was not finished")
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2)
}

/// A plain sender, with how far it is for other threads.
struct Watched {
    sending: PlainSending,
    reached: Reached,
}

impl Protocol for Watched {
    fn on_batch(&mut self, now_ns: u64, batch: &Batch<'_>, out: &mut Outbox) -> Progress {
        self.sending.on_batch(now_ns, batch, out)
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.sending.deadline_ns()
    }

    fn on_time(&mut self, now_ns: u64, out: &mut Outbox) -> Progress {
        let progress = self.sending.on_time(now_ns, out);
        let length = Some(self.sending.length());
        self.reached.set(self.sending.sent_bytes(), length);
        progress
    }

    fn tolerates(&mut self, error: &std::io::Error) -> bool {
        // Nobody listens: with nothing acknowledged, that is all that is ever heard of it.
        let is_refused = error.raw_os_error() == Some(libc::ECONNREFUSED);
        !is_refused && asking::is_passing(error)
    }
}

impl TransferClient {
    /// Sends a message in the tutorial's format, which cannot report whether it arrived.
    ///
    /// # Errors
    ///
    /// A message that the format cannot represent (empty, or of unknown length); the socket's errors.
    pub fn send_plain(
        &self,
        source: Box<dyn Source>,
        settings: &SendSettings,
        terms: &Terms,
        watch: &Watch<'_>,
    ) -> std::result::Result<Moved, Failed> {
        let began = Instant::now();
        let sending = PlainSending::new(settings, Driver::to_peer(), source)?;
        let reached = Reached::default();
        let mut watched = Watched {
            sending,
            reached: reached.clone(),
        };
        let is_done = |watched: &Watched| watched.sending.outcome().is_some();
        self.run(&mut watched, is_done, |_, _| {}, &reached, terms, watch)?;
        let outcome = watched.sending.outcome().cloned();
        let sent = outcome.unwrap_or_else(|| Err(unfinished()))?;
        watch(sent.length, Some(sent.length));
        Ok(Moved {
            id: 0,
            figures: Figures {
                length: sent.length,
                sent_packets: sent.chunks.into(),
                sent_bytes: sent.length + 4 * u64::from(sent.chunks) + 4,
                chunk_bytes: settings.chunk_bytes as u64,
                ..Figures::default()
            },
            duration: began.elapsed(),
        })
    }
}
