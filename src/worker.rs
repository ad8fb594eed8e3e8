//! The threads of a server: they start together, stop on request, can be waited for, and report
//! a panic.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::sys;

/// Why a server ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// A stop was requested.
    Stopped,
    /// Nothing was received for the idle timeout.
    Idle,
    /// An empty datagram was received, and `stop_on_empty` was on.
    Empty,
    /// A system call that serving needs failed.
    Failed(Error),
    /// Native code panicked; the text is the panic's.
    Panicked(String),
}

impl Finish {
    /// Its name in statistics and in Python.
    pub fn name(&self) -> &'static str {
        match self {
            Finish::Stopped => "stopped",
            Finish::Idle => "idle",
            Finish::Empty => "empty",
            Finish::Failed(_) => "failed",
            Finish::Panicked(_) => "panicked",
        }
    }

    /// True unless something went wrong.
    pub fn is_healthy(&self) -> bool {
        !matches!(self, Finish::Failed(_) | Finish::Panicked(_))
    }
}

impl fmt::Display for Finish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finish::Stopped => f.write_str("stop requested"),
            Finish::Idle => f.write_str("idle timeout: nothing was received"),
            Finish::Empty => f.write_str("an empty datagram was received"),
            Finish::Failed(error) => error.fmt(f),
            Finish::Panicked(text) => write!(f, "a worker panicked: {text}"),
        }
    }
}

const RUN: u8 = 0;
const DRAIN: u8 = 1;
const NOW: u8 = 2;

/// What all workers of a server are told.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    phase: AtomicU8,
    deadline: Mutex<Option<Instant>>,
}

impl Orders {
    /// True once the workers are to finish what is there and end.
    fn is_stopping(&self) -> bool {
        self.phase.load(Ordering::Acquire) != RUN
    }

    /// True once they are to drop everything. Reads the clock only while they stop.
    pub(crate) fn is_over(&self) -> bool {
        self.is_stopping() && self.time_left().is_zero()
    }

    /// How long draining may still take; zero once the workers are to drop everything.
    fn time_left(&self) -> Duration {
        if self.phase.load(Ordering::Acquire) == NOW {
            return Duration::ZERO;
        }
        let deadline = *lock(&self.deadline);
        deadline.map_or(Duration::MAX, |at| {
            at.saturating_duration_since(Instant::now())
        })
    }

    fn tell(&self, drain: Duration) {
        let at = Instant::now().checked_add(drain);
        let mut deadline = lock(&self.deadline);
        // A second stop may shorten the first one's deadline, not lengthen it.
        *deadline = match (*deadline, at) {
            (Some(old), Some(new)) => Some(old.min(new)),
            (old, new) => old.or(new),
        };
        let phase = if drain.is_zero() { NOW } else { DRAIN };
        self.phase.fetch_max(phase, Ordering::AcqRel);
    }

    /// How long a stop that was asked for at `asked` waits still: until the deadline, and for
    /// [`GRACE`] more.
    fn patience(&self, asked: Instant) -> Duration {
        let deadline = lock(&self.deadline).map(|at| at.max(asked));
        let end = deadline.and_then(|at| at.checked_add(GRACE));
        end.map_or(Duration::MAX, |end| {
            end.saturating_duration_since(Instant::now())
        })
    }
}

/// What one worker is told, and tells. A load where nothing is told.
#[derive(Debug, Default)]
pub(crate) struct Control {
    orders: Arc<Orders>,
    /// It is in its responder.
    is_asking: AtomicBool,
}

