//! THE DRIVER: receive → judge → protocol → send, on a thread of its own.
//!
//! The rules of the endpoint (`net/udp/endpoint.rs`) and of the echo (`proto/echo.rs`) hold
//! between them as well. Whether there is an echo or another protocol is asked once per batch.
//! Law, at any moment: see `books/udp.rs`.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::idle::Idle;
use super::judge::Judge;
use super::setting::Impairing;
use super::telling::{DropLog, Drops, Teller, tell_answered};
use crate::books::DropReason;
use crate::books::udp::{Count, Counters, Tally};
use crate::datagram::{Batch, Message, Outbox};
use crate::error::Error;
use crate::event::{self, Level, Observer};
use crate::guard::Policy;
use crate::net::udp::engine::Engine;
use crate::net::udp::waiting::Arrival;
use crate::net::udp::{Endpoint, shut_down};
use crate::proto::{Broadcast, BroadcastRate, Echo, Impaired, Lines, Progress, Protocol};
use crate::worker::{Control, Finish};

/// How long a server that ends by itself waits for what it holds back, and for answers that were
/// promised; one that is told to end is told how long that may take.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Between two looks of a worker that waits for its last answers: a second stop may say "now".
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// What a worker serves with, beside its endpoint.
pub(super) struct Service {
    pub(super) observer: Arc<Observer>,
    pub(super) judge: Judge,
    pub(super) policy: Policy,
    /// Answers what was sent to a broadcast address.
    pub(super) broadcast: Option<(Broadcast, Arc<BroadcastRate>)>,
    /// What is impaired; may change at any time.
    pub(super) impairing: Arc<Impairing>,
    /// How long a sleep lasts that ends without a datagram.
    pub(super) sleep_time: Option<Duration>,
    /// The user asked for receives that time out.
    pub(super) counts_timeouts: bool,
    pub(super) idle: Option<Idle>,
    pub(super) stop_on_empty: bool,
    pub(super) record_bytes: Option<usize>,
}

/// The protocol, with its impairments where it has any.
enum Serving {
    Plain(Box<dyn Protocol>),
    Impaired(Box<Impaired>),
}

impl Serving {
    /// Leaves an echo in its place, for a moment.
    fn take(&mut self) -> Self {
        std::mem::replace(self, Serving::Plain(Box::new(Echo)))
    }

    fn protocol(&mut self) -> &mut dyn Protocol {
        match self {
            Serving::Plain(protocol) => &mut **protocol,
            Serving::Impaired(impaired) => &mut **impaired,
        }
    }
}

/// What does not change between two changes of what is impaired.
#[derive(Clone, Copy, Default)]
struct Nature {
    is_timed: bool,
    calls_out: bool,
    only_echoes: bool,
}

/// One worker: its endpoint, its protocol, and memory that every batch uses again.
pub(super) struct Worker<'a, E> {
    endpoint: Endpoint<E>,
    service: Service,
    serving: Serving,
    nature: Nature,
    /// The state of what is impaired that `serving` has.
    generation: u32,
    messages: Vec<Message>,
    outbox: Outbox,
    books: Books<'a>,
    control: &'a Control,
}

/// Where a worker counts, and tells of what it drops.
struct Books<'a> {
    counters: &'a Counters,
    drop_log: DropLog,
    observer: Arc<Observer>,
}

impl Books<'_> {
    /// Publishes a batch, and tells of what is dropped in it before that is forgotten.
    fn publish(&self, tally: &mut Tally) {
        self.tell_drops(tally);
        tally.publish(self.counters);
    }

    fn tell_drops(&self, tally: &Tally) {
        if let Some((dropped, last)) = tally.drops()
            && let Some(drops) = Drops::new(&dropped, last.and_then(|peer| peer.to_std()))
        {
            self.drop_log.add(Instant::now(), |all| all.add(&drops));
        }
    }
}

impl Drop for Books<'_> {
    fn drop(&mut self) {
        // Also after a panic: nobody may wait for this worker any more.
        self.counters.release();
    }
}

