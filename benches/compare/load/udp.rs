//! UDP: sockets with a window of datagrams each.
//!
//! A datagram is a client's number, a sequence number, and bytes that depend on both. An
//! echo (with `--upper` in upper case) counts when its length, its content, its socket and a sequence number that is on the
//! way are right. What is not back when its socket has been silent for 50 ms, or when seven
//! windows of later datagrams have gone, is given up.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::meter::{Histogram, Outcome, Reading};
use crate::options::{HEADER, Options};
use crate::pattern::Pattern;
use crate::sys::{self, Epoll, Inbox};

/// Of the header, the client's number, with room for 262,144 of them; the rest is a sequence
/// number, with room for 2^54 datagrams of each.
const NUMBER_DIGITS: usize = 3;

/// Silence of a socket after which nothing more is expected of what it sent. It doubles each
/// time, up to a limit, until there is a good echo: a server that is slow for want of CPU
/// time would otherwise be late for ever.
const SILENCE: Duration = Duration::from_millis(50);
const MAX_SILENCE: Duration = Duration::from_secs(2);
/// Datagrams a receive or a sendmmsg.
const BATCH: usize = 64;
/// Bytes in a train, below what an IPv4 datagram carries.
const MAX_TRAIN_BYTES: usize = 65_000;
const SLOT_BYTES_FOR_TRAINS: usize = 65_536;
const SOCKET_BUFFER_BYTES: i32 = 4 << 20;

#[derive(Clone, Copy)]
struct OnTheWay {
    sequence: u64,
    sent_at: Instant,
    is_waited_for: bool,
}

struct Client {
    socket: UdpSocket,
    next: u64,
    /// Numbers below this one were given up.
    given_up: u64,
    in_flight: usize,
    last_echo: Instant,
    /// The silence after which it gives up.
    patience: Duration,
    /// Sequence number modulo length: the last datagrams sent.
    sent: Vec<OnTheWay>,
}

impl Client {
    fn open(options: &Options, now: Instant) -> io::Result<Self> {
        let local: SocketAddr = match options.server {
            SocketAddr::V4(_) => ([0; 4], 0).into(),
            SocketAddr::V6(_) => ([0u16; 8], 0).into(),
        };
        let socket = UdpSocket::bind(local)?;
        if sys::force_buffers(socket.as_raw_fd(), SOCKET_BUFFER_BYTES).is_err() {
            let socket = SockRef::from(&socket);
            socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES as usize)?;
            socket.set_send_buffer_size(SOCKET_BUFFER_BYTES as usize)?;
        }
        if options.take_trains {
            sys::take_trains(socket.as_raw_fd())?;
        }
        socket.connect(options.server)?;
        // A sleep ends now and then, to look at the clock.
        socket.set_read_timeout(Some(SILENCE))?;
        // Far more than are on the way: what is overtaken by so many others is lost.
        let remembered = (options.window * 8).next_power_of_two().max(64);
        let none = OnTheWay {
            sequence: u64::MAX,
            sent_at: now,
            is_waited_for: false,
        };
        Ok(Self {
            socket,
            next: 0,
            given_up: 0,
            in_flight: 0,
            last_echo: now,
            patience: SILENCE,
            sent: vec![none; remembered],
        })
    }
}

struct Load<'a> {
    options: &'a Options,
    clients: Vec<Client>,
    pattern: Pattern,
    inbox: Inbox,
    outbox: Vec<u8>,
    /// Datagrams a send call.
    at_once: usize,
    is_measuring: bool,
    latency: Histogram,
    echoes: u64,
    lost: u64,
    bad: u64,
    twice: u64,
    late: u64,
}

