//! One TCP connection's system calls, and accept(2): never waiting, never raising SIGPIPE.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::SockRef;

use super::option::set_int;
use super::{RawAddress, Ready, wait_readable};

/// What came of a call that moves bytes.
#[derive(Debug)]
pub(crate) enum Moved {
    /// So many; receiving none means the end of the stream.
    Bytes(usize),
    /// None can be moved now.
    Blocked,
    /// The connection is over.
    Failed(Broken),
}

/// How a connection broke: the system's error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken(i32);

impl Broken {
    /// The peer reset it (RST), or had closed it while there was something to send; otherwise
    /// the peer is unreachable or does not answer any more, or memory is lacking.
    ///
    /// EPIPE: after the peer's end of stream a reset says so (net/ipv4/tcp_input.c,
    /// `tcp_reset`), as does a send after one.
    pub(crate) fn is_reset(self) -> bool {
        matches!(self.0, libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED)
    }
}

impl From<Broken> for io::Error {
    fn from(broken: Broken) -> Self {
        io::Error::from_raw_os_error(broken.0)
    }
}

impl Moved {
    fn from(count: isize) -> Self {
        if let Ok(count) = usize::try_from(count) {
            return Moved::Bytes(count);
        }
        // It has a number: it came from the system.
        match io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EIO)
        {
            // A signal: readiness brings the caller back.
            libc::EAGAIN | libc::EINTR => Moved::Blocked,
            #[allow(unreachable_patterns)] // the same number on most systems
            libc::EWOULDBLOCK => Moved::Blocked,
            errno => Moved::Failed(Broken(errno)),
        }
    }
}

/// One end of a TCP connection: closed when dropped, an accepted one shut down before.
#[derive(Debug)]
pub(crate) struct Stream(OwnedFd, Side);

/// Who asked for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Accepted,
    Connected,
}

impl From<OwnedFd> for Stream {
    /// Takes over a connection that was made with connect(2). Its end is close(2)'s alone, so
    /// that SO_LINGER with no time resets it, without an end of stream (FIN) before.
    fn from(fd: OwnedFd) -> Self {
        Self(fd, Side::Connected)
    }
}

impl Stream {
    /// Takes what has come, as much as there is room for.
    pub(crate) fn receive(&self, room: &mut [u8]) -> Moved {
        self.recv(room, 0)
    }

    /// Copies what has come, which stays in the kernel: MSG_PEEK (recv(2)).
    pub(crate) fn peek(&self, room: &mut [u8]) -> Moved {
        self.recv(room, libc::MSG_PEEK)
    }

    /// Takes up to `count` bytes that have come, unseen; `scratch` may be overwritten.
    /// MSG_TRUNC (tcp(7)): "the received bytes of data [are] discarded, rather than passed
    /// back in a caller-supplied buffer".
    #[cfg(target_os = "linux")]
    pub(crate) fn discard(&self, count: usize, scratch: &mut [u8]) -> Moved {
        let room = scratch.as_mut_ptr().cast();
        // The length is kept within `scratch`, so that even a kernel that ignores the flag
        // writes to memory that is ours.
        let count = count.min(scratch.len());
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: recv(2) writes at most `count` bytes to the live slice, which is longer.
        Moved::from(unsafe { libc::recv(self.0.as_raw_fd(), room, count, flags) })
    }

