//! UDP servers: the echo (RFC 862), and what else answers datagrams.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use socket2::Socket;

pub use self::config::Config;
use self::config::{guards, validate};
use self::idle::Idle;
use self::judge::Judge;
pub use self::plain::{MakeStorage, Plain};
use self::setting::{Impairing, Setting};
use self::transfers::Together;
pub use self::transfers::{Native, Transfers};
use self::worker::{Service, Worker};
use super::{Listen, Parts, Stats, bind_to_cpu, resolve_listen, url};
use crate::books::udp::{self as books, Counters};
use crate::error::{Error, Result};
use crate::event::{Level, Observer, Queue};
use crate::guard::sources::Sources;
use crate::guard::{Guard, Rates};
use crate::net::udp::endpoint::{self, Endpoint};
use crate::net::udp::engine::{self, PORTABLE, Portable};
use crate::net::udp::offload::Offload;
use crate::net::udp::waiting::{Receiver, Sleep, Wake};
use crate::net::udp::{is_one_address, report_destinations};
pub use crate::proto::Broadcast;
use crate::proto::{BroadcastRate, Echo, Protocol, Responding};
use crate::respond::{MakeResponder, Respond};
use crate::socket::{self, Bound};
use crate::sys::Waker;
use crate::worker::{Control, Finish, Orders, Task};

#[doc(hidden)]
pub mod bench_support;
mod config;
mod idle;
mod judge;
mod plain;
mod setting;
mod telling;
mod transfers;
mod worker;

/// Room for whatever UDP can carry: 65,527 bytes over IPv6 (RFC 768, RFC 8200), and for a
/// train of the same size.
const SLOT_BYTES: usize = 65_536;

const DEFAULT_SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// What all workers of a server have together.
struct Shared {
    /// Without where it listens, and without a responder.
    config: Config,
    name: String,
    engine: &'static str,
    observer: Arc<Observer>,
    offload: Arc<Offload>,
    impairing: Arc<Impairing>,
    rates: Option<Arc<Rates>>,
    broadcast_rate: Option<Arc<BroadcastRate>>,
    transfers: Option<Together>,
    counters: Vec<Counters>,
    /// What the kernel had dropped at each socket when its worker ended; [`OPEN`] before.
    final_drops: Vec<AtomicU64>,
}

const OPEN: u64 = u64::MAX;

/// Binds.
pub(crate) fn open(mut config: Config, queue: Option<Arc<Queue>>) -> Result<Parts> {
    let engine = validate(&config)?;
    let workers = config.workers;
    if workers > 1 {
        config.socket.reuse_port = Some(true);
    }
    if config.transfers.is_some() {
        let buffer = &mut config.socket.recv_buffer_bytes;
        *buffer = buffer.or(Some(transfers::BUFFER_BYTES));
    }
    let listen = std::mem::replace(&mut config.listen, Listen::at("", 0));
    // Not shared: it may know the server, whose handle keeps what is.
    let responder = config.responder.take();
    let bound = bind(listen, &config)?;
    let (address, report) = (bound[0].address, bound[0].report.clone());
    let name = url("udp", address);
    let wakers: std::io::Result<Vec<_>> =
        (0..workers).map(|_| Waker::new().map(Arc::new)).collect();
    let wakers = wakers.map_err(|error| Error::system("make a waker for", &name, &error))?;
    let first = bound[0].socket.as_raw_fd();
    let shared = Arc::new(Shared::new(config, engine, &name, first, &wakers, queue)?);
    let mut idle: Vec<Idle> = shared
        .config
        .idle_timeout
        .map_or_else(Vec::new, |most| Idle::crew(most, workers).collect());
    let (mut tasks, mut wakes, mut handles) = (Vec::new(), Vec::new(), Vec::new());
    for (index, (bound, waker)) in bound.into_iter().zip(&wakers).enumerate() {
        let made = responder.as_ref().map(|make| make.make(index));
        let (worker, wake) = prepare(&shared, bound, waker, made, idle.pop())?;
        wakes.push(wake);
        handles.push(Arc::downgrade(&worker.endpoint.socket));
        tasks.push(task(Arc::clone(&shared), index, worker, responder.clone()));
    }
    let descriptor = |socket: Weak<Socket>| -> super::Descriptor {
        Box::new(move || socket.upgrade().map(|socket| socket.as_raw_fd()))
    };
    let (offload, impairing) = (Arc::clone(&shared.offload), Arc::clone(&shared.impairing));
    Ok(Parts {
        address,
        engine,
        report: Box::new(move || {
            let mut report = report.clone();
            report.options.extend(offload.report());
            report
        }),
        tasks,
        descriptors: handles.iter().cloned().map(descriptor).collect(),
        wake: Box::new(move || wakes.iter().for_each(Wake::wake)),
        has_responder: responder.is_some(),
        impaired: impairing.get().1.text(),
        impair: Box::new(move |change| impairing.change(change)),
        observer: Arc::clone(&shared.observer),
        guards: guards(&shared.config.guard),
        stats: Box::new(move || shared.stats(&handles)),
        name,
    })
}

