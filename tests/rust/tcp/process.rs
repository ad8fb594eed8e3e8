//! What holds for a whole process, and so needs one of its own: descriptors, their limit,
//! signals. The child is this test binary, told to run [`child_process`] alone.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rsecho::event::{Level, Queue, What};
use rsecho::server::Change;

use crate::helper::*;

const ROLE: &str = "RSECHO_TEST_CHILD";

/// A server in a process of its own, with a few questions that it answers.
struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Process {
    fn new(engine: Engine) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["process::child_process", "--exact", "--nocapture"])
            .env(ROLE, engine.name())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut process = Self {
            child,
            input,
            output,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let port = process.answer() as u16;
        process.address.set_port(port);
        process
    }

    fn ask(&mut self, question: &str) -> u64 {
        writeln!(self.input, "{question}").unwrap();
        self.answer()
    }

    fn answer(&mut self) -> u64 {
        loop {
            let mut line = String::new();
            let count = self.output.read_line(&mut line).unwrap();
            assert!(count > 0, "the child ended");
            if let Some(answer) = line.trim().strip_prefix("answer ") {
                return answer.parse().unwrap();
            }
        }
    }

    /// Of one CPU, how much the child uses over this time, in percent.
    fn cpu_percent(&mut self, time: Duration) -> u64 {
        let start = Instant::now();
        let before = self.ask("cpu_us");
        std::thread::sleep(time);
        let used = self.ask("cpu_us") - before;
        used * 100 / start.elapsed().as_micros() as u64
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test of its own: the server of the others.
#[test]
fn child_process() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let engine = match role.as_str() {
        "epoll" => Engine::Epoll,
        _ => Engine::Portable,
    };
    // Rust ignores SIGPIPE from the start; a program in another language may not.
    // SAFETY: signal(2) with SIG_DFL installs no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    // stdin, stdout, stderr, and what whoever started the tests let through.
    let inherited = descriptors().into_iter().filter(is_inherited).count();
    let queue = Arc::new(Queue::new(16).unwrap());
    let server = bind_with(engine, Some(Arc::clone(&queue)), |config| {
        config.socket.send_buffer_bytes = Some(16 << 10);
        config.socket.recv_buffer_bytes = Some(64 << 10);
    });
    let answer = |number: u64| println!("\nanswer {number}");
    answer(server.address().port().into());
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let mut words = line.split(' ');
        match words.next().unwrap() {
            "start" => {
                server.start().unwrap();
                answer(0);
            }
            "stop" => {
                server.stop(LONG).unwrap();
                answer(0);
            }
            "fork" => answer(fork_and_sleep()),
            "warnings" => answer(warnings(&queue)),
            "descriptors" => answer(descriptors().len() as u64),
            "inherited" => {
                let now = descriptors().into_iter().filter(is_inherited).count();
                answer((now - inherited) as u64);
            }
            "limit" => answer(limit(words.next().unwrap().parse().unwrap())),
            "cpu_us" => answer(cpu_us()),
            "impair" => {
                let spec = words.collect::<Vec<_>>().join(" ");
                server.impair(&Change { spec, tape: None }).unwrap();
                answer(0);
            }
            counter => {
                let stats = server.stats();
                answer(stats.get(counter) + stats.reason(counter));
            }
        }
    }
}

/// How many lines about descriptors were told since the last call.
fn warnings(queue: &Queue) -> u64 {
    let events = queue.drain(16).into_iter();
    let warnings = events.filter(|event| match &event.what {
        What::Notice {
            level: Level::Warning,
            name: "exhausted",
            text,
            ..
        } => text.contains("ulimit -n"),
        _ => false,
    });
    warnings.count() as u64
}

/// Makes a child that does nothing but hold copies of all descriptors, for a minute.
fn fork_and_sleep() -> u64 {
    // SAFETY: the child calls nothing but alarm(2) and pause(2), async-signal-safe both.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: neither takes a pointer; SIGALRM ends the process (signal(7)).
        unsafe {
            libc::alarm(60);
            loop {
                libc::pause();
            }
        }
    }
    assert!(child > 0);
    child as u64
}

