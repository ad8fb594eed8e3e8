//! Large messages over real sockets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rsecho::client::{EngineChoice, Terms, TransferClient};
use rsecho::server::{Listen, Server, udp};
use rsecho::transfer::budget::Budget;
use rsecho::transfer::serving::Limits;
use rsecho::transfer::store::inbox::Inbox;
use rsecho::transfer::store::memory::{BytesSource, MemoryStorage};

const PATIENCE: Duration = Duration::from_secs(20);

fn limits() -> Limits {
    Limits {
        open_per_source: 8,
        open: 256,
        progress_timeout_ns: 10_000_000_000,
        bytes_per_second: None,
    }
}

/// A server that keeps messages of up to so many bytes in memory.
fn serve(bytes: u64, engine: EngineChoice) -> (Server, Arc<Inbox>) {
    let inbox = Inbox::new(Budget::new(4 * bytes));
    let mut config = udp::Config::new(Listen::at("127.0.0.1", 0));
    config.engine = engine;
    config.transfers = Some(udp::Transfers::Native(udp::Native {
        storage: Arc::new(MemoryStorage::new(Arc::clone(&inbox), bytes)),
        kept: None,
        budget: Budget::new(64 << 20),
        limits: limits(),
    }));
    let server = Server::udp(config, None).unwrap();
    server.start().unwrap();
    (server, inbox)
}

fn client(server: &Server, engine: EngineChoice) -> TransferClient {
    let (address, options) = (server.address(), Default::default());
    let host = address.ip().to_string();
    TransferClient::connect(&host, address.port(), Default::default(), &options, engine).unwrap()
}

fn bytes(length: usize) -> Vec<u8> {
    let mut state = length as u64;
    let step = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..length).map(step).collect()
}

#[test]
fn messages_of_any_length_arrive_whole_and_once_by_each_engine() {
    for engine in [EngineChoice::Auto, EngineChoice::Portable] {
        let (server, inbox) = serve(16 << 20, engine);
        let client = client(&server, engine);
        assert_eq!(client.engine(), server.engine());
        for length in [0, 1, 1_168, 1_169, 65_507, 1 << 20, 16 << 20] {
            let data = bytes(length);
            let source = Box::new(BytesSource::new(data.clone()));
            let start = Instant::now();
            let sent = client
                .send(source, &Terms::default(), &|_, _| false)
                .unwrap();
            println!("{length}: {:?} {:?}", start.elapsed(), sent.figures);
            let came = inbox.take(Some(PATIENCE)).unwrap();
            assert!(came.data.as_deref() == Some(&data[..]), "{length}");
            assert_eq!(came.digest, sent.figures.digest);
            assert!(inbox.is_empty());
        }
        server.stop(PATIENCE).unwrap();
        let stats = server.stats();
        assert_eq!(stats.get("received_transfers"), 7);
        assert_eq!(stats.get("pending_packets"), 0);
    }
}