    /// The same without the kernel's help: read and forgotten.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn discard(&self, count: usize, scratch: &mut [u8]) -> Moved {
        let count = count.min(scratch.len());
        self.recv(&mut scratch[..count], 0)
    }

    fn recv(&self, room: &mut [u8], flags: i32) -> Moved {
        // SAFETY: recv(2) writes at most `room.len()` bytes to the live slice.
        Moved::from(unsafe {
            libc::recv(
                self.0.as_raw_fd(),
                room.as_mut_ptr().cast(),
                room.len(),
                flags | libc::MSG_DONTWAIT,
            )
        })
    }

    /// Hands as much to the kernel as it takes.
    pub(crate) fn send(&self, data: &[u8]) -> Moved {
        // SAFETY: send(2) reads at most `data.len()` bytes of the live slice.
        Moved::from(unsafe {
            libc::send(
                self.0.as_raw_fd(),
                data.as_ptr().cast(),
                data.len(),
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        })
    }

    /// Our end's address (IPv4-mapped given as IPv4), which is the one that was asked:
    /// getsockname(2).
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        let mut address = RawAddress::empty();
        let mut length = RawAddress::CAPACITY;
        // SAFETY: getsockname(2) writes at most `length` bytes to the live address.
        let done = unsafe {
            libc::getsockname(
                self.0.as_raw_fd(),
                address.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if done < 0 {
            return None;
        }
        address.set_length(length);
        address.to_std()
    }

    /// Ends our direction of the stream once all that was sent is delivered: SHUT_WR.
    /// A failure means that the peer is gone already: there is nothing left to end.
    pub(crate) fn finish(&self) {
        let _ = self.try_finish();
    }

    /// [`Stream::finish`] for who wants to know.
    pub(crate) fn try_finish(&self) -> io::Result<()> {
        self.shutdown(libc::SHUT_WR)
    }

    /// Makes the close that follows a reset, so that the kernel does not go on for minutes
    /// to offer a peer what it does not take: SO_LINGER with no time (socket(7)).
    pub(crate) fn abort_on_close(&self) {
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        // SAFETY: setsockopt(2) reads the live structure of the size given.
        unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                mem::size_of_val(&linger) as libc::socklen_t,
            );
        }
        // A failure leaves an ordinary close.
    }

    /// Resets the connection now (RST), without the end of stream (FIN) that comes with
    /// every other end: connect(2) with AF_UNSPEC dissolves the association, which the kernel
    /// tells the peer so (net/ipv4/tcp.c, `tcp_disconnect`).
    #[cfg(target_os = "linux")]
    pub(crate) fn reset(&self) {
        // SAFETY: zero is a value of sockaddr.
        let mut nobody: libc::sockaddr = unsafe { mem::zeroed() };
        nobody.sa_family = libc::AF_UNSPEC as libc::sa_family_t;
        let length = mem::size_of_val(&nobody) as libc::socklen_t;
        // SAFETY: connect(2) reads the live address of the length given.
        if unsafe { libc::connect(self.0.as_raw_fd(), &raw const nobody, length) } < 0 {
            self.abort_on_close();
        }
    }

    /// The same as far as other systems can: a reset that comes after the end of stream.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn reset(&self) {
        self.abort_on_close();
    }

    /// Takes back what a connection has inherited from a listener that somebody else set up,
    /// and that would hold up others: SO_LINGER with a time, for which even a non-blocking
    /// close waits (net/ipv4/tcp.c, `tcp_close`), and SO_RCVLOWAT, by which less is never
    /// told to have come (socket(7)).
    fn disown(&self) {
        let socket = SockRef::from(&self.0);
        // A failure leaves it as it was: slow, and not wrong.
        if let Ok(Some(time)) = socket.linger()
            && !time.is_zero()
        {
            let _ = socket.set_linger(None);
        }
        let _ = set_int(self.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVLOWAT, 1);
    }

    fn shutdown(&self, how: i32) -> io::Result<()> {
        // SAFETY: shutdown(2) takes two integers.
        match unsafe { libc::shutdown(self.0.as_raw_fd(), how) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.1 == Side::Accepted {
            // While a child of `fork` holds a copy, close alone would keep the connection up.
            // A failure means that there is nothing left to end.
            let _ = self.shutdown(libc::SHUT_RDWR);
        }
    }
}

/// Why accept(2) gave no connection.
#[derive(Debug)]
pub(crate) enum NotAccepted {
    /// None waits.
    Blocked,
    /// This connection failed before it was taken; the next may not.
    Connection,
    /// No descriptor is left, in this process (EMFILE) or in the system (ENFILE).
    Descriptors,
    /// The kernel has no memory for it now.
    Memory,
    /// The listener does not work any more.
    Listener(io::Error),
}

impl From<io::Error> for NotAccepted {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => NotAccepted::Blocked,
            #[allow(unreachable_patterns)] // the same number on most systems
            Some(libc::EWOULDBLOCK) => NotAccepted::Blocked,
            Some(libc::EMFILE | libc::ENFILE) => NotAccepted::Descriptors,
            Some(libc::ENOBUFS | libc::ENOMEM) => NotAccepted::Memory,
            // accept(2), "Error handling": pending network errors of the new connection are
            // passed on; EPERM comes from packet filters.
            Some(
                libc::ECONNABORTED
                | libc::EPERM
                | libc::ENETDOWN
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::EOPNOTSUPP
                | libc::ENETUNREACH
                | libc::ETIMEDOUT
                | libc::ECONNRESET,
            ) => NotAccepted::Connection,
            #[cfg(target_os = "linux")]
            Some(libc::ENONET) => NotAccepted::Connection,
            _ => NotAccepted::Listener(error),
        }
    }
}

