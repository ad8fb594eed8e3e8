//! A soak: are the books exact after ten million datagrams, and does memory stay where it
//! was? `make soak`, or `cargo run --release --example soak`. Linux.
//!
//! 1. SOAK_DATAGRAMS (10,000,000) of 0 to 8,000 bytes from 500 peers, some in trains, some
//!    with a source that must not be answered (as root), on each engine. Every reply is
//!    compared with what was sent, and while it runs somebody keeps asking whether
//!    received = answered + Σ dropped.
//! 2. A burst that overruns the receive buffer: sent = received + dropped by the kernel.
//! 3. Resident memory of a server at rest, under SOAK_SECONDS (60) of load, and with
//!    SOAK_CONNECTIONS (5,000) idle TCP connections.
//!
//! Any law that does not hold ends it with a panic, and so with a status that is not 0.

mod books;
mod memory;
mod traffic;

use std::error::Error;
use std::time::Duration;

use rsecho::server::EngineChoice;

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(role) = std::env::args().nth(1) {
        return memory::serve(&role);
    }
    let datagrams = number("SOAK_DATAGRAMS", 10_000_000);
    let time = Duration::from_secs(number("SOAK_SECONDS", 60));
    let connections = number("SOAK_CONNECTIONS", 5_000) as usize;

    println!(
        "{:<10} {:>11} {:>11} {:>10} {:>8} {:>8} {:>6} {:>7}",
        "engine", "sent", "received", "answered", "dropped", "kernel", "looks", "s"
    );
    for engine in [EngineChoice::Batch, EngineChoice::Portable] {
        books::balance(engine, datagrams)?;
        books::overrun(engine)?;
    }
    memory::measure(time, connections)
}