/// One socket a worker, all of one address.
fn bind(listen: Listen, config: &Config) -> Result<Vec<Bound>> {
    match listen {
        Listen::On(adopted) => {
            if config.workers > 1 {
                let reason = "each worker needs a socket of its own, and one was passed in";
                return Err(
                    Error::argument("set", format!("workers={}", config.workers), reason)
                        .or("take one worker, or an address instead of the socket"),
                );
            }
            Ok(vec![socket::adopt_udp(adopted, &config.socket)?])
        }
        Listen::At { host, port, family } => {
            let wanted = resolve_listen(&host, port, family)?;
            let first = socket::bind_udp(wanted, &config.socket)?;
            let address = first.address;
            let mut bound = vec![first];
            for _ in 1..config.workers {
                bound.push(socket::bind_udp(address, &config.socket)?);
            }
            Ok(bound)
        }
    }
}

impl Shared {
    fn new(
        mut config: Config,
        engine: &'static str,
        name: &str,
        first: RawFd,
        wakers: &[Arc<Waker>],
        queue: Option<Arc<Queue>>,
    ) -> Result<Self> {
        let workers = config.workers;
        let is_wanted = engine != PORTABLE && config.max_datagram_bytes.is_none();
        let (per_source, total) = (config.guard.rate_per_source, config.guard.rate_total);
        let broadcast_rate = config
            .broadcast
            .as_ref()
            .map(BroadcastRate::new)
            .transpose()?;
        let observer = Arc::new(Observer::new(name, queue));
        let transfers = config.transfers.as_ref();
        let transfers = transfers.map(|one| one.share(&observer)).transpose()?;
        let setting = Setting::of(std::mem::take(&mut config.impair));
        Ok(Self {
            name: name.to_owned(),
            engine,
            observer,
            transfers,
            offload: Arc::new(Offload::of(first, is_wanted)),
            impairing: Arc::new(Impairing::new(setting, wakers.to_vec())),
            rates: Rates::new(per_source, total, workers).map(Arc::new),
            broadcast_rate: broadcast_rate.map(Arc::new),
            counters: (0..workers).map(|_| Counters::new()).collect(),
            final_drops: (0..workers).map(|_| AtomicU64::new(OPEN)).collect(),
            config,
        })
    }

    fn stats(&self, sockets: &[Weak<Socket>]) -> Stats {
        let drops = self.final_drops.iter().zip(sockets).map(|(last, socket)| {
            match (last.load(Ordering::Relaxed), socket.upgrade()) {
                (OPEN, Some(socket)) => socket::kernel_drops(&socket).unwrap_or(0),
                (OPEN, None) => 0,
                (drops, _) => drops,
            }
        });
        let drops = cfg!(target_os = "linux").then(|| drops.sum());
        Stats::new(books::totals(&self.counters), drops)
    }

    /// What a worker serves with, beside its endpoint and its protocol.
    fn service(&self, own: SocketAddr) -> Service {
        let config = &self.config;
        let (observer, rates) = (Arc::clone(&self.observer), self.rates.clone());
        Service {
            judge: Judge {
                sources: Sources::new(own, config.broadcast.is_some()),
                guard: Guard::new(&config.guard, rates, Arc::clone(&observer)),
                answer_truncated: config.max_datagram_bytes.is_some(),
            },
            observer,
            policy: config.guard.clone(),
            broadcast: config.broadcast.zip(self.broadcast_rate.clone()),
            impairing: Arc::clone(&self.impairing),
            sleep_time: config.sleep_time(),
            counts_timeouts: config.socket.recv_timeout.is_some(),
            idle: None,
            stop_on_empty: config.stop_on_empty,
            record_bytes: config.record_bytes,
        }
    }

    /// What is done with datagrams that come to `own`.
    fn protocol(
        &self,
        index: usize,
        responder: Option<Box<dyn Respond>>,
        own: SocketAddr,
        socket: &Socket,
        orders: Arc<Orders>,
    ) -> Result<Box<dyn Protocol>> {
        let protocol: Box<dyn Protocol> = match (responder, &self.config.protocol) {
            (Some(responder), _) => Box::new(Responding::new(responder, own, orders)),
            (None, Some(protocol)) => protocol.make(index),
            (None, None) => Box::new(Echo),
        };
        match &self.transfers {
            Some(together) => transfers::protocol(together, &self.observer, socket, protocol),
            None => Ok(protocol),
        }
    }

