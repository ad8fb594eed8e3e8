//! Lines that workers write once a second at most, the last of a burst on time.
//!
//! A worker that sleeps for ever need not wake for that: what it held back lies where the
//! queue's reader finds it, which writes it when it is due. Nothing here is touched unless
//! there is something to tell, and then for a few stores under a lock of its own that the
//! reader takes once a second, for as short a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Event, Level, Observer, Parts, What, now_ns};
use crate::throttle::{LeftOut, Throttle};

/// A line about a server's life.
pub(crate) struct Line {
    pub(crate) level: Level,
    /// A short name for filters.
    pub(crate) name: &'static str,
    /// The whole line.
    pub(crate) text: String,
    /// Its content, for programs.
    pub(crate) parts: Parts,
}

/// Lines of one kind of one worker. What happened is collected in a `T` until a line says it.
/// The last of them is written when this goes away.
pub(crate) struct Lines<T: Default + Send + 'static>(Arc<Cell<T>>);

/// Makes the line that says what was collected, of the server of this name, with what is to
/// be said of the lines that were left out.
pub(crate) type Write<T> = fn(T, &str, LeftOut) -> Line;

struct Cell<T> {
    observer: Arc<Observer>,
    write: Write<T>,
    state: Mutex<State<T>>,
}

#[derive(Default)]
struct State<T> {
    throttle: Throttle,
    told: T,
    /// The queue's reader will look at it.
    is_listed: bool,
}

impl<T: Default + Send + 'static> Lines<T> {
    pub(crate) fn new(observer: Arc<Observer>, write: Write<T>) -> Self {
        Self(Arc::new(Cell {
            observer,
            write,
            state: Mutex::default(),
        }))
    }

    /// Something happened, which `collect` adds to what is to be told; written now or when it
    /// is due.
    pub(crate) fn add(&self, now: Instant, collect: impl FnOnce(&mut T)) {
        let Some(queue) = &self.0.observer.queue else {
            return;
        };
        let mut state = self.0.lock();
        collect(&mut state.told);
        if let Some(left_out) = state.throttle.offer(queue.since_start(now)) {
            let told = std::mem::take(&mut state.told);
            drop(state);
            queue.push(self.0.event(now_ns(), told, left_out));
        } else if !state.is_listed
            && let Some(due) = state.throttle.due()
        {
            state.is_listed = true;
            drop(state);
            queue.remind(due, Arc::clone(&self.0) as Arc<dyn Held>);
        }
    }
}

impl<T: Default + Send + 'static> Drop for Lines<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if let Some(queue) = &self.0.observer.queue
            && let Some(left_out) = state.throttle.finish()
        {
            let told = std::mem::take(&mut state.told);
            drop(state);
            queue.push(self.0.event(now_ns(), told, left_out));
        }
    }
}

impl<T: Default> Cell<T> {
    fn lock(&self) -> std::sync::MutexGuard<'_, State<T>> {
        // Whole after every statement, also where one panicked that held the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(&self, time_ns: u64, told: T, left_out: u64) -> Event {
        let mut line = (self.write)(told, self.observer.server(), LeftOut(left_out));
        line.parts.push(("left_out_lines", left_out.into()));
        let what = What::Notice {
            level: line.level,
            name: line.name,
            text: line.text,
            parts: line.parts,
        };
        self.observer.event(time_ns, what)
    }
}

/// What holds a line back.
pub(super) trait Held: Send + Sync {
    /// Its line, if that is due.
    fn take_due(&self, now: Duration) -> Option<Event>;

    /// From when on it has one; `None`: it has none, and may be forgotten.
    fn due(&self) -> Option<Duration>;
}

impl<T: Default + Send> Held for Cell<T> {
    fn take_due(&self, now: Duration) -> Option<Event> {
        let mut state = self.lock();
        let left_out = state.throttle.take_due(now)?;
        let told = std::mem::take(&mut state.told);
        // Taken before the worker can go on: what that reports from now on is later.
        let time_ns = now_ns();
        drop(state);
        Some(self.event(time_ns, told, left_out))
    }

    fn due(&self) -> Option<Duration> {
        let mut state = self.lock();
        let due = state.throttle.due();
        state.is_listed = due.is_some();
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Queue;

    #[derive(Default)]
    struct Sum(u64);

    fn lines(queue: &Arc<Queue>) -> Lines<Sum> {
        let observer = Observer::new("test", Some(Arc::clone(queue)));
        Lines::new(Arc::new(observer), |sum, server, left_out| Line {
            level: Level::Warning,
            name: "sum",
            text: format!("{server} {}{left_out}", sum.0),
            parts: Vec::new(),
        })
    }

    fn told(queue: &Queue) -> Vec<String> {
        let events = queue.drain(100).into_iter();
        let texts = events.map(|event| match event.what {
            What::Notice { text, .. } => text,
            other => panic!("{other:?}"),
        });
        texts.collect()
    }

    #[test]
    fn the_last_of_a_burst_comes_by_itself_and_on_time() {
        let queue = Arc::new(Queue::new(8).unwrap());
        let lines = lines(&queue);
        let start = Instant::now();
        for number in [1, 10, 100] {
            lines.add(start, |sum| sum.0 += number);
        }
        assert_eq!(told(&queue), ["test 1"]);
        assert!(queue.is_empty());
        // Nothing more happens; whoever waits for events gets it.
        queue.wait(Duration::from_secs(20));
        assert_eq!(told(&queue), ["test 110 (1 more like it)"]);
        let waited = start.elapsed();
        assert!(waited >= Duration::from_secs(1), "{waited:?}");
        assert!(waited < Duration::from_secs(10), "{waited:?}");
        assert!(queue.held().is_empty() && queue.time_to_due() > Duration::from_secs(20));
    }

    #[test]
    fn what_is_held_back_is_said_at_the_end_and_before_what_is_reported_then() {
        let queue = Arc::new(Queue::new(8).unwrap());
        let lines = lines(&queue);
        let now = Instant::now();
        lines.add(now, |sum| sum.0 += 1);
        lines.add(now, |sum| sum.0 += 2);
        drop(lines);
        Observer::new("test", Some(Arc::clone(&queue))).notice(Level::Info, "stopped", "stopped");
        assert_eq!(told(&queue), ["test 1", "test 2", "stopped"]);
        std::thread::sleep(Duration::from_millis(1_100));
        assert!(told(&queue).is_empty());
    }

    #[test]
    fn a_worker_and_the_reader_together_say_everything_once() {
        let queue = Arc::new(Queue::new(8).unwrap());
        let lines = lines(&queue);
        let start = Instant::now();
        let mut sum = 0;
        let mut add = |texts: Vec<String>| {
            for text in texts {
                sum += text.split(' ').nth(1).unwrap().parse::<u64>().unwrap();
            }
        };
        std::thread::scope(|scope| {
            let worker = scope.spawn(move || {
                // Of a clock of its own, in which a millisecond is three seconds.
                for number in 0..30_000_u32 {
                    let at = start + Duration::from_micros(3_000) * (number / 1_000) * 1_000;
                    lines.add(at, |sum| sum.0 += 1);
                }
            });
            while !worker.is_finished() {
                add(told(&queue));
            }
        });
        add(told(&queue));
        assert_eq!(sum, 30_000);
    }

    #[test]
    fn without_a_queue_nothing_is_kept() {
        let lines = Lines::new(Arc::new(Observer::new("test", None)), |(), _, _| {
            unreachable!("nobody reads it")
        });
        lines.add(Instant::now(), |()| unreachable!("nobody reads it"));
    }
}
