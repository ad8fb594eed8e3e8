//! The handle of a server: it is bound when created; then start, stop, wait, statistics.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::address::{self, Family};
use crate::books::Totals;
use crate::error::{Error, Result};
use crate::event::{self, Level, Observer, Part, Queue};
use crate::impair::Tape;
use crate::socket::{self, Adopted, Severity, SocketReport};
use crate::sys;
use crate::worker::{self, Crew, Finish, LARGE_STACK_BYTES, STACK_BYTES, Task};

pub mod tcp;
pub mod udp;

pub use crate::net::choice::EngineChoice;
pub use crate::net::pace::Wait;

/// Where a server listens.
#[derive(Debug)]
pub enum Listen {
    /// A host and a port; of a name's addresses, IPv4 comes first.
    At {
        /// A name or a numeric address; empty for all interfaces.
        host: String,
        /// The port; 0 picks a free one.
        port: u16,
        /// The allowed address families.
        family: Family,
    },
    /// A socket that was passed in (systemd's, a supervisor's, a test's).
    On(Adopted),
}

impl Listen {
    /// Listens at a host and a port, of either family.
    pub fn at(host: &str, port: u16) -> Self {
        Self::At {
            host: host.to_owned(),
            port,
            family: Family::Any,
        }
    }
}

/// A server's counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// Plain counters by name.
    pub counters: Vec<(&'static str, u64)>,
    /// UDP: datagrams not answered, by reason. TCP: connections ended, by reason.
    pub reasons: Vec<(&'static str, u64)>,
    /// What the kernel dropped before the server saw it (a full receive buffer, a full
    /// backlog); `None` where it does not say.
    pub kernel_drops: Option<u64>,
}

impl Stats {
    pub(crate) fn new(totals: Totals, kernel_drops: Option<u64>) -> Self {
        let Totals { counters, reasons } = totals;
        Self {
            counters,
            reasons,
            kernel_drops,
        }
    }

    /// A counter's value; 0 for a name that is not there.
    pub fn get(&self, name: &str) -> u64 {
        self.counters
            .iter()
            .find(|(known, _)| *known == name)
            .map_or(0, |(_, value)| *value)
    }

    /// The count of one reason.
    pub fn reason(&self, name: &str) -> u64 {
        self.reasons
            .iter()
            .find(|(known, _)| *known == name)
            .map_or(0, |(_, value)| *value)
    }

    /// The sum over all reasons.
    pub fn reasons_total(&self) -> u64 {
        self.reasons.iter().map(|(_, value)| value).sum()
    }
}

/// A new impairment: see [`Server::impair`].
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// The impairment in the grammar of the server's protocol; empty: none.
    pub spec: String,
    /// UDP: records decisions, or replays recorded ones instead of random ones.
    pub tape: Option<Arc<Tape>>,
}

/// The number of a descriptor, for as long as it is open and ours: a forked child must
/// never let go of a stranger's.
pub(crate) type Descriptor = Box<dyn Fn() -> Option<RawFd> + Send + Sync>;

/// Changes what a server impairs.
pub(crate) type Impair = Box<dyn Fn(&Change) -> Result<String> + Send + Sync>;

/// What a protocol's `open` hands to the [`Server`] that will run it.
pub(crate) struct Parts {
    /// As in `udp://127.0.0.1:9999`.
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    /// The engine that will really run.
    pub(crate) engine: &'static str,
    /// What the socket got, as far as that is known by now.
    pub(crate) report: Box<dyn Fn() -> SocketReport + Send + Sync>,
    /// One a worker.
    pub(crate) tasks: Vec<Task>,
    /// Workers run a responder, which may be anybody's code.
    pub(crate) has_responder: bool,
    pub(crate) impair: Impair,
    /// What is impaired from the start, as a user would write it.
    pub(crate) impaired: String,
    /// Makes every worker look at its `Control`.
    pub(crate) wake: Box<dyn Fn() + Send + Sync>,
    pub(crate) stats: Box<dyn Fn() -> Stats + Send + Sync>,
    /// All that a child of `fork` has to let go of, while it is open.
    pub(crate) descriptors: Vec<Descriptor>,
    pub(crate) observer: Arc<Observer>,
    /// What protects it, should it be reachable from beyond this machine: for people, and for
    /// programs.
    pub(crate) guards: (String, event::Parts),
}

/// A UDP or TCP echo server.
pub struct Server {
    name: String,
    address: SocketAddr,
    engine: &'static str,
    report: Box<dyn Fn() -> SocketReport + Send + Sync>,
    tasks: Mutex<Vec<Task>>,
    stats: Arc<dyn Fn() -> Stats + Send + Sync>,
    descriptors: Vec<Descriptor>,
    observer: Arc<Observer>,
    stack_bytes: usize,
    /// The current impairment, as a user would write it.
    impaired: Mutex<String>,
    impair: Impair,
    guards: (String, event::Parts),
    crew: Arc<Crew>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// How much longer than its drain time [`Server::stop`] waits for running calls of the
    /// responder.
    pub const GRACE: Duration = worker::GRACE;

