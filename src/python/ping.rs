//! Round trips: a client that measures, and what it has found.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use super::address::pair;
use super::blocking::{Caller, SLICE, blocking};
use super::client::Handle;
use super::given::Given;
use super::socket::{self, SocketOptions};
use super::values::{Seconds, Whole, checked, family, port};
use crate::client::{self, Patience};
use crate::error::Error;
use crate::meter::distribution::Distribution;
use crate::meter::pinger::{Plan, Sample};
use crate::meter::probe::HEADER_BYTES;
use crate::meter::schedule::Schedule;
use crate::meter::session::{Session, StampSource};
use crate::meter::window::MOST;

/// The longest payload over IPv4.
const LONGEST: u64 = 65_507;

/// Measures round trips to one UDP echo server.
#[pyclass(frozen, module = "rsecho._rsecho")]
pub(super) struct PingClient(Handle<client::PingClient>);

fn plan(given: &Given<'_>) -> PyResult<(Plan, usize)> {
    let py = given.py();
    let rule = "a number of nanoseconds, 1 or more";
    let interval_ns: u64 = given.number("interval_ns", rule)?.unwrap_or(1_000_000_000);
    let times: Option<Vec<u64>> = given.take("times_ns")?;
    let is_poisson = given.flag("poisson")?;
    let seed: u64 = given.take("seed")?.unwrap_or_default();
    let schedule = match times {
        Some(times) => Schedule::Listed(Arc::from(times)),
        None if is_poisson => Schedule::Poisson {
            mean_ns: interval_ns,
            seed,
        },
        None => Schedule::Periodic { interval_ns },
    };
    let length: u64 = given
        .number("length_bytes", "a number of bytes")?
        .unwrap_or(64);
    let wait_ns: u64 = given.number("wait_ns", rule)?.unwrap_or(1_000_000_000);
    let plan = Plan {
        schedule,
        count: given.number("count", "a number of probes")?,
        duration_ns: given.number("duration_ns", rule)?,
        wait_ns,
        length_bytes: length as usize,
        wants_kernel: given.flag("kernel_times")?,
        spins: given.flag("spin")?,
    };
    let room = given.number("room", "a number of samples")?.unwrap_or(0);
    let fail = |name: String, rule: String| checked(py, Err(Error::argument("set", name, rule)));
    if !(HEADER_BYTES as u64..=LONGEST).contains(&length) {
        let rule =
            format!("a probe has {HEADER_BYTES} to {LONGEST} bytes: its number and its mark");
        return fail(format!("size={length}"), rule);
    }
    if interval_ns == 0 || wait_ns / interval_ns > MOST as u64 {
        let rule =
            format!("at most {MOST} probes can be on their way: wait for less, or send fewer");
        return fail(format!("wait={} s", wait_ns as f64 / 1e9), rule);
    }
    Ok((plan, room))
}

#[pymethods]
impl PingClient {
    #[new]
    #[pyo3(signature = (host, port, options, given, /, *, family))]
    fn new(
        py: Python<'_>,
        host: &str,
        port: Whole,
        options: &SocketOptions,
        given: &Bound<'_, PyDict>,
        family: Whole,
    ) -> PyResult<Self> {
        let given = Given::new(given)?;
        let (plan, room) = plan(&given)?;
        let forbids_fragments = given.flag("forbid_fragments")?;
        given.finish()?;
        let client = blocking(py, |_| {
            let (port, family) = (self::port(port)?, self::family(family)?);
            let client = client::PingClient::connect(host, port, family, &options.0, plan, room)?;
            if forbids_fragments {
                client.forbid_fragments()?;
            }
            Ok(client)
        })?;
        Ok(Self(Handle::new(client.ends().clone(), client)))
    }

    #[getter]
    fn name(&self) -> &str {
        &self.0.ends.name
    }

    #[getter]
    fn peer(&self, py: Python<'_>) -> PyResult<(String, u16)> {
        Ok(pair(self.0.ends(py)?.peer))
    }

    #[getter]
    fn socket_report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        socket::report(py, &self.0.ends(py)?.report)?.into_pyobject(py)
    }

    #[getter]
    fn has_kernel_times(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(checked(py, self.0.get())?.has_kernel_times())
    }

    /// Sends all probes and waits for their replies.
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        let client = checked(py, self.0.get())?;
        blocking(py, |caller: &Caller| {
            let is_cancelled = || self.0.is_closed() || caller.gives_up();
            client.run(Patience::new(None, &is_cancelled))
        })
    }

    /// No more probes are sent.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        checked(py, self.0.get())?.watched().stop();
        Ok(())
    }

    /// Whether the run is over and all samples are taken.
    #[getter]
    fn is_over(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(checked(py, self.0.get())?.watched().is_over())
    }

    /// Samples that have not been taken yet, so many at most; waits for one.
    #[pyo3(signature = (limit, timeout, /))]
    fn take<'py>(
        &self,
        py: Python<'py>,
        limit: usize,
        timeout: Seconds,
    ) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let mut left = checked(py, timeout.to("timeout"))?;
        let client = checked(py, self.0.get())?;
        let samples = blocking(py, |caller| {
            loop {
                let slice = left.min(SLICE);
                let samples = client.watched().take(limit, slice);
                left -= slice;
                if !samples.is_empty() || left.is_zero() || client.watched().is_over() {
                    return Ok(samples);
                }
                if caller.gives_up() {
                    return Ok(Vec::new());
                }
            }
        })?;
        samples.iter().map(|sample| tuple(py, sample)).collect()
    }

    /// What was found so far.
    fn report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let client = checked(py, self.0.get())?;
        let all = PyDict::new(py);
        client.watched().look(
            |session, elapsed_ns, left_out, network_errors, last_error| {
                all.set_item("elapsed_ns", elapsed_ns)?;
                all.set_item("left_out_samples", left_out)?;
                all.set_item("network_errors", network_errors)?;
                all.set_item("last_errno", last_error)?;
                fill(py, &all, session)
            },
        )?;
        Ok(all)
    }

    fn close(&self, py: Python<'_>) {
        self.0.close(py);
    }
}

