//! The server handle.

use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::address::pair;
use super::blocking::{Caller, SLICE, blocking};
use super::event::EventQueue;
use super::given::Given;
use super::guard::GuardPolicy;
use super::responder::Responder;
use super::socket;
use super::transfer::{Messages, Taken};
use super::values::{Seconds, Whole, checked, cpus, engine, family, port, wait};
use crate::address::Family;
use crate::books::{self, Kind, Row};
use crate::error::{Error, Result};
use crate::guard::Policy;
use crate::impair::{Tape, parse_trace, print_trace};
use crate::respond::MakeResponder;
use crate::server::udp::Broadcast;
use crate::server::{self, Change, EngineChoice, Listen, Wait, tcp, udp};
use crate::worker::Finish;

/// What a server of this protocol (`udp`, `tcp`) tells, beside the reasons: names, and whether each
/// says how many there are now rather than how many there were.
#[pyfunction]
#[pyo3(signature = (protocol, /))]
pub(super) fn figures(protocol: &str) -> Vec<(&'static str, bool)> {
    let rows = match protocol {
        "udp" => books::udp::table(),
        _ => books::tcp::table(),
    };
    let is_gauge = |row: &Row| row.kind == Kind::Gauge;
    rows.iter().map(|row| (row.name, is_gauge(row))).collect()
}

/// A UDP or TCP server: bound when made, then started, stopped, waited for, asked.
#[pyclass(frozen, module = "rsecho._rsecho")]
pub(super) struct Server(
    Arc<server::Server>,
    Mutex<Option<Arc<Tape>>>,
    Option<Messages>,
);

#[pymethods]
impl Server {
    /// Binds a UDP server.
    #[staticmethod]
    #[pyo3(signature = (given, queue, /))]
    fn udp(py: Python<'_>, given: &Bound<'_, PyDict>, queue: &EventQueue) -> PyResult<Self> {
        let given = Given::new(given)?;
        let common = Common::take(&given)?;
        let bytes = "a number of bytes is not negative";
        let taken = Taken::take(&given)?;
        let config = udp::Config {
            transfers: taken.transfers,
            socket: socket::options(&given)?,
            idle_timeout: given.positive_time("idle_timeout")?,
            max_datagram_bytes: given.number("max_datagram_bytes", bytes)?,
            stop_on_empty: given.flag("stop_on_empty")?,
            broadcast: broadcast(&given)?,
            impair: given.parsed("impair")?.unwrap_or_default(),
            workers: common.workers,
            cpus: common.cpus,
            engine: common.engine,
            wait: common.wait,
            record_bytes: common.record_bytes,
            responder: common.responder,
            guard: common.guard,
            ..udp::Config::new(common.listen)
        };
        given.finish()?;
        let queue = Arc::clone(&queue.0);
        blocking(py, |_| server::Server::udp(config, Some(queue)))
            .map(|server| Self::new(server, taken.messages))
    }

    /// Binds a TCP server, which listens from now on.
    #[staticmethod]
    #[pyo3(signature = (given, queue, /))]
    fn tcp(py: Python<'_>, given: &Bound<'_, PyDict>, queue: &EventQueue) -> PyResult<Self> {
        let given = Given::new(given)?;
        let common = Common::take(&given)?;
        let defaults = tcp::Config::new(common.listen);
        let bytes = "a number of bytes is not negative";
        let config = tcp::Config {
            socket: socket::options(&given)?,
            backlog: given.number("backlog", "it is a number of connections, 0 or more")?,
            // 0: never (see `tcp::Config`).
            idle_timeout: given.time("idle_timeout")?,
            max_connections: given.number("max_connections", "it is a number of connections")?,
            max_connection_time: given.time("max_connection_seconds")?,
            min_rate: min_rate(&given)?,
            framing: given.parsed("framing")?.unwrap_or(defaults.framing),
            max_line_bytes: given
                .number("max_line_bytes", bytes)?
                .unwrap_or(defaults.max_line_bytes),
            impair: given.parsed("impair")?.unwrap_or_default(),
            workers: common.workers,
            cpus: common.cpus,
            engine: common.engine,
            wait: common.wait,
            record_bytes: common.record_bytes,
            responder: common.responder,
            guard: common.guard,
            ..defaults
        };
        given.finish()?;
        let queue = Arc::clone(&queue.0);
        blocking(py, |_| server::Server::tcp(config, Some(queue)))
            .map(|server| Self::new(server, None))
    }

    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    #[getter]
    fn id(&self) -> u64 {
        self.0.id()
    }

    #[getter]
    fn address(&self) -> (String, u16) {
        pair(self.0.address())
    }