fn descriptors() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    names
        .map(|name| name.to_str().unwrap().parse().unwrap())
        .collect()
}

fn is_inherited(fd: &i32) -> bool {
    // SAFETY: fcntl(2) with F_GETFD takes no pointer.
    let flags = unsafe { libc::fcntl(*fd, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// Sets the soft limit of descriptors; returns the old one.
fn limit(soft: u64) -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: getrlimit(2) and setrlimit(2) write and read the live structure.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        let old = limit.rlim_cur;
        limit.rlim_cur = soft;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
        old
    }
}

fn cpu_us() -> u64 {
    // SAFETY: getrusage(2) writes the live structure; zero is a value of it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &raw mut usage), 0);
        usage
    };
    let us = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    us(usage.ru_utime) + us(usage.ru_stime)
}

fn f25_f26_resets_leave_no_descriptors_behind(engine: Engine) {
    let mut server = Process::new(engine);
    let baseline = server.ask("descriptors");
    let early: Vec<TcpStream> = (0..10).map(|_| connect(server.address)).collect();
    early.into_iter().for_each(reset);
    server.ask("start");
    for round in 1..=50 {
        let client = connect(server.address);
        exchange(&client, &pattern(3_000, round));
        reset(client);
    }
    exchange(&connect(server.address), b"alive");
    eventually("the baseline", || server.ask("descriptors") == baseline);
    eventually("the count", || server.ask("active_connections") == 0);
    assert!(server.ask("reset") >= 50);
}

fn f29_out_of_descriptors_others_are_refused_and_service_comes_back(engine: Engine) {
    let mut server = Process::new(engine);
    server.ask("start");
    let used = server.ask("descriptors");
    server.ask(&format!("limit {}", used + 8));
    let mut clients: Vec<TcpStream> = (0..40).map(|_| connect(server.address)).collect();
    eventually("refusals", || server.ask("refused_connections") > 20);
    let busy = server.cpu_percent(Duration::from_millis(500));
    assert!(busy < 10, "{busy} % of a CPU");
    let warnings = server.ask("warnings");
    assert!((1..=2).contains(&warnings), "{warnings} lines");
    // Those beyond were told so at once; those before them are served.
    clients.retain(is_served);
    // Numbers below the limit that were not in use come on top of the eight.
    assert!((4..20).contains(&clients.len()), "{}", clients.len());
    clients.pop();
    let start = Instant::now();
    eventually("service", || is_served(&connect(server.address)));
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(clients.iter().all(is_served));
}

/// The spare descriptor does not help where the limit was lowered below what is in use.
fn f29_without_even_a_spare_it_rests_and_comes_back(engine: Engine) {
    let mut server = Process::new(engine);
    server.ask("start");
    exchange(&connect(server.address), b"before");
    let old = server.ask("limit 3");
    let clients: Vec<TcpStream> = (0..5).map(|_| connect(server.address)).collect();
    eventually("it noticed", || server.ask("accept_errors") > 0);
    let busy = server.cpu_percent(Duration::from_millis(500));
    assert!(busy < 10, "{busy} % of a CPU");
    assert!(server.ask("warnings") > 0);
    let start = Instant::now();
    server.ask(&format!("limit {old}"));
    assert!(clients.iter().all(is_served), "they waited in the backlog");
    assert!(start.elapsed() < Duration::from_secs(1));
}

