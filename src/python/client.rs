//! The clients.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::address::pair;
use super::blocking::{Caller, blocking};
use super::buffer::Input;
use super::socket::{self, SocketOptions};
use super::values::{Seconds, Whole, checked, family, port};
use crate::client::{self, Ends, Expectation, Patience};
use crate::error::{Error, Result};

/// A client until it is closed; a thread that waits meanwhile ends its wait.
pub(super) struct Handle<C> {
    pub(super) ends: Ends,
    client: Mutex<Option<Arc<C>>>,
    is_closed: AtomicBool,
}

impl<C: Send + Sync> Handle<C> {
    pub(super) fn new(ends: Ends, client: C) -> Self {
        Self {
            ends,
            client: Mutex::new(Some(Arc::new(client))),
            is_closed: AtomicBool::new(false),
        }
    }

    pub(super) fn get(&self) -> Result<Arc<C>> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.clone().ok_or_else(|| {
            Error::state("use", &self.ends.name, "this client is closed").or("make a new one")
        })
    }

    /// Who talks to whom, until it is closed.
    pub(super) fn ends(&self, py: Python<'_>) -> PyResult<&Ends> {
        checked(py, self.get().map(|_| &self.ends))
    }

    /// Runs `work` without the GIL and with the patience of `timeout`.
    fn run<T: Send>(
        &self,
        py: Python<'_>,
        timeout: Option<Duration>,
        work: impl FnOnce(&C, Patience<'_>) -> Result<T> + Send,
    ) -> PyResult<T> {
        let client = checked(py, self.get())?;
        blocking(py, move |caller: &Caller| {
            let is_cancelled = || self.is_closed.load(Ordering::Acquire) || caller.gives_up();
            let result = work(&client, Patience::new(timeout, &is_cancelled));
            match result {
                Err(_) if self.is_closed.load(Ordering::Acquire) => self.get().and(result),
                result => result,
            }
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    pub(super) fn close(&self, py: Python<'_>) {
        self.is_closed.store(true, Ordering::Release);
        let mut slot = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let client = slot.take();
        drop(slot);
        // close(2) may wait for SO_LINGER.
        py.detach(|| drop(client));
    }
}

fn limit(py: Python<'_>, timeout: Option<Seconds>) -> PyResult<Option<Duration>> {
    checked(py, timeout.map(|t| t.to("timeout")).transpose())
}

/// Runs `with` on the data without the GIL where it cannot change, on a copy where it can.
fn with_data<R>(data: &Bound<'_, PyAny>, with: impl FnOnce(&[u8]) -> R) -> PyResult<R> {
    let py = data.py();
    let input = Input::get(data)?;
    let length = input.len(py);
    Ok(input.with(py, 0, length, with))
}

/// What a caller wants back.
struct Wanted {
    bytes: Option<Vec<u8>>,
    takes_any: bool,
}

impl Wanted {
    fn get(expected: Option<&Bound<'_, PyAny>>, takes_any: bool) -> PyResult<Self> {
        if let (true, Some(expected)) = (takes_any, expected) {
            let reason = "expected says already which reply is right";
            let error = Error::argument("use", "takes_any=True", reason);
            return checked(expected.py(), Err(error));
        }
        let bytes = expected.map(|expected| with_data(expected, <[u8]>::to_vec));
        Ok(Self {
            bytes: bytes.transpose()?,
            takes_any,
        })
    }

    fn expectation(&self) -> Expectation<'_> {
        match &self.bytes {
            Some(bytes) => Expectation::Bytes(bytes),
            None if self.takes_any => Expectation::Any,
            None => Expectation::Echo,
        }
    }
}

/// The reply, how many nanoseconds it took, and whether it is right.
type Answer<'py> = (Bound<'py, PyBytes>, u64, bool);

/// A socket that talks to one UDP peer.
#[pyclass(frozen, module = "rsecho._rsecho")]
pub(super) struct UdpClient(Handle<client::UdpClient>);

#[pymethods]
impl UdpClient {
    #[new]
    #[pyo3(signature = (host, port, options, *, family))]
    fn new(
        py: Python<'_>,
        host: &str,
        port: Whole,
        options: &SocketOptions,
        family: Whole,
    ) -> PyResult<Self> {
        let client = blocking(py, |_| {
            let (port, family) = (self::port(port)?, self::family(family)?);
            client::UdpClient::connect(host, port, family, &options.0)
        })?;
        Ok(Self(Handle::new(client.ends().clone(), client)))
    }

    #[getter]
    fn name(&self) -> &str {
        &self.0.ends.name
    }

    #[getter]
    fn address(&self, py: Python<'_>) -> PyResult<(String, u16)> {
        Ok(pair(self.0.ends(py)?.address))
    }

    #[getter]
    fn peer(&self, py: Python<'_>) -> PyResult<(String, u16)> {
        Ok(pair(self.0.ends(py)?.peer))
    }

    #[getter]
    fn socket_report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        socket::report(py, &self.0.ends(py)?.report)?.into_pyobject(py)
    }

    #[pyo3(signature = (data, timeout, /))]
    fn send(&self, data: &Bound<'_, PyAny>, timeout: Option<Seconds>) -> PyResult<()> {
        let py = data.py();
        let timeout = limit(py, timeout)?;
        with_data(data, |data| {
            self.0
                .run(py, timeout, |client, patience| client.send(data, patience))
        })?
    }

    #[pyo3(signature = (timeout, /))]
    fn receive<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<Seconds>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let timeout = limit(py, timeout)?;
        let data = self
            .0
            .run(py, timeout, |client, patience| client.receive(patience))?;
        Ok(PyBytes::new(py, &data))
    }

    /// Sends a datagram and takes the next one as its reply.
    #[pyo3(signature = (data, timeout, /, *, expected=None, takes_any=false))]
    fn request<'py>(
        &self,
        data: &Bound<'py, PyAny>,
        timeout: Option<Seconds>,
        expected: Option<&Bound<'py, PyAny>>,
        takes_any: bool,
    ) -> PyResult<Answer<'py>> {
        let py = data.py();
        let timeout = limit(py, timeout)?;
        let wanted = Wanted::get(expected, takes_any)?;
        let reply = with_data(data, |data| {
            self.0.run(py, timeout, |client, patience| {
                client.request(data, wanted.expectation(), patience)
            })
        })??;
        Ok((
            PyBytes::new(py, &reply.data),
            nanoseconds(reply.rtt),
            reply.is_right,
        ))
    }

    fn close(&self, py: Python<'_>) {
        self.0.close(py);
    }
}

