//! A client that talks to one UDP peer.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::patience::{Patience, Until};
use crate::address::{self, Family};
use crate::error::{Error, Result};
use crate::socket::{self, SocketOptions, SocketReport};

/// A connected UDP socket: what others send it never sees, what the network refuses (ICMP)
/// it reports.
#[derive(Debug)]
pub struct UdpClient {
    socket: UdpSocket,
    name: String,
    peer: SocketAddr,
    address: SocketAddr,
    report: SocketReport,
    /// One receive's room, kept from call to call.
    room: Mutex<Box<[u8]>>,
}

/// No datagram is longer: the length field of UDP has 16 bits (RFC 768).
const LONGEST: usize = 65_535;

/// How many datagrams of earlier requests are dropped before a new one at most, so that a
/// peer that never stops sending cannot hold the caller up.
const MOST_STALE: usize = 65_536;

const OPERATION: &str = "exchange with";

impl UdpClient {
    /// Resolves `host`, IPv4 first, and connects. Nothing is sent, so a server need not be
    /// there yet.
    ///
    /// # Errors
    ///
    /// A name that does not resolve, an option that the kernel refuses, no route.
    pub fn connect(host: &str, port: u16, family: Family, options: &SocketOptions) -> Result<Self> {
        let peer = address::resolve_one(host, port, family)?;
        let bound = socket::connect_udp(peer, options)?;
        let name = format!("udp://{peer}");
        let socket = UdpSocket::from(bound.socket);
        socket
            .set_nonblocking(true)
            .map_err(|error| Error::system("make non-blocking", &name, &error))?;
        Ok(Self {
            socket,
            name,
            peer,
            address: bound.address,
            report: bound.report,
            room: Mutex::new(vec![0; LONGEST].into()),
        })
    }

    /// As in `udp://127.0.0.1:9999`: whom it talks to.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whom it talks to.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Its own address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the socket was to get and what it got.
    pub fn report(&self) -> &SocketReport {
        &self.report
    }

    /// Sends one datagram, waiting for room in the send buffer.
    ///
    /// # Errors
    ///
    /// Refused by the peer's host (of an earlier datagram), no route, too long, no room in
    /// time.
    pub fn send(&self, data: &[u8], patience: &Patience<'_>) -> Result<()> {
        loop {
            match self.socket.send(data) {
                Ok(_) => return Ok(()),
                Err(error) if is_not_yet(&error) => {
                    let missing = "the send buffer had no room";
                    patience.wait(
                        &self.socket,
                        Until::Writable,
                        OPERATION,
                        &self.name,
                        missing,
                    )?;
                }
                Err(error) => return Err(Error::system(OPERATION, &self.name, &error)),
            }
        }
    }

    /// The next datagram from the peer.
    ///
    /// # Errors
    ///
    /// Refused by the peer's host, nothing in time.
    pub fn receive(&self, patience: &Patience<'_>) -> Result<Vec<u8>> {
        loop {
            match self.try_receive() {
                Ok(data) => return Ok(data),
                Err(error) if is_not_yet(&error) => {
                    patience.wait(
                        &self.socket,
                        Until::Readable,
                        OPERATION,
                        &self.name,
                        "nothing came back",
                    )?;
                }
                Err(error) => return Err(Error::system(OPERATION, &self.name, &error)),
            }
        }
    }

    fn try_receive(&self) -> io::Result<Vec<u8>> {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let length = self.socket.recv(&mut room)?;
        Ok(room[..length].to_vec())
    }

    /// Drops what has come already, sends one datagram and takes the next one as its reply;
    /// also says how long that took.
    ///
    /// Echo has no numbers by which a reply says what it answers. What came before the
    /// request cannot be its reply and is dropped; a late reply that comes during the wait
    /// cannot be told from the right one.
    ///
    /// # Errors
    ///
    /// As for [`UdpClient::send`] and [`UdpClient::receive`].
    pub fn request(&self, data: &[u8], patience: &Patience<'_>) -> Result<(Vec<u8>, Duration)> {
        self.drop_stale();
        let start = Instant::now();
        self.send(data, patience)?;
        let reply = self.receive(patience)?;
        Ok((reply, start.elapsed()))
    }

    /// Takes what earlier requests left: late replies, and the refusals that reading clears.
    fn drop_stale(&self) {
        for _ in 0..MOST_STALE {
            match self.socket.recv(&mut []) {
                Err(error) if is_not_yet(&error) => return,
                Ok(_) | Err(_) => {}
            }
        }
    }
}

fn is_not_yet(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (UdpSocket, UdpClient) {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let client =
            UdpClient::connect("127.0.0.1", port, Family::Any, &SocketOptions::default()).unwrap();
        (server, client)
    }

    fn patience() -> Patience<'static> {
        Patience::new(Some(Duration::from_secs(20)), &|| false)
    }

    #[test]
    fn a_late_reply_is_not_taken_for_the_next_one() {
        let (server, client) = pair();
        for _ in 0..3 {
            server.send_to(b"late", client.address()).unwrap();
        }
        // Loopback delivers within sendto(2): all three wait by now.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut room = [0; 100];
                let (length, peer) = server.recv_from(&mut room).unwrap();
                server.send_to(&room[..length], peer).unwrap();
            });
            let (reply, rtt) = client.request(b"fresh", &patience()).unwrap();
            assert_eq!(reply, b"fresh");
            assert!(rtt > Duration::ZERO);
        });
    }

    #[test]
    fn a_closed_port_refuses_and_the_refusal_does_not_linger() {
        let (server, client) = pair();
        drop(server);
        for _ in 0..2 {
            let error = client.request(b"x", &patience()).unwrap_err();
            assert_eq!(error.errno(), Some(libc::ECONNREFUSED));
            assert!(
                error.to_string().contains("nothing listens there"),
                "{error}"
            );
        }
    }

    #[test]
    fn an_empty_reply_is_a_reply() {
        let (server, client) = pair();
        server.send_to(b"", client.address()).unwrap();
        assert_eq!(client.receive(&patience()).unwrap(), b"");
    }
}
