//! The UDP server on real sockets: one suite, run against every engine.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rsecho::address::Family;
use rsecho::server::{EngineChoice, Listen, Server, udp};
use rsecho::socket::SocketOptions;
use rsecho::worker::Finish;

/// Far more than any of this takes.
const PATIENCE: Duration = Duration::from_secs(10);

fn config(host: &str, engine: EngineChoice) -> udp::Config {
    udp::Config {
        listen: Listen::At {
            host: host.into(),
            port: 0,
            family: Family::Any,
        },
        socket: SocketOptions::default(),
        idle_timeout: None,
        max_datagram_bytes: None,
        stop_on_empty: false,
        workers: 1,
        engine,
        record_bytes: None,
    }
}

fn start(config: udp::Config) -> Server {
    let server = Server::udp(config, None).unwrap();
    server.start().unwrap();
    server
}

fn client(server: SocketAddr) -> UdpSocket {
    let local = if server.is_ipv4() {
        "127.0.0.1:0"
    } else {
        "[::1]:0"
    };
    let client = UdpSocket::bind(local).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.connect(server).unwrap();
    client
}

fn at(host: &str, server: &Server) -> SocketAddr {
    SocketAddr::new(host.parse().unwrap(), server.address().port())
}

#[track_caller]
fn assert_echo(client: &UdpSocket, payload: &[u8]) {
    client.send(payload).unwrap();
    let mut buffer = vec![0; 65_536];
    let length = client.recv(&mut buffer).unwrap();
    assert!(
        buffer[..length] == *payload,
        "{} bytes came back of {}",
        length,
        payload.len()
    );
}

/// received = answered + Σ dropped, exactly.
#[track_caller]
fn assert_conserved(server: &Server) {
    let stats = server.stats();
    let answered = stats.get("sent_packets");
    assert_eq!(
        stats.get("received_packets"),
        answered + stats.reasons_total(),
        "{stats:?}"
    );
}

