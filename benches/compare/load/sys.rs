//! The system calls that std and socket2 lack; all `unsafe` of the load generator.
//!
//! Its own reading of control messages, not rsecho's: one mistake must not hide another.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Several messages a recvmmsg(2), with the segment size of trains.
pub(crate) struct Inbox {
    slots: usize,
    slot_bytes: usize,
    data: Vec<u8>,
    /// Room for one UDP_GRO message each, aligned as cmsg(3) wants it.
    control: Vec<[u64; 8]>,
    /// (length, segment size; 0: a single datagram) of what came.
    came: Vec<(usize, usize)>,
    takes_trains: bool,
}

impl Inbox {
    pub(crate) fn new(slots: usize, slot_bytes: usize, takes_trains: bool) -> Self {
        Self {
            slots,
            slot_bytes,
            data: vec![0; slots * slot_bytes],
            control: vec![[0; 8]; slots],
            came: Vec::with_capacity(slots),
            takes_trains,
        }
    }

    /// What a socket has; at least one message, or an error.
    pub(crate) fn receive(&mut self, fd: RawFd, waits: bool) -> io::Result<usize> {
        let mut parts: Vec<libc::iovec> = self
            .data
            .chunks_exact_mut(self.slot_bytes)
            .map(|slot| libc::iovec {
                iov_base: slot.as_mut_ptr().cast(),
                iov_len: slot.len(),
            })
            .collect();
        let mut headers: Vec<libc::mmsghdr> = parts
            .iter_mut()
            .zip(&mut self.control)
            .map(|(part, control)| {
                // SAFETY: mmsghdr is integers and pointers, for which zero is a value.
                let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
                header.msg_hdr.msg_iov = part;
                header.msg_hdr.msg_iovlen = 1;
                if self.takes_trains {
                    header.msg_hdr.msg_control = control.as_mut_ptr().cast();
                    header.msg_hdr.msg_controllen = mem::size_of_val(control);
                }
                header
            })
            .collect();
        let flags = if waits {
            libc::MSG_WAITFORONE
        } else {
            libc::MSG_DONTWAIT
        };
        // SAFETY: recvmmsg(2) writes through `headers`, as many as said, whose parts and
        // control buffers live in this frame or in `self` and have the lengths given.
        let count = unsafe {
            libc::recvmmsg(
                fd,
                headers.as_mut_ptr(),
                self.slots as libc::c_uint,
                flags,
                std::ptr::null_mut(),
            )
        };
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        self.came.clear();
        for header in &headers[..count as usize] {
            self.came
                .push((header.msg_len as usize, segment_bytes(&header.msg_hdr)));
        }
        Ok(count as usize)
    }

    /// The bytes of a message, and the length of its datagrams.
    pub(crate) fn message(&self, slot: usize) -> (&[u8], usize) {
        let (length, segment) = self.came[slot];
        let start = slot * self.slot_bytes;
        (&self.data[start..start + length], segment)
    }
}

/// The segment size of a train that the kernel joined; 0 for a single datagram.
fn segment_bytes(header: &libc::msghdr) -> usize {
    if header.msg_controllen == 0 {
        return 0;
    }
    // SAFETY: the kernel wrote control messages of `msg_controllen` bytes, through which
    // the macros of cmsg(3) walk; UDP_GRO carries an int (udp(7)), maybe unaligned.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            if (*message).cmsg_level == libc::SOL_UDP && (*message).cmsg_type == libc::UDP_GRO {
                let size: libc::c_int = libc::CMSG_DATA(message)
                    .cast::<libc::c_int>()
                    .read_unaligned();
                return size as usize;
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    0
}

