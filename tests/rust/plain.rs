//! The tutorial's format over real sockets: against a sender and a receiver that do what the
//! tutorial's do.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use rsecho::client::{Driver, Patience};
use rsecho::proto::MakeProtocol;
use rsecho::server::{EngineChoice::Auto, EngineChoice::Portable, Listen, Server, udp};
use rsecho::transfer::budget::Budget;
use rsecho::transfer::plain::{PlainReceiving, PlainSending, ReceiveSettings, SendSettings};
use rsecho::transfer::store::inbox::Inbox;
use rsecho::transfer::store::memory::{BytesSource, MemoryStorage};

const PATIENCE: Duration = Duration::from_secs(20);
const CHUNK_BYTES: usize = 1024;

fn message(length: usize) -> Vec<u8> {
    (0..length)
        .map(|place| (place * place % 251) as u8)
        .collect()
}

/// Sends the count, then each chunk behind its index.
fn send(socket: &UdpSocket, message: &[u8]) {
    let count = message.len().div_ceil(CHUNK_BYTES) as u32;
    socket.send(&count.to_be_bytes()).unwrap();
    for (index, chunk) in (0_u32..).zip(message.chunks(CHUNK_BYTES)) {
        socket
            .send(&[&index.to_be_bytes()[..], chunk].concat())
            .unwrap();
    }
}

/// Has room for a count of four bytes, then for chunks of 1,024 and their indices.
fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut count = [0; 4];
    assert_eq!(socket.recv(&mut count).unwrap(), 4);
    let count = u32::from_be_bytes(count) as usize;
    let mut chunks = vec![None; count];
    let mut datagram = [0; 4 + CHUNK_BYTES];
    while chunks.contains(&None) {
        let length = socket.recv(&mut datagram).unwrap();
        let (index, chunk) = datagram[..length].split_first_chunk().unwrap();
        chunks[u32::from_be_bytes(*index) as usize] = Some(chunk.to_vec());
    }
    chunks.into_iter().flatten().flatten().collect()
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn a_receiver_takes_what_the_tutorial_sends_and_sends_it_back() {
    for (engine, name) in [(Portable, "portable"), (Auto, "batch")] {
        let inbox = Inbox::new(Budget::new(64 << 20));
        let storage = Arc::new(MemoryStorage::new(Arc::clone(&inbox), 16 << 20));
        let mut config = udp::Config::new(Listen::at("127.0.0.1", 0));
        config.engine = engine;
        config.protocol = Some(MakeProtocol::new(move |_| {
            let settings = ReceiveSettings {
                echo_bytes_per_second: Some(SendSettings::default().bytes_per_second),
                ..ReceiveSettings::default()
            };
            Box::new(PlainReceiving::new(settings, Arc::clone(&storage) as _).unwrap())
        }));
        let server = Server::udp(config, None).unwrap();
        assert_eq!(server.engine(), name);
        server.start().unwrap();
        let socket = socket();
        socket.connect(server.address()).unwrap();
        // Nobody paces the tutorial's sender: the last is no more than a receive buffer holds.
        for length in [1, 1024, 1025, 50_000] {
            let wanted = message(length);
            send(&socket, &wanted);
            assert!(receive(&socket) == wanted, "{length}");
            let came = inbox.take(Some(PATIENCE)).unwrap();
            assert!(came.data.as_deref() == Some(&wanted[..]));
        }
        server.stop(PATIENCE).unwrap();
        let stats = server.stats();
        let datagrams = 4 + 1 + 1 + 2 + 49;
        assert_eq!(stats.get("consumed_packets"), datagrams);
        assert_eq!(stats.get("produced_packets"), datagrams);
        assert_eq!(stats.get("pending_packets"), 0);
    }
}

#[test]
fn the_tutorials_receiver_takes_what_a_sender_sends() {
    let socket = socket();
    let to = socket.local_addr().unwrap();
    let wanted = message(2_000_000);
    let (family, options) = Default::default();
    let driver = Driver::connect("127.0.0.1", to.port(), family, &options).unwrap();
    let source = Box::new(BytesSource::new(wanted.clone()));
    let mut sending =
        PlainSending::new(&SendSettings::default(), Driver::to_peer(), source).unwrap();
    std::thread::scope(|scope| {
        let received = scope.spawn(|| receive(&socket));
        let patience = Patience::new(Some(PATIENCE), &|| false);
        let is_done = |sending: &PlainSending| sending.outcome().is_some();
        driver.run(&mut sending, is_done, patience).unwrap();
        assert!(received.join().unwrap() == wanted);
    });
    let sent = sending.outcome().unwrap().as_ref().unwrap();
    assert_eq!((sent.length, sent.chunks), (2_000_000, 1954));
}
