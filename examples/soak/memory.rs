//! What a server's process takes: at rest, under load, with idle connections.

use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rsecho::address::Family;
use rsecho::server::{EngineChoice, Listen, Server, tcp};

use crate::books;
use crate::traffic::Traffic;

/// Growth in the second half of the load that is no growth: pages touched late.
const SLACK_KIB: u64 = 1024;

/// The order's limit for an idle connection.
const IDLE_BYTES: u64 = 1024;

/// The child: a server until standard input ends.
pub(crate) fn serve(role: &str) -> Result<(), Box<dyn Error>> {
    let server = match role {
        "udp" => Server::udp(
            books::config(EngineChoice::Batch, Some(books::BUFFER)),
            None,
        )?,
        _ => Server::tcp(
            tcp::Config::new(Listen::At {
                host: "127.0.0.1".into(),
                port: 0,
                family: Family::Any,
            }),
            None,
        )?,
    };
    server.start()?;
    println!("{} {}", server.address(), books::window(&server));
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(server.stop(Duration::from_secs(10))?)
}

struct Process {
    child: Child,
    address: SocketAddr,
    /// What may be on its way to it at a time.
    window: usize,
}

impl Process {
    fn new(role: &str) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("no standard output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let (address, window) = line.trim().split_once(' ').ok_or("no address")?;
        Ok(Self {
            child,
            address: address.parse()?,
            window: window.parse()?,
        })
    }

    /// A line of /proc/PID/smaps_rollup, in KiB (proc(5)).
    fn kib(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = fs::read_to_string(path).expect("the server runs");
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .expect("smaps_rollup has it")
    }

    fn resident_kib(&self) -> u64 {
        self.kib("Rss")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

pub(crate) fn measure(time: Duration, connections: usize) -> Result<(), Box<dyn Error>> {
    raise_descriptor_limit()?;
    let (udp, tcp) = (Process::new("udp")?, Process::new("tcp")?);
    let (udp_rest, tcp_rest) = (udp.resident_kib(), tcp.resident_kib());
    println!("\nresident KiB         udp      tcp");
    println!("at rest         {udp_rest:>8} {tcp_rest:>8}");

    let end = Instant::now() + time;
    let middle = end - time / 2;
    let loads = [
        thread::spawn({
            let (address, window) = (udp.address, udp.window);
            move || load_udp(address, window, end).expect("the server answers")
        }),
        thread::spawn({
            let address = tcp.address;
            move || load_tcp(address, end).expect("the server answers")
        }),
    ];
    thread::sleep(middle.saturating_duration_since(Instant::now()));
    let halfway = (udp.resident_kib(), tcp.resident_kib());
    println!(
        "half of {:>4} s  {:>8} {:>8}",
        time.as_secs(),
        halfway.0,
        halfway.1
    );
    let work = loads.map(|load| load.join().expect("no law was broken"));
    let after = (udp.resident_kib(), tcp.resident_kib());
    println!(
        "after {:>4} s    {:>8} {:>8}",
        time.as_secs(),
        after.0,
        after.1
    );
    println!(
        "work            {:>8} datagrams, {} MiB",
        work[0],
        work[1] >> 20
    );
    assert!(after.0 <= halfway.0 + SLACK_KIB && after.1 <= halfway.1 + SLACK_KIB);

    // User memory: what the process itself wrote. A fresh one, so that nothing is reused.
    let fresh = Process::new("tcp")?;
    let before = fresh.kib("Anonymous");
    let idle: Vec<TcpStream> = (0..connections)
        .map(|_| speak_once(fresh.address))
        .collect::<io::Result<_>>()?;
    let with = fresh.kib("Anonymous");
    let each = (with - before) * 1024 / idle.len() as u64;
    println!("{} idle      {:>17}", idle.len(), fresh.resident_kib());
    println!("bytes of user memory an idle connection: {each}");
    assert!(each <= IDLE_BYTES);
    Ok(())
}

fn load_udp(address: SocketAddr, window: usize, end: Instant) -> io::Result<u64> {
    let mut traffic = Traffic::new(address, window)?;
    while Instant::now() < end {
        traffic.exchange()?;
    }
    Ok(traffic.sent)
}

/// Bytes echoed over connections of all ages: every round one is replaced.
fn load_tcp(address: SocketAddr, end: Instant) -> io::Result<u64> {
    const CONNECTIONS: usize = 100;
    let connect = || TcpStream::connect(address);
    let mut streams: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| connect())
        .collect::<io::Result<_>>()?;
    let data: Vec<u8> = (0..64_usize << 10).map(|i| (i * i / 3) as u8).collect();
    let mut buffer = vec![0; data.len()];
    let mut bytes = 0;
    for round in 0.. {
        if Instant::now() >= end {
            break;
        }
        let length = [1, 512, 16 << 10, 64 << 10][round % 4];
        for stream in &mut streams {
            stream.write_all(&data[..length])?;
            stream.read_exact(&mut buffer[..length])?;
            assert!(buffer[..length] == data[..length]);
            bytes += length as u64;
        }
        streams[round % CONNECTIONS] = connect()?;
    }
    Ok(bytes)
}

fn speak_once(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"here")?;
    stream.read_exact(&mut [0; 4])?;
    Ok(stream)
}

/// As many descriptors as may be had; children inherit it.
fn raise_descriptor_limit() -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: getrlimit(2) writes one live structure.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: setrlimit(2) reads it.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
