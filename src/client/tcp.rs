//! A client with one TCP connection.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use std::{fmt, io};

use super::ends::Ends;
use super::patience::{Patience, Until};
use crate::address::{self, Family};
use crate::error::{Error, Result};
use crate::socket::{self, SocketOptions};
use crate::sys::stream::{Moved, Stream};

/// A TCP connection with time limits (see [`Patience`]).
///
/// Once connected, a time limit counts only time without progress, so a large transfer may take
/// longer. A request sends and receives at the same time: a peer that cannot send its
/// reply stops reading, so sending everything first could wait for ever. Bytes after a
/// reply stay for the next call.
#[derive(Debug)]
pub struct TcpClient {
    stream: Stream,
    ends: Ends,
}

const CONNECT: &str = "connect to";
const EXCHANGE: &str = "exchange with";

/// How much of a line is looked for its end at once.
const LINE_STEP: usize = 16 << 10;

/// How much longer than its request a line may be: no peer fills the caller's memory.
const LINE_EXCESS: usize = 64 << 20;

/// What came of receiving a part of a reply.
#[derive(PartialEq, Eq)]
enum Progress {
    /// Nothing has come.
    Blocked,
    /// Something has, and more belongs to the reply.
    Moved,
    Complete,
}

impl Progress {
    fn complete_if(is_complete: bool) -> Self {
        if is_complete {
            Self::Complete
        } else {
            Self::Moved
        }
    }
}

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
        let (socket, name) = (bound.socket, format!("tcp://{peer}"));
        patience
            .wait(&socket, Until::Writable, CONNECT, &name, "no answer")
            .map_err(|error| match error.is_timeout() {
                true => error.or("check the address, and firewalls on the way"),
                false => error,
            })?;
        let outcome = socket.take_error().and_then(|refusal| match refusal {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        });
        outcome.map_err(|error| Error::system(CONNECT, &name, &error))?;
        let stream = Stream::from(OwnedFd::from(socket));
        Ok(Self {
            ends: Ends {
                name,
                // The route is known since connect(2) began; the peer's answer changes nothing.
                address: bound.address,
                peer,
                report: bound.report,
            },
            stream,
        })
    }

    /// Both addresses.
    pub fn ends(&self) -> &Ends {
        &self.ends
    }

    /// Sends all of `data`.
    ///
    /// # Errors
    ///
    /// The connection was reset, or nothing moved in time.
    pub fn send_all(&self, data: &[u8], patience: Patience<'_>) -> Result<()> {
        self.exchange(data, patience, |_| Ok(Progress::Complete))?;
        Ok(())
    }

    /// Receives up to `room.len()` bytes into `room`; 0: the peer has ended the stream.
    ///
    /// # Errors
    ///
    /// The connection was reset, or nothing came in time.
    pub fn receive(&self, room: &mut [u8], patience: Patience<'_>) -> Result<usize> {
        Ok(self.request_any(&[], room, patience)?.0)
    }

    /// Receives until `room` is full.
    ///
    /// # Errors
    ///
    /// The stream ended before, the connection was reset, or nothing came in time.
    pub fn receive_exactly(&self, room: &mut [u8], patience: Patience<'_>) -> Result<()> {
        self.request(&[], room, patience)?;
        Ok(())
    }

    /// Sends all of `data` and receives until `reply` is full. Returns the time.
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
        let mut received = 0;
        self.exchange(data, patience, |_| {
            if received < reply.len() {
                match self.read(&mut reply[received..])? {
                    None => return Ok(Progress::Blocked),
                    Some(0) => return Err(self.ended(received, reply.len())),
                    Some(count) => received += count,
                }
            }
            Ok(Progress::complete_if(received == reply.len()))
        })
    }

    /// Sends all of `data`, and receives into `room` until all is sent and something has been
    /// received. Returns the number of received bytes (0: the peer ended the stream) and the time.
    ///
    /// # Errors
    ///
    /// The connection was reset, or nothing moved in time.
    pub fn request_any(
        &self,
        data: &[u8],
        room: &mut [u8],
        patience: Patience<'_>,
    ) -> Result<(usize, Duration)> {
        let mut received = 0;
        let rtt = self.exchange(data, patience, |is_sent| {
            if received < room.len() && (received == 0 || !is_sent) {
                match self.read(&mut room[received..])? {
                    None => return Ok(Progress::Blocked),
                    Some(0) => return Ok(Progress::Complete),
                    Some(count) => received += count,
                }
            }
            Ok(Progress::complete_if(is_sent || received == room.len()))
        })?;
        Ok((received, rtt))
    }

    /// Sends `line` and a newline, and receives a line, which is returned without its newline,
    /// with the time.
    ///
    /// # Errors
    ///
    /// As of [`TcpClient::request`]; EMSGSIZE for a line that does not end.
    pub fn request_line(&self, line: &[u8], patience: Patience<'_>) -> Result<(Vec<u8>, Duration)> {
        let data = [line, b"\n"].concat();
        let mut reply = Vec::new();
        let longest = data.len() + LINE_EXCESS;
        let rtt = self.exchange(&data, patience, |_| {
            match self.read_line(&mut reply)? {
                None => return Ok(Progress::Blocked),
                Some(0) => return Err(self.ended(reply.len(), "a line's")),
                Some(_) if reply.len() > longest => return Err(self.too_long(longest)),
                Some(_) => {}
            }
            Ok(Progress::complete_if(reply.ends_with(b"\n")))
        })?;
        reply.pop();
        Ok((reply, rtt))
    }

    /// Ends the stream to the peer (SHUT_WR). Receiving is still possible.
    ///
    /// # Errors
    ///
    /// The connection is gone.
    pub fn finish(&self) -> Result<()> {
        self.stream
            .try_finish()
            .map_err(|error| Error::system("finish sending to", &self.ends.name, &error))
    }

    /// Sends all of `data` and has `take` receive until it says that the reply is complete;
    /// it is told whether all is sent. Says how long both took.
    fn exchange(
        &self,
        data: &[u8],
        mut patience: Patience<'_>,
        mut take: impl FnMut(bool) -> Result<Progress>,
    ) -> Result<Duration> {
        let start = Instant::now();
        let (mut sent, mut is_complete) = (0, false);
        while sent < data.len() || !is_complete {
            let before = sent;
            if sent < data.len() {
                sent += self.moved(self.stream.send(&data[sent..]))?.unwrap_or(0);
            }
            let is_sent = sent == data.len();
            let progress = if is_complete {
                Progress::Blocked
            } else {
                take(is_sent)?
            };
            is_complete |= progress == Progress::Complete;
            if sent > before || progress != Progress::Blocked {
                patience.renew(EXCHANGE, &self.ends.name)?;
                continue;
            }
            let (until, missing) = match (is_sent, is_complete) {
                (false, false) => (Until::Either, "nothing moved"),
                (false, true) => (Until::Writable, "the peer took nothing"),
                (true, _) if data.is_empty() => (Until::Readable, "nothing came"),
                (true, _) => (Until::Readable, "nothing came back"),
            };
            patience.wait(&self.stream, until, EXCHANGE, &self.ends.name, missing)?;
        }
        Ok(start.elapsed())
    }

    /// How many bytes came, 0 at the end of the stream; `None`: none yet.
    fn read(&self, room: &mut [u8]) -> Result<Option<usize>> {
        self.moved(self.stream.receive(room))
    }

    /// The same, added to `line` and not beyond its end: what follows stays in the kernel.
    fn read_line(&self, line: &mut Vec<u8>) -> Result<Option<usize>> {
        let start = line.len();
        line.resize(start + LINE_STEP, 0);
        let step = &mut line[start..];
        let came = match self.moved(self.stream.peek(step))? {
            Some(seen @ 1..) => {
                let end = step[..seen].iter().position(|byte| *byte == b'\n');
                self.read(&mut step[..end.map_or(seen, |at| at + 1)])?
            }
            nothing => nothing,
        };
        line.truncate(start + came.unwrap_or(0));
        Ok(came)
    }

    fn moved(&self, moved: Moved) -> Result<Option<usize>> {
        match moved {
            Moved::Bytes(count) => Ok(Some(count)),
            Moved::Blocked => Ok(None),
            Moved::Failed(broken) => Err(self.refused(&broken.into())),
        }
    }

    fn refused(&self, error: &io::Error) -> Error {
        Error::system(EXCHANGE, &self.ends.name, error)
    }

    fn ended(&self, received: usize, wanted: impl fmt::Display) -> Error {
        let reason = format!("the peer ended the stream after {received} of {wanted} bytes");
        Error::ended(EXCHANGE, &self.ends.name, reason)
    }

    fn too_long(&self, longest: usize) -> Error {
        let error = io::Error::from_raw_os_error(libc::EMSGSIZE);
        self.refused(&error)
            .because(format!("the reply has no line end within {longest} bytes"))
            .or("is its server one that answers in lines?")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
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
            assert_eq!(client.receive(&mut [0; 8], patience()).unwrap(), 0);
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
    fn a_line_ends_where_its_newline_is_and_any_reply_where_it_stops() {
        let serve = |mut stream: TcpStream| {
            stream.write_all(b"one\ntwo").unwrap();
            io::copy(&mut stream, &mut io::sink()).unwrap();
        };
        let mut room = [0; 8];
        with_peer(serve, |client| {
            let (line, rtt) = client.request_line(b"a line", patience()).unwrap();
            assert_eq!(line, b"one");
            assert!(rtt > Duration::ZERO);
            let (length, _) = client.request_any(b"x", &mut room, patience()).unwrap();
            assert_eq!(&room[..length], b"two");
        });
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
