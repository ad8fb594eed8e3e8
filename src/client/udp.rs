//! A client that talks to one UDP peer.

use std::time::Duration;

use super::driver::Driver;
use super::ends::Ends;
use super::expectation::Expectation;
use super::patience::Patience;
use crate::address::Family;
use crate::error::Result;
use crate::proto::Exchange;
use crate::socket::SocketOptions;

/// A connected UDP socket: it receives only from its peer, and reports ICMP errors. One thread may
/// send while another receives.
#[derive(Debug)]
pub struct UdpClient(Driver);

/// The reply to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The datagram.
    pub data: Vec<u8>,
    /// The time from before the send until after the receive.
    pub rtt: Duration,
    /// True: it equals the expected data.
    pub is_right: bool,
}

impl UdpClient {
    /// Resolves `host`, IPv4 first, and connects. Nothing is sent, so a server need not be
    /// there yet.
    ///
    /// # Errors
    ///
    /// A name that does not resolve, an option that the kernel refuses, no route.
    pub fn connect(host: &str, port: u16, family: Family, options: &SocketOptions) -> Result<Self> {
        Driver::connect(host, port, family, options).map(Self)
    }

    /// Both addresses.
    pub fn ends(&self) -> &Ends {
        self.0.ends()
    }

    /// Sends one datagram, waiting for room in the send buffer.
    ///
    /// # Errors
    ///
    /// The peer's host refused an earlier datagram; no route; the datagram is too long; no room in
    /// the send buffer in time.
    pub fn send(&self, data: &[u8], patience: Patience<'_>) -> Result<()> {
        self.run(Exchange::send(Driver::to_peer(), data), patience)?;
        Ok(())
    }

    /// The next datagram from the peer.
    ///
    /// # Errors
    ///
    /// The peer's host refused a datagram; none arrived in time.
    pub fn receive(&self, patience: Patience<'_>) -> Result<Vec<u8>> {
        let received = self.run(Exchange::receive(Driver::to_peer()), patience)?;
        Ok(received.0)
    }

    /// Drops datagrams that have arrived already, sends one, and takes the next one as its reply,
    /// whether it is the expected one or not.
    ///
    /// Echo has no numbers that say which request a reply answers. Datagrams that arrived before
    /// the request cannot be its reply and are dropped. A late reply to an earlier request that
    /// arrives during the wait cannot be distinguished from the right one.
    ///
    /// # Errors
    ///
    /// As for [`UdpClient::send`] and [`UdpClient::receive`].
    pub fn request(
        &self,
        data: &[u8],
        expectation: Expectation<'_>,
        patience: Patience<'_>,
    ) -> Result<Reply> {
        self.0.drop_received();
        let (reply, rtt_ns) = self.run(Exchange::request(Driver::to_peer(), data), patience)?;
        Ok(Reply {
            is_right: expectation.is_met(data, &reply),
            data: reply,
            rtt: Duration::from_nanos(rtt_ns),
        })
    }

    /// The reply, where one is wanted, and its time.
    fn run(&self, mut exchange: Exchange<'_>, patience: Patience<'_>) -> Result<(Vec<u8>, u64)> {
        self.0
            .run(&mut exchange, |all| all.is_complete(), patience)?;
        Ok(exchange.into_reply().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

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
            server.send_to(b"late", client.ends().address).unwrap();
        }
        // Loopback delivers within sendto(2): all three wait by now.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut room = [0; 100];
                let (length, peer) = server.recv_from(&mut room).unwrap();
                server.send_to(&room[..length], peer).unwrap();
            });
            let asked = client.request(b"fresh", Expectation::Echo, patience());
            let reply = asked.unwrap();
            assert_eq!(reply.data, b"fresh");
            assert!(reply.rtt > Duration::ZERO && reply.is_right);
        });
    }

    #[test]
    fn a_closed_port_refuses_and_the_refusal_does_not_linger() {
        let (server, client) = pair();
        drop(server);
        for _ in 0..2 {
            let error = client
                .request(b"x", Expectation::Any, patience())
                .unwrap_err();
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
        server.send_to(b"", client.ends().address).unwrap();
        assert_eq!(client.receive(patience()).unwrap(), b"");
    }
}
