//! The UDP server on real sockets: one suite, run against every engine.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rsecho::respond::{MakeResponder, Replies, Request, Respond};
use rsecho::server::{EngineChoice, Listen, Server, Wait, udp};
use rsecho::worker::Finish;

#[path = "udp/stopping.rs"]
mod stopping;

/// Far more than any of this takes.
const PATIENCE: Duration = Duration::from_secs(10);

fn config(host: &str, engine: EngineChoice) -> udp::Config {
    udp::Config {
        engine,
        ..udp::Config::new(Listen::at(host, 0))
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

/// Runs a test that looks at the whole process in a process of its own: this binary, told
/// to run that test alone.
#[track_caller]
fn alone(name: &str, test: impl FnOnce()) {
    const ALONE: &str = "RSECHO_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}\n{errors}");
    assert!(shown.contains("1 passed"), "{shown}");
}

/// CPU time of this process: getrusage(2).
fn cpu_time() -> Duration {
    // SAFETY: zero is a value of rusage (plain integers).
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: getrusage(2) fills one live structure.
    let done = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    assert_eq!(done, 0);
    [usage.ru_utime, usage.ru_stime]
        .iter()
        .map(|t| Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64))
        .sum()
}

/// Each has got its datagrams back, the first byte of which is their number.
#[track_caller]
fn assert_answered_in_order(clients: &[UdpSocket], datagrams: u8) {
    let mut buffer = [0; 100];
    for client in clients {
        for number in 0..datagrams {
            assert_eq!(client.recv(&mut buffer).unwrap(), 30);
            assert_eq!(buffer[..30], [number; 30]);
        }
    }
}

/// Fault 18, on a server that is not started yet.
fn clients_vanish(server: &Server, address: SocketAddr) {
    let staying = client(address);
    let vanish = || {
        // Its port is closed when the replies come: each is answered by an ICMP error.
        let gone = client(address);
        for _ in 0..3 {
            gone.send(&[0xEE; 100]).unwrap();
        }
    };
    for number in 0..20 {
        vanish();
        staying.send(&[number; 100]).unwrap();
    }
    server.start().unwrap();
    let mut buffer = [0; 200];
    for number in 0..20 {
        assert_eq!(staying.recv(&mut buffer).unwrap(), 100);
        assert_eq!(buffer[..100], [number; 100]);
    }
    for number in 0..200 {
        vanish();
        assert_echo(&staying, &[number; 50]);
    }
    let (before, start) = (cpu_time(), Instant::now());
    std::thread::sleep(Duration::from_millis(600));
    let used = cpu_time() - before;
    assert!(used * 20 < start.elapsed(), "{used:?} while idle");
    assert_echo(&staying, b"still here");
    server.stop(PATIENCE).unwrap();
    assert_eq!(server.stats().get("received_packets"), 4 * 220 + 1);
    assert_conserved(server);
}