    /// Binds a UDP server. It answers after [`Server::start`].
    ///
    /// # Errors
    ///
    /// An invalid argument, a name that does not resolve, an address that cannot be bound.
    pub fn udp(config: udp::Config, queue: Option<Arc<Queue>>) -> Result<Self> {
        udp::open(config, queue).map(Self::new)
    }

    /// Binds a TCP server. It listens at once, and answers after [`Server::start`].
    ///
    /// # Errors
    ///
    /// As for [`Server::udp`].
    pub fn tcp(config: tcp::Config, queue: Option<Arc<Queue>>) -> Result<Self> {
        tcp::open(config, queue).map(Self::new)
    }

    fn new(parts: Parts) -> Self {
        let stats: Arc<dyn Fn() -> Stats + Send + Sync> = Arc::from(parts.stats);
        let crew = Crew::new(parts.name.clone(), parts.wake, {
            let (observer, stats) = (Arc::clone(&parts.observer), Arc::clone(&stats));
            move |finish: &Finish| observe_finish(&observer, finish, &stats())
        });
        Self {
            name: parts.name,
            address: parts.address,
            engine: parts.engine,
            report: parts.report,
            tasks: Mutex::new(parts.tasks),
            stats,
            descriptors: parts.descriptors,
            observer: parts.observer,
            stack_bytes: if parts.has_responder {
                LARGE_STACK_BYTES
            } else {
                STACK_BYTES
            },
            impaired: Mutex::new(parts.impaired),
            impair: parts.impair,
            guards: parts.guards,
            crew,
        }
    }

    /// Its URL with the real port, such as `udp://127.0.0.1:9999`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number in this process, which its events carry.
    pub fn id(&self) -> u64 {
        self.observer.id()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The engine that runs: `batch` or `portable` for UDP, `epoll` or `portable` for TCP.
    pub fn engine(&self) -> &'static str {
        self.engine
    }

    /// The socket options as requested and as granted, as far as known: for example, the
    /// kernel's refusal to cut trains of datagrams shows only when the first is sent.
    pub fn report(&self) -> SocketReport {
        (self.report)()
    }

    /// Starts the workers and returns. A server can be started once.
    ///
    /// # Errors
    ///
    /// It was started already, this is a child after `fork`, or no thread can be created.
    pub fn start(&self) -> Result<()> {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let tasks = std::mem::take(&mut *tasks);
        let thread_name = if self.name.starts_with("udp") {
            "rsecho-udp"
        } else {
            "rsecho-tcp"
        };
        // Without tasks it has been started before, which the crew refuses.
        if !tasks.is_empty() && !self.is_foreign() {
            self.observe_start();
        }
        self.crew.start(thread_name, self.stack_bytes, tasks)
    }

    fn observe_start(&self) {
        let text = format!("listening on {} (engine {})", self.name, self.engine);
        let parts = vec![("engine", self.engine.into())];
        self.observer
            .notice_parts(Level::Info, "listening", text, parts);
        if self.name.starts_with("udp") && !address::is_loopback(self.address.ip()) {
            let text = format!(
                "{} can be reached from other machines, and UDP source addresses can be forged: \
                 a reply goes to the address that the request claims; bind 127.0.0.1 or ::1 to \
                 serve this machine only",
                self.name
            );
            self.observer.notice(Level::Warning, "exposed", text);
        }
        let spec = self.impairment();
        if !spec.is_empty() {
            self.observe_impairment(&spec);
        }
        if !address::is_loopback(self.address.ip()) {
            let (text, parts) = &self.guards;
            let text = format!("{} {text}", self.name);
            self.observer
                .notice_parts(Level::Info, "guards", text, parts.clone());
        }
        for option in &self.report().options {
            if let Some(effective) = &option.effective
                && option.name.ends_with("buffer_bytes")
            {
                let mut text = format!("{} {} is {effective} bytes", self.name, option.option);
                if let (Some(ceiling), Some(sysctl)) = (option.ceiling, option.sysctl) {
                    text += &format!("; {sysctl} allows {ceiling}");
                }
                self.observer
                    .notice_parts(Level::Debug, "buffer", text, option_parts(option));
            }
            if let Some((severity, text)) = &option.warning {
                let level = match severity {
                    Severity::Notice => Level::Debug,
                    Severity::Warning => Level::Warning,
                };
                let text = format!("{}: {text}", self.name);
                self.observer
                    .notice_parts(level, "option", text, option_parts(option));
            }
        }
    }

