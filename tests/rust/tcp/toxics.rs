//! What is impaired on purpose, as clients see it.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rsecho::event::{Queue, What};
use rsecho::respond::Choice;
use rsecho::server::{Change, Listen, Server};
use rsecho::socket::adopt;
use rsecho::worker::Finish;
use socket2::{Domain, Socket, Type};

use crate::helper::*;

const fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

fn impair(server: &Server, spec: &str) {
    let change = Change {
        spec: spec.into(),
        tape: None,
    };
    server.impair(&change).unwrap();
}

fn serve_impaired(engine: Engine, spec: &str) -> Server {
    serve(engine, |config| config.impair = spec.parse().unwrap())
}

#[track_caller]
fn timed<T>(least: Duration, act: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = act();
    let took = start.elapsed();
    assert!(took >= least, "after {took:?}, not {least:?}");
    assert!(took < least * 10 + Duration::from_secs(2), "after {took:?}");
    result
}

fn latency_holds_each_way_and_keeps_the_order(engine: Engine) {
    let server = serve_impaired(engine, "both latency 50ms");
    let client = connect(server.address());
    let data = pattern(50_000, 1);
    timed(ms(100), || exchange(&client, &data));
    assert_books(&server);
    // What comes while something is held waits as long as that did, no longer.
    timed(ms(100), || {
        for piece in data.chunks(1000) {
            (&client).write_all(piece).unwrap();
        }
        let mut back = vec![0; data.len()];
        (&client).read_exact(&mut back).unwrap();
        assert!(back == data);
    });
    end_output(&client);
    assert_eq!(read_to_end(&client), b"");
    eventually("it ended", || server.stats().reason("peer") == 1);
    assert_eq!(server.stats().get("pending_bytes"), 0);
    assert_books(&server);
}

fn a_latency_below_a_millisecond_is_kept(engine: Engine) {
    let server = serve_impaired(engine, "latency 300us");
    let client = connect(server.address());
    let least = (0..100).map(|_| {
        let start = Instant::now();
        exchange(&client, b"quick");
        start.elapsed()
    });
    let least = least.min().unwrap();
    assert!(least >= Duration::from_micros(300), "{least:?}");
    // Rounded to milliseconds it would be one at least.
    assert!(least < Duration::from_micros(990), "{least:?}");
}

fn more_than_is_held_at_a_time_comes_through_whole(engine: Engine) {
    let server = serve_impaired(engine, "both latency 5ms, slicer 10000 9000 10");
    let client = connect(server.address());
    let data = pattern(1 << 20, 2);
    let back = thread::scope(|scope| {
        scope.spawn(|| {
            (&client).write_all(&data).unwrap();
            end_output(&client);
        });
        read_to_end(&client)
    });
    assert!(back == data, "{} bytes", back.len());
    eventually("it ended", || server.stats().reason("peer") == 1);
    assert_books(&server);
}

fn bandwidth_bounds_what_goes(engine: Engine) {
    let server = serve_impaired(engine, "bandwidth 100");
    let client = connect(server.address());
    timed(ms(450), || exchange(&client, &pattern(50_000, 3)));
    assert_books(&server);
}

fn slices_are_sent_one_by_one(engine: Engine) {
    let queue = Arc::new(Queue::new(1 << 12).unwrap());
    let server = bind_with(engine, Some(Arc::clone(&queue)), |config| {
        config.impair = "slicer average_size=100 size_variation=20 delay=1000"
            .parse()
            .unwrap();
    });
    server.start().unwrap();
    server.set_access(Some(0));
    let client = connect(server.address());
    timed(ms(7), || exchange(&client, &pattern(1000, 4)));
    let mut lengths: Vec<usize> = Vec::new();
    eventually("all slices are told", || {
        let events = queue.drain(1 << 12).into_iter();
        lengths.extend(events.filter_map(|event| match event.what {
            What::Answered { length, .. } => Some(length),
            _ => None,
        }));
        lengths.iter().sum::<usize>() == 1000
    });
    assert!(lengths.len() >= 8, "{lengths:?}");
    assert!(lengths.iter().all(|length| *length <= 120), "{lengths:?}");
}

fn a_slow_close_comes_later(engine: Engine) {
    let server = serve_impaired(engine, "slow_close 200ms");
    let client = connect(server.address());
    exchange(&client, b"all of it, at once");
    end_output(&client);
    timed(ms(200), || assert_eq!(read_to_end(&client), b""));
    eventually("it ended", || server.stats().reason("peer") == 1);
}

