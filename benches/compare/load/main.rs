//! Load for an echo server that verifies every echo: `load udp|tcp --server ADDRESS …`.
//!
//! Closed loop: each client keeps a window of messages on the way, and a good echo lets the
//! next one go. It runs unmeasured for a while and then measures: echoes, their latency, and
//! the CPU time of the server (all its threads, those that ended too). A server that stalls
//! shows as fewer echoes. Linux only; `compare.py` drives it.

#[cfg(target_os = "linux")]
mod meter;
#[cfg(target_os = "linux")]
mod options;
#[cfg(target_os = "linux")]
mod pattern;
#[cfg(target_os = "linux")]
mod sys;
#[cfg(target_os = "linux")]
mod tcp;
#[cfg(target_os = "linux")]
mod udp;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;

    let options = match options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("load: {error}\n\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    let outcome = match options.protocol {
        options::Protocol::Udp => udp::run(&options),
        options::Protocol::Tcp => tcp::run(&options),
    };
    match outcome {
        Ok(outcome) => {
            println!("{}", outcome.text(options.as_json));
            // A wrong echo must not pass for a fast one.
            ExitCode::from(if outcome.wrong() > 0 { 3 } else { 0 })
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("load: it measures through Linux's interfaces, and runs there only");
    std::process::exit(1);
}