/// Runs it.
pub(crate) fn run(options: &Options) -> Result<Outcome, String> {
    let start = Instant::now();
    let clients = (0..options.clients)
        .map(|_| Client::open(options, start))
        .collect::<io::Result<Vec<_>>>()
        .map_err(|error| format!("cannot open {} sockets: {error}", options.clients))?;
    let at_once = if options.send_trains > 1 {
        (MAX_TRAIN_BYTES / options.length).clamp(1, options.send_trains)
    } else {
        BATCH
    };
    let slot_bytes = if options.take_trains {
        SLOT_BYTES_FOR_TRAINS
    } else {
        // A little more, to see an echo that is too long.
        options.length + 64
    };
    let mut load = Load {
        options,
        clients,
        pattern: Pattern::new(65_521, options.length, options.upper),
        inbox: Inbox::new(options.window.min(BATCH), slot_bytes, options.take_trains),
        outbox: vec![0; at_once * options.length],
        at_once,
        is_measuring: false,
        latency: Histogram::new(),
        echoes: 0,
        lost: 0,
        bad: 0,
        twice: 0,
        late: 0,
    };
    load.run(start).map_err(|error| error.to_string())
}

impl Load<'_> {
    fn run(&mut self, start: Instant) -> Result<Outcome, Box<dyn std::error::Error>> {
        let mut epoll = Epoll::new()?;
        for (number, client) in self.clients.iter().enumerate() {
            epoll.add(client.socket.as_raw_fd(), number)?;
        }
        for number in 0..self.clients.len() {
            self.fill_window(number, Instant::now())?;
        }
        let mut ready = Vec::new();
        let mut begin: Option<(Reading, u64, u64)> = None;
        let mut looked = start;
        for turn in 1u64.. {
            if self.clients.len() == 1 {
                self.serve(0, self.options.sleeps)?;
            } else {
                epoll.wait(self.options.sleeps, &mut ready)?;
                for number in &ready {
                    self.serve(*number, false)?;
                }
            }
            if !self.options.sleeps && turn % 16 != 0 {
                continue; // Asking on and on: the clock is looked at now and then only.
            }
            let now = Instant::now();
            match &begin {
                None if now - start >= self.options.warmup => {
                    self.is_measuring = true;
                    begin = Some((Reading::begin(self.options)?, self.echoes, self.lost));
                }
                Some((reading, before, _))
                    if reading.is_over(now, self.options, self.echoes + self.bad > *before) =>
                {
                    break;
                }
                _ => {}
            }
            if now - looked >= SILENCE {
                looked = now;
                self.give_up(now)?;
            }
        }
        let end = Reading::end(self.options)?;
        let (begin, echoes_before, lost_before) = begin.expect("the loop ends after it began");
        Ok(Outcome {
            begin,
            end,
            is_server_known: self.options.pid.is_some(),
            is_watched: !self.options.watch.is_empty(),
            echoes: self.echoes - echoes_before,
            length: self.options.length,
            latency: std::mem::replace(&mut self.latency, Histogram::new()),
            lost: self.lost - lost_before,
            bad: self.bad,
            twice: self.twice,
            late: self.late,
            failed: 0,
        })
    }

    /// Reads what a client has, and sends as much again.
    fn serve(&mut self, number: usize, waits: bool) -> io::Result<()> {
        let before = self.echoes;
        let fd = self.clients[number].socket.as_raw_fd();
        // Nothing there, or an ICMP error for what a server that ended did not get.
        let Ok(count) = self.inbox.receive(fd, waits) else {
            return Ok(());
        };
        let now = Instant::now();
        for slot in 0..count {
            let (message, segment) = self.inbox.message(slot);
            let length = if segment == 0 { message.len() } else { segment };
            if message.is_empty() {
                self.bad += 1;
                continue;
            }
            for datagram in message.chunks(length) {
                match verify(
                    datagram,
                    number,
                    &mut self.clients[number],
                    &self.pattern,
                    self.options.length,
                ) {
                    Verdict::Good(sent_at) => {
                        self.echoes += 1;
                        if self.is_measuring {
                            self.latency.add(now - sent_at);
                        }
                    }
                    Verdict::Bad => self.bad += 1,
                    Verdict::Twice => self.twice += 1,
                    Verdict::Late => self.late += 1,
                }
            }
        }
        if self.echoes != before {
            self.clients[number].last_echo = now;
            self.clients[number].patience = SILENCE;
            self.fill_window(number, Instant::now())?;
        }
        Ok(())
    }

    /// Sends until the client's window is full again.
    fn fill_window(&mut self, number: usize, now: Instant) -> io::Result<()> {
        let length = self.options.length;
        let client = &mut self.clients[number];
        while client.in_flight < self.options.window {
            let count = (self.options.window - client.in_flight).min(self.at_once);
            for datagram in self.outbox[..count * length].chunks_exact_mut(length) {
                let sequence = client.next;
                client.next += 1;
                write_digits(number as u64, &mut datagram[..NUMBER_DIGITS]);
                write_digits(sequence, &mut datagram[NUMBER_DIGITS..HEADER]);
                let fill = self.pattern.at(place(number, sequence), length - HEADER);
                datagram[HEADER..].copy_from_slice(fill);
                let remembered = client.sent.len() as u64;
                let before = std::mem::replace(
                    &mut client.sent[(sequence % remembered) as usize],
                    OnTheWay {
                        sequence,
                        sent_at: now,
                        is_waited_for: true,
                    },
                );
                client.in_flight += 1;
                if before.is_waited_for && before.sequence >= client.given_up {
                    // Overtaken by many others: it will not come any more.
                    self.lost += 1;
                    client.in_flight -= 1;
                }
            }
            let fd = client.socket.as_raw_fd();
            let data = &self.outbox[..count * length];
            let sent = if count == 1 {
                client.socket.send(data).map(|_| ())
            } else if self.options.send_trains > 1 {
                sys::send_train(fd, data, length)
            } else {
                // What a full buffer did not take counts as lost, as on any other way.
                sys::send_each(fd, data, length).map(|_| ())
            };
            let refused = sent.as_ref().err().and_then(io::Error::raw_os_error);
            // An older kernel takes at most 64 segments; a path may take none.
            if let Some(libc::EINVAL | libc::EMSGSIZE | libc::EIO) = refused {
                return sent;
            }
        }
        Ok(())
    }

    fn give_up(&mut self, now: Instant) -> io::Result<()> {
        for number in 0..self.clients.len() {
            let client = &mut self.clients[number];
            let silence = now.saturating_duration_since(client.last_echo);
            if client.in_flight > 0 && silence >= client.patience {
                client.patience = (client.patience * 2).min(MAX_SILENCE);
                self.lost += client.in_flight as u64;
                client.in_flight = 0;
                client.given_up = client.next;
                client.last_echo = now;
                self.fill_window(number, now)?;
            }
        }
        Ok(())
    }
}

