//! WHETHER to answer. One file a protection, one drop reason each.

use std::net::IpAddr;

use crate::error::{Error, Result};

mod access;
mod amplification;
mod connections;
mod hops;
mod loops;
mod peers;
mod ports;
mod rates;
mod repeats;
pub(crate) mod sources;
mod watch;

pub(crate) use connections::{Connections, Refusal};
pub(crate) use rates::Rates;
pub(crate) use watch::Guard;

/// A network in CIDR notation (RFC 4632), as in `192.0.2.0/24` or `2001:db8::/32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Its address, of which only the first `prefix` bits count.
    pub address: IpAddr,
    /// How many bits those are: 0 to 32, or 0 to 128.
    pub prefix: u8,
}

/// So many a second on average, so many at once: a token bucket (RFC 2697).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Tokens a second, more than 0.
    pub per_second: f64,
    /// Tokens that an untouched bucket holds, at least 1.
    pub burst: u32,
}

/// Who is counted as one: an IPv4 address, or an IPv6 /64, which is what one user has
/// (RFC 6177). The family (0: nobody) and the bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source(u8, u64);

impl Source {
    #[inline]
    pub(crate) fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self(4, u32::from(v4).into()),
            IpAddr::V6(v6) => Self(6, (u128::from(v6) >> 64) as u64),
        }
    }
}

/// Which protections a server has. Those that do not say otherwise are on by default.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Only these may ask; empty: anyone. Off by default.
    pub allow: Vec<Network>,
    /// These may not, even where `allow` names them. Off by default.
    pub deny: Vec<Network>,
    /// UDP: answers also to source ports below 1024, 2049 and 11211 off loopback, whose owner
    /// may be a service that answers back (CVE-2024-2169).
    pub answer_service_ports: bool,
    /// UDP: ends what goes round and round between this server and another one. Replies have a
    /// smaller hop limit than their requests, 120 at most; off loopback, of datagrams that a
    /// peer was sent before, so many are answered as `docs/guards.md` says.
    pub loop_guard: bool,
    /// UDP: datagrams from one source, which is an IPv4 address or an IPv6 /64. Off by default.
    pub rate_per_source: Option<Rate>,
    /// UDP: datagrams from all sources together. Off by default.
    pub rate_total: Option<Rate>,
    /// UDP: how many times the bytes of a request on the wire a reply to it may be. By default
    /// 3 (RFC 9000 §8.1), and for sources on loopback, which nobody outside can forge, any.
    pub max_amplification: Option<f64>,
    /// TCP: connections from one source at a time. `None`: [`Policy::CONNECTIONS_PER_SOURCE`]
    /// off loopback, any number on it; 0: any number.
    pub connections_per_source: Option<usize>,
}

impl Policy {
    /// Connections from one source off loopback, unless said otherwise: a load balancer's many
    /// users may come from one address.
    pub const CONNECTIONS_PER_SOURCE: usize = 4096;

    /// Refuses what can never work.
    ///
    /// # Errors
    ///
    /// A network whose prefix is longer than its address; a rate of nothing, or beyond
    /// [`Rate::MOST_PER_SECOND`]; an amplification below 1, which an echo is.
    pub fn validate(&self) -> Result<()> {
        for network in self.allow.iter().chain(&self.deny) {
            Network::new(network.address, network.prefix)?;
        }
        if let Some(rate) = &self.rate_per_source {
            rate.validate("rate_per_source")?;
        }
        if let Some(rate) = &self.rate_total {
            rate.validate("rate_total")?;
        }
        match self.max_amplification {
            Some(most) if !(most >= 1.0 && most.is_finite()) => {
                let subject = format!("max_amplification={most}");
                let rule = "an echo is as long as its request, so it is 1 or more";
                Err(Error::argument("set", subject, rule))
            }
            _ => Ok(()),
        }
    }

    /// Whether a request of so many bytes from `source` (a plain address: IPv4 is not mapped)
    /// may be answered with so many; both are counted as they are on the wire, with their
    /// headers, the reply as often as it may go (see [`crate::impair`]). An echo always may.
    pub fn allows_reply(
        &self,
        source: IpAddr,
        request_bytes: usize,
        reply_bytes: usize,
        copies: usize,
    ) -> bool {
        amplification::allows(self, source, request_bytes, reply_bytes, copies)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            deny: Vec::new(),
            answer_service_ports: false,
            loop_guard: true,
            rate_per_source: None,
            rate_total: None,
            max_amplification: None,
            connections_per_source: None,
        }
    }
}
