//! THE HOT LOOP: receive → judge → answer → plan → send.
//!
//! Rules, kept for every datagram: no log call, formatting, lock, allocation or clock
//! read; no dynamic dispatch; no `cfg`. What was chosen at start (engine, guard, waiting)
//! is compiled in or a branch a batch. Whatever is rare is `#[cold]` and told at the end
//! of its batch.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::compose::{Broadcast, Composer, Turns};
use super::counters::{Counters, Tally};
use super::engine::Engine;
use super::idle::Idle;
use super::impairing::Impairing;
use super::observe::{DropLog, Drops, Teller};
use super::offload::Offload;
use super::owner;
use super::plan::{Group, Item, Plan};
use super::receive_destinations;
use super::wait::{self, Arrival, Receiver};
use crate::error::Error;
use crate::event::{self, Level, Observer, What};
use crate::guard::sources::Sources;
use crate::guard::{Guard, Policy};
use crate::respond::Respond;
use crate::stats::DropReason;
use crate::sys::message::{self, Destination, Mode, Received};
use crate::sys::{self, RawAddress};
use crate::worker::{Control, Finish};

/// What a worker serves with, beside its engine.
pub(super) struct Service {
    pub(super) name: String,
    pub(super) socket: Arc<Socket>,
    pub(super) receiver: Receiver,
    pub(super) sources: Sources,
    pub(super) guard: Guard,
    /// Its address is IPv4.
    pub(super) is_v4: bool,
    /// It was passed in: somebody else may use it too.
    pub(super) is_shared: bool,
    /// Each datagram says where it was sent to, unless whoever else holds the socket has
    /// turned that off.
    pub(super) expects_destination: bool,
    /// What becomes of trains.
    pub(super) offload: Arc<Offload>,
    pub(super) observer: Arc<Observer>,
    /// How long a sleep lasts that ends without a datagram.
    pub(super) sleep_time: Option<Duration>,
    /// The user asked for receives that time out.
    pub(super) counts_timeouts: bool,
    pub(super) idle: Option<Idle>,
    /// How long a reply may wait for room in the send buffer.
    pub(super) send_timeout: Duration,
    /// The user asked for datagrams to be cut, so a cut one is answered.
    pub(super) answer_truncated: bool,
    pub(super) stop_on_empty: bool,
    pub(super) record_bytes: Option<usize>,
    /// What answers, where that is not plain echo.
    pub(super) responder: Option<Box<dyn Respond>>,
    /// Answers what was sent to a broadcast address.
    pub(super) broadcast: Option<(Broadcast, Arc<Turns>)>,
    pub(super) policy: Policy,
    /// What is spoiled; may change at any time.
    pub(super) impairing: Arc<Impairing>,
    pub(super) own: SocketAddr,
}

/// One worker: its service, its engine, and memory that every batch uses again.
pub(super) struct Worker<'a, E> {
    pub(super) service: Service,
    pub(super) engine: E,
    pub(super) counters: &'a Counters,
    pub(super) control: &'a Control,
    pub(super) plan: Plan,
    pub(super) received: Vec<Received>,
    /// Why each message is not answered, if so.
    pub(super) verdicts: Vec<Option<DropReason>>,
    /// Messages of which only the first datagrams are answered.
    cuts: Vec<Cut>,
    pub(super) tally: Tally,
    pub(super) drop_log: DropLog,
    /// How long this batch may still wait for room in the send buffer.
    patience: Duration,
    /// Of a batch that is told: when it came, and which messages passed the guard.
    pub(super) time_ns: u64,
    pub(super) admitted: Vec<bool>,
    /// Peers to whom the path refuses trains (a segment above its MTU).
    refuse_trains: Vec<RawAddress>,
    /// What is answered and spoiled, where that is not plain echo: see `compose.rs`.
    pub(super) composer: Option<Box<Composer>>,
    /// A composed batch is being served.
    pub(super) is_composing: bool,
    /// The state of `service.impairing` that the composer has.
    pub(super) generation: u32,
    /// A send said that whoever else holds the socket has shut it down.
    is_shut_down: bool,
    has_told_of_destinations: bool,
}

/// The end of a message that is not answered, with its whole length and the reason.
struct Cut {
    slot: usize,
    length: usize,
    reason: DropReason,
}