    #[getter]
    fn engine(&self) -> &'static str {
        self.0.engine()
    }

    #[getter]
    fn is_running(&self) -> bool {
        self.0.is_running()
    }

    #[getter]
    fn is_foreign(&self) -> bool {
        self.0.is_foreign()
    }

    /// Starts the workers and returns.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        blocking(py, |_| self.0.start())
    }

    /// Tells the workers to end and does not wait.
    #[pyo3(signature = (drain_timeout, /))]
    fn request_stop(&self, py: Python<'_>, drain_timeout: Seconds) -> PyResult<()> {
        let drain = checked(py, drain_timeout.to("drain_timeout"))?;
        blocking(py, |_| self.0.request_stop(drain))
    }

    /// Answers what has come already, for `drain_timeout` at most, then ends; waits for that,
    /// and a second more for a responder.
    #[pyo3(signature = (drain_timeout, /))]
    fn stop(&self, py: Python<'_>, drain_timeout: Seconds) -> PyResult<()> {
        let drain = checked(py, drain_timeout.to("drain_timeout"))?;
        blocking(py, |caller| self.0.stop_unless(drain, || caller.gives_up()))
    }

    /// Has it end now, and waits a moment: the names of workers that stay in their responder.
    fn dismiss(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        blocking(py, |_| self.0.dismiss())
    }

    /// The names of workers that are in their responder.
    #[getter]
    fn asking(&self) -> Vec<String> {
        self.0.asking()
    }

    /// Why it has ended, as (name, detail); None: it still runs after `timeout`.
    #[pyo3(signature = (timeout, /))]
    fn wait(
        &self,
        py: Python<'_>,
        timeout: Option<Seconds>,
    ) -> PyResult<Option<(&'static str, String)>> {
        let timeout = checked(py, timeout.map(|t| t.to("timeout")).transpose())?;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let finish = blocking(py, |caller| self.wait_until(deadline, caller))?;
        Ok(finish.as_ref().map(finish_pair))
    }

    /// Why it has ended, if it has.
    fn finish(&self) -> Option<(&'static str, String)> {
        self.0.finish().as_ref().map(finish_pair)
    }

    /// Counters by name, the counts of each reason, and what the kernel dropped.
    fn stats<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyDict>, Bound<'py, PyDict>, Option<u64>)> {
        let stats = blocking(py, |_| {
            if self.0.is_foreign() {
                // Its workers are not here, and one may have been in the midst of counting.
                return Err(Error::state(
                    "read the statistics of",
                    self.0.name(),
                    "it belongs to the process that made it, and a fork does not copy it",
                ));
            }
            Ok(self.0.stats())
        })?;
        let dict = |pairs: &[(&'static str, u64)]| {
            let dict = PyDict::new(py);
            for (name, value) in pairs {
                dict.set_item(name, value)?;
            }
            PyResult::Ok(dict)
        };
        Ok((
            dict(&stats.counters)?,
            dict(&stats.reasons)?,
            stats.kernel_drops,
        ))
    }

    /// (name, option, requested, effective, ceiling, sysctl, (severity, warning)) an option.
    #[getter]
    fn socket_report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        socket::report(py, &self.0.report())?.into_pyobject(py)
    }

    /// The next large message, or None: none came in time, or the server has ended.
    #[pyo3(signature = (timeout, /))]
    fn take_message(
        &self,
        py: Python<'_>,
        timeout: Option<Seconds>,
    ) -> PyResult<Option<Py<PyTuple>>> {
        let timeout = checked(py, timeout.map(|t| t.to("timeout")).transpose())?;
        if self.0.is_foreign() {
            let reason = "it belongs to the process that made it, and a fork does not copy it";
            let error = Error::state("take a message of", self.0.name(), reason);
            return checked(py, Err(error));
        }
        match &self.2 {
            Some(messages) => messages.take(py, timeout, || !self.0.is_running()),
            None => Ok(None),
        }
    }

    /// Turns events for each datagram or connection on, with this many bytes of payload,
    /// or off.
    #[pyo3(signature = (payload_bytes, /))]
    fn set_access(&self, payload_bytes: Option<u32>) {
        self.0.set_access(payload_bytes);
    }

    /// Impairs this from now on; "" for nothing. Records so many decisions, or repeats those of
    /// a trace.
    #[pyo3(signature = (spec, record, replay, /))]
    fn impair(
        &self,
        py: Python<'_>,
        spec: String,
        record: Whole,
        replay: Option<&str>,
    ) -> PyResult<String> {
        blocking(py, |_| {
            let record: usize = record.to("record", "a number of decisions is not negative")?;
            let tape = match replay {
                Some(trace) => Some(Arc::new(Tape::replaying(parse_trace(trace)?))),
                None if record > 0 => Some(Arc::new(Tape::checked(record)?)),
                None => None,
            };
            let change = Change {
                spec,
                tape: tape.clone(),
            };
            let text = self.0.impair(&change)?;
            *self.1.lock().unwrap_or_else(PoisonError::into_inner) = tape;
            Ok(text)
        })
    }

    /// What impairs it now, with the seed that repeats it; empty: nothing.
    #[getter]
    fn impairment(&self) -> String {
        self.0.impairment()
    }

    /// What was recorded since the last change, as JSON lines, and how many decisions there was
    /// no room for.
    fn impairment_trace(&self, py: Python<'_>) -> PyResult<(String, u64)> {
        blocking(py, |_| {
            let tape = self.1.lock().unwrap_or_else(PoisonError::into_inner);
            let (decisions, dropped) = tape
                .as_ref()
                .map_or_else(Default::default, |tape| (tape.decisions(), tape.dropped()));
            Ok((print_trace(&decisions), dropped))
        })
    }

    /// For the child of a fork: lets go of the parent's sockets.
    fn abandon(&self) {
        if self.0.is_foreign() {
            self.0.abandon();
            // Never freed here: that would detach threads by handles that now mean nothing,
            // or mean a new thread of the child's (pthread_detach(3)).
            std::mem::forget(Arc::clone(&self.0));
        }
    }
}

