//! Answers from Python: a callable asked on the worker's own thread, a coroutine function asked
//! on an event loop's, and the built-in ones by name.
//!
//! The one place where a worker runs Python. It attaches once for a batch, keeps its thread
//! state for as long as it lives, and touches nothing of the interpreter between batches.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PyTuple, PyType};

use super::address::pair;
use super::buffer::Input;
use super::calls::call;
use super::errors;
use super::fork;
use crate::respond::{
    self, Choice, Completions, MakeResponder, Outcome, Replies, Request, Respond,
};

/// What a server answers with; given to a server when it is made. Immutable.
#[pyclass(frozen, module = "rsecho._rsecho")]
pub(super) struct Responder(pub(super) Option<MakeResponder>);

#[pymethods]
impl Responder {
    /// A built-in one, as on the command line.
    #[staticmethod]
    #[pyo3(signature = (text, /, *, upper))]
    fn named(py: Python<'_>, text: &str, upper: bool) -> PyResult<Self> {
        let choice = text.parse::<Choice>().and_then(|choice| {
            if upper {
                choice.in_upper_case()
            } else {
                Ok(choice)
            }
        });
        let choice = choice.map_err(|error| errors::raise(py, &error))?;
        Ok(Self(choice.make()))
    }

    /// `function(data, peer)` for each request; `report(error, peer)` where that raises. It may
    /// return a [`Later`] where `gives_later`, which costs a wake-up per answer.
    #[staticmethod]
    #[pyo3(signature = (function, report, error_reply, /, *, gives_later = false))]
    fn callable(
        function: Py<PyAny>,
        report: Py<PyAny>,
        error_reply: Option<Vec<u8>>,
        gives_later: bool,
    ) -> Self {
        let shared = Arc::new((function, report, error_reply));
        let make = MakeResponder::new(move |_| {
            Box::new(Callable {
                shared: Arc::clone(&shared),
                peers: Peers::default(),
                tickets: gives_later.then(Tickets::default),
                is_slow: true,
                generation: fork::generation(),
            })
        });
        Self(Some(make.around(keep_thread_state)))
    }

    /// `dispatch(requests, answers)` for each batch: a list of (ticket, data, peer), each to be
    /// ended by one call on `answers`, at any time and from any thread.
    #[staticmethod]
    #[pyo3(signature = (dispatch, report, error_reply, /))]
    fn deferred(dispatch: Py<PyAny>, report: Py<PyAny>, error_reply: Option<Vec<u8>>) -> Self {
        let shared = Arc::new((dispatch, report, error_reply));
        let make = MakeResponder::new(move |_| {
            Box::new(Deferred {
                shared: Arc::clone(&shared),
                peers: Peers::default(),
                completions: Arc::default(),
                answers: None,
                next_ticket: 0,
            })
        });
        Self(Some(make.around(keep_thread_state)))
    }
}

/// Serves with a thread state that lives as long as the worker: making one for each batch
/// would take longer than the batch, and lose what `threading.local` holds.
fn keep_thread_state(serve: &mut (dyn FnMut() + Send)) {
    // Without the interpreter but for what a responder does.
    Python::attach(|py| py.detach(serve));
}

/// The callable, what is told of its failures, and the reply to such a request.
type Shared = Arc<(Py<PyAny>, Py<PyAny>, Option<Vec<u8>>)>;

/// `rsecho.Peer` objects of those who asked lately, and of whoever was the last.
#[derive(Default)]
struct Peers {
    last: Option<(SocketAddr, Py<PyAny>)>,
    known: HashMap<SocketAddr, Py<PyAny>>,
}

/// Peers remembered; beyond that all are made anew.
const PEERS: usize = 1024;

impl Peers {
    fn get<'py>(&mut self, py: Python<'py>, address: SocketAddr) -> PyResult<Bound<'py, PyAny>> {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        if let Some((last, peer)) = &self.last
            && *last == address
        {
            return Ok(peer.bind(py).clone());
        }
        let peer = match self.known.get(&address) {
            Some(known) => known.bind(py).clone(),
            None => {
                if self.known.len() >= PEERS {
                    self.known.clear();
                }
                let class = CLASS.import(py, "rsecho.responders", "Peer")?;
                let new = call(class, &pair(address).into_pyobject(py)?)?;
                self.known.insert(address, new.clone().unbind());
                new
            }
        };
        self.last = Some((address, peer.clone().unbind()));
        Ok(peer)
    }
}

/// After so long what has been answered is sent, and the worker sees whether it is to stop.
const SLICE: Duration = Duration::from_millis(1);

/// Calls between two looks at the clock, which costs a tenth of a short answer; of a callable
/// that has not shown to be quick, each.
const CALLS_A_LOOK: usize = 4;

