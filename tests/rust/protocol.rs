//! A protocol that sends by itself and keeps state by peer: over both engines, over the server's
//! driver and the client's, and in simulated time.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use rsecho::client::{Driver, Patience};
use rsecho::datagram::Transmit;
use rsecho::proto::simulated::Network;
use rsecho::proto::{Batch, MakeProtocol, Outbox, Progress, Protocol};
use rsecho::server::{EngineChoice::Auto, EngineChoice::Portable, Listen, Server, udp};

/// Tells each who has sent something how often, every 20 ms.
#[derive(Default)]
struct Beats {
    peers: BTreeMap<SocketAddr, (Transmit, u64)>,
    next_ns: Option<u64>,
    rounds: u64,
}

const INTERVAL_NS: u64 = 20_000_000;
const PATIENCE: Duration = Duration::from_secs(20);

impl Protocol for Beats {
    fn on_batch(&mut self, now_ns: u64, batch: &Batch<'_>, out: &mut Outbox) -> Progress {
        for datagram in batch.datagrams() {
            let state = self.peers.entry(datagram.peer().unwrap());
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
            self.rounds += 1;
        }
        Progress::Done
    }
}

/// Sends once, and is told so five times.
fn listen(address: SocketAddr) {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(b"here", address).unwrap();
    for _ in 0..5 {
        let mut beat = [0; 2];
        assert_eq!((client.recv(&mut beat).unwrap(), beat), (1, *b"1\0"));
    }
}

#[test]
fn over_the_servers_driver_and_both_engines() {
    for (engine, name) in [(Portable, "portable"), (Auto, "batch")] {
        let mut config = udp::Config::new(Listen::at("127.0.0.1", 0));
        config.engine = engine;
        config.protocol = Some(MakeProtocol::new(|_| Box::<Beats>::default()));
        let server = Server::udp(config, None).unwrap();
        assert_eq!(server.engine(), name);
        server.start().unwrap();
        listen(server.address());
        server.stop(PATIENCE).unwrap();
        assert_eq!(server.stats().get("consumed_packets"), 1);
    }
}

#[test]
fn over_the_clients_driver() {
    let driver = Driver::bind("127.0.0.1:0".parse().unwrap(), &Default::default()).unwrap();
    let (mut beats, patience) = (Beats::default(), Patience::new(Some(PATIENCE), &|| false));
    std::thread::scope(|scope| {
        scope.spawn(|| listen(driver.ends().address));
        let ran = driver.run(&mut beats, |it| it.rounds == 5, patience);
        ran.unwrap();
    });
}

#[test]
fn in_simulated_time() {
    let at = |port| SocketAddr::from(([192, 0, 2, 1], port));
    let mut network = Network::new(1_000);
    network.add(at(7), Box::<Beats>::default());
    let _ = [1, 2, 1].map(|port| network.send(at(port), at(7), b"here"));
    let told = network.run_until(2_000 + INTERVAL_NS);
    let told = told.into_iter().map(|one| (one.time_ns, one.to, one.data));
    let wanted = [(1, b"2"), (2, b"1")];
    assert!(told.eq(wanted.map(|(port, data)| (2_000 + INTERVAL_NS, at(port), data.to_vec()))));
}
