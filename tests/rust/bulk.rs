//! Much at once, on the client's driver: trains out and in over each engine, errors that a protocol
//! lives with, and an end in spite of all that goes on.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rsecho::address::Family;
use rsecho::client::{Driver, EngineChoice, Expectation, Patience, UdpClient};
use rsecho::proto::{Batch, MakeProtocol, Outbox, Progress, Protocol};
use rsecho::server::{Listen, Server, udp};
use rsecho::socket::{SocketOptions, Value};

const LONG: Duration = Duration::from_secs(60);
const EVERY_ENGINE: [(EngineChoice, &str); 2] = [
    (EngineChoice::Auto, BEST),
    (EngineChoice::Portable, "portable"),
];
const BEST: &str = if cfg!(target_os = "linux") {
    "batch"
} else {
    "portable"
};

fn patience() -> Patience<'static> {
    Patience::new(Some(LONG), &|| false)
}

fn connect(port: u16, engine: EngineChoice) -> Driver {
    let options = SocketOptions {
        recv_buffer_bytes: Some(1 << 20),
        ..SocketOptions::default()
    };
    let driver = Driver::connect("127.0.0.1", port, Family::Any, &options).unwrap();
    driver.with_engine(engine).unwrap()
}

fn server(engine: EngineChoice, protocol: Option<MakeProtocol>) -> Server {
    let mut config = udp::Config::new(Listen::at("127.0.0.1", 0));
    config.engine = engine;
    config.protocol = protocol;
    Server::udp(config, None).unwrap()
}

/// What a server has counted.
#[derive(Default)]
struct Counts {
    trains: AtomicU64,
    datagrams: AtomicU64,
}

/// Counts what comes, and says after each batch how many bytes that was in all.
struct Counting {
    counts: Arc<Counts>,
    received_bytes: u64,
}

impl Protocol for Counting {
    fn on_batch(&mut self, _now_ns: u64, batch: &Batch<'_>, out: &mut Outbox) -> Progress {
        let mut last = None;
        for train in batch.trains() {
            last = Some(train.message.reply());
            self.received_bytes += train.data.len() as u64;
            let trains = u64::from(train.segment_bytes > 0);
            self.counts.trains.fetch_add(trains, Relaxed);
            for datagram in train.each() {
                self.counts.datagrams.fetch_add(1, Relaxed);
                out.consume(&datagram);
            }
        }
        if let Some(to) = last {
            out.send(to, &self.received_bytes.to_be_bytes());
        }
        Progress::Done
    }
}

const SEGMENT_BYTES: usize = 1440;
const TRAIN_BYTES: u64 = 32 * SEGMENT_BYTES as u64;
/// What a receive buffer of the usual size holds, however it comes.
const WINDOW_BYTES: u64 = 2 * TRAIN_BYTES;
const TOTAL_BYTES: u64 = 64 << 20;
const LOST_AFTER_NS: u64 = 100_000_000;

/// Sends so many bytes as trains, no more at once than the window.
#[derive(Default)]
struct Bulk {
    sent_bytes: u64,
    arrived_bytes: u64,
    moved_ns: u64,
}

impl Bulk {
    fn is_done(&self) -> bool {
        self.arrived_bytes >= TOTAL_BYTES
    }
}

impl Protocol for Bulk {
    fn on_batch(&mut self, now_ns: u64, batch: &Batch<'_>, _out: &mut Outbox) -> Progress {
        for datagram in batch.datagrams() {
            let arrived_bytes = u64::from_be_bytes(datagram.data.try_into().unwrap());
            self.arrived_bytes = self.arrived_bytes.max(arrived_bytes);
            self.moved_ns = now_ns;
        }
        Progress::Done
    }

    fn deadline_ns(&self) -> Option<u64> {
        Some(self.moved_ns + LOST_AFTER_NS)
    }

    fn on_time(&mut self, now_ns: u64, out: &mut Outbox) -> Progress {
        if now_ns >= self.moved_ns + LOST_AFTER_NS {
            // It is not to be measured here what a full receive buffer drops.
            self.sent_bytes = self.arrived_bytes;
            self.moved_ns = now_ns;
        }
        while self.sent_bytes < TOTAL_BYTES
            && self.sent_bytes + TRAIN_BYTES <= self.arrived_bytes + WINDOW_BYTES
        {
            let length = TRAIN_BYTES.min(TOTAL_BYTES - self.sent_bytes);
            self.sent_bytes += length;
            out.send_train(Driver::to_peer(), SEGMENT_BYTES, |page| {
                page.resize(page.len() + length as usize, 7);
            });
        }
        Progress::Done
    }
}

