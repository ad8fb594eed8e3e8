//! What the parts of the UDP server cost by themselves: the planner, which touches no
//! socket, and each engine's way of receiving, planning and sending, with quinn-udp's beside
//! them as a baseline.
//!
//! The engines serve in the bench's own thread, and what is measured is that thread's CPU
//! time while they do: no wake-up, no neighbour and no client is in the figure (but about
//! 0.2 µs a round for reading the clock). A round is one datagram or one train
//! from each peer, or as many as make 64 datagrams. Throughput is counted in datagrams.

use std::hint::black_box;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use rsecho::guard::{Policy, Rate};
use rsecho::server::udp::bench_support::{Planner, serve_by_hand};
use rsecho::server::{EngineChoice, Listen, udp};

const LENGTHS: [usize; 4] = [64, 512, 1472, 8192];
const PEERS: [usize; 3] = [1, 16, 64];
/// Trains are Linux's.
const TRAINS: &[bool] = if cfg!(target_os = "linux") {
    &[false, true]
} else {
    &[false]
};

/// Receives of a batch.
const SLOTS: usize = 64;
/// Datagrams of a round without trains.
const SINGLES: usize = 64;
/// Datagrams of a train, as far as one send can carry them.
const TRAIN: usize = 16;
const MAX_TRAIN_BYTES: usize = 65_507;
const BUFFER_BYTES: libc::c_int = 16 << 20;

// include/uapi/linux/udp.h, asm-generic/socket.h
const SOL_UDP: libc::c_int = 17;
const UDP_SEGMENT: libc::c_int = 103;
const UDP_GRO: libc::c_int = 104;
const SO_RCVBUFFORCE: libc::c_int = 33;

fn set_option(socket: &UdpSocket, level: i32, name: i32, value: i32) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    let value = &raw const value;
    // SAFETY: setsockopt(2) reads one live integer of the length given.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.cast(), length) };
    if done == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// The CPU time of this thread.
fn thread_cpu() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: clock_gettime(2) writes one timespec.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(done, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A socket with all the room that can be had; how much that is.
fn roomy_socket() -> (UdpSocket, usize) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback can be bound");
    let own = socket2::SockRef::from(&socket);
    // Beyond the system's limit where that is allowed.
    if set_option(&socket, libc::SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES).is_err() {
        own.set_recv_buffer_size(BUFFER_BYTES as usize)
            .expect("a size is cut, not refused");
    }
    let room = own.recv_buffer_size().expect("every socket has one");
    (socket, room)
}

/// What a round is.
#[derive(Clone, Copy)]
struct Round {
    length: usize,
    peers: usize,
    is_train: bool,
}

impl Round {
    fn all() -> impl Iterator<Item = Self> {
        TRAINS.iter().flat_map(|&is_train| {
            PEERS.into_iter().flat_map(move |peers| {
                LENGTHS.into_iter().map(move |length| Self {
                    length,
                    peers,
                    is_train,
                })
            })
        })
    }

    fn name(&self) -> String {
        let kind = if self.is_train { "trains" } else { "singles" };
        format!("{kind}/peers_{}/{}", self.peers, self.length)
    }

    /// From each peer.
    fn datagrams(&self) -> usize {
        if self.is_train {
            TRAIN.min(MAX_TRAIN_BYTES / self.length)
        } else {
            SINGLES / self.peers
        }
    }

    /// What the kernel charges for so many datagrams, about: a power of two and its own
    /// records.
    fn charge(&self, datagrams: usize) -> usize {
        datagrams * ((self.length + 512).next_power_of_two() + 512)
    }
}

/// The other side of a round.
struct Clients {
    round: Round,
    sockets: Vec<UdpSocket>,
    message: Vec<u8>,
    buffer: Vec<u8>,
}

impl Clients {
    fn new(round: Round, server: SocketAddr) -> Self {
        let sockets = (0..round.peers)
            .map(|_| {
                let (socket, room) = roomy_socket();
                assert!(round.charge(round.datagrams()) <= room);
                socket
                    .connect(server)
                    .expect("a UDP socket can always be connected");
                socket
                    .set_nonblocking(true)
                    .expect("it can always be asked for");
                if round.is_train {
                    set_option(&socket, SOL_UDP, UDP_SEGMENT, round.length as i32)
                        .and_then(|()| set_option(&socket, SOL_UDP, UDP_GRO, 1))
                        .expect("Linux has had both since 5.0");
                }
                socket
            })
            .collect();
        let datagrams_a_send = if round.is_train { round.datagrams() } else { 1 };
        Self {
            round,
            sockets,
            message: vec![1; round.length * datagrams_a_send],
            buffer: vec![0; 1 << 16],
        }
    }

    /// Peers take turns, as on a server with many.
    fn send(&self) {
        let bytes = self.round.datagrams() * self.round.length;
        for _ in 0..bytes / self.message.len() {
            for socket in &self.sockets {
                socket.send(&self.message).expect("the server is up");
            }
        }
    }