/// Sends `data` as datagrams of `segment` bytes each, in one call of the kernel's
/// segmentation (UDP_SEGMENT).
pub(crate) fn send_train(fd: RawFd, data: &[u8], segment: usize) -> io::Result<()> {
    let mut control = [0u64; 4];
    let mut part = libc::iovec {
        iov_base: data.as_ptr().cast_mut().cast(),
        iov_len: data.len(),
    };
    let size = segment as u16;
    // SAFETY: msghdr is integers and pointers. `control` has room for one message with a
    // 16-bit value (24 bytes) and is aligned for it; sendmsg(2) only reads, and all that it
    // reads lives until it returns.
    let sent = unsafe {
        let mut header: libc::msghdr = mem::zeroed();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = libc::CMSG_SPACE(2) as _;
        let message = libc::CMSG_FIRSTHDR(&header);
        (*message).cmsg_level = libc::SOL_UDP;
        (*message).cmsg_type = libc::UDP_SEGMENT;
        (*message).cmsg_len = libc::CMSG_LEN(2) as _;
        libc::CMSG_DATA(message).cast::<u16>().write_unaligned(size);
        libc::sendmsg(fd, &raw const header, 0)
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Sends `data` as datagrams of `length` bytes each, one by one in one sendmmsg(2) as far
/// as that takes them; how many went.
pub(crate) fn send_each(fd: RawFd, data: &[u8], length: usize) -> io::Result<usize> {
    let mut parts: Vec<libc::iovec> = data
        .chunks_exact(length)
        .map(|datagram| libc::iovec {
            iov_base: datagram.as_ptr().cast_mut().cast(),
            iov_len: length,
        })
        .collect();
    let mut headers: Vec<libc::mmsghdr> = parts
        .iter_mut()
        .map(|part| {
            // SAFETY: mmsghdr is integers and pointers, for which zero is a value.
            let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            header
        })
        .collect();
    // SAFETY: sendmmsg(2) reads `headers`, as many as there are, and what they point to,
    // and writes their msg_len; all of it lives in this frame or is borrowed.
    let sent = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), headers.len() as _, 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(sent as usize)
}

fn set_option(fd: RawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: setsockopt(2) reads one live integer of the length given.
    let done = unsafe {
        let length = mem::size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(fd, level, name, (&raw const value).cast(), length)
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Lets the socket receive trains.
pub(crate) fn take_trains(fd: RawFd) -> io::Result<()> {
    set_option(fd, libc::SOL_UDP, libc::UDP_GRO, 1)
}

/// Buffers beyond the system's limit where that is allowed, so that what is lost was lost
/// by the server.
pub(crate) fn force_buffers(fd: RawFd, bytes: i32) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)?;
    set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes)
}

/// Has connect(2) choose the port, when it knows the destination: a port is then taken for
/// one pair of addresses only (ip(7)).
pub(crate) fn bind_without_port(fd: RawFd) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

/// epoll(7), with numbers for what is watched.
pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: epoll_create1(2) takes no pointer; a descriptor that it returns is ours.
        let fd = unsafe {
            let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; 512];
        Ok(Self { fd, events })
    }

    /// Watches for input, until the descriptor is closed.
    pub(crate) fn add(&self, fd: RawFd, number: usize) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: number as u64,
        };
        // SAFETY: epoll_ctl(2) reads the event, which lives until it returns.
        let done = unsafe {
            libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event)
        };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Which have input; waits for some, if at all, for 50 ms at most.
    pub(crate) fn wait(&mut self, waits: bool, ready: &mut Vec<usize>) -> io::Result<()> {
        let timeout = if waits { 50 } else { 0 };
        // SAFETY: epoll_wait(2) writes at most as many events as `events` has.
        let count = unsafe {
            libc::epoll_wait(
                self.fd.as_raw_fd(),
                self.events.as_mut_ptr(),
                self.events.len() as libc::c_int,
                timeout,
            )
        };
        ready.clear();
        if count < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::Interrupted => Ok(()),
                _ => Err(error),
            };
        }
        ready.extend(self.events[..count as usize].iter().map(|e| e.u64 as usize));
        Ok(())
    }
}

/// The CPU time of a process: of all its threads, those that ended too
/// (clock_getcpuclockid(3)).
pub(crate) fn process_cpu(pid: i32) -> io::Result<Duration> {
    let mut clock = 0;
    // SAFETY: clock_getcpuclockid(3) writes one clock number.
    let error = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    read_clock(clock)
}

/// The CPU time of this process.
pub(crate) fn own_cpu() -> Duration {
    read_clock(libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or_default()
}

fn read_clock(clock: libc::clockid_t) -> io::Result<Duration> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: clock_gettime(2) writes one timespec.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// The unit of /proc/stat.
pub(crate) fn clock_ticks_a_second() -> u64 {
    // SAFETY: sysconf(3) takes a number and gives one.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).ok().filter(|n| *n > 0).unwrap_or(100)
}
