//! The TCP echo server.
//!
//! ```text
//! mod.rs      what it is to be; listeners, wakers and workers made
//! worker.rs   one thread: wait, one step for each that is ready; worker/ has its parts: admitting,
//!             deadlines, stopping, conversing, impairing
//! echo.rs     THE HOT LOOP: one connection's step, receive → answer
//! accept.rs   the listener, the spare descriptor        gate.rs    the limit of connections
//! slab.rs     connections by number                     lru.rs     numbers, oldest first
//! lifetime.rs how long one may live, how much has to come
//! records.rs  a stream cut into records                 buffer.rs  bytes that wait
//! refusals.rs telling of those that are closed at once
//!
//! Where somebody answers (DESIGN.md, "One round, one question"):
//! converse.rs      one connection's step in two halves: receive → ask, answer → send
//! conversation.rs  what one connection asks and is answered: inbound.rs, replies.rs, outbound.rs
//! questions.rs     what all connections of a round ask
//!
//! Where something is impaired: shaper_queue.rs one direction of one connection; impairing.rs the
//! setting, changed from outside
//!
//! Imports run one way: worker/ → worker → {accept, converse} → {echo, questions} → conversation →
//! {inbound, replies, outbound} → {shaper_queue, buffer}.
//! ```

mod accept;
mod buffer;
mod conversation;
mod converse;
mod echo;
mod gate;
mod impairing;
mod inbound;
mod lifetime;
mod lru;
mod outbound;
mod questions;
mod records;
mod refusals;
mod replies;
mod shaper_queue;
mod slab;
mod worker;

#[cfg(all(any(test, feature = "fuzzing"), target_os = "linux"))]
pub(crate) use self::records::laws_hold_for as record_laws;

use std::fmt::{self, Display};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use self::accept::Listener;
use self::gate::Gate;
use self::impairing::Impairing;
pub use self::lifetime::MinRate;
use self::questions::Questions;
use self::worker::{Shared, Worker};
use super::{
    Descriptor, EngineChoice, Listen, Parts, Stats, Wait, bind_to_cpu, check_cpus, check_workers,
    resolve_listen, url,
};
use crate::address::is_loopback;
use crate::books::block::Block;
use crate::books::tcp::totals;
use crate::error::{Error, Result};
use crate::event::{self, Observer, Queue};
use crate::guard::{Connections, Policy, Protocol};
use crate::impair::StreamImpairments;
use crate::respond::{Framing, MakeResponder};
use crate::socket::{Bound, SocketOptions, adopt_tcp, bind_tcp};
use crate::sys::Waker;
use crate::sys::readiness::{Epoll, HAS_EPOLL, Poll, Readiness};
use crate::worker::{Control, Finish, Task};

