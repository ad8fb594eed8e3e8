//! Serves TCP without Python, until interrupted: `serve_tcp PORT [portable]`.
//!
//! For measuring the core alone; the `rsecho` command has the options.

use std::process::ExitCode;
use std::time::Duration;

use rsecho::address::{Family, parse_port};
use rsecho::error::{Error, Result};
use rsecho::server::{EngineChoice, Listen, Server, tcp};

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().unwrap_or_default();
    let mut config = tcp::Config::new(Listen::At {
        host: "127.0.0.1".to_owned(),
        port: parse_port(&port).map_err(|error| error.or("usage: serve_tcp PORT [portable]"))?,
        family: Family::Any,
    });
    config.engine = match arguments.next().as_deref() {
        None => EngineChoice::Auto,
        Some("portable") => EngineChoice::Portable,
        Some(other) => {
            let rule = "the one engine to choose is portable";
            return Err(Error::argument("serve with", other, rule));
        }
    };
    let server = Server::tcp(config, None)?;
    server.start()?;
    eprintln!(
        "listening on {} (engine {})",
        server.name(),
        server.engine()
    );
    loop {
        if let Some(finish) = server.wait(Duration::from_secs(3600))? {
            eprintln!("ended: {finish}");
            return Ok(());
        }
    }
}
