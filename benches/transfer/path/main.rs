//! A path between two network namespaces, with delay and loss: two TUN devices and what goes
//! between them. Part of no wheel; it stands in for tc-netem(8) where a kernel lacks that.
//!
//! The devices take segmentation offload (TUN_F_TSO4, TUN_F_USO4), so a train of datagrams or
//! a TCP burst crosses in one piece, as over a veth; but each packet of a train is lost by
//! itself, and what is left goes on as the trains that a receiver would have made of it.

mod direction;
mod options;
mod packet;
mod sys;

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use direction::{Counts, Direction};
use options::Options;

fn main() -> ExitCode {
    let options = match options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(what) => {
            eprintln!("path: {what}\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("path: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Forwards until standard input ends, then says what was done.
fn run(options: &Options) -> io::Result<()> {
    let [near, far] = &options.names;
    let devices = [sys::open_tun(near)?, sys::open_tun(far)?];
    let mut counts = Vec::new();
    for (way, (from, to)) in [(0, 1), (1, 0)].into_iter().enumerate() {
        let tally = Arc::new(Counts::default());
        counts.push(Arc::clone(&tally));
        let (from, to) = (devices[from].try_clone()?, devices[to].try_clone()?);
        let direction = Direction::new(options, way as u64, from, to, tally);
        thread::Builder::new()
            .name(format!("path-{way}"))
            .spawn(move || {
                let error = direction.run();
                eprintln!("path: {error}");
                std::process::exit(1);
            })?;
    }
    println!("ready");
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    println!("[{}, {}]", counts[0].json(), counts[1].json());
    Ok(())
}