fn a_timeout_drops_and_closes(engine: Engine) {
    let server = serve_impaired(engine, "timeout 200ms");
    let client = connect(server.address());
    timed(ms(190), || {
        (&client).write_all(b"into nothing").unwrap();
        assert_eq!(read_to_end(&client), b"", "closed, not reset");
    });
    drop(client);
    eventually("it ended", || server.stats().reason("impaired") == 1);
    assert_eq!(server.stats().get("discarded_bytes"), 12);
    assert_books(&server);
}

fn a_timeout_without_a_time_lasts_until_it_is_undone(engine: Engine) {
    let server = serve_impaired(engine, "in timeout 0");
    let client = connect(server.address());
    (&client).write_all(b"lost").unwrap();
    eventually("it was dropped", || {
        server.stats().get("discarded_bytes") == 4
    });
    impair(&server, "");
    exchange(&client, b"back again");
    assert_books(&server);
}

fn a_reset_is_a_reset_and_no_end(engine: Engine) {
    let server = serve_impaired(engine, "reset_peer 50ms");
    let client = connect(server.address());
    (&client).write_all(b"x").unwrap();
    let error = timed(ms(50), || (&client).read(&mut [0; 4]).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    eventually("it ended", || server.stats().reason("impaired") == 1);
    assert_books(&server);
}

fn a_limit_ends_the_connection(engine: Engine) {
    for spec in ["limit_data 5", "in limit_data 5"] {
        let server = serve_impaired(engine, spec);
        let client = connect(server.address());
        (&client).write_all(&pattern(100_000, 5)).unwrap();
        assert!(read_to_end(&client) == pattern(5, 5), "{spec}");
        drop(client);
        eventually("it ended", || server.stats().reason("impaired") == 1);
        assert_eq!(server.stats().get("sent_bytes"), 5);
        assert_books(&server);
    }
}

fn half_a_close_leaves_the_other_half(engine: Engine) {
    let server = serve_impaired(engine, "half_close 3");
    let client = connect(server.address());
    (&client).write_all(b"abcdef").unwrap();
    assert_eq!(read_to_end(&client), b"abc");
    // The server still listens.
    (&client).write_all(b"ghi").unwrap();
    eventually("it came", || server.stats().get("received_bytes") == 9);
    assert_eq!(server.stats().get("active_connections"), 1);
    assert_books(&server);
    end_output(&client);
    eventually("it ended", || server.stats().reason("peer") == 1);

    // The other half: the server takes the stream for ended, and answers what it has.
    let server = serve_impaired(engine, "in half_close 3");
    let client = connect(server.address());
    (&client).write_all(b"abcdef").unwrap();
    assert_eq!(read_to_end(&client), b"abc");
    assert_books(&server);
}

fn who_hangs_is_accepted_and_no_more_until_that_is_undone(engine: Engine) {
    let server = serve_impaired(engine, "accept_hang");
    let client = connect(server.address());
    (&client).write_all(b"hello?").unwrap();
    eventually("it was accepted", || {
        server.stats().get("active_connections") == 1
    });
    client.set_read_timeout(Some(ms(100))).unwrap();
    let error = (&client).read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert_eq!(server.stats().get("received_bytes"), 0);
    client.set_read_timeout(Some(LONG)).unwrap();
    impair(&server, "");
    let mut back = [0; 6];
    (&client).read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello?");
    impair(&server, "accept_hang");
    exchange(&client, b"it has come before");
    let hung = connect(server.address());
    (&hung).write_all(b"x").unwrap();
    // It does not hold up the end.
    let start = Instant::now();
    server.stop(LONG).unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_books(&server);
}

#[cfg(target_os = "linux")]
fn who_is_refused_is_refused_until_that_is_undone(engine: Engine) {
    for workers in [1, 3] {
        let server = serve(engine, |config| config.workers = workers);
        let address = server.address();
        let before = connect(address);
        exchange(&before, b"before");
        for _ in 0..3 {
            impair(&server, "refuse");
            for _ in 0..10 {
                let error = TcpStream::connect(address).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            }
            // Nobody gets the port meanwhile, and who was there stays.
            let other = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let error = other.bind(&address.into()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            exchange(&before, b"still there");
            impair(&server, "");
            let clients: Vec<TcpStream> = (0..10).map(|_| connect(address)).collect();
            clients.iter().for_each(|client| exchange(client, b"after"));
        }
        assert_books(&server);
    }
}

#[cfg(target_os = "linux")]
fn who_is_refused_from_the_beginning(engine: Engine) {
    let server = bind(engine, |config| config.impair = "refuse".parse().unwrap());
    let is_refused = || {
        TcpStream::connect(server.address())
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    };
    assert!(is_refused(), "before it is started");
    server.start().unwrap();
    assert!(is_refused());
    server.stop(LONG).unwrap();
    assert_eq!(server.finish(), Some(Finish::Stopped));
}

/// A listener that others have too goes on listening.
fn who_is_refused_on_a_shared_listener_is_reset(engine: Engine) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = serve(engine, |config| {
        config.listen = Listen::On(adopt(listener.as_raw_fd()).unwrap());
        config.impair = "refuse".parse().unwrap();
    });
    // The reset may be quicker than connect(2).
    let error = TcpStream::connect(server.address())
        .and_then(|mut client| client.read(&mut [0; 4]))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    eventually("it ended", || server.stats().reason("impaired") == 1);
    impair(&server, "");
    exchange(&connect(server.address()), b"after");
}

/// Which of the next connections are reset.
fn which_are_reset(server: &Server) -> Vec<bool> {
    let address = server.address();
    (0..40)
        .map(|_| {
            // One by one, so that they are numbered in this order; a reset may be quicker
            // than connect(2).
            !TcpStream::connect(address).is_ok_and(|client| is_served(&client))
        })
        .collect()
}

#[test]
fn the_same_seed_impairs_the_same_connections() {
    let spec = "refuse toxicity=0.5, seed 7";
    let mut seen = Vec::new();
    for engine in [Engine::Epoll, Engine::Portable] {
        let server = serve_impaired(engine, spec);
        seen.push(which_are_reset(&server));
        // Counted anew with each change.
        impair(&server, spec);
        seen.push(which_are_reset(&server));
    }
    let reset = seen[0].iter().filter(|is_reset| **is_reset).count();
    assert!((5..=35).contains(&reset), "{reset} of 40");
    assert!(seen.iter().all(|other| *other == seen[0]), "{seen:?}");
    let server = serve_impaired(Engine::Epoll, "refuse toxicity=0.5, seed 8");
    assert_ne!(which_are_reset(&server), seen[0]);
}

fn what_is_held_keeps_its_time_when_that_changes(engine: Engine) {
    let server = serve_impaired(engine, "latency 300ms");
    let client = connect(server.address());
    let start = Instant::now();
    (&client).write_all(b"held ").unwrap();
    eventually("it came", || server.stats().get("received_bytes") == 5);
    impair(&server, "");
    (&client).write_all(b"and not overtaken").unwrap();
    let mut back = [0; 22];
    (&client).read_exact(&mut back).unwrap();
    assert_eq!(&back, b"held and not overtaken");
    assert!(start.elapsed() >= ms(300));
    let start = Instant::now();
    exchange(&client, b"quick");
    assert!(start.elapsed() < ms(300));
    assert_books(&server);
}

fn connections_that_are_open_meet_a_change(engine: Engine) {
    let server = serve(engine, |_| {});
    let client = connect(server.address());
    exchange(&client, &pattern(300_000, 6));
    impair(&server, "latency 100ms");
    timed(ms(100), || exchange(&client, &pattern(300_000, 7)));
    impair(&server, "");
    exchange(&client, &pattern(300_000, 8));
    assert_balance(&server);
    // Nothing that was sent before is lost by a change, or comes twice.
    let slow = connect_small(server.address(), 8 << 10);
    let sent = stuff(&slow, 4 << 20);
    impair(&server, "both latency 1ms");
    impair(&server, "both bandwidth 1000000");
    impair(&server, "");
    end_output(&slow);
    assert_eq!(read_to_end(&slow).len(), sent);
    eventually("it ended", || server.stats().reason("peer") == 1);
    assert_balance(&server);
}

fn who_answers_is_impaired_too(engine: Engine) {
    let server = serve(engine, |config| {
        config.responder = Choice::Upper.make();
        config.impair = "in latency 30ms; out latency 30ms, slicer 3"
            .parse()
            .unwrap();
    });
    let client = connect(server.address());
    timed(ms(60), || {
        (&client).write_all(b"one\ntwo\r\nthree").unwrap();
        end_output(&client);
        assert_eq!(read_to_end(&client), b"ONE\nTWO\r\nTHREE");
    });
    eventually("it ended", || server.stats().reason("peer") == 1);
    assert_eq!(server.stats().get("replies"), 3);
    assert_books(&server);

    let server = serve(engine, |config| {
        config.responder = Choice::Daytime.make();
        config.impair = "latency 100ms".parse().unwrap();
    });
    let line = timed(ms(100), || read_to_end(&connect(server.address())));
    assert!(line.ends_with(b"\r\n"));
    assert_books(&server);
}

fn many_connections_each_in_its_time(engine: Engine) {
    let server = serve_impaired(engine, "latency 100ms 50ms, seed 3");
    let clients: Vec<TcpStream> = (0..100).map(|_| connect(server.address())).collect();
    timed(ms(50), || {
        for (mut client, number) in clients.iter().zip(0..) {
            client.write_all(&[number; 10]).unwrap();
        }
        for (mut client, number) in clients.iter().zip(0..) {
            let mut back = [0; 10];
            client.read_exact(&mut back).unwrap();
            assert_eq!(back, [number; 10]);
        }
    });
    assert_books(&server);
}

fn f27_a_stop_waits_for_what_is_held(engine: Engine) {
    let server = serve_impaired(engine, "latency 300ms");
    let client = connect(server.address());
    (&client).write_all(b"held").unwrap();
    eventually("it came", || server.stats().get("received_bytes") == 4);
    server.request_stop(LONG).unwrap();
    assert_eq!(read_to_end(&client), b"held");
    drop(client);
    assert_eq!(server.wait(LONG).unwrap(), Some(Finish::Stopped));
    assert_eq!(server.stats().get("discarded_bytes"), 0);

    // Not beyond the deadline; and what did not come through is in the books.
    let server = serve_impaired(engine, "latency 60s");
    let client = connect(server.address());
    (&client).write_all(b"held").unwrap();
    eventually("it came", || server.stats().get("received_bytes") == 4);
    let start = Instant::now();
    server.stop(ms(200)).unwrap();
    assert!(start.elapsed() < Duration::from_secs(3));
    let stats = server.stats();
    assert_eq!(stats.get("discarded_bytes"), 4);
    assert_eq!(stats.get("pending_bytes"), 0);
    assert_books(&server);
}

/// A worker that has just taken up a change must not miss the next one: nobody else wakes it.
fn a_change_right_behind_another_is_taken_up_as_quickly(engine: Engine) {
    for workers in [1, 3] {
        let server = serve(engine, |config| config.workers = workers);
        for round in 0..200 {
            for spec in ["latency 1", "latency 2", ""] {
                let start = Instant::now();
                impair(&server, spec);
                let took = start.elapsed();
                assert!(
                    took < Duration::from_millis(500),
                    "{spec:?} in round {round}: {took:?}"
                );
            }
            // Long enough for the worker to fall asleep.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

on_both_engines!(
    a_change_right_behind_another_is_taken_up_as_quickly,
    latency_holds_each_way_and_keeps_the_order,
    a_latency_below_a_millisecond_is_kept,
    more_than_is_held_at_a_time_comes_through_whole,
    bandwidth_bounds_what_goes,
    slices_are_sent_one_by_one,
    a_slow_close_comes_later,
    a_timeout_drops_and_closes,
    a_timeout_without_a_time_lasts_until_it_is_undone,
    a_reset_is_a_reset_and_no_end,
    a_limit_ends_the_connection,
    half_a_close_leaves_the_other_half,
    who_hangs_is_accepted_and_no_more_until_that_is_undone,
    who_is_refused_on_a_shared_listener_is_reset,
    what_is_held_keeps_its_time_when_that_changes,
    connections_that_are_open_meet_a_change,
    who_answers_is_impaired_too,
    many_connections_each_in_its_time,
    f27_a_stop_waits_for_what_is_held,
);

#[cfg(target_os = "linux")]
mod on_linux {
    use super::{
        who_is_refused_from_the_beginning, who_is_refused_is_refused_until_that_is_undone,
    };
    use crate::helper::on_both_engines;

    on_both_engines!(
        who_is_refused_is_refused_until_that_is_undone,
        who_is_refused_from_the_beginning,
    );
}

#[test]
fn what_cannot_be_done_to_a_stream_is_refused_with_the_reason() {
    let server = bind(Engine::Epoll, |_| {});
    let change = Change {
        spec: "loss 10%".into(),
        tape: None,
    };
    let error = server.impair(&change).unwrap_err();
    assert!(error.is_argument(), "{error}");
}
