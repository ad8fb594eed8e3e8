//! The UDP echo server (RFC 862).

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use socket2::Socket;

pub use self::compose::Broadcast;
use self::compose::Turns;
use self::counters::{Counters, NAMES};
use self::echo::{Service, Worker};
use self::engine::{Engine, Portable};
use self::idle::Idle;
use self::impairing::{Impairing, Setting};
use self::offload::Offload;
use self::wait::{Receiver, Sleep, Wake};
use super::{
    Descriptor, EngineChoice, Listen, Parts, Stats, Wait, check_cpus, check_workers,
    resolve_listen, settle_on_cpu, url,
};
use crate::error::{Error, Result};
use crate::event::{Level, Observer, Queue};
use crate::guard::sources::Sources;
use crate::guard::{Guard, Policy, Rate, Rates};
use crate::impair::DatagramImpairments;
use crate::respond::MakeResponder;
use crate::socket::{self, Bound, SocketOptions};
use crate::stats::{self, DropReason};
use crate::sys::{self, Waker};
use crate::worker::{Control, Finish, Task};

#[doc(hidden)]
pub mod bench_support;
mod compose;
mod counters;
mod echo;
#[cfg(test)]
mod echo_tests;
mod engine;
mod gather;
mod idle;
mod impairing;
mod observe;
mod offload;
mod owner;
mod plan;
mod wait;

#[cfg(all(any(test, feature = "fuzzing"), target_os = "linux"))]
pub(crate) use self::plan::laws;

/// What a UDP server is to be.
#[derive(Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: Listen,
    /// Options of the socket. Its `recv_timeout` bounds one sleep of a worker (which counts
    /// it and goes on); its `send_timeout` how long a reply waits for room in the send
    /// buffer, 1 s by default.
    pub socket: SocketOptions,
    /// The server ends when nothing came for this long, to none of its workers.
    pub idle_timeout: Option<Duration>,
    /// Longer datagrams are answered with this many bytes of theirs; `None`: as they are,
    /// up to the protocol's limit.
    pub max_datagram_bytes: Option<usize>,
    /// An empty datagram ends the server, once answered.
    pub stop_on_empty: bool,
    /// Threads, each with a socket of its own (SO_REUSEPORT).
    pub workers: usize,
    /// The CPUs that the workers are bound to, in turn (sched_setaffinity(2)); none: any.
    pub cpus: Vec<usize>,
    /// Which way to ask the kernel.
    pub engine: EngineChoice,
    /// What a worker does while nothing comes.
    pub wait: Wait,
    /// Datagrams are records of this length, each of which is reported as an event.
    pub record_bytes: Option<usize>,
    /// What is answered; `None`: each datagram's own bytes.
    pub responder: Option<MakeResponder>,
    /// Answers what was sent to a broadcast or multicast address too; `None`: never.
    pub broadcast: Option<Broadcast>,
    /// Whom is answered.
    pub guard: Policy,
    /// What is spoiled on purpose, to begin with; see [`super::Server::impair`].
    pub impair: DatagramImpairments,
}

impl Config {
    /// A server at `listen` with nothing but defaults.
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
            broadcast: None,
            guard: Policy::default(),
            impair: DatagramImpairments::default(),
        }
    }
}

/// Room for whatever UDP can carry: 65,527 bytes over IPv6 (RFC 768, RFC 8200), and for a
/// train of the same size.
const SLOT_BYTES: usize = 65_536;

