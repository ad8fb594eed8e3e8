//! TCP: connections with a window of messages each, or one connection a message.
//!
//! What a connection carries depends on the connection and the place in its stream, so a
//! byte that is lost, doubled, moved or another connection's shows. Latency is taken where
//! one message at a time is on the way.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::meter::{Histogram, Outcome, Reading};
use crate::options::{MAX_MESSAGE, Options};
use crate::pattern::Pattern;
use crate::sys::{self, Epoll};

/// Until every connection has had an echo, and for what is on the way at the end.
const PATIENCE: Duration = Duration::from_secs(10);
/// Local addresses that connections take in turn: closed ones linger for a minute
/// (TIME_WAIT), and would use up the ports of a single address.
const SOURCES: u32 = 4096;

struct Client {
    /// `None` once it failed.
    stream: Option<TcpStream>,
    /// Where in the pattern its stream starts.
    start: u64,
    sent: u64,
    received: u64,
    asked_at: Instant,
}

struct Load<'a> {
    options: &'a Options,
    clients: Vec<Client>,
    epoll: Epoll,
    pattern: Pattern,
    buffer: Vec<u8>,
    /// Connections made so far.
    made: u32,
    /// Clients without an echo as yet.
    unanswered: usize,
    is_measuring: bool,
    is_ending: bool,
    latency: Histogram,
    echoes: u64,
    bad: u64,
    failed: u64,
}

/// Runs it.
pub(crate) fn run(options: &Options) -> Result<Outcome, String> {
    let epoll = Epoll::new().map_err(|error| format!("cannot make an epoll: {error}"))?;
    let mut load = Load {
        options,
        clients: Vec::with_capacity(options.clients),
        epoll,
        pattern: Pattern::new(65_521, MAX_MESSAGE, options.upper),
        buffer: vec![0; MAX_MESSAGE],
        made: 0,
        unanswered: options.clients,
        is_measuring: false,
        is_ending: false,
        latency: Histogram::new(),
        echoes: 0,
        bad: 0,
        failed: 0,
    };
    for number in 0..options.clients {
        let client = load.connect(number).map_err(|error| {
            format!("connection {} of {}: {error}", number + 1, options.clients)
        })?;
        load.clients.push(client);
    }
    load.run().map_err(|error| error.to_string())
}

