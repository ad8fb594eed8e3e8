//! One worker: waits for what is ready, does one step for each, looks at the deadlines.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::accept::{Acceptor, Listener};
use super::echo::{Connection, Next, Work};
use super::gate::Gate;
use super::impairing::{Impairing, Setting};
use super::lifetime::{Lifetimes, MinRate};
use super::lru::Lru;
use super::questions::Questions;
use super::refusals::{Refusals, Refused};
use super::slab::Slab;
use crate::books::block::Block;
use crate::books::tcp::{LENGTH, Reason};
use crate::error::{Error, Result};
use crate::event::{Level, Line, Lines, Observer};
use crate::guard::Connections;
use crate::net::pace::{Pace, Wait};
use crate::sys::Waker;
use crate::sys::readiness::{Interest, Readiness};
use crate::throttle::LeftOut;
use crate::worker::{Control, Finish};

mod admitting;
mod conversing;
mod deadlines;
mod impairing;
mod stopping;

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
            "{server}: the program that passed this listener in made it blocking; the server made \
             it non-blocking again: leave its mode alone until the server has ended"
        );
        self.observer.notice(Level::Warning, "shared", text);
    }
}

/// Why a server on a listener that was passed in cannot go on.
fn shut_down(server: &str) -> Error {
    let reason = "the program that passed this listener in has shut it down";
    Error::state("accept on", server, reason).or("make a new server on a \
                                                  socket that listens; to end a server, stop it")
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
            "{server}: {what}: out of file descriptors or memory: raise the limit on open files \
             (`ulimit -n`), or limit the connections to fewer than that{left_out}"
        );
        Line {
            level: Level::Warning,
            name: "exhausted",
            text,
            parts: Vec::new(),
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
}
