//! Whom a server does not answer.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::given::Given;
use super::values::{Whole, checked};
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
        let policy = Policy {
            allow: networks(&given, "allow")?,
            deny: networks(&given, "deny")?,
            answer_service_ports: given.flag("answer_service_ports")?,
            loop_guard: given.take("loop_guard")?.unwrap_or(true),
            rate_per_source: rate(&given, "rate_per_source")?,
            rate_total: rate(&given, "rate_total")?,
            max_amplification: given.take("max_amplification")?,
            connections_per_source: given.number(
                "connections_per_source",
                "it is a number of connections, 0 for any",
            )?,
        };
        given.finish()?;
        checked(py, policy.validate())?;
        Ok(Self(policy))
    }
}

fn networks(given: &Given<'_>, name: &str) -> PyResult<Vec<Network>> {
    let networks = given.convert(name, |texts: Vec<String>| {
        texts.iter().map(|text| text.parse()).collect()
    })?;
    Ok(networks.unwrap_or_default())
}

/// Tokens a second, or a pair of that and how many at once.
#[derive(FromPyObject)]
enum Tokens {
    Both((f64, Option<Whole>)),
    PerSecond(f64),
}

fn rate(given: &Given<'_>, name: &str) -> PyResult<Option<Rate>> {
    given.convert(name, |tokens| {
        let (per_second, burst) = match tokens {
            Tokens::Both(both) => both,
            Tokens::PerSecond(per_second) => (per_second, None),
        };
        let rule = "a burst is a number of datagrams, 1 or more";
        let burst = burst.map(|n| n.to(name, rule)).transpose()?;
        Ok(Rate::new(per_second, burst))
    })
}