    /// What a worker's endpoint is made of.
    fn endpoint(
        &self,
        socket: Arc<Socket>,
        own: SocketAddr,
        receiver: Receiver,
        is_shared: bool,
    ) -> endpoint::Parts {
        let send_timeout = self.config.socket.send_timeout;
        endpoint::Parts {
            socket,
            receiver,
            is_v4: own.is_ipv4(),
            is_shared,
            expects_destination: is_shared && !is_one_address(own),
            offload: Arc::clone(&self.offload),
            observer: Arc::clone(&self.observer),
            send_timeout: send_timeout.unwrap_or(DEFAULT_SEND_TIMEOUT),
        }
    }
}

/// What one worker starts with.
struct Prepared {
    endpoint: endpoint::Parts,
    own: SocketAddr,
    responder: Option<Box<dyn Respond>>,
    idle: Option<Idle>,
}

/// Makes one worker's socket ready, and the way to wake it for its end.
fn prepare(
    shared: &Shared,
    bound: Bound,
    waker: &Arc<Waker>,
    responder: Option<Box<dyn Respond>>,
    idle: Option<Idle>,
) -> Result<(Prepared, Wake)> {
    let (config, name) = (&shared.config, &shared.name);
    let (own, is_shared) = (bound.address, bound.is_shared);
    if !is_one_address(own) {
        report_destinations(bound.socket.as_raw_fd(), own.is_ipv4())
            .map_err(|error| Error::system("ask for destinations on", name, &error))?;
    }
    if config.transfers.is_some() {
        transfers::prepare(&bound.socket, name)?;
    }
    let socket = Arc::new(bound.socket);
    let completions = responder.as_ref().and_then(|one| one.completions());
    // A receive is woken for good; late answers need a worker that can be woken again.
    let in_receive = !is_shared && completions.is_none();
    let (sleep, wake) = Sleep::new(&socket, in_receive, waker);
    if let Some(completions) = completions {
        let waker = Arc::clone(waker);
        completions.on_complete(move || waker.wake());
    }
    let time = config.sleep_time();
    let receiver = Receiver::new(&socket, config.wait, sleep, Arc::clone(waker), time)
        .map_err(|error| Error::system("set the receive timeout of", name, &error))?;
    let receiver = if is_shared {
        receiver.shared(&socket, own.is_ipv6())
    } else {
        receiver
    };
    let prepared = Prepared {
        endpoint: shared.endpoint(socket, own, receiver, is_shared),
        own,
        responder,
        idle,
    };
    Ok((prepared, wake))
}

/// One worker's life.
fn task(
    shared: Arc<Shared>,
    index: usize,
    prepared: Prepared,
    around: Option<MakeResponder>,
) -> Task {
    let serve = move |control: &Arc<Control>| {
        if let Err(error) = bind_to_cpu(&shared.config.cpus, index) {
            return Finish::Failed(error);
        }
        let Prepared {
            endpoint,
            own,
            responder,
            idle,
        } = prepared;
        let socket = Arc::clone(&endpoint.socket);
        let own = crate::address::plain(own);
        let protocol = shared.protocol(index, responder, own, &socket, control.orders());
        let protocol = match protocol {
            Ok(protocol) => protocol,
            Err(error) => return Finish::Failed(error),
        };
        let mut service = shared.service(own);
        service.idle = idle;
        let finish = run(&shared, endpoint, service, protocol, index, control);
        let drops = socket::kernel_drops(&socket).unwrap_or(0);
        shared.final_drops[index].store(drops, Ordering::Relaxed);
        finish
    };
    match around {
        None => Box::new(serve),
        Some(responder) => Box::new(move |control| responder.run(|| serve(control))),
    }
}

/// Serves by the engine that was chosen.
fn run(
    shared: &Shared,
    parts: endpoint::Parts,
    service: Service,
    protocol: Box<dyn Protocol>,
    index: usize,
    control: &Control,
) -> Finish {
    let counters = &shared.counters[index];
    let fd = parts.socket.as_raw_fd();
    let slot_bytes = shared.config.max_datagram_bytes.unwrap_or(SLOT_BYTES);
    #[cfg(target_os = "linux")]
    if shared.engine != PORTABLE {
        let (engine, refused) = engine::Batch::new(fd, slot_bytes, shared.offload.is_wanted());
        // Known from the start, where it was looked at, unless that has changed since.
        if let Some(error) = refused
            && let Some(text) = shared.offload.refuse_receive(&error)
        {
            let text = format!("{}: {text}", shared.name);
            shared.observer.notice(Level::Warning, "offload", text);
        }
        return Worker::new(
            Endpoint::new(parts, engine),
            service,
            protocol,
            counters,
            control,
        )
        .run();
    }
    let engine = Portable::new(fd, slot_bytes);
    Worker::new(
        Endpoint::new(parts, engine),
        service,
        protocol,
        counters,
        control,
    )
    .run()
}