    /// Over loopback the replies are there as soon as they were sent.
    fn take(&mut self) {
        for socket in &self.sockets {
            let mut bytes = 0;
            while let Ok(length) = socket.recv(&mut self.buffer) {
                bytes += length;
            }
            assert_eq!(bytes, self.round.datagrams() * self.round.length);
        }
    }
}

/// Times what `serve` takes to answer a round; it serves a batch a call, and fails when
/// there is nothing more.
fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    round: Round,
    server: SocketAddr,
    serve: &mut dyn FnMut() -> io::Result<usize>,
) {
    let mut clients = Clients::new(round, server);
    group.throughput(Throughput::Elements(
        (round.datagrams() * round.peers) as u64,
    ));
    group.bench_function(round.name(), |bencher| {
        bencher.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                clients.send();
                let start = thread_cpu();
                while serve().is_ok() {}
                spent += thread_cpu() - start;
                clients.take();
            }
            spent
        });
    });
}

/// A socket to serve on, unless it would lose a part of the round.
fn server_for(round: Round) -> Option<(UdpSocket, SocketAddr)> {
    let (socket, room) = roomy_socket();
    let wanted = round.charge(round.datagrams() * round.peers);
    if wanted > room {
        let name = round.name();
        println!("{name} left out: it wants a receive buffer of {wanted} bytes, not {room}:");
        println!("raise net.core.rmem_max, or run it with CAP_NET_ADMIN");
        return None;
    }
    let address = socket.local_addr().expect("it is bound");
    Some((socket, address))
}

fn brief(group: &mut BenchmarkGroup<'_, WallTime>) {
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300));
}

fn config(engine: EngineChoice, guard: Policy) -> udp::Config {
    udp::Config {
        engine,
        guard,
        ..udp::Config::new(Listen::at("127.0.0.1", 0))
    }
}

fn engine(criterion: &mut Criterion, name: &str, choice: EngineChoice, guard: Policy) {
    let mut group = criterion.benchmark_group(format!("udp_engine/{name}"));
    brief(&mut group);
    for round in Round::all() {
        let Some((socket, address)) = server_for(round) else {
            continue;
        };
        serve_by_hand(config(choice, guard.clone()), socket, |serve| {
            measure(&mut group, round, address, serve);
        })
        .expect("loopback can be served");
    }
    group.finish();
}

fn engines(criterion: &mut Criterion) {
    if cfg!(target_os = "linux") {
        engine(criterion, "batch", EngineChoice::Batch, Policy::default());
        // Limits that are never reached: what it takes to know.
        let limits = Policy {
            rate_per_source: Some(Rate::new(Rate::MOST_PER_SECOND, None)),
            rate_total: Some(Rate::new(Rate::MOST_PER_SECOND, None)),
            ..Policy::default()
        };
        engine(criterion, "batch_limited", EngineChoice::Batch, limits);
    }
    let guard = Policy::default();
    engine(criterion, "portable", EngineChoice::Portable, guard);
}

/// The echo that quinn-udp's interface suggests: what came in one receive goes back in as
/// many sends as there were messages.
fn quinn(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("quinn_udp");
    brief(&mut group);
    let mut slots = vec![vec![0; 1 << 16]; BATCH_SIZE];
    for round in Round::all() {
        let Some((socket, address)) = server_for(round) else {
            continue;
        };
        let state = UdpSocketState::new((&socket).into()).expect("loopback has what it needs");
        let mut came = [RecvMeta::default(); BATCH_SIZE];
        measure(&mut group, round, address, &mut || {
            let mut parts: Vec<_> = slots.iter_mut().map(|slot| IoSliceMut::new(slot)).collect();
            let count = state.recv((&socket).into(), &mut parts, &mut came)?;
            for (slot, meta) in slots.iter().zip(&came[..count]) {
                let reply = Transmit {
                    destination: meta.addr,
                    ecn: None,
                    contents: &slot[..meta.len],
                    segment_size: (meta.len > meta.stride).then_some(meta.stride),
                    src_ip: None,
                };
                state.try_send((&socket).into(), &reply)?;
            }
            Ok(count)
        });
    }
    group.finish();
}

fn plan(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("udp_plan");
    brief(&mut group);
    for (kind, datagrams, segment_bytes) in [("singles", 1, 0), ("trains", TRAIN, 64)] {
        for count in PEERS {
            let peers: Vec<SocketAddr> = (0..SLOTS)
                .map(|slot| SocketAddr::from(([127, 0, 0, 1], 40_000 + (slot % count) as u16)))
                .collect();
            let mut planner = Planner::new(&peers, 64 * datagrams, segment_bytes);
            group.throughput(Throughput::Elements((SLOTS * datagrams) as u64));
            group.bench_function(format!("{kind}/peers_{count}"), |bencher| {
                bencher.iter(|| black_box(&mut planner).plan());
            });
        }
    }
    group.finish();
}

criterion_group!(benches, plan, engines, quinn);
criterion_main!(benches);
