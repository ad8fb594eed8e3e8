//! Peers and networks that misbehave.

use std::net::TcpStream;
use std::os::fd::{FromRawFd, IntoRawFd};

use rsecho::address::Family;
use rsecho::server::tcp::Config;
use rsecho::server::{Listen, Server};
use socket2::{Domain, Socket, Type};

use crate::helper::*;

fn f25_a_reset_ends_that_connection_only(engine: Engine) {
    let server = serve(engine, |_| {});
    let other = connect(server.address());
    for round in 1..=20 {
        let victim = connect(server.address());
        exchange(&victim, &pattern(5_000, round));
        reset(victim);
        eventually("it ended", || server.stats().reason("reset") == round);
        exchange(&other, b"unaffected");
    }
    assert_eq!(server.stats().get("active_connections"), 1);
    assert_balance(&server);
}

fn f25_a_reset_in_the_middle_of_a_stall_discards_the_rest(engine: Engine) {
    let server = serve(engine, |config| {
        config.socket.send_buffer_bytes = Some(16 << 10);
        config.socket.recv_buffer_bytes = Some(128 << 10);
    });
    let victim = connect_small(server.address(), 8 << 10);
    stuff(&victim, 4 << 20);
    reset(victim);
    eventually("it ended", || server.stats().reason("reset") == 1);
    assert_eq!(server.stats().get("pending_bytes"), 0);
    assert!(server.stats().get("discarded_bytes") > 0);
    assert_balance(&server);
}

fn f26_a_reset_before_accept_is_one_connection_less(engine: Engine) {
    let server = bind(engine, |_| {});
    for _ in 0..5 {
        reset(connect(server.address()));
    }
    let patient = connect(server.address());
    server.start().unwrap();
    exchange(&patient, b"served");
    eventually("the five are gone", || {
        let stats = server.stats();
        stats.get("active_connections") == 1
            && stats.reason("reset") + stats.get("accept_errors") == 5
    });
    assert_balance(&server);
}

fn f30_backlog_overflow_is_reported_from_the_kernels_counter(engine: Engine) {
    let server = bind(engine, |config| config.backlog = Some(1));
    assert_eq!(server.stats().kernel_drops, Some(0));
    // Listening, not started: nobody accepts.
    let clients: Vec<TcpStream> = (0..8)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&server.address().into());
            // SAFETY: the descriptor is given up by one and taken by the other.
            unsafe { TcpStream::from_raw_fd(socket.into_raw_fd()) }
        })
        .collect();
    eventually("drops", || server.stats().kernel_drops > Some(0));
    server.start().unwrap();
    let drops = server.stats().kernel_drops;
    drop(clients);
    server.stop(std::time::Duration::ZERO).unwrap();
    assert!(server.stats().kernel_drops >= drops, "kept after the end");
}

fn f32_a_restart_with_connections_in_time_wait_binds_at_once(engine: Engine) {
    let server = serve(engine, |_| {});
    let address = server.address();
    let client = connect(address);
    exchange(&client, b"x");
    server.request_stop(LONG).unwrap();
    // The server ends its stream first, so that TIME_WAIT is on its side.
    assert!(is_over(&client));
    drop(client);
    server.stop(LONG).unwrap();
    eventually("TIME_WAIT", || is_in_state(address.port(), 0, TIME_WAIT));
    let again = |reuse_address| {
        let mut config = Config::new(Listen::At {
            host: "127.0.0.1".into(),
            port: address.port(),
            family: Family::Any,
        });
        config.socket.reuse_address = reuse_address;
        Server::tcp(config, None)
    };
    assert!(
        again(Some(false)).unwrap_err().is_address_in_use(),
        "it would not bind without SO_REUSEADDR"
    );
    let server = again(None).unwrap();
    server.start().unwrap();
    exchange(&connect(address), b"at once");
}

on_both_engines!(
    f25_a_reset_ends_that_connection_only,
    f25_a_reset_in_the_middle_of_a_stall_discards_the_rest,
    f26_a_reset_before_accept_is_one_connection_less,
    f30_backlog_overflow_is_reported_from_the_kernels_counter,
    f32_a_restart_with_connections_in_time_wait_binds_at_once,
);