/// One TCP connection.
#[pyclass(frozen, module = "rsecho._rsecho")]
pub(super) struct TcpClient(Handle<client::TcpClient>);

/// What one receive makes room for at most, whatever the caller would take.
const RECEIVE_BYTES: usize = 1 << 20;

/// What of a reply that may be any is taken at most.
const ANY_REPLY_BYTES: usize = 1 << 16;

#[pymethods]
impl TcpClient {
    #[new]
    #[pyo3(signature = (host, port, options, *, family, timeout))]
    fn new(
        py: Python<'_>,
        host: &str,
        port: Whole,
        options: &SocketOptions,
        family: Whole,
        timeout: Option<Seconds>,
    ) -> PyResult<Self> {
        let timeout = limit(py, timeout)?;
        let client = blocking(py, |caller| {
            let (port, family) = (self::port(port)?, self::family(family)?);
            let is_cancelled = || caller.gives_up();
            let patience = Patience::new(timeout, &is_cancelled);
            client::TcpClient::connect(host, port, family, &options.0, &patience)
        })?;
        Ok(Self(Handle::new(client.ends().clone(), client)))
    }

    #[getter]
    fn name(&self) -> &str {
        &self.0.ends.name
    }

    #[getter]
    fn address(&self, py: Python<'_>) -> PyResult<(String, u16)> {
        Ok(pair(self.0.ends(py)?.address))
    }

    #[getter]
    fn peer(&self, py: Python<'_>) -> PyResult<(String, u16)> {
        Ok(pair(self.0.ends(py)?.peer))
    }

