//! A client with one TCP connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::patience::{Patience, Until};
use crate::address::{self, Family};
use crate::error::{Error, Result};
use crate::socket::{self, SocketOptions, SocketReport};

/// A connection that does not block; waits are [`Patience`]'s.
///
/// Once connected, a time limit is one without progress: a large transfer takes as long as
/// it moves.
#[derive(Debug)]
pub struct TcpClient {
    stream: TcpStream,
    name: String,
    peer: SocketAddr,
    address: SocketAddr,
    report: SocketReport,
}

const CONNECT: &str = "connect to";
const EXCHANGE: &str = "exchange with";

impl TcpClient {
    /// Tries every address of `host` in turn, each for its share of the time that is left.
    ///
    /// # Errors
    ///
    /// A name that does not resolve, an option that the kernel refuses; refused, no route or
    /// no answer by the last address.
    pub fn connect(
        host: &str,
        port: u16,
        family: Family,
        options: &SocketOptions,
        patience: &Patience<'_>,
    ) -> Result<Self> {
        let peers = address::resolve(host, port, family)?;
        let mut left = peers.len() as u32;
        let mut outcome = Err(Error::resolve(format!("{host:?}"), "it has no address"));
        for peer in peers {
            outcome = Self::connect_to(peer, options, &patience.share(left));
            match &outcome {
                // Another address would fare the same.
                Err(error) if error.is_argument() || error.is_state() => break,
                Err(_) => left -= 1,
                Ok(_) => break,
            }
        }
        outcome
    }

    fn connect_to(
        peer: SocketAddr,
        options: &SocketOptions,
        patience: &Patience<'_>,
    ) -> Result<Self> {
        let bound = socket::begin_connect_tcp(peer, options)?;
        let stream = TcpStream::from(bound.socket);
        let name = format!("tcp://{peer}");
        patience
            .wait(&stream, Until::Writable, CONNECT, &name, "no answer")
            .map_err(|error| {
                if error.is_timeout() {
                    error.or("check the address, and firewalls on the way")
                } else {
                    error
                }
            })?;
        let fail = |error: &io::Error| Error::system(CONNECT, &name, error);
        if let Some(refusal) = stream.take_error().map_err(|error| fail(&error))? {
            return Err(fail(&refusal));
        }
        let address = stream.local_addr().map_err(|error| fail(&error))?;
        Ok(Self {
            stream,
            name,
            peer,
            address,
            report: bound.report,
        })
    }

    /// As in `tcp://127.0.0.1:9999`: whom it talks to.
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

    /// Sends all of `data`.
    ///
    /// # Errors
    ///
    /// The connection was reset, or nothing moved in time.
    pub fn send_all(&self, data: &[u8], mut patience: Patience<'_>) -> Result<()> {
        let mut sent = 0;
        while sent < data.len() {
            match self.write(&data[sent..])? {
                0 => self.wait(&patience, Until::Writable, "the peer took nothing")?,
                count => {
                    sent += count;
                    patience.renew();
                }
            }
        }
        Ok(())
    }

    /// Takes what has come into `room`; 0: the peer has ended the stream.
    ///
    /// # Errors
    ///
    /// The connection was reset, or nothing came in time.
    pub fn receive(&self, room: &mut [u8], patience: &Patience<'_>) -> Result<usize> {
        if room.is_empty() {
            return Ok(0);
        }
        loop {
            match self.read(room)? {
                Some(count) => return Ok(count),
                None => self.wait(patience, Until::Readable, "nothing came")?,
            }
        }
    }

    /// Fills `room`.
    ///
    /// # Errors
    ///
    /// The stream ended before, the connection was reset, or nothing came in time.
    pub fn receive_exactly(&self, room: &mut [u8], patience: Patience<'_>) -> Result<()> {
        self.exchange(&[], room, patience)
    }

    /// Sends all of `data` and fills `reply`, both at the same time: a peer that cannot send
    /// its reply stops reading, so whoever sends everything first waits for ever. Says how
    /// long it took.
    ///
    /// # Errors
    ///
    /// The stream ended before, the connection was reset, or nothing moved in time.
    pub fn request(
        &self,
        data: &[u8],
        reply: &mut [u8],
        patience: Patience<'_>,
    ) -> Result<Duration> {
        let start = Instant::now();
        self.exchange(data, reply, patience)?;
        Ok(start.elapsed())
    }