fn f33_a_peer_that_goes_while_written_to_raises_no_sigpipe(engine: Engine) {
    let mut server = Process::new(engine);
    server.ask("start");
    for round in 1..=20 {
        let client = connect_small(server.address, 8 << 10);
        // More than can be on its way back, less than waits to be read: the server has all
        // of it and the end of the stream, and output that it cannot get rid of.
        assert_eq!(stuff(&client, 96 << 10), 96 << 10);
        end_output(&client);
        let port = client.local_addr().unwrap().port();
        eventually("the end is there", || {
            is_in_state(port, server.address.port(), FIN_WAIT2)
        });
        eventually("it stalled", || server.ask("pending_bytes") > 0);
        // Now a reset makes its next send EPIPE; without the end of the stream it would be
        // ECONNRESET, which raises no signal.
        reset(client);
        eventually("it ended", || server.ask("reset") == round);
    }
    assert!(server.ask("discarded_bytes") > 0);
    exchange(&connect(server.address), b"alive");
}

/// A child of `fork` has copies of all descriptors; ending a connection ends it for all.
fn f44_copies_in_a_child_do_not_keep_connections_up(engine: Engine) {
    let mut server = Process::new(engine);
    server.ask("start");
    let (client, leaving) = (connect(server.address), connect(server.address));
    exchange(&client, b"before the fork");
    exchange(&leaving, b"before the fork");
    let child = server.ask("fork");
    end_output(&leaving);
    assert!(is_over(&leaving), "answered by an end of stream");
    let busy = server.cpu_percent(Duration::from_millis(300));
    assert!(busy < 10, "{busy} % of a CPU for what the child holds");
    server.ask("stop");
    assert!(is_over(&client));
    let refused = TcpStream::connect_timeout(&server.address, LONG).is_err();
    // SAFETY: kill(2) takes two integers; the process is the one that was made for this.
    unsafe { libc::kill(child as libc::pid_t, libc::SIGKILL) };
    assert!(refused, "the child's copy of the listener does not listen");
}

fn f45_every_descriptor_is_close_on_exec(engine: Engine) {
    let mut server = Process::new(engine);
    server.ask("start");
    let clients: Vec<TcpStream> = (0..5).map(|_| connect(server.address)).collect();
    clients.iter().for_each(|client| exchange(client, b"open"));
    assert!(server.ask("descriptors") > 5 + 3);
    assert_eq!(server.ask("inherited"), 0);
}

/// Whatever a impaired connection waits for, it is waited for asleep.
fn f18_what_is_impaired_on_purpose_costs_no_processor_time(engine: Engine) {
    let mut server = Process::new(engine);
    server.ask("start");
    let mut kept = Vec::new();
    for spec in [
        // The kernel takes no more, and the time of what is held passes.
        "both latency 1ms, slicer 1000 0 10",
        "both bandwidth 1",
        // Its time does not come soon; both are full, so nothing is read.
        "both latency 1h",
        "both latency 1h, slicer 10",
        "in timeout 1h",
        "reset_peer 1h",
        "half_close 10",
        "accept_hang",
    ] {
        server.ask(&format!("impair {spec}"));
        let silent = connect_small(server.address, 16 << 10);
        stuff(&silent, 1 << 20);
        kept.push(silent);
        // One whose end has come, too.
        let ended = connect_small(server.address, 16 << 10);
        stuff(&ended, 10);
        end_output(&ended);
        kept.push(ended);
        let percent = server.cpu_percent(Duration::from_millis(300));
        assert!(percent < 10, "{percent} % with {spec}");
    }
    #[cfg(target_os = "linux")]
    {
        server.ask("impair refuse");
        let percent = server.cpu_percent(Duration::from_millis(300));
        assert!(percent < 10, "{percent} % while shut");
    }
    server.ask("impair ");
    let percent = server.cpu_percent(Duration::from_millis(300));
    assert!(percent < 10, "{percent} % afterwards");
    exchange(&connect(server.address), b"and serves");
}

on_both_engines!(
    f18_what_is_impaired_on_purpose_costs_no_processor_time,
    f25_f26_resets_leave_no_descriptors_behind,
    f29_out_of_descriptors_others_are_refused_and_service_comes_back,
    f29_without_even_a_spare_it_rests_and_comes_back,
    f33_a_peer_that_goes_while_written_to_raises_no_sigpipe,
    f44_copies_in_a_child_do_not_keep_connections_up,
    f45_every_descriptor_is_close_on_exec,
);
