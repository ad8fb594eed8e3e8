//! How a server ends.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rsecho::worker::Finish;

use crate::helper::*;

fn a_server_without_connections_stops_at_once(engine: Engine) {
    let server = serve(engine, |config| config.workers = 2);
    let start = Instant::now();
    server.stop(LONG).unwrap();
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(server.finish(), Some(Finish::Stopped));
    TcpListener::bind(server.address()).expect("the port is free");
}

fn a_server_that_never_started_frees_its_port(engine: Engine) {
    let server = bind(engine, |_| {});
    server.stop(LONG).unwrap();
    TcpListener::bind(server.address()).expect("the port is free");
}

fn f27_what_waits_in_the_backlog_is_answered(engine: Engine) {
    let server = bind(engine, |_| {});
    let data = pattern(100_000, 27);
    let clients: Vec<TcpStream> = (0..5).map(|_| connect(server.address())).collect();
    clients
        .iter()
        .for_each(|mut client| client.write_all(&data).unwrap());
    server.request_stop(LONG).unwrap();
    server.start().unwrap();
    for client in &clients {
        assert!(read_to_end(client) == data, "all of it, and then the end");
    }
    drop(clients);
    assert_eq!(server.wait(LONG).unwrap(), Some(Finish::Stopped));
    assert_eq!(server.stats().get("sent_bytes"), 500_000);
    assert_eq!(server.stats().reason("stopped"), 5);
    assert_balance(&server);
}

fn f27_unread_input_is_drained_before_the_close(engine: Engine) {
    let server = serve(engine, |config| {
        config.socket.send_buffer_bytes = Some(8 << 10);
        config.socket.recv_buffer_bytes = Some(256 << 10);
    });
    let client = connect_small(server.address(), 16 << 10);
    let sent = stuff(&client, 4 << 20);
    let stalled = server.stats().get("sent_bytes");
    assert!(stalled < sent as u64, "some of it is unread or pending");
    let start = Instant::now();
    server.request_stop(LONG).unwrap();
    // The client reads only now, and gets every byte, then the end, and no reset.
    let back = read_to_end(&client);
    assert!(back.len() > stalled as usize && back.iter().all(|byte| *byte == 7));
    assert_eq!(back.len(), sent, "all that was sent before the stop");
    drop(client);
    assert_eq!(server.wait(LONG).unwrap(), Some(Finish::Stopped));
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(server.stats().get("discarded_bytes"), 0);
    assert_balance(&server);
}

fn f27_what_comes_after_the_end_is_counted_not_reset(engine: Engine) {
    let server = serve(engine, |_| {});
    let client = connect(server.address());
    exchange(&client, b"before");
    server.request_stop(LONG).unwrap();
    assert_eq!(read_to_end(&client), b"");
    (&client).write_all(b"after").unwrap();
    end_output(&client);
    assert_eq!(server.wait(LONG).unwrap(), Some(Finish::Stopped));
    let stats = server.stats();
    assert_eq!(stats.get("discarded_bytes"), 5);
    assert_eq!(stats.reason("stopped"), 1);
    assert_balance(&server);
}

fn a_peer_that_does_not_end_its_stream_is_not_waited_for_long(engine: Engine) {
    let server = serve(engine, |_| {});
    let client = connect(server.address());
    exchange(&client, b"and then nothing");
    let start = Instant::now();
    server.stop(LONG).unwrap();
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(start.elapsed() >= Duration::from_millis(150));
    assert!(is_over(&client));
}

fn the_deadline_holds_against_a_peer_that_never_reads(engine: Engine) {
    let server = serve(engine, |config| {
        config.socket.send_buffer_bytes = Some(16 << 10);
        config.socket.recv_buffer_bytes = Some(128 << 10);
    });
    let stuck = connect_small(server.address(), 8 << 10);
    stuff(&stuck, 4 << 20);
    let start = Instant::now();
    server.stop(Duration::from_millis(300)).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(280));
    assert!(start.elapsed() < Duration::from_secs(3));
    let stats = server.stats();
    assert_eq!(stats.reason("stopped"), 1);
    assert!(stats.get("discarded_bytes") > 0);
    assert_balance(&server);
}

fn a_second_stop_ends_the_drain_now(engine: Engine) {
    let server = serve(engine, |config| {
        config.socket.send_buffer_bytes = Some(16 << 10);
    });
    let stuck = connect_small(server.address(), 8 << 10);
    stuff(&stuck, 64 << 20);
    server.request_stop(LONG).unwrap();
    assert_eq!(server.wait(Duration::from_millis(300)).unwrap(), None);
    let start = Instant::now();
    server.stop(Duration::ZERO).unwrap();
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(server.stats().get("active_connections"), 0);
}

/// A peer that never stops sending cannot keep the server from stopping by its deadline.
fn a_peer_that_never_stops_is_cut_at_the_deadline(engine: Engine) {
    let server = serve(engine, |_| {});
    let client = connect(server.address());
    let reader = client.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| while (&client).write_all(&[7; 4096]).is_ok() {});
        scope.spawn(|| while !is_over(&reader) {});
        eventually("it flows", || server.stats().get("sent_bytes") > 1 << 16);
        let start = Instant::now();
        server.stop(Duration::from_millis(500)).unwrap();
        assert!(start.elapsed() < Duration::from_secs(5));
    });
    assert_balance(&server);
}

on_both_engines!(
    a_server_without_connections_stops_at_once,
    a_server_that_never_started_frees_its_port,
    f27_what_waits_in_the_backlog_is_answered,
    f27_unread_input_is_drained_before_the_close,
    f27_what_comes_after_the_end_is_counted_not_reset,
    a_peer_that_does_not_end_its_stream_is_not_waited_for_long,
    the_deadline_holds_against_a_peer_that_never_reads,
    a_second_stop_ends_the_drain_now,
    a_peer_that_never_stops_is_cut_at_the_deadline,
);
