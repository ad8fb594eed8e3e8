//! One run by its seed, and the laws that it has to keep.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::conditions::{Client, Conditions, Job};
use super::disk::{Bytes, Disk, FileSource, Trickle};
use super::path::Random;
use super::{Network, Watch, transmit};
use crate::datagram::{Batch, Outbox};
use crate::event::Observer;
use crate::proto::{Progress, Protocol};
use crate::transfer::asking::{Pull, Pulling, Push};
use crate::transfer::budget::Budget;
use crate::transfer::cookie::Cookies;
use crate::transfer::failure::{Failure, Reason};
use crate::transfer::sender::{Figures, Sender, Sending};
use crate::transfer::serving::{Limits, Serving, Shared};
use crate::transfer::store::memory::BytesSource;
use crate::transfer::store::{Name, Source};

const SECOND: u64 = 1_000_000_000;

/// What happens in a run at most.
const MOST_EVENTS: u64 = 3_000_000;
/// How long it takes at most: the slowest link takes 200 s for the longest message.
const MOST_NS: u64 = 3_600 * SECOND;
/// Whoever hears nothing gives up so long after its progress timeout at the latest.
const SLACK_NS: u64 = 3 * SECOND;

/// A participant of the network.
pub enum Node {
    /// The server.
    Serving(Box<Serving>),
    /// A client that sends.
    Push(Box<Push>),
    /// A client that fetches.
    Pull(Box<Pull>),
}

impl Node {
    fn protocol(&mut self) -> &mut dyn Protocol {
        match self {
            Node::Serving(it) => &mut **it,
            Node::Push(it) => &mut **it,
            Node::Pull(it) => &mut **it,
        }
    }

    fn outcome(&self) -> Option<Result<Figures, Failure>> {
        match self {
            Node::Serving(_) => None,
            Node::Push(it) => it.outcome(),
            Node::Pull(it) => it.outcome().cloned(),
        }
    }
}

impl Protocol for Node {
    fn on_batch(&mut self, now_ns: u64, batch: &Batch<'_>, out: &mut Outbox) -> Progress {
        self.protocol().on_batch(now_ns, batch, out)
    }

    fn deadline_ns(&self) -> Option<u64> {
        match self {
            Node::Serving(it) => it.deadline_ns(),
            Node::Push(it) => it.deadline_ns(),
            Node::Pull(it) => it.deadline_ns(),
        }
    }

    fn on_time(&mut self, now_ns: u64, out: &mut Outbox) -> Progress {
        self.protocol().on_time(now_ns, out)
    }
}

/// What became of the transfers of a run.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Transfers that arrived, as their clients were told.
    pub whole: u64,
    /// Those that did not, by the reason.
    pub failed: BTreeMap<&'static str, u64>,
    /// Datagrams with bytes of a message, and those of them with bytes that had been sent before.
    pub sent_packets: u64,
    /// As above.
    pub retransmitted_packets: u64,
    /// Bytes of messages.
    pub bytes: u64,
    /// Simulated time.
    pub time_ns: u64,
    /// All had to arrive, and did.
    pub kind: u64,
}

impl Report {
    /// Both.
    pub fn add(&mut self, other: &Report) {
        self.whole += other.whole;
        for (reason, count) in &other.failed {
            *self.failed.entry(reason).or_default() += count;
        }
        self.sent_packets += other.sent_packets;
        self.retransmitted_packets += other.retransmitted_packets;
        self.bytes += other.bytes;
        self.time_ns += other.time_ns;
        self.kind += other.kind;
    }
}

/// One client's transfer, over all its attempts.
struct Task {
    host: usize,
    address: SocketAddr,
    client: Client,
    data: Bytes,
    disk: Disk,
    /// How often it was run.
    attempts: u64,
    /// The message has arrived, and is to come back.
    is_coming_back: bool,
    outcome: Option<Result<Figures, Failure>>,
}

/// A run that goes on.
struct Trial {
    conditions: Conditions,
    random: Random,
    network: Network<Node>,
    disk: Disk,
    server: SocketAddr,
    shared: Arc<Shared>,
    tasks: Vec<Task>,
}

/// Runs a seed.
///
/// # Errors
///
/// Which law was broken, and how.
pub fn run(seed: u64) -> Result<Report, String> {
    watched(seed, None)
}

