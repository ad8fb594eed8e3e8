//! One worker: waits for what is ready, does one step for each, looks at the deadlines.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::accept::{Acceptor, Listener, Offer};
use super::count::{Count, LENGTH, Reason};
use super::echo::{Connection, Next, Work};
use super::gate::Gate;
use super::refusals::Refusals;
use super::table::Table;
use crate::error::{Error, Result};
use crate::event::{Level, Observer};
use crate::guard::{Connections, Refusal};
use crate::server::wait::{Pace, Wait};
use crate::stats::Block;
use crate::sys::Waker;
use crate::sys::readiness::{Interest, Readiness};
use crate::sys::stream::Stream;
use crate::worker::{Control, Finish};

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
    pub(super) record_bytes: Option<usize>,
    pub(super) wait: Wait,
}

/// The listener of one worker.
#[derive(Debug)]
struct OwnListener(Arc<Shared>, usize);

impl AsRef<Listener> for OwnListener {
    fn as_ref(&self) -> &Listener {
        &self.0.listeners[self.1]
    }
}

/// The lists of the table: what a connection waits for.
const FLOWING: usize = 0;
const STALLED: usize = 1;
const LINGERING: usize = 2;

/// Tokens of the readiness set; a connection's is its number in the table after these.
const WAKER: u32 = 0;
const LISTENER: u32 = 1;
const CONNECTIONS: u32 = 2;

/// Connections taken in before those that are there get their turn.
const ACCEPTS: usize = 64;

/// Connections taken in as the server stops, where the system does not say how many wait.
const LAST_ACCEPTS: usize = 4096;

/// While the server stops: silence after which a peer is not expected to end its stream.
const LINGER: Duration = Duration::from_millis(200);

/// The same trouble is told once in this time.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(1);

pub(super) struct Worker<R: Readiness> {
    index: usize,
    ready: R,
    acceptor: Option<Acceptor<OwnListener>>,
    table: Table<Connection, 3>,
    work: Work,
    shared: Arc<Shared>,
    /// The time of this batch; stands still unless `is_timed`.
    now: Instant,
    /// Some deadline depends on when connections move.
    is_timed: bool,
    /// Whether to ask before sleeping.
    pace: Pace,
    /// When it was last said that there are no descriptors.
    warned: Option<Instant>,
    refusals: Refusals,
    /// What a sweep of a stopping server looks at; kept for its memory.
    sweep: Vec<u32>,
}

impl<R: Readiness> Drop for Worker<R> {
    fn drop(&mut self) {
        // Also after a panic: nobody may wait for this worker's counters any more.
        self.shared.blocks[self.index].release();
    }
}

impl<R: Readiness> Worker<R> {
    /// # Errors
    ///
    /// When something cannot be watched or there is no descriptor left.
    pub(super) fn new(index: usize, mut ready: R, shared: &Arc<Shared>) -> io::Result<Self> {
        ready.add(shared.wakers[index].as_raw_fd(), WAKER, Interest::Read)?;
        let listener = OwnListener(Arc::clone(shared), index);
        Ok(Self {
            index,
            acceptor: Some(Acceptor::new(listener, LISTENER, &mut ready)?),
            ready,
            table: Table::new(),
            work: Work::new(Arc::clone(&shared.observer), shared.record_bytes),
            shared: Arc::clone(shared),
            now: Instant::now(),
            is_timed: shared.idle_timeout.is_some() || shared.send_timeout.is_some(),
            pace: Pace::new(shared.wait),
            warned: None,
            refusals: Refusals::new(Arc::clone(&shared.observer)),
            sweep: Vec::new(),
        })
    }

    /// Serves until told to stop.
    pub(super) fn run(mut self, control: &Control) -> Finish {
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
            let count = self.ask_then_sleep(timeout, control)?;
            self.turn(count)?;
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
        self.ready
            .wait(timeout)
            .map_err(|error| self.failed("wait for", &error))
    }

