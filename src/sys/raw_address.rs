//! Socket addresses as the kernel writes them, so that the hot loop converts nothing.

use std::fmt;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// An IPv4 or IPv6 socket address in the kernel's own form.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct RawAddress {
    storage: Storage,
    length: libc::socklen_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
union Storage {
    any: libc::sockaddr,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl RawAddress {
    /// No address: what a receive that brought none leaves.
    pub(crate) const fn empty() -> Self {
        Self {
            // SAFETY: sockaddr_in6, the largest member, is plain integers, for which
            // all-zero bytes are a value; so is every smaller member.
            storage: unsafe { mem::zeroed() },
            length: 0,
        }
    }

    /// How much the kernel may write.
    pub(crate) const CAPACITY: libc::socklen_t = mem::size_of::<Storage>() as libc::socklen_t;

    pub(crate) fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        (&raw mut self.storage).cast()
    }

    pub(crate) fn as_ptr(&self) -> *const libc::c_void {
        (&raw const self.storage).cast()
    }

    /// As a name for a send: null where there is no address, for a connected socket.
    pub(super) fn as_name(&self) -> *mut libc::c_void {
        if self.is_empty() {
            return std::ptr::null_mut();
        }
        self.as_ptr().cast_mut()
    }

    pub(crate) fn length(&self) -> libc::socklen_t {
        self.length
    }

    /// What the kernel said it wrote.
    pub(crate) fn set_length(&mut self, length: libc::socklen_t) {
        self.length = length.min(Self::CAPACITY);
    }

    /// True when the kernel wrote no address: the empty read that a shut-down socket gives.
    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn family(&self) -> i32 {
        if self.length == 0 {
            return libc::AF_UNSPEC;
        }
        // SAFETY: the union is always initialised (zeroed, or written by the kernel), and
        // every member starts with the family (socket(7), "sockaddr").
        i32::from(unsafe { self.storage.any.sa_family })
    }

    /// The port, 0 where there is no address.
    pub(crate) fn port(&self) -> u16 {
        // SAFETY: sin_port and sin6_port lie at the same offset (ip(7), ipv6(7)), and the
        // union is initialised.
        u16::from_be(unsafe { self.storage.v4.sin_port })
    }

    /// The address; IPv4-mapped IPv6 is given as the IPv4 address that it stands for.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        match self.family() {
            libc::AF_INET => {
                // SAFETY: the family says which member the kernel wrote.
                let bits = unsafe { self.storage.v4.sin_addr.s_addr };
                Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(bits))))
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let ip = Ipv6Addr::from(unsafe { self.storage.v6.sin6_addr.s6_addr });
                Some(ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4))
            }
            _ => None,
        }
    }

    /// True for IPv4, mapped or not: what is sent there is IPv4.
    pub(crate) fn is_v4(&self) -> bool {
        self.ip().is_some_and(|ip| ip.is_ipv4())
    }

    /// The address for people and logs: plain IPv4 where it was mapped, with the scope.
    pub(crate) fn to_std(self) -> Option<SocketAddr> {
        match self.ip()? {
            IpAddr::V4(ip) => Some(SocketAddr::V4(SocketAddrV4::new(ip, self.port()))),
            IpAddr::V6(ip) => {
                // SAFETY: `ip` is IPv6 only where the family says so.
                let scope = unsafe { self.storage.v6.sin6_scope_id };
                Some(SocketAddr::V6(SocketAddrV6::new(ip, self.port(), 0, scope)))
            }
        }
    }
}

impl fmt::Debug for RawAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_std().fmt(f)
    }
}

impl PartialEq for RawAddress {
    /// Byte for byte, as the kernel wrote them: it clears what it does not use.
    fn eq(&self, other: &Self) -> bool {
        self.length == other.length && self.bytes() == other.bytes()
    }
}

impl Eq for RawAddress {}

impl RawAddress {
    fn bytes(&self) -> &[u8] {
        // SAFETY: the union is initialised in all its bytes (zeroed first), has no padding
        // (sockaddr_in6 is its largest member and has none), and `length` is at most its
        // size (`set_length`).
        unsafe { std::slice::from_raw_parts(self.as_ptr().cast(), self.length as usize) }
    }

