//! What a seed makes up: a network, transfers, and mishaps.

use std::ops::Range;

use super::path::{Path, Random};

const MILLISECOND: f64 = 1e6;
const SECOND: f64 = 1e9;

/// What one client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// Sends a message without a name.
    Message,
    /// Sends what comes out of a pipe.
    Pipe,
    /// Sends a file.
    File,
    /// Fetches a file.
    Pull,
    /// Sends a message, and has it sent back.
    Echo,
}

/// One client.
#[derive(Debug, Clone)]
pub struct Client {
    /// What it does.
    pub job: Job,
    /// Bytes of its message.
    pub length: usize,
    /// To the server, and back.
    pub there: Path,
    /// As above.
    pub back: Path,
    /// It sends no faster.
    pub bytes_per_second: Option<u64>,
    /// It is killed then, and run again a bit later.
    pub restart_ns: Option<u64>,
    /// What a datagram may carry on its first link.
    pub link_bytes: usize,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Conditions {
    /// One or a few.
    pub clients: Vec<Client>,
    /// The server is killed then, and run again at once.
    pub restart_ns: Option<u64>,
    /// Packets that arrive within this time are received together.
    pub tick_ns: u64,
    /// Of both sides.
    pub progress_timeout_ns: u64,
    /// Half of the server's receive buffer.
    pub buffer_bytes: u32,
    /// Memory for what comes early.
    pub budget_bytes: u64,
    /// Whether all has to arrive.
    pub is_kind: bool,
}

impl Conditions {
    /// Of a seed.
    pub fn new(random: &mut Random) -> Self {
        let count = if random.chance(0.15) {
            2 + random.below(2)
        } else {
            1
        };
        let restart_ns = random.chance(0.08).then(|| mishap_ns(random));
        let clients: Vec<_> = (0..count).map(|_| client(random)).collect();
        let is_kind = restart_ns.is_none() && clients.iter().all(is_kind);
        Self {
            clients,
            restart_ns,
            tick_ns: [1, 1, 10_000, 100_000, 1_000_000][random.below(5) as usize],
            progress_timeout_ns: match is_kind {
                // Time enough that bad luck is no reason.
                true => 60 * SECOND as u64,
                false => 10 * SECOND as u64,
            },
            buffer_bytes: random.log(4_000.0, 4e6) as u32,
            budget_bytes: random.log(8e3, 64e6) as u64,
            is_kind,
        }
    }
}

fn is_kind(client: &Client) -> bool {
    [&client.there, &client.back].into_iter().all(|path| {
        path.loss <= 0.2
            && path.corruption <= 0.05
            && path.cut_ns.is_empty()
            && path.mtu.iter().all(|(_, most)| *most >= 512)
    }) && client.restart_ns.is_none()
}

/// Soon, mostly: what is short is over soon.
fn mishap_ns(random: &mut Random) -> u64 {
    random.log(MILLISECOND, 5.0 * SECOND) as u64
}

fn client(random: &mut Random) -> Client {
    let job = match random.below(20) {
        0..8 => Job::Message,
        8..10 => Job::Pipe,
        10..15 => Job::File,
        15..19 => Job::Pull,
        _ => Job::Echo,
    };
    let length = match random.below(1_000) {
        0..20 => 0,
        20..24 => random.log(1e6, 4e6) as usize,
        _ => random.log(1.0, 300_000.0) as usize,
    };
    let delay_ns = random.log(0.01 * MILLISECOND, 150.0 * MILLISECOND) as u64;
    let harm = [0.0, 0.0, 0.05, 0.2, 0.6][random.below(5) as usize];
    let there = path(random, delay_ns, harm);
    let mut back = path(random, delay_ns, harm);
    if random.chance(0.5) {
        // Who cuts one way off mostly cuts off both.
        back.cut_ns = there.cut_ns.clone();
    }
    Client {
        job,
        length,
        there,
        back,
        bytes_per_second: random.chance(0.1).then(|| random.log(30e3, 1e7) as u64),
        restart_ns: random.chance(0.08).then(|| mishap_ns(random)),
        link_bytes: [1_472, 1_472, 1_452, 8_972, 65_507][random.below(5) as usize],
    }
}

fn path(random: &mut Random, delay_ns: u64, harm: f64) -> Path {
    let mut path = Path {
        delay_ns,
        loss: harm * random.share(),
        ..Path::default()
    };
    if random.chance(0.3) {
        path.duplication = 0.2 * random.share();
    }
    if random.chance(0.3) {
        path.jitter_ns = random.log(1e4, 50.0 * MILLISECOND) as u64;
    }
    if random.chance(0.2) {
        path.corruption = 0.1 * random.share();
    }
    if random.chance(0.4) {
        path.bytes_per_second = Some(random.log(20e3, 50e6));
        path.queue_bytes = random.log(5e3, 500e3) as u64;
    }
    if random.chance(0.5) {
        let most = [548, 1_200, 1_452, 1_472, 4_000, 8_972][random.below(6) as usize];
        path.mtu.push((0, most));
    }
    if random.chance(0.1) {
        let least = if random.chance(0.1) { 200 } else { 548 };
        path.mtu
            .push((mishap_ns(random), least + random.below(1_000) as usize));
    }
    if random.chance(0.08) {
        path.cut_ns = cut(random);
    }
    path
}

fn cut(random: &mut Random) -> Range<u64> {
    let from_ns = random.log(0.1 * MILLISECOND, 5.0 * SECOND) as u64;
    from_ns..from_ns + random.log(10.0 * MILLISECOND, 20.0 * SECOND) as u64
}