impl<'a, E: Engine> Worker<'a, E> {
    pub(super) fn new(
        endpoint: Endpoint<E>,
        service: Service,
        protocol: Box<dyn Protocol>,
        counters: &'a Counters,
        control: &'a Control,
    ) -> Self {
        let observer = Arc::clone(&service.observer);
        let mut worker = Self {
            endpoint,
            serving: Serving::Plain(protocol),
            nature: Nature::default(),
            generation: 0,
            messages: Vec::new(),
            outbox: Outbox::new(service.policy.clone()),
            service,
            books: Books {
                counters,
                drop_log: DropLog::new(Arc::clone(&observer), Drops::line),
                observer,
            },
            control,
        };
        worker.watch_loops();
        worker.take_up_impairments();
        worker
    }

    /// Has the socket tell what the guard needs.
    fn watch_loops(&mut self) {
        if !self.service.judge.guard.needs_hop_limits() {
            return;
        }
        let (own, done) = self.endpoint.report_hop_limits();
        self.service.judge.guard.watch(own);
        if let Err(error) = done {
            // No fallback in silence: what is left is the bound on repeats, off loopback.
            let observer = &self.books.observer;
            let text = format!(
                "cannot tell hop limits on {}: {error}; loops with other servers are bounded off \
                 loopback only",
                observer.server()
            );
            observer.notice(Level::Warning, "no_hop_limits", text);
        }
    }

    // --- the loop -----------------------------------------------------------------------

    /// Serves until told to stop, or until it cannot go on.
    pub(super) fn run(mut self) -> Finish {
        self.endpoint.sharpen_timers();
        let server = self.books.observer.server().to_owned();
        match self.serve() {
            Ok(finish) => {
                self.wait_for_last_answers();
                finish
            }
            Err(error) if error.raw_os_error() == Some(libc::ESHUTDOWN) => {
                Finish::Failed(shut_down("serve on", &server))
            }
            Err(error) => Finish::Failed(Error::system("receive on", &server, &error)),
        }
    }

    fn serve(&mut self) -> io::Result<Finish> {
        loop {
            let due = self.deadline();
            match self.endpoint.receive(self.control, due)? {
                Arrival::Messages(count) => {
                    if let Some(idle) = &mut self.service.idle {
                        idle.end_silence();
                    }
                    if self.serve_batch(count) {
                        return Ok(Finish::Empty);
                    }
                }
                Arrival::TimedOut => {
                    if self.time_out() {
                        return Ok(Finish::Idle);
                    }
                }
                Arrival::Due => self.serve_time(),
                Arrival::Woken => {
                    self.endpoint.tell_news();
                    self.serve_time();
                }
            }
            if self.control.is_stopping() {
                return self.drain();
            }
        }
    }

    /// Nothing came in time; true: for so long that the server ends.
    fn time_out(&mut self) -> bool {
        let timeouts = u64::from(self.service.counts_timeouts);
        self.outbox.tally.add(Count::ReceiveTimeouts, timeouts);
        self.books.publish(&mut self.outbox.tally);
        let slept = self.service.sleep_time.unwrap_or_default();
        self.service
            .idle
            .as_mut()
            .is_some_and(|idle| idle.add_silence(slept))
    }

    /// Answers what is queued already, until there is nothing more or the time is over.
    fn drain(&mut self) -> io::Result<Finish> {
        while !self.control.time_left().is_zero() {
            match self.endpoint.receive_now(self.control)? {
                ControlFlow::Break(()) => break,
                ControlFlow::Continue(count) => drop(self.serve_batch(count)),
            }
            if self.endpoint.is_blocked() {
                // More of the same would only take time.
                break;
            }
        }
        Ok(Finish::Stopped)
    }

    /// Serves what one receive has without waiting; how many messages that was.
    pub(super) fn serve_once(&mut self) -> io::Result<usize> {
        match self.endpoint.receive_now(self.control)? {
            ControlFlow::Break(()) => Err(io::ErrorKind::WouldBlock.into()),
            ControlFlow::Continue(count) => {
                self.serve_batch(count);
                Ok(count)
            }
        }
    }

