//! Descriptors as such: letting go of them after a fork, keeping one spare.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// This process's id; differs in a child after `fork`.
pub(crate) fn process_id() -> u32 {
    std::process::id()
}

/// Ends the process at once, without flushing, running or unwinding anything: _exit(2).
#[cfg(feature = "python")]
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: _exit(2) takes an integer and does not return.
    unsafe { libc::_exit(status) }
}

/// A descriptor number from outside, once it is known to be open: fcntl(2) with F_GETFD.
pub(crate) fn borrow(fd: RawFd) -> io::Result<BorrowedFd<'static>> {
    // SAFETY: fcntl(2) with F_GETFD takes no pointer and changes nothing.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open now and not -1. The one caller duplicates it at once; should the
    // owner close it in between, that fails with EBADF (dup(2)).
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Lets go of what `fd` refers to while its number stays valid: it refers to /dev/null
/// afterwards.
///
/// For the child of a `fork`, whose copies of the parent's sockets would keep the ports
/// taken after the parent has stopped. The objects that own the numbers are still there
/// and may close them later, so closing here would close a stranger's descriptor then.
pub(crate) fn abandon(fd: RawFd) -> io::Result<()> {
    let null = File::open("/dev/null")?;
    // SAFETY: dup2(2) takes two integers; `null` is open, and replacing `fd` is what is
    // asked for.
    if unsafe { libc::dup2(null.as_raw_fd(), fd) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fcntl(2) with F_SETFD takes an integer.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A descriptor to hold in reserve: closed when accept(2) says EMFILE, it makes room to
/// accept the waiting connection and close it, so that the listener does not stay ready
/// for ever.
pub(crate) fn spare_descriptor() -> io::Result<File> {
    File::open("/dev/null")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn an_abandoned_socket_frees_its_port_and_can_still_be_closed() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        abandon(socket.as_raw_fd()).unwrap();
        let again = UdpSocket::bind(address).expect("the port is free");
        drop(socket);
        assert_eq!(again.local_addr().unwrap(), address);
    }
}
