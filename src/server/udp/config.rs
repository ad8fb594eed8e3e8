//! The configuration of a UDP server, and its validation.

use std::time::Duration;

use super::transfers::Transfers;
use crate::error::{Error, Result};
use crate::event::Parts;
use crate::guard::{Policy, Protocol, Rate};
use crate::impair::DatagramImpairments;
use crate::net::udp::engine;
use crate::proto::{Broadcast, MakeProtocol};
use crate::respond::MakeResponder;
use crate::server::{EngineChoice, Listen, Wait, check_cpus, check_workers};
use crate::socket::SocketOptions;

/// The configuration of a UDP server.
#[derive(Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: Listen,
    /// Options of the socket. `recv_timeout` limits one sleep of a worker, which counts the timeout
    /// and continues; `send_timeout` limits how long a reply waits for room in the send
    /// buffer, 1 s by default.
    pub socket: SocketOptions,
    /// The server ends when none of its workers received anything for this long.
    pub idle_timeout: Option<Duration>,
    /// The reply to a longer datagram has only its first bytes, this many; `None`: no limit but the
    /// protocol's.
    pub max_datagram_bytes: Option<usize>,
    /// An empty datagram ends the server, once answered.
    pub stop_on_empty: bool,
    /// Threads, each with a socket of its own (SO_REUSEPORT).
    pub workers: usize,
    /// The CPUs that the workers are bound to, in turn (sched_setaffinity(2)); none: any.
    pub cpus: Vec<usize>,
    /// The interface to the kernel.
    pub engine: EngineChoice,
    /// What a worker does while it is idle.
    pub wait: Wait,
    /// Datagrams are records of this length, each of which is reported as an event.
    pub record_bytes: Option<usize>,
    /// The responder; `None`: echo.
    pub responder: Option<MakeResponder>,
    /// A custom protocol instead of a responder, with its own rules; `None`: datagrams are
    /// answered.
    pub protocol: Option<MakeProtocol>,
    /// Receives and offers large messages; other datagrams are answered as usual. `None`: all
    /// datagrams are answered.
    pub transfers: Option<Transfers>,
    /// Also answers datagrams to a broadcast or multicast address; `None`: never.
    pub broadcast: Option<Broadcast>,
    /// Which sources are answered.
    pub guard: Policy,
    /// The initial impairment; see [`crate::server::Server::impair`].
    pub impair: DatagramImpairments,
}

impl Config {
    /// The defaults, for a server at `listen`.
    pub fn new(listen: Listen) -> Self {
        Self {
            listen,
            socket: SocketOptions::default(),
            idle_timeout: None,
            max_datagram_bytes: None,
            stop_on_empty: false,
            workers: 1,
            cpus: Vec::new(),
            engine: EngineChoice::Auto,
            wait: Wait::Balanced,
            record_bytes: None,
            responder: None,
            protocol: None,
            transfers: None,
            broadcast: None,
            guard: Policy::default(),
            impair: DatagramImpairments::default(),
        }
    }
}

impl Config {
    /// How long a sleep lasts that ends without a datagram.
    pub(super) fn sleep_time(&self) -> Option<Duration> {
        match (self.socket.recv_timeout, self.idle_timeout) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }
}

pub(super) fn validate(config: &Config) -> Result<&'static str> {
    check_workers(config.workers)?;
    config.socket.validate()?;
    if config
        .max_datagram_bytes
        .is_some_and(|bytes| bytes == 0 || bytes > 65_527)
    {
        let rule = "a datagram holds 1 to 65507 bytes over IPv4, and to 65527 over IPv6";
        let bytes = config.max_datagram_bytes.unwrap_or_default();
        let subject = format!("max_datagram_bytes={bytes}");
        return Err(Error::argument("set", subject, rule));
    }
    if config.idle_timeout.is_some_and(|time| time.is_zero()) {
        return Err(
            Error::argument("set", "idle_timeout=0", "it takes more than 0 seconds")
                .or("leave it out for no timeout"),
        );
    }
    if config.socket.send_timeout.is_some_and(|t| t.is_zero()) {
        let rule = "it takes more than 0 seconds";
        let error = Error::argument("set", "send_timeout=0", rule);
        return Err(error.or("leave it out for the default"));
    }
    if config.record_bytes == Some(0) {
        return Err(Error::argument(
            "set",
            "record_bytes=0",
            "a record has at least one byte",
        ));
    }
    if config.responder.is_some() && config.protocol.is_some() {
        let rule = "only one of them can answer";
        return Err(Error::argument("set", "responder and protocol", rule));
    }
    if config.transfers.is_some() && config.max_datagram_bytes.is_some() {
        let rule = "packets of large messages must not be cut";
        return Err(Error::argument(
            "set",
            "max_datagram_bytes together with transfer",
            rule,
        ));
    }
    check_cpus(&config.cpus)?;
    config.guard.validate_for(Protocol::Udp)?;
    engine::chosen(config.engine)
}

/// What holds for a socket beyond loopback, for people.
pub(super) fn guards(policy: &Policy) -> (String, Parts) {
    let ports = if policy.answer_service_ports {
        "answers service ports"
    } else {
        "answers no service ports"
    };
    let loops = if policy.loop_guard {
        "ends echo loops"
    } else {
        "does not end echo loops"
    };
    let rate = |rate: Option<Rate>| match rate {
        Some(rate) => format!("{} datagrams per second", rate.per_second),
        None => "none".to_owned(),
    };
    let text = format!(
        "{ports}, {loops}; rate limit per source: {}, for all sources together: {}",
        rate(policy.rate_per_source),
        rate(policy.rate_total),
    );
    let mut parts: Parts = vec![
        ("answer_service_ports", policy.answer_service_ports.into()),
        ("loop_guard", policy.loop_guard.into()),
    ];
    let rates = [
        ("rate_per_source", policy.rate_per_source),
        ("rate_total", policy.rate_total),
    ];
    parts.extend(
        rates
            .into_iter()
            .filter_map(|(name, rate)| Some((name, rate?.per_second.into()))),
    );
    (text, parts)
}