    // --- one batch ----------------------------------------------------------------------

    /// Serves `count` messages; true if one of them ends the server.
    fn serve_batch(&mut self, count: usize) -> bool {
        if self.service.impairing.has_changed(self.generation) {
            self.take_up_impairments();
        }
        self.begin();
        let (mut trains, mut ends) = (0, false);
        self.messages.clear();
        for slot in 0..count {
            let tally = &mut self.outbox.tally;
            let message = self.service.judge.take(&mut self.endpoint, slot, tally);
            trains += usize::from(message.came.segment_bytes > 0);
            ends |= message.admitted_bytes == Some(0);
            self.messages.push(message);
        }
        // Told before it is answered: whoever has the reply finds it told.
        self.tell_received();
        let sends = self.answer();
        self.endpoint.learn(count, trains, sends);
        self.books.publish(&mut self.outbox.tally);
        ends && self.service.stop_on_empty
    }

    /// Serves what needs no datagram: answers that came late, what is due now.
    #[cold]
    fn serve_time(&mut self) {
        if self.service.impairing.has_changed(self.generation) {
            self.take_up_impairments();
        }
        if self.nature.is_timed {
            self.begin();
            self.pass_time();
            self.books.publish(&mut self.outbox.tally);
        }
    }

    fn begin(&mut self) {
        self.books.counters.open();
        self.endpoint.begin();
        self.service.judge.guard.begin();
    }

    /// Has the batch answered; in how many sends.
    fn answer(&mut self) -> usize {
        let (mut sends, mut taken) = (0, 0);
        loop {
            let (progress, more_sends) = self.call(Some(taken));
            sends += more_sends;
            match progress {
                Progress::Done => break,
                Progress::More(more) => {
                    assert!(more > 0, "a protocol takes at least one datagram");
                    taken += more;
                }
            }
        }
        if self.nature.is_timed {
            sends += self.pass_time();
        }
        sends
    }

    /// Has what is due sent; in how many sends.
    fn pass_time(&mut self) -> usize {
        let mut sends = 0;
        loop {
            let (progress, more_sends) = self.call(None);
            sends += more_sends;
            if progress == Progress::Done {
                return sends;
            }
        }
    }

    /// Has the protocol look at the batch, but for what it has taken, or at the time; sends what
    /// it answers, in how many sends.
    fn call(&mut self, taken: Option<usize>) -> (Progress, usize) {
        let now_ns = self.now_ns();
        let batch = Batch::of_slots(self.endpoint.slots(), &self.messages);
        let protocol = self.serving.protocol();
        let mut call = |out: &mut Outbox| match taken {
            Some(taken) => protocol.on_batch(now_ns, &batch.without(taken), out),
            None => protocol.on_time(now_ns, out),
        };
        let progress = if self.nature.calls_out {
            // Whoever asks for the statistics need not wait for it; it may be the one who asks.
            self.books.publish(&mut self.outbox.tally);
            let progress = self.control.asking(|| call(&mut self.outbox));
            self.books.counters.open();
            progress
        } else {
            call(&mut self.outbox)
        };
        (progress, self.flush())
    }

    /// Sends what is in the outbox; in how many sends.
    fn flush(&mut self) -> usize {
        if self.outbox.is_empty() {
            return 0;
        }
        if !self.nature.only_echoes {
            self.tell_guard();
        }
        let (books, only_echoes) = (&self.books, self.nature.only_echoes);
        // Of before: whoever has the reply may ask when it was sent.
        let told_ns = books.observer.access().map(|_| event::now_ns());
        let sends = self
            .endpoint
            .flush(&mut self.outbox, self.control, |tally| {
                books.tell_drops(tally);
                if only_echoes {
                    tally.publish_part(books.counters);
                } else {
                    // What is not accounted for is pending.
                    tally.publish(books.counters);
                }
            });
        if let Some(time_ns) = told_ns {
            tell_answered(&books.observer, time_ns, self.outbox.entries());
        }
        self.outbox.clear();
        sends
    }