impl Server {
    fn new(server: server::Server, messages: Option<Messages>) -> Self {
        Self(Arc::new(server), Mutex::default(), messages)
    }

    fn wait_until(&self, deadline: Option<Instant>, caller: &Caller) -> Result<Option<Finish>> {
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if let Some(finish) = self.0.wait(left.map_or(SLICE, |left| left.min(SLICE)))? {
                return Ok(Some(finish));
            }
            if left.is_some_and(|left| left <= SLICE) {
                return Ok(None);
            }
            if caller.gives_up() {
                return Err(caller.gone());
            }
        }
    }
}

fn finish_pair(finish: &Finish) -> (&'static str, String) {
    (finish.name(), finish.to_string())
}

/// The options of both servers.
struct Common {
    listen: Listen,
    workers: usize,
    cpus: Vec<usize>,
    engine: EngineChoice,
    wait: Wait,
    record_bytes: Option<usize>,
    responder: Option<MakeResponder>,
    guard: Policy,
}

impl Common {
    fn take(given: &Given<'_>) -> PyResult<Self> {
        let responder = given.take::<Bound<'_, Responder>>("responder")?;
        let guard = given.take::<Bound<'_, GuardPolicy>>("guard")?;
        let workers = given.number("workers", "a server has 1 worker or more")?;
        Ok(Self {
            listen: listen(given)?,
            workers: workers.unwrap_or(1),
            cpus: given.convert("cpus", cpus)?.unwrap_or_default(),
            engine: given
                .convert("engine", |name: String| engine(&name))?
                .unwrap_or(EngineChoice::Auto),
            wait: given
                .convert("wait", |name: String| wait(&name))?
                .unwrap_or(Wait::Balanced),
            record_bytes: given.take("record_bytes")?,
            responder: responder.and_then(|responder| responder.get().0.clone()),
            guard: guard.map_or_else(Policy::default, |guard| guard.get().0.clone()),
        })
    }
}

fn listen(given: &Given<'_>) -> PyResult<Listen> {
    let host = given.take("host")?.unwrap_or_default();
    let port = given.convert("port", port)?.unwrap_or_default();
    let family = given.convert("family", family)?.unwrap_or(Family::Any);
    let rule = "a descriptor is a small number, not negative";
    let descriptor: Option<RawFd> = given.number("sock", rule)?;
    Ok(match descriptor {
        Some(descriptor) => Listen::On(checked(given.py(), crate::socket::adopt(descriptor))?),
        None => Listen::At { host, port, family },
    })
}

fn broadcast(given: &Given<'_>) -> PyResult<Option<Broadcast>> {
    let is_answered = given.flag("answer_broadcast")?;
    let per_second = given.convert("broadcast_rate", |rate: f64| {
        let is_rate = rate > 0.0 && rate.is_finite();
        let rule = "it is a number of answers per second, more than 0";
        is_rate
            .then_some(rate)
            .ok_or_else(|| Error::argument("set", format!("broadcast_rate={rate}"), rule))
    })?;
    let broadcast = Broadcast {
        max_delay: given
            .time("broadcast_delay")?
            .unwrap_or(Duration::from_millis(100)),
        per_second: per_second.unwrap_or(10.0),
    };
    Ok(is_answered.then_some(broadcast))
}

fn min_rate(given: &Given<'_>) -> PyResult<Option<tcp::MinRate>> {
    let bytes_per_second = given.take("min_bytes_per_second")?;
    let window = given.time("min_rate_window")?;
    Ok(bytes_per_second.map(|bytes_per_second| tcp::MinRate {
        bytes_per_second,
        window: window.unwrap_or(Duration::from_secs(10)),
    }))
}
