//! WHETHER to answer. One file per protection, each with its drop reason.

use std::net::IpAddr;

use crate::error::{Error, Result};

mod access;
mod amplification;
mod connections;
mod hops;
mod loops;
mod peers;
mod ports;
mod protocol;
mod rates;
mod repeats;
pub(crate) mod sources;
mod watch;

pub(crate) use connections::{Connections, Refusal};
pub use protocol::Protocol;
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

/// A limit of datagrams or connections per second on average, and of how many at once: a token
/// bucket (RFC 2697).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Tokens per second, more than 0.
    pub per_second: f64,
    /// Tokens in a full bucket, at least 1.
    pub burst: u32,
}

/// What is counted as one client: an IPv4 address or an IPv6 /64, which is what one user has
/// (RFC 6177). The family (0: none) and the bits.
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

/// Which protections a server has.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Only these networks are answered; empty, the default: all.
    pub allow: Vec<Network>,
    /// These networks are not answered, even where `allow` names them. Default: none.
    pub deny: Vec<Network>,
    /// UDP: also answers source ports below 1024, 2049 and 11211 beyond loopback. Services that
    /// answer back have such ports (CVE-2024-2169). Default: off.
    pub answer_service_ports: bool,
    /// UDP: ends echo loops with other servers. Replies have a smaller hop limit than their
    /// requests, at most 120; beyond loopback, a few of the datagrams that repeat a reply are not
    /// answered: `docs/guards.md` says how many. Default: on.
    pub loop_guard: bool,
    /// UDP: datagrams that are answered per source, an IPv4 address or an IPv6 /64. Default: no
    /// limit.
    pub rate_per_source: Option<Rate>,
    /// UDP: datagrams that are answered in all. Default: no limit.
    pub rate_total: Option<Rate>,
    /// UDP: the longest reply, as a multiple of its request; both with their headers. Default: 3
    /// (RFC 9000 §8.1), and no limit for sources on loopback, which nobody outside can forge.
    pub max_amplification: Option<f64>,
    /// TCP: open connections per source; 0: no limit. `None`, the default:
    /// [`Policy::CONNECTIONS_PER_SOURCE`] beyond loopback, no limit on it.
    pub connections_per_source: Option<usize>,
    /// TCP: new connections per source. One beyond it is accepted and closed at once, as one
    /// beyond `connections_per_source` is. Default: no limit.
    pub connection_rate_per_source: Option<Rate>,
}

impl Policy {
    /// Connections per source beyond loopback by default. High, as a load balancer's users all
    /// come from one address.
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
        for (name, rate) in [
            ("rate_per_source", self.rate_per_source),
            ("rate_total", self.rate_total),
            (
                "connection_rate_per_source",
                self.connection_rate_per_source,
            ),
        ] {
            rate.map_or(Ok(()), |rate| rate.validate(name))?;
        }
        match self.max_amplification {
            Some(most) if !(most >= 1.0 && most.is_finite()) => {
                let subject = format!("max_amplification={most}");
                let rule = "it is a finite number, and at least 1, since an echo is as long as \
                            its request";
                let way_out = "leave it out for 3, or take 1e6 for no limit";
                Err(Error::argument("set", subject, rule).or(way_out))
            }
            _ => Ok(()),
        }
    }

    /// Whether `max_amplification` allows `copies` replies of `reply_bytes` to a request of
    /// `request_bytes` from `source`, which is a plain address: IPv4 is not mapped. Headers are
    /// added to both. An echo is always allowed.
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
            connection_rate_per_source: None,
        }
    }
}
