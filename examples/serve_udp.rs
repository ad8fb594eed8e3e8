//! A UDP echo server without Python: `cargo run --release --example serve_udp -- 9999`.

use std::time::Duration;

use rsecho::address::Family;
use rsecho::server::{EngineChoice, Listen, Server, udp};
use rsecho::socket::SocketOptions;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().unwrap_or_else(|| "9999".into()).parse()?;
    let engine = match arguments.next().as_deref() {
        Some("portable") => EngineChoice::Portable,
        _ => EngineChoice::Auto,
    };
    let config = udp::Config {
        listen: Listen::At {
            host: "127.0.0.1".into(),
            port,
            family: Family::Any,
        },
        socket: SocketOptions::default(),
        idle_timeout: None,
        max_datagram_bytes: None,
        stop_on_empty: false,
        workers: 1,
        engine,
        record_bytes: None,
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