    /// A number whose high bits differ for most peers: for small tables, not for safety.
    pub(crate) fn fingerprint(&self) -> u32 {
        // SAFETY: plain integers in an initialised union; bytes 2 to 7 hold the port and,
        // for IPv4, the address; for IPv6 the end of the address is at bytes 20 to 23.
        let (port, v4, v6) = unsafe {
            let words: *const u32 = self.as_ptr().cast();
            (self.storage.v4.sin_port, *words.add(1), *words.add(5))
        };
        // Fibonacci hashing: ports of one host are often consecutive, and hosts of a network.
        (u32::from(port) ^ v4.rotate_left(7) ^ v6.rotate_left(13)).wrapping_mul(0x9E37_79B9)
    }
}

impl RawAddress {
    /// A hash of all of it by a secret key. Whoever does not know that cannot choose which
    /// addresses fall together.
    #[inline]
    pub(crate) fn hash(&self, keys: [u64; 2]) -> u64 {
        // SAFETY: plain integers in an initialised union of 28 bytes: family and port, flow
        // or IPv4 address, IPv6 address, scope; IPv4 leaves what it does not use zero or as
        // the kernel wrote it for an earlier IPv6 address, so only its own part is read.
        let (head, rest) = unsafe {
            let words: *const u32 = self.as_ptr().cast();
            let head = u64::from(*words) << 32 | u64::from(*words.add(1));
            let pair = |at: usize| u64::from(*words.add(at)) << 32 | u64::from(*words.add(at + 1));
            let is_v4 = self.length as usize == mem::size_of::<libc::sockaddr_in>();
            (
                head,
                if is_v4 {
                    None
                } else {
                    Some((pair(2), pair(4), *words.add(6)))
                },
            )
        };
        // Twice: after one multiplication the ports of a host, which follow one another, are spread
        // in equal steps, and too short a step by one key in some thousand has them meet.
        let mut hash = fold(head ^ keys[0], keys[1] | 1);
        hash = fold(hash ^ keys[1], keys[0] | 1);
        if let Some((high, low, scope)) = rest {
            hash = fold(high ^ hash, keys[0] | 1);
            hash = fold(low ^ hash, keys[1] | 1);
            hash = fold(u64::from(scope) ^ hash, keys[0] | 1);
        }
        hash
    }
}

/// Both halves of a product in one: each of its bits depends on all.
#[inline]
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    product as u64 ^ (product >> 64) as u64
}

impl From<SocketAddr> for RawAddress {
    fn from(address: SocketAddr) -> Self {
        let mut raw = Self::empty();
        match address {
            SocketAddr::V4(v4) => {
                // SAFETY: zero is a value of sockaddr_in (plain integers).
                let mut sin: libc::sockaddr_in = unsafe { mem::zeroed() };
                sin.sin_family = libc::AF_INET as libc::sa_family_t;
                sin.sin_port = v4.port().to_be();
                sin.sin_addr.s_addr = u32::from(*v4.ip()).to_be();
                raw.storage.v4 = sin;
                raw.length = mem::size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            SocketAddr::V6(v6) => {
                // SAFETY: as above, for sockaddr_in6.
                let mut sin6: libc::sockaddr_in6 = unsafe { mem::zeroed() };
                sin6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                sin6.sin6_port = v6.port().to_be();
                sin6.sin6_addr.s6_addr = v6.ip().octets();
                sin6.sin6_scope_id = v6.scope_id();
                raw.storage.v6 = sin6;
                raw.length = mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            }
        }
        raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_unmaps() {
        for text in ["127.0.0.1:7", "[2001:db8::1]:65535", "0.0.0.0:0"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(RawAddress::from(address).to_std(), Some(address));
        }
        let scoped = SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 7, 0, 3));
        assert_eq!(RawAddress::from(scoped).to_std(), Some(scoped));
        let mapped = RawAddress::from("[::ffff:192.0.2.1]:7".parse::<SocketAddr>().unwrap());
        assert_eq!(mapped.to_std(), Some("192.0.2.1:7".parse().unwrap()));
        assert_eq!(RawAddress::empty().to_std(), None);
    }
}