impl<E> Drop for Worker<'_, E> {
    fn drop(&mut self) {
        self.service.guard.close();
        // Also after a panic: nobody may wait for this worker any more.
        self.counters.release();
    }
}

impl<'a, E: Engine> Worker<'a, E> {
    pub(super) fn new(
        mut service: Service,
        engine: E,
        counters: &'a Counters,
        control: &'a Control,
    ) -> Self {
        let slots = engine.slots();
        let fd = service.socket.as_raw_fd();
        service.guard.open(fd, service.is_v4, service.is_shared);
        let drop_log = DropLog::new(Arc::clone(&service.observer), Drops::line);
        Self {
            service,
            engine,
            counters,
            control,
            plan: Plan::new(slots),
            received: Vec::with_capacity(slots),
            verdicts: Vec::with_capacity(slots),
            cuts: Vec::with_capacity(slots),
            tally: Tally::default(),
            drop_log,
            patience: Duration::ZERO,
            time_ns: 0,
            admitted: Vec::new(),
            refuse_trains: Vec::new(),
            composer: None,
            is_composing: false,
            generation: 0,
            is_shut_down: false,
            has_told_of_destinations: false,
        }
    }

    /// Serves until told to stop, or until it cannot go on.
    pub(super) fn run(mut self) -> Finish {
        self.service.receiver.settle();
        self.settle_composer();
        match self.serve() {
            Ok(finish) => {
                self.drain_composer();
                finish
            }
            Err(error) if error.raw_os_error() == Some(libc::ESHUTDOWN) => {
                Finish::Failed(owner::shut_down("serve on", &self.service.name))
            }
            Err(error) => Finish::Failed(Error::system("receive on", &self.service.name, &error)),
        }
    }

    fn serve(&mut self) -> io::Result<Finish> {
        loop {
            match self.receive()? {
                Arrival::Some(count) => {
                    if let Some(idle) = &mut self.service.idle {
                        idle.end_silence();
                    }
                    if self.batch(count) {
                        return Ok(Finish::Empty);
                    }
                }
                Arrival::TimedOut => {
                    self.tally.receive_timeouts += u64::from(self.service.counts_timeouts);
                    self.tally.publish(self.counters);
                    let slept = self.service.sleep_time.unwrap_or_default();
                    if let Some(idle) = &mut self.service.idle
                        && idle.add_silence(slept)
                    {
                        return Ok(Finish::Idle);
                    }
                }
                Arrival::Due => self.compose_late(),
                Arrival::Woken => {
                    self.tell_news();
                    self.compose_late();
                }
            }
            if self.control.is_stopping() {
                return self.drain();
            }
            if self.is_shut_down {
                return Err(io::Error::from_raw_os_error(libc::ESHUTDOWN));
            }
        }
    }

    /// Tells what the owner of a socket that was passed in has done to it.
    #[cold]
    fn tell_news(&mut self) {
        if let Some(news) = self.service.receiver.take_news() {
            let text = news.text(&self.service.name);
            let observer = &self.service.observer;
            observer.notice(Level::Warning, "shared", text);
        }
    }

    fn receive(&mut self) -> io::Result<Arrival> {
        let receiver = &mut self.service.receiver;
        match self
            .composer
            .as_ref()
            .and_then(|composer| composer.next_due())
        {
            None => receiver.receive(&mut self.engine, self.control),
            Some(due) => receiver.receive_until(&mut self.engine, self.control, due),
        }
    }