/// The same, and shows each datagram that is sent.
///
/// # Errors
///
/// As [`run`].
pub fn watched(seed: u64, watch: Option<Box<Watch>>) -> Result<Report, String> {
    let mut random = Random::new(seed);
    let conditions = Conditions::new(&mut random);
    let mut trial = Trial::new(conditions, random);
    trial.network.watch = watch;
    trial.run().map_err(|what| {
        let now_s = trial.network.now_ns() as f64 / 1e9;
        format!("after {now_s:.6} s: {what}")
    })
}

/// What a seed makes up, for people.
pub fn describe(seed: u64) -> String {
    format!("{:#?}", Conditions::new(&mut Random::new(seed)))
}

fn at(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], port))
}

fn message(random: &mut Random, length: usize) -> Vec<u8> {
    let words = (0..length.div_ceil(8)).flat_map(|_| random.wide().to_le_bytes());
    words.take(length).collect()
}

impl Trial {
    fn new(conditions: Conditions, mut random: Random) -> Self {
        let (server, disk) = (at(1, 7), Disk::default());
        let mut network = Network::new(Random::new(random.wide()));
        network.tick_ns = conditions.tick_ns;
        let shared = share(&conditions, &disk, &mut random);
        let serving = Serving::new(Arc::clone(&shared), conditions.buffer_bytes);
        network.add(server, Node::Serving(Box::new(serving)));
        let mut trial = Self {
            network,
            disk,
            server,
            shared,
            tasks: Vec::new(),
            random,
            conditions,
        };
        for (number, client) in trial.conditions.clients.clone().into_iter().enumerate() {
            trial.add(number, client);
        }
        trial
    }

    fn add(&mut self, number: usize, client: Client) {
        let address = at(2, 1_000 + number as u16);
        let there = self.network.add_path(client.there.clone());
        let back = self.network.add_path(client.back.clone());
        self.network.route(address, self.server, there);
        self.network.route(self.server, address, back);
        let data: Bytes = Arc::new(message(&mut self.random, client.length));
        if client.job == Job::Pull {
            self.disk.put(name(number), Arc::clone(&data));
        }
        let mut task = Task {
            host: 0,
            address,
            client,
            data,
            disk: Disk::default(),
            attempts: 1,
            is_coming_back: false,
            outcome: None,
        };
        let node = self.node(number, &task);
        task.host = self.network.add(address, node);
        self.tasks.push(task);
    }

    /// What a client runs.
    fn node(&mut self, number: usize, task: &Task) -> Node {
        let (now_ns, id) = (self.network.now_ns(), self.random.wide());
        let progress_timeout_ns = self.conditions.progress_timeout_ns;
        if task.client.job == Job::Pull {
            return self.pull(id, name(number), task);
        }
        let settings = Sending {
            name: match task.client.job {
                Job::File => name(number),
                _ => Name::none(),
            },
            replaces: false,
            progress_timeout_ns,
            bytes_per_second: task.client.bytes_per_second,
            max_datagram_bytes: task.client.link_bytes,
        };
        let data = task.data.to_vec();
        let source: Box<dyn Source> = match task.client.job {
            Job::File => Box::new(FileSource::new(data, [7; 16])),
            Job::Pipe => Box::new(Trickle::new(data)),
            _ => Box::new(BytesSource::new(data)),
        };
        let to = transmit(self.server);
        let sender = Sender::new(id, to, source, settings, now_ns);
        Node::Push(Box::new(Push::new(sender)))
    }

    fn pull(&self, id: u64, name: Name, task: &Task) -> Node {
        let what = Pulling {
            id,
            name,
            progress_timeout_ns: self.conditions.progress_timeout_ns,
            buffer_bytes: self.conditions.buffer_bytes,
        };
        let (to, disk) = (transmit(self.server), Arc::new(task.disk.clone()));
        let pull = Pull::new(what, to, self.server, disk, self.network.now_ns());
        Node::Pull(Box::new(pull))
    }

    // --- how it goes ------------------------------------------------------------------------

