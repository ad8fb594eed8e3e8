//! What happened, from the workers to the log: a bounded queue that never makes
//! a worker wait.
//!
//! Two lanes. Frequent events (a datagram, a connection) go through a fixed ring and are
//! dropped and counted when the log is too slow. Rare ones (a server stopped, a worker failed)
//! are always kept. Both carry the time at which they happened.
//!
//! Lines that could be frequent pass a throttle (`lines.rs`). Delayed lines stay here until they are
//! due; the reader then takes them as if they had just been reported.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_queue::ArrayQueue;

use crate::sys;

mod lines;

pub(crate) use lines::{Line, Lines};

/// The level of an event, as in Python's logging.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For each datagram or connection.
    Debug,
    /// A server's life.
    Info,
    /// Something that a user should know.
    Warning,
    /// Something that does not work any more.
    Error,
}

/// One thing that happened.
#[derive(Debug, Clone)]
pub struct Event {
    /// When, in nanoseconds since 1970 (CLOCK_REALTIME).
    pub time_ns: u64,
    /// The server's URL, such as `udp://127.0.0.1:9999`.
    pub server: Arc<str>,
    /// Its number in this process: several servers may share an address (SO_REUSEPORT).
    pub server_id: u64,
    /// What.
    pub what: What,
}

/// The content of a notice, for programs: parts by name; names contain the unit.
pub type Parts = Vec<(&'static str, Part)>;

/// One part of a notice.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// A word or a sentence.
    Text(String),
    /// A whole number.
    Number(u64),
    /// A number with a fraction, as rates are.
    Real(f64),
    /// True or false.
    Flag(bool),
    /// Numbers by name, as counters are.
    Counts(Vec<(&'static str, u64)>),
}

impl From<&str> for Part {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u64> for Part {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<f64> for Part {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

impl From<bool> for Part {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<SocketAddr> for Part {
    fn from(peer: SocketAddr) -> Self {
        Self::Text(peer.to_string())
    }
}

impl From<Duration> for Part {
    fn from(time: Duration) -> Self {
        Self::Number(nanoseconds(time))
    }
}

/// What happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum What {
    /// A line about a server's life: listening, an option the kernel changed, stopped.
    Notice {
        /// Its level.
        level: Level,
        /// A short name for filters, such as `listening`.
        name: &'static str,
        /// The whole line.
        text: String,
        /// Its content, for programs.
        parts: Parts,
    },
    /// A datagram was received, or bytes of a stream.
    Received {
        /// Who sent it.
        peer: SocketAddr,
        /// How many bytes came.
        length: usize,
        /// The first of them.
        data: Box<[u8]>,
        /// Why it will not be answered; `None`: it will be.
        dropped: Option<&'static str>,
    },
    /// It was answered, or that failed.
    Answered {
        /// The peer.
        peer: SocketAddr,
        /// The length of the answer.
        length: usize,
        /// Why the answer could not be sent; `None`: it was.
        dropped: Option<&'static str>,
    },
    /// A record of the configured length (`record_bytes`) was received.
    Record {
        /// Who sent it.
        peer: SocketAddr,
        /// All of it.
        data: Box<[u8]>,
    },
    /// Data of another length was received (for a stream: the rest at its end).
    Unfit {
        /// Who sent it.
        peer: SocketAddr,
        /// How many bytes came.
        length: usize,
        /// The first of them.
        data: Box<[u8]>,
    },
    /// A connection was accepted.
    Opened {
        /// Who connected.
        peer: SocketAddr,
    },
    /// A connection ended.
    Closed {
        /// The peer.
        peer: SocketAddr,
        /// Why, as in the statistics.
        why: &'static str,
        /// Bytes received.
        received_bytes: u64,
        /// Bytes sent.
        sent_bytes: u64,
    },
}

/// The queue. One per process is enough; tests make their own.
pub struct Queue {
    ring: ArrayQueue<Event>,
    kept: Mutex<Vec<Event>>,
    /// Lines that are held back, and when the first of them is due, in nanoseconds since
    /// `start`; `u64::MAX`: none is.
    held: Mutex<Vec<Arc<dyn lines::Held>>>,
    due_ns: AtomicU64,
    start: Instant,
    dropped: AtomicU64,
    asleep: AtomicBool,
    closed: AtomicBool,
    waker: sys::Waker,
}

/// How many frequent events wait at most, by default.
pub const DEFAULT_CAPACITY: usize = 4096;

impl Queue {
    /// A queue that holds up to `capacity` frequent events.
    ///
    /// # Errors
    ///
    /// No descriptor is left to wake the reader.
    pub fn new(capacity: usize) -> std::io::Result<Self> {
        Ok(Self {
            ring: ArrayQueue::new(capacity.max(1)),
            kept: Mutex::new(Vec::new()),
            held: Mutex::new(Vec::new()),
            due_ns: AtomicU64::new(u64::MAX),
            start: Instant::now(),
            dropped: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            waker: sys::Waker::new()?,
        })
    }

    /// Adds a frequent event, or counts it as dropped. Never waits.
    pub fn try_push(&self, event: Event) {
        if self.ring.push(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        self.wake_reader();
    }

    /// Adds a rare event, which is never dropped. Takes a lock: not for hot loops.
    pub fn push(&self, event: Event) {
        self.kept().push(event);
        self.wake_reader();
    }

    fn wake_reader(&self) {
        // SeqCst on both sides: either we see that the reader sleeps, or the reader,
        // having said so, sees our event when it looks a last time.
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.waker.wake();
        }
    }

    /// Takes up to `limit` frequent events and the rare ones that happened meanwhile, in the
    /// order of their times, including delayed lines that are due. No rare event overtakes earlier
    /// events of its server: the end of a server is its last event.
    pub fn drain(&self, limit: usize) -> Vec<Event> {
        let mut due = self.take_due();
        // Taken first: what was reported before these is in the ring by now.
        let mut kept = std::mem::take(&mut *self.kept());
        let mut events: Vec<Event> = Vec::new();
        while events.len() < limit
            && let Some(event) = self.ring.pop()
        {
            events.push(event);
        }
        if events.len() == limit {
            // The ring may hold more; what is later than all of these has to wait for it.
            let last = events.iter().map(|event| event.time_ns).max().unwrap_or(0);
            let later = kept.extract_if(.., |event| event.time_ns > last);
            let mut later: Vec<Event> = later.collect();
            let mut newer = self.kept();
            later.append(&mut newer);
            *newer = later;
        }
        events.append(&mut due);
        events.append(&mut kept);
        events.sort_by_key(|event| event.time_ns);
        events
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Event>> {
        // Whole after every statement, also where one panicked that held the lock.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the reader look at what holds a line back that will be due then. The line before it
    /// has just woken the reader, which sleeps no longer than a line is held back.
    fn remind(&self, due: Duration, line: Arc<dyn lines::Held>) {
        self.held().push(line);
        self.due_ns.fetch_min(nanoseconds(due), Ordering::SeqCst);
    }

    /// The lines that were held back until now.
    fn take_due(&self) -> Vec<Event> {
        let now = self.since_start(Instant::now());
        if nanoseconds(now) < self.due_ns.load(Ordering::SeqCst) {
            return Vec::new();
        }
        self.due_ns.store(u64::MAX, Ordering::SeqCst);
        let mut held = std::mem::take(&mut *self.held());
        let events = held.iter().filter_map(|line| line.take_due(now)).collect();
        held.retain(|line| {
            let due = line.due();
            if let Some(due) = due {
                self.due_ns.fetch_min(nanoseconds(due), Ordering::SeqCst);
            }
            due.is_some()
        });
        self.held().append(&mut held);
        events
    }

    fn held(&self) -> MutexGuard<'_, Vec<Arc<dyn lines::Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This moment on the clock by which lines are due.
    fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }

    /// How long it is until a line is due that is held back.
    fn time_to_due(&self) -> Duration {
        let due = Duration::from_nanos(self.due_ns.load(Ordering::SeqCst));
        due.saturating_sub(self.since_start(Instant::now()))
    }

    /// True when there is nothing to drain.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty() && self.kept().is_empty() && !self.time_to_due().is_zero()
    }

    /// How many events were dropped since the last call.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    /// Sleeps until there is an event, a delayed line is due, the queue is closed, or `timeout` has
    /// passed. A line that is delayed meanwhile does not wake it: to write the last of a burst on
    /// time, call it with a second at most.
    pub fn wait(&self, timeout: Duration) {
        self.waker.clear();
        self.asleep.store(true, Ordering::SeqCst);
        let idle = self.is_empty() && !self.closed.load(Ordering::SeqCst);
        if idle {
            // A failing poll(2) would mean a broken queue; looking again is all there is.
            let timeout = timeout.min(self.time_to_due());
            let _ = sys::wait_readable(-1, Some(&self.waker), Some(timeout));
        }
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// Makes every later [`Queue::wait`] return at once, so the reader can finish.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    /// True after [`Queue::close`].
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Undoes [`Queue::close`], for a reader that starts after one has ended.
    pub fn reopen(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let events = self.ring.len();
        f.debug_struct("Queue").field("events", &events).finish()
    }
}

/// Where a server's events go, and how much of each payload. Cheap to ask once per batch.
#[derive(Debug)]
pub struct Observer {
    server: Arc<str>,
    id: u64,
    queue: Option<Arc<Queue>>,
    /// 0: each datagram is not of interest; n + 1: it is, with n bytes of its payload.
    access: AtomicU32,
}

/// The number of the next server.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Observer {
    /// Sends the events of `server` to `queue`, if there is one.
    pub fn new(server: &str, queue: Option<Arc<Queue>>) -> Self {
        Self {
            server: server.into(),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            queue,
            access: AtomicU32::new(0),
        }
    }

    /// Which server this is, as in `udp://127.0.0.1:9999`.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Its number in this process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Switches events for each datagram on, with this many bytes of payload, or off.
    pub fn set_access(&self, payload_bytes: Option<u32>) {
        self.access.store(
            payload_bytes.map_or(0, |n| n.saturating_add(1)),
            Ordering::Relaxed,
        );
    }

    /// How many bytes of each payload to report; `None`: no events for single datagrams.
    pub fn access(&self) -> Option<usize> {
        match self.access.load(Ordering::Relaxed) {
            0 => None,
            n if self.queue.is_some() => Some(n as usize - 1),
            _ => None,
        }
    }

    /// Reports a rare event.
    pub fn notice(&self, level: Level, name: &'static str, text: impl Into<String>) {
        self.notice_parts(level, name, text, Parts::new());
    }

    /// Reports a rare event with its parts.
    pub fn notice_parts(
        &self,
        level: Level,
        name: &'static str,
        text: impl Into<String>,
        parts: Parts,
    ) {
        if let Some(queue) = &self.queue {
            let text = text.into();
            let what = What::Notice {
                level,
                name,
                text,
                parts,
            };
            queue.push(self.event(now_ns(), what));
        }
    }

    /// Reports a frequent event that happened at `time_ns`.
    pub fn frequent(&self, time_ns: u64, what: What) {
        if let Some(queue) = &self.queue {
            queue.try_push(self.event(time_ns, what));
        }
    }

    fn event(&self, time_ns: u64, what: What) -> Event {
        Event {
            time_ns,
            server: Arc::clone(&self.server),
            server_id: self.id,
            what,
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// CLOCK_REALTIME in nanoseconds.
pub fn now_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::time::Instant;

    fn observer(capacity: usize) -> (Arc<Queue>, Observer) {
        let queue = Arc::new(Queue::new(capacity).unwrap());
        (Arc::clone(&queue), Observer::new("test", Some(queue)))
    }

    fn opened() -> What {
        What::Opened {
            peer: "127.0.0.1:7".parse().unwrap(),
        }
    }

    #[test]
    fn a_full_ring_drops_and_counts_but_keeps_what_is_rare() {
        let (queue, observer) = observer(2);
        for time in 0..5 {
            observer.frequent(time, opened());
        }
        observer.notice(Level::Info, "stopped", "stopped");
        assert_eq!(queue.drain(100).len(), 3);
        assert_eq!(queue.take_dropped(), 3);
        assert_eq!(queue.take_dropped(), 0);
    }

    #[test]
    fn events_come_in_the_order_of_their_times() {
        let (queue, observer) = observer(8);
        observer.notice(Level::Info, "later", "later");
        observer.frequent(1, opened());
        let events = queue.drain(8);
        assert_eq!(events[0].time_ns, 1);
    }

    #[test]
    fn what_is_rare_overtakes_nothing_that_happened_before_it() {
        let (queue, observer) = observer(8);
        for time in 1..=3 {
            observer.frequent(time, opened());
        }
        observer.notice(Level::Info, "stopped", "stopped");
        let is_notice = |event: &Event| matches!(event.what, What::Notice { .. });
        assert!(!queue.drain(2).iter().any(is_notice));
        let rest = queue.drain(2);
        assert_eq!(
            rest.iter().map(is_notice).collect::<Vec<_>>(),
            [false, true]
        );
        assert!(queue.is_empty());
    }

    #[test]
    fn a_sleeping_reader_is_woken() {
        let (queue, observer) = observer(8);
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let start = Instant::now();
                while queue.ring.is_empty() {
                    queue.wait(Duration::from_secs(20));
                }
                start.elapsed()
            });
            thread::sleep(Duration::from_millis(20));
            observer.frequent(1, opened());
            assert!(reader.join().unwrap() < Duration::from_secs(10));
        });
    }

    #[test]
    fn close_wakes_the_reader_for_good() {
        let (queue, _) = observer(8);
        queue.close();
        let start = Instant::now();
        queue.wait(Duration::from_secs(20));
        queue.wait(Duration::from_secs(20));
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn access_is_off_until_asked_for() {
        let (_queue, observer) = observer(8);
        assert_eq!(observer.access(), None);
        observer.set_access(Some(0));
        assert_eq!(observer.access(), Some(0));
        observer.set_access(None);
        assert_eq!(observer.access(), None);
    }
}
