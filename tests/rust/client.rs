//! A protocol of one's own, on the client's driver.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rsecho::address::Family;
use rsecho::client::{Driver, Patience};
use rsecho::datagram::{RawAddress, Sent, Transmit};
use rsecho::proto::{Batch, Outbox, Progress, Protocol};
use rsecho::socket::SocketOptions;

/// Asks each of its peers again and again, unasked, and counts by peer what comes back.
struct Beat {
    peers: Vec<Transmit>,
    every_ns: u64,
    due_ns: Option<u64>,
    heard: HashMap<SocketAddr, usize>,
}

impl Beat {
    fn new(peers: Vec<Transmit>, every: Duration) -> Self {
        Self {
            peers,
            every_ns: every.as_nanos() as u64,
            due_ns: Some(0),
            heard: HashMap::new(),
        }
    }

    fn has_heard(&self, peers: usize, times: usize) -> bool {
        self.heard.len() == peers && self.heard.values().all(|count| *count >= times)
    }
}

impl Protocol for Beat {
    fn on_batch(&mut self, _now_ns: u64, batch: &Batch<'_>, _out: &mut Outbox) -> Progress {
        for datagram in batch.datagrams() {
            *self.heard.entry(datagram.peer().unwrap()).or_default() += 1;
        }
        Progress::Done
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.due_ns
    }

    fn on_time(&mut self, now_ns: u64, out: &mut Outbox) -> Progress {
        if self.due_ns.is_some_and(|due_ns| due_ns <= now_ns) {
            self.due_ns = Some(now_ns + self.every_ns);
            for peer in &self.peers {
                out.send(*peer, b"beat");
            }
        }
        Progress::Done
    }
}

fn patience(limit: Duration) -> Patience<'static> {
    Patience::new(Some(limit), &|| false)
}

const LONG: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_millis(5);

/// Echoes until it is sent nothing.
fn echo(socket: &UdpSocket) {
    let mut room = [0; 100];
    loop {
        let (length, peer) = socket.recv_from(&mut room).unwrap();
        if length == 0 {
            return;
        }
        socket.send_to(&room[..length], peer).unwrap();
    }
}

#[test]
fn one_that_sends_by_itself_and_keeps_state_by_peer_runs_bound_and_connected() {
    let servers = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
    let addresses = servers
        .each_ref()
        .map(|server| server.local_addr().unwrap());
    let options = SocketOptions::default();
    std::thread::scope(|scope| {
        for server in &servers {
            scope.spawn(|| echo(server));
        }
        let bound = Driver::bind("127.0.0.1:0".parse().unwrap(), &options).unwrap();
        let peers = addresses.map(|address| Transmit::to(RawAddress::from(address)));
        let mut beat = Beat::new(peers.to_vec(), SOON);
        let done = |beat: &Beat| beat.has_heard(2, 3);
        bound.run(&mut beat, done, patience(LONG)).unwrap();
        assert!(addresses.iter().all(|peer| beat.heard[peer] >= 3));

        let port = addresses[0].port();
        let connected = Driver::connect("127.0.0.1", port, Family::Any, &options).unwrap();
        assert_eq!(connected.ends().peer, addresses[0]);
        let mut beat = Beat::new(vec![Driver::to_peer()], SOON);
        let done = |beat: &Beat| beat.has_heard(1, 3);
        connected.run(&mut beat, done, patience(LONG)).unwrap();

        let last = UdpSocket::bind("127.0.0.1:0").unwrap();
        for address in addresses {
            last.send_to(b"", address).unwrap();
        }
    });
}

#[test]
fn a_refusal_is_told_and_a_time_limit_ends_what_never_ends_by_itself() {
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    let options = SocketOptions::default();
    let driver = Driver::connect("127.0.0.1", port, Family::Any, &options).unwrap();

    let (start, limit) = (Instant::now(), 4 * SOON);
    let mut beat = Beat::new(vec![Driver::to_peer()], Duration::from_micros(10));
    let error = driver.run(&mut beat, |_| false, patience(limit));
    assert!(error.unwrap_err().is_timeout() && start.elapsed() >= limit);

    drop(closed);
    let mut beat = Beat::new(vec![Driver::to_peer()], SOON);
    let error = driver.run(&mut beat, |_| false, patience(LONG));
    assert_eq!(error.unwrap_err().errno(), Some(libc::ECONNREFUSED));
}

/// Sends three times, and takes the times of both ends.
#[derive(Default)]
struct Timed {
    is_sent: bool,
    sent: Vec<Sent>,
    received_ns: Vec<u64>,
}

impl Protocol for Timed {
    fn on_batch(&mut self, _now_ns: u64, batch: &Batch<'_>, _out: &mut Outbox) -> Progress {
        let came = batch.datagrams().map(|one| one.message.came.kernel_ns);
        self.received_ns.extend(came);
        Progress::Done
    }

    fn on_time(&mut self, _now_ns: u64, out: &mut Outbox) -> Progress {
        if !std::mem::replace(&mut self.is_sent, true) {
            (0..3).for_each(|_| out.send(Driver::to_peer(), b"timed"));
        }
        Progress::Done
    }

    fn on_sent(&mut self, sent: Sent) {
        self.sent.push(sent);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_kernel_says_when_it_sent_and_received() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let options = SocketOptions::default();
    let driver = Driver::connect("127.0.0.1", port, Family::Any, &options).unwrap();
    driver.report_times().unwrap();
    let mut timed = Timed::default();
    std::thread::scope(|scope| {
        scope.spawn(|| echo(&server));
        let is_done = |timed: &Timed| timed.received_ns.len() == 3 && timed.sent.len() == 3;
        driver.run(&mut timed, is_done, patience(LONG)).unwrap();
        let last = UdpSocket::bind("127.0.0.1:0").unwrap();
        last.send_to(b"", ("127.0.0.1", port)).unwrap();
    });
    for (number, (sent, received_ns)) in timed.sent.iter().zip(&timed.received_ns).enumerate() {
        assert_eq!(sent.number as usize, number);
        assert!((sent.kernel_ns..sent.kernel_ns + 20_000_000_000).contains(received_ns));
    }
}
