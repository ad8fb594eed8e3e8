//! Servers and clients for the tests.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rsecho::address::Family;
use rsecho::event::Queue;
use rsecho::server::tcp::Config;
use rsecho::server::{EngineChoice, Listen, Server};
use socket2::{Domain, SockRef, Socket, Type};

/// The longest that anything is waited for: far more than it ever takes.
pub(crate) const LONG: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Epoll,
    Portable,
}

impl Engine {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Engine::Epoll => "epoll",
            Engine::Portable => "portable",
        }
    }

    fn choice(self) -> EngineChoice {
        match self {
            Engine::Epoll => EngineChoice::Batch,
            Engine::Portable => EngineChoice::Portable,
        }
    }
}

/// Runs each of the named functions as one test for each engine.
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod epoll {
            $(#[test] fn $name() { super::$name($crate::helper::Engine::Epoll) })*
        }
        mod portable {
            $(#[test] fn $name() { super::$name($crate::helper::Engine::Portable) })*
        }
    };
}
pub(crate) use on_both_engines;

pub(crate) fn loopback() -> Listen {
    Listen::At {
        host: "127.0.0.1".into(),
        port: 0,
        family: Family::Any,
    }
}

/// A server that is bound, not started, with this engine for sure.
pub(crate) fn bind(engine: Engine, change: impl FnOnce(&mut Config)) -> Server {
    bind_with(engine, None, change)
}

pub(crate) fn bind_with(
    engine: Engine,
    queue: Option<Arc<Queue>>,
    change: impl FnOnce(&mut Config),
) -> Server {
    let mut config = Config::new(loopback());
    config.engine = engine.choice();
    change(&mut config);
    let server = Server::tcp(config, queue).unwrap();
    assert_eq!(server.engine(), engine.name());
    server
}

pub(crate) fn serve(engine: Engine, change: impl FnOnce(&mut Config)) -> Server {
    let server = bind(engine, change);
    server.start().unwrap();
    server
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, LONG).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A client with buffers of about this size.
pub(crate) fn connect_small(address: SocketAddr, bytes: usize) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(bytes).unwrap();
    socket.set_send_buffer_size(bytes).unwrap();
    socket.connect_timeout(&address.into(), LONG).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    stream
}

/// Bytes that differ from their neighbours and from those a buffer's length away.
pub(crate) fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// Sends `data` and wants it back.
pub(crate) fn exchange(mut stream: &TcpStream, data: &[u8]) {
    stream.write_all(data).unwrap();
    let mut back = vec![0; data.len()];
    stream.read_exact(&mut back).unwrap();
    assert!(back == data, "{} bytes differ", data.len());
}

/// True if the connection is served; false if it is closed or reset instead.
pub(crate) fn is_served(mut stream: &TcpStream) -> bool {
    let mut back = [0; 4];
    stream.write_all(b"ping").is_ok() && stream.read_exact(&mut back).is_ok() && &back == b"ping"
}

pub(crate) fn read_to_end(mut stream: &TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    all
}

/// Closes with a reset.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
}

/// True when the peer has ended the connection, one way or the other.
pub(crate) fn is_over(mut stream: &TcpStream) -> bool {
    match stream.read(&mut [0; 16]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

/// Writes without reading until nothing more is taken for a while, or `most` is reached;
/// returns how much was.
pub(crate) fn stuff(mut stream: &TcpStream, most: usize) -> usize {
    let chunk = vec![7; 64 << 10];
    stream.set_nonblocking(true).unwrap();
    let (mut taken, mut refusals) = (0, 0);
    while taken < most && refusals < 20 {
        match stream.write(&chunk[..chunk.len().min(most - taken)]) {
            Ok(count) => (taken, refusals) = (taken + count, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                refusals += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
    stream.set_nonblocking(false).unwrap();
    taken
}

pub(crate) fn end_output(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Looks again and again until it is true.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < LONG, "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What must hold at any moment.
#[track_caller]
pub(crate) fn assert_balance(server: &Server) {
    let stats = server.stats();
    let get = |name| stats.get(name);
    assert_eq!(
        get("accepted_connections"),
        get("active_connections") + stats.reasons_total(),
        "{stats:?}"
    );
    assert_eq!(
        get("received_bytes"),
        get("sent_bytes") + get("discarded_bytes") + get("pending_bytes"),
        "{stats:?}"
    );
    assert!(
        get("pending_bytes") <= get("active_connections") * 65_536,
        "{stats:?}"
    );
}

/// What must hold at any moment of a server that answers, or impairs.
#[track_caller]
pub(crate) fn assert_books(server: &Server) {
    let stats = server.stats();
    let get = |name| stats.get(name);
    assert_eq!(
        get("received_bytes") + get("produced_bytes"),
        get("consumed_bytes") + get("sent_bytes") + get("discarded_bytes") + get("pending_bytes"),
        "{stats:?}"
    );
    assert_eq!(
        get("requests"),
        get("replies")
            + get("error_replies")
            + get("silent_requests")
            + get("failed_replies")
            + get("abandoned_requests")
            + get("pending_requests"),
        "{stats:?}"
    );
}

pub(crate) const FIN_WAIT2: u8 = 5;
pub(crate) const TIME_WAIT: u8 = 6;

/// True when there is an IPv4 socket between these ports (0: any) in this state, as the
/// kernel numbers them (include/net/tcp_states.h).
pub(crate) fn is_in_state(local: u16, remote: u16, state: u8) -> bool {
    let port = |field: &str| u16::from_str_radix(field.rsplit(':').next()?, 16).ok();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        port(fields[1]) == Some(local)
            && (remote == 0 || port(fields[2]) == Some(remote))
            && u8::from_str_radix(fields[3], 16) == Ok(state)
    })
}
