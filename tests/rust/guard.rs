//! Whom the UDP server does not answer, on real sockets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rsecho::event::{Level, Queue, What};
use rsecho::guard::{Policy, Rate};
use rsecho::respond::Choice;
use rsecho::server::{EngineChoice, Listen, Server, udp};
use socket2::{Domain, Socket, Type};

/// Far more than any of this takes.
const PATIENCE: Duration = Duration::from_secs(10);

const ENGINES: [(EngineChoice, &str); 2] = [
    #[cfg(target_os = "linux")]
    (EngineChoice::Batch, "batch"),
    #[cfg(not(target_os = "linux"))]
    (EngineChoice::Auto, "portable"),
    (EngineChoice::Portable, "portable"),
];

fn config(host: &str, engine: EngineChoice) -> udp::Config {
    udp::Config {
        engine,
        ..udp::Config::new(Listen::at(host, 0))
    }
}

#[track_caller]
fn assert_conserved(server: &Server) {
    let stats = server.stats();
    let accounted = stats.get("sent_packets") + stats.reasons_total();
    let came = stats.get("received_packets") + stats.get("duplicated_packets");
    assert_eq!(came, accounted + stats.get("pending_packets"), "{stats:?}");
}

#[track_caller]
fn until(mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < deadline, "it did not happen in time");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The lines of this name so far.
fn lines(queue: &Queue, wanted: &str) -> Vec<String> {
    let events = queue.drain(usize::MAX).into_iter();
    let line = |what| match what {
        What::Notice {
            level: Level::Warning,
            name,
            text,
            ..
        } if name == wanted => Some(text),
        _ => None,
    };
    events.filter_map(|event| line(event.what)).collect()
}

/// Two servers that are bound, not started, and share their queue of events.
fn two_servers(
    host: &str,
    engine: EngineChoice,
    ttl: Option<u8>,
    change: impl Fn(&mut udp::Config),
) -> ([Server; 2], Arc<Queue>) {
    let queue = Arc::new(Queue::new(4096).unwrap());
    let server = || {
        let mut config = config(host, engine);
        // So that somebody else can send from its address: see `forge`.
        config.socket.reuse_port = Some(true);
        config.socket.ttl = ttl;
        change(&mut config);
        Server::udp(config, Some(Arc::clone(&queue))).unwrap()
    };
    ([server(), server()], queue)
}

/// Sends a datagram that claims to be from `from`, which is not started yet: its own socket
/// is the only one there again once it is.
fn forge(from: SocketAddr, to: SocketAddr, payload: &[u8]) {
    let socket = Socket::new(Domain::for_address(from), Type::DGRAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&from.into()).unwrap();
    socket.send_to(payload, &to.into()).unwrap();
}

/// Starts a loop of so many datagrams of different lengths between two servers; their counts of
/// received datagrams once it has ended by itself.
fn run_loop(
    host: &str,
    engine: (EngineChoice, &str),
    ttl: Option<u8>,
    forged: usize,
    change: impl Fn(&mut udp::Config),
) -> [u64; 2] {
    let (servers, queue) = two_servers(host, engine.0, ttl, change);
    for number in 0..forged {
        // All of them are there when the servers start.
        let (from, to) = (servers[0].address(), servers[1].address());
        forge(from, to, &vec![number as u8; 10 + 3 * (number % 400)]);
    }
    for server in &servers {
        assert_eq!(server.engine(), engine.1);
        server.start().unwrap();
    }
    let dropped = |server: &Server| server.stats().reason("echo_loop");
    let copied = |server: &Server| server.stats().get("duplicated_packets");
    // Nothing is on the way any more once each was dropped.
    until(|| {
        let all: u64 = servers.iter().map(copied).sum();
        servers.iter().map(dropped).sum::<u64>() == forged as u64 + all
    });
    let told = lines(&queue, "echo_loop");
    assert!((1..=2).contains(&told.len()), "{told:?}");
    let ports = servers.each_ref().map(|server| server.address().port());
    let names = |port: &u16| told[0].contains(&format!(":{port}: its datagram "));
    assert!(ports.iter().any(names), "{told:?}");
    servers.each_ref().map(|server| {
        server.stop(PATIENCE).unwrap();
        assert_conserved(server);
        server.stats().get("received_packets")
    })
}

#[test]
fn f17_a_loop_between_two_servers_ends_within_64_rounds() {
    for engine in ENGINES {
        for host in ["127.0.0.1", "::1", "0.0.0.0"] {
            let rounds = run_loop(host, engine, None, 1, |_| {});
            assert!(
                rounds.iter().all(|rounds| (2..=64).contains(rounds)),
                "{host} {rounds:?}"
            );
        }
    }
}

