//! How many, how long, how much.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rsecho::respond::Choice;
use rsecho::server::Server;
use rsecho::server::tcp::{Config, MinRate};

use crate::helper::*;

fn connections_above_the_limit_wait_for_their_turn(engine: Engine) {
    for workers in [1, 3] {
        let server = serve(engine, |config| {
            config.max_connections = Some(4);
            config.workers = workers;
        });
        let mut clients: Vec<TcpStream> = (0..12).map(|_| connect(server.address())).collect();
        clients
            .iter()
            .for_each(|mut client| client.write_all(b"wait").unwrap());
        let mut served = 0;
        while served < 12 {
            eventually("four are served", || {
                server.stats().get("active_connections") == 4.min(12 - served)
            });
            // Whoever has an echo leaves, and makes room for the next.
            let before = clients.len();
            clients.retain(|mut client| {
                client
                    .set_read_timeout(Some(Duration::from_millis(1)))
                    .unwrap();
                !matches!(client.read(&mut [0; 4]), Ok(4))
            });
            served += (before - clients.len()) as u64;
            // Of several workers, one may tell what it took in before another tells who left.
            let active = server.stats().get("active_connections");
            assert!(workers > 1 || active <= 4, "{active}");
        }
        eventually("all have left", || server.stats().reason("peer") == 12);
        assert_balance(&server);
    }
}