    fn run(&mut self) -> Result<Report, String> {
        let mut events = 0;
        loop {
            let open = self.tasks.iter().any(|task| task.outcome.is_none());
            if !open {
                break;
            }
            let mishap_ns = self.next_mishap_ns();
            if self.network.next_ns().is_none_or(|next| next >= mishap_ns) {
                if mishap_ns == u64::MAX {
                    return Err("nothing will happen any more, and it has not ended".into());
                }
                self.network.step(mishap_ns.saturating_sub(1));
                self.restart(mishap_ns);
                continue;
            }
            self.network.step(u64::MAX);
            events += 1;
            if events > MOST_EVENTS || self.network.now_ns() > MOST_NS {
                return Err(format!("it does not end ({events} events)"));
            }
            self.note_outcomes()?;
        }
        let time_ns = self.network.now_ns();
        self.linger()?;
        self.judge(time_ns)
    }

    fn next_mishap_ns(&self) -> u64 {
        let clients = self.tasks.iter().filter(|task| task.outcome.is_none());
        let restarts = clients.filter_map(|task| task.client.restart_ns);
        let restarts = restarts.chain(self.conditions.restart_ns);
        restarts.min().unwrap_or(u64::MAX)
    }

    fn restart(&mut self, time_ns: u64) {
        if self.conditions.restart_ns == Some(time_ns) {
            self.conditions.restart_ns = None;
            self.disk.kill();
            self.shared = share(&self.conditions, &self.disk, &mut self.random);
            let serving = Serving::new(Arc::clone(&self.shared), self.conditions.buffer_bytes);
            self.network.replace(0, Node::Serving(Box::new(serving)));
        }
        for number in 0..self.tasks.len() {
            if self.tasks[number].client.restart_ns != Some(time_ns) {
                continue;
            }
            let mut task = self.tasks.remove(number);
            task.client.restart_ns = None;
            if task.outcome.is_none() {
                task.disk.kill();
                task.attempts += 1;
                task.is_coming_back = false;
                let node = self.node(number, &task);
                self.network.replace(task.host, node);
            }
            self.tasks.insert(number, task);
        }
    }

    fn note_outcomes(&mut self) -> Result<(), String> {
        let most_ns = self.conditions.progress_timeout_ns + SLACK_NS;
        for number in 0..self.tasks.len() {
            let task = &self.tasks[number];
            if task.outcome.is_some() {
                continue;
            }
            let host = &self.network.hosts[task.host];
            let Some(outcome) = host.node.outcome() else {
                let silent_ns = self.network.now_ns() - host.heard_ns;
                if silent_ns > most_ns {
                    return Err(format!(
                        "client {number} hears nothing, and does not give up"
                    ));
                }
                continue;
            };
            if let (Node::Push(push), Job::Echo, false, Ok(_)) =
                (&host.node, task.client.job, task.is_coming_back, &outcome)
            {
                let node = self.pull(push.sender().id(), Name::none(), task);
                let host = task.host;
                self.network.replace(host, node);
                self.tasks[number].is_coming_back = true;
                continue;
            }
            self.tasks[number].outcome = Some(outcome);
        }
        Ok(())
    }

    /// What is still on its way arrives, and the server gives up what nobody goes on with.
    fn linger(&mut self) -> Result<(), String> {
        let end_ns = self.network.now_ns() + 3 * self.conditions.progress_timeout_ns + 70 * SECOND;
        let mut events = 0;
        while self.network.step(end_ns) {
            events += 1;
            if events > MOST_EVENTS {
                return Err("what is left of it does not end".into());
            }
        }
        Ok(())
    }

    // --- what has to hold -------------------------------------------------------------------

    fn judge(&self, time_ns: u64) -> Result<Report, String> {
        let mut report = Report {
            time_ns,
            ..Report::default()
        };
        for (number, task) in self.tasks.iter().enumerate() {
            self.judge_task(task, &mut report)
                .map_err(|what| format!("client {number}: {what}"))?;
        }
        if self.shared.budget.taken_bytes() != 0 {
            let left = self.shared.budget.taken_bytes();
            return Err(format!("{left} bytes for what came early are still taken"));
        }
        if self.shared.open() != 0 {
            return Err(format!("{} transfers are still open", self.shared.open()));
        }
        self.judge_packets()?;
        Ok(report)
    }

