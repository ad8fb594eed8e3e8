//! A protocol that sends by itself and keeps state by peer: over both engines, over the server's
//! driver, and in simulated time.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rsecho::datagram::Transmit;
use rsecho::proto::simulated::Network;
use rsecho::proto::{Batch, MakeProtocol, Outbox, Progress, Protocol};
use rsecho::server::{EngineChoice, Listen, Server, udp};

/// Tells each who has sent something how often, every 20 ms.
#[derive(Default)]
struct Beats {
    peers: BTreeMap<SocketAddr, (Transmit, u64)>,
    next_ns: Option<u64>,
}

const INTERVAL_NS: u64 = 20_000_000;

impl Protocol for Beats {
    fn on_batch(&mut self, now_ns: u64, batch: &Batch<'_>, out: &mut Outbox) -> Progress {
        for datagram in batch.datagrams() {
            let peer = datagram.peer().expect("it was judged");
            let state = self.peers.entry(peer);
            state.or_insert((datagram.message.reply(), 0)).1 += 1;
            out.consume(&datagram);
            self.next_ns.get_or_insert(now_ns + INTERVAL_NS);
        }
        Progress::Done
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.next_ns
    }

    fn on_time(&mut self, now_ns: u64, out: &mut Outbox) -> Progress {
        if let Some(next_ns) = self.next_ns.filter(|next_ns| *next_ns <= now_ns) {
            for (transmit, count) in self.peers.values() {
                out.send(*transmit, count.to_string().as_bytes());
            }
            self.next_ns = Some(next_ns + INTERVAL_NS);
        }
        Progress::Done
    }
}

fn serve(engine: EngineChoice, name: &str) {
    let mut config = udp::Config::new(Listen::at("127.0.0.1", 0));
    config.engine = engine;
    config.protocol = Some(MakeProtocol::new(|_| Box::<Beats>::default()));
    let server = Server::udp(config, None).unwrap();
    assert_eq!(server.engine(), name);
    server.start().unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut buffer = [0; 10];
    for _ in 0..2 {
        client.send_to(b"here", server.address()).unwrap();
    }
    let start = Instant::now();
    let mut beats = (0..5).map(|_| {
        let length = client.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    });
    assert!(beats.all(|beat| beat == b"2"));
    let slowest = Duration::from_nanos(4 * INTERVAL_NS);
    assert!(start.elapsed() >= slowest, "it keeps its pace");
    server.stop(Duration::from_secs(1)).unwrap();
    let stats = server.stats();
    assert_eq!(stats.get("consumed_packets"), 2);
    assert!(stats.get("produced_packets") >= 5);
    assert_eq!(stats.get("produced_packets"), stats.get("sent_packets"));
    assert_eq!(stats.get("pending_packets"), 0);
}

#[test]
fn over_the_portable_engine() {
    serve(EngineChoice::Portable, "portable");
}

#[cfg(target_os = "linux")]
#[test]
fn over_the_batch_engine() {
    serve(EngineChoice::Batch, "batch");
}

#[test]
fn in_simulated_time() {
    let at = |port| SocketAddr::from(([192, 0, 2, 1], port));
    let mut network = Network::new(1_000);
    network.add(at(7), Box::<Beats>::default());
    network.send(at(1), at(7), b"here");
    network.send(at(2), at(7), b"here");
    network.send(at(1), at(7), b"here");
    let told = network.run_until(2_000 + 3 * INTERVAL_NS);
    let told: Vec<_> = told
        .iter()
        .map(|one| (one.time_ns, one.to, &*one.data))
        .collect();
    let round = |number: u64| {
        let time_ns = 2_000 + number * INTERVAL_NS;
        [(time_ns, at(1), &b"2"[..]), (time_ns, at(2), &b"1"[..])]
    };
    assert_eq!(told, [round(1), round(2), round(3)].concat());
}
