//! Simulated transfers by their seeds: does each end whole and once, or failed by its deadline?
//! `make simulate`, or `cargo run --release --example transfers -- --seeds 100000`.
//!
//! A seed makes up a network with loss, duplication, reordering, corruption, a bottleneck, an MTU
//! that shrinks, a partition and restarts; src/transfer/simulated has the laws. A seed that breaks
//! one is printed with what replays it, and the status is 1.

use std::net::SocketAddr;
use std::panic;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rsecho::transfer::simulated::trial::{self, Report};
use rsecho::transfer::wire::{self, Body};

const USAGE: &str = "usage: transfers [--first SEED] [--seeds COUNT] [--describe] [--trace]";
/// Failures that are printed; the others are counted.
const PRINTED: u64 = 10;

struct Options {
    first: u64,
    seeds: u64,
    describes: bool,
    traces: bool,
}

fn options() -> Option<Options> {
    let mut options = Options {
        first: 0,
        seeds: 100_000,
        describes: false,
        traces: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--first" => options.first = arguments.next()?.parse().ok()?,
            "--seeds" => options.seeds = arguments.next()?.parse().ok()?,
            "--trace" => options.traces = true,
            "--describe" => options.describes = true,
            _ => return None,
        }
    }
    Some(options)
}

/// Runs all seeds on as many threads as there are processors; how many broke a law.
fn run(options: &Options, total: &Mutex<Report>) -> u64 {
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        let mut sum = Report::default();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= options.seeds {
                break;
            }
            let seed = options.first + index;
            let ran = panic::catch_unwind(|| trial::run(seed));
            match ran.unwrap_or_else(|_| Err("it panicked".to_owned())) {
                Ok(report) => sum.add(&report),
                Err(what) => {
                    if failed.fetch_add(1, Ordering::Relaxed) < PRINTED {
                        println!(
                            "seed {seed} failed: {what}; replay: cargo run --release --example \
                             transfers -- --first {seed} --seeds 1"
                        );
                    }
                }
            }
        }
        if let Ok(mut total) = total.lock() {
            total.add(&sum);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    failed.into_inner()
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if options.describes {
        println!("{}", trial::describe(options.first));
    }
    if options.traces {
        let show = |now_ns, from: SocketAddr, to: SocketAddr, data: &[u8]| {
            let packet = match wire::decode(data) {
                Ok((
                    id,
                    Body::Data {
                        number,
                        offset,
                        data,
                    },
                )) => {
                    format!("{id:016x} Data {number} at {offset}, {} bytes", data.len())
                }
                Ok((id, body)) => format!("{id:016x} {body:?}"),
                Err(what) => format!("{what:?}"),
            };
            let time_s = now_ns as f64 / 1e9;
            println!(
                "{time_s:12.6} {} → {} {:5} {packet}",
                from.port(),
                to.port(),
                data.len()
            );
        };
        let ran = trial::watched(options.first, Some(Box::new(show)));
        println!("{:?}", ran.err());
        return ExitCode::SUCCESS;
    }
    let (began, total) = (Instant::now(), Mutex::new(Report::default()));
    let failed = run(&options, &total);
    let Ok(total) = total.into_inner() else {
        return ExitCode::FAILURE;
    };
    let reasons: Vec<_> = total
        .failed
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    println!(
        "{} seeds in {:.1} s, {:.0} s simulated: {} transfers whole ({} of them had to be), {} not \
         ({}), {} bytes in {} datagrams, of which {} retransmitted; {failed} seeds broke a law",
        options.seeds,
        began.elapsed().as_secs_f64(),
        total.time_ns as f64 / 1e9,
        total.whole,
        total.kind,
        total.failed.values().sum::<u64>(),
        reasons.join(", "),
        total.bytes,
        total.sent_packets,
        total.retransmitted_packets,
    );
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