enum Verdict {
    /// With the time at which it was sent.
    Good(Instant),
    Bad,
    Twice,
    Late,
}

fn verify(
    datagram: &[u8],
    number: usize,
    client: &mut Client,
    pattern: &Pattern,
    length: usize,
) -> Verdict {
    if datagram.len() != length {
        return Verdict::Bad;
    }
    let (header, fill) = datagram.split_at(HEADER);
    let (from, sequence) = header.split_at(NUMBER_DIGITS);
    let Some(sequence) = read_digits(sequence).filter(|sequence| *sequence < client.next) else {
        return Verdict::Bad;
    };
    if read_digits(from) != Some(number as u64)
        || fill != pattern.answer_at(place(number, sequence), fill.len())
    {
        return Verdict::Bad;
    }
    if sequence < client.given_up {
        return Verdict::Late;
    }
    let remembered = client.sent.len() as u64;
    let known = &mut client.sent[(sequence % remembered) as usize];
    if known.sequence != sequence {
        return Verdict::Late;
    }
    if !known.is_waited_for {
        return Verdict::Twice;
    }
    known.is_waited_for = false;
    client.in_flight -= 1;
    Verdict::Good(known.sent_at)
}

/// Digits of six bits each, from the space to the underscore: upper case leaves them alone.
const FIRST_DIGIT: u8 = b' ';

fn write_digits(mut number: u64, to: &mut [u8]) {
    for digit in to.iter_mut().rev() {
        *digit = FIRST_DIGIT + (number % 64) as u8;
        number /= 64;
    }
}

/// `None` where something is no digit.
fn read_digits(from: &[u8]) -> Option<u64> {
    from.iter().try_fold(0, |number, digit| {
        let value = digit.checked_sub(FIRST_DIGIT).filter(|value| *value < 64)?;
        Some(number * 64 + u64::from(value))
    })
}

/// Where in the pattern a datagram's bytes are from.
fn place(number: usize, sequence: u64) -> u64 {
    (number as u64)
        .wrapping_mul(7919)
        .wrapping_add(sequence.wrapping_mul(31))
}
