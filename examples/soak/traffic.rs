//! Datagrams of mixed sizes from many peers, and their echoes.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

const PEERS: usize = 500;
const LARGEST: usize = 8_000;
/// What a peer that sends trains cuts them into.
const SEGMENT: usize = 1_000;
/// Where in the pattern a datagram starts is what tells it from others.
const STARTS: usize = 251;

/// What one peer waits for, in order: where in the pattern, and how long.
type Expected = VecDeque<(usize, usize)>;

pub(crate) struct Traffic {
    peers: Vec<(UdpSocket, Expected)>,
    forger: Option<Forger>,
    pattern: Vec<u8>,
    random: u64,
    /// What may be on its way at a time, as the server's receive buffer counts it.
    window: usize,
    /// Datagrams sent, with those that cannot be answered.
    pub(crate) sent: u64,
    pub(crate) forged: u64,
}

impl Traffic {
    pub(crate) fn new(server: SocketAddr, window: usize) -> io::Result<Self> {
        let peers = (0..PEERS).map(|number| {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(server)?;
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
            if is_train_peer(number) {
                send_in_trains(&socket)?;
            }
            Ok((socket, Expected::new()))
        });
        Ok(Self {
            peers: peers.collect::<io::Result<_>>()?,
            forger: Forger::new(server).ok(),
            pattern: (0..LARGEST + STARTS)
                .map(|i| (i * i / 7 + i) as u8)
                .collect(),
            random: 0x9E37_79B9_7F4A_7C15,
            window,
            sent: 0,
            forged: 0,
        })
    }

    /// Xorshift: the same run every time.
    fn random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) as usize % below
    }

    /// One window of datagrams, and all of its echoes, compared.
    pub(crate) fn exchange(&mut self) -> io::Result<()> {
        let mut room = self.window;
        loop {
            let length = match self.random(4) {
                0 => self.random(64),
                1 => 512,
                2 => self.random(1_472),
                _ => self.random(LARGEST + 1),
            };
            // Bookkeeping and rounding take about as much again.
            let Some(left) = room.checked_sub(2 * length + 2_048) else {
                break;
            };
            room = left;
            let (number, start) = (self.random(PEERS), self.random(STARTS));
            self.send(number, start, length)?;
        }
        if let Some(forger) = &self.forger {
            forger.send()?;
            self.sent += 1;
            self.forged += 1;
        }
        self.collect()
    }

    fn send(&mut self, number: usize, start: usize, length: usize) -> io::Result<()> {
        let (socket, expected) = &mut self.peers[number];
        socket.send(&self.pattern[start..start + length])?;
        let segment = if is_train_peer(number) {
            SEGMENT
        } else {
            LARGEST
        };
        let mut at = 0;
        loop {
            let part = segment.min(length - at);
            expected.push_back((start + at, part));
            self.sent += 1;
            at += part;
            if at >= length {
                return Ok(());
            }
        }
    }

    fn collect(&mut self) -> io::Result<()> {
        let mut buffer = [0; LARGEST + 1];
        for (socket, expected) in &mut self.peers {
            while let Some((start, length)) = expected.pop_front() {
                let came = socket.recv(&mut buffer)?;
                let wanted = &self.pattern[start..start + length];
                assert!(buffer[..came] == *wanted, "{came} bytes came for {length}");
            }
        }
        Ok(())
    }

    /// More than the server's receive buffer holds, one by one; nobody waits for answers.
    pub(crate) fn burst(&mut self, datagrams: usize) -> io::Result<()> {
        for number in 0..datagrams {
            self.peers[number % PEERS]
                .0
                .send(&self.pattern[..SEGMENT])?;
            self.sent += 1;
        }
        Ok(())
    }
}

fn is_train_peer(number: usize) -> bool {
    number.is_multiple_of(4)
}

/// UDP_SEGMENT (udp(7)): what is longer goes as datagrams of this length.
fn send_in_trains(socket: &UdpSocket) -> io::Result<()> {
    const SOL_UDP: libc::c_int = 17;
    const UDP_SEGMENT: libc::c_int = 103;
    let value = SEGMENT as libc::c_int;
    let length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: setsockopt(2) reads one live integer.
    let done = unsafe {
        let value = (&raw const value).cast();
        libc::setsockopt(socket.as_raw_fd(), SOL_UDP, UDP_SEGMENT, value, length)
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sends what must not be answered: a datagram from port 0.
struct Forger {
    socket: Socket,
    to: SockAddr,
    packet: [u8; 32],
}

impl Forger {
    fn new(server: SocketAddr) -> io::Result<Self> {
        const RAW: i32 = 255;
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW)))?;
        // RFC 791; the kernel fills in length and checksum (raw(7)).
        let mut packet = [0; 32];
        packet[0] = 0x45;
        packet[8] = 64;
        packet[9] = 17;
        packet[12..16].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
        packet[16..20].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
        // RFC 768: source port 0, no checksum, four bytes of data.
        packet[22..24].copy_from_slice(&server.port().to_be_bytes());
        packet[24..26].copy_from_slice(&12_u16.to_be_bytes());
        let to = SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        Ok(Self { socket, to, packet })
    }

    fn send(&self) -> io::Result<usize> {
        self.socket.send_to(&self.packet, &self.to)
    }
}
