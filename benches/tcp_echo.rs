//! What one TCP echo costs, by engine: a single short message, fifty connections with one
//! each, and a mebibyte in one piece. Client and server share the machine, so read the
//! difference between two builds, not the figure.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rsecho::server::{EngineChoice, Listen, Server, tcp};

const ENGINES: [(&str, EngineChoice); 2] = [
    ("epoll", EngineChoice::Batch),
    ("portable", EngineChoice::Portable),
];

fn serve(name: &str, engine: EngineChoice) -> Server {
    let config = tcp::Config {
        engine,
        ..tcp::Config::new(Listen::at("127.0.0.1", 0))
    };
    let server = Server::tcp(config, None).unwrap();
    assert_eq!(server.engine(), name);
    server.start().unwrap();
    server
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn ping_pong(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tcp_echo/ping_pong_64");
    group.throughput(Throughput::Elements(1));
    for (name, engine) in ENGINES {
        let server = serve(name, engine);
        let mut client = connect(&server);
        let mut message = [7; 64];
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                client.write_all(&message).unwrap();
                client.read_exact(&mut message).unwrap();
            });
        });
    }
    group.finish();
}

fn connections(criterion: &mut Criterion) {
    const CONNECTIONS: usize = 50;
    let mut group = criterion.benchmark_group("tcp_echo/50_connections_64");
    group.throughput(Throughput::Elements(CONNECTIONS as u64));
    for (name, engine) in ENGINES {
        let server = serve(name, engine);
        let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| connect(&server)).collect();
        let mut message = [7; 64];
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for client in &mut clients {
                    client.write_all(&message).unwrap();
                }
                for client in &mut clients {
                    client.read_exact(&mut message).unwrap();
                }
            });
        });
    }
    group.finish();
}

fn bulk(criterion: &mut Criterion) {
    const BYTES: usize = 1 << 20;
    let mut group = criterion.benchmark_group("tcp_echo/bulk_1_mib");
    group.throughput(Throughput::Bytes(BYTES as u64));
    for (name, engine) in ENGINES {
        let server = serve(name, engine);
        let client = connect(&server);
        let data = vec![7; BYTES];
        let mut back = vec![0; BYTES];
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                thread::scope(|scope| {
                    scope.spawn(|| (&client).write_all(&data).unwrap());
                    (&client).read_exact(&mut back).unwrap();
                });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, ping_pong, connections, bulk);
criterion_main!(benches);