const DEFAULT_SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// Binds.
pub(crate) fn open(mut config: Config, queue: Option<Arc<Queue>>) -> Result<Parts> {
    let engine = validate(&config)?;
    let workers = config.workers;
    if workers > 1 {
        config.socket.reuse_port = Some(true);
    }
    let listen = std::mem::replace(
        &mut config.listen,
        Listen::At {
            host: String::new(),
            port: 0,
            family: crate::address::Family::Any,
        },
    );
    let bound = bind(listen, &config)?;
    let (address, report) = (bound[0].address, bound[0].report.clone());
    let name = url("udp", address);
    let is_wanted = engine != Portable::NAME && config.max_datagram_bytes.is_none();
    let offload = Arc::new(Offload::of(bound[0].socket.as_raw_fd(), is_wanted));
    let observer = Arc::new(Observer::new(&name, queue));
    let group = Arc::new(Group {
        counters: (0..workers).map(|_| Counters::new()).collect(),
        final_drops: (0..workers).map(|_| AtomicU64::new(OPEN)).collect(),
    });
    let (per_source, total) = (config.guard.rate_per_source, config.guard.rate_total);
    let rates = Rates::new(per_source, total, workers).map(Arc::new);
    let mut tasks: Vec<Task> = Vec::with_capacity(workers);
    let mut wakes: Vec<Wake> = Vec::with_capacity(workers);
    let mut handles: Vec<Weak<Socket>> = Vec::with_capacity(workers);
    let mut idle: Vec<Idle> = config
        .idle_timeout
        .map_or_else(Vec::new, |most| Idle::crew(most, workers).collect());
    let wakers: std::io::Result<Vec<_>> =
        (0..workers).map(|_| Waker::new().map(Arc::new)).collect();
    let wakers = wakers.map_err(|error| Error::system("make a waker for", &name, &error))?;
    let turns = match &config.broadcast {
        Some(broadcast) => Some(Arc::new(Turns::new(broadcast)?)),
        None => None,
    };
    let setting = Setting::of(std::mem::take(&mut config.impair));
    let impaired = setting.text();
    let impairing = Arc::new(Impairing::new(setting, wakers.clone()));
    for (index, bound) in bound.into_iter().enumerate() {
        prepare(&bound, &name)?;
        let socket = Arc::new(bound.socket);
        let responder = config.responder.as_ref().map(|make| make.make(index));
        let completions = responder.as_ref().and_then(|one| one.completions());
        // A receive is woken for good; late answers need a worker that can be woken again.
        let in_receive = !bound.is_shared && completions.is_none();
        let (sleep, wake) = Sleep::new(&socket, in_receive, &wakers[index]);
        if let Some(completions) = completions {
            let waker = Arc::clone(&wakers[index]);
            completions.on_complete(move || waker.wake());
        }
        wakes.push(wake);
        handles.push(Arc::downgrade(&socket));
        let receiver = Receiver::new(
            &socket,
            config.wait,
            sleep,
            Arc::clone(&wakers[index]),
            sleep_time(&config),
        )
        .map_err(|error| Error::system("set the receive timeout of", &name, &error))?;
        let receiver = if bound.is_shared {
            receiver.shared(&socket, address.is_ipv6())
        } else {
            receiver
        };
        let mut service = service(
            &config,
            &name,
            address,
            socket,
            receiver,
            Arc::clone(&observer),
            Arc::clone(&impairing),
            rates.clone(),
        );
        service.is_shared = bound.is_shared;
        service.offload = Arc::clone(&offload);
        service.expects_destination = bound.is_shared && !is_one_address(address);
        service.idle = idle.pop();
        service.responder = responder;
        service.broadcast = config.broadcast.zip(turns.clone());
        tasks.push(task(service, engine, &config, Arc::clone(&group), index));
    }
    let descriptors = handles.iter().cloned().map(descriptor).collect();
    Ok(Parts {
        address,
        engine,
        report: Box::new(move || {
            let mut report = report.clone();
            report.options.extend(offload.report());
            report
        }),
        tasks,
        descriptors,
        wake: Box::new(move || wakes.iter().for_each(Wake::wake)),
        has_responder: config.responder.is_some(),
        impaired,
        impair: Box::new(move |change| impairing.change(change)),
        stats: Box::new(move || group.stats(&handles)),
        observer,
        guards: guards(&config.guard),
        name,
    })
}

/// What holds for a socket beyond loopback, for people.
fn guards(policy: &Policy) -> String {
    let ports = if policy.answer_service_ports {
        "answers service ports"
    } else {
        "answers no service ports"
    };
    let loops = if policy.loop_guard {
        "ends echo loops"
    } else {
        "lets echo loops go on"
    };
    let rate = |rate: Option<Rate>| match rate {
        Some(rate) => format!("{} a second", rate.per_second),
        None => "without limit".to_owned(),
    };
    format!(
        "{ports}, {loops}, answers each source {}, all together {}",
        rate(policy.rate_per_source),
        rate(policy.rate_total),
    )
}

