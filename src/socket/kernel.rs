//! What the kernel knows of a socket that is open, and what it is to do with what that sends.

use std::io;
use std::os::fd::AsRawFd;

use socket2::Socket;

use crate::sys::option::{self, ReceiveQueue};

/// How many datagrams or connections the kernel dropped at this socket; `None` where it
/// does not say.
pub(crate) fn kernel_drops(socket: &Socket) -> Option<u64> {
    receive_queue(socket).map(|queue| queue.dropped.into())
}

/// What its receive queue holds now; `None` where the system does not say.
pub(crate) fn receive_queue(socket: &Socket) -> Option<ReceiveQueue> {
    option::receive_queue(socket.as_raw_fd()).ok()
}

/// The MTU of the route to its peer, IP and UDP headers included; `None` for a socket that is not
/// connected, and where the system does not say.
pub(crate) fn path_mtu(socket: &Socket) -> Option<u32> {
    option::path_mtu(socket.as_raw_fd(), is_v6(socket)).ok()
}

/// From now on what it sends is cut nowhere, be it connected or not: too long for the interface is
/// EMSGSIZE, too long for a link behind it is lost. Linux only.
///
/// # Errors
///
/// `Unsupported`, by its errno, where the system has no such mode.
pub(crate) fn forbid_fragments(socket: &Socket) -> io::Result<()> {
    option::forbid_fragments(socket.as_raw_fd(), is_v6(socket))
}

fn is_v6(socket: &Socket) -> bool {
    socket.local_addr().is_ok_and(|address| address.is_ipv6())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::socket::{SocketOptions, bind_udp, connect_udp};
    use std::net::{SocketAddr, UdpSocket};

    fn each_family(test: impl Fn(SocketAddr)) {
        test("127.0.0.1:0".parse().unwrap());
        test("[::1]:0".parse().unwrap());
    }

    #[test]
    fn only_a_connected_socket_has_a_path() {
        each_family(|address| {
            let peer = UdpSocket::bind(address).unwrap();
            let options = SocketOptions::default();
            let connected = connect_udp(peer.local_addr().unwrap(), &options).unwrap();
            // That of loopback, as far as an IPv4 datagram's length field goes (RFC 791).
            let mtu = if address.is_ipv4() { 65_535 } else { 65_536 };
            assert_eq!(path_mtu(&connected.socket), Some(mtu));
            let bound = bind_udp(address, &options).unwrap();
            assert_eq!(path_mtu(&bound.socket), None);
        });
    }

    #[test]
    fn what_would_be_cut_is_sent_until_that_is_forbidden() {
        // Of IPv6, 65,527 bytes and 8 and 40 of headers are longer than the MTU of loopback; of
        // IPv4, the longest datagram fits.
        let address: SocketAddr = "[::1]:0".parse().unwrap();
        let peer = UdpSocket::bind(address).unwrap();
        let bound = bind_udp(address, &SocketOptions::default()).unwrap();
        let to = peer.local_addr().unwrap().into();
        let longest = [0; 65_527];
        assert_eq!(bound.socket.send_to(&longest, &to).unwrap(), longest.len());
        forbid_fragments(&bound.socket).unwrap();
        let error = bound.socket.send_to(&longest, &to).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        let fits = &longest[..65_536 - 48];
        assert_eq!(bound.socket.send_to(fits, &to).unwrap(), fits.len());
    }

    #[test]
    fn the_queue_says_what_it_holds_and_what_it_dropped() {
        each_family(|address| {
            let options = SocketOptions {
                recv_buffer_bytes: Some(65_536),
                ..SocketOptions::default()
            };
            let bound = bind_udp(address, &options).unwrap();
            let empty = receive_queue(&bound.socket).unwrap();
            let limit = bound.socket.recv_buffer_size().unwrap();
            assert_eq!((empty.used_bytes, empty.dropped), (0, 0));
            assert_eq!(empty.limit_bytes as usize, limit);
            let peer = UdpSocket::bind(address).unwrap();
            for _ in 0..100 {
                peer.send_to(&[0; 8192], bound.address).unwrap();
            }
            let full = receive_queue(&bound.socket).unwrap();
            assert!(full.used_bytes > 65_536 && full.dropped > 50, "{full:?}");
            assert_eq!(kernel_drops(&bound.socket), Some(u64::from(full.dropped)));
        });
    }
}
