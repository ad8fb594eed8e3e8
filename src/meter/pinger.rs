//! A protocol that sends probes on a schedule to one peer, and measures what comes back.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::probe::{HEADER_BYTES, Probes, Read};
use super::schedule::{Schedule, Times};
use super::session::{Arrival, Session, StampSource};
use super::window::Verdict;
use crate::datagram::{Batch, Outbox, Sent, Transmit};
use crate::proto::{Progress, Protocol};

/// How many probes that are due are sent before what came is looked at: a schedule that was held
/// up does not keep replies waiting, which would make them look late.
const MOST_AT_ONCE: usize = 16;

/// What is to be sent.
#[derive(Debug, Clone)]
pub struct Plan {
    /// When each probe is to be sent.
    pub schedule: Schedule,
    /// The number of probes; `None`: any.
    pub count: Option<u64>,
    /// Probes that are due within this time, in nanoseconds; `None`: without end.
    pub duration_ns: Option<u64>,
    /// How long a reply is waited for, in nanoseconds.
    pub wait_ns: u64,
    /// The length of each probe.
    pub length_bytes: usize,
    /// Use the kernel's times where it tells them.
    pub wants_kernel: bool,
    /// Poll for replies and for the time of the next probe rather than sleep.
    pub spins: bool,
}

/// What became of one probe, or of what came instead of its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// The reply.
    Reply {
        /// The probe's number, from 0 on.
        sequence: u64,
        /// From the start of the run to its send.
        sent_ns: u64,
        /// Its round-trip time.
        rtt_ns: u64,
        /// By which clock.
        source: StampSource,
        /// How many bytes came.
        length_bytes: usize,
        /// The hop limit with which it came; 0: not told.
        hop_limit: u8,
    },
    /// No reply came in time.
    Lost {
        /// The probe's number.
        sequence: u64,
        /// From the start of the run to its send.
        sent_ns: u64,
    },
    /// A reply to a probe that was given up.
    Late(u64),
    /// Another reply to a probe that has one.
    Duplicate(u64),
    /// An echo whose bytes are not those of its probe.
    Corrupt(u64),
}

/// What others see of a run while it goes on.
#[derive(Debug)]
pub struct Watched {
    state: Mutex<State>,
    news: Condvar,
    is_stopping: AtomicBool,
}

#[derive(Debug)]
struct State {
    session: Session,
    samples: VecDeque<Sample>,
    /// How many samples are kept until they are taken.
    room: usize,
    /// Samples that had no room.
    left_out: u64,
    has_ended: bool,
    elapsed_ns: u64,
    /// Errors of the network that came instead of replies, as in ECONNREFUSED, and the last.
    network_errors: u64,
    last_error: Option<i32>,
}

impl State {
    fn add(&mut self, sample: Sample) {
        if self.samples.len() < self.room {
            self.samples.push_back(sample);
        } else {
            self.left_out += u64::from(self.room > 0);
        }
    }
}

impl Watched {
    /// No more probes are sent from now on; replies to those that were are still waited for.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    /// Samples that have not been taken yet, at most `limit`; waits for one. Empty: none came in
    /// that time, or the run has ended.
    pub fn take(&self, limit: usize, timeout: Duration) -> Vec<Sample> {
        let state = self.lock();
        let waited = self.news.wait_timeout_while(state, timeout, |state| {
            state.samples.is_empty() && !state.has_ended
        });
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let count = limit.min(state.samples.len());
        state.samples.drain(..count).collect()
    }

    /// Looks at what was found so far: the session, nanoseconds since the first probe, samples
    /// that had no room, errors of the network, and the last of those.
    pub fn look<T>(&self, look: impl FnOnce(&Session, u64, u64, u64, Option<i32>) -> T) -> T {
        let state = self.lock();
        look(
            &state.session,
            state.elapsed_ns,
            state.left_out,
            state.network_errors,
            state.last_error,
        )
    }

    /// Whether the run is over and all samples are taken.
    pub fn is_over(&self) -> bool {
        let state = self.lock();
        state.has_ended && state.samples.is_empty()
    }