/// The configuration of a TCP server.
///
/// The defaults of [`Config::new`] serve any number of connections in one thread, without a limit of
/// their time.
pub struct Config {
    /// Where it listens.
    pub listen: Listen,
    /// Options of the listener, which its connections inherit.
    ///
    /// The server itself keeps `send_timeout`, because it never waits in a send: a connection
    /// whose peer reads nothing for that long while replies wait is reset and counted
    /// as `stalled`. None: [`Config::SEND_TIMEOUT`] for a listener beyond loopback, for ever
    /// on it; zero: for ever (socket(7)). `reuse_port` is set by itself where there are
    /// several workers.
    pub socket: SocketOptions,
    /// Connections that may wait to be accepted: listen(2); `None`: as many as the kernel
    /// allows (`net.core.somaxconn`).
    pub backlog: Option<u32>,
    /// A connection over which nothing came or went for this long is closed and counted as
    /// `idle`. `None`, the default: [`Config::IDLE_TIMEOUT`] for a listener beyond loopback,
    /// for ever on it; zero: it may be silent for ever.
    pub idle_timeout: Option<Duration>,
    /// A connection that has lived for this long is closed and counted as `expired`, whatever
    /// came over it. `None`, the default, and zero: it may live for ever.
    pub max_connection_time: Option<Duration>,
    /// A connection that receives less is closed and counted as `slow`, also a silent one.
    /// Time in which the server makes or delays an answer does not count. `None`, the default:
    /// no minimum.
    pub min_rate: Option<MinRate>,
    /// Connections at a time, of all workers together; more wait in the backlog, and are
    /// reset should the server stop before there is room. `None`, the default: as many as
    /// there are descriptors for; those beyond are accepted and closed at once, and counted
    /// as `refused_connections`.
    pub max_connections: Option<usize>,
    /// Threads, 1 by default, each with a listener of its own (SO_REUSEPORT, socket(7)). On
    /// a socket that was passed in they share that one.
    pub workers: usize,
    /// The CPUs that the workers are bound to, in turn (sched_setaffinity(2)); none: any.
    pub cpus: Vec<usize>,
    /// What a worker does while it is idle.
    pub wait: Wait,
    /// The interface to the kernel: [`EngineChoice::Auto`] and [`EngineChoice::Batch`] are
    /// epoll(7), the engine `epoll`; [`EngineChoice::Portable`] is poll(2), `portable`.
    pub engine: EngineChoice,
    /// Bytes come as records of this length (1 to 1,048,576), each of which is reported as
    /// an event; so is what is left at the end. What is echoed does not change. A
    /// connection then holds up to one incomplete record in memory.
    pub record_bytes: Option<usize>,
    /// The responder; `None`, the default: echo.
    ///
    /// A responder is called once for all connections that have asked something in a round of
    /// the worker. Replies go out in the order of the requests, each with the line end that
    /// its request had. While replies wait to be sent, or 64 requests for late answers,
    /// nothing more is read of that connection.
    pub responder: Option<MakeResponder>,
    /// How a stream is cut into requests for the responder; lines by default. A responder that
    /// speaks first or only listens gets the bytes as they arrive.
    pub framing: Framing,
    /// The longest line, without its end, 1 to 16,777,216 bytes; 65,536 by default. A longer
    /// line is answered with `Error: Line too long`, and the connection ends.
    pub max_line_bytes: usize,
    /// The initial impairment; see [`super::Server::impair`].
    ///
    /// What comes in is impaired before it is echoed or asked with, what goes out after. Each
    /// direction that is impaired takes up to 64 KiB more per connection. A stop waits for delayed
    /// bytes, within its deadline. `refuse` for all connections makes
    /// the listener refuse them (Linux); otherwise, on other systems and on a socket that was
    /// passed in, the connection is accepted and reset. A connection that is closed so is
    /// counted as `impaired`, bytes that never come through as discarded.
    pub impair: StreamImpairments,
    /// Which sources are not served. A rule for UDP is refused.
    pub guard: Policy,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// How long a connection to a listener beyond loopback may be silent, unless said
    /// otherwise.
    pub const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

    /// How long the peer of one may take nothing of what is due to it.
    pub const SEND_TIMEOUT: Duration = Duration::from_secs(60);

    /// The defaults, for a server at `listen`.
    pub fn new(listen: Listen) -> Self {
        Self {
            listen,
            socket: SocketOptions::default(),
            backlog: None,
            idle_timeout: None,
            max_connection_time: None,
            min_rate: None,
            max_connections: None,
            workers: 1,
            cpus: Vec::new(),
            wait: Wait::Balanced,
            engine: EngineChoice::Auto,
            record_bytes: None,
            responder: None,
            framing: Framing::Lines,
            max_line_bytes: DEFAULT_LINE_BYTES,
            impair: StreamImpairments::default(),
            guard: Policy::default(),
        }
    }

    fn validate(&self) -> Result<()> {
        let refuse = |name: &str, value: &dyn Display, rule: &str| {
            Err(Error::argument("set", format!("{name}={value}"), rule))
        };
        check_workers(self.workers)?;
        check_cpus(&self.cpus)?;
        match self.record_bytes {
            Some(0) => return refuse("record_bytes", &0, "a record has at least one byte"),
            Some(length) if length > MAX_RECORD_BYTES => {
                return refuse(
                    "record_bytes",
                    &length,
                    "a record has at most 1048576 bytes",
                );
            }
            _ => {}
        }
        if !(1..=MAX_LINE_BYTES).contains(&self.max_line_bytes) {
            let rule = "a line has 1 to 16777216 bytes";
            return refuse("max_line_bytes", &self.max_line_bytes, rule);
        }
        if let Framing::Records(length) = self.framing
            && !(1..=MAX_RECORD_BYTES).contains(&length)
        {
            return refuse("framing", &self.framing, "a record has 1 to 1048576 bytes");
        }
        if self.max_connections == Some(0) {
            return refuse(
                "max_connections",
                &0,
                "it is 1 or more; leave it out for no limit",
            );
        }
        if let Some(rate) = self.min_rate {
            if !(rate.bytes_per_second > 0.0 && rate.bytes_per_second.is_finite()) {
                let rule = "it is a number of bytes per second, more than 0";
                return refuse("min_bytes_per_second", &rate.bytes_per_second, rule);
            }
            if rate.window.is_zero() {
                let rule = "it is a time of more than 0 seconds";
                return refuse("min_rate_window", &0, rule);
            }
        }
        if self.socket.linger.is_some_and(|time| !time.is_zero()) {
            let seconds = self.socket.linger.unwrap_or_default().as_secs_f64();
            let rule = "close(2) would hold up every other connection for that long";
            let subject = format!("linger={seconds}");
            return Err(Error::argument("set", subject, rule).or(
                "take 0 to reset connections, or leave it out: the kernel then delivers in the \
                 background what is not sent yet",
            ));
        }
        self.guard.validate_for(Protocol::Tcp)
    }
}