#[test]
fn trains_arrive_as_trains_by_one_engine_and_one_by_one_by_the_other() {
    for (engine, name) in EVERY_ENGINE {
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        let make = MakeProtocol::new(move |_| {
            Box::new(Counting {
                counts: Arc::clone(&shared),
                received_bytes: 0,
            })
        });
        let server = server(engine, Some(make));
        server.start().unwrap();
        let driver = connect(server.address().port(), engine);
        assert_eq!((server.engine(), driver.engine()), (name, name));
        let mut bulk = Bulk::default();
        driver.run(&mut bulk, Bulk::is_done, patience()).unwrap();
        server.stop(LONG).unwrap();
        let (trains, datagrams) = (counts.trains.load(Relaxed), counts.datagrams.load(Relaxed));
        assert!(datagrams >= TOTAL_BYTES / SEGMENT_BYTES as u64);
        assert_eq!(server.stats().get("consumed_packets"), datagrams);
        if name == "batch" {
            // What comes before the worker has turned UDP_GRO on comes one by one.
            let first = WINDOW_BYTES / TRAIN_BYTES;
            assert!(trains >= TOTAL_BYTES / TRAIN_BYTES - first, "{trains}");
            let report = driver.report();
            let offload = report.get("receive_offload").unwrap();
            assert_eq!(offload.effective, Some(Value::Flag(true)));
            assert!(report.options.iter().all(|line| line.name != "max_segments"
                || line.effective == line.requested && line.warning.is_none()));
        } else {
            assert_eq!(trains, 0);
        }
    }
}

/// Sends one train, and takes what comes back, as it comes.
#[derive(Default)]
struct OneTrain {
    is_sent: bool,
    came: Vec<(usize, usize)>,
    bytes: usize,
}

impl Protocol for OneTrain {
    fn on_batch(&mut self, _now_ns: u64, batch: &Batch<'_>, _out: &mut Outbox) -> Progress {
        for train in batch.trains() {
            self.came.push((train.data.len(), train.segment_bytes));
            self.bytes += train.data.len();
        }
        Progress::Done
    }

    fn on_time(&mut self, _now_ns: u64, out: &mut Outbox) -> Progress {
        if !std::mem::replace(&mut self.is_sent, true) {
            let write = |page: &mut Vec<u8>| page.resize(page.len() + 3200, 7);
            out.send_train(Driver::to_peer(), 1000, write);
        }
        Progress::Done
    }
}

#[test]
fn what_comes_as_a_train_is_handed_over_as_one() {
    let server = server(EngineChoice::Auto, None);
    server.start().unwrap();
    let port = server.address().port();
    let client = UdpClient::connect("127.0.0.1", port, Family::Any, &SocketOptions::default());
    // Before its first answer it may not have turned UDP_GRO on.
    let asked = client
        .unwrap()
        .request(b"there?", Expectation::Echo, patience());
    asked.unwrap();
    for (engine, name) in EVERY_ENGINE {
        let driver = connect(port, engine);
        let mut train = OneTrain::default();
        let is_done = |train: &OneTrain| train.bytes == 3200;
        driver.run(&mut train, is_done, patience()).unwrap();
        if name == "batch" {
            assert_eq!(train.came, [(3200, 1000)]);
        } else {
            assert_eq!(train.came, [(1000, 0), (1000, 0), (1000, 0), (200, 0)]);
        }
    }
    server.stop(LONG).unwrap();
}

/// An address that no other test has a socket at.
const APART: &str = "127.77.0.1";

/// Sends numbers, three at a time, to a peer that is not there before somebody is told so.
struct Stubborn {
    port: u16,
    peer: Option<UdpSocket>,
    next: u8,
    due_ns: u64,
    errors: usize,
}

impl Protocol for Stubborn {
    fn on_batch(&mut self, _now_ns: u64, _batch: &Batch<'_>, _out: &mut Outbox) -> Progress {
        Progress::Done
    }

    fn deadline_ns(&self) -> Option<u64> {
        Some(self.due_ns)
    }

    fn on_time(&mut self, now_ns: u64, out: &mut Outbox) -> Progress {
        if now_ns >= self.due_ns && self.next < 30 {
            self.due_ns = now_ns + 2_000_000;
            for length in [2, 3, 4] {
                // Of different lengths, so that each is a send.
                out.send(Driver::to_peer(), &vec![self.next; length]);
                self.next += 1;
            }
        }
        Progress::Done
    }

    fn tolerates(&mut self, error: &std::io::Error) -> bool {
        self.errors += 1;
        self.peer = Some(UdpSocket::bind((APART, self.port)).unwrap());
        error.raw_os_error() == Some(libc::ECONNREFUSED)
    }
}