    /// Does one step for each of the `count` that are ready. The clock is read once.
    fn turn(&mut self, count: usize) -> Result<()> {
        if self.is_timed {
            self.now = Instant::now();
        }
        self.begin_batch();
        for index in 0..count {
            match self.ready.token(index) {
                WAKER => self.shared.wakers[self.index].clear(),
                LISTENER => self.accept(ACCEPTS)?,
                token => self.step(token - CONNECTIONS),
            }
        }
        self.end_late();
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.resume(&self.shared.gate, &mut self.ready);
        }
        self.work.tally.publish(&self.shared.blocks[self.index]);
        Ok(())
    }

    /// Before answers go out: whoever has one finds it counted.
    fn begin_batch(&mut self) {
        self.shared.blocks[self.index].open();
        self.work.begin_batch();
    }

    fn failed(&self, operation: &'static str, error: &io::Error) -> Error {
        Error::system(operation, self.shared.observer.server(), error)
    }

    // ---- connections ----------------------------------------------------------------

    fn step(&mut self, id: u32) {
        let list = self.table.list(id);
        let Some(connection) = self.table.get_mut(id) else {
            return;
        };
        let next = match list {
            FLOWING => connection.echo(&mut self.work),
            STALLED => connection.flush(&mut self.work),
            _ => connection.linger(&mut self.work),
        };
        self.settle(id, list, next);
    }

    /// Moves a connection to where its step left it.
    fn settle(&mut self, id: u32, list: usize, next: Next) {
        match next {
            // Nothing is pending any more, so room to write is not what it waits for.
            Next::Empty | Next::Moved if list == STALLED => self.watch_for(id, FLOWING),
            Next::Empty => {}
            Next::Stalled(_) if list != STALLED => self.watch_for(id, STALLED),
            Next::Moved | Next::Stalled(true) => {
                if self.is_timed {
                    self.table.touch(id, list, self.now);
                }
            }
            Next::Stalled(false) => {}
            Next::Ended(reason) => self.end(id, reason),
        }
    }

    /// Puts a connection on another list, and watches it for what that list waits for.
    fn watch_for(&mut self, id: u32, list: usize) {
        self.table.touch(id, list, self.now);
        let interest = match list {
            STALLED => Interest::Write,
            _ => Interest::Read,
        };
        let Some(connection) = self.table.get_mut(id) else {
            return;
        };
        let token = id + CONNECTIONS;
        if self
            .ready
            .change(connection.as_raw_fd(), token, interest)
            .is_err()
        {
            self.end(id, Reason::Error);
        }
    }

    fn end(&mut self, id: u32, reason: Reason) {
        if let Some(connection) = self.table.remove(id) {
            self.ready.remove(connection.as_raw_fd(), id + CONNECTIONS);
            self.shared.sources.leave(connection.peer().ip());
            connection.end(reason, &mut self.work);
            self.shared.gate.leave();
        }
    }

    fn end_all(&mut self) {
        for list in [FLOWING, STALLED, LINGERING] {
            while let Some((id, _)) = self.table.oldest(list) {
                self.end(id, Reason::Stopped);
            }
        }
        self.refusals.write();
        self.work.tally.publish(&self.shared.blocks[self.index]);
    }

    // ---- deadlines ------------------------------------------------------------------

    /// How long a list's connections may be silent, and what they end by.
    fn patience(&self, list: usize) -> Option<(Duration, Reason)> {
        let idle = self.shared.idle_timeout.map(|time| (time, Reason::Idle));
        let stalled = self.shared.send_timeout.map(|time| (time, Reason::Stalled));
        match list {
            FLOWING => idle,
            STALLED => match (idle, stalled) {
                (Some(idle), Some(stalled)) => {
                    Some(if idle.0 < stalled.0 { idle } else { stalled })
                }
                (idle, stalled) => idle.or(stalled),
            },
            _ => Some((LINGER, Reason::Stopped)),
        }
    }

    /// Ends whoever has been silent for too long.
    fn end_late(&mut self) {
        if !self.is_timed {
            return;
        }
        for list in [FLOWING, STALLED, LINGERING] {
            let Some((patience, reason)) = self.patience(list) else {
                continue;
            };
            while let Some((id, moved)) = self.table.oldest(list)
                && self.now.saturating_duration_since(moved) >= patience
            {
                self.end(id, reason);
            }
        }
    }

    /// How long the worker may sleep; `None`: until something happens.
    fn time_to_deadline(&self) -> Option<Duration> {
        let mut least = self.acceptor.as_ref().and_then(Acceptor::resting);
        if self.is_timed {
            for list in [FLOWING, STALLED, LINGERING] {
                if let (Some((patience, _)), Some((_, moved))) =
                    (self.patience(list), self.table.oldest(list))
                {
                    let silent = self.now.saturating_duration_since(moved);
                    let left = patience.saturating_sub(silent);
                    least = Some(least.map_or(left, |least| least.min(left)));
                }
            }
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
            match acceptor.next(&self.shared.gate) {
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
                Offer::Broken(error) => return Err(self.failed("accept on", &error)),
            }
        }
        Ok(())
    }

    /// Says that there are no descriptors, or no memory, at most once a second.
    #[cold]
    fn warn(&mut self, what: &str) {
        let now = Instant::now();
        if self
            .warned
            .is_some_and(|last| now.saturating_duration_since(last) < BETWEEN_WARNINGS)
        {
            return;
        }
        self.warned = Some(now);
        let observer = &self.shared.observer;
        let text = format!(
            "{}: {what}: no descriptor or no memory is left: raise the limit on open files \
             (`ulimit -n`), or set max_connections below it",
            observer.server()
        );
        observer.notice(Level::Warning, "exhausted", text);
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
        self.refusals.add(refusal, peer);
    }

    fn open(&mut self, stream: Stream, peer: SocketAddr) {
        let fd = stream.as_raw_fd();
        let connection = Connection::new(stream, peer, &mut self.work);
        let id = self.table.insert(connection, FLOWING, self.now);
        if self
            .ready
            .add(fd, id + CONNECTIONS, Interest::Read)
            .is_err()
        {
            self.end(id, Reason::Error);
        }
    }

    // ---- stopping -------------------------------------------------------------------

    /// Answers what has come, says so, and waits for the peers to end their streams.
    fn drain(&mut self, control: &Control) -> Result<()> {
        self.is_timed = true;
        self.now = Instant::now();
        self.begin_batch();
        if !control.time_left().is_zero() {
            let waiting = self.acceptor.as_ref().and_then(Acceptor::waiting);
            self.accept(waiting.unwrap_or(LAST_ACCEPTS))?;
        }
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.forget(&mut self.ready);
        }
        loop {
            let is_busy = self.sweep();
            // Not held back while this sleeps.
            self.work.tally.publish(&self.shared.blocks[self.index]);
            let left = control.time_left();
            if self.table.is_empty() || left.is_zero() {
                return Ok(());
            }
            let sleep = self.time_to_deadline().map_or(left, |time| time.min(left));
            let count = self.sleep(Some(if is_busy { Duration::ZERO } else { sleep }))?;
            self.turn(count)?;
        }
    }

    /// One step for each connection that may have input; those that have none are
    /// finished. True if some had.
    fn sweep(&mut self) -> bool {
        self.begin_batch();
        let mut sweep = std::mem::take(&mut self.sweep);
        sweep.clear();
        let mut next = self.table.oldest(FLOWING).map(|(id, _)| id);
        while let Some(id) = next {
            sweep.push(id);
            next = self.table.newer(id);
        }
        for &id in &sweep {
            let Some(connection) = self.table.get_mut(id) else {
                continue;
            };
            match connection.echo(&mut self.work) {
                Next::Empty => {
                    connection.finish();
                    self.table.touch(id, LINGERING, self.now);
                }
                next => self.settle(id, FLOWING, next),
            }
        }
        self.sweep = sweep;
        self.table.oldest(FLOWING).is_some()
    }
}