macro_rules! suite {
    ($engine:ident, $choice:expr, $name:literal) => {
        mod $engine {
            use super::*;

            fn config(host: &str) -> udp::Config {
                super::config(host, $choice)
            }

            fn start(config: udp::Config) -> Server {
                let server = super::start(config);
                assert_eq!(server.engine(), $name);
                server
            }

            #[test]
            fn f01_the_reply_comes_from_the_address_that_was_asked() {
                let server = start(config("0.0.0.0"));
                for host in ["127.0.0.5", "127.0.0.1"] {
                    assert_echo(&client(at(host, &server)), b"who are you");
                }
            }

            #[test]
            fn f02_dual_stack_answers_ipv4_from_the_right_address() {
                let mut config = config("::");
                config.socket.ipv6_only = Some(false);
                let server = start(config);
                for host in ["127.0.0.5", "127.0.0.1", "::1"] {
                    assert_echo(&client(at(host, &server)), host.as_bytes());
                }
            }

            #[test]
            fn f04_payloads_of_every_legal_length() {
                let server = start(config("127.0.0.1"));
                let one = client(server.address());
                for length in [0, 1, 1472, 65_507] {
                    assert_echo(&one, &vec![0xA5; length]);
                }
                let server = start(config("::1"));
                let one = client(server.address());
                for length in [0, 1, 1472, 65_507, 65_527] {
                    assert_echo(&one, &vec![0x5A; length]);
                }
                assert_conserved(&server);
            }

            #[test]
            fn f06_stop_wakes_a_blocked_worker_and_counts_no_ghost() {
                let server = start(config("127.0.0.1"));
                assert_echo(&client(server.address()), b"it is blocked after this");
                let start = Instant::now();
                server.stop(PATIENCE).unwrap();
                assert!(
                    start.elapsed() < Duration::from_millis(100),
                    "{:?}",
                    start.elapsed()
                );
                let stats = server.stats();
                assert_eq!(stats.get("received_packets"), 1);
                assert_eq!(stats.reasons_total(), 0);
                assert_eq!(server.finish(), Some(Finish::Stopped));
                // The port is free again.
                UdpSocket::bind(server.address()).unwrap();
            }

            #[test]
            fn f08_a_cut_datagram_is_counted_and_echoed_cut_only_when_asked_for() {
                let mut config = config("127.0.0.1");
                config.max_datagram_bytes = Some(10);
                let server = start(config);
                let client = client(server.address());
                client.send(&[7; 25]).unwrap();
                let mut buffer = [0; 100];
                assert_eq!(client.recv(&mut buffer).unwrap(), 10);
                assert_echo(&client, &[8; 10]);
                assert_eq!(server.stats().get("truncated_packets"), 1);
                assert_conserved(&server);
            }

            #[test]
            fn what_is_queued_is_answered_before_a_stop() {
                let server = Server::udp(config("127.0.0.1"), None).unwrap();
                let client = client(server.address());
                for number in 0..50u8 {
                    client.send(&[number]).unwrap();
                }
                server.start().unwrap();
                server.stop(PATIENCE).unwrap();
                let mut buffer = [0; 8];
                for number in 0..50u8 {
                    assert_eq!(client.recv(&mut buffer).unwrap(), 1);
                    assert_eq!(buffer[0], number);
                }
                assert_conserved(&server);
            }

            #[test]
            fn ends_when_idle_and_not_before() {
                let mut config = config("127.0.0.1");
                config.idle_timeout = Some(Duration::from_millis(300));
                config.socket.recv_timeout = Some(Duration::from_millis(100));
                let start_at = Instant::now();
                let server = start(config);
                assert_eq!(server.wait(PATIENCE).unwrap(), Some(Finish::Idle));
                assert!(start_at.elapsed() >= Duration::from_millis(290));
                assert!(server.stats().get("receive_timeouts") >= 3);
            }

            #[test]
            fn an_empty_datagram_ends_it_only_when_asked_to() {
                let server = start(config("127.0.0.1"));
                assert_echo(&client(server.address()), b"");
                assert!(server.is_running());
                let mut config = config("127.0.0.1");
                config.stop_on_empty = true;
                let server = start(config);
                assert_echo(&client(server.address()), b"");
                assert_eq!(server.wait(PATIENCE).unwrap(), Some(Finish::Empty));
            }

            #[test]
            fn several_workers_share_one_port() {
                let mut config = config("127.0.0.1");
                config.workers = 3;
                let server = start(config);
                for number in 0..60u8 {
                    assert_echo(&client(server.address()), &[number]);
                }
                assert_conserved(&server);
                server.stop(PATIENCE).unwrap();
                assert_eq!(server.stats().get("received_packets"), 60);
            }

            #[test]
            fn an_adopted_socket_outlives_the_server() {
                let own = UdpSocket::bind("127.0.0.1:0").unwrap();
                let mut config = config("");
                let fd = std::os::fd::AsRawFd::as_raw_fd(&own);
                config.listen = Listen::On(rsecho::socket::adopt(fd).unwrap());
                let server = start(config);
                let client = client(own.local_addr().unwrap());
                assert_echo(&client, b"served");
                let start = Instant::now();
                server.stop(PATIENCE).unwrap();
                assert!(start.elapsed() < Duration::from_millis(100));
                drop(server);
                // Still open, still readable, and it waits as it should.
                client.send(b"mine again").unwrap();
                own.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut buffer = [0; 32];
                assert_eq!(own.recv(&mut buffer).unwrap(), 10);
                own.set_read_timeout(Some(Duration::from_millis(20)))
                    .unwrap();
                assert!(own.recv(&mut buffer).is_err());
            }
        }
    };
}

suite!(batch, EngineChoice::Auto, "batch");
suite!(portable, EngineChoice::Portable, "portable");

#[test]
fn f03_a_link_local_address_needs_its_interface() {
    let error = Server::udp(config("fe80::1", EngineChoice::Auto), None).unwrap_err();
    assert!(error.is_argument(), "{error}");
    assert!(error.to_string().contains("%eth0"), "{error}");
}
