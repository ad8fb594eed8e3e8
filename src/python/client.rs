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
use crate::client::{self, Patience};
use crate::error::{Error, Result};

/// A client until it is closed; a thread that waits meanwhile ends its wait.
struct Handle<C> {
    name: String,
    client: Mutex<Option<Arc<C>>>,
    is_closed: AtomicBool,
}

impl<C: Send + Sync> Handle<C> {
    fn new(name: String, client: C) -> Self {
        Self {
            name,
            client: Mutex::new(Some(Arc::new(client))),
            is_closed: AtomicBool::new(false),
        }
    }

    fn get(&self) -> Result<Arc<C>> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.clone().ok_or_else(|| {
            Error::state("use", &self.name, "this client is closed").or("make a new one")
        })
    }

    fn peek<R>(&self, py: Python<'_>, look: impl FnOnce(&C) -> R) -> PyResult<R> {
        checked(py, self.get()).map(|client| look(&client))
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

    fn close(&self, py: Python<'_>) {
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
        Ok(Self(Handle::new(client.name().to_owned(), client)))
    }

    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    #[getter]
    fn address(&self, py: Python<'_>) -> PyResult<(String, u16)> {
        self.0.peek(py, |client| pair(client.address()))
    }

    #[getter]
    fn peer(&self, py: Python<'_>) -> PyResult<(String, u16)> {
        self.0.peek(py, |client| pair(client.peer()))
    }

    #[getter]
    fn socket_report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.0
            .peek(py, |client| socket::report(py, client.report()))??
            .into_pyobject(py)
    }

    #[pyo3(signature = (data, timeout, /))]
    fn send(&self, data: &Bound<'_, PyAny>, timeout: Option<Seconds>) -> PyResult<()> {
        let py = data.py();
        let timeout = limit(py, timeout)?;
        with_data(data, |data| {
            self.0
                .run(py, timeout, |client, patience| client.send(data, &patience))
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
            .run(py, timeout, |client, patience| client.receive(&patience))?;
        Ok(PyBytes::new(py, &data))
    }

    /// The reply, and how many nanoseconds it took.
    #[pyo3(signature = (data, timeout, /))]
    fn request<'py>(
        &self,
        data: &Bound<'py, PyAny>,
        timeout: Option<Seconds>,
    ) -> PyResult<(Bound<'py, PyBytes>, u64)> {
        let py = data.py();
        let timeout = limit(py, timeout)?;
        let (reply, rtt) = with_data(data, |data| {
            self.0.run(py, timeout, |client, patience| {
                client.request(data, &patience)
            })
        })??;
        Ok((PyBytes::new(py, &reply), nanoseconds(rtt)))
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
        Ok(Self(Handle::new(client.name().to_owned(), client)))
    }

    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    #[getter]
    fn address(&self, py: Python<'_>) -> PyResult<(String, u16)> {
        self.0.peek(py, |client| pair(client.address()))
    }

    #[getter]
    fn peer(&self, py: Python<'_>) -> PyResult<(String, u16)> {
        self.0.peek(py, |client| pair(client.peer()))
    }

    #[getter]
    fn socket_report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.0
            .peek(py, |client| socket::report(py, client.report()))??
            .into_pyobject(py)
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
            let length = client.receive(&mut data, &patience)?;
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

    /// As many bytes back as were sent, and how many nanoseconds that took.
    #[pyo3(signature = (data, timeout, /))]
    fn request<'py>(
        &self,
        data: &Bound<'py, PyAny>,
        timeout: Option<Seconds>,
    ) -> PyResult<(Bound<'py, PyBytes>, u64)> {
        let py = data.py();
        let timeout = limit(py, timeout)?;
        with_data(data, |data| {
            let mut rtt = Duration::ZERO;
            // Straight into the object that is returned: nobody else has it yet.
            let reply = PyBytes::new_with(py, data.len(), |reply| {
                rtt = self.0.run(py, timeout, |client, patience| {
                    client.request(data, reply, patience)
                })?;
                Ok(())
            })?;
            Ok((reply, nanoseconds(rtt)))
        })?
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
