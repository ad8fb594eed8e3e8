//! A stop ends by its deadline, whatever the responder does.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rsecho::address::Family;
use rsecho::respond::{Completions, Framing, MakeResponder, Outcome, Replies, Request, Respond};
use rsecho::server::{Listen, Server};
use rsecho::worker::Finish;

use crate::helper::*;

/// Takes its time over each request, and leaves the rest for another call, as a callable does.
#[derive(Clone, Default)]
struct Slow {
    time: Duration,
    begun: Arc<Mutex<Vec<Instant>>>,
}

impl Slow {
    fn make(&self) -> MakeResponder {
        let slow = self.clone();
        MakeResponder::new(move |_| Box::new(slow.clone()))
    }

    fn calls(&self) -> usize {
        self.begun.lock().unwrap().len()
    }

    fn calls_since(&self, time: Instant) -> usize {
        let begun = self.begun.lock().unwrap();
        begun.iter().filter(|at| **at > time).count()
    }
}

impl Respond for Slow {
    fn respond(&mut self, requests: &[Request<'_>], replies: &mut Replies) {
        self.begun.lock().unwrap().push(Instant::now());
        thread::sleep(self.time);
        replies.reply(requests[0].data);
    }
}

/// Waits until told, for ever if need be.
#[derive(Clone, Default)]
struct Stuck {
    is_free: Arc<AtomicBool>,
    begun: Arc<AtomicBool>,
}

impl Respond for Stuck {
    fn respond(&mut self, requests: &[Request<'_>], replies: &mut Replies) {
        self.begun.store(true, Ordering::SeqCst);
        while !self.is_free.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        replies.reply(requests[0].data);
    }
}

const DRAIN: Duration = Duration::from_millis(300);
const CALL: Duration = Duration::from_millis(100);

fn at(host: &str) -> Listen {
    Listen::At {
        host: host.into(),
        port: 0,
        family: Family::Any,
    }
}

/// Stops a server with far more to answer than there is time for.
fn ends_by_its_deadline(server: &Server, slow: &Slow, workers: usize, what: &str) {
    let clients: Vec<TcpStream> = (0..80).map(|_| connect(server.address())).collect();
    for mut client in &clients {
        client.write_all(&b"abc\n".repeat(3)).unwrap();
    }
    eventually("it is asked", || slow.calls() > 0);
    let start = Instant::now();
    server.stop(DRAIN).unwrap();
    let took = start.elapsed();
    // A tenth of what all that was asked by then would take.
    assert!(
        took < DRAIN + CALL + Duration::from_secs(1),
        "{what}: {took:?}"
    );
    let late = slow.calls_since(start + DRAIN);
    assert!(
        late <= workers,
        "{what}: {late} calls begun after the deadline"
    );
    assert_eq!(server.finish(), Some(Finish::Stopped), "{what}");
    let stats = server.stats();
    assert_eq!(
        stats.get("failed_replies"),
        0,
        "{what}: none was asked in vain"
    );
    assert_eq!(stats.get("replies") as usize, slow.calls(), "{what}");
    assert_eq!(stats.get("pending_requests"), 0, "{what}");
    assert_eq!(stats.get("pending_bytes"), 0, "{what}");
    assert_eq!(
        stats.reason("stopped"),
        stats.get("accepted_connections"),
        "{what}"
    );
    assert_books(server);
}

fn f27_no_call_begins_after_the_deadline(engine: Engine) {
    let framings = [Framing::Lines, Framing::Records(4), Framing::Chunks];
    for (host, framing, workers) in framings
        .into_iter()
        .flat_map(|framing| [("127.0.0.1", framing, 1), ("::1", framing, 2)])
    {
        let slow = Slow {
            time: CALL,
            ..Slow::default()
        };
        let server = serve(engine, |config| {
            config.listen = at(host);
            config.framing = framing;
            config.workers = workers;
            config.responder = Some(slow.make());
        });
        let what = format!("{framing} on {host}, {workers} workers");
        ends_by_its_deadline(&server, &slow, workers, &what);
    }
}

fn f27_nor_does_one_where_the_stream_is_impaired(engine: Engine) {
    for spec in ["latency 20ms", "in slicer 2; out latency 5ms"] {
        let slow = Slow {
            time: CALL,
            ..Slow::default()
        };
        let server = serve(engine, |config| {
            config.responder = Some(slow.make());
            config.impair = spec.parse().unwrap();
        });
        ends_by_its_deadline(&server, &slow, 1, spec);
    }
}

fn f27_what_was_cut_and_not_asked_is_abandoned(engine: Engine) {
    let slow = Slow {
        time: CALL,
        ..Slow::default()
    };
    let server = serve(engine, |config| config.responder = Some(slow.make()));
    let client = connect(server.address());
    // Its turns have one request, two, four.
    (&client).write_all(&b"abc\n".repeat(40)).unwrap();
    eventually("there are some", || server.stats().get("requests") >= 7);
    server.stop(Duration::ZERO).unwrap();
    let stats = server.stats();
    assert!(stats.get("abandoned_requests") > 0, "{stats:?}");
    assert_eq!(stats.get("failed_replies"), 0);
    assert_eq!(stats.get("replies") as usize, slow.calls());
    assert_books(&server);
}

fn f27_answers_that_never_come_are_not_waited_for(engine: Engine) {
    struct Promises(Arc<Completions>);
    impl Respond for Promises {
        fn respond(&mut self, requests: &[Request<'_>], replies: &mut Replies) {
            (0..requests.len()).for_each(|_| replies.end(Outcome::Later(7)));
        }

        fn completions(&self) -> Option<Arc<Completions>> {
            Some(Arc::clone(&self.0))
        }
    }
    let server = serve(engine, |config| {
        config.responder = Some(MakeResponder::new(|_| Box::new(Promises(Arc::default()))));
    });
    let clients: Vec<TcpStream> = (0..50).map(|_| connect(server.address())).collect();
    clients
        .iter()
        .for_each(|mut client| client.write_all(b"x\n").unwrap());
    eventually("all asked", || server.stats().get("requests") == 50);
    let start = Instant::now();
    server.stop(DRAIN).unwrap();
    let took = start.elapsed();
    assert!(took >= DRAIN && took < Duration::from_secs(3), "{took:?}");
    assert_eq!(server.stats().get("abandoned_requests"), 50);
    assert_books(&server);
}

fn f42_a_call_that_does_not_return_is_named_and_not_waited_for(engine: Engine) {
    let stuck = Stuck::default();
    let make = stuck.clone();
    let server = serve(engine, |config| {
        config.responder = Some(MakeResponder::new(move |_| Box::new(make.clone())));
    });
    let client = connect(server.address());
    (&client).write_all(b"x\n").unwrap();
    eventually("it is asked", || stuck.begun.load(Ordering::SeqCst));
    for _ in 0..2 {
        let start = Instant::now();
        let error = server.stop(DRAIN).unwrap_err();
        let took = start.elapsed();
        assert!(error.is_unfinished() && error.is_timeout(), "{error}");
        assert!(error.to_string().contains("rsecho-tcp-0"), "{error}");
        assert!(took >= Server::GRACE, "{took:?}");
        assert!(
            took < DRAIN + Server::GRACE + Duration::from_secs(5),
            "{took:?}"
        );
        assert!(server.is_running() && server.finish().is_none());
    }
    assert_eq!(server.asking(), ["rsecho-tcp-0"]);
    assert_eq!(server.dismiss().unwrap(), ["rsecho-tcp-0"]);
    assert_eq!(server.stats().get("pending_requests"), 1);
    assert_books(&server);
    stuck.is_free.store(true, Ordering::SeqCst);
    assert_eq!(server.wait(LONG).unwrap(), Some(Finish::Stopped));
    assert!(server.asking().is_empty() && server.dismiss().unwrap().is_empty());
    server.stop(DRAIN).unwrap();
    assert_eq!(
        server.stats().get("replies"),
        1,
        "the call that had begun counts"
    );
    assert_books(&server);
}

fn f42_dropping_a_server_does_not_wait_for_its_responder(engine: Engine) {
    let stuck = Stuck::default();
    let make = stuck.clone();
    let server = serve(engine, |config| {
        config.responder = Some(MakeResponder::new(move |_| Box::new(make.clone())));
    });
    let client = connect(server.address());
    (&client).write_all(b"x\n").unwrap();
    eventually("it is asked", || stuck.begun.load(Ordering::SeqCst));
    let start = Instant::now();
    drop(server);
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    // Its worker ends by itself, and lets go of the connection.
    stuck.is_free.store(true, Ordering::SeqCst);
    while !is_over(&client) {}
}

fn a_caller_may_give_up(engine: Engine) {
    let stuck = Stuck::default();
    let make = stuck.clone();
    let server = serve(engine, |config| {
        config.responder = Some(MakeResponder::new(move |_| Box::new(make.clone())));
    });
    let client = connect(server.address());
    (&client).write_all(b"x\n").unwrap();
    eventually("it is asked", || stuck.begun.load(Ordering::SeqCst));
    let (start, mut looks) = (Instant::now(), 0);
    server
        .stop_unless(LONG, || {
            looks += 1;
            looks == 3
        })
        .unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    assert!(server.is_running());
    stuck.is_free.store(true, Ordering::SeqCst);
    assert_eq!(server.wait(LONG).unwrap(), Some(Finish::Stopped));
}

on_both_engines!(
    f27_no_call_begins_after_the_deadline,
    f27_nor_does_one_where_the_stream_is_impaired,
    f27_what_was_cut_and_not_asked_is_abandoned,
    f27_answers_that_never_come_are_not_waited_for,
    f42_a_call_that_does_not_return_is_named_and_not_waited_for,
    f42_dropping_a_server_does_not_wait_for_its_responder,
    a_caller_may_give_up,
);