    #[getter]
    fn socket_report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        socket::report(py, &self.0.ends(py)?.report)?.into_pyobject(py)
    }

    #[pyo3(signature = (data, timeout, /))]
    fn send_all(&self, data: &Bound<'_, PyAny>, timeout: Option<Seconds>) -> PyResult<()> {
        let py = data.py();
        let timeout = limit(py, timeout)?;
        with_data(data, |data| {
            self.0.run(py, timeout, |client, patience| {
                client.send_all(data, patience)
            })
        })?
    }

    #[pyo3(signature = (max_bytes, timeout, /))]
    fn receive<'py>(
        &self,
        py: Python<'py>,
        max_bytes: Whole,
        timeout: Option<Seconds>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let timeout = limit(py, timeout)?;
        let room = checked(py, number_of_bytes("max_bytes", max_bytes))?.min(RECEIVE_BYTES);
        let data = self.0.run(py, timeout, |client, patience| {
            let mut data = vec![0; room];
            let length = client.receive(&mut data, patience)?;
            data.truncate(length);
            Ok(data)
        })?;
        Ok(PyBytes::new(py, &data))
    }

    #[pyo3(signature = (count, timeout, /))]
    fn receive_exactly<'py>(
        &self,
        py: Python<'py>,
        count: Whole,
        timeout: Option<Seconds>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let timeout = limit(py, timeout)?;
        let count = checked(py, number_of_bytes("count", count))?;
        PyBytes::new_with(py, count, |room| {
            self.0.run(py, timeout, |client, patience| {
                client.receive_exactly(room, patience)
            })
        })
    }

    /// Sends all of `data`; takes as many bytes back as the right reply has, where there is one.
    #[pyo3(signature = (data, timeout, /, *, expected=None, takes_any=false))]
    fn request<'py>(
        &self,
        data: &Bound<'py, PyAny>,
        timeout: Option<Seconds>,
        expected: Option<&Bound<'py, PyAny>>,
        takes_any: bool,
    ) -> PyResult<Answer<'py>> {
        let py = data.py();
        let timeout = limit(py, timeout)?;
        let wanted = Wanted::get(expected, takes_any)?;
        with_data(data, |data| {
            let Some(right) = wanted.expectation().right_reply(data) else {
                let (reply, rtt) = self.0.run(py, timeout, |client, patience| {
                    let mut reply = vec![0; ANY_REPLY_BYTES];
                    let (length, rtt) = client.request_any(data, &mut reply, patience)?;
                    reply.truncate(length);
                    Ok((reply, rtt))
                })?;
                return Ok((PyBytes::new(py, &reply), nanoseconds(rtt), true));
            };
            let mut rtt = Duration::ZERO;
            // Straight into the object that is returned: nobody else has it yet.
            let reply = PyBytes::new_with(py, right.len(), |reply| {
                rtt = self.0.run(py, timeout, |client, patience| {
                    client.request(data, reply, patience)
                })?;
                Ok(())
            })?;
            let is_right = reply.as_bytes() == right;
            Ok((reply, nanoseconds(rtt), is_right))
        })?
    }

    /// Sends a line and takes the next one as its reply, both without their newlines.
    #[pyo3(signature = (line, timeout, /, *, expected=None, takes_any=false))]
    fn request_line<'py>(
        &self,
        line: &Bound<'py, PyAny>,
        timeout: Option<Seconds>,
        expected: Option<&Bound<'py, PyAny>>,
        takes_any: bool,
    ) -> PyResult<Answer<'py>> {
        let py = line.py();
        let timeout = limit(py, timeout)?;
        let wanted = Wanted::get(expected, takes_any)?;
        let (reply, rtt, is_right) = with_data(line, |line| {
            self.0.run(py, timeout, |client, patience| {
                let (reply, rtt) = client.request_line(line, patience)?;
                let is_right = wanted.expectation().is_met(line, &reply);
                Ok((reply, rtt, is_right))
            })
        })??;
        Ok((PyBytes::new(py, &reply), nanoseconds(rtt), is_right))
    }

    /// Tells the peer that nothing more will be sent.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        self.0.run(py, None, |client, _| client.finish())
    }

    fn close(&self, py: Python<'_>) {
        self.0.close(py);
    }
}

fn number_of_bytes(name: &str, number: Whole) -> Result<usize> {
    number.to(name, "a number of bytes is not negative")
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
