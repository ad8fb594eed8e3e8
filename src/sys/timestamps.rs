//! When the kernel received and sent datagrams: SO_TIMESTAMPING (socket(7),
//! Documentation/networking/timestamping.rst). A receive carries its own time; those of sends come
//! back on the socket's error queue, by the number of the send.

use std::io;
use std::os::fd::RawFd;

/// When a datagram left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// How many sends came before it, since the socket was told to report times.
    pub number: u32,
    /// Nanoseconds since 1970, by the clock by which receives are told too.
    pub kernel_ns: u64,
}

/// Has a socket report times from now on, by software: as a datagram is handed to the device, or
/// taken from it.
#[cfg(target_os = "linux")]
pub(crate) fn report_times(fd: RawFd) -> io::Result<()> {
    // OPT_ID numbers the sends, OPT_TSONLY spares their bytes the way back.
    let flags = libc::SOF_TIMESTAMPING_TX_SOFTWARE
        | libc::SOF_TIMESTAMPING_RX_SOFTWARE
        | libc::SOF_TIMESTAMPING_SOFTWARE
        | libc::SOF_TIMESTAMPING_OPT_ID
        | libc::SOF_TIMESTAMPING_OPT_TSONLY;
    let flags = i32::try_from(flags).map_err(io::Error::other)?;
    super::option::set_int(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, flags)
}

/// The time of a send that is told next, if one is; kept errors before it are thrown away, a
/// bounded number of them.
#[cfg(target_os = "linux")]
pub(crate) fn next_sent(fd: RawFd) -> Option<Sent> {
    const MOST: usize = 64;
    (0..MOST)
        .map_while(|_| super::message::receive_kept(fd).ok())
        .find_map(|control| {
            let number = control.sent?;
            (control.kernel_ns > 0).then_some(Sent {
                number,
                kernel_ns: control.kernel_ns,
            })
        })
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn report_times(_: RawFd) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::ENOPROTOOPT))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn next_sent(_: RawFd) -> Option<Sent> {
    None
}