/// The socket's number, for as long as it is open.
fn descriptor(socket: Weak<Socket>) -> Descriptor {
    Box::new(move || socket.upgrade().map(|socket| socket.as_raw_fd()))
}

fn validate(config: &Config) -> Result<&'static str> {
    check_workers(config.workers)?;
    config.socket.validate()?;
    if config
        .max_datagram_bytes
        .is_some_and(|bytes| bytes == 0 || bytes > 65_527)
    {
        let rule = "a datagram carries 1 to 65527 bytes (65507 over IPv4)";
        return Err(Error::argument("set", "max_datagram_bytes", rule));
    }
    if config.idle_timeout.is_some_and(|time| time.is_zero()) {
        return Err(Error::argument(
            "set",
            "idle_timeout=0",
            "a timeout is longer than nothing",
        ));
    }
    if config.socket.send_timeout.is_some_and(|t| t.is_zero()) {
        let rule = "a reply that finds no room waits for more than 0 seconds";
        return Err(Error::argument("set", "send_timeout=0", rule));
    }
    if config.record_bytes == Some(0) {
        return Err(Error::argument(
            "set",
            "record_bytes=0",
            "a record has at least one byte",
        ));
    }
    check_cpus(&config.cpus)?;
    config.guard.validate()?;
    match config.engine {
        EngineChoice::Portable => Ok(Portable::NAME),
        EngineChoice::Auto if !cfg!(target_os = "linux") => Ok(Portable::NAME),
        EngineChoice::Batch if !cfg!(target_os = "linux") => {
            let reason = "this system lacks recvmmsg with trains";
            Err(Error::argument("use", "engine batch", reason).or("take auto or portable"))
        }
        EngineChoice::Auto | EngineChoice::Batch => Ok("batch"),
    }
}