/// Incomplete records are held in memory, one a connection.
const MAX_RECORD_BYTES: usize = 1 << 20;

/// Unfinished lines are held in memory too.
const MAX_LINE_BYTES: usize = 16 << 20;

/// Longest line, unless said otherwise.
const DEFAULT_LINE_BYTES: usize = 64 << 10;

/// Binds and listens.
pub(crate) fn open(config: Config, queue: Option<Arc<Queue>>) -> Result<Parts> {
    config.validate()?;
    match config.engine {
        EngineChoice::Portable => open_with::<Poll>(config, queue),
        EngineChoice::Auto if !HAS_EPOLL => open_with::<Poll>(config, queue),
        EngineChoice::Batch if !HAS_EPOLL => {
            let rule = "this system has no epoll(7)";
            Err(Error::argument("set", "engine='batch'", rule).or("take auto or portable"))
        }
        EngineChoice::Auto | EngineChoice::Batch => open_with::<Epoll>(config, queue),
    }
}

fn open_with<R: Readiness>(config: Config, queue: Option<Arc<Queue>>) -> Result<Parts> {
    let given = (config.idle_timeout, config.socket.send_timeout);
    let mut bound = listen(config.listen, config.socket, config.backlog, config.workers)?;
    let address = bound[0].address;
    let name = url("tcp", address);
    let fail = |error: &std::io::Error| Error::system("serve on", &name, error);
    let is_beyond = !is_loopback(address.ip());
    let timeout = |given: Option<Duration>, beyond: Duration| {
        given
            .or(is_beyond.then_some(beyond))
            .filter(|time| !time.is_zero())
    };
    let idle_timeout = timeout(given.0, Config::IDLE_TIMEOUT);
    let send_timeout = timeout(given.1, Config::SEND_TIMEOUT);
    let guards = guards(idle_timeout, send_timeout, &config.guard);

    let report = std::mem::take(&mut bound[0].report);
    let is_shared = bound[0].is_shared;
    let listeners = bound
        .into_iter()
        .enumerate()
        .map(|(index, bound)| Listener::new(bound, index == 0 || !is_shared))
        .collect();
    let wakers: std::io::Result<Vec<Waker>> = (0..config.workers).map(|_| Waker::new()).collect();
    let wakers: Arc<[Waker]> = wakers.map_err(|error| fail(&error))?.into();
    let shared = Arc::new(Shared {
        observer: Arc::new(Observer::new(&name, queue)),
        blocks: (0..config.workers).map(|_| Block::new()).collect(),
        gate: Gate::new(config.max_connections, Arc::clone(&wakers)),
        impairing: Impairing::new(config.impair, Arc::clone(&wakers)),
        backlog: config
            .backlog
            .map_or(i32::MAX, |n| i32::try_from(n).unwrap_or(i32::MAX)),
        wakers,
        listeners,
        sources: Connections::new(&config.guard, config.workers),
        idle_timeout,
        send_timeout,
        longest_life: config.max_connection_time.filter(|time| !time.is_zero()),
        min_rate: config.min_rate,
        record_bytes: config.record_bytes,
        wait: config.wait,
        has_told_of_blocking: false.into(),
    });

    let (_, setting) = shared.impairing.get();
    let impaired = setting.text();
    shared.set_doors(&setting);
    let crew = (config.workers, &config.cpus[..], config.responder.as_ref());
    let cutting = (config.framing, config.max_line_bytes);
    let (tasks, sets) = workers::<R>(&shared, crew, cutting)?;
    let listeners = shared.listeners.iter().map(AsRawFd::as_raw_fd);
    let wakers = shared.wakers.iter().flat_map(Waker::descriptors);
    // All of them keep their numbers for as long as the handle lives.
    let descriptors = listeners
        .chain(wakers)
        .chain(sets.iter().map(AsRawFd::as_raw_fd))
        .map(|fd| Box::new(move || Some(fd)) as Descriptor)
        .collect();
    Ok(Parts {
        address,
        engine: R::NAME,
        report: Box::new(move || report.clone()),
        tasks,
        wake: {
            let shared = Arc::clone(&shared);
            Box::new(move || shared.wakers.iter().for_each(Waker::wake))
        },
        descriptors,
        observer: Arc::clone(&shared.observer),
        impair: {
            let shared = Arc::clone(&shared);
            Box::new(move |change| {
                shared
                    .impairing
                    .change(change, |setting| shared.set_doors(setting))
            })
        },
        stats: Box::new(move || {
            let _ = &sets;
            let drops = shared.listeners.iter().map(Listener::kernel_drops);
            Stats::new(totals(&shared.blocks), drops.sum())
        }),
        has_responder: config.responder.is_some(),
        impaired,
        guards,
        name,
    })
}

