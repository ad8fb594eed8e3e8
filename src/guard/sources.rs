//! Sources that cannot or must not be answered.
//!
//! RFC 1122 §3.2.1.3 says which addresses may never be a source; RFC 862's echo answered
//! itself or another echo server for ever when one was forged (CVE-1999-0103).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::address::is_loopback;
use crate::books::DropReason;
use crate::sys::datagram::Destination;
use crate::sys::{self, RawAddress};

/// The judge of one socket's datagrams.
pub(crate) struct Sources {
    own: SocketAddr,
    local: LocalAddresses,
    /// Datagrams to a broadcast or multicast address are answered as well.
    answers_groups: bool,
}

impl Sources {
    /// For a socket bound to `own`.
    pub(crate) fn new(own: SocketAddr, answers_groups: bool) -> Self {
        let own = crate::address::plain(own);
        Self {
            own,
            local: LocalAddresses::default(),
            answers_groups,
        }
    }

    /// Why a datagram from `source` to `destination` is not answered; `None`: it is.
    pub(crate) fn judge(
        &mut self,
        source: &RawAddress,
        destination: Destination,
    ) -> Option<DropReason> {
        // Without an address there is nobody to answer: as good as unspecified.
        let Some(ip) = source.ip() else {
            return Some(DropReason::SourceUnspecified);
        };
        if let Some(reason) = judge_address(ip, source.port()) {
            return Some(reason);
        }
        if destination.is_group() && !self.answers_groups {
            let multicast = destination.ip().is_some_and(|ip| ip.is_multicast());
            return Some(if multicast {
                DropReason::ToMulticast
            } else {
                DropReason::ToBroadcast
            });
        }
        // Rare, so it may cost something: only a forger or a twin server sends from here.
        if source.port() == self.own.port() && self.is_own(ip, destination) {
            return Some(DropReason::OwnAddress);
        }
        None
    }

    #[cold]
    fn is_own(&mut self, ip: IpAddr, destination: Destination) -> bool {
        if ip == self.own.ip() || Some(ip) == destination.ip() {
            return true;
        }
        // Bound to all addresses, each of this machine's is ours.
        self.own.ip().is_unspecified() && (is_loopback(ip) || self.local.contains(ip))
    }
}

/// Sources that nobody can have.
fn judge_address(ip: IpAddr, port: u16) -> Option<DropReason> {
    if port == 0 {
        return Some(DropReason::SourcePortZero);
    }
    match ip {
        IpAddr::V4(v4) => match v4.octets()[0] {
            1..=223 => None,
            0 if v4.is_unspecified() => Some(DropReason::SourceUnspecified),
            0 => Some(DropReason::SourceZeroNetwork),
            224..=239 => Some(DropReason::SourceMulticast),
            _ if v4 == Ipv4Addr::BROADCAST => Some(DropReason::SourceBroadcast),
            _ => None,
        },
        IpAddr::V6(v6) if v6.is_multicast() => Some(DropReason::SourceMulticast),
        IpAddr::V6(v6) if v6.is_unspecified() => Some(DropReason::SourceUnspecified),
        IpAddr::V6(_) => None,
    }
}

/// This machine's addresses, read at most once per second.
#[derive(Default)]
struct LocalAddresses {
    addresses: Vec<IpAddr>,
    read_at: Option<Instant>,
}

impl LocalAddresses {
    fn contains(&mut self, ip: IpAddr) -> bool {
        if self
            .read_at
            .is_none_or(|at| at.elapsed() > Duration::from_secs(1))
        {
            // Without the list the other rules still hold; an old one is better than none.
            if let Ok(addresses) = sys::local_addresses() {
                self.addresses = addresses;
            }
            self.read_at = Some(Instant::now());
        }
        self.addresses.contains(&ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(own: &str, source: &str, destination: Destination) -> Option<DropReason> {
        let source = RawAddress::from(source.parse::<SocketAddr>().unwrap());
        Sources::new(own.parse().unwrap(), false).judge(&source, destination)
    }

    #[test]
    fn f14_sources_that_nobody_can_have() {
        for (source, wanted) in [
            ("127.0.0.1:0", Some(DropReason::SourcePortZero)),
            ("0.0.0.0:9", Some(DropReason::SourceUnspecified)),
            ("0.1.2.3:9", Some(DropReason::SourceZeroNetwork)),
            ("255.255.255.255:9", Some(DropReason::SourceBroadcast)),
            ("224.0.0.1:9", Some(DropReason::SourceMulticast)),
            ("239.255.255.255:9", Some(DropReason::SourceMulticast)),
            ("[::]:9", Some(DropReason::SourceUnspecified)),
            ("[ff02::1]:9", Some(DropReason::SourceMulticast)),
            ("[::ffff:224.0.0.1]:9", Some(DropReason::SourceMulticast)),
            ("127.0.0.1:9", None),
            ("223.255.255.254:9", None),
            ("[::1]:9", None),
        ] {
            assert_eq!(
                judge("0.0.0.0:7", source, Destination::Unknown),
                wanted,
                "{source}"
            );
        }
    }

    #[test]
    fn f15_group_destinations() {
        let v4 = |addressed: &str, reply_from: &str| Destination::V4 {
            addressed: addressed.parse().unwrap(),
            reply_from: reply_from.parse().unwrap(),
        };
        let judge = |destination| judge("0.0.0.0:7", "192.0.2.1:9", destination);
        assert_eq!(
            judge(v4("192.0.2.255", "192.0.2.2")),
            Some(DropReason::ToBroadcast)
        );
        assert_eq!(
            judge(v4("255.255.255.255", "192.0.2.2")),
            Some(DropReason::ToBroadcast)
        );
        assert_eq!(
            judge(v4("224.0.0.1", "192.0.2.2")),
            Some(DropReason::ToMulticast)
        );
        assert_eq!(judge(v4("192.0.2.2", "192.0.2.2")), None);
        let v6 = Destination::V6 {
            addressed: "ff02::1".parse().unwrap(),
            interface: 1,
        };
        assert_eq!(judge(v6), Some(DropReason::ToMulticast));
    }

    #[test]
    fn f16_the_servers_own_address_and_port() {
        assert_eq!(
            judge("127.0.0.1:7", "127.0.0.1:7", Destination::Unknown),
            Some(DropReason::OwnAddress)
        );
        assert_eq!(
            judge("127.0.0.1:7", "127.0.0.1:8", Destination::Unknown),
            None
        );
        assert_eq!(
            judge("127.0.0.1:7", "127.0.0.2:7", Destination::Unknown),
            None
        );
        // Bound to everything: each of this machine's addresses is its own.
        assert_eq!(
            judge("0.0.0.0:7", "127.0.0.2:7", Destination::Unknown),
            Some(DropReason::OwnAddress)
        );
        assert_eq!(
            judge("[::]:7", "[::ffff:127.0.0.1]:7", Destination::Unknown),
            Some(DropReason::OwnAddress)
        );
        assert_eq!(
            judge("0.0.0.0:7", "192.0.2.9:7", Destination::Unknown),
            None
        );
    }
}
