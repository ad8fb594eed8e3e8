//! A stop ends by its deadline, whatever the responder does.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::*;

const ENGINES: [EngineChoice; 2] = [EngineChoice::Auto, EngineChoice::Portable];
const HOSTS: [&str; 2] = ["127.0.0.1", "::1"];

const DRAIN: Duration = Duration::from_millis(300);
const CALL: Duration = Duration::from_millis(100);

#[track_caller]
fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < PATIENCE, "never came: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Takes its time over each request, and leaves the rest for another call, as a callable does.
#[derive(Clone, Default)]
struct Slow {
    begun: Arc<Mutex<Vec<Instant>>>,
}

impl Respond for Slow {
    fn respond(&mut self, requests: &[Request<'_>], replies: &mut Replies) {
        self.begun.lock().unwrap().push(Instant::now());
        thread::sleep(CALL);
        replies.reply(requests[0].data);
    }
}

/// Waits until told, for ever if need be.
#[derive(Clone, Default)]
struct Stuck {
    is_free: Arc<AtomicBool>,
    begun: Arc<AtomicUsize>,
}

impl Respond for Stuck {
    fn respond(&mut self, requests: &[Request<'_>], replies: &mut Replies) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        while !self.is_free.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        replies.reply(requests[0].data);
    }
}

#[test]
fn f27_no_call_begins_after_the_deadline() {
    for (engine, host, impair, workers) in ENGINES.into_iter().flat_map(|engine| {
        [
            (engine, HOSTS[0], "", 1),
            (engine, HOSTS[1], "", 2),
            (engine, HOSTS[0], "in delay 20ms; out delay 20ms", 1),
        ]
    }) {
        let what = format!("{engine:?} on {host}, impaired by {impair:?}, {workers} workers");
        let (slow, mut config) = (Slow::default(), config(host, engine));
        let make = slow.clone();
        config.responder = Some(MakeResponder::new(move |_| Box::new(make.clone())));
        config.impair = impair.parse().unwrap();
        config.workers = workers;
        let server = start(config);
        let clients: Vec<UdpSocket> = (0..40).map(|_| client(server.address())).collect();
        for _ in 0..3 {
            for client in &clients {
                client.send(b"x").unwrap();
            }
        }
        let calls = || slow.begun.lock().unwrap().len();
        eventually("it is asked", || calls() > 0);
        let start = Instant::now();
        server.stop(DRAIN).unwrap();
        let took = start.elapsed();
        // A tenth of what all that was sent would take.
        assert!(
            took < DRAIN + CALL + Duration::from_secs(1),
            "{what}: {took:?}"
        );
        let begun = slow.begun.lock().unwrap();
        let late = begun.iter().filter(|at| **at > start + DRAIN).count();
        assert!(
            late <= workers,
            "{what}: {late} calls begun after the deadline"
        );
        let stats = server.stats();
        let answered = stats.get("sent_packets") + stats.reason("stopped");
        assert_eq!(stats.get("received_packets"), answered, "{what}: {stats:?}");
        assert!(stats.get("sent_packets") as usize <= begun.len(), "{what}");
        assert_eq!(stats.get("pending_packets"), 0, "{what}");
        assert_conserved(&server);
    }
}

#[test]
fn f42_a_call_that_does_not_return_is_named_and_not_waited_for() {
    for (engine, host) in ENGINES.into_iter().zip(HOSTS) {
        let (stuck, mut config) = (Stuck::default(), config(host, engine));
        let make = stuck.clone();
        config.responder = Some(MakeResponder::new(move |_| Box::new(make.clone())));
        config.workers = 3;
        let server = start(config);
        let client = client(server.address());
        client.send(b"x").unwrap();
        eventually("it is asked", || stuck.begun.load(Ordering::SeqCst) == 1);
        let start = Instant::now();
        let error = server.stop(DRAIN).unwrap_err();
        let took = start.elapsed();
        assert!(error.is_unfinished() && error.is_timeout(), "{error}");
        assert!(took >= Server::GRACE, "{took:?}");
        assert!(
            took < DRAIN + Server::GRACE + Duration::from_secs(5),
            "{took:?}"
        );
        // Of three workers it names the one.
        let named = server.asking();
        assert_eq!(named.len(), 1, "{named:?}");
        assert!(error.to_string().contains(&named[0]), "{error}");
        assert!(named[0].starts_with("rsecho-udp-"), "{named:?}");
        assert_eq!(server.stats().get("pending_packets"), 1);
        assert!(server.is_running());
        stuck.is_free.store(true, Ordering::SeqCst);
        assert_eq!(server.wait(PATIENCE).unwrap(), Some(Finish::Stopped));
        server.stop(DRAIN).unwrap();
        assert_eq!(
            client.recv(&mut [0; 9]).unwrap(),
            1,
            "what had begun is sent"
        );
        assert_conserved(&server);
    }
}