    /// Answers the requests that have already arrived, for at most `drain`, ends the server and
    /// waits for its end. Does nothing if it has ended. Does not wait when its own responder calls
    /// it.
    ///
    /// No call of the responder begins after the deadline; a call that is running may finish.
    /// Unanswered requests are counted, as `stopped` (UDP) or as abandoned.
    ///
    /// # Errors
    ///
    /// A worker is still in its responder [`Server::GRACE`] after the deadline
    /// ([`Error::is_unfinished`]): the server ends when that call returns. Or this is a child
    /// after `fork`.
    pub fn stop(&self, drain: Duration) -> Result<()> {
        self.stop_unless(drain, || false)
    }

    /// Like [`Server::stop`], but asks ten times per second whether the caller gives up. If so, the
    /// workers end now; it waits for all that are not in their responder.
    ///
    /// # Errors
    ///
    /// As for [`Server::stop`].
    pub fn stop_unless(&self, drain: Duration, gives_up: impl FnMut() -> bool) -> Result<()> {
        let stopped = self.crew.stop_unless(drain, gives_up);
        if let Err(error) = &stopped
            && error.is_unfinished()
        {
            self.observer
                .notice(Level::Error, "unfinished", error.to_string());
        }
        self.forget_tasks();
        stopped
    }

    /// Ends the server now, as dropping it does. Waits for all workers except those that stay in
    /// their responder, and returns the names of these.
    ///
    /// # Errors
    ///
    /// In a child after `fork`.
    pub fn dismiss(&self) -> Result<Vec<String>> {
        let dismissed = self.crew.dismiss();
        self.forget_tasks();
        dismissed
    }

    /// The names of the workers that are running their responder now.
    pub fn asking(&self) -> Vec<String> {
        self.crew.asking()
    }

    fn forget_tasks(&self) {
        // Tasks that never ran hold the sockets.
        let tasks = self.tasks.lock();
        tasks.unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Tells the workers to end, and does not wait.
    ///
    /// # Errors
    ///
    /// This is a child after `fork`.
    pub fn request_stop(&self, drain: Duration) -> Result<()> {
        self.crew.request_stop(drain)
    }

    /// Waits until the server has ended, for at most `timeout`. Returns `None` if it still runs.
    ///
    /// # Errors
    ///
    /// It was never started, or this is a child after `fork`.
    pub fn wait(&self, timeout: Duration) -> Result<Option<Finish>> {
        self.crew.wait(timeout)
    }

    /// True on a thread of its workers, such as in its responder.
    pub fn is_own_worker(&self) -> bool {
        self.crew.is_own_worker()
    }

    /// True between start and end.
    pub fn is_running(&self) -> bool {
        self.crew.is_running()
    }

    /// Why it has ended, if it has.
    pub fn finish(&self) -> Option<Finish> {
        self.crew.finish()
    }

    /// Its counters, all at one moment.
    pub fn stats(&self) -> Stats {
        (self.stats)()
    }

    /// Switches events for each datagram or connection on, with up to this many bytes of payload,
    /// or off.
    pub fn set_access(&self, payload_bytes: Option<u32>) {
        self.observer.set_access(payload_bytes);
    }

    /// Replaces the current impairment. It applies to every datagram that is sent to the server after
    /// this returned, and to new bytes of open connections. Data that the earlier impairment has
    /// delayed keeps its time. Returns the impairment in force, with the seed that repeats it.
    ///
    /// # Errors
    ///
    /// The text is not in the grammar, or this protocol cannot do what it says; or this is a
    /// child after `fork`.
    pub fn impair(&self, change: &Change) -> Result<String> {
        self.crew.check_process("impair")?;
        let text = (self.impair)(change)?;
        self.impaired
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&text);
        self.observe_impairment(&text);
        Ok(text)
    }

    fn observe_impairment(&self, spec: &str) {
        let text = impaired(&self.name, spec);
        let parts = vec![("impair", spec.into())];
        self.observer
            .notice_parts(Level::Info, "impaired", text, parts);
    }