#[test]
fn a_peer_that_was_away_is_sent_all_that_was_not_sent_before() {
    for (engine, name) in EVERY_ENGINE {
        let away = UdpSocket::bind((APART, 0)).unwrap();
        let port = away.local_addr().unwrap().port();
        drop(away);
        let options = SocketOptions::default();
        let driver = Driver::connect(APART, port, Family::Any, &options).unwrap();
        let driver = driver.with_engine(engine).unwrap();
        let mut stubborn = Stubborn {
            port,
            peer: None,
            next: 0,
            due_ns: 0,
            errors: 0,
        };
        let is_done = |it: &Stubborn| it.next == 30;
        driver.run(&mut stubborn, is_done, patience()).unwrap();
        assert_eq!(stubborn.errors, 1);
        let peer = stubborn.peer.unwrap();
        peer.set_nonblocking(true).unwrap();
        let mut room = [0; 10];
        let mut arrived = Vec::new();
        // Loopback delivers within the send: all of it is there.
        while peer.recv(&mut room).is_ok() {
            arrived.push(room[0]);
        }
        // Sends of one call are refused without a word but to the receive that follows.
        let first = if name == "batch" { 3 } else { 1 };
        assert_eq!(arrived, (first..30).collect::<Vec<_>>(), "{name}");
    }
}

/// Sends a datagram that is too long between two that are not.
#[derive(Default)]
struct TooLong {
    is_sent: bool,
    errors: Vec<Option<i32>>,
}

impl Protocol for TooLong {
    fn on_batch(&mut self, _now_ns: u64, _batch: &Batch<'_>, _out: &mut Outbox) -> Progress {
        Progress::Done
    }

    fn on_time(&mut self, _now_ns: u64, out: &mut Outbox) -> Progress {
        if !std::mem::replace(&mut self.is_sent, true) {
            for length in [1, 65_508, 2] {
                out.send(Driver::to_peer(), &vec![7; length]);
            }
        }
        Progress::Done
    }

    fn tolerates(&mut self, error: &std::io::Error) -> bool {
        self.errors.push(error.raw_os_error());
        true
    }
}

#[test]
fn a_datagram_that_is_too_long_is_told_once_and_keeps_no_other_back() {
    for (engine, _) in EVERY_ENGINE {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let driver = connect(peer.local_addr().unwrap().port(), engine);
        let mut too_long = TooLong::default();
        driver.run(&mut too_long, |_| true, patience()).unwrap();
        assert_eq!(too_long.errors, [Some(libc::EMSGSIZE)]);
        let mut room = [0; 10];
        assert_eq!([1, 2].map(|_| peer.recv(&mut room).unwrap()), [1, 2]);
    }
}

/// Always has more to do, in one of two ways, until something comes.
struct Restless {
    by_deadline: bool,
    came: usize,
}

impl Protocol for Restless {
    fn on_batch(&mut self, _now_ns: u64, batch: &Batch<'_>, _out: &mut Outbox) -> Progress {
        self.came += batch.datagrams().count();
        Progress::Done
    }

    fn deadline_ns(&self) -> Option<u64> {
        Some(0)
    }

    fn on_time(&mut self, _now_ns: u64, _out: &mut Outbox) -> Progress {
        if self.by_deadline || self.came > 0 {
            Progress::Done
        } else {
            Progress::More(0)
        }
    }
}

#[test]
fn the_socket_is_looked_at_between_two_slices() {
    for ((engine, _), by_deadline) in EVERY_ENGINE.into_iter().zip([true, false]) {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let driver = connect(peer.local_addr().unwrap().port(), engine);
        peer.send_to(b"here", driver.ends().address).unwrap();
        let mut restless = Restless {
            by_deadline,
            came: 0,
        };
        let is_done = |it: &Restless| it.came == 1;
        driver.run(&mut restless, is_done, patience()).unwrap();
    }
}

/// Has what came go round for ever.
struct Juggling;

impl Protocol for Juggling {
    fn on_batch(&mut self, _now_ns: u64, batch: &Batch<'_>, out: &mut Outbox) -> Progress {
        batch.trains().for_each(|train| out.echo(&train));
        Progress::Done
    }
}

#[test]
fn another_thread_ends_what_never_pauses_and_is_asked_no_more_often_than_needed() {
    let options = SocketOptions::default();
    for (engine, _) in EVERY_ENGINE {
        let driver = Driver::bind("127.0.0.1:0".parse().unwrap(), &options).unwrap();
        let driver = driver.with_engine(engine).unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        // Some are on the way at any time.
        for _ in 0..10 {
            peer.send_to(b"ball", driver.ends().address).unwrap();
        }
        let asked = AtomicU64::new(0);
        let is_cancelled = || asked.fetch_add(1, Relaxed) == 4;
        let start = Instant::now();
        let ended = std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let mut room = [0; 10];
                while asked.load(Relaxed) < 5 {
                    let (length, from) = peer.recv_from(&mut room).unwrap();
                    peer.send_to(&room[..length], from).unwrap();
                }
            });
            let patience = Patience::new(None, &is_cancelled);
            let ended = driver.run(&mut Juggling, |_| false, patience);
            // So that the other end has something to wake up for.
            peer.send_to(b"last", peer.local_addr().unwrap()).unwrap();
            other.join().unwrap();
            ended
        });
        assert!(ended.unwrap_err().is_state());
        assert!(start.elapsed() >= Duration::from_millis(500));
    }
}