#[test]
fn f17_with_a_low_hop_limit_of_their_own_too() {
    for engine in ENGINES {
        for host in ["127.0.0.1", "::1"] {
            let rounds = run_loop(host, engine, Some(2), 1, |_| {});
            assert!(
                rounds.iter().all(|rounds| (1..=64).contains(rounds)),
                "{host} {rounds:?}"
            );
        }
    }
}

#[test]
fn f17_any_number_that_goes_round_at_once_ends() {
    for engine in ENGINES {
        for host in ["127.0.0.1", "::1"] {
            for forged in [2, 10, 17, 20, 100, 500] {
                let rounds = run_loop(host, engine, None, forged, |config| {
                    config.socket.recv_buffer_bytes = Some(8 << 20);
                });
                let most = 64 * forged as u64;
                assert!(
                    rounds.iter().all(|rounds| *rounds <= most),
                    "{host} {forged} {rounds:?}"
                );
            }
        }
    }
}

#[test]
fn f17_with_several_workers_and_other_answers_too() {
    let changes: [fn(&mut udp::Config); 3] = [
        |config| config.responder = "upper".parse::<Choice>().unwrap().make(),
        |config| config.responder = "prefix=>".parse::<Choice>().unwrap().make(),
        |config| config.impair = "delay 1ms 1ms".parse().unwrap(),
    ];
    for engine in ENGINES {
        for change in changes {
            let rounds = run_loop("127.0.0.1", engine, None, 20, |config| {
                config.socket.recv_buffer_bytes = Some(8 << 20);
                change(config);
            });
            assert!(rounds.iter().all(|rounds| *rounds <= 64 * 20), "{rounds:?}");
        }
    }
}

#[test]
fn f17_duplicates_on_purpose_share_the_bound() {
    for engine in ENGINES {
        for impair in [
            "out duplicate 100%",
            "in duplicate 100%",
            "both duplicate 100%",
        ] {
            for forged in [1, 20] {
                let all = run_loop("127.0.0.1", engine, None, forged, |config| {
                    config.socket.recv_buffer_bytes = Some(8 << 20);
                    config.impair = impair.parse().unwrap();
                });
                let most = 128 * forged as u64;
                assert!(
                    all.iter().all(|came| *came <= most),
                    "{impair} {forged} {all:?}"
                );
            }
        }
    }
}

/// Servers that answer like this, and one forged datagram: how many each received once all is
/// over, and why the last one was not answered.
fn run_answers(engine: (EngineChoice, &str), answer: &str, forged: &[u8]) -> ([u64; 2], String) {
    let choice: Choice = answer.parse().unwrap();
    let server = || {
        let mut config = config("127.0.0.1", engine.0);
        config.socket.reuse_port = Some(true);
        config.responder = choice.make();
        Server::udp(config, None).unwrap()
    };
    let servers = [server(), server()];
    forge(servers[0].address(), servers[1].address(), forged);
    for server in &servers {
        assert_eq!(server.engine(), engine.1);
        server.start().unwrap();
    }
    // Each round answers one datagram with one, so it is over once one was dropped.
    until(|| {
        let dropped = servers
            .each_ref()
            .map(|server| server.stats().reasons_total());
        dropped.iter().sum::<u64>() == 1
    });
    let reasons = ["echo_loop", "error_reply"];
    let reason = reasons.iter().find(|reason| {
        let stats = servers.each_ref().map(|server| server.stats());
        stats.iter().any(|stats| stats.reason(reason) == 1)
    });
    let received = servers.each_ref().map(|server| {
        server.stop(PATIENCE).unwrap();
        assert_conserved(server);
        server.stats().get("received_packets")
    });
    (
        received,
        reason.map_or("another", |reason| reason).to_owned(),
    )
}

#[test]
fn f17_servers_whose_answers_change_each_round_end_it_too() {
    for engine in ENGINES {
        for (answer, forged, wanted) in [
            ("upper", &b"round and round"[..], "echo_loop"),
            ("upper", b"\xff\xfe", "echo_loop"),
            ("prefix=Echo: ", b"longer each round", "echo_loop"),
            ("upper+prefix=Echo: ", b"", "echo_loop"),
            // An error at first, which is text to the other one.
            ("prefix=Echo: ", b"\xff\xfe", "echo_loop"),
            ("command", b"TIME", "error_reply"),
            ("command", b"ECHO ECHO ECHO TIME", "error_reply"),
            ("command", b"neither", "error_reply"),
        ] {
            let (rounds, reason) = run_answers(engine, answer, forged);
            assert!(
                rounds.iter().all(|rounds| *rounds <= 64) && rounds[0] + rounds[1] > 1,
                "{answer} {forged:?} {rounds:?}"
            );
            assert_eq!(reason, wanted, "{answer} {forged:?} {rounds:?}");
        }
    }
}

