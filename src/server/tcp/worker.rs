//! One worker: waits for what is ready, does one step for each, looks at the deadlines.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::accept::{Acceptor, Listener, Offer};
use super::echo::{Connection, Next, Work};
use super::gate::Gate;
use super::impairing::{Impairing, Setting};
use super::lifetime::{Lifetimes, MinRate, Over};
use super::lru::Lru;
use super::questions::Questions;
use super::refusals::{Refusals, Refused};
use super::slab::Slab;
use crate::books::block::Block;
use crate::books::tcp::{Count, LENGTH, Reason};
use crate::error::{Error, Result};
use crate::event::{Level, Line, Lines, Observer};
use crate::guard::{Connections, Refusal};
use crate::net::pace::{Pace, Wait};
use crate::sys::Waker;
use crate::sys::readiness::{Interest, Readiness};
use crate::sys::stream::Stream;
use crate::throttle::LeftOut;
use crate::worker::{Control, Finish};

mod conversing;
mod impairing;

/// What all workers of a server, and its handle, have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) observer: Arc<Observer>,
    pub(super) blocks: Box<[Block<LENGTH>]>,
    pub(super) gate: Gate,
    pub(super) sources: Connections,
    pub(super) wakers: Arc<[Waker]>,
    pub(super) listeners: Box<[Listener]>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) send_timeout: Option<Duration>,
    pub(super) longest_life: Option<Duration>,
    pub(super) min_rate: Option<MinRate>,
    pub(super) record_bytes: Option<usize>,
    pub(super) wait: Wait,
    pub(super) impairing: Impairing,
    /// What listen(2) is told after a while of refusing.
    pub(super) backlog: i32,
    /// That a listener that was passed in was made blocking is told once.
    pub(super) has_told_of_blocking: AtomicBool,
}

impl Shared {
    /// Has the listeners refuse connections, or take them.
    pub(super) fn set_doors(&self, setting: &Setting) {
        for listener in &self.listeners {
            if setting.refuses_all() {
                listener.shut();
            } else {
                listener.reopen(self.backlog);
            }
        }
    }
}

impl Shared {
    #[cold]
    fn tell_of_blocking(&self) {
        if self.has_told_of_blocking.swap(true, Ordering::Relaxed) {
            return;
        }
        let server = self.observer.server();
        let text = format!(
            "{server}: whoever passed this listener in has made it blocking; it is non-blocking \
             again, as serving needs: leave its mode alone until the server has ended"
        );
        self.observer.notice(Level::Warning, "shared", text);
    }
}

/// Why a server on a listener that was passed in cannot go on.
fn shut_down(server: &str) -> Error {
    let reason = "whoever passed this listener in has shut it down";
    Error::state("accept on", server, reason).or("stop the server instead; make a new one on a \
                                                  socket that listens")
}

/// The listener of one worker.
#[derive(Debug)]
struct OwnListener(Arc<Shared>, usize);

impl AsRef<Listener> for OwnListener {
    fn as_ref(&self) -> &Listener {
        &self.0.listeners[self.1]
    }
}

/// The lists: what a connection waits for.
const FLOWING: usize = 0;
const STALLED: usize = 1;
const LINGERING: usize = 2;
/// Those that wait for neither input nor room, and are not watched.
const HELD: usize = 3;

const LISTS: [usize; 4] = [FLOWING, STALLED, LINGERING, HELD];

/// Tokens of the readiness set; a connection's is its number after these.
const WAKER: u32 = 0;
const LISTENER: u32 = 1;
const CONNECTIONS: u32 = 2;

/// Connections taken in before those that are there get their turn.
const ACCEPTS: usize = 64;

/// Connections taken in as the server stops, where the system does not say how many wait.
const LAST_ACCEPTS: usize = 4096;

/// While the server stops: silence after which a peer is not expected to end its stream.
const LINGER: Duration = Duration::from_millis(200);

/// While it serves: how long a peer may take to end its stream after the server has.
const FAREWELL: Duration = Duration::from_secs(2);

