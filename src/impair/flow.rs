//! Flows: a peer's datagrams, numbered by who came first.
//!
//! A test's client has another ephemeral port each time; its number is the same.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::recent::Recent;

/// Flows that a worker, and a line, remembers at most.
pub(super) const MOST_FLOWS: usize = 65_536;

/// The numbers of a server's flows, given out by its workers together.
#[derive(Debug, Default)]
pub(crate) struct FlowNumbers(AtomicU32);

impl FlowNumbers {
    fn next(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// The flows of one worker. A peer that comes back after 65,536 others is a new flow.
#[derive(Debug)]
pub(crate) struct Flows {
    numbers: Arc<FlowNumbers>,
    peers: Recent<SocketAddr, u32>,
}

impl Flows {
    /// With numbers that its siblings take from too.
    pub(crate) fn new(numbers: Arc<FlowNumbers>) -> Self {
        Self {
            numbers,
            peers: Recent::new(MOST_FLOWS),
        }
    }

    /// The number of this peer's flow: from 0 on, in the order in which peers first came.
    pub(crate) fn number(&mut self, peer: SocketAddr) -> u32 {
        *self.peers.get(peer, || self.numbers.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u32) -> SocketAddr {
        SocketAddr::from((number.to_be_bytes(), 9))
    }

    #[test]
    fn workers_number_flows_together_in_the_order_of_their_first_datagram() {
        let numbers = Arc::new(FlowNumbers::default());
        let mut one = Flows::new(Arc::clone(&numbers));
        let mut other = Flows::new(numbers);
        assert_eq!(one.number(peer(7)), 0);
        assert_eq!(other.number(peer(5)), 1);
        assert_eq!(one.number(peer(3)), 2);
        assert_eq!((one.number(peer(7)), other.number(peer(5))), (0, 1));
    }

    #[test]
    fn remembers_65536_flows() {
        let mut flows = Flows::new(Arc::default());
        let most = MOST_FLOWS as u32;
        assert!((0..most).all(|number| flows.number(peer(number)) == number));
        assert_eq!(flows.number(peer(0)), 0);
        // One more: the second one, longest unseen by now, is forgotten, the first is not.
        assert_eq!(flows.number(peer(most)), most);
        assert_eq!(flows.number(peer(0)), 0);
        assert_eq!(flows.number(peer(1)), most + 1);
    }
}
