//! What an echo server is (RFC 862), and where it listens.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;

use rsecho::address::Family;
use rsecho::server::tcp::Config;
use rsecho::server::{EngineChoice, Listen, Server};
use rsecho::socket::adopt;

use crate::helper::*;

fn echoes_what_comes_in_order(engine: Engine) {
    let server = serve(engine, |_| {});
    let clients: Vec<TcpStream> = (0..5).map(|_| connect(server.address())).collect();
    for (round, length) in [1, 2, 64, 1_000, 65_535, 65_536, 65_537, 100_000]
        .into_iter()
        .enumerate()
    {
        for (client, seed) in clients.iter().zip(1..) {
            exchange(client, &pattern(length, seed + round as u64 * 8));
        }
    }
    eventually("five connections", || {
        server.stats().get("active_connections") == 5
    });
    drop(clients);
    eventually("they ended", || server.stats().reason("peer") == 5);
    assert_balance(&server);
    assert_eq!(server.stats().get("discarded_bytes"), 0);
}

fn f24_every_byte_comes_back_after_shut_wr_and_then_the_end(engine: Engine) {
    let server = serve(engine, |_| {});
    let client = connect(server.address());
    let data = pattern(10 << 20, 24);
    let back = thread::scope(|scope| {
        scope.spawn(|| {
            (&client).write_all(&data).unwrap();
            end_output(&client);
        });
        read_to_end(&client)
    });
    assert!(back == data, "{} of {} bytes", back.len(), data.len());
    eventually("it ended", || server.stats().reason("peer") == 1);
    assert_eq!(server.stats().get("sent_bytes"), 10 << 20);
    assert_balance(&server);
}

/// A stream that stops and goes, so that it stalls in both modes.
fn a_slow_reader_gets_every_byte(engine: Engine) {
    for buffer in [4 << 10, 64 << 10, 512 << 10] {
        let server = serve(engine, |config| {
            config.socket.send_buffer_bytes = Some(buffer);
            config.socket.recv_buffer_bytes = Some(256 << 10);
        });
        let client = connect_small(server.address(), 128 << 10);
        let data = pattern(4 << 20, buffer as u64);
        thread::scope(|scope| {
            scope.spawn(|| {
                (&client).write_all(&data).unwrap();
                end_output(&client);
            });
            // Not one byte is read before the server has stalled.
            let mut before = u64::MAX;
            eventually("it stalled", || {
                thread::sleep(std::time::Duration::from_millis(50));
                assert_balance(&server);
                let now = server.stats().get("sent_bytes");
                now > 0 && std::mem::replace(&mut before, now) == now
            });
            assert!(before < data.len() as u64, "it took all of it");
            assert!(read_to_end(&client) == data);
        });
        eventually("it ended", || server.stats().reason("peer") == 1);
        assert_eq!(server.stats().get("pending_bytes"), 0);
        assert_balance(&server);
    }
}

fn several_workers_share_a_port(engine: Engine) {
    let server = serve(engine, |config| config.workers = 3);
    assert_ne!(server.address().port(), 0);
    let clients: Vec<TcpStream> = (0..60).map(|_| connect(server.address())).collect();
    for (client, seed) in clients.iter().zip(1..) {
        exchange(client, &pattern(200, seed));
    }
    assert_eq!(server.stats().get("accepted_connections"), 60);
    assert_balance(&server);
}

fn serves_on_a_socket_that_was_passed_in_and_leaves_it_alone(engine: Engine) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = serve(engine, |config| {
        config.listen = Listen::On(adopt(listener.as_raw_fd()).unwrap());
        config.workers = 2;
    });
    let address = listener.local_addr().unwrap();
    assert_eq!(server.address(), address);
    let clients: Vec<TcpStream> = (0..20).map(|_| connect(address)).collect();
    for client in &clients {
        exchange(client, b"through the socket of another");
    }
    assert_eq!(server.stats().kernel_drops, Some(0));
    drop(clients);
    server.stop(LONG).unwrap();
    // Its owner goes on with it.
    let client = connect(address);
    eventually("the owner accepts", || match listener.accept() {
        Ok((_, peer)) => peer == client.local_addr().unwrap(),
        Err(_) => false,
    });
}

fn a_dual_stack_server_serves_both_families(engine: Engine) {
    let server = serve(engine, |config| {
        config.listen = Listen::At {
            host: "::".into(),
            port: 0,
            family: Family::V6,
        };
        config.socket.ipv6_only = Some(false);
    });
    let port = server.address().port();
    for host in ["127.0.0.1", "::1"] {
        exchange(&TcpStream::connect((host, port)).unwrap(), b"either");
    }
}

on_both_engines!(
    echoes_what_comes_in_order,
    f24_every_byte_comes_back_after_shut_wr_and_then_the_end,
    a_slow_reader_gets_every_byte,
    several_workers_share_a_port,
    serves_on_a_socket_that_was_passed_in_and_leaves_it_alone,
    a_dual_stack_server_serves_both_families,
);

#[test]
fn the_engine_that_runs_is_told() {
    for (choice, name) in [
        (EngineChoice::Auto, "epoll"),
        (EngineChoice::Batch, "epoll"),
        (EngineChoice::Portable, "portable"),
    ] {
        let mut config = Config::new(loopback());
        config.engine = choice;
        assert_eq!(Server::tcp(config, None).unwrap().engine(), name);
    }
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    type Change = fn(&mut Config);
    let cases: [(&str, Change); 6] = [
        ("workers", |config| config.workers = 0),
        ("record_bytes", |config| config.record_bytes = Some(0)),
        ("record_bytes", |config| {
            config.record_bytes = Some((1 << 20) + 1);
        }),
        ("max_connections", |config| config.max_connections = Some(0)),
        ("max_amplification", |config| {
            config.guard.max_amplification = Some(0.9);
        }),
        ("reuse_port", |config| {
            config.workers = 2;
            config.socket.reuse_port = Some(false);
        }),
    ];
    for (name, change) in cases {
        let mut config = Config::new(loopback());
        change(&mut config);
        let error = Server::tcp(config, None).unwrap_err();
        assert!(
            error.is_argument() && error.to_string().contains(name),
            "{name}: {error}"
        );
    }
}

#[test]
fn a_taken_port_is_a_typed_error() {
    let server = bind(Engine::Epoll, |_| {});
    let mut config = Config::new(Listen::At {
        host: "127.0.0.1".into(),
        port: server.address().port(),
        family: Family::Any,
    });
    config.socket.reuse_address = Some(true);
    assert!(Server::tcp(config, None).unwrap_err().is_address_in_use());
}