#[test]
fn a_client_that_asks_the_same_in_lock_step_loses_nothing_by_default() {
    for (engine, name) in ENGINES {
        let server = Server::udp(config("127.0.0.1", engine), None).unwrap();
        assert_eq!(server.engine(), name);
        server.start().unwrap();
        let (client, mut buffer) = (client(server.address(), 0), [0; 100]);
        for round in 0..20_000 {
            client.send(b"ping").unwrap();
            assert_eq!(client.recv(&mut buffer).unwrap(), 4, "{round}");
        }
        server.stop(PATIENCE).unwrap();
        assert_eq!(server.stats().reasons_total(), 0);
        assert_eq!(server.stats().get("sent_packets"), 20_000);
    }
}

#[test]
fn f17_dual_stack_sockets_end_an_ipv4_loop() {
    for (engine, _) in ENGINES {
        let queue = Arc::new(Queue::new(4096).unwrap());
        let mut config = config("::", engine);
        config.socket.ipv6_only = Some(false);
        config.socket.reuse_port = Some(true);
        let dual = Server::udp(config, Some(Arc::clone(&queue))).unwrap();
        let ([plain, _], _) = two_servers("127.0.0.1", engine, None, |_| {});
        let dual_v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, dual.address().port()));
        forge(plain.address(), dual_v4, b"round and round");
        dual.start().unwrap();
        plain.start().unwrap();
        let dropped = |server: &Server| server.stats().reason("echo_loop");
        until(|| dropped(&dual) + dropped(&plain) == 1);
        for server in [&dual, &plain] {
            assert!(server.stats().get("received_packets") < 64);
        }
    }
}

/// A client whose datagrams have this hop limit; 0: the system's.
fn client(server: SocketAddr, ttl: u32) -> UdpSocket {
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    if ttl > 0 {
        client.set_ttl(ttl).unwrap();
    }
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.connect(server).unwrap();
    client
}

#[test]
fn clients_are_served_whatever_hop_limit_they_choose() {
    for (engine, _) in ENGINES {
        let server = Server::udp(config("127.0.0.1", engine), None).unwrap();
        server.start().unwrap();
        let mut buffer = [0; 100];
        for ttl in [0, 1, 2, 31, 32, 33, 128, 255] {
            let client = client(server.address(), ttl);
            for _ in 0..400 {
                client.send(b"the same every time").unwrap();
                assert_eq!(client.recv(&mut buffer).unwrap(), 19);
            }
        }
        assert_eq!(server.stats().reasons_total(), 0);
        server.stop(PATIENCE).unwrap();
    }
}

#[test]
fn f17_without_the_loop_guard_it_would_go_on() {
    let queue = Arc::new(Queue::new(64).unwrap());
    let server = || {
        let mut config = config("127.0.0.1", EngineChoice::Auto);
        config.socket.reuse_port = Some(true);
        config.guard.loop_guard = false;
        Server::udp(config, Some(Arc::clone(&queue))).unwrap()
    };
    let servers = [server(), server()];
    forge(
        servers[0].address(),
        servers[1].address(),
        b"round and round",
    );
    servers.iter().for_each(|server| server.start().unwrap());
    until(|| servers[0].stats().get("received_packets") > 1000);
    for server in &servers {
        server.stop(Duration::ZERO).unwrap();
    }
}

/// Datagrams that go round between the server and something that sends everything back;
/// how many there were, once that is over.
fn against_an_echo(server: &Server) -> u64 {
    let echo = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    echo.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    // As if somebody had forged it.
    echo.send_to(b"round and round", server.address()).unwrap();
    let (mut buffer, mut rounds) = ([0; 100], 0);
    while let Ok((length, from)) = echo.recv_from(&mut buffer) {
        rounds += 1;
        echo.send_to(&buffer[..length], from).unwrap();
    }
    rounds
}

#[test]
fn f17_an_echo_that_does_not_protect_itself_ends_at_its_limit() {
    for (engine, _) in ENGINES {
        for (burst, most) in [(4, 10), (100, 200)] {
            let queue = Arc::new(Queue::new(64).unwrap());
            let mut config = config("127.0.0.1", engine);
            config.guard.rate_per_source = Some(Rate::new(100.0, Some(burst)));
            let server = Server::udp(config, Some(Arc::clone(&queue))).unwrap();
            server.start().unwrap();
            let rounds = against_an_echo(&server);
            assert!((u64::from(burst)..most).contains(&rounds), "{rounds}");
            server.stop(PATIENCE).unwrap();
            assert_eq!(server.stats().reason("rate_limited"), 1);
            assert_conserved(&server);
        }
    }
}