    /// The run is over, whatever ended it.
    pub fn end(&self) {
        self.lock().has_ended = true;
        self.news.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole after every statement, also where one panicked that held the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The protocol. Times are the driver's.
#[derive(Debug)]
pub struct Pinger {
    plan: Plan,
    to: Transmit,
    probes: Probes,
    times: Times,
    /// When the next probe is to be sent.
    next: Option<u64>,
    watched: Arc<Watched>,
    start_ns: Option<u64>,
    /// Where the kernel's numbers of sends are those of probes: until one was refused.
    maps_sends: bool,
    buffer: Vec<u8>,
    spin_ns: u64,
}

impl Pinger {
    /// Sends by `plan`; `room` samples are kept until they are taken, 0: none is.
    pub fn new(plan: Plan, to: Transmit, room: usize) -> Self {
        let state = State {
            session: Session::new(plan.wait_ns, plan.wants_kernel),
            samples: VecDeque::new(),
            room,
            left_out: 0,
            has_ended: false,
            elapsed_ns: 0,
            network_errors: 0,
            last_error: None,
        };
        let mut times = plan.schedule.clone().times();
        Self {
            next: times.next(),
            times,
            to,
            probes: Probes::new(),
            watched: Arc::new(Watched {
                state: Mutex::new(state),
                news: Condvar::new(),
                is_stopping: AtomicBool::new(false),
            }),
            start_ns: None,
            maps_sends: true,
            buffer: Vec::with_capacity(plan.length_bytes.max(HEADER_BYTES)),
            spin_ns: 0,
            plan,
        }
    }

    /// What others see of it.
    pub fn watched(&self) -> Arc<Watched> {
        Arc::clone(&self.watched)
    }

    /// Whether all probes were sent and the fate of each is known.
    pub fn is_done(&self) -> bool {
        self.start_ns.is_some() && self.next_due().is_none() && {
            self.watched.lock().session.is_settled()
        }
    }

    /// When the next probe is due, from the start of the run.
    fn next_due(&self) -> Option<u64> {
        let watched = &self.watched;
        if watched.is_stopping.load(Ordering::Acquire) {
            return None;
        }
        let sent = watched.lock().session.next_sequence();
        if self.plan.count.is_some_and(|count| sent >= count) {
            return None;
        }
        let duration_ns = self.plan.duration_ns;
        self.next
            .filter(|due| duration_ns.is_none_or(|duration_ns| *due < duration_ns))
    }

    fn since_start(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.start_ns.unwrap_or(now_ns))
    }
}

impl Protocol for Pinger {
    fn on_batch(&mut self, now_ns: u64, batch: &Batch<'_>, _out: &mut Outbox) -> Progress {
        let now = self.since_start(now_ns);
        let mut state = self.watched.lock();
        for datagram in batch.datagrams() {
            let came = &datagram.message.came;
            let sample = match self.probes.read(datagram.data, self.plan.length_bytes) {
                Read::Foreign => {
                    state.session.foreign();
                    continue;
                }
                Read::Corrupt(sequence) => {
                    state.session.corrupt();
                    Sample::Corrupt(sequence)
                }
                Read::Ours(sequence) => {
                    let arrival = Arrival {
                        user_ns: now,
                        kernel_ns: came.kernel_ns,
                        at_peer_ns: 0,
                    };
                    match state.session.reply(sequence, arrival) {
                        Ok(answer) => Sample::Reply {
                            sequence,
                            sent_ns: answer.probe.sent_ns,
                            rtt_ns: answer.rtt_ns,
                            source: answer.source,
                            length_bytes: datagram.data.len(),
                            hop_limit: came.hop_limit,
                        },
                        Err(Verdict::Late) => Sample::Late(sequence),
                        Err(Verdict::Duplicate) => Sample::Duplicate(sequence),
                        Err(_) => continue,
                    }
                }
            };
            state.add(sample);
        }
        drop(state);
        self.watched.news.notify_all();
        Progress::Done
    }

    fn deadline_ns(&self) -> Option<u64> {
        if self.plan.spins {
            return Some(self.spin_ns);
        }
        let Some(start) = self.start_ns else {
            return Some(0);
        };
        let give_up = self.watched.lock().session.deadline_ns();
        let next = [self.next_due(), give_up].into_iter().flatten().min()?;
        Some(start.saturating_add(next))
    }

    fn on_time(&mut self, now_ns: u64, out: &mut Outbox) -> Progress {
        self.spin_ns = now_ns;
        self.start_ns.get_or_insert(now_ns);
        let now = self.since_start(now_ns);
        let mut sent = 0;
        while let Some(due) = self.next_due().filter(|due| *due <= now) {
            if sent == MOST_AT_ONCE {
                return Progress::More(0);
            }
            self.next = self.times.next();
            let sequence = self.watched.lock().session.send(due, now);
            self.buffer.clear();
            self.probes
                .write(sequence, self.plan.length_bytes, &mut self.buffer);
            out.send(self.to, &self.buffer);
            sent += 1;
        }
        let mut state = self.watched.lock();
        let State {
            session, samples, ..
        } = &mut *state;
        let (before, mut lost) = (samples.len(), Vec::new());
        session.settle(now, |probe| lost.push((probe.sequence, probe.sent_ns)));
        for (sequence, sent_ns) in lost {
            state.add(Sample::Lost { sequence, sent_ns });
        }
        state.elapsed_ns = now;
        let has_news = state.samples.len() > before;
        drop(state);
        if has_news {
            self.watched.news.notify_all();
        }
        Progress::Done
    }

    fn on_sent(&mut self, sent: Sent) {
        if self.maps_sends && self.plan.wants_kernel {
            let mut state = self.watched.lock();
            // 32 bits of the kernel's count: that of the probes is never 2³² ahead.
            let behind = (state.session.next_sequence() as u32).wrapping_sub(sent.number);
            if let Some(sequence) = state.session.next_sequence().checked_sub(behind.into()) {
                state.session.left(sequence, sent.kernel_ns);
            }
        }
    }

    fn tolerates(&mut self, error: &io::Error) -> bool {
        let errno = error.raw_os_error();
        let mut state = self.watched.lock();
        state.network_errors += 1;
        state.last_error = errno;
        // That of an earlier datagram: nothing was refused. Anything else took a probe with it,
        // which will count as lost; the kernel may not have counted it.
        self.maps_sends &= errno == Some(libc::ECONNREFUSED);
        matches!(
            errno,
            Some(
                libc::ECONNREFUSED
                    | libc::EHOSTUNREACH
                    | libc::ENETUNREACH
                    | libc::ENOBUFS
                    | libc::EPERM
            )
        )
    }
}
