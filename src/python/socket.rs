//! Socket options in, reports and kernel limits out.

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict};

use super::given::Given;
use super::values::{Seconds, Whole, checked};
use crate::socket::{self, KeepAlive, OptionReport, Severity, SocketReport, Value, limits};

/// What a socket is to be; what is left out stays as the system has it.
#[pyclass(frozen, module = "rsecho._rsecho")]
pub(super) struct SocketOptions(pub(super) socket::SocketOptions);

#[pymethods]
impl SocketOptions {
    #[new]
    #[pyo3(signature = (**given))]
    fn new(py: Python<'_>, given: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let given = Given::new(given.unwrap_or(&PyDict::new(py)))?;
        let options = options(&given)?;
        given.finish()?;
        Ok(Self(options))
    }
}

/// Takes the options of a socket.
pub(super) fn options(given: &Given<'_>) -> PyResult<socket::SocketOptions> {
    let bytes = "a number of bytes is not negative";
    let options = socket::SocketOptions {
        reuse_address: given.take("reuse_address")?,
        reuse_port: given.take("reuse_port")?,
        recv_buffer_bytes: given.number("recv_buffer_bytes", bytes)?,
        send_buffer_bytes: given.number("send_buffer_bytes", bytes)?,
        force_buffers: given.flag("force_buffers")?,
        broadcast: given.take("broadcast")?,
        recv_timeout: given.positive_time("recv_timeout")?,
        // 0 turns a TCP server's deadline off; a UDP server refuses it.
        send_timeout: given.time("send_timeout")?,
        ttl: given.number("ttl", "a time to live is 1 to 255")?,
        dscp: given.number("dscp", "a code point is 0 to 63 (RFC 2474)")?,
        ipv6_only: given.take("ipv6_only")?,
        no_delay: given.take("no_delay")?,
        keep_alive: keep_alive(given)?,
        linger: given.time("linger")?,
        congestion: given.take("congestion")?,
        bind_to_device: given.take("bind_to_device")?,
    };
    checked(given.py(), options.validate())?;
    Ok(options)
}

fn keep_alive(given: &Given<'_>) -> PyResult<Option<KeepAlive>> {
    let times = given.take::<Bound<'_, PyAny>>("keep_alive")?;
    Ok(times
        .map(|times| keep_alive_times(&times))
        .transpose()?
        .flatten())
}

/// True: with the system's times; a tuple (idle, interval, count) of seconds, seconds and a
/// number: with those, None standing for the system's; False: off.
fn keep_alive_times(given: &Bound<'_, PyAny>) -> PyResult<Option<KeepAlive>> {
    if let Ok(flag) = given.cast::<PyBool>() {
        return Ok(flag.is_true().then(KeepAlive::default));
    }
    let (idle, interval, count): (Option<Seconds>, Option<Seconds>, Option<Whole>) =
        given.extract()?;
    let system = "None takes the system's";
    let build = || {
        Ok(KeepAlive {
            idle: idle
                .map(|t| t.to_positive("keep_alive idle", system))
                .transpose()?,
            interval: interval
                .map(|t| t.to_positive("keep_alive interval", system))
                .transpose()?,
            count: count
                .map(|n| n.to("keep_alive count", "it is a number of probes"))
                .transpose()?,
        })
    };
    checked(given.py(), build()).map(Some)
}

type ReportTuple = (
    &'static str,
    &'static str,
    Option<Py<PyAny>>,
    Option<Py<PyAny>>,
    Option<u64>,
    Option<&'static str>,
    Option<(&'static str, String)>,
);

/// (name, option, requested, effective, ceiling, sysctl, (severity, warning)) an option.
pub(super) fn report(py: Python<'_>, report: &SocketReport) -> PyResult<Vec<ReportTuple>> {
    let line = |option: &OptionReport| {
        Ok((
            option.name,
            option.option,
            value(py, option.requested.as_ref())?,
            value(py, option.effective.as_ref())?,
            option.ceiling,
            option.sysctl,
            option.warning.as_ref().map(|(severity, text)| {
                let severity = match severity {
                    Severity::Notice => "notice",
                    Severity::Warning => "warning",
                };
                (severity, text.clone())
            }),
        ))
    };
    report.options.iter().map(line).collect()
}

fn value(py: Python<'_>, value: Option<&Value>) -> PyResult<Option<Py<PyAny>>> {
    value
        .map(|value| match value {
            Value::Flag(flag) => flag.into_py_any(py),
            Value::Number(number) => number.into_py_any(py),
            Value::Time(time) => time.as_secs_f64().into_py_any(py),
            Value::Text(text) => text.into_py_any(py),
        })
        .transpose()
}

/// (name, sysctl, values, meaning) a limit.
#[pyfunction]
pub(super) fn kernel_limits(
    py: Python<'_>,
) -> Vec<(&'static str, Option<&'static str>, Vec<u64>, &'static str)> {
    let limits = py.detach(limits::kernel_limits);
    limits
        .into_iter()
        .map(|limit| (limit.name, limit.sysctl, limit.values, limit.meaning))
        .collect()
}