fn only_who_is_silent_is_idle(engine: Engine) {
    let timeout = Duration::from_millis(400);
    let server = serve(engine, |config| config.idle_timeout = Some(timeout));
    let (silent, busy) = (connect(server.address()), connect(server.address()));
    // Before the exchange: the deadline runs from it, on the server's clock.
    let start = Instant::now();
    exchange(&silent, b"once");
    while server.stats().reason("idle") == 0 {
        exchange(&busy, b"again and again");
        assert!(start.elapsed() < LONG);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(start.elapsed() >= timeout - Duration::from_millis(20));
    assert!(is_over(&silent));
    exchange(&busy, b"still there");
    assert_balance(&server);
}

fn f31_silent_peers_at_the_limit_make_room_at_the_deadline(engine: Engine) {
    let server = serve(engine, |config| {
        config.max_connections = Some(8);
        config.idle_timeout = Some(Duration::from_secs(1));
    });
    let slow: Vec<TcpStream> = (0..8).map(|_| connect(server.address())).collect();
    // One byte now; the next would come in ten seconds.
    slow.iter().for_each(|client| exchange(client, b"1"));
    assert_eq!(server.stats().get("active_connections"), 8);
    let start = Instant::now();
    exchange(&connect(server.address()), b"fresh");
    assert!(start.elapsed() < Duration::from_secs(9), "it had to wait");
    eventually("all were evicted", || server.stats().reason("idle") >= 8);
    assert!(slow.iter().all(is_over));
    assert_balance(&server);
}

/// Whether a connection is over behind what came back over it.
fn ends(mut client: &TcpStream) -> bool {
    loop {
        match client.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

/// Peers that are never idle, nor finished: a byte now and then, until `done`.
fn drip(clients: &[TcpStream], done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LONG);
        for mut client in clients {
            // Those that were closed are written to in vain.
            let _ = client.write(b"s");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn f31_dripping_peers_make_room_when_their_life_is_over(engine: Engine) {
    for upper in [false, true] {
        let life = Duration::from_millis(600);
        let server = serve(engine, |config| {
            config.max_connections = Some(8);
            config.idle_timeout = Some(Duration::from_secs(30));
            config.max_connection_time = Some(life);
            config.responder = upper.then(|| "upper".parse::<Choice>().unwrap().make().unwrap());
        });
        let start = Instant::now();
        let slow: Vec<TcpStream> = (0..8).map(|_| connect(server.address())).collect();
        eventually("all have a place", || {
            server.stats().get("active_connections") == 8
        });
        let fresh = connect(server.address());
        drip(&slow, || server.stats().reason("expired") >= 8);
        assert!(start.elapsed() >= life, "not before their time");
        (&fresh).write_all(b"FRESH\n").unwrap();
        let mut back = [0; 6];
        (&fresh).read_exact(&mut back).unwrap();
        assert_eq!(&back, b"FRESH\n");
        assert!(slow.iter().all(ends));
        assert_eq!(server.stats().reason("idle"), 0);
        assert_balance(&server);
    }
}

fn f31_dripping_peers_make_room_where_more_has_to_come(engine: Engine) {
    for upper in [false, true] {
        let server = serve(engine, |config| {
            config.max_connections = Some(9);
            config.min_rate = Some(MinRate {
                bytes_per_second: 1000.0,
                window: Duration::from_millis(500),
            });
            config.responder = upper.then(|| "upper".parse::<Choice>().unwrap().make().unwrap());
        });
        let busy = connect(server.address());
        let slow: Vec<TcpStream> = (0..8).map(|_| connect(server.address())).collect();
        let lines = [&[b'X'; 5000][..], b"\n"].concat();
        drip(&slow, || {
            exchange(&busy, &lines);
            server.stats().reason("slow") >= 8
        });
        assert!(slow.iter().all(ends));
        exchange(&busy, &lines);
        assert_eq!(server.stats().reason("slow"), 8);
        assert_balance(&server);
    }
}

fn a_peer_that_takes_nothing_cannot_outlive_its_time(engine: Engine) {
    let server = serve(engine, |config| {
        config.max_connection_time = Some(Duration::from_millis(500));
    });
    let client = connect_small(server.address(), 4096);
    client.set_nonblocking(true).unwrap();
    let start = Instant::now();
    while server.stats().reason("expired") == 0 {
        assert!(start.elapsed() < LONG);
        let _ = (&client).write(&[0; 65536]);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_balance(&server);
}

fn what_cannot_be_a_rate_is_refused(engine: Engine) {
    for (bytes_per_second, window) in [(0.0, 1), (-1.0, 1), (f64::NAN, 1), (1.0, 0)] {
        let mut config = Config::new(loopback());
        let window = Duration::from_secs(window);
        config.min_rate = Some(MinRate {
            bytes_per_second,
            window,
        });
        assert!(Server::tcp(config, None).unwrap_err().is_argument());
    }
    drop(bind(engine, |config| config.min_rate = None));
}

fn a_peer_that_takes_nothing_is_stalled(engine: Engine) {
    let server = serve(engine, |config| {
        config.socket.send_timeout = Some(Duration::from_millis(500));
        config.socket.send_buffer_bytes = Some(16 << 10);
        config.socket.recv_buffer_bytes = Some(16 << 10);
    });
    let (stuck, patient) = (
        connect_small(server.address(), 8 << 10),
        connect(server.address()),
    );
    // Silence is not a stall: nothing is to be sent.
    exchange(&patient, b"and then silence");
    assert!(stuff(&stuck, 4 << 20) < 4 << 20);
    eventually("it was given up", || server.stats().reason("stalled") == 1);
    assert_eq!(server.stats().get("active_connections"), 1);
    assert!(server.stats().get("discarded_bytes") > 0);
    exchange(&patient, b"still there");
    assert_balance(&server);
}

fn f28_a_thousand_peers_that_never_read(engine: Engine) {
    const PEERS: usize = 1000;
    let server = serve(engine, |config| {
        config.socket.send_buffer_bytes = Some(8 << 10);
        config.socket.recv_buffer_bytes = Some(128 << 10);
    });
    let before = resident_bytes();
    let peers: Vec<TcpStream> = (0..PEERS)
        .map(|_| connect_small(server.address(), 8 << 10))
        .collect();
    let chunk = vec![7; 64 << 10];
    for peer in &peers {
        peer.set_nonblocking(true).unwrap();
    }
    let other = connect(server.address());
    // Until nobody takes anything any more.
    let mut quiet = 0;
    for _ in 0..2000 {
        let mut taken = 0;
        for mut peer in &peers {
            taken += peer.write(&chunk).unwrap_or(0);
        }
        exchange(&other, b"unaffected");
        assert_balance(&server);
        quiet = if taken == 0 { quiet + 1 } else { 0 };
        if quiet == 10 {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(quiet, 10, "they never stalled");
    let stats = server.stats();
    assert_eq!(stats.get("active_connections"), PEERS as u64 + 1);
    assert!(stats.get("pending_bytes") <= (PEERS << 16) as u64);
    // Other tests of this process use memory as well, but far less than this allows.
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < (PEERS << 16) + (64 << 20), "{grown} bytes");
    let start = Instant::now();
    exchange(&other, &pattern(100_000, 28));
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// Of /proc/self/statm (proc(5)): the second field, in pages.
fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn f28_a_bulk_transfer_that_stalls_leaves_its_bytes_with_the_kernel(engine: Engine) {
    let server = serve(engine, |_| {});
    let peers: Vec<TcpStream> = (0..4).map(|_| connect(server.address())).collect();
    for peer in &peers {
        assert!(stuff(peer, 64 << 20) > 1 << 20);
        assert_balance(&server);
    }
    assert!(server.stats().get("pending_bytes") <= 4 << 16);
    exchange(&connect(server.address()), b"unaffected");
}

/// All that may be kept of a connection was there before its first step.
fn f28_a_full_receive_buffer_is_read_in_pieces(engine: Engine) {
    let server = bind(engine, |config| {
        config.socket.send_buffer_bytes = Some(16 << 10);
        config.socket.recv_buffer_bytes = Some(1 << 20);
    });
    let peers: Vec<TcpStream> = (0..4)
        .map(|_| connect_small(server.address(), 8 << 10))
        .collect();
    for peer in &peers {
        assert!(stuff(peer, 512 << 10) > 256 << 10);
    }
    server.start().unwrap();
    eventually("it stalled", || {
        assert_balance(&server);
        server.stats().get("pending_bytes") > 4 << 10
    });
    exchange(&connect(server.address()), b"unaffected");
    assert_balance(&server);
}

#[test]
fn a_positive_linger_is_refused_since_close_would_wait() {
    let mut config = Config::new(loopback());
    config.socket.linger = Some(Duration::from_secs(4));
    let error = Server::tcp(config, None).unwrap_err();
    assert!(
        error.is_argument() && error.to_string().contains("linger"),
        "{error}"
    );
}

on_both_engines!(
    f31_dripping_peers_make_room_when_their_life_is_over,
    f31_dripping_peers_make_room_where_more_has_to_come,
    a_peer_that_takes_nothing_cannot_outlive_its_time,
    what_cannot_be_a_rate_is_refused,
    f28_a_full_receive_buffer_is_read_in_pieces,
    connections_above_the_limit_wait_for_their_turn,
    only_who_is_silent_is_idle,
    f31_silent_peers_at_the_limit_make_room_at_the_deadline,
    a_peer_that_takes_nothing_is_stalled,
    f28_a_thousand_peers_that_never_read,
    f28_a_bulk_transfer_that_stalls_leaves_its_bytes_with_the_kernel,
);
