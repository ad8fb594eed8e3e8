//! Whom a server does not answer.

use pyo3::prelude::*;

use super::values::{Whole, checked};
use crate::error::Result;
use crate::guard::{Network, Policy, Rate};

/// Which protections a server has.
#[pyclass(frozen, module = "rsecho._rsecho")]
pub(super) struct GuardPolicy(pub(super) Policy);

/// Tokens a second, and how many at once.
type Tokens = (f64, Option<Whole>);

#[pymethods]
impl GuardPolicy {
    #[new]
    #[pyo3(signature = (
        *,
        allow = None,
        deny = None,
        answer_service_ports = false,
        loop_guard = true,
        rate_per_source = None,
        rate_total = None,
        max_amplification = None,
        connections_per_source = None,
    ))]
    // One parameter a rule, as Python has them.
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        allow: Option<Vec<String>>,
        deny: Option<Vec<String>>,
        answer_service_ports: bool,
        loop_guard: bool,
        rate_per_source: Option<Tokens>,
        rate_total: Option<Tokens>,
        max_amplification: Option<f64>,
        connections_per_source: Option<Whole>,
    ) -> PyResult<Self> {
        let build = || {
            let policy = Policy {
                allow: networks(allow)?,
                deny: networks(deny)?,
                answer_service_ports,
                loop_guard,
                rate_per_source: rate("rate_per_source", rate_per_source)?,
                rate_total: rate("rate_total", rate_total)?,
                max_amplification,
                connections_per_source: connections_per_source
                    .map(|n| {
                        let rule = "it is a number of connections, 0 for any";
                        n.to("connections_per_source", rule)
                    })
                    .transpose()?,
            };
            policy.validate().map(|()| Self(policy))
        };
        checked(py, build())
    }
}

fn networks(texts: Option<Vec<String>>) -> Result<Vec<Network>> {
    let texts = texts.unwrap_or_default();
    texts.iter().map(|text| text.parse()).collect()
}

fn rate(name: &str, tokens: Option<Tokens>) -> Result<Option<Rate>> {
    tokens
        .map(|(per_second, burst)| {
            let rule = "a burst is a number of datagrams, 1 or more";
            let burst = burst.map(|n| n.to(name, rule)).transpose()?;
            Ok(Rate::new(per_second, burst))
        })
        .transpose()
}
