//! One datagram in, one datagram out: recvmsg(2), sendmsg(2), sendto(2).

use std::io;
use std::mem;
use std::os::fd::RawFd;

use super::RawAddress;
use super::control::{self, Room};
use super::datagram::{Received, Transmit};

/// Whether a receive may sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Until something comes, the socket's receive timeout passes, or it is shut down.
    Block,
    /// `WouldBlock` at once when nothing is there.
    DontWait,
}

impl Mode {
    /// For one message.
    pub(super) fn flags(self) -> libc::c_int {
        match self {
            Mode::Block => 0,
            Mode::DontWait => libc::MSG_DONTWAIT,
        }
    }
}

/// Never waits, never raises SIGPIPE.
pub(super) const SEND_FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// What a system call returned: a number, or that errno says why not.
pub(super) fn number(returned: isize) -> io::Result<usize> {
    usize::try_from(returned).map_err(|_| io::Error::last_os_error())
}

/// recvmsg(2), past the C library: there it is a cancellation point, which costs two locked
/// instructions in a process with threads. Nobody cancels threads here.
///
/// # Safety
///
/// As for recvmsg(2): all that `header` points to is live, of the lengths given, and nobody else's.
#[cfg(target_os = "linux")]
pub(super) unsafe fn receive_message(
    fd: RawFd,
    header: *mut libc::msghdr,
    flags: libc::c_int,
) -> isize {
    let (fd, flags) = (libc::c_long::from(fd), libc::c_long::from(flags));
    // SAFETY: by the contract above; syscall(2) passes on what it is given.
    unsafe { libc::syscall(libc::SYS_recvmsg, fd, header, flags) as isize }
}

#[cfg(not(target_os = "linux"))]
pub(super) use libc::recvmsg as receive_message;

/// sendto(2), as [`receive_message`].
///
/// # Safety
///
/// As for sendto(2): the bytes and the name are live and of the lengths given.
#[cfg(target_os = "linux")]
pub(super) unsafe fn send_to(
    fd: RawFd,
    bytes: *const libc::c_void,
    length: usize,
    name: *const libc::c_void,
    name_length: libc::socklen_t,
) -> isize {
    let (fd, flags) = (libc::c_long::from(fd), libc::c_long::from(SEND_FLAGS));
    let name_length = name_length as libc::c_long;
    let call = libc::SYS_sendto;
    // SAFETY: by the contract above; syscall(2) passes on what it is given.
    unsafe { libc::syscall(call, fd, bytes, length, flags, name, name_length) as isize }
}

#[cfg(not(target_os = "linux"))]
pub(super) unsafe fn send_to(
    fd: RawFd,
    bytes: *const libc::c_void,
    length: usize,
    name: *const libc::c_void,
    name_length: libc::socklen_t,
) -> isize {
    // SAFETY: by the contract above.
    unsafe { libc::sendto(fd, bytes, length, SEND_FLAGS, name.cast(), name_length) }
}

/// Receives one datagram.
pub(crate) fn receive(fd: RawFd, buffer: &mut [u8], mode: Mode) -> io::Result<Received> {
    let mut source = RawAddress::empty();
    let mut room = Room::EMPTY;
    let mut data = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: all-zero is a valid msghdr (null pointers, zero lengths).
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = source.as_mut_ptr();
    message.msg_namelen = RawAddress::CAPACITY;
    message.msg_iov = &raw mut data;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut room).cast();
    message.msg_controllen = Room::BYTES as _;
    // SAFETY: recvmsg(2): name, iov and control point to live, exclusively borrowed memory
    // of the lengths given, which outlives the call.
    let length = number(unsafe { receive_message(fd, &raw mut message, mode.flags()) })?;
    Ok(describe(length, source, &room, &message))
}

/// Puts together what a receive left in its header and in the memory that this points to.
pub(super) fn describe(
    length: usize,
    mut source: RawAddress,
    room: &Room,
    header: &libc::msghdr,
) -> Received {
    source.set_length(header.msg_namelen);
    // size_t on Linux, socklen_t elsewhere.
    #[allow(clippy::unnecessary_cast)]
    let control = control::decode(room.bytes(header.msg_controllen as usize));
    // One segment, or a size as long as all: a plain datagram.
    let is_train = control.segment_bytes > 0 && control.segment_bytes < length;
    let truncated = header.msg_flags & libc::MSG_TRUNC != 0;
    Received {
        length,
        source,
        destination: control.destination,
        // Of a train that was cut within its first segment, it is still said that it was one.
        segment_bytes: if is_train || truncated {
            control.segment_bytes
        } else {
            0
        },
        truncated,
        maybe_merged: header.msg_flags & libc::MSG_CTRUNC != 0,
        hop_limit: control.hop_limit,
        kernel_ns: control.kernel_ns,
    }
}

/// Sends one datagram.
pub(crate) fn send(fd: RawFd, data: &[u8], transmit: &Transmit) -> io::Result<usize> {
    let mut room = Room::EMPTY;
    let used = control::encode(&mut room, transmit, 0);
    let (to, to_length) = (transmit.to.as_name(), transmit.to.length());
    if used == 0 {
        let bytes = data.as_ptr().cast();
        // SAFETY: sendto(2) only reads the bytes and the address, both alive and of the
        // lengths given.
        return number(unsafe { send_to(fd, bytes, data.len(), to, to_length) });
    }
    let mut part = libc::iovec {
        iov_base: data.as_ptr().cast_mut().cast(),
        iov_len: data.len(),
    };
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = to;
    message.msg_namelen = to_length;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut room).cast();
    message.msg_controllen = used as _;
    // SAFETY: sendmsg(2) only reads through the pointers, all of which outlive the call.
    number(unsafe { libc::sendmsg(fd, &raw const message, SEND_FLAGS) })
}

/// What is said of an error or a timestamp that the socket keeps: MSG_ERRQUEUE (recvmsg(2)). While
/// one is there, poll(2) returns at once.
#[cfg(target_os = "linux")]
pub(super) fn receive_kept(fd: RawFd) -> io::Result<control::Control> {
    let mut room = Room::EMPTY;
    // SAFETY: all-zero is a valid msghdr: no room for a name or for bytes.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_control = (&raw mut room).cast();
    message.msg_controllen = Room::BYTES as _;
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: recvmsg(2): control points to live, exclusively borrowed memory of the length given.
    number(unsafe { libc::recvmsg(fd, &raw mut message, flags) })?;
    Ok(control::decode(room.bytes(message.msg_controllen as usize)))
}

/// Throws away the errors and timestamps that the socket keeps, a bounded number of them.
#[cfg(target_os = "linux")]
pub(crate) fn forget_kept_errors(fd: RawFd) {
    const MOST: usize = 1024;
    let _ = (0..MOST).map_while(|_| receive_kept(fd).ok()).count();
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn forget_kept_errors(_: RawFd) {}