impl Load<'_> {
    fn run(&mut self) -> Result<Outcome, Box<dyn std::error::Error>> {
        let start = Instant::now();
        for number in 0..self.clients.len() {
            self.clients[number].asked_at = Instant::now();
            self.send_ahead(number);
        }
        let mut begin: Option<(Reading, u64)> = None;
        for turn in 1u64.. {
            self.turn()?;
            if !self.options.sleeps && turn % 8 != 0 {
                continue; // Asking on and on: the clock is looked at now and then only.
            }
            let now = Instant::now();
            match &begin {
                // Connections that are still being accepted are no part of the figure.
                None if now - start >= self.options.warmup
                    && (self.unanswered == 0 || now - start >= PATIENCE) =>
                {
                    self.is_measuring = true;
                    begin = Some((Reading::begin(self.options)?, self.echoes));
                }
                Some((reading, before))
                    if reading.is_over(now, self.options, self.echoes + self.bad > *before) =>
                {
                    break;
                }
                _ => {}
            }
        }
        let end = Reading::end(self.options)?;
        let (begin, before) = begin.expect("the loop ends after it began");
        let echoes = self.echoes - before;
        self.is_measuring = false;
        self.end()?;
        Ok(Outcome {
            begin,
            end,
            is_server_known: self.options.pid.is_some(),
            is_watched: !self.options.watch.is_empty(),
            echoes,
            length: self.options.length,
            latency: std::mem::replace(&mut self.latency, Histogram::new()),
            lost: 0,
            bad: self.bad,
            twice: 0,
            late: 0,
            failed: self.failed,
        })
    }

    /// Serves whoever has something.
    fn turn(&mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        self.epoll.wait(self.options.sleeps, &mut ready)?;
        for number in ready {
            self.receive(number)?;
        }
        Ok(())
    }

    /// Nothing new is sent: a server that swallowed a byte leaves its client waiting.
    fn end(&mut self) -> io::Result<()> {
        self.is_ending = true;
        let start = Instant::now();
        while self.waiting() > 0 && start.elapsed() < PATIENCE {
            self.turn()?;
        }
        self.failed += self.waiting() as u64;
        Ok(())
    }

    fn waiting(&self) -> usize {
        self.clients
            .iter()
            .filter(|client| client.stream.is_some() && client.sent > client.received)
            .count()
    }

    fn connect(&mut self, number: usize) -> io::Result<Client> {
        let server = self.options.server;
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(name) = &self.options.congestion {
            socket.set_tcp_congestion(name.as_bytes())?;
        }
        if let IpAddr::V4(ip) = server.ip()
            && ip.is_loopback()
        {
            sys::bind_without_port(socket.as_raw_fd())?;
            let local = Ipv4Addr::from_bits(0x7F00_0101 + self.made % SOURCES);
            socket.bind(&SockAddr::from(SocketAddr::from((local, 0))))?;
        }
        socket.connect_timeout(&server.into(), PATIENCE)?;
        socket.set_nonblocking(true)?;
        self.epoll.add(socket.as_raw_fd(), number)?;
        self.made += 1;
        Ok(Client {
            stream: Some(socket.into()),
            start: u64::from(self.made) * 7919,
            sent: 0,
            received: 0,
            asked_at: Instant::now(),
        })
    }

    /// Sends until the window is full, or the socket.
    fn send_ahead(&mut self, number: usize) {
        let client = &mut self.clients[number];
        let length = self.options.length as u64;
        let until = (client.received / length + self.options.window as u64) * length;
        while let Some(stream) = &mut client.stream
            && client.sent < until
        {
            let most = (until - client.sent).min(MAX_MESSAGE as u64) as usize;
            let data = self.pattern.at(client.start + client.sent, most);
            match stream.write(data) {
                Ok(sent) => client.sent += sent as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    client.stream = None;
                    self.failed += 1;
                }
            }
        }
    }

    fn receive(&mut self, number: usize) -> io::Result<()> {
        let client = &mut self.clients[number];
        let Some(stream) = &mut client.stream else {
            return Ok(());
        };
        let count = match stream.read(&mut self.buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Ok(count) if count > 0 => count,
            // Reset, or closed with echoes outstanding: a client never closes first.
            _ => {
                client.stream = None;
                self.failed += 1;
                return Ok(());
            }
        };
        let wanted = self
            .pattern
            .answer_at(client.start + client.received, count);
        if client.received + count as u64 > client.sent || self.buffer[..count] != *wanted {
            self.bad += 1;
        }
        let length = self.options.length as u64;
        let before = client.received / length;
        if before == 0 && client.received + count as u64 >= length {
            self.unanswered = self.unanswered.saturating_sub(1);
        }
        client.received += count as u64;
        let whole = client.received / length - before;
        self.echoes += whole;
        if whole > 0 {
            if self.is_measuring && (self.options.window == 1 || self.options.connect) {
                self.latency.add(client.asked_at.elapsed());
            }
            client.asked_at = Instant::now();
        }
        if self.options.connect && whole > 0 {
            return self.connect_again(number);
        }
        if !self.is_ending {
            self.send_ahead(number);
        }
        Ok(())
    }

    /// Closes a connection whose message is back, and makes the next.
    fn connect_again(&mut self, number: usize) -> io::Result<()> {
        self.clients[number].stream = None;
        if self.is_ending {
            return Ok(());
        }
        let asked_at = Instant::now();
        let mut client = self.connect(number)?;
        client.asked_at = asked_at;
        self.clients[number] = client;
        self.send_ahead(number);
        Ok(())
    }
}