macro_rules! suite {
    ($engine:ident, $choice:expr, $name:literal, $way:path) => {
        mod $engine {
            use super::*;

            fn config(host: &str) -> udp::Config {
                $way(super::config(host, $choice))
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
            fn f18_a_client_that_vanishes_costs_nothing_and_nobody_else() {
                alone(
                    concat!(
                        stringify!($engine),
                        "::f18_a_client_that_vanishes_costs_nothing_and_nobody_else"
                    ),
                    || {
                        let server = Server::udp(config("127.0.0.1"), None).unwrap();
                        assert_eq!(server.engine(), $name);
                        clients_vanish(&server, server.address());
                    },
                );
            }

            #[test]
            fn f23_what_is_queued_for_each_of_several_workers_is_answered() {
                let mut config = config("127.0.0.1");
                config.workers = 4;
                let server = Server::udp(config, None).unwrap();
                let clients: Vec<UdpSocket> = (0..64).map(|_| client(server.address())).collect();
                for number in 0..5u8 {
                    for client in &clients {
                        client.send(&[number; 30]).unwrap();
                    }
                }
                server.start().unwrap();
                server.stop(PATIENCE).unwrap();
                assert_answered_in_order(&clients, 5);
                assert_eq!(server.stats().get("received_packets"), 5 * 64);
                assert_eq!(server.stats().get("sent_packets"), 5 * 64);
            }

            #[test]
            fn f23_one_of_several_servers_of_a_port_ends_and_loses_nothing() {
                let sharing = |port| {
                    let mut config = config("127.0.0.1");
                    config.socket.reuse_port = Some(true);
                    let Listen::At { port: at, .. } = &mut config.listen else {
                        unreachable!("see above");
                    };
                    *at = port;
                    Server::udp(config, None).unwrap()
                };
                let first = sharing(0);
                let second = sharing(first.address().port());
                assert_eq!((first.engine(), second.engine()), ($name, $name));
                let clients: Vec<UdpSocket> = (0..64).map(|_| client(first.address())).collect();
                for number in 0..5u8 {
                    for client in &clients {
                        client.send(&[number; 30]).unwrap();
                    }
                }
                // It answers what the kernel gave it, and what comes later is the other's.
                first.start().unwrap();
                first.stop(PATIENCE).unwrap();
                second.start().unwrap();
                assert_answered_in_order(&clients, 5);
                for client in &clients {
                    assert_echo(client, b"one is left");
                }
                second.stop(PATIENCE).unwrap();
                let counts = [&first, &second].map(|server| {
                    assert_conserved(server);
                    server.stats().get("sent_packets")
                });
                assert!(counts[0] > 0 && counts[1] > 64, "{counts:?}");
                assert_eq!(counts.iter().sum::<u64>(), 6 * 64);
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
            fn is_not_idle_while_one_of_its_workers_is_busy() {
                let mut config = config("127.0.0.1");
                config.idle_timeout = Some(Duration::from_millis(500));
                config.workers = 3;
                let server = start(config);
                // One peer, which the kernel gives to one worker.
                let client = client(server.address());
                let start_at = Instant::now();
                while start_at.elapsed() < Duration::from_millis(1500) {
                    assert_echo(&client, b"busy");
                    std::thread::sleep(Duration::from_millis(5));
                }
                assert!(server.is_running());
                assert_eq!(server.wait(PATIENCE).unwrap(), Some(Finish::Idle));
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

suite!(batch, EngineChoice::Auto, "batch", echoed);
suite!(portable, EngineChoice::Portable, "portable", echoed);
suite!(batch_answered, EngineChoice::Auto, "batch", answered);
suite!(
    portable_answered,
    EngineChoice::Portable,
    "portable",
    answered
);
suite!(batch_held, EngineChoice::Auto, "batch", held);
suite!(portable_held, EngineChoice::Portable, "portable", held);

/// The hot loop's own way.
fn echoed(config: udp::Config) -> udp::Config {
    config
}

/// The same answer from a responder, by the other loop.
fn answered(mut config: udp::Config) -> udp::Config {
    struct Same;
    impl Respond for Same {
        fn respond(&mut self, requests: &[Request<'_>], replies: &mut Replies) {
            // Asked again for those that it leaves.
            for request in &requests[..requests.len().min(10)] {
                replies.reply(request.data);
            }
        }
    }
    config.responder = Some(MakeResponder::new(|_| Box::new(Same)));
    config
}

/// Each datagram and each reply held back for a moment.
fn held(mut config: udp::Config) -> udp::Config {
    config.impair = "both delay 1us".parse().unwrap();
    config
}

#[test]
fn f43_a_responder_that_panics_leaves_a_server_that_says_so() {
    struct Panics;
    impl Respond for Panics {
        fn respond(&mut self, _: &[Request<'_>], _: &mut Replies) {
            panic!("as asked");
        }
    }
    for engine in [EngineChoice::Auto, EngineChoice::Portable] {
        let mut config = config("127.0.0.1", engine);
        config.responder = Some(MakeResponder::new(|_| Box::new(Panics)));
        let server = start(config);
        client(server.address()).send(b"x").unwrap();
        let finish = server.wait(PATIENCE).unwrap().expect("it ends");
        assert!(matches!(&finish, Finish::Panicked(text) if text.contains("as asked")));
        assert!(!finish.is_healthy() && !server.is_running());
        // Nobody who asks for the statistics waits for the one that is gone.
        assert_eq!(server.stats().get("received_packets"), 1);
    }
}

#[test]
fn f03_a_link_local_address_needs_its_interface() {
    let error = Server::udp(config("fe80::1", EngineChoice::Auto), None).unwrap_err();
    assert!(error.is_argument(), "{error}");
    assert!(error.to_string().contains("as in fe80::1%"), "{error}");
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use std::os::fd::AsRawFd;

    fn set_udp_option(socket: &UdpSocket, name: libc::c_int, value: libc::c_int) {
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: setsockopt(2) reads one live integer.
        let done = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                17,
                name,
                (&raw const value).cast(),
                length,
            )
        };
        assert_eq!(done, 0);
    }

    const UDP_SEGMENT: libc::c_int = 103;

    /// Fault 18 where the errors really come: on a socket that somebody passed in having
    /// asked for them (IP_RECVERR, ip(7)).
    fn vanish_on_a_socket_that_tells_errors(engine: EngineChoice) {
        let own = socket2::Socket::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        let on: libc::c_int = 1;
        // SAFETY: setsockopt(2) reads one live integer.
        let done = unsafe {
            let on = (&raw const on).cast();
            libc::setsockopt(own.as_raw_fd(), libc::IPPROTO_IP, libc::IP_RECVERR, on, 4)
        };
        assert_eq!(done, 0);
        let mut config = super::config("", engine);
        config.listen = Listen::On(rsecho::socket::adopt(own.as_raw_fd()).unwrap());
        let server = Server::udp(config, None).unwrap();
        clients_vanish(&server, own.local_addr().unwrap().as_socket().unwrap());
    }

    #[test]
    fn f18_with_errors_told_batch() {
        alone("linux::f18_with_errors_told_batch", || {
            vanish_on_a_socket_that_tells_errors(EngineChoice::Batch);
        });
    }

    #[test]
    fn f18_with_errors_told_portable() {
        alone("linux::f18_with_errors_told_portable", || {
            vanish_on_a_socket_that_tells_errors(EngineChoice::Portable);
        });
    }

    #[test]
    fn f07_a_train_comes_back_as_the_datagrams_that_it_was() {
        let server = super::start(super::config("127.0.0.1", EngineChoice::Batch));
        assert_eq!(server.engine(), "batch");
        let client = client(server.address());
        set_udp_option(&client, UDP_SEGMENT, 1000);
        let train: Vec<u8> = (0..3200u32).map(|i| (i / 1000) as u8).collect();
        client.send(&train).unwrap();
        let mut buffer = [0; 4000];
        for (length, byte) in [(1000, 0), (1000, 1), (1000, 2), (200, 3)] {
            assert_eq!(client.recv(&mut buffer).unwrap(), length);
            assert!(buffer[..length].iter().all(|found| *found == byte));
        }
        assert_eq!(server.stats().get("received_packets"), 4);
        assert_conserved(&server);
    }

    /// Reads the drops that /proc/net/udp gives for a port: another way of asking than ours.
    fn drops_in_proc(port: u16) -> u64 {
        let table = std::fs::read_to_string("/proc/net/udp").unwrap();
        let wanted = format!(":{port:04X}");
        let line = table.lines().find(|l| {
            l.split_whitespace()
                .nth(1)
                .is_some_and(|a| a.ends_with(&wanted))
        });
        line.unwrap()
            .split_whitespace()
            .last()
            .unwrap()
            .parse()
            .unwrap()
    }

    #[test]
    fn f19_the_drop_counter_is_the_kernels() {
        for engine in [EngineChoice::Batch, EngineChoice::Portable] {
            let mut config = super::config("127.0.0.1", engine);
            config.socket.recv_buffer_bytes = Some(1);
            let server = Server::udp(config, None).unwrap();
            let client = client(server.address());
            for _ in 0..50 {
                client.send(&[7; 1400]).unwrap();
            }
            let dropped = server.stats().kernel_drops.unwrap();
            assert!(dropped > 0);
            assert_eq!(dropped, drops_in_proc(server.address().port()));
            server.start().unwrap();
            server.stop(PATIENCE).unwrap();
            let stats = server.stats();
            assert_eq!(
                stats.get("received_packets") + stats.kernel_drops.unwrap(),
                50
            );
        }
    }

    #[test]
    fn every_way_of_waiting_echoes_and_stops() {
        for wait in [Wait::Balanced, Wait::Latency, Wait::Busy] {
            for engine in [EngineChoice::Batch, EngineChoice::Portable] {
                let mut config = super::config("127.0.0.1", engine);
                config.wait = wait;
                config.idle_timeout = Some(Duration::from_secs(60));
                let server = super::start(config);
                let client = client(server.address());
                for number in 0..100u8 {
                    client.send(&[number; 3]).unwrap();
                    client.send(&[number; 3]).unwrap();
                    let mut buffer = [0; 8];
                    assert_eq!(client.recv(&mut buffer).unwrap(), 3);
                    assert_eq!(client.recv(&mut buffer).unwrap(), 3);
                    assert_eq!(buffer[..3], [number; 3]);
                }
                let start = Instant::now();
                server.stop(PATIENCE).unwrap();
                assert!(start.elapsed() < Duration::from_millis(100));
            }
        }
    }

    #[test]
    fn workers_keep_to_the_cpus_that_they_were_given() {
        let mut config = super::config("127.0.0.1", EngineChoice::Auto);
        config.cpus = vec![0];
        let server = super::start(config);
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let kept = tasks.filter_map(|task| {
            let status = std::fs::read_to_string(task.ok()?.path().join("status")).ok()?;
            let cpus = status
                .lines()
                .find_map(|l| l.strip_prefix("Cpus_allowed_list:"))?
                .trim()
                .to_owned();
            (status.contains("rsecho-udp") && cpus == "0").then_some(())
        });
        // The worker binds itself once it runs: an echo says that it does.
        assert_echo(&client(server.address()), b"settled");
        assert!(kept.count() >= 1);
        let mut config = super::config("127.0.0.1", EngineChoice::Auto);
        config.cpus = vec![100_000];
        assert!(Server::udp(config, None).unwrap_err().is_argument());
    }

    #[test]
    fn f12_interleaved_peers_never_get_each_others_payloads_batch() {
        interleave_peers(super::config("127.0.0.1", EngineChoice::Batch), 1_000_000);
    }

    #[test]
    fn f12_nor_where_they_are_answered_or_held() {
        for engine in [EngineChoice::Batch, EngineChoice::Portable] {
            let config = super::config("127.0.0.1", engine);
            interleave_peers(answered(config), 100_000);
            let config = super::config("127.0.0.1", engine);
            interleave_peers(held(config), 100_000);
        }
    }

    #[test]
    fn f12_interleaved_peers_never_get_each_others_payloads_portable() {
        interleave_peers(
            super::config("127.0.0.1", EngineChoice::Portable),
            1_000_000,
        );
    }

    fn interleave_peers(mut config: udp::Config, datagrams: usize) {
        const PEERS: usize = 200;
        let rounds = datagrams / PEERS;
        config.socket.recv_buffer_bytes = Some(4 << 20);
        let server = super::start(config);
        let clients: Vec<UdpSocket> = (0..PEERS).map(|_| client(server.address())).collect();
        let mut buffer = [0; 64];
        for round in 0..rounds {
            for (number, client) in clients.iter().enumerate() {
                let payload = ((round * PEERS + number) as u64).to_be_bytes();
                client.send(&payload[..]).unwrap();
            }
            for (number, client) in clients.iter().enumerate() {
                let length = client.recv(&mut buffer).unwrap();
                assert_eq!(
                    buffer[..length],
                    ((round * PEERS + number) as u64).to_be_bytes()
                );
            }
        }
        // Nothing more for anyone.
        for client in &clients {
            client.set_nonblocking(true).unwrap();
            assert!(client.recv(&mut buffer).is_err());
        }
        assert_conserved(&server);
    }
}