/// What it comes to that no descriptor or no memory is left.
#[derive(Default)]
struct Exhausted(&'static str);

impl Exhausted {
    fn line(self, server: &str, left_out: LeftOut) -> Line {
        let what = self.0;
        let text = format!(
            "{server}: {what}: no descriptor or no memory is left: raise the limit on open files \
             (`ulimit -n`), or set max_connections below it{left_out}"
        );
        Line {
            level: Level::Warning,
            name: "exhausted",
            text,
        }
    }
}

/// Steps after which a worker that stops looks at its deadline again.
const STEPS_A_LOOK: usize = 64;

pub(super) struct Worker<R: Readiness> {
    index: usize,
    ready: R,
    acceptor: Option<Acceptor<OwnListener>>,
    /// Who is served is taken out for that time.
    connections: Slab<Connection>,
    /// By what each waits for, since when.
    lists: Lru<4>,
    lifetimes: Lifetimes,
    work: Work,
    /// Where a responder answers; `None`: plain echo.
    questions: Option<Questions>,
    /// Connections that go on in the next round, whatever happens.
    again: Vec<u32>,
    /// Those that do so in this one.
    going: Vec<u32>,
    /// The number of this round.
    round: u64,
    /// Who is asked for in the second half of a round; kept for its memory.
    askers: Vec<u32>,
    /// What is impaired; `None`: nothing. And its number.
    setting: Option<Arc<Setting>>,
    generation: u32,
    /// When something changes by itself, and for which connection; of one that has another
    /// time by now, it means nothing.
    due: BinaryHeap<Reverse<(u64, u32)>>,
    /// A sleep ends at the first of these.
    is_exact: bool,
    /// Where this worker's nanoseconds begin.
    epoch: Instant,
    shared: Arc<Shared>,
    /// The time of this batch; stands still unless `is_timed`.
    now: Instant,
    /// Some deadline depends on when connections move.
    is_timed: bool,
    /// It does in any case, whatever is impaired.
    is_always_timed: bool,
    /// Whether to ask before sleeping.
    pace: Pace,
    /// Saying that there are no descriptors, once a second at most.
    warnings: Lines<Exhausted>,
    refusals: Refusals,
    /// What a sweep of a stopping server looks at; kept for its memory.
    sweep: Vec<u32>,
}

impl<R: Readiness> Drop for Worker<R> {
    fn drop(&mut self) {
        // Also after a panic: nobody may wait for this worker's counters any more.
        self.shared.blocks[self.index].release();
        self.shared.impairing.note(self.index, None);
    }
}

impl<R: Readiness> Worker<R> {
    /// # Errors
    ///
    /// When something cannot be watched or there is no descriptor left.
    pub(super) fn new(
        index: usize,
        mut ready: R,
        shared: &Arc<Shared>,
        questions: Option<Questions>,
    ) -> io::Result<Self> {
        if let Some(completions) = questions.as_ref().and_then(Questions::completions) {
            let wakers = Arc::clone(&shared.wakers);
            completions.on_complete(move || wakers[index].wake());
        }
        ready.add(shared.wakers[index].as_raw_fd(), WAKER, Interest::Read)?;
        let listener = OwnListener(Arc::clone(shared), index);
        let has_timeout = shared.idle_timeout.is_some() || shared.send_timeout.is_some();
        let lifetimes = Lifetimes::new(shared.longest_life, shared.min_rate);
        let is_timed = has_timeout || questions.is_some() || lifetimes.is_needed();
        let now = Instant::now();
        Ok(Self {
            index,
            acceptor: Some(Acceptor::new(listener, LISTENER, &mut ready)?),
            ready,
            connections: Slab::new(),
            lists: Lru::new(),
            lifetimes,
            work: Work::new(Arc::clone(&shared.observer), shared.record_bytes),
            shared: Arc::clone(shared),
            now,
            is_timed,
            is_always_timed: is_timed,
            questions,
            again: Vec::new(),
            round: 0,
            askers: Vec::new(),
            going: Vec::new(),
            setting: None,
            generation: 0,
            due: BinaryHeap::new(),
            is_exact: false,
            epoch: now,
            pace: Pace::new(shared.wait),
            warnings: Lines::new(Arc::clone(&shared.observer), Exhausted::line),
            refusals: Refusals::new(Arc::clone(&shared.observer), Refused::line),
            sweep: Vec::new(),
        })
    }

    /// Serves until told to stop.
    pub(super) fn run(mut self, control: &Arc<Control>) -> Finish {
        if let Some(questions) = &mut self.questions {
            questions.heed(control);
        }
        self.shared.impairing.note(self.index, Some(0));
        self.look_for_change();
        let served = self.serve(control).and_then(|()| self.drain(control));
        self.end_all();
        match served {
            Ok(()) => Finish::Stopped,
            Err(error) => Finish::Failed(error),
        }
    }

    fn serve(&mut self, control: &Control) -> Result<()> {
        while !control.is_stopping() {
            let timeout = self.time_to_deadline();
            let count = if self.again.is_empty() {
                self.ask_then_sleep(timeout, control)?
            } else {
                self.sleep(Some(Duration::ZERO))?
            };
            self.serve_round(count, control)?;
        }
        Ok(())
    }

    /// Waits as long as nothing is ready, asking before it sleeps as the pace says.
    fn ask_then_sleep(&mut self, timeout: Option<Duration>, control: &Control) -> Result<usize> {
        let patience = self.pace.patience();
        if patience.is_zero() && self.pace.wait() == Wait::Balanced {
            return self.sleep(timeout);
        }
        let count = self.sleep(Some(Duration::ZERO))?;
        if count > 0 {
            return Ok(count);
        }
        // The clock is read only while there is nothing to do.
        let idle_since = Instant::now();
        let most = timeout.map_or(patience, |timeout| timeout.min(patience));
        while idle_since.elapsed() < most && !control.is_stopping() {
            let count = self.sleep(Some(Duration::ZERO))?;
            if count > 0 {
                self.pace.learn(idle_since.elapsed());
                return Ok(count);
            }
            std::hint::spin_loop();
        }
        let left = timeout.map(|timeout| timeout.saturating_sub(idle_since.elapsed()));
        if control.is_stopping() || left == Some(Duration::ZERO) {
            return Ok(0);
        }
        let count = self.sleep(left)?;
        self.pace.learn(idle_since.elapsed());
        Ok(count)
    }

    /// Sleeps until something is ready, for `timeout` at most; how many are.
    fn sleep(&mut self, timeout: Option<Duration>) -> Result<usize> {
        let waited = match timeout {
            Some(timeout) if self.is_exact && !timeout.is_zero() => {
                self.ready.wait_exactly(timeout)
            }
            timeout => self.ready.wait(timeout),
        };
        waited.map_err(|error| self.failed("wait for", &error))
    }

    /// Does one step for each of the `count` that are ready. The clock is read once.
    fn serve_round(&mut self, count: usize, control: &Control) -> Result<()> {
        if self.is_timed {
            self.look_at_clock();
        }
        self.begin_batch();
        self.look_for_change();
        let mut is_woken = false;
        for index in 0..count {
            if index % STEPS_A_LOOK == 0 && control.is_over() {
                // What is left is ready still, for whoever looks.
                break;
            }
            match self.ready.token(index) {
                WAKER => {
                    // Cleared before anything is looked at: what comes after the look wakes
                    // again.
                    self.shared.wakers[self.index].clear();
                    self.look_for_change();
                    is_woken = true;
                }
                LISTENER => self.accept(ACCEPTS)?,
                token => self.step(token - CONNECTIONS),
            }
        }
        self.serve_due();
        self.go_on();
        if is_woken {
            self.answer_late();
        }
        self.end_late();
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.resume(&self.shared.gate, self.shared.backlog, &mut self.ready);
        }
        self.work.tally.publish(&self.shared.blocks[self.index]);
        Ok(())
    }

    /// Before answers go out: whoever has one finds it counted.
    fn begin_batch(&mut self) {
        self.shared.blocks[self.index].open();
        self.work.begin_batch();
        self.round += 1;
        self.going.append(&mut self.again);
    }

    fn look_at_clock(&mut self) {
        self.now = Instant::now();
        self.work.now_ns = self.now.duration_since(self.epoch).as_nanos() as u64;
    }

    fn failed(&self, operation: &'static str, error: &io::Error) -> Error {
        Error::system(operation, self.shared.observer.server(), error)
    }

    // ---- connections ----------------------------------------------------------------

    fn step(&mut self, id: u32) {
        let Some(mut connection) = self.connections.take(id) else {
            return;
        };
        let list = self.lists.list(id);
        if connection.conversation.is_some() && list != LINGERING {
            return self.converse(id, connection, list);
        }
        let next = match list {
            FLOWING => connection.echo(&mut self.work),
            STALLED => connection.flush(&mut self.work),
            _ => connection.linger(&mut self.work),
        };
        self.put_back(id, connection, list, next);
    }

    /// Puts a connection back, to where its step left it, unless that was its last.
    fn put_back(&mut self, id: u32, connection: Box<Connection>, list: usize, next: Next) {
        if let Some(connection) = self.follow_up(id, connection, list, next) {
            self.connections.put(id, connection);
        }
    }

    /// Moves a connection to the list where its step left it; `None`: it is over.
    fn follow_up(
        &mut self,
        id: u32,
        connection: Box<Connection>,
        list: usize,
        next: Next,
    ) -> Option<Box<Connection>> {
        let is_parked = matches!(list, STALLED | HELD);
        match next {
            Next::Ended(reason) => {
                self.end(id, connection, reason);
                return None;
            }
            Next::Farewell => return self.say_farewell(id, connection, list),
            Next::Stalled(_) if list != STALLED => return self.watch_for(id, connection, STALLED),
            Next::Waits if list != HELD => return self.watch_for(id, connection, HELD),
            Next::Again => self.again.push(id),
            _ => {}
        }
        match next {
            // Nothing is pending any more, so room to write is not what it waits for.
            Next::Empty | Next::Moved | Next::Again if is_parked => {
                return self.watch_for(id, connection, FLOWING);
            }
            Next::Empty | Next::Stalled(false) => {}
            // A peer that goes on is not waited for longer than one that does not.
            Next::Moved | Next::Again if list == LINGERING && self.acceptor.is_some() => {}
            _ if self.is_timed => self.lists.touch(id, list, self.now),
            _ => {}
        }
        Some(connection)
    }

    /// Puts a connection on another list, and watches it for what that list waits for.
    fn watch_for(
        &mut self,
        id: u32,
        connection: Box<Connection>,
        list: usize,
    ) -> Option<Box<Connection>> {
        let was_held = self.lists.list(id) == HELD;
        self.lists.touch(id, list, self.now);
        let interest = match list {
            STALLED => Interest::Write,
            _ => Interest::Read,
        };
        let (fd, token) = (connection.as_raw_fd(), id + CONNECTIONS);
        let watched = if list == HELD {
            self.ready.remove(fd, token);
            Ok(())
        } else if was_held {
            self.ready.add(fd, token, interest)
        } else {
            self.ready.change(fd, token, interest)
        };
        if watched.is_err() {
            self.end(id, connection, Reason::Error);
            return None;
        }
        Some(connection)
    }

    /// Ends the server's side of a connection; what the peer still says is not answered.
    fn say_farewell(
        &mut self,
        id: u32,
        mut connection: Box<Connection>,
        list: usize,
    ) -> Option<Box<Connection>> {
        connection.finish();
        if list != FLOWING {
            connection = self.watch_for(id, connection, FLOWING)?;
        }
        self.lists.touch(id, LINGERING, self.now);
        Some(connection)
    }

    /// Ends a connection that was taken out.
    fn end(&mut self, id: u32, mut connection: Box<Connection>, reason: Reason) {
        let list = self.lists.list(id);
        self.lists.remove(id);
        self.connections.release(id);
        if list != HELD {
            self.ready.remove(connection.as_raw_fd(), id + CONNECTIONS);
        }
        self.lifetimes.remove(id);
        if list == STALLED && matches!(reason, Reason::Expired | Reason::Slow) {
            // As where it is for that: the kernel is not to go on offering.
            connection.stream.abort_on_close();
        }
        self.shared.sources.leave(connection.peer().ip());
        if let Some(questions) = &mut self.questions {
            connection.abandon(questions, &mut self.work);
        }
        connection.end(reason, &mut self.work);
        self.shared.gate.leave();
    }

    /// Ends a connection that is not being served.
    fn end_by_number(&mut self, id: u32, reason: Reason) {
        if let Some(connection) = self.connections.take(id) {
            self.end(id, connection, reason);
        }
    }

    fn end_all(&mut self) {
        for list in LISTS {
            while let Some((id, _)) = self.lists.oldest(list) {
                self.end_by_number(id, Reason::Stopped);
            }
        }
        self.work.tally.publish(&self.shared.blocks[self.index]);
    }

    // ---- deadlines ------------------------------------------------------------------

    /// How long a list's connections may be silent, and what they end by.
    fn patience(&self, list: usize) -> Option<(Duration, Reason)> {
        let idle = self.shared.idle_timeout.map(|time| (time, Reason::Idle));
        let stalled = self.shared.send_timeout.map(|time| (time, Reason::Stalled));
        match list {
            FLOWING | HELD => idle,
            STALLED => match (idle, stalled) {
                (Some(idle), Some(stalled)) => {
                    Some(if idle.0 < stalled.0 { idle } else { stalled })
                }
                (idle, stalled) => idle.or(stalled),
            },
            _ if self.acceptor.is_some() => Some((FAREWELL, Reason::Stopped)),
            _ => Some((LINGER, Reason::Stopped)),
        }
    }

    /// Ends whoever has been silent for too long.
    fn end_late(&mut self) {
        if !self.is_timed {
            return;
        }
        self.end_lives();
        for list in LISTS {
            let Some((patience, reason)) = self.patience(list) else {
                continue;
            };
            while let Some((id, moved)) = self.lists.oldest(list)
                && self.now.saturating_duration_since(moved) >= patience
            {
                let leaves = self.connections.get(id).filter(|_| list == LINGERING);
                let reason = leaves.map_or(reason, Connection::farewell);
                self.end_by_number(id, reason);
            }
        }
    }

    /// Ends those that have lived too long, or over which too little came.
    fn end_lives(&mut self) {
        while let Some(over) = self.lifetimes.next_over(self.now) {
            let (id, reason) = match over {
                Over::Life(id) => (id, Some(Reason::Expired)),
                Over::Window(id) => {
                    let list = self.lists.list(id);
                    let (mut received, mut is_waiting) = (0, list == LINGERING);
                    if let Some(connection) = self.connections.get(id) {
                        received = connection.received;
                        let conversation = connection.conversation.as_ref();
                        is_waiting |=
                            list != STALLED && conversation.is_some_and(|it| it.is_waiting());
                    }
                    let lives = &mut self.lifetimes;
                    (id, lives.review(id, received, is_waiting, self.now))
                }
            };
            if let Some(reason) = reason {
                self.end_by_number(id, reason);
            }
        }
    }

    /// How long the worker may sleep; `None`: until something happens.
    fn time_to_deadline(&mut self) -> Option<Duration> {
        let mut least = self.acceptor.as_ref().and_then(Acceptor::resting);
        if self.is_timed {
            for list in LISTS {
                if let (Some((patience, _)), Some((_, moved))) =
                    (self.patience(list), self.lists.oldest(list))
                {
                    let silent = self.now.saturating_duration_since(moved);
                    let left = patience.saturating_sub(silent);
                    least = Some(least.map_or(left, |least| least.min(left)));
                }
            }
            least = least
                .into_iter()
                .chain(self.lifetimes.time_left(self.now))
                .min();
        }
        self.is_exact = false;
        if let Some(left) = self.time_to_due()
            && least.is_none_or(|least| left < least)
        {
            self.is_exact = true;
            least = Some(left);
        }
        least
    }

    // ---- taking in ------------------------------------------------------------------

    /// Takes in up to `most` connections.
    fn accept(&mut self, most: usize) -> Result<()> {
        for _ in 0..most {
            let Some(acceptor) = &mut self.acceptor else {
                return Ok(());
            };
            let offer = acceptor.next(&self.shared.gate);
            if acceptor.has_news_of_blocking() {
                self.shared.tell_of_blocking();
            }
            match offer {
                Offer::Connection(stream, peer) => self.admit(stream, peer),
                Offer::Nothing => break,
                Offer::Fault => self.work.tally.add(Count::AcceptErrors, 1),
                Offer::Refused => {
                    self.work.tally.add(Count::Refused, 1);
                    self.warn("a connection was closed at once");
                }
                Offer::Full => {
                    acceptor.wait_for_room(&mut self.ready);
                    break;
                }
                Offer::Exhausted => {
                    self.work.tally.add(Count::AcceptErrors, 1);
                    acceptor.rest(&mut self.ready);
                    self.warn("connections have to wait");
                    break;
                }
                // Shut just now, as this worker is about to learn.
                Offer::Broken(_) if acceptor.is_shut() => {
                    acceptor.follow(&mut self.ready);
                    break;
                }
                Offer::ShutDown => return Err(shut_down(self.shared.observer.server())),
                Offer::Broken(error) => return Err(self.failed("accept on", &error)),
            }
        }
        Ok(())
    }

    /// Says that there are no descriptors, or no memory.
    #[cold]
    fn warn(&mut self, what: &'static str) {
        let warning = Exhausted(what);
        self.warnings.add(Instant::now(), |last| *last = warning);
    }

    /// Takes a connection in, or closes it at once because of whom it is from.
    fn admit(&mut self, stream: Stream, peer: SocketAddr) {
        let Err(refusal) = self.shared.sources.try_enter(peer.ip()) else {
            return self.open(stream, peer);
        };
        self.shared.gate.leave();
        let count = match refusal {
            Refusal::Denied => Count::Denied,
            Refusal::Source => Count::RefusedBySource,
        };
        self.work.tally.add(count, 1);
        let now = Instant::now();
        self.refusals.add(now, |all| all.add(refusal, peer));
    }

    fn open(&mut self, stream: Stream, peer: SocketAddr) {
        let fd = stream.as_raw_fd();
        let mut connection = Box::new(Connection::new(stream, peer, &mut self.work));
        connection.number = self.shared.impairing.next_connection();
        let id = self.connections.reserve();
        self.lists.touch(id, FLOWING, self.now);
        self.lifetimes.add(id, self.now);
        if self
            .ready
            .add(fd, id + CONNECTIONS, Interest::Read)
            .is_err()
        {
            return self.end(id, connection, Reason::Error);
        }
        if self.refuses(&connection) {
            connection.stream.reset();
            return self.end(id, connection, Reason::Impaired);
        }
        if let Some(questions) = &mut self.questions {
            connection.converse(id, questions, &mut self.work);
        }
        self.connections.put(id, connection);
        if let Some(setting) = self.setting.clone() {
            self.impair_new(id, &setting);
        }
    }

    // ---- stopping -------------------------------------------------------------------

    /// Answers what has come, says so, and waits for the peers to end their streams.
    fn drain(&mut self, control: &Control) -> Result<()> {
        self.is_timed = true;
        self.is_always_timed = true;
        self.look_at_clock();
        self.begin_batch();
        if !control.time_left().is_zero() {
            let waiting = self.acceptor.as_ref().and_then(Acceptor::waiting);
            match self.accept(waiting.unwrap_or(LAST_ACCEPTS)) {
                // It was to end, and so was the listener: who has it too was quicker.
                Err(error) if error.is_state() => {}
                accepted => accepted?,
            }
        }
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.forget(&mut self.ready);
        }
        self.end_hung();
        loop {
            let is_busy = self.sweep(control);
            // Not held back while this sleeps.
            self.work.tally.publish(&self.shared.blocks[self.index]);
            let left = control.time_left();
            if self.connections.is_empty() || left.is_zero() {
                return Ok(());
            }
            let sleep = self.time_to_deadline().map_or(left, |time| time.min(left));
            let count = self.sleep(Some(if is_busy { Duration::ZERO } else { sleep }))?;
            self.serve_round(count, control)?;
        }
    }

    /// One step for each connection that may have input; those that have none are
    /// finished. True if some had.
    fn sweep(&mut self, control: &Control) -> bool {
        self.begin_batch();
        let mut sweep = std::mem::take(&mut self.sweep);
        sweep.clear();
        sweep.extend(self.lists.members(FLOWING));
        for (index, &id) in sweep.iter().enumerate() {
            if index % STEPS_A_LOOK == 0 && control.is_over() {
                break;
            }
            let Some(mut connection) = self.connections.take(id) else {
                continue;
            };
            if connection.conversation.is_some() {
                if let Some((connection, false)) = self.gather(id, connection, FLOWING) {
                    self.finish_or_hold(id, connection);
                }
                continue;
            }
            match connection.echo(&mut self.work) {
                Next::Empty => {
                    connection.finish();
                    self.lists.touch(id, LINGERING, self.now);
                    self.connections.put(id, connection);
                }
                next => self.put_back(id, connection, FLOWING, next),
            }
        }
        self.go_on();
        self.sweep = sweep;
        self.lists.oldest(FLOWING).is_some() || !self.again.is_empty()
    }

    /// Nothing has come for a conversation: it ends, unless an answer is under way.
    fn finish_or_hold(&mut self, id: u32, connection: Box<Connection>) {
        let Some(connection) = self.pump(id, connection) else {
            return;
        };
        let is_idle = connection
            .conversation
            .as_ref()
            .is_none_or(|conversation| conversation.is_idle());
        let kept = match self.lists.list(id) {
            FLOWING if is_idle => self.say_farewell(id, connection, FLOWING),
            FLOWING => self.watch_for(id, connection, HELD),
            _ => Some(connection),
        };
        if let Some(connection) = kept {
            self.connections.put(id, connection);
        }
    }
}