    fn judge_task(&self, task: &Task, report: &mut Report) -> Result<(), String> {
        let Some(outcome) = &task.outcome else {
            return Err("it has not ended".into());
        };
        let job = task.client.job;
        let at_server = self.disk.finished().into_iter();
        let at_server: Vec<_> = at_server.filter(|it| it.peer == task.address).collect();
        let here = task.disk.finished();
        let delivered = match job {
            Job::Pull => &here,
            _ => &at_server,
        };
        if delivered.iter().chain(&here).any(|it| it.data != task.data) {
            return Err("what was delivered is not what was sent".into());
        }
        // A message that is sent again by hand is another one; a file is there or not.
        let most = match job {
            Job::Message | Job::Pipe | Job::Echo => task.attempts,
            Job::File | Job::Pull => 1,
        };
        if delivered.len() as u64 > most {
            return Err(format!("delivered {} times", delivered.len()));
        }
        let mut ids: Vec<_> = delivered.iter().map(|it| it.id).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() != delivered.len() {
            return Err("delivered twice by one id".into());
        }
        match outcome {
            Ok(figures) => {
                if delivered.is_empty() || (job == Job::Echo && here.len() != 1) {
                    return Err("its client was told that it arrived, and it did not".into());
                }
                if figures.digest != *blake3::hash(&task.data).as_bytes() {
                    return Err("its digest is another".into());
                }
                report.whole += 1;
                report.kind += u64::from(self.conditions.is_kind);
                report.bytes += task.data.len() as u64;
                report.sent_packets += figures.sent_packets;
                report.retransmitted_packets += figures.retransmitted_packets;
            }
            Err(failure) if self.conditions.is_kind => {
                return Err(format!("it failed, though it could: {failure}"));
            }
            Err(failure) => {
                if failure.reason == Reason::Corrupt {
                    return Err(format!("it failed as it must not: {failure}"));
                }
                *report.failed.entry(failure.reason.name()).or_default() += 1;
            }
        }
        Ok(())
    }

    /// Nobody sends much more than is needed.
    fn judge_packets(&self) -> Result<(), String> {
        let server = &self.network.hosts[0];
        let mut needed = 0.0;
        for task in &self.tasks {
            let host = &self.network.hosts[task.host];
            let (there, back) = (&task.client.there, &task.client.back);
            let lost = |loss: f64, spoilt: f64| (1.0 - loss) * (1.0 - spoilt);
            let comes = lost(there.loss, there.corruption) * lost(back.loss, back.corruption);
            let mut sizes = there.mtu.iter().chain(&back.mtu);
            if sizes.any(|(_, most)| *most < 512) {
                // Each round trip something goes, and nothing comes through.
                needed += f64::INFINITY;
                continue;
            }
            // 480 bytes in each datagram at least, each as often as it takes, and thrice that.
            let copies = (1.0 + there.duplication) * (1.0 + back.duplication);
            let ways = if task.client.job == Job::Echo {
                2.0
            } else {
                1.0
            };
            let packets = ways * copies * (task.data.len() as f64 / 480.0 + 20.0) / comes;
            let most = 3.0 * packets * task.attempts as f64 + 200.0;
            if host.sent as f64 > most {
                return Err(format!(
                    "a client sent {} datagrams, not {most:.0}",
                    host.sent
                ));
            }
            if host.idle_calls as f64 > 20.0 * most + 1_000.0 {
                return Err(format!("{} calls for nothing", host.idle_calls));
            }
            needed += most;
        }
        if server.sent as f64 > 2.0 * needed {
            return Err(format!(
                "the server sent {} datagrams, not {needed:.0}",
                server.sent
            ));
        }
        Ok(())
    }
}

fn name(number: usize) -> Name {
    Name::new(vec![format!("file {number}")]).unwrap_or_default()
}

fn share(conditions: &Conditions, disk: &Disk, random: &mut Random) -> Arc<Shared> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&random.wide().to_le_bytes());
    let limits = Limits {
        open_per_source: 8,
        open: 64,
        progress_timeout_ns: conditions.progress_timeout_ns,
        bytes_per_second: None,
    };
    let link_bytes = conditions.clients[0].link_bytes;
    Arc::new(Shared::new(
        Arc::new(disk.clone()),
        Some(Arc::new(disk.clone())),
        Cookies::with_key(key),
        Budget::new(conditions.budget_bytes),
        limits,
        Arc::new(Observer::new("udp://192.0.2.1:7", None)),
        Box::new(move |_| link_bytes),
    ))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_thousand_transfers_end_whole_and_once_or_failed() {
        for seed in 0..1_000 {
            if let Err(what) = super::run(seed) {
                panic!("seed {seed} {what}\n{}", super::describe(seed));
            }
        }
    }
}