/// Asks at this pace whatever comes back; how many answers there were.
fn ask(server: &Server, times: u32, pause: Duration) -> u64 {
    let client = client(server.address(), 0);
    client.set_nonblocking(true).unwrap();
    let (start, mut answers, mut buffer) = (Instant::now(), 0, [0; 100]);
    let mut take = || {
        while client.recv(&mut buffer).is_ok() {
            answers += 1;
        }
    };
    for number in 0..times {
        client.send(b"the same every time").unwrap();
        take();
        let due = start + pause * (number + 1);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    until(|| server.stats().get("received_packets") >= u64::from(times));
    std::thread::sleep(Duration::from_millis(20));
    take();
    answers
}

#[test]
fn a_client_at_twice_its_rate_gets_its_rate() {
    for (engine, _) in ENGINES {
        let mut config = config("127.0.0.1", engine);
        config.guard.rate_per_source = Some(Rate::new(500.0, Some(10)));
        let server = Server::udp(config, None).unwrap();
        server.start().unwrap();
        let start = Instant::now();
        let answers = ask(&server, 1000, Duration::from_millis(1));
        let seconds = start.elapsed().as_secs_f64();
        server.stop(PATIENCE).unwrap();
        let stats = server.stats();
        assert_eq!(stats.get("sent_packets"), answers);
        assert!(
            answers as f64 <= 500.0 * seconds + 10.0,
            "{answers} in {seconds} s"
        );
        // A busy machine may have sent late: what it had sent in time is answered.
        assert!(answers >= 450, "{answers} in {seconds} s");
        assert_conserved(&server);
    }
}

#[test]
fn many_sources_share_the_total_and_each_has_its_own() {
    let mut config = config("127.0.0.1", EngineChoice::Auto);
    config.socket.recv_buffer_bytes = Some(4 << 20);
    config.guard.rate_per_source = Some(Rate::new(0.001, Some(3)));
    config.guard.rate_total = Some(Rate::new(0.001, Some(20)));
    config.workers = 2;
    let server = Server::udp(config, None).unwrap();
    let source = |last| UdpSocket::bind((IpAddr::from([127, 0, 1, last]), 0)).unwrap();
    let sources: Vec<UdpSocket> = (1..=100).map(source).collect();
    for _ in 0..5 {
        for source in &sources {
            source.send_to(b"hello", server.address()).unwrap();
        }
    }
    server.start().unwrap();
    until(|| server.stats().get("received_packets") == 500);
    server.stop(PATIENCE).unwrap();
    let stats = server.stats();
    assert_eq!(stats.get("sent_packets"), 20, "{stats:?}");
    assert!(stats.reason("rate_limited_total") > 0);
    assert_conserved(&server);
}

#[test]
fn f02_access_rules_see_the_plain_ipv4_address_on_a_dual_stack_socket() {
    for (engine, _) in ENGINES {
        let mut config = config("::", engine);
        config.socket.ipv6_only = Some(false);
        config.guard.allow = vec!["127.0.0.0/8".parse().unwrap()];
        config.guard.deny = vec!["127.0.0.7".parse().unwrap()];
        let server = Server::udp(config, None).unwrap();
        server.start().unwrap();
        let port = server.address().port();
        let ask = |from: &str| {
            let socket = UdpSocket::bind((from, 0)).unwrap();
            let to = if from.contains(':') {
                "::1"
            } else {
                "127.0.0.1"
            };
            socket.send_to(from.as_bytes(), (to, port)).unwrap();
            socket
        };
        let denied = [ask("127.0.0.7"), ask("::1")];
        let allowed = ask("127.0.0.8");
        allowed.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(allowed.recv(&mut [0; 100]).unwrap(), 9);
        until(|| server.stats().reason("denied") == 2);
        for socket in denied {
            socket.set_nonblocking(true).unwrap();
            assert!(socket.recv(&mut [0; 100]).is_err());
        }
        assert_conserved(&server);
    }
}

#[test]
fn what_can_never_work_is_refused_at_the_start() {
    let bad = |change: fn(&mut Policy)| {
        let mut config = config("127.0.0.1", EngineChoice::Auto);
        change(&mut config.guard);
        assert!(Server::udp(config, None).unwrap_err().is_argument());
    };
    bad(|guard| guard.max_amplification = Some(0.5));
    bad(|guard| guard.max_amplification = Some(f64::NAN));
    bad(|guard| {
        guard.rate_total = Some(Rate {
            per_second: 0.0,
            burst: 1,
        });
    });
    bad(|guard| {
        guard.rate_per_source = Some(Rate {
            per_second: 1.0,
            burst: 0,
        });
    });
}
