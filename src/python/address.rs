//! Addresses as Python's `(host, port)`.

use std::net::SocketAddr;

use pyo3::prelude::*;

use super::blocking::blocking;
use super::values::{self, Whole, checked};
use crate::{address, socket};

/// Two items for both families, so that they can be passed on.
pub(super) fn pair(address: SocketAddr) -> (String, u16) {
    (socket::host(address), address.port())
}

/// Splits `HOST:PORT`, `[IPv6]:PORT`, `:PORT` or `PORT`; `default_host` stands for none.
#[pyfunction]
#[pyo3(signature = (text, default_host, /))]
pub(super) fn split_host_port(
    py: Python<'_>,
    text: &str,
    default_host: &str,
) -> PyResult<(String, u16)> {
    checked(py, address::split_host_port(text, default_host))
}

/// All addresses of a host, as the system orders them.
#[pyfunction]
#[pyo3(signature = (host, port, family, /))]
pub(super) fn resolve(
    py: Python<'_>,
    host: String,
    port: u16,
    family: Whole,
) -> PyResult<Vec<(String, u16)>> {
    let found = blocking(py, |_| {
        address::resolve(&host, port, values::family(family)?)
    })?;
    Ok(found.into_iter().map(pair).collect())
}
