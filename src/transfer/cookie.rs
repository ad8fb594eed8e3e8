//! Proves that a peer receives at its address, without storing anything: docs/transfer.md, Cookie.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::wire::Cookie;

/// A cookie's time has this unit, and so many units it is good.
const UNIT_NS: u64 = 8_000_000_000;
const UNITS: u32 = 8;

/// Makes and checks cookies. All workers of a server use the same key.
#[derive(Clone)]
pub struct Cookies([u8; 32]);

impl std::fmt::Debug for Cookies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cookies")
    }
}

impl Cookies {
    /// Uses a random key.
    ///
    /// # Errors
    ///
    /// If the system provides no random numbers.
    pub fn new() -> io::Result<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        Ok(Self(key))
    }

    /// Uses this key.
    pub fn with_key(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// Makes the cookie for this address.
    pub fn make(&self, now_ns: u64, peer: SocketAddr) -> Cookie {
        self.of((now_ns / UNIT_NS) as u32, peer)
    }

    /// True if the cookie was made for this address about a minute ago at most.
    pub fn is_right(&self, now_ns: u64, peer: SocketAddr, cookie: &Cookie) -> bool {
        let [t0, t1, t2, t3, ..] = *cookie;
        let time = u32::from_be_bytes([t0, t1, t2, t3]);
        let age = ((now_ns / UNIT_NS) as u32).wrapping_sub(time);
        // In constant time, as whole hashes compare.
        let right = self.of(time, peer);
        let pairs = right.iter().zip(cookie);
        let differs = pairs.fold(0, |all, (one, other)| all | (one ^ other));
        age < UNITS && differs == 0
    }

    fn of(&self, time: u32, peer: SocketAddr) -> Cookie {
        let mut said = [0; 4 + 16 + 2];
        said[..4].copy_from_slice(&time.to_be_bytes());
        match peer.ip() {
            IpAddr::V4(ip) => said[4..20].copy_from_slice(&ip.to_ipv6_mapped().octets()),
            IpAddr::V6(ip) => said[4..20].copy_from_slice(&ip.octets()),
        }
        said[20..].copy_from_slice(&peer.port().to_be_bytes());
        let hash = blake3::keyed_hash(&self.0, &said);
        let mut cookie = [0; 16];
        cookie[..4].copy_from_slice(&said[..4]);
        cookie[4..].copy_from_slice(&hash.as_bytes()[..12]);
        cookie
    }
}

/// A random id, which cannot be guessed.
///
/// # Errors
///
/// If the system provides no random numbers.
pub fn random_id() -> io::Result<u64> {
    getrandom::u64().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_for_one_peer_and_a_minute() {
        let cookies = Cookies::new().unwrap();
        let peer: SocketAddr = "192.0.2.1:7".parse().unwrap();
        let now_ns = 1_000 * UNIT_NS;
        let cookie = cookies.make(now_ns, peer);
        assert!(cookies.is_right(now_ns, peer, &cookie));
        assert!(cookies.is_right(now_ns + 60_000_000_000, peer, &cookie));
        assert!(!cookies.is_right(now_ns + 64_000_000_000, peer, &cookie));
        assert!(
            !cookies.is_right(now_ns - UNIT_NS, peer, &cookie),
            "not yet made"
        );
        for other in ["192.0.2.1:8", "192.0.2.2:7", "[::1]:7"] {
            assert!(!cookies.is_right(now_ns, other.parse().unwrap(), &cookie));
        }
        let stranger = Cookies::new().unwrap();
        assert!(!stranger.is_right(now_ns, peer, &cookie));
        assert!(!cookies.is_right(now_ns, peer, &Cookie::default()));
        for index in 0..16 {
            let mut forged = cookie;
            forged[index] ^= 1;
            assert!(!cookies.is_right(now_ns, peer, &forged));
        }
    }
}