fn fill(py: Python<'_>, all: &Bound<'_, PyDict>, session: &Session) -> PyResult<()> {
    let counts = &session.counts;
    for (name, count) in [
        ("sent", counts.sent),
        ("received", counts.received),
        ("lost", session.loss.lost),
        ("in_flight", session.on_their_way()),
        ("late", counts.late),
        ("duplicates", counts.duplicates),
        ("corrupt", counts.corrupt),
        ("foreign", counts.foreign),
        ("loss_runs", session.loss.runs),
        ("longest_loss_run", session.loss.longest),
        ("kernel_rtts", session.kernel_rtts),
        ("reordered", session.reordering.reordered),
        ("greatest_extent", session.reordering.greatest_extent),
        ("three_reordered", session.reordering.three_reordered),
    ] {
        all.set_item(name, count)?;
    }
    all.set_item("loss_run_lengths", session.loss.by_length)?;
    all.set_item("mean_extent", session.reordering.mean_extent())?;
    all.set_item("jitter_ns", session.jitter.last_ns())?;
    all.set_item("jitter_mean_ns", session.jitter.mean_ns())?;
    all.set_item("jitter_max_ns", session.jitter.greatest_ns())?;
    all.set_item("ipdv_min_ns", session.ipdv.least_ns())?;
    all.set_item("ipdv_max_ns", session.ipdv.greatest_ns())?;
    for (name, distribution) in [
        ("rtt", &session.rtt),
        ("host_overhead", &session.host_overhead),
        ("slip", &session.slip),
        ("ipdv", &session.ipdv.sizes),
    ] {
        all.set_item(name, Py::new(py, PyDistribution(distribution.clone()))?)?;
    }
    Ok(())
}

/// How values are distributed: an HDR histogram and its exact extremes, mean and deviation.
#[pyclass(frozen, module = "rsecho._rsecho", name = "Distribution")]
pub(super) struct PyDistribution(Distribution);

#[pymethods]
impl PyDistribution {
    #[getter]
    fn count(&self) -> u64 {
        self.0.count()
    }

    #[getter]
    fn min_ns(&self) -> Option<u64> {
        self.0.least_ns()
    }

    #[getter]
    fn max_ns(&self) -> Option<u64> {
        self.0.greatest_ns()
    }

    #[getter]
    fn mean_ns(&self) -> Option<f64> {
        self.0.mean_ns()
    }

    #[getter]
    fn stddev_ns(&self) -> Option<f64> {
        self.0.deviation_ns()
    }

    #[pyo3(signature = (percent, /))]
    fn percentile_ns(&self, percent: f64) -> Option<u64> {
        self.0.percentile_ns(percent.clamp(0.0, 100.0))
    }

    /// With the values of another one.
    #[pyo3(signature = (other, /))]
    fn merged(&self, other: &Self) -> Self {
        let mut both = self.0.clone();
        both.merge(&other.0);
        Self(both)
    }

    /// The histogram as HdrHistogram's V2 format has it, compressed.
    fn encode<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(self.0.histogram(), &mut bytes)
            .map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))?;
        Ok(PyBytes::new(py, &bytes))
    }
}

fn tuple<'py>(py: Python<'py>, sample: &Sample) -> PyResult<Bound<'py, PyTuple>> {
    match *sample {
        Sample::Reply {
            sequence,
            sent_ns,
            rtt_ns,
            source,
            length_bytes,
            hop_limit,
        } => {
            let source = match source {
                StampSource::Kernel => "kernel",
                StampSource::User => "user",
            };
            let parts = (
                "reply",
                sequence,
                sent_ns,
                rtt_ns,
                source,
                length_bytes,
                hop_limit,
            );
            parts.into_pyobject(py)
        }
        Sample::Lost { sequence, sent_ns } => ("lost", sequence, sent_ns).into_pyobject(py),
        Sample::Late(sequence) => ("late", sequence).into_pyobject(py),
        Sample::Duplicate(sequence) => ("duplicate", sequence).into_pyobject(py),
        Sample::Corrupt(sequence) => ("corrupt", sequence).into_pyobject(py),
    }
}