impl Control {
    /// True once the worker is to finish what is there and end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.orders.is_stopping()
    }

    /// True once the worker is to drop everything. Reads the clock only while it stops.
    pub(crate) fn is_over(&self) -> bool {
        self.orders.is_over()
    }

    /// How long draining may still take; zero once the worker is to drop everything.
    pub(crate) fn time_left(&self) -> Duration {
        self.orders.time_left()
    }

    /// The same, for what may outlive a call.
    pub(crate) fn orders(&self) -> Arc<Orders> {
        Arc::clone(&self.orders)
    }

    /// Runs what may be anybody's code, and may not return: a stop does not wait for that
    /// longer than it says.
    pub(crate) fn asking<T>(&self, ask: impl FnOnce() -> T) -> T {
        self.is_asking.store(true, Ordering::Release);
        let answer = ask();
        self.is_asking.store(false, Ordering::Release);
        answer
    }

    #[cfg(test)]
    pub(crate) fn tell(&self, drain: Duration) {
        self.orders.tell(drain);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The data behind these locks is plain and whole after every statement, so a panic
    // while one was held does not make it wrong.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Wake = Box<dyn Fn() + Send + Sync>;
type OnFinish = Box<dyn FnOnce(&Finish) + Send>;
pub(crate) type Task = Box<dyn FnOnce(&Arc<Control>) -> Finish + Send>;

/// A server's workers.
pub(crate) struct Crew {
    /// What this is the crew of, as in `udp://127.0.0.1:9999`.
    name: String,
    orders: Arc<Orders>,
    wake: Wake,
    state: Mutex<State>,
    changed: Condvar,
    process: u32,
}

struct State {
    started: bool,
    workers: Vec<Member>,
    running: usize,
    /// A stop has given up on those that are in their responder.
    is_given_up: bool,
    /// The first reason that is not simply "the others were told to stop".
    finish: Option<Finish>,
    on_finish: Option<OnFinish>,
}

/// One worker, as the others see it.
struct Member {
    /// Its thread's name, as in `rsecho-udp-0`.
    name: String,
    id: ThreadId,
    /// Until somebody joins it.
    thread: Option<JoinHandle<()>>,
    control: Arc<Control>,
    has_ended: bool,
}

impl State {
    /// The workers that are in their responder.
    fn asking(&self) -> impl Iterator<Item = &str> {
        let is_asking = |worker: &&Member| {
            !worker.has_ended && worker.control.is_asking.load(Ordering::Acquire)
        };
        let asking = self.workers.iter().filter(is_asking);
        asking.map(|worker| worker.name.as_str())
    }

    /// Once all have ended: waits for the rest of their threads, which is but a moment.
    fn join(mut state: MutexGuard<'_, Self>) {
        let threads: Vec<_> = state
            .workers
            .iter_mut()
            .filter_map(|worker| worker.thread.take())
            .collect();
        drop(state);
        for thread in threads {
            // A panic is caught within the thread and told by `finish`.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Crew {
    /// `wake` makes every worker look at its [`Control`]; `on_finish` is called once, on
    /// the last worker's thread, with the reason.
    pub(crate) fn new(
        name: String,
        wake: impl Fn() + Send + Sync + 'static,
        on_finish: impl FnOnce(&Finish) + Send + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            orders: Arc::default(),
            wake: Box::new(wake),
            state: Mutex::new(State {
                started: false,
                workers: Vec::new(),
                running: 0,
                is_given_up: false,
                finish: None,
                on_finish: Some(Box::new(on_finish)),
            }),
            changed: Condvar::new(),
            process: sys::process_id(),
        })
    }

    /// An error in a child after `fork`: threads do not survive it, and locks may be held
    /// for ever by those that were.
    pub(crate) fn check_process(&self, operation: &'static str) -> Result<()> {
        if self.is_foreign() {
            return Err(Error::state(
                operation,
                &self.name,
                format!(
                    "process {} started it, and a fork does not copy threads",
                    self.process
                ),
            )
            .or("start another server in this process"));
        }
        Ok(())
    }

    /// True on the thread of one of its workers.
    pub(crate) fn is_own_worker(&self) -> bool {
        let me = thread::current().id();
        let state = lock(&self.state);
        state.workers.iter().any(|worker| worker.id == me)
    }

    /// An error on a worker's own thread, where somebody else's code may run: it would wait
    /// for itself.
    fn check_caller(&self, operation: &'static str) -> Result<()> {
        if self.is_own_worker() {
            let reason = "its own responder asked for it, which would wait for itself";
            return Err(Error::state(operation, &self.name, reason)
                .or("do it on another thread, such as the one that started the server"));
        }
        Ok(())
    }

    /// True in a child after `fork`.
    pub(crate) fn is_foreign(&self) -> bool {
        sys::process_id() != self.process
    }

    /// Starts one thread a task, `NAME-0`, `NAME-1` and so on. Once only.
    pub(crate) fn start(
        self: &Arc<Self>,
        thread_name: &str,
        stack_bytes: usize,
        tasks: Vec<Task>,
    ) -> Result<()> {
        self.check_process("start")?;
        let mut state = lock(&self.state);
        if state.started {
            let reason = if state.running > 0 {
                "it is running"
            } else {
                "it has ended"
            };
            return Err(Error::state("start", &self.name, reason).or("make a new one"));
        }
        state.started = true;
        for (index, task) in tasks.into_iter().enumerate() {
            let (crew, name) = (Arc::clone(self), format!("{thread_name}-{index}"));
            let control = Arc::new(Control {
                orders: Arc::clone(&self.orders),
                ..Control::default()
            });
            let its_control = Arc::clone(&control);
            let spawned = thread::Builder::new()
                .name(name.clone())
                .stack_size(stack_bytes)
                .spawn(move || crew.run(index, task, &its_control));
            match spawned {
                Ok(thread) => {
                    state.workers.push(Member {
                        name,
                        id: thread.thread().id(),
                        thread: Some(thread),
                        control,
                        has_ended: false,
                    });
                    state.running += 1;
                }
                Err(error) => {
                    let error = Error::system("start a thread of", &self.name, &error);
                    self.give_up(state, &error)?;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Ends the workers that were started before one could not be. Says why, so that whoever
    /// waits for the server does not wait for ever.
    fn give_up(&self, mut state: MutexGuard<'_, State>, error: &Error) -> Result<()> {
        let finish = Finish::Failed(error.clone());
        if state.running == 0
            && let Some(on_finish) = state.on_finish.take()
        {
            on_finish(&finish);
        }
        state.finish = Some(finish);
        drop(state);
        self.stop(Duration::ZERO)
    }

    fn run(self: Arc<Self>, index: usize, task: Task, control: &Arc<Control>) {
        sys::thread::block_signals();
        let finish = catch_unwind(AssertUnwindSafe(|| task(control)))
            .unwrap_or_else(|panic| Finish::Panicked(panic_text(panic.as_ref())));
        let mut state = lock(&self.state);
        if state
            .finish
            .as_ref()
            .is_none_or(|first| first.is_healthy() && !finish.is_healthy())
        {
            state.finish = Some(finish);
        }
        state.workers[index].has_ended = true;
        state.running -= 1;
        if state.running == 0 {
            if let (Some(on_finish), Some(finish)) = (state.on_finish.take(), &state.finish) {
                on_finish(finish);
            }
            self.changed.notify_all();
        } else {
            // One worker less is not the server that was asked for: the others end too.
            drop(state);
            self.orders.tell(DRAIN_WITH_OTHERS);
            (self.wake)();
        }
    }

    /// Tells the workers to end, without waiting for them.
    pub(crate) fn request_stop(&self, drain: Duration) -> Result<()> {
        self.check_process("stop")?;
        self.orders.tell(drain);
        (self.wake)();
        Ok(())
    }

    /// Tells the workers to answer what has come, for `drain` at most, and waits for them.
    /// Does nothing the second time.
    ///
    /// # Errors
    ///
    /// When a worker has not ended [`GRACE`] after that time; it ends as soon as its responder
    /// returns.
    pub(crate) fn stop(&self, drain: Duration) -> Result<()> {
        self.stop_unless(drain, || false)
    }

    /// As [`Crew::stop`], but asks ten times a second whether the caller gives up. If so, the
    /// workers are to end now, and those that can are waited for.
    pub(crate) fn stop_unless(
        &self,
        drain: Duration,
        mut gives_up: impl FnMut() -> bool,
    ) -> Result<()> {
        let start = Instant::now();
        self.request_stop(drain)?;
        if self.is_own_worker() {
            // It ends once this very code has returned: nothing to wait for here.
            return Ok(());
        }
        loop {
            let mut state = lock(&self.state);
            if !state.started {
                // Stopped before it began: that is an end as well, and the only one.
                state.started = true;
                state.finish = Some(Finish::Stopped);
            }
            let left = self.orders.patience(start);
            let mut state = self.wait_for_end(state, left.min(LOOK));
            if state.running == 0 {
                State::join(state);
                return Ok(());
            }
            if left <= LOOK {
                state.is_given_up = true;
                return Err(self.unfinished(&state));
            }
            drop(state);
            if gives_up() {
                return self.dismiss().map(drop);
            }
        }
    }

    /// Tells the workers to end now, and waits for those that can: names those that stay in
    /// their responder.
    pub(crate) fn dismiss(&self) -> Result<Vec<String>> {
        self.request_stop(Duration::ZERO)?;
        if self.is_own_worker() {
            return Ok(Vec::new());
        }
        let start = Instant::now();
        let mut state = lock(&self.state);
        loop {
            if state.running == 0 {
                State::join(state);
                return Ok(Vec::new());
            }
            let asking: Vec<String> = state.asking().map(str::to_owned).collect();
            let most = match asking.len() == state.running {
                true if state.is_given_up => Duration::ZERO,
                true => SHORT_GRACE,
                false => GRACE,
            };
            if start.elapsed() >= most {
                state.is_given_up = true;
                return Ok(asking);
            }
            state = self.wait_for_end(state, Duration::from_millis(5));
        }
    }

    fn wait_for_end<'a>(
        &self,
        state: MutexGuard<'a, State>,
        most: Duration,
    ) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout_while(state, most, |state| state.running > 0)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    /// The workers that are in their responder now, by the names of their threads.
    pub(crate) fn asking(&self) -> Vec<String> {
        if self.is_foreign() {
            return Vec::new();
        }
        lock(&self.state).asking().map(str::to_owned).collect()
    }

    fn unfinished(&self, state: &State) -> Error {
        let asking: Vec<&str> = state.asking().collect();
        let reason = match asking[..] {
            [] => format!("{} of its workers have not ended yet", state.running),
            [one] => format!("its worker {one} is still in its responder"),
            _ => format!(
                "its workers {} are still in their responder",
                asking.join(", ")
            ),
        };
        Error::unfinished("stop", &self.name, reason).or(
            "it ends and frees its port as soon as that returns: wait() for it, or set \
             drain_timeout to more seconds than the slowest answer takes",
        )
    }

    /// Waits until all workers have ended, for `timeout` at most; `None`: not yet.
    pub(crate) fn wait(&self, timeout: Duration) -> Result<Option<Finish>> {
        self.check_process("wait for")?;
        self.check_caller("wait for")?;
        let state = lock(&self.state);
        if !state.started {
            return Err(Error::state(
                "wait for",
                &self.name,
                "it has not been started",
            ));
        }
        let state = self.wait_for_end(state, timeout);
        Ok(if state.running == 0 {
            state.finish.clone()
        } else {
            None
        })
    }

    /// True between a start and the end of the last worker.
    pub(crate) fn is_running(&self) -> bool {
        !self.is_foreign() && lock(&self.state).running > 0
    }

    /// Why it has ended, if it has.
    pub(crate) fn finish(&self) -> Option<Finish> {
        if self.is_foreign() {
            return None;
        }
        let state = lock(&self.state);
        if state.running == 0 {
            state.finish.clone()
        } else {
            None
        }
    }
}

/// Workers keep their buffers on the heap.
pub(crate) const STACK_BYTES: usize = 256 << 10;

/// Those that run somebody else's code have what a program's main thread has.
pub(crate) const LARGE_STACK_BYTES: usize = 8 << 20;

/// How long a stop waits, after the time that it was given, for calls of a responder that had
/// begun by then.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// How long it waits for them where nobody asked it to wait.
const SHORT_GRACE: Duration = Duration::from_millis(100);

/// How often a stop looks whether its caller gives up.
const LOOK: Duration = Duration::from_millis(100);

/// How long the others may drain when one worker has ended.
const DRAIN_WITH_OTHERS: Duration = Duration::from_secs(1);

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no text".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn until_told(control: &Arc<Control>) -> Finish {
        while !control.is_stopping() {
            thread::park_timeout(Duration::from_millis(1));
        }
        Finish::Stopped
    }

    #[test]
    fn stops_twice_and_tells_why() {
        let (told, finishes) = mpsc::channel();
        let crew = Crew::new(
            "test".into(),
            || {},
            move |finish| told.send(finish.clone()).unwrap(),
        );
        crew.start(
            "test",
            STACK_BYTES,
            vec![Box::new(until_told), Box::new(until_told)],
        )
        .unwrap();
        assert!(crew.is_running());
        assert_eq!(crew.wait(Duration::from_millis(1)).unwrap(), None);
        crew.stop(Duration::from_secs(1)).unwrap();
        crew.stop(Duration::ZERO).unwrap();
        assert_eq!(crew.wait(Duration::ZERO).unwrap(), Some(Finish::Stopped));
        assert_eq!(finishes.try_iter().collect::<Vec<_>>(), [Finish::Stopped]);
        assert!(
            crew.start("test", STACK_BYTES, vec![])
                .unwrap_err()
                .is_state()
        );
    }

    #[test]
    fn f43_a_panic_ends_the_server_and_is_told() {
        let crew = Crew::new("test".into(), || {}, |_| {});
        let panics: Task = Box::new(|_| panic!("on purpose"));
        crew.start("test", STACK_BYTES, vec![Box::new(until_told), panics])
            .unwrap();
        let finish = crew
            .wait(Duration::from_secs(20))
            .unwrap()
            .expect("it has ended");
        assert_eq!(finish, Finish::Panicked("on purpose".into()));
        assert!(!finish.is_healthy());
    }

    #[test]
    fn a_second_stop_shortens_the_deadline_only() {
        let control = Control::default();
        assert_eq!(control.time_left(), Duration::MAX);
        control.tell(Duration::from_secs(5));
        control.tell(Duration::from_secs(500));
        assert!(control.time_left() <= Duration::from_secs(5));
        control.tell(Duration::ZERO);
        control.tell(Duration::from_secs(5));
        assert_eq!(control.time_left(), Duration::ZERO);
    }
}