/// One socket a worker, all of one address.
fn bind(listen: Listen, config: &Config) -> Result<Vec<Bound>> {
    match listen {
        Listen::On(adopted) => {
            if config.workers > 1 {
                let reason = "a socket that was passed in is one socket";
                return Err(Error::argument("start", "more than one worker", reason)
                    .or("bind by address, or pass one socket to each of several servers"));
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

/// Has the kernel say where each datagram was sent to, unless that is known.
fn prepare(bound: &Bound, name: &str) -> Result<()> {
    if is_one_address(bound.address) {
        return Ok(());
    }
    receive_destinations(bound.socket.as_raw_fd(), bound.address.is_ipv4())
        .map_err(|error| Error::system("ask for destinations on", name, &error))
}

/// Has a socket say where each datagram was sent to.
fn receive_destinations(fd: RawFd, is_v4: bool) -> std::io::Result<()> {
    if is_v4 {
        return sys::option::receive_destination_v4(fd);
    }
    sys::option::receive_destination_v6(fd)?;
    // For the IPv4 half of a dual-stack socket; one that is IPv6 only may refuse it.
    let _ = sys::option::receive_destination_v4(fd);
    Ok(())
}

/// True for an address to which nothing but unicast can be sent, and from which every
/// reply goes: control data would cost a little and say nothing.
fn is_one_address(address: SocketAddr) -> bool {
    match address {
        // 127.255.255.255 is the loopback network's broadcast address.
        SocketAddr::V4(v4) => v4.ip().is_loopback() && v4.ip().octets() != [127, 255, 255, 255],
        SocketAddr::V6(v6) => v6.ip().is_loopback(),
    }
}

#[allow(clippy::too_many_arguments)]
fn service(
    config: &Config,
    name: &str,
    address: SocketAddr,
    socket: Arc<Socket>,
    receiver: Receiver,
    observer: Arc<Observer>,
    impairing: Arc<Impairing>,
    rates: Option<Arc<Rates>>,
) -> Service {
    Service {
        name: name.to_owned(),
        receiver,
        sources: Sources::new(address, config.broadcast.is_some()),
        guard: Guard::new(&config.guard, rates, Arc::clone(&observer)),
        is_v4: address.is_ipv4(),
        is_shared: false,
        expects_destination: false,
        offload: Arc::default(),
        observer,
        sleep_time: sleep_time(config),
        counts_timeouts: config.socket.recv_timeout.is_some(),
        idle: None,
        send_timeout: config.socket.send_timeout.unwrap_or(DEFAULT_SEND_TIMEOUT),
        answer_truncated: config.max_datagram_bytes.is_some(),
        stop_on_empty: config.stop_on_empty,
        record_bytes: config.record_bytes,
        responder: None,
        broadcast: None,
        policy: config.guard.clone(),
        impairing,
        own: crate::address::plain(address),
        socket,
    }
}

/// How long a sleep lasts that ends without a datagram.
fn sleep_time(config: &Config) -> Option<Duration> {
    match (config.socket.recv_timeout, config.idle_timeout) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn task(
    service: Service,
    engine: &'static str,
    config: &Config,
    group: Arc<Group>,
    index: usize,
) -> Task {
    let slot_bytes = config.max_datagram_bytes.unwrap_or(SLOT_BYTES);
    let cpus = config.cpus.clone();
    let responder = config.responder.clone();
    let serve = move |control: &Arc<Control>| {
        if let Err(error) = settle_on_cpu(&cpus, index) {
            return Finish::Failed(error);
        }
        let socket = Arc::clone(&service.socket);
        let fd = socket.as_raw_fd();
        let counters = &group.counters[index];
        let finish = if engine == Portable::NAME {
            Worker::new(service, Portable::new(fd, slot_bytes), counters, control).run()
        } else {
            run_batch(service, fd, slot_bytes, counters, control)
        };
        let drops = socket::kernel_drops(&socket).unwrap_or(0);
        group.final_drops[index].store(drops, Ordering::Relaxed);
        finish
    };
    match responder {
        None => Box::new(serve),
        Some(responder) => Box::new(move |control| responder.run(|| serve(control))),
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn run_batch(
    service: Service,
    fd: RawFd,
    slot_bytes: usize,
    counters: &Counters,
    control: &Control,
) -> Finish {
    let is_wanted = service.offload.is_wanted();
    let (engine, refused) = engine::Batch::new(fd, slot_bytes, is_wanted);
    // Known from the start, where it was looked at, unless that has changed since.
    if let Some(error) = refused
        && let Some(text) = service.offload.refuse_receive(&error)
    {
        let text = format!("{}: {text}", service.name);
        service.observer.notice(Level::Warning, "offload", text);
    }
    Worker::new(service, engine, counters, control).run()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn run_batch(
    service: Service,
    fd: RawFd,
    slot_bytes: usize,
    counters: &Counters,
    control: &Control,
) -> Finish {
    Worker::new(service, Portable::new(fd, slot_bytes), counters, control).run()
}

/// What the workers of one server share.
struct Group {
    counters: Vec<Counters>,
    /// What the kernel had dropped at each socket when its worker ended; [`OPEN`] before.
    final_drops: Vec<AtomicU64>,
}

const OPEN: u64 = u64::MAX;

impl Group {
    fn stats(&self, sockets: &[Weak<Socket>]) -> Stats {
        let values = stats::total(&self.counters);
        let drops = self.final_drops.iter().zip(sockets).map(|(last, socket)| {
            match (last.load(Ordering::Relaxed), socket.upgrade()) {
                (OPEN, Some(socket)) => socket::kernel_drops(&socket).unwrap_or(0),
                (OPEN, None) => 0,
                (drops, _) => drops,
            }
        });
        let reasons = DropReason::ALL.into_iter().zip(&values[NAMES.len()..]);
        let dropped: u64 = values[NAMES.len()..].iter().sum();
        let mut counters: Vec<_> = NAMES.into_iter().zip(values).collect();
        // Datagrams that are held back, or whose answer has been promised.
        counters.push(("pending_packets", counters::pending(&values, dropped)));
        Stats {
            counters,
            reasons: reasons.map(|((_, name), value)| (name, *value)).collect(),
            kernel_drops: cfg!(target_os = "linux").then(|| drops.sum()),
        }
    }
}
