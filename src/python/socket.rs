//! Socket options in, reports and kernel limits out.

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyBool;

use super::values::{Seconds, Whole, checked};
use crate::error::Result;
use crate::socket::{self, KeepAlive, OptionReport, Severity, SocketReport, Value, limits};

/// What a socket is to be; what is left out stays as the system has it.
#[pyclass(frozen, module = "rsecho._rsecho")]
pub(super) struct SocketOptions(pub(super) socket::SocketOptions);

#[pymethods]
impl SocketOptions {
    #[new]
    #[pyo3(signature = (
        *,
        reuse_address = None,
        reuse_port = None,
        recv_buffer_bytes = None,
        send_buffer_bytes = None,
        force_buffers = false,
        broadcast = None,
        recv_timeout = None,
        send_timeout = None,
        ttl = None,
        dscp = None,
        ipv6_only = None,
        no_delay = None,
        keep_alive = None,
        linger = None,
        congestion = None,
        bind_to_device = None,
    ))]
    // One parameter an option, as Python has them.
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        reuse_address: Option<bool>,
        reuse_port: Option<bool>,
        recv_buffer_bytes: Option<Whole>,
        send_buffer_bytes: Option<Whole>,
        force_buffers: bool,
        broadcast: Option<bool>,
        recv_timeout: Option<Seconds>,
        send_timeout: Option<Seconds>,
        ttl: Option<Whole>,
        dscp: Option<Whole>,
        ipv6_only: Option<bool>,
        no_delay: Option<bool>,
        keep_alive: Option<&Bound<'_, PyAny>>,
        linger: Option<Seconds>,
        congestion: Option<String>,
        bind_to_device: Option<String>,
    ) -> PyResult<Self> {
        let keep_alive = keep_alive.map(keep_alive_times).transpose()?.flatten();
        let build = || {
            let options = socket::SocketOptions {
                reuse_address,
                reuse_port,
                recv_buffer_bytes: bytes("recv_buffer_bytes", recv_buffer_bytes)?,
                send_buffer_bytes: bytes("send_buffer_bytes", send_buffer_bytes)?,
                force_buffers,
                broadcast,
                recv_timeout: recv_timeout
                    .map(|t| t.to_positive("recv_timeout"))
                    .transpose()?,
                send_timeout: send_timeout
                    // 0 turns a TCP server's deadline off; a UDP server refuses it.
                    .map(|t| t.to("send_timeout"))
                    .transpose()?,
                ttl: ttl
                    .map(|n| n.to("ttl", "a time to live is 1 to 255"))
                    .transpose()?,
                dscp: dscp
                    .map(|n| n.to("dscp", "a code point is 0 to 63 (RFC 2474)"))
                    .transpose()?,
                ipv6_only,
                no_delay,
                keep_alive,
                linger: linger.map(|t| t.to("linger")).transpose()?,
                congestion,
                bind_to_device,
            };
            options.validate()?;
            Ok(options)
        };
        checked(py, build()).map(Self)
    }
}

fn bytes(name: &str, number: Option<Whole>) -> Result<Option<usize>> {
    let rule = "a number of bytes is not negative";
    number.map(|number| number.to(name, rule)).transpose()
}

/// True: with the system's times; a tuple (idle, interval, count) of seconds, seconds and a
/// number: with those, None standing for the system's; False: off.
fn keep_alive_times(given: &Bound<'_, PyAny>) -> PyResult<Option<KeepAlive>> {
    if let Ok(flag) = given.cast::<PyBool>() {
        return Ok(flag.is_true().then(KeepAlive::default));
    }
    let (idle, interval, count): (Option<Seconds>, Option<Seconds>, Option<Whole>) =
        given.extract()?;
    let build = || {
        Ok(KeepAlive {
            idle: idle.map(|t| t.to_positive("keep_alive idle")).transpose()?,
            interval: interval
                .map(|t| t.to_positive("keep_alive interval"))
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