/// Asks the callable, on the worker's thread.
struct Callable {
    shared: Shared,
    peers: Peers,
    /// For answers that come later, where there may be any.
    tickets: Option<Tickets>,
    /// Until it has shown to be quick.
    is_slow: bool,
    /// Of the process whose worker this is.
    generation: u64,
}

impl Respond for Callable {
    fn respond(&mut self, requests: &[Request<'_>], replies: &mut Replies) {
        let (function, report, error_reply) = &*self.shared;
        let asked = Python::try_attach(|py| {
            let start = Instant::now();
            let calls = if self.is_slow { 1 } else { CALLS_A_LOOK };
            self.is_slow = false;
            for (number, request) in requests.iter().enumerate() {
                let answer = self.peers.get(py, request.peer).and_then(|peer| {
                    let data = PyBytes::new(py, request.data);
                    let arguments = (data, peer).into_pyobject(py)?;
                    let answer = call(function.bind(py), &arguments)?;
                    match &mut self.tickets {
                        Some(tickets) => tickets.reply(&answer, replies),
                        None => reply(&answer, replies),
                    }
                });
                if fork::generation() != self.generation {
                    fork::end_child(py, answer.err());
                }
                if let Err(error) = answer {
                    tell(py, report, error, request.peer);
                    fail(request, error_reply.as_deref(), replies);
                }
                if (number + 1) % calls == 0 && start.elapsed() > SLICE {
                    self.is_slow = number < CALLS_A_LOOK;
                    break;
                }
                if replies.is_over() {
                    break;
                }
            }
        });
        if asked.is_none() {
            // The interpreter is going away; the server is about to be told.
            requests.iter().for_each(|_| replies.end(Outcome::Failed));
        }
    }

    fn completions(&self) -> Option<Arc<Completions>> {
        let tickets = self.tickets.as_ref()?;
        Some(Arc::clone(&tickets.completions))
    }
}

/// What the responder `upper` answers.
#[pyfunction]
#[pyo3(signature = (data, /))]
pub(super) fn upper_case(data: &[u8]) -> Cow<'static, [u8]> {
    let mut raised = Vec::with_capacity(data.len());
    respond::upper_case(data, &mut raised);
    raised.into()
}

/// What a callable returned, as an answer.
fn reply(answer: &Bound<'_, PyAny>, replies: &mut Replies) -> PyResult<()> {
    if let Ok(data) = answer.cast::<PyBytes>() {
        replies.reply(data.as_bytes());
    } else if answer.is_none() {
        replies.end(Outcome::Silence);
    } else {
        replies.reply(&bytes_like(answer)?);
    }
    Ok(())
}

/// The bytes of a bytearray or a memoryview.
fn bytes_like(answer: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let Ok(input) = Input::get(answer) else {
        let kind = answer.get_type().name()?;
        let way_out = if kind == "str" { ": encode it" } else { "" };
        return Err(PyTypeError::new_err(format!(
            "a responder returns bytes, or None for no reply, not {kind}{way_out}"
        )));
    };
    let py = answer.py();
    Ok(input.with(py, 0, input.len(py), <[u8]>::to_vec))
}

/// Ends a request that failed: with the error reply, unless that is what was asked.
fn fail(request: &Request<'_>, error_reply: Option<&[u8]>, replies: &mut Replies) {
    match error_reply {
        Some(error) if error != request.data => replies.error(error),
        _ => replies.end(Outcome::Failed),
    }
}

fn tell(py: Python<'_>, report: &Py<PyAny>, error: PyErr, peer: SocketAddr) {
    let reported = (error, pair(peer))
        .into_pyobject(py)
        .and_then(|arguments| call(report.bind(py), &arguments));
    if let Err(error) = reported {
        // Logging itself is broken; this is what Python does with what nobody can hear.
        error.write_unraisable(py, None);
    }
}

/// Hands requests to an event loop and promises their answers.
struct Deferred {
    shared: Shared,
    peers: Peers,
    completions: Arc<Completions>,
    answers: Option<Py<Answers>>,
    next_ticket: u64,
}