    /// The current impairment, with the seed that repeats it; empty: none.
    pub fn impairment(&self) -> String {
        let text = self.impaired.lock();
        text.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True in a child after `fork`, where this handle is dead.
    pub fn is_foreign(&self) -> bool {
        self.crew.is_foreign()
    }

    /// Call this in the child right after `fork`: it releases the parent's sockets, which
    /// would otherwise keep the port in use while the child lives.
    pub fn abandon(&self) {
        if self.is_foreign() {
            for fd in self
                .descriptors
                .iter()
                .filter_map(|descriptor| descriptor())
            {
                // Nothing can be done about a failure here, and nothing depends on it.
                let _ = sys::abandon(fd);
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // In the parent only: a child has no threads to wait for.
        let _ = self.crew.dismiss();
    }
}

fn impaired(name: &str, text: &str) -> String {
    if text.is_empty() {
        format!("{name} is no longer impaired")
    } else {
        format!("{name} is impaired: {text}")
    }
}

/// What a line about an option says, for programs. Only buffers are measured in bytes.
fn option_parts(option: &socket::OptionReport) -> event::Parts {
    let [requested, effective, ceiling] = if option.name.ends_with("buffer_bytes") {
        ["requested_bytes", "effective_bytes", "ceiling_bytes"]
    } else {
        ["requested", "effective", "ceiling"]
    };
    let number = |value: &Option<socket::Value>| match value {
        Some(socket::Value::Number(number)) => Some(*number),
        _ => None,
    };
    let numbers = [
        (requested, number(&option.requested)),
        (effective, number(&option.effective)),
        (ceiling, option.ceiling),
    ];
    let mut parts: event::Parts = vec![("option", option.option.into())];
    for (name, value) in numbers {
        parts.extend(value.map(|value| (name, value.into())));
    }
    parts.extend(option.sysctl.map(|sysctl| ("sysctl", sysctl.into())));
    parts
}

fn observe_finish(observer: &Observer, finish: &Finish, stats: &Stats) {
    let mut totals = String::new();
    // What is always of interest, and what is not as it should be.
    let is_plain = |name: &str| {
        let is_flow = ["received_", "sent_", "accepted_"]
            .iter()
            .any(|p| name.starts_with(p));
        is_flow && !name.ends_with("_transfers")
    };
    for (name, value) in stats
        .counters
        .iter()
        .filter(|(name, value)| *value > 0 || is_plain(name))
    {
        let _ = fmt::Write::write_fmt(&mut totals, format_args!("{name}={value} "));
    }
    for (name, value) in stats.reasons.iter().filter(|(_, value)| *value > 0) {
        let _ = fmt::Write::write_fmt(&mut totals, format_args!("{name}={value} "));
    }
    let level = if finish.is_healthy() {
        Level::Info
    } else {
        Level::Error
    };
    let text = format!(
        "stopped {}: {finish}; {}",
        observer.server(),
        totals.trim_end()
    );
    let mut counters = stats.counters.clone();
    counters.extend(stats.kernel_drops.map(|count| ("kernel_drops", count)));
    let parts = vec![
        ("reason", finish.name().into()),
        ("counters", Part::Counts(counters)),
        ("reasons", Part::Counts(stats.reasons.clone())),
    ];
    observer.notice_parts(level, "stopped", text, parts);
}

/// How a server is named: `udp://127.0.0.1:9999`, and for a link-local address with its
/// interface, `udp://[fe80::1%eth0]:9999`.
pub(crate) fn url(protocol: &str, address: SocketAddr) -> String {
    match address::plain(address) {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => {
            let number = v6.scope_id();
            let interface = sys::interface_name(number).unwrap_or_else(|| number.to_string());
            format!("{protocol}://[{}%{interface}]:{}", v6.ip(), v6.port())
        }
        plain => format!("{protocol}://{plain}"),
    }
}

/// The address to bind, for [`Listen::At`].
pub(crate) fn resolve_listen(host: &str, port: u16, family: Family) -> Result<SocketAddr> {
    address::resolve_one(host, port, family)
}

/// Refuses a number of workers that cannot be meant.
pub(crate) fn check_workers(workers: usize) -> Result<usize> {
    if (1..=MAX_WORKERS).contains(&workers) {
        return Ok(workers);
    }
    let rule =
        format!("a server has 1 to {MAX_WORKERS} workers; more than one per CPU do not help");
    Err(Error::argument("set", format!("workers={workers}"), rule))
}

const MAX_WORKERS: usize = 1024;

/// Refuses CPUs that this process may not use.
pub(crate) fn check_cpus(cpus: &[usize]) -> Result<()> {
    let allowed = sys::thread::allowed_cpus();
    match cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        None => Ok(()),
        Some(cpu) => Err(Error::argument(
            "set",
            format!("cpus={cpu}"),
            "this process may not use that CPU",
        )
        .or(format!("it may use {}: see taskset(1)", ranges(&allowed)))),
    }
}

/// Numbers in ascending order, as taskset(1) writes them: 0-3,8.
fn ranges(numbers: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let text = |&(first, last): &(usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}

/// Binds the calling worker, the `index`th, to its CPU, if there are any to keep to.
pub(crate) fn bind_to_cpu(cpus: &[usize], index: usize) -> Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let cpu = cpus[index % cpus.len()];
    sys::thread::bind_to_cpu(cpu)
        .map_err(|error| Error::system("bind a worker to", format!("CPU {cpu}"), &error))
}
