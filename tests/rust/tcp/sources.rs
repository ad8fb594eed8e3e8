//! Whom the server does not take in, and what holds beyond loopback.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rsecho::address::Family;
use rsecho::event::{Level, Queue, What};
use rsecho::guard::Rate;
use rsecho::server::Listen;
use socket2::{Domain, Socket, Type};

use crate::helper::*;

/// A connection from this address of the loopback network.
fn connect_from(from: &str, to: SocketAddr) -> TcpStream {
    let from: SocketAddr = format!("{from}:0").parse().unwrap();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect_timeout(&to.into(), LONG).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

fn lines(queue: &Queue, wanted: &str) -> Vec<(Level, String)> {
    let events = queue.drain(usize::MAX).into_iter();
    let line = |what| match what {
        What::Notice {
            level, name, text, ..
        } if name == wanted => Some((level, text)),
        _ => None,
    };
    events.filter_map(|event| line(event.what)).collect()
}

fn each_source_has_so_many_connections_and_gets_them_back(engine: Engine) {
    for workers in [1, 3] {
        let queue = Arc::new(Queue::new(64).unwrap());
        let server = bind_with(engine, Some(Arc::clone(&queue)), |config| {
            config.guard.connections_per_source = Some(3);
            config.workers = workers;
        });
        server.start().unwrap();
        let address = server.address();
        let mut clients: Vec<TcpStream> = Vec::new();
        for _ in 0..3 {
            clients.push(connect(address));
            exchange(&clients[clients.len() - 1], b"mine");
        }
        for _ in 0..20 {
            assert!(!is_served(&connect(address)));
        }
        // Somebody else is served meanwhile, and the first one again once it has left.
        assert!(is_served(&connect_from("127.0.0.2", address)));
        drop(clients.pop());
        eventually("it has left", || is_served(&connect(address)));
        let refused = server.stats().get("refused_by_source");
        assert!(refused >= 20);
        assert_balance(&server);
        server.stop(LONG).unwrap();
        // One at once, one when it ended, and as many as there were seconds, for each worker.
        let told = lines(&queue, "refused");
        assert!(!told.is_empty() && told.len() <= 4 * workers, "{told:?}");
        assert_eq!(told[0].0, Level::Warning);
    }
}

fn each_source_may_open_some_connections_at_once_and_then_some_per_second(engine: Engine) {
    for workers in [1, 3] {
        let queue = Arc::new(Queue::new(64).unwrap());
        let server = bind_with(engine, Some(Arc::clone(&queue)), |config| {
            config.guard.connection_rate_per_source = Some(Rate::new(0.001, Some(3)));
            config.workers = workers;
        });
        server.start().unwrap();
        let address = server.address();
        // Whether it is still open does not matter.
        for _ in 0..3 {
            assert!(is_served(&connect(address)));
        }
        for _ in 0..20 {
            assert!(!is_served(&connect(address)));
        }
        // Another source has its own.
        for _ in 0..3 {
            assert!(is_served(&connect_from("127.0.0.2", address)));
        }
        assert!(!is_served(&connect_from("127.0.0.2", address)));
        let stats = server.stats();
        assert_eq!(stats.get("refused_by_rate"), 21);
        assert_eq!(stats.get("refused_by_source"), 0);
        assert_eq!(stats.get("accepted_connections"), 6);
        assert_balance(&server);
        server.stop(LONG).unwrap();
        let told = lines(&queue, "refused");
        assert!(!told.is_empty() && told.len() <= 4 * workers, "{told:?}");
        assert_eq!(told[0].0, Level::Warning);
        assert!(told[0].1.contains("by_rate=1"), "{told:?}");
    }
}

fn tokens_come_back_with_time(engine: Engine) {
    let server = serve(engine, |config| {
        config.guard.connection_rate_per_source = Some(Rate::new(50.0, Some(1)));
    });
    let start = Instant::now();
    let served = (0..200)
        .filter(|_| is_served(&connect(server.address())))
        .count() as f64;
    let most = 1.0 + 50.0 * start.elapsed().as_secs_f64();
    assert!(served <= most, "{served} of {most}");
    eventually("a token has come back", || {
        is_served(&connect(server.address()))
    });
}

#[test]
fn a_server_refuses_a_rule_of_the_other_protocol() {
    let mut config = rsecho::server::tcp::Config::new(loopback());
    config.guard.rate_per_source = Some(Rate::new(100.0, None));
    let error = rsecho::server::Server::tcp(config, None).unwrap_err();
    assert!(error.is_argument());
    let told = error.to_string();
    assert!(
        told.contains("rate_per_source=100") && told.contains("TCP"),
        "{told}"
    );
    assert!(
        told.contains("connection_rate_per_source limits connections"),
        "{told}"
    );
}

fn f02_who_is_denied_is_closed_at_once_by_its_plain_address(engine: Engine) {
    let server = serve(engine, |config| {
        config.listen = Listen::At {
            host: "::".into(),
            port: 0,
            family: Family::V6,
        };
        config.socket.ipv6_only = Some(false);
        config.max_connections = Some(1);
        config.guard.allow = vec!["127.0.0.0/8".parse().unwrap()];
        config.guard.deny = vec!["127.0.0.7".parse().unwrap()];
    });
    let port = server.address().port();
    let v4: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    for _ in 0..3 {
        assert!(!is_served(&connect_from("127.0.0.7", v4)));
    }
    assert!(!is_served(&connect(
        format!("[::1]:{port}").parse().unwrap()
    )));
    // They took nobody's place.
    assert!(is_served(&connect_from("127.0.0.8", v4)));
    let stats = server.stats();
    assert_eq!(stats.get("denied_connections"), 4);
    eventually("it has left", || {
        server.stats().get("active_connections") == 0
    });
    assert_eq!(server.stats().get("accepted_connections"), 1);
    assert_balance(&server);
}

fn beyond_loopback_the_deadlines_hold_unless_turned_off(engine: Engine) {
    let told = |host: &str, idle: Option<Duration>, send: Option<Duration>| {
        let queue = Arc::new(Queue::new(64).unwrap());
        let server = bind_with(engine, Some(Arc::clone(&queue)), |config| {
            config.listen = Listen::at(host, 0);
            config.idle_timeout = idle;
            config.socket.send_timeout = send;
        });
        server.start().unwrap();
        assert!(is_served(&connect(SocketAddr::new(
            "127.0.0.1".parse().unwrap(),
            server.address().port()
        ))));
        server.stop(LONG).unwrap();
        lines(&queue, "guards").pop().map(|line| line.1)
    };
    let held = |line: Option<String>, words: &str| line.is_some_and(|line| line.contains(words));
    let second = Some(Duration::from_secs(1));
    let never = Some(Duration::ZERO);
    assert!(held(
        told("0.0.0.0", None, None),
        "closes silent connections after 3600 s, stalled ones after 60 s; one source may have at most 4096"
    ));
    assert!(held(
        told("0.0.0.0", second, never),
        "after 1 s, stalled ones never"
    ));
    assert!(held(
        told("0.0.0.0", never, second),
        "never, stalled ones after 1 s"
    ));
    assert_eq!(told("127.0.0.1", None, None), None);
}

fn no_deadline_at_all_is_a_timeout_of_zero(engine: Engine) {
    let server = serve(engine, |config| {
        config.idle_timeout = Some(Duration::ZERO);
        config.socket.send_timeout = Some(Duration::ZERO);
    });
    let client = connect(server.address());
    for _ in 0..3 {
        exchange(&client, b"still there");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(server.stats().get("active_connections"), 1);
}

on_both_engines!(
    each_source_has_so_many_connections_and_gets_them_back,
    each_source_may_open_some_connections_at_once_and_then_some_per_second,
    tokens_come_back_with_time,
    f02_who_is_denied_is_closed_at_once_by_its_plain_address,
    beyond_loopback_the_deadlines_hold_unless_turned_off,
    no_deadline_at_all_is_a_timeout_of_zero,
);
