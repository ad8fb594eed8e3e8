//! received = answered + Σ dropped, and sent = received + what the kernel dropped.

use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rsecho::server::{EngineChoice, Listen, Server, Stats, udp};
use rsecho::socket::{SocketOptions, Value};

use crate::traffic::Traffic;

pub(crate) const BUFFER: usize = 4 << 20;

pub(crate) fn config(engine: EngineChoice, recv_buffer_bytes: Option<usize>) -> udp::Config {
    let socket = SocketOptions {
        recv_buffer_bytes,
        force_buffers: true,
        ..SocketOptions::default()
    };
    udp::Config {
        socket,
        engine,
        ..udp::Config::new(Listen::at("127.0.0.1", 0))
    }
}

/// What may be on its way to a server at a time: well within what its receive buffer got.
pub(crate) fn window(server: &Server) -> usize {
    let report = server.report();
    let buffer = report.get("recv_buffer_bytes");
    match buffer.and_then(|option| option.effective.as_ref()) {
        Some(Value::Number(bytes)) => *bytes as usize / 4,
        _ => 32 << 10,
    }
}

fn assert_balanced(stats: &Stats) {
    let (received, answered) = (stats.get("received_packets"), stats.get("sent_packets"));
    assert_eq!(received, answered + stats.reasons_total(), "{stats:?}");
}

/// Many datagrams, none lost, each echo compared; somebody looks at the books meanwhile.
pub(crate) fn balance(engine: EngineChoice, datagrams: u64) -> Result<(), Box<dyn Error>> {
    let server = Server::udp(config(engine, Some(BUFFER)), None)?;
    server.start()?;
    let mut traffic = Traffic::new(server.address(), window(&server))?;
    let start = Instant::now();
    let (is_over, looks) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        let looking = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                assert_balanced(&server.stats());
                looks.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
        });
        let mut done = Ok(());
        let mut tenth = datagrams / 10;
        while done.is_ok() && traffic.sent < datagrams && !looking.is_finished() {
            done = traffic.exchange();
            if traffic.sent >= tenth {
                tenth += datagrams / 10;
                show(&server, &traffic, looks.load(Ordering::Relaxed), start);
            }
        }
        is_over.store(true, Ordering::Relaxed);
        looking.join().expect("the books balance at any moment");
        done.map_err(|error| format!("no echo: {error}; {:?}", server.stats()).into())
    })?;
    server.stop(Duration::from_secs(10))?;
    show(&server, &traffic, looks.load(Ordering::Relaxed), start);
    let stats = server.stats();
    assert_balanced(&stats);
    assert_eq!(
        stats.kernel_drops,
        Some(0),
        "the window keeps within the buffer"
    );
    assert_eq!(stats.get("received_packets"), traffic.sent);
    assert_eq!(stats.reasons_total(), traffic.forged);
    Ok(())
}

/// More at once than the receive buffer holds.
pub(crate) fn overrun(engine: EngineChoice) -> Result<(), Box<dyn Error>> {
    let server = Server::udp(config(engine, Some(64 << 10)), None)?;
    let mut traffic = Traffic::new(server.address(), 0)?;
    let start = Instant::now();
    // First with nobody reading, then beside a server that does.
    traffic.burst(10_000)?;
    server.start()?;
    traffic.burst(90_000)?;
    server.stop(Duration::from_secs(10))?;
    show(&server, &traffic, 1, start);
    let stats = server.stats();
    assert_balanced(&stats);
    let drops = stats
        .kernel_drops
        .ok_or("the kernel does not say what it dropped")?;
    assert!(drops > 0, "the burst is larger than the buffer");
    assert_eq!(traffic.sent, stats.get("received_packets") + drops);
    Ok(())
}

fn show(server: &Server, traffic: &Traffic, looks: u64, start: Instant) {
    let stats = server.stats();
    assert_balanced(&stats);
    println!(
        "{:<10} {:>11} {:>11} {:>10} {:>8} {:>8} {:>6} {:>7.1}",
        server.engine(),
        traffic.sent,
        stats.get("received_packets"),
        stats.get("sent_packets"),
        stats.reasons_total(),
        stats.kernel_drops.unwrap_or(0),
        looks,
        start.elapsed().as_secs_f64(),
    );
}
