//! Which sources a server does not answer.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyTuple};

use super::given::Given;
use super::values::{Whole, checked, shown};
use crate::error::Error;
use crate::guard::{Network, Policy, Rate};

/// Which protections a server has.
#[pyclass(frozen, module = "rsecho._rsecho")]
pub(super) struct GuardPolicy(pub(super) Policy);

#[pymethods]
impl GuardPolicy {
    #[new]
    #[pyo3(signature = (**given))]
    fn new(py: Python<'_>, given: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let given = Given::new(given.unwrap_or(&PyDict::new(py)))?;
        let flag = |name| Ok::<_, PyErr>(given.take(name)?.map(|Flag(flag)| flag));
        let policy = Policy {
            allow: networks(&given, "allow")?,
            deny: networks(&given, "deny")?,
            answer_service_ports: flag("answer_service_ports")?.unwrap_or(false),
            loop_guard: flag("loop_guard")?.unwrap_or(true),
            rate_per_source: rate(&given, "rate_per_source", "datagrams")?,
            rate_total: rate(&given, "rate_total", "datagrams")?,
            max_amplification: given.take("max_amplification")?.map(|Number(most)| most),
            connections_per_source: given.number(
                "connections_per_source",
                "it is a number of connections, or 0 for no limit",
            )?,
            connection_rate_per_source: rate(&given, "connection_rate_per_source", "connections")?,
        };
        given.finish()?;
        checked(py, policy.validate())?;
        Ok(Self(policy))
    }
}

fn networks(given: &Given<'_>, name: &str) -> PyResult<Vec<Network>> {
    let network = |text: &String| {
        text.parse()
            .map_err(|error: Error| error.instead("set", format!("{name}={text:?}")))
    };
    let networks = given.convert(name, |texts: Vec<String>| {
        texts.iter().map(network).collect()
    })?;
    Ok(networks.unwrap_or_default())
}

/// Tokens per second, or a pair of that and how many at once.
struct Tokens(f64, Option<Whole>);

impl<'py> FromPyObject<'_, 'py> for Tokens {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let both = match object.cast::<PyTuple>() {
            Ok(pair) if pair.len() == 2 => {
                let (rate, burst) = (pair.get_item(0)?, pair.get_item(1)?);
                if rate.is_instance_of::<PyBool>() || burst.is_instance_of::<PyBool>() {
                    return Err(not_a_rate(object));
                }
                rate.extract().and_then(|rate| Ok((rate, burst.extract()?)))
            }
            Ok(_) => return Err(not_a_rate(object)),
            Err(_) if object.is_instance_of::<PyBool>() => return Err(not_a_rate(object)),
            Err(_) => object.extract().map(|rate| (rate, None)),
        };
        match both {
            Ok((rate, burst)) => Ok(Self(rate, burst)),
            Err(_) => Err(not_a_rate(object)),
        }
    }
}

fn not_a_rate(object: Borrowed<'_, '_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "a rate is a number per second, or a pair (number per second, whole number at once), not \
         {}",
        shown(object)
    ))
}

/// True or False, and nothing that only could be taken for one.
struct Flag(bool);

impl<'py> FromPyObject<'_, 'py> for Flag {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match object.cast::<PyBool>() {
            Ok(flag) => Ok(Self(flag.is_true())),
            Err(_) => Err(PyTypeError::new_err(format!(
                "it is True or False, not {}",
                shown(object)
            ))),
        }
    }
}

/// A number, where True and False are none.
struct Number(f64);

impl<'py> FromPyObject<'_, 'py> for Number {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match object.extract() {
            Ok(number) if !object.is_instance_of::<PyBool>() => Ok(Self(number)),
            _ => Err(PyTypeError::new_err(format!(
                "it is a number, not {}",
                shown(object)
            ))),
        }
    }
}

fn rate(given: &Given<'_>, name: &str, of: &str) -> PyResult<Option<Rate>> {
    given.convert(name, |Tokens(per_second, burst): Tokens| {
        let rule = format!("a burst is a number of {of}, 1 to {}", u32::MAX);
        let burst = burst
            .map(|number| number.to(&format!("the burst of {name}"), &rule))
            .transpose()
            .map_err(|error| error.or("leave it out for a tenth of the rate"))?;
        Ok(Rate::new(per_second, burst))
    })
}