    /// Answers what is queued already, until there is nothing more or the time is over.
    fn drain(&mut self) -> io::Result<Finish> {
        while !self.control.time_left().is_zero() {
            match self.turn() {
                Ok(_) => {
                    if self.patience.is_zero() {
                        // The way back is blocked: more of the same would only take time.
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // What is no reason to end is no reason to stop draining either.
                Err(error) => {
                    wait::explain(error, self.control)?;
                }
            }
        }
        Ok(Finish::Stopped)
    }

    /// Serves what one receive has without waiting; how many messages that was.
    pub(super) fn turn(&mut self) -> io::Result<usize> {
        let count = self
            .engine
            .receive(0..self.engine.slots(), Mode::DontWait)?;
        self.batch(count);
        Ok(count)
    }

    /// Serves `count` messages; true if one of them ends the server.
    fn batch(&mut self, count: usize) -> bool {
        if self.service.impairing.has_changed(self.generation) {
            self.settle_composer();
        }
        if self.composer.is_some() {
            return self.compose(count);
        }
        self.begin();
        self.plan.clear();
        self.engine.begin();
        let mut end = false;
        let mut trains = 0;
        for slot in 0..count {
            let mut received = self.engine.take(slot);
            let verdict = self.judge(slot, &mut received);
            trains += usize::from(received.segment_bytes > 0);
            if verdict.is_none() {
                end |= received.length == 0 && self.service.stop_on_empty;
            }
            self.received.push(received);
            self.verdicts.push(verdict);
            if verdict.is_none() {
                self.plan_answer(slot, 0);
            }
        }
        let sends = self.plan.groups().len();
        self.service.receiver.learn(count, trains, sends);
        // Told before it is answered: whoever has the reply finds it told.
        let access = self.service.observer.access();
        if access.is_some() || self.service.record_bytes.is_some() {
            self.tell_received(access);
        }
        self.send();
        if access.is_some() {
            self.tell_answered();
        }
        self.end();
        end
    }

    pub(super) fn begin(&mut self) {
        self.counters.open();
        self.patience = self.service.send_timeout;
        self.received.clear();
        self.verdicts.clear();
        self.cuts.clear();
        self.service.guard.begin();
    }

    pub(super) fn end(&mut self) {
        self.log_drops();
        self.tally.publish(self.counters);
        self.service.guard.end();
    }

    /// Publishes what is accounted for, in the midst of a batch.
    fn publish_part(&mut self) {
        if self.is_composing {
            // What is not accounted for is pending.
            self.tally.publish(self.counters);
        } else {
            self.tally.publish_part(self.counters);
        }
    }

    /// Tells of what is dropped in the tally, before that is published and forgotten.
    pub(super) fn log_drops(&mut self) {
        if let Some(drops) = self.tally.drops() {
            self.drop_log.add(Instant::now(), |all| all.add(&drops));
        }
    }

    /// Counts a message in, and says why it is not to be answered; shortens a train of which
    /// only the first datagrams are.
    pub(super) fn judge(&mut self, slot: usize, received: &mut Received) -> Option<DropReason> {
        if received.source.is_empty() && received.length == 0 {
            // What a receive gives on a socket that was shut down: nobody sent it.
            return Some(DropReason::SourceUnspecified);
        }
        let packets = received.datagrams();
        self.tally.received_packets += packets;
        self.tally.received_bytes += received.length as u64;
        let mut verdict = self
            .service
            .sources
            .judge(&received.source, received.destination)
            .or_else(|| self.service.guard.admit(&received.source));
        if received.truncated {
            self.tally.truncated_packets += packets;
            // Of a train it is not a datagram that was cut, but the rest that is missing.
            if !self.service.answer_truncated || received.segment_bytes > 0 {
                verdict = verdict.or(Some(DropReason::Truncated));
            }
        }
        if received.maybe_merged && received.segment_bytes == 0 && self.engine.max_segments() > 1 {
            verdict = verdict.or(Some(DropReason::Merged));
        }
        if self.service.expects_destination && received.destination == Destination::Unknown {
            // From whichever address the kernel chose, to a group perhaps.
            self.ask_for_destinations();
            verdict = verdict.or(Some(DropReason::DestinationUnknown));
        }
        if let Some(reason) = verdict {
            self.tally.drop(reason, packets, &received.source);
            return verdict;
        }
        let (engine, length) = (&self.engine, received.length);
        let data = engine.data(slot, 0, length);
        let grant = self.service.guard.weigh(received, packets, data);
        let reason = grant.reason?;
        let refused = packets - grant.datagrams;
        self.tally.drop(reason, refused, &received.source);
        if grant.datagrams == 0 {
            return Some(reason);
        }
        self.cuts.push(Cut {
            slot,
            length,
            reason,
        });
        received.length = received.segment_bytes * grant.datagrams as usize;
        None
    }

    /// Whoever else holds the socket has turned IP_PKTINFO off: turns it on again.
    #[cold]
    fn ask_for_destinations(&mut self) {
        let fd = self.service.socket.as_raw_fd();
        let asked = receive_destinations(fd, self.service.is_v4);
        if std::mem::replace(&mut self.has_told_of_destinations, true) {
            return;
        }
        let server = &self.service.name;
        let done = match asked {
            Ok(()) => "it is on again".to_owned(),
            Err(error) => format!("it cannot be turned on again: {error}"),
        };
        let text = format!(
            "{server}: whoever passed this socket in has turned IP_PKTINFO off, without which \
             nobody knows from which address to answer; {done}"
        );
        let observer = &self.service.observer;
        observer.notice(Level::Warning, "shared", text);
    }

    /// Plans the answer to what came in a slot, whose bytes start at `start`.
    pub(super) fn plan_answer(&mut self, slot: usize, start: usize) {
        let received = &self.received[slot];
        let max_segments =
            if !self.refuse_trains.is_empty() && self.refuse_trains.contains(&received.source) {
                1
            } else {
                self.engine.max_segments()
            };
        let item = Item {
            slot: slot as u16,
            peer: &received.source,
            start,
            length: received.length,
            segment_bytes: received.segment_bytes,
            max_segments,
        };
        let all = &self.received;
        self.plan.add(item, |other| {
            let other = &all[usize::from(other)];
            other.source == received.source
                && other.destination == received.destination
                && other.reply_hop_limit == received.reply_hop_limit
        });
    }

    pub(super) fn send(&mut self) {
        let mut next = 0;
        while next < self.plan.groups().len() {
            match self.engine.send(&self.plan, &self.received, next) {
                Ok(sent) => {
                    for group in &self.plan.groups()[next..next + sent] {
                        self.tally.sent_packets += u64::from(group.datagrams);
                        self.tally.sent_bytes += u64::from(group.bytes);
                    }
                    next += sent;
                }
                Err(error) => {
                    let group = self.plan.groups()[next];
                    self.refused(group, &error);
                    next += 1;
                }
            }
        }
    }

    /// A send was refused: wait for room, cut the train up, or count it as dropped.
    #[cold]
    fn refused(&mut self, group: Group, error: &io::Error) {
        let mut any_sent = false;
        // Each datagram by itself: what the error was for is dropped, the rest goes.
        let segment = group.segment_bytes.max(1) as usize;
        let to = self.received[usize::from(group.slot)];
        let pieces: Vec<_> = self.plan.pieces(&group).collect();
        for piece in pieces {
            let (mut at, end) = (
                piece.offset as usize,
                (piece.offset + piece.length) as usize,
            );
            loop {
                let length = segment.min(end - at);
                match self.send_one(piece.slot, at, length, &to) {
                    Ok(()) => {
                        any_sent = true;
                        self.tally.sent_packets += 1;
                        self.tally.sent_bytes += length as u64;
                    }
                    Err(error) => {
                        let reason = classify(&error);
                        self.tally.drop(reason, 1, &to.source);
                        self.verdicts[usize::from(piece.slot)] = Some(reason);
                    }
                }
                at += length;
                if at >= end {
                    break;
                }
            }
        }
        // By themselves they go, so it was the train that was refused, not the peer.
        if group.datagrams > 1 && any_sent {
            match error.raw_os_error() {
                // A segment above the MTU of this peer's path (udp(7)): others may take trains.
                Some(libc::EMSGSIZE) => {
                    let told = self.service.offload.refuse_path();
                    self.tell_of_offload(told);
                    self.remember_refusal(group);
                }
                // The kernel or the driver does not do it at all, or no longer.
                Some(libc::EINVAL | libc::EIO | libc::ENOPROTOOPT | libc::EOPNOTSUPP) => {
                    self.engine.limit_segments(usize::from(group.datagrams));
                    let most = self.engine.max_segments();
                    let told = self.service.offload.limit_segments(most, error);
                    self.tell_of_offload(told);
                }
                _ => {}
            }
        }
    }

    fn tell_of_offload(&self, text: Option<String>) {
        if let Some(text) = text {
            let text = format!("{}: {text}", self.service.name);
            let observer = &self.service.observer;
            observer.notice(Level::Warning, "offload", text);
        }
    }

    fn remember_refusal(&mut self, group: Group) {
        // Enough for the peers behind one narrow link; the oldest is asked again.
        const PEERS: usize = 64;
        if self.refuse_trains.len() == PEERS {
            self.refuse_trains.remove(0);
        }
        self.refuse_trains
            .push(self.received[usize::from(group.slot)].source);
    }

    /// Sends one datagram, waiting for room in the send buffer where there is none, as long
    /// as the batch's patience lasts.
    fn send_one(
        &mut self,
        slot: u16,
        offset: usize,
        length: usize,
        to: &Received,
    ) -> io::Result<()> {
        let fd = self.service.socket.as_raw_fd();
        let mut stale_error_taken = false;
        loop {
            let data = self.engine.data(usize::from(slot), offset, length);
            let error =
                match message::send(fd, data, &to.source, to.destination, to.reply_hop_limit) {
                    Ok(_) => return Ok(()),
                    Err(error) => error,
                };
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                // Nothing of ours shuts the send side down (net/core/sock.c,
                // `sock_alloc_send_pskb`).
                Some(libc::EPIPE) => {
                    self.is_shut_down = true;
                    return Err(error);
                }
                // An ICMP error for somebody else's reply, reported to whoever sends next.
                Some(libc::ECONNREFUSED) if !stale_error_taken => stale_error_taken = true,
                Some(libc::EAGAIN | libc::ENOBUFS) => {
                    if self.control.is_stopping() {
                        self.patience = self.patience.min(STOPPING_PATIENCE);
                    }
                    if self.patience.is_zero() {
                        return Err(error);
                    }
                    // Whoever asks meanwhile need not wait with us.
                    self.log_drops();
                    self.publish_part();
                    let start = Instant::now();
                    wait_for_room(fd, self.patience.min(STOPPING_PATIENCE), &error)?;
                    self.patience = self.patience.saturating_sub(start.elapsed());
                }
                _ => return Err(error),
            }
        }
    }

    #[cold]
    pub(super) fn tell_received(&mut self, access: Option<usize>) {
        self.time_ns = event::now_ns();
        let teller = Teller {
            observer: &self.service.observer,
            access,
            record_bytes: self.service.record_bytes,
            time_ns: self.time_ns,
        };
        for (slot, (received, verdict)) in self.received.iter().zip(&self.verdicts).enumerate() {
            let data = self.engine.data(slot, 0, received.length);
            let (records, misfits) = teller.tell(received, data, *verdict);
            self.tally.records += records;
            self.tally.unfit_records += misfits;
        }
        for cut in &self.cuts {
            let answered = &self.received[cut.slot];
            let left = cut.length - answered.length;
            let data = self.engine.data(cut.slot, answered.length, left);
            teller.tell(answered, data, Some(cut.reason));
        }
        self.admitted.clear();
        self.admitted
            .extend(self.verdicts.iter().map(Option::is_none));
    }

    /// What came of the datagrams that were to be answered.
    #[cold]
    pub(super) fn tell_answered(&self) {
        let outcomes = self.received.iter().zip(&self.verdicts).zip(&self.admitted);
        for ((received, verdict), _) in outcomes.filter(|(_, admitted)| **admitted) {
            let Some(peer) = received.source.to_std() else {
                continue;
            };
            let dropped = verdict.map(DropReason::name);
            for length in received.lengths() {
                let what = What::Answered {
                    peer,
                    length,
                    dropped,
                };
                self.service.observer.frequent(self.time_ns, what);
            }
        }
    }
}

/// Sleeps until there may be room to send, for `most` at most.
fn wait_for_room(fd: RawFd, most: Duration, error: &io::Error) -> io::Result<()> {
    if error.raw_os_error() == Some(libc::ENOBUFS) {
        // The device's queue is full, which poll(2) does not know of.
        std::thread::sleep(most.min(Duration::from_millis(1)));
    } else {
        sys::wait_writable(fd, None, Some(most))?;
    }
    Ok(())
}

/// How long a full send buffer may hold up a server that is to stop; also how often one
/// that waits looks whether it is to.
const STOPPING_PATIENCE: Duration = Duration::from_millis(50);

/// The reason under which a refused send is counted.
fn classify(error: &io::Error) -> DropReason {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS) => DropReason::SendBufferFull,
        Some(libc::EPERM) => DropReason::SendFiltered,
        Some(libc::EMSGSIZE) => DropReason::SendTooLarge,
        Some(libc::EACCES) => DropReason::SendRefused,
        Some(
            libc::ENETUNREACH
            | libc::EHOSTUNREACH
            | libc::EADDRNOTAVAIL
            | libc::ENETDOWN
            | libc::EHOSTDOWN
            | libc::ENODEV,
        ) => DropReason::SendUnreachable,
        _ => DropReason::SendFailed,
    }
}