/// Takes the next waiting connection, non-blocking and close-on-exec, with its peer's
/// address (IPv4-mapped given as IPv4).
pub(crate) fn accept(listener: RawFd) -> Result<(Stream, SocketAddr), NotAccepted> {
    let mut address = RawAddress::empty();
    let mut length = RawAddress::CAPACITY;
    let fd = accept_with_flags(listener, &mut address, &mut length)?;
    // SAFETY: accept(2) returned a new descriptor that nobody else owns.
    let stream = Stream(unsafe { OwnedFd::from_raw_fd(fd) }, Side::Accepted);
    address.set_length(length);
    // An address of another family cannot come from an IPv4 or IPv6 listener.
    let peer = address.to_std().ok_or(NotAccepted::Connection)?;
    Ok((stream, peer))
}

/// How long an accept may wait that should not at all: see [`SharedListener::accept`].
const LONGEST_ACCEPT: Duration = Duration::from_millis(50);

/// A listener whose open file description somebody else holds as well, and may change at any
/// time: whether it blocks above all, which is a flag of that description (fcntl(2)), and
/// which accept(2), unlike recv(2), cannot be told by the call.
#[derive(Debug)]
pub(crate) struct SharedListener {
    fd: RawFd,
    /// It was found blocking after we had made it non-blocking.
    was_made_blocking: bool,
}

impl SharedListener {
    /// The caller keeps `fd` open.
    pub(crate) fn new(fd: RawFd) -> Self {
        Self {
            fd,
            was_made_blocking: false,
        }
    }

    /// True once whoever else holds it has made it blocking.
    pub(crate) fn was_made_blocking(&self) -> bool {
        self.was_made_blocking
    }

    /// As [`accept`], never waiting for longer than [`LONGEST_ACCEPT`].
    ///
    /// An accept waits where the file blocks and the queue is empty. So the queue is looked
    /// at first (poll(2)), and the file made non-blocking again if it is not. What is left
    /// is that, between these calls and the accept, the file is made blocking *and* somebody
    /// else takes the connection. Whoever was seen to change the file may do so at any
    /// moment, so from then on SO_RCVTIMEO, which accept(2) heeds (socket(7)), bounds the
    /// wait. It is set for the length of the call only: connections inherit it, and those
    /// that somebody else accepts must not time out for our sake.
    pub(crate) fn accept(&mut self) -> Result<(Stream, SocketAddr), NotAccepted> {
        if wait_readable(self.fd, None, Some(Duration::ZERO))? == Ready::TimedOut {
            return Err(NotAccepted::Blocked);
        }
        if is_blocking(self.fd)? {
            self.was_made_blocking = true;
            unblock(self.fd)?;
        }
        if !self.was_made_blocking {
            return accept(self.fd).inspect(|(stream, _)| stream.disown());
        }
        // SAFETY: the caller keeps `fd` open, beyond this borrow of it.
        let listener = unsafe { BorrowedFd::borrow_raw(self.fd) };
        let listener = SockRef::from(&listener);
        let timeout = listener.read_timeout()?;
        listener.set_read_timeout(Some(LONGEST_ACCEPT))?;
        let accepted = accept(self.fd).inspect(|(stream, _)| stream.disown());
        // Nothing can be done about a failure, and the connection is there all the same.
        let _ = listener.set_read_timeout(timeout);
        accepted
    }
}

/// Whether calls on this open file may wait: O_NONBLOCK is off (fcntl(2)).
fn is_blocking(fd: RawFd) -> io::Result<bool> {
    // SAFETY: fcntl(2) with F_GETFL takes no pointer and changes nothing.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(flags & libc::O_NONBLOCK == 0)
}

/// Makes an open file non-blocking, and changes no other flag of it: FIONBIO (ioctl(2)).
fn unblock(fd: RawFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: ioctl(2) with FIONBIO reads one live int.
    if unsafe { libc::ioctl(fd, libc::FIONBIO, &raw const on) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "openbsd",
    target_os = "dragonfly",
))]
fn accept_with_flags(
    listener: RawFd,
    address: &mut RawAddress,
    length: &mut libc::socklen_t,
) -> io::Result<RawFd> {
    // SAFETY: accept4(2) writes at most `length` bytes to the live address.
    let fd = unsafe {
        libc::accept4(
            listener,
            address.as_mut_ptr().cast(),
            length,
            libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
        )
    };
    if fd < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(fd)
    }
}

