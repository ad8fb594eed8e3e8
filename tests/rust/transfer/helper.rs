//! A server and clients on a simulated network.

use std::net::SocketAddr;
use std::sync::Arc;

use rsecho::event::Observer;
use rsecho::transfer::asking::Push;
use rsecho::transfer::budget::Budget;
use rsecho::transfer::cookie::Cookies;
use rsecho::transfer::sender::{Sender, Sending};
use rsecho::transfer::serving::{Limits, Serving, Shared};
use rsecho::transfer::simulated::disk::Disk;
use rsecho::transfer::simulated::transmit;
use rsecho::transfer::store::Name;
use rsecho::transfer::store::memory::BytesSource;

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const MILLISECOND: u64 = 1_000_000;

pub(crate) fn server_address() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 7))
}

pub(crate) fn client_address(number: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 2], 1_000 + number))
}

pub(crate) const KEY: [u8; 32] = [5; 32];

/// What a server's workers have together, with so much memory for what comes early.
pub(crate) fn shared(disk: &Disk, budget_bytes: u64) -> Arc<Shared> {
    Arc::new(Shared::new(
        Arc::new(disk.clone()),
        None,
        Cookies::with_key(KEY),
        Budget::new(budget_bytes),
        Limits {
            open_per_source: 8,
            open: 64,
            progress_timeout_ns: 10 * SECOND,
            bytes_per_second: None,
        },
        Arc::new(Observer::new("udp://192.0.2.1:7", None)),
        Box::new(|_| 1_472),
    ))
}

pub(crate) fn serving(shared: &Arc<Shared>) -> Serving {
    Serving::new(Arc::clone(shared), 4 << 20)
}

/// Sends a message without a name from `now_ns` on.
pub(crate) fn push(id: u64, data: Vec<u8>, now_ns: u64) -> Push {
    let settings = Sending {
        name: Name::none(),
        replaces: false,
        progress_timeout_ns: 10 * SECOND,
        bytes_per_second: None,
        max_datagram_bytes: 1_472,
    };
    let source = Box::new(BytesSource::new(data));
    let to = transmit(server_address());
    Push::new(Sender::new(id, to, source, settings, now_ns))
}

/// Bytes of which no two places look alike.
pub(crate) fn message(length: usize) -> Vec<u8> {
    let words = (0..length.div_ceil(4) as u32).flat_map(|word| {
        let word = word.wrapping_mul(0x9e37_79b9);
        (word ^ (word >> 15)).to_le_bytes()
    });
    words.take(length).collect()
}
