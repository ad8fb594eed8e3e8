//! One request, and its reply: what a client asks with.

use super::{Batch, Outbox, Progress, Protocol};
use crate::datagram::Transmit;

/// Sends a request, if there is one, at the first time it is told, and takes the next datagram
/// as the reply, if one is wanted.
#[derive(Debug)]
pub struct Exchange<'a> {
    to: Transmit,
    request: Option<&'a [u8]>,
    wants_reply: bool,
    sent_ns: u64,
    reply: Option<(Vec<u8>, u64)>,
}

impl<'a> Exchange<'a> {
    /// A request that goes `to` somebody, whose reply is wanted.
    pub fn request(to: Transmit, data: &'a [u8]) -> Self {
        Self {
            wants_reply: true,
            ..Self::send(to, data)
        }
    }

    /// A datagram without a reply.
    pub fn send(to: Transmit, data: &'a [u8]) -> Self {
        Self {
            to,
            request: Some(data),
            wants_reply: false,
            sent_ns: 0,
            reply: None,
        }
    }

    /// A reply without a request.
    pub fn receive(to: Transmit) -> Self {
        Self {
            request: None,
            ..Self::request(to, &[])
        }
    }

    /// Whether the request is sent, and the reply here.
    pub fn is_complete(&self) -> bool {
        self.request.is_none() && self.reply.is_some() == self.wants_reply
    }

    /// The reply, and how many nanoseconds after the request it came.
    pub fn into_reply(self) -> Option<(Vec<u8>, u64)> {
        self.reply
    }
}

impl Protocol for Exchange<'_> {
    fn on_batch(&mut self, now_ns: u64, batch: &Batch<'_>, _out: &mut Outbox) -> Progress {
        // What came before the request, or after the reply, is none.
        if self.request.is_none() && self.wants_reply && self.reply.is_none() {
            let first = batch.datagrams().next();
            self.reply = first.map(|reply| (reply.data.to_vec(), now_ns - self.sent_ns));
        }
        Progress::Done
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.request.map(|_| 0)
    }

    fn on_time(&mut self, now_ns: u64, out: &mut Outbox) -> Progress {
        if let Some(data) = self.request.take() {
            self.sent_ns = now_ns;
            out.send(self.to, data);
        }
        Progress::Done
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulated::Network;
    use super::super::{Echo, Protocol};
    use super::*;
    use crate::datagram::RawAddress;
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};

    /// One that can be looked at while it lives on a network.
    #[derive(Clone)]
    struct Shared(Arc<Mutex<Exchange<'static>>>);

    impl Protocol for Shared {
        fn on_batch(&mut self, now_ns: u64, batch: &Batch<'_>, out: &mut Outbox) -> Progress {
            self.0.lock().unwrap().on_batch(now_ns, batch, out)
        }

        fn deadline_ns(&self) -> Option<u64> {
            self.0.lock().unwrap().deadline_ns()
        }

        fn on_time(&mut self, now_ns: u64, out: &mut Outbox) -> Progress {
            self.0.lock().unwrap().on_time(now_ns, out)
        }
    }

    const CLIENT: SocketAddr = address(1);
    const SERVER: SocketAddr = address(2);

    const fn address(port: u16) -> SocketAddr {
        use std::net::{IpAddr, Ipv4Addr};
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
    }

    /// A client on a network where each datagram takes a microsecond.
    fn network(exchange: Exchange<'static>) -> (Network, Shared) {
        let client = Shared(Arc::new(Mutex::new(exchange)));
        let mut network = Network::new(1000);
        network.add(CLIENT, Box::new(client.clone()));
        (network, client)
    }

    fn to_server() -> Transmit {
        Transmit::to(RawAddress::from(SERVER))
    }

    #[test]
    fn the_round_trip_takes_the_way_there_and_back() {
        let (mut network, client) = network(Exchange::request(to_server(), b"ping"));
        network.add(SERVER, Box::new(Echo));
        network.run_until(1999);
        assert!(!client.0.lock().unwrap().is_complete());
        network.run_until(2000);
        let exchange = client.0.lock().unwrap();
        assert!(exchange.is_complete());
        assert_eq!(exchange.reply, Some((b"ping".to_vec(), 2000)));
    }

    #[test]
    fn the_first_datagram_is_the_reply_and_a_later_one_is_none() {
        let (mut network, client) = network(Exchange::request(to_server(), b"ping"));
        let arrived = network.run_until(1000);
        assert_eq!(arrived[0].data, b"ping");
        network.send(SERVER, CLIENT, b"");
        network.send(SERVER, CLIENT, b"late");
        network.run_until(9000);
        assert_eq!(client.0.lock().unwrap().reply, Some((vec![], 2000)));
    }

    #[test]
    fn what_only_sends_takes_nothing() {
        let (mut network, client) = network(Exchange::send(to_server(), b"gone"));
        assert_eq!(network.run_until(1000)[0].data, b"gone");
        assert!(client.0.lock().unwrap().is_complete());
        network.send(SERVER, CLIENT, b"unasked");
        network.run_until(9000);
        assert_eq!(client.0.lock().unwrap().reply, None);
    }
}
