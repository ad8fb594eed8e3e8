//! The system calls that std lacks; all `unsafe` of this program.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

// <linux/if_tun.h>
const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;
const TUN_F_CSUM: libc::c_ulong = 0x01;
const TUN_F_TSO4: libc::c_ulong = 0x02;
const TUN_F_TSO_ECN: libc::c_ulong = 0x08;
const TUN_F_USO4: libc::c_ulong = 0x20;
const TUN_F_USO6: libc::c_ulong = 0x40;

/// A TUN device (<https://docs.kernel.org/networking/tuntap.html>) whose packets come and go
/// behind a `virtio_net_hdr`, not cut into segments.
pub(crate) fn open_tun(name: &str) -> io::Result<File> {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .map_err(|error| io::Error::new(error.kind(), format!("/dev/net/tun: {error}")))?;
    if name.is_empty() || name.len() >= libc::IFNAMSIZ {
        return Err(io::Error::other(format!("{name} is no name of a device")));
    }
    // SAFETY: ifreq is integers and arrays of them, for which zero is a value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags =
        (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one live ifreq.
    check(name, unsafe {
        libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request)
    })?;
    let offered = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO_ECN;
    // Both families or none (drivers/net/tun.c, set_offload); from Linux 6.2 on.
    for flags in [offered | TUN_F_USO4 | TUN_F_USO6, offered] {
        // SAFETY: TUNSETOFFLOAD takes its flags by value.
        let done = unsafe { libc::ioctl(device.as_raw_fd(), TUNSETOFFLOAD as _, flags) };
        if done == 0 {
            return Ok(device);
        }
    }
    Err(io::Error::last_os_error())
}

fn check(what: &str, result: libc::c_int) -> io::Result<()> {
    if result >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    Err(io::Error::new(error.kind(), format!("{what}: {error}")))
}

/// Waits until there is something to read, for so long at most.
pub(crate) fn wait_readable(fd: RawFd, at_most: Option<Duration>) -> io::Result<()> {
    let mut wanted = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let time = at_most.map(|time| libc::timespec {
        tv_sec: time.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(time.subsec_nanos()),
    });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: ppoll(2) reads and writes one live pollfd, and reads a live timespec or none.
    let done = unsafe { libc::ppoll(&raw mut wanted, 1, time, std::ptr::null()) };
    match check("ppoll", done) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        other => other,
    }
}

/// Timers of this thread end when they should, not 50 µs later (PR_SET_TIMERSLACK).
pub(crate) fn be_punctual() {
    // SAFETY: prctl(2) takes both by value; where it fails, timers are less exact.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
}
