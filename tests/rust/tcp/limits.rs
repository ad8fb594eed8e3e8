//! How many, how long, how much.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rsecho::server::Server;
use rsecho::server::tcp::Config;

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
    f28_a_full_receive_buffer_is_read_in_pieces,
    connections_above_the_limit_wait_for_their_turn,
    only_who_is_silent_is_idle,
    f31_silent_peers_at_the_limit_make_room_at_the_deadline,
    a_peer_that_takes_nothing_is_stalled,
    f28_a_thousand_peers_that_never_read,
    f28_a_bulk_transfer_that_stalls_leaves_its_bytes_with_the_kernel,
);
