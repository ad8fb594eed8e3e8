//! What a socket is asked to report of each datagram, and asked again when its owner, or another
//! server on the same socket, has turned that off.

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;

use super::hops::SocketHops;
use crate::sys::option::{self, HopLimits};

/// True for an address to which nothing but unicast can be sent, and from which every
/// reply goes: control data would cost a little and say nothing.
pub(crate) fn is_one_address(address: SocketAddr) -> bool {
    match address {
        // 127.255.255.255 is the loopback network's broadcast address.
        SocketAddr::V4(v4) => v4.ip().is_loopback() && v4.ip().octets() != [127, 255, 255, 255],
        SocketAddr::V6(v6) => v6.ip().is_loopback(),
    }
}

/// Has a socket say where each datagram was sent to.
pub(crate) fn report_destinations(fd: RawFd, is_v4: bool) -> io::Result<()> {
    if is_v4 {
        return option::receive_destination_v4(fd);
    }
    option::receive_destination_v6(fd)?;
    // For the IPv4 half of a dual-stack socket; one that is IPv6 only may refuse it.
    let _ = option::receive_destination_v4(fd);
    Ok(())
}

/// Hop limits: each receive says with which it came, and each send may have its own.
pub(super) struct Hops {
    fd: RawFd,
    is_v6: bool,
    /// What the socket reported before it was told to report all.
    reported: HopLimits,
    /// It was told to report all, and did not refuse.
    is_reporting: bool,
    pub(super) socket: SocketHops,
}

impl Hops {
    /// Has a socket report hop limits from now on; also those with which it sends by IPv4 and by
    /// IPv6, as far as that is known, and why it does not report, where it does not. The caller
    /// keeps `fd` open; `is_shared`: somebody else sends by it too.
    pub(super) fn new(
        fd: RawFd,
        is_v6: bool,
        is_shared: bool,
    ) -> (Self, [Option<u8>; 2], io::Result<()>) {
        let reported = option::received_hop_limits(fd, is_v6);
        let (socket, own) = SocketHops::new(fd, is_v6, is_shared);
        let mut hops = Self {
            fd,
            is_v6,
            reported,
            is_reporting: false,
            socket,
        };
        let done = hops.report();
        (hops, [own.v4(), own.v6()], done)
    }

    fn report(&mut self) -> io::Result<()> {
        let all = HopLimits {
            v4: true,
            v6: self.is_v6,
        };
        let done = option::receive_hop_limits(self.fd, self.is_v6, all);
        self.is_reporting = done.is_ok();
        done
    }

    /// A receive came with this hop limit. A socket that was passed in is somebody else's too,
    /// who had it report no more: another server that ended puts back what it found.
    #[inline]
    pub(super) fn look(&mut self, hop_limit: u8) {
        if hop_limit == 0 && self.is_reporting {
            self.report_again();
        }
    }

    #[cold]
    fn report_again(&mut self) {
        let _ = self.report();
    }
}

impl Drop for Hops {
    /// A socket that was passed in goes on living elsewhere.
    fn drop(&mut self) {
        self.socket.restore();
        // Nothing is lost where this fails.
        let _ = option::receive_hop_limits(self.fd, self.is_v6, self.reported);
    }
}