impl Respond for Deferred {
    fn respond(&mut self, requests: &[Request<'_>], replies: &mut Replies) {
        let shared = Arc::clone(&self.shared);
        let (dispatch, report, error_reply) = &*shared;
        let asked = Python::try_attach(|py| {
            let first = self.next_ticket;
            match self.dispatch(py, dispatch, requests) {
                Ok(()) => (first..).zip(requests).for_each(|(ticket, _)| {
                    replies.end(Outcome::Later(ticket));
                }),
                Err(error) => {
                    tell(py, report, error, requests[0].peer);
                    for request in requests {
                        fail(request, error_reply.as_deref(), replies);
                    }
                }
            }
        });
        if asked.is_none() {
            requests.iter().for_each(|_| replies.end(Outcome::Failed));
        }
    }

    fn completions(&self) -> Option<Arc<Completions>> {
        Some(Arc::clone(&self.completions))
    }
}

impl Deferred {
    fn dispatch(
        &mut self,
        py: Python<'_>,
        dispatch: &Py<PyAny>,
        requests: &[Request<'_>],
    ) -> PyResult<()> {
        let batch = PyList::empty(py);
        let first = self.next_ticket;
        self.next_ticket += requests.len() as u64;
        for (ticket, request) in (first..).zip(requests) {
            let peer = self.peers.get(py, request.peer)?;
            batch.append((ticket, PyBytes::new(py, request.data), peer))?;
        }
        let answers = match &self.answers {
            Some(answers) => answers.clone_ref(py),
            None => {
                let new = Py::new(py, Answers(Arc::clone(&self.completions)))?;
                self.answers = Some(new.clone_ref(py));
                new
            }
        };
        let arguments: Bound<'_, PyTuple> = (batch, answers).into_pyobject(py)?;
        call(dispatch.bind(py), &arguments)?;
        Ok(())
    }
}

/// The tickets that a worker gave to answers which come later.
#[derive(Default)]
struct Tickets {
    completions: Arc<Completions>,
    next: u64,
}

impl Tickets {
    /// What a callable returned, as an answer or one that comes later.
    fn reply(&mut self, answer: &Bound<'_, PyAny>, replies: &mut Replies) -> PyResult<()> {
        let Ok(later) = answer.cast::<Later>() else {
            return reply(answer, replies);
        };
        later.get().bind(&self.completions, self.next)?;
        replies.end(Outcome::Later(self.next));
        self.next += 1;
        Ok(())
    }
}

/// An answer that comes later, perhaps in parts: a responder returns it, and anybody says it, on
/// any thread, before that or after.
#[pyclass(frozen, module = "rsecho._rsecho")]
pub(super) struct Later(Mutex<Said>);

/// Where an answer goes.
enum Said {
    /// It was not returned yet: what was said by now.
    Before(Vec<(Outcome, Vec<u8>)>),
    To(Arc<Completions>, u64),
}

impl Later {
    /// It answers the request of this ticket.
    fn bind(&self, completions: &Arc<Completions>, ticket: u64) -> PyResult<()> {
        let mut said = self.said();
        let Said::Before(parts) = &*said else {
            return Err(PyValueError::new_err(
                "cannot answer two requests by one Later: return another",
            ));
        };
        for (outcome, data) in parts {
            completions.complete(ticket, *outcome, data);
        }
        *said = Said::To(Arc::clone(completions), ticket);
        Ok(())
    }

    fn say(&self, outcome: Outcome, data: &[u8]) {
        match &mut *self.said() {
            Said::Before(parts) => parts.push((outcome, data.into())),
            Said::To(completions, ticket) => completions.complete(*ticket, outcome, data),
        }
    }

    /// Nothing of Python is called while this is held.
    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Later {
    #[new]
    fn new() -> Self {
        Self(Mutex::new(Said::Before(Vec::new())))
    }

    /// One reply, with more to come.
    #[pyo3(signature = (data, /))]
    fn more(&self, data: &[u8]) {
        self.say(Outcome::More, data);
    }

    /// The last reply.
    #[pyo3(signature = (data, /))]
    fn reply(&self, data: &[u8]) {
        self.say(Outcome::Reply, data);
    }

    /// No reply.
    fn drop(&self) {
        self.say(Outcome::Silence, b"");
    }

    /// The last reply, unless it is empty; then the server ends the connection.
    #[pyo3(signature = (data, /))]
    fn close(&self, data: &[u8]) {
        self.say(Outcome::Close, data);
    }

    /// The last reply, unless it is empty; then the server resets the connection.
    #[pyo3(signature = (data, /))]
    fn reset(&self, data: &[u8]) {
        self.say(Outcome::Reset, data);
    }

    /// It failed, and is not answered.
    fn fail(&self) {
        self.say(Outcome::Failed, b"");
    }
}

/// Where a worker waits for late answers.
#[pyclass(frozen, module = "rsecho._rsecho")]
pub(super) struct Answers(Arc<Completions>);

#[pymethods]
impl Answers {
    /// Ends a request with what a responder may return.
    #[pyo3(signature = (ticket, answer, /))]
    fn reply(&self, ticket: u64, answer: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(later) = answer.cast::<Later>() {
            return later.get().bind(&self.0, ticket);
        }
        let mut replies = Replies::default();
        reply(answer, &mut replies)?;
        let (outcome, data) = replies.get(0);
        self.0.complete(ticket, outcome, data);
        Ok(())
    }

    /// Ends a request that failed, with an error reply or none.
    #[pyo3(signature = (ticket, error_reply, /))]
    fn fail(&self, ticket: u64, error_reply: Option<&[u8]>) {
        match error_reply {
            Some(error) => self.0.complete(ticket, Outcome::Error, error),
            None => self.0.complete(ticket, Outcome::Failed, b""),
        }
    }
}
