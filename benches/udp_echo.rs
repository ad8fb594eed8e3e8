//! UDP echo on loopback: a request and its reply, and a window of 64 on the way, for each
//! engine. Throughput is counted in datagrams that came back.

use std::net::UdpSocket;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rsecho::server::{EngineChoice, Listen, Server, udp};
use rsecho::socket::SocketOptions;

const WINDOW: u64 = 64;

/// Room for a whole window on either side, however late its reader is; what the system
/// allows of it (net.core.rmem_max) is enough.
const BUFFER_BYTES: usize = 4 << 20;

fn serve(engine: EngineChoice) -> Server {
    let config = udp::Config {
        socket: SocketOptions {
            recv_buffer_bytes: Some(BUFFER_BYTES),
            ..SocketOptions::default()
        },
        engine,
        ..udp::Config::new(Listen::at("127.0.0.1", 0))
    };
    let server = Server::udp(config, None).expect("loopback can be bound");
    server.start().expect("a thread can be started");
    server
}

fn client(server: &Server) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").expect("loopback can be bound");
    client
        .connect(server.address())
        .expect("a UDP socket can always be connected");
    socket2::SockRef::from(&client)
        .set_recv_buffer_size(BUFFER_BYTES)
        .expect("a size is cut, not refused");
    client
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("it is not zero");
    client
}

fn udp_echo(c: &mut Criterion) {
    let mut group = c.benchmark_group("udp_echo");
    group
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    for (name, engine) in [
        ("batch", EngineChoice::Auto),
        ("portable", EngineChoice::Portable),
    ] {
        let server = serve(engine);
        assert_eq!(
            server.engine() == "portable",
            engine == EngineChoice::Portable
        );
        let client = client(&server);
        let mut buffer = [0; 65_536];
        for size in [64, 512, 1472, 8192] {
            let payload = vec![1; size];
            group.throughput(Throughput::Elements(1));
            group.bench_function(format!("{name}/ping_pong/{size}"), |b| {
                b.iter(|| {
                    client.send(&payload).expect("the server is up");
                    client.recv(&mut buffer).expect("it echoes")
                });
            });
            // The kernel charges 16 KiB for one of 8192 bytes.
            let window = if size > 1472 { 16 } else { WINDOW };
            group.throughput(Throughput::Elements(window));
            group.bench_function(format!("{name}/window_{window}/{size}"), |b| {
                b.iter(|| {
                    for _ in 0..window {
                        client.send(&payload).expect("the server is up");
                    }
                    for _ in 0..window {
                        client.recv(&mut buffer).expect("it echoes");
                    }
                });
            });
        }
        drop(client);
        server.stop(Duration::ZERO).expect("it is ours");
    }
    group.finish();
}

criterion_group!(benches, udp_echo);
criterion_main!(benches);