    fn exchange(&self, data: &[u8], reply: &mut [u8], mut patience: Patience<'_>) -> Result<()> {
        let (mut sent, mut received) = (0, 0);
        while sent < data.len() || received < reply.len() {
            let before = (sent, received);
            if sent < data.len() {
                sent += self.write(&data[sent..])?;
            }
            if received < reply.len() {
                match self.read(&mut reply[received..])? {
                    Some(0) => return Err(self.ended(received, reply.len())),
                    Some(count) => received += count,
                    None => {}
                }
            }
            if (sent, received) != before {
                patience.renew();
                continue;
            }
            let (until, missing) = match (sent < data.len(), received < reply.len()) {
                (true, true) => (Until::Either, "nothing moved"),
                (true, false) => (Until::Writable, "the peer took nothing"),
                (false, _) => (Until::Readable, "nothing came back"),
            };
            self.wait(&patience, until, missing)?;
        }
        Ok(())
    }

    fn ended(&self, received: usize, wanted: usize) -> Error {
        let reason = format!("the peer ended the stream after {received} of {wanted} bytes");
        Error::ended(EXCHANGE, &self.name, reason)
    }

    /// Tells the peer that nothing more will be sent; what it still sends can be received.
    ///
    /// # Errors
    ///
    /// The connection is gone.
    pub fn finish(&self) -> Result<()> {
        self.stream
            .shutdown(Shutdown::Write)
            .map_err(|error| Error::system("finish sending to", &self.name, &error))
    }

    /// How many bytes the kernel took; 0: it has no room now.
    fn write(&self, data: &[u8]) -> Result<usize> {
        match (&self.stream).write(data) {
            Ok(count) => Ok(count),
            Err(error) if is_not_yet(&error) => Ok(0),
            Err(error) => Err(Error::system(EXCHANGE, &self.name, &error)),
        }
    }

    /// How many bytes came, 0 at the end of the stream; `None`: none yet.
    fn read(&self, room: &mut [u8]) -> Result<Option<usize>> {
        match (&self.stream).read(room) {
            Ok(count) => Ok(Some(count)),
            Err(error) if is_not_yet(&error) => Ok(None),
            Err(error) => Err(Error::system(EXCHANGE, &self.name, &error)),
        }
    }

    fn wait(&self, patience: &Patience<'_>, until: Until, missing: &str) -> Result<()> {
        patience.wait(&self.stream, until, EXCHANGE, &self.name, missing)
    }
}

fn is_not_yet(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    fn patience() -> Patience<'static> {
        Patience::new(Some(Duration::from_secs(20)), &|| false)
    }

    /// A client, and a thread that runs `serve` with the other end.
    fn with_peer<R>(serve: fn(TcpStream), ask: impl FnOnce(&TcpClient) -> R) -> R {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::scope(|scope| {
            scope.spawn(move || serve(listener.accept().unwrap().0));
            let options = SocketOptions::default();
            let client =
                TcpClient::connect("127.0.0.1", port, Family::Any, &options, &patience()).unwrap();
            ask(&client)
        })
    }

    #[test]
    fn a_large_request_does_not_deadlock_with_a_peer_that_echoes() {
        let echo = |mut stream: TcpStream| {
            let mut copy = stream.try_clone().unwrap();
            io::copy(&mut stream, &mut copy).unwrap();
        };
        let data: Vec<u8> = (0..8 << 20).map(|i: u32| ((i * 31) >> 3) as u8).collect();
        let mut reply = vec![0; data.len()];
        with_peer(echo, |client| {
            client.request(&data, &mut reply, patience()).unwrap();
            client.finish().unwrap();
            assert_eq!(client.receive(&mut [0; 8], &patience()).unwrap(), 0);
        });
        assert!(reply == data);
    }

    #[test]
    fn an_early_end_says_how_much_came() {
        let error = with_peer(
            |mut stream| stream.write_all(b"abc").unwrap(),
            |client| client.receive_exactly(&mut [0; 5], patience()).unwrap_err(),
        );
        assert!(error.is_end_of_stream());
        assert!(error.to_string().contains("3 of 5 bytes"), "{error}");
    }

    #[test]
    fn nobody_there_is_refused_by_name() {
        let port = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let options = SocketOptions::default();
        let error =
            TcpClient::connect("127.0.0.1", port, Family::Any, &options, &patience()).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ECONNREFUSED));
    }
}
