//! A UDP echo server without Python: `cargo run --release --example serve_udp -- 9999`.
//!
//! Words after the port: `portable`, and `latency` or `busy`.

use std::time::Duration;

use rsecho::server::{EngineChoice, Listen, Server, Wait, udp};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().unwrap_or_else(|| "9999".into()).parse()?;
    let words: Vec<String> = arguments.collect();
    let has = |word: &str| words.iter().any(|found| found == word);
    let engine = if has("portable") {
        EngineChoice::Portable
    } else {
        EngineChoice::Auto
    };
    let wait = match (has("latency"), has("busy")) {
        (_, true) => Wait::Busy,
        (true, _) => Wait::Latency,
        _ => Wait::Balanced,
    };
    let listen = Listen::at("127.0.0.1", port);
    let config = udp::Config {
        engine,
        wait,
        ..udp::Config::new(listen)
    };
    let server = Server::udp(config, None)?;
    server.start()?;
    println!(
        "listening on {} (engine {})",
        server.name(),
        server.engine()
    );
    while server.wait(Duration::from_secs(3600))?.is_none() {}
    Ok(())
}