/// The workers, and the descriptors that they need themselves: kept with the handle, so that their
/// numbers stay valid for as long as it lives.
fn workers<R: Readiness>(
    shared: &Arc<Shared>,
    (count, cpus, responder): (usize, &[usize], Option<&MakeResponder>),
    (framing, max_line_bytes): (Framing, usize),
) -> Result<(Vec<Task>, Vec<Arc<OwnedFd>>)> {
    let fail = |error: &std::io::Error| Error::system("serve on", shared.observer.server(), error);
    let (mut tasks, mut sets) = (Vec::<Task>::new(), Vec::new());
    for index in 0..count {
        let ready = R::new().map_err(|error| fail(&error))?;
        sets.extend(ready.descriptor());
        let questions =
            responder.map(|make| Questions::new(make.make(index), framing, max_line_bytes));
        let worker = Worker::new(index, ready, shared, questions).map_err(|error| fail(&error))?;
        let cpus = cpus.to_vec();
        let serve = move |control: &Arc<Control>| match bind_to_cpu(&cpus, index) {
            Ok(()) => worker.run(control),
            Err(error) => Finish::Failed(error),
        };
        tasks.push(match responder.cloned() {
            None => Box::new(serve),
            Some(responder) => Box::new(move |control| responder.run(|| serve(control))),
        });
    }
    Ok((tasks, sets))
}

/// What holds for a listener beyond loopback: for people, and for programs.
fn guards(
    idle: Option<Duration>,
    send: Option<Duration>,
    policy: &Policy,
) -> (String, event::Parts) {
    let time = |time: Option<Duration>| match time {
        Some(time) => format!("after {} s", time.as_secs_f64()),
        None => "never".to_owned(),
    };
    let most = policy
        .connections_per_source
        .unwrap_or(Policy::CONNECTIONS_PER_SOURCE);
    let shown = match most {
        0 => "any number of connections".to_owned(),
        most => format!("at most {most} connections"),
    };
    let rate = match policy.connection_rate_per_source {
        None => String::new(),
        Some(rate) => format!(", and {} new ones per second", rate.per_second),
    };
    let text = format!(
        "closes silent connections {}, stalled ones {}; one source may have {shown} open{rate}",
        time(idle),
        time(send),
    );
    let mut parts: event::Parts = vec![("connections_per_source", (most as u64).into())];
    let times = [("idle_timeout_ns", idle), ("send_timeout_ns", send)];
    parts.extend(
        times
            .into_iter()
            .filter_map(|(name, time)| Some((name, time?.into()))),
    );
    if let Some(rate) = policy.connection_rate_per_source {
        parts.push(("connection_rate_per_source", rate.per_second.into()));
    }
    (text, parts)
}

/// One listener a worker, all at the same address.
fn listen(
    listen: Listen,
    mut options: SocketOptions,
    backlog: Option<u32>,
    workers: usize,
) -> Result<Vec<Bound>> {
    let (host, port, family) = match listen {
        Listen::On(adopted) => {
            let first = adopt_tcp(adopted, &options, backlog)?;
            return share(first, workers);
        }
        Listen::At { host, port, family } => (host, port, family),
    };
    if workers > 1 {
        if options.reuse_port == Some(false) {
            let rule =
                "each worker binds a socket of its own to the port, which needs SO_REUSEPORT";
            let subject = format!("workers={workers} with reuse_port=False");
            return Err(Error::argument("set", subject, rule).or("leave one of them out"));
        }
        options.reuse_port = Some(true);
    }
    let first = bind_tcp(resolve_listen(&host, port, family)?, &options, backlog)?;
    // Port 0 has become a number now, which the others take as well.
    let address = first.address;
    let mut bound = vec![first];
    for _ in 1..workers {
        bound.push(bind_tcp(address, &options, backlog)?);
    }
    Ok(bound)
}

/// Copies of a listener that was passed in: one queue, from which every worker takes.
fn share(first: Bound, workers: usize) -> Result<Vec<Bound>> {
    let mut bound = vec![first];
    for _ in 1..workers {
        let first = &bound[0];
        let socket = first
            .socket
            .try_clone()
            .map_err(|error| Error::system("share", format!("tcp://{}", first.address), &error))?;
        bound.push(Bound {
            socket,
            address: first.address,
            report: first.report.clone(),
            is_shared: true,
        });
    }
    Ok(bound)
}