#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "openbsd",
    target_os = "dragonfly",
)))]
fn accept_with_flags(
    listener: RawFd,
    address: &mut RawAddress,
    length: &mut libc::socklen_t,
) -> io::Result<RawFd> {
    // SAFETY: accept(2) writes at most `length` bytes to the live address.
    let fd = unsafe { libc::accept(listener, address.as_mut_ptr().cast(), length) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fcntl(2) with F_SETFD and F_SETFL takes integers only.
    unsafe {
        libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK);
    }
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, peer) = accept(listener.as_raw_fd()).unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        assert_eq!(stream.local_address(), client.peer_addr().ok());
        (stream, client)
    }

    /// Waits until `count` bytes can be peeked at.
    fn await_bytes(stream: &Stream, count: usize) {
        let mut room = vec![0; count];
        for _ in 0..2000 {
            if matches!(stream.peek(&mut room), Moved::Bytes(n) if n == count) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("{count} bytes did not come");
    }

    #[test]
    fn what_was_peeked_stays_until_it_is_discarded() {
        let (stream, mut client) = pair();
        let mut room = [0; 16];
        assert!(matches!(stream.receive(&mut room), Moved::Blocked));
        client.write_all(b"abcdef").unwrap();
        await_bytes(&stream, 6);
        assert!(matches!(stream.discard(2, &mut room), Moved::Bytes(2)));
        let Moved::Bytes(4) = stream.receive(&mut room) else {
            panic!("four bytes are left")
        };
        assert_eq!(&room[..4], b"cdef");
    }

    #[test]
    fn finish_ends_one_direction_and_drop_both() {
        let (stream, mut client) = pair();
        stream.finish();
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        client.write_all(b"x").unwrap();
        await_bytes(&stream, 1);
        drop(stream);
        client
            .set_read_timeout(Some(std::time::Duration::from_secs(20)))
            .unwrap();
        // Unread input: the close was a reset, or the end of stream seen above.
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_reset_is_not_an_end_of_stream() {
        for _ in 0..100 {
            let (stream, mut client) = pair();
            stream.reset();
            drop(stream);
            let error = client.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
    }

    #[test]
    fn an_accepted_descriptor_is_close_on_exec_and_non_blocking() {
        let (stream, _client) = pair();
        // SAFETY: fcntl(2) with F_GETFD and F_GETFL takes no pointer.
        let (descriptor, status) = unsafe {
            (
                libc::fcntl(stream.as_raw_fd(), libc::F_GETFD),
                libc::fcntl(stream.as_raw_fd(), libc::F_GETFL),
            )
        };
        assert_ne!(descriptor & libc::FD_CLOEXEC, 0);
        assert_ne!(status & libc::O_NONBLOCK, 0);
    }

    #[test]
    fn an_accept_on_a_shared_listener_never_waits_whatever_its_owner_does() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut shared = SharedListener::new(listener.as_raw_fd());
        assert!(matches!(shared.accept(), Err(NotAccepted::Blocked)));
        let _client = TcpStream::connect(address).unwrap();
        shared.accept().unwrap();
        assert!(!shared.was_made_blocking());
        listener.set_nonblocking(false).unwrap();
        assert!(matches!(shared.accept(), Err(NotAccepted::Blocked)));
        let _other = TcpStream::connect(address).unwrap();
        shared.accept().unwrap();
        assert!(shared.was_made_blocking());
        let owner = SockRef::from(&listener);
        assert_eq!(owner.read_timeout().unwrap(), None, "as it was");
    }

    /// The one race that neither look rules out, without its other half: what bounds the wait.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_accept_that_waits_all_the_same_ends_by_the_receive_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        SockRef::from(&listener)
            .set_read_timeout(Some(LONGEST_ACCEPT))
            .unwrap();
        let start = std::time::Instant::now();
        assert!(matches!(
            accept(listener.as_raw_fd()),
            Err(NotAccepted::Blocked)
        ));
        assert!(start.elapsed() < 20 * LONGEST_ACCEPT);
    }

    #[test]
    fn a_connection_of_a_shared_listener_has_neither_its_linger_nor_its_low_water_mark() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        SockRef::from(&listener)
            .set_linger(Some(Duration::from_secs(60)))
            .unwrap();
        set_int(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            100,
        )
        .unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = SharedListener::new(listener.as_raw_fd()).accept().unwrap();
        assert_eq!(SockRef::from(&stream.0).linger().unwrap(), None);
        client.write_all(b"x").unwrap();
        let fd = stream.as_raw_fd();
        let told = wait_readable(fd, None, Some(Duration::from_secs(20))).unwrap();
        assert_eq!(told, Ready::Socket);
    }

    #[test]
    fn accept_errors_are_told_apart() {
        let of = |errno| NotAccepted::from(io::Error::from_raw_os_error(errno));
        assert!(matches!(of(libc::EAGAIN), NotAccepted::Blocked));
        assert!(matches!(of(libc::EMFILE), NotAccepted::Descriptors));
        assert!(matches!(of(libc::ENFILE), NotAccepted::Descriptors));
        assert!(matches!(of(libc::ENOMEM), NotAccepted::Memory));
        assert!(matches!(of(libc::ECONNABORTED), NotAccepted::Connection));
        assert!(matches!(of(libc::EINVAL), NotAccepted::Listener(_)));
    }
}
