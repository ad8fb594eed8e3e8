//! Which sources are answered at all: `allow` and `deny`, networks in CIDR notation.
//!
//! An IPv4-mapped IPv6 address (what a dual-stack socket reports for an IPv4 peer) is judged
//! as the IPv4 address that it is, and a network of such addresses as the IPv4 network.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::Network;
use crate::error::{Error, Result};

/// IPv4 within IPv6 (RFC 4291 §2.5.5.2): bits before the IPv4 address.
const MAPPED_BITS: u8 = 96;

impl Network {
    /// The first `prefix` bits of `address`, the others zero.
    ///
    /// # Errors
    ///
    /// When the address has fewer bits than that.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self> {
        let (address, prefix) = match address {
            IpAddr::V6(v6) if prefix >= MAPPED_BITS => match v6.to_ipv4_mapped() {
                Some(v4) => (IpAddr::V4(v4), prefix - MAPPED_BITS),
                None => (address, prefix),
            },
            _ => (address, prefix),
        };
        let most = bits(address);
        if prefix > most {
            let family = if most == 32 { "IPv4" } else { "IPv6" };
            let subject = format!("network {address}/{prefix}");
            let rule = format!("an {family} prefix has 0 to {most} bits");
            return Err(Error::argument("use", subject, rule));
        }
        let address = match address {
            IpAddr::V4(v4) => {
                let kept = u32::MAX.checked_shl(u32::from(32 - prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from(u32::from(v4) & kept))
            }
            IpAddr::V6(v6) => {
                let kept = u128::MAX.checked_shl(u32::from(128 - prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from(u128::from(v6) & kept))
            }
        };
        Ok(Self { address, prefix })
    }

    /// True for an address of this network. IPv4-mapped addresses are not converted here, but in
    /// [`Network::new`].
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => {
                let differ = u32::from(own) ^ u32::from(ip);
                differ.leading_zeros() >= u32::from(self.prefix)
            }
            (IpAddr::V6(own), IpAddr::V6(ip)) => {
                let differ = u128::from(own) ^ u128::from(ip);
                differ.leading_zeros() >= u32::from(self.prefix)
            }
            _ => false,
        }
    }

    /// Its first and last address, as numbers of its family.
    fn range(&self) -> (u128, u128) {
        let first = match self.address {
            IpAddr::V4(v4) => u128::from(u32::from(v4)),
            IpAddr::V6(v6) => u128::from(v6),
        };
        let free = u32::from(bits(self.address) - self.prefix);
        (first, first | !u128::MAX.checked_shl(free).unwrap_or(0))
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl FromStr for Network {
    type Err = Error;

    /// `192.0.2.0/24`, `2001:db8::/32`, or an address alone, which is a network of one. Bits
    /// beyond the prefix are refused: `10.0.0.1/24` may mean one address or 256.
    fn from_str(text: &str) -> Result<Self> {
        let malformed = |reason: &str| {
            Error::argument("use", format!("network {text:?}"), reason)
                .or("write ADDRESS/BITS, as in 192.0.2.0/24 or 2001:db8::/32")
        };
        if text.contains(',') {
            return Err(malformed(
                "it is more than one network; give each by itself",
            ));
        }
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| malformed("it does not start with a numeric address"))?;
        let prefix = match prefix {
            None => bits(address),
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
                .parse()
                .map_err(|_| malformed("a prefix has 0 to 32 bits, or 128 with IPv6"))?,
            Some(_) => return Err(malformed("a prefix is a number of bits")),
        };
        let network = Self::new(address, prefix)
            .map_err(|_| malformed("a prefix has 0 to 32 bits, or 128 with IPv6"))?;
        let whole = Self::new(address, bits(address))?;
        if whole.address != network.address {
            let way_out = format!("write {network}, or {} for that address", whole.address);
            let reason = format!("bits are set behind its prefix /{}", network.prefix);
            return Err(Error::argument("use", format!("network {text:?}"), reason).or(way_out));
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Two lists, made ready to be asked often.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    allow: Option<Set>,
    deny: Set,
}

impl Access {
    /// `None` where all sources are answered.
    pub(crate) fn new(allow: &[Network], deny: &[Network]) -> Option<Self> {
        if allow.is_empty() && deny.is_empty() {
            return None;
        }
        Some(Self {
            allow: (!allow.is_empty()).then(|| Set::new(allow)),
            deny: Set::new(deny),
        })
    }

    /// Whether this plain address is answered: `allow` names it or is empty, and `deny` does not
    /// name it.
    pub(crate) fn admits(&self, ip: IpAddr) -> bool {
        !self.deny.contains(ip) && self.allow.as_ref().is_none_or(|allow| allow.contains(ip))
    }
}

/// Networks of each family as ranges, sorted, none touching another: found by bisection, so
/// a list of a whole country's networks costs little more than one of two.
#[derive(Debug, Clone)]
struct Set {
    v4: Box<[(u128, u128)]>,
    v6: Box<[(u128, u128)]>,
}

impl Set {
    fn new(networks: &[Network]) -> Self {
        let ranges = |v4: bool| {
            let mut ranges: Vec<(u128, u128)> = networks
                .iter()
                // Whatever fields somebody filled in, what counts is what they mean.
                .filter_map(|network| Network::new(network.address, network.prefix).ok())
                .filter(|network| network.address.is_ipv4() == v4)
                .map(|network| network.range())
                .collect();
            ranges.sort_unstable();
            ranges.dedup_by(|next, last| {
                let joins = next.0 <= last.1.saturating_add(1);
                if joins {
                    last.1 = last.1.max(next.1);
                }
                joins
            });
            ranges.into_boxed_slice()
        };
        Self {
            v4: ranges(true),
            v6: ranges(false),
        }
    }

    fn contains(&self, ip: IpAddr) -> bool {
        let (ranges, number) = match ip {
            IpAddr::V4(v4) => (&self.v4, u128::from(u32::from(v4))),
            IpAddr::V6(v6) => (&self.v6, u128::from(v6)),
        };
        let after = ranges.partition_point(|range| range.0 <= number);
        after
            .checked_sub(1)
            .is_some_and(|index| number <= ranges[index].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn reads_what_people_write_and_says_it_plainly() {
        for (text, wanted) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("::/0", "::/0"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("10.0.0.1/32", "10.0.0.1/32"),
            ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ] {
            assert_eq!(network(text).to_string(), wanted);
            assert_eq!(network(wanted), network(text));
        }
    }

    #[test]
    fn refuses_what_is_no_network() {
        for text in [
            "",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "::/129",
            "::/1000",
            "10.0.0/8",
            "localhost",
            "10.0.0.0 /8",
        ] {
            let error = text.parse::<Network>().unwrap_err();
            assert!(error.is_argument(), "{text}");
        }
    }

    #[test]
    fn bits_behind_the_prefix_are_refused_with_both_ways_out() {
        for (text, network, address) in [
            ("10.0.0.1/24", "10.0.0.0/24", "10.0.0.1"),
            ("::ffff:10.1.2.3/104", "10.0.0.0/8", "10.1.2.3"),
            ("2001:db8::1/32", "2001:db8::/32", "2001:db8::1"),
        ] {
            let told = text.parse::<Network>().unwrap_err().to_string();
            let way_out = format!("; write {network}, or {address} for that address");
            assert!(told.ends_with(&way_out), "{told}");
        }
    }

    #[test]
    fn deny_wins_over_allow_and_an_empty_allow_admits_all() {
        let admits = |allow: &[&str], deny: &[&str], ip: &str| {
            let networks = |list: &[&str]| list.iter().copied().map(network).collect::<Vec<_>>();
            Access::new(&networks(allow), &networks(deny))
                .is_none_or(|access| access.admits(ip.parse().unwrap()))
        };
        assert!(admits(&[], &[], "192.0.2.1"));
        assert!(admits(&["192.0.2.0/24"], &[], "192.0.2.1"));
        assert!(!admits(&["192.0.2.0/24"], &[], "192.0.3.1"));
        assert!(!admits(&["192.0.2.0/24"], &["192.0.2.1"], "192.0.2.1"));
        assert!(!admits(&[], &["0.0.0.0/0"], "192.0.2.1"));
        assert!(admits(&[], &["0.0.0.0/0"], "2001:db8::1"));
        // All of IPv6 is not IPv4, however a socket reports it.
        assert!(admits(&[], &["::/0"], "192.0.2.1"));
        assert!(!admits(&[], &["::ffff:0:0/96"], "192.0.2.1"));
    }

    /// Few addresses, near each other, so that networks meet.
    fn ip() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            (0u32..64).prop_map(|n| IpAddr::V4(Ipv4Addr::from(n << 26 | n))),
            (0u128..64).prop_map(|n| IpAddr::V6(Ipv6Addr::from(n << 122 | n))),
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(IpAddr::from),
        ]
    }

    fn any_network() -> impl Strategy<Value = Network> {
        (ip(), any::<u8>()).prop_map(|(address, prefix)| {
            Network::new(address, prefix % (bits(address) + 1)).unwrap()
        })
    }

    proptest! {
        #[test]
        fn written_and_read_again_it_is_the_same(network in any_network()) {
            prop_assert_eq!(network.to_string().parse::<Network>().unwrap(), network);
        }

        #[test]
        fn a_set_holds_what_one_of_its_networks_holds(
            networks in prop::collection::vec(any_network(), 0..12),
            ips in prop::collection::vec(ip(), 1..12),
        ) {
            let set = Set::new(&networks);
            let edges = networks.iter().map(|network| network.address);
            for ip in ips.into_iter().chain(edges) {
                let wanted = networks.iter().any(|network| network.contains(ip));
                prop_assert_eq!(set.contains(ip), wanted, "{} in {:?}", ip, networks);
            }
        }
    }
}