    /// Tells the guard what is sent, where that is not what came.
    fn tell_guard(&mut self) {
        let slots = self.endpoint.slots();
        for entry in self.outbox.entries() {
            let mut offset = 0;
            for length in entry.lengths() {
                let data = self.outbox.data(slots, entry, offset, length);
                self.service.judge.guard.sent(&entry.transmit.to, data);
                offset += length;
            }
        }
    }

    fn tell_received(&mut self) {
        let access = self.books.observer.access();
        if access.is_none() && self.service.record_bytes.is_none() {
            return;
        }
        let teller = Teller::new(&self.books.observer, access, self.service.record_bytes);
        let (records, misfits) = teller.tell_all(&self.messages, self.endpoint.slots());
        self.outbox.tally.add(Count::Records, records);
        self.outbox.tally.add(Count::UnfitRecords, misfits);
    }

    // --- time, and what is impaired -----------------------------------------------------

    /// The time on the clock of all workers; stands still for a protocol that needs none.
    fn now_ns(&self) -> u64 {
        if !self.nature.is_timed {
            return 0;
        }
        u64::try_from(self.service.impairing.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn deadline(&mut self) -> Option<Instant> {
        if !self.nature.is_timed {
            return None;
        }
        let due_ns = self.serving.protocol().deadline_ns()?;
        self.service
            .impairing
            .start
            .checked_add(Duration::from_nanos(due_ns))
    }

    /// Takes up what is impaired from now on. What was held back goes on its way.
    #[cold]
    fn take_up_impairments(&mut self) {
        let (generation, setting) = self.service.impairing.get();
        self.generation = generation;
        if let Serving::Impaired(impaired) = &mut self.serving {
            impaired.replace_lines(Lines::none());
            self.begin();
            self.pass_time();
            self.books.publish(&mut self.outbox.tally);
        }
        let mut impaired = match self.serving.take() {
            Serving::Impaired(impaired) => impaired,
            Serving::Plain(protocol) => {
                let (policy, broadcast) =
                    (self.service.policy.clone(), self.service.broadcast.clone());
                Box::new(Impaired::new(protocol, policy, broadcast))
            }
        };
        let lines = setting.lines();
        let copies = lines.copies;
        impaired.replace_lines(lines);
        let mut serving = if impaired.is_needed() {
            Serving::Impaired(impaired)
        } else {
            Serving::Plain(impaired.into_inner())
        };
        let protocol = serving.protocol();
        self.nature = Nature {
            is_timed: protocol.is_timed(),
            calls_out: protocol.calls_out(),
            only_echoes: protocol.only_echoes(),
        };
        self.serving = serving;
        self.outbox.set_copies(copies);
        self.service
            .judge
            .guard
            .answers(copies, self.nature.only_echoes);
    }

    /// The worker ends: waits for what is due and for late answers as long as it may; counts the
    /// rest as dropped.
    #[cold]
    fn wait_for_last_answers(&mut self) {
        let end = Instant::now() + LAST_ANSWERS;
        loop {
            let pending = self.serving.protocol().pending();
            let now = Instant::now();
            let left = if self.control.is_stopping() {
                self.control.time_left()
            } else {
                end.saturating_duration_since(now)
            };
            let last = now.checked_add(left).unwrap_or(end);
            let due = self
                .deadline()
                .filter(|due| pending.held > 0 && *due <= last);
            if left.is_zero() || (due.is_none() && pending.promised == 0) {
                break;
            }
            let until_due = due.map_or(left, |due| due.saturating_duration_since(now));
            self.endpoint.rest(left.min(BETWEEN_LOOKS).min(until_due));
            self.serve_time();
        }
        let pending = self.serving.protocol().pending();
        let lost = pending.held + pending.promised;
        if lost > 0 {
            self.outbox
                .tally
                .drop_many(DropReason::Stopped, lost as u64);
        }
        self.books.publish(&mut self.outbox.tally);
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
