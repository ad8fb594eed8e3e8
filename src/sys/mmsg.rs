//! Many datagrams a system call: recvmmsg(2) with UDP_GRO, sendmmsg(2) with UDP_SEGMENT.
//!
//! Linux only. All memory is allocated once; a call writes only to what it uses.

use std::io;
use std::marker::PhantomData;
use std::mem;
use std::ops::Range;
use std::os::fd::RawFd;

use super::RawAddress;
use super::control::{self, Room, SOL_UDP, UDP_GRO};
use super::datagram::{Received, Transmit};
use super::message::{self, Mode, SEND_FLAGS, number};
use super::slab::{Slab, Zeroable};

/// Whether the kernel may hand over trains of datagrams in one read: UDP_GRO (udp(7), since
/// Linux 5.0).
pub(crate) fn set_receive_offload(fd: RawFd, on: bool) -> io::Result<()> {
    super::option::set_int(fd, SOL_UDP, UDP_GRO, on.into())
}

/// Whether it is on. The first kernels that knew it do not tell.
pub(crate) fn receive_offload(fd: RawFd) -> io::Result<bool> {
    super::option::get_bool(fd, SOL_UDP, UDP_GRO)
}

// SAFETY: plain integers and nullable pointers (recvmmsg(2), readv(2)).
unsafe impl Zeroable for libc::mmsghdr {}
// SAFETY: as above.
unsafe impl Zeroable for libc::iovec {}
// SAFETY: `RawAddress::empty` is all zero.
unsafe impl Zeroable for RawAddress {}
// SAFETY: bytes.
unsafe impl Zeroable for Room {}

/// Room for `slots` receives.
pub(crate) struct Inbox {
    headers: Slab<libc::mmsghdr>,
    // What the headers point to; read through the accessors below.
    _vectors: Slab<libc::iovec>,
    sources: Slab<RawAddress>,
    controls: Slab<Room>,
    buffers: Slab<u8>,
    stride: usize,
}

impl Inbox {
    /// `slots` messages of up to `slot_bytes` each; 64 KiB for trains.
    pub(crate) fn new(slots: usize, slot_bytes: usize) -> Self {
        // Not a multiple of the page size: buffers whose starts differ only above bit 12
        // would compete for the same cache sets.
        let stride = slot_bytes.next_multiple_of(64) + 4096 + 64;
        let mut inbox = Self {
            headers: Slab::new(slots),
            _vectors: Slab::new(slots),
            sources: Slab::new(slots),
            controls: Slab::new(slots),
            buffers: Slab::new(slots * stride),
            stride,
        };
        for slot in 0..slots {
            *inbox._vectors.get_mut(slot) = libc::iovec {
                iov_base: inbox.buffers.ptr(slot * stride).cast(),
                iov_len: slot_bytes,
            };
            let header = &mut inbox.headers.get_mut(slot).msg_hdr;
            header.msg_name = inbox.sources.ptr(slot).cast();
            header.msg_iov = inbox._vectors.ptr(slot);
            header.msg_iovlen = 1;
            header.msg_control = inbox.controls.ptr(slot).cast();
            inbox.rearm(slot);
        }
        inbox
    }

    pub(crate) fn slots(&self) -> usize {
        self.headers.len()
    }

    /// The kernel shortens these fields; makes them whole again.
    fn rearm(&mut self, slot: usize) {
        let header = &mut self.headers.get_mut(slot).msg_hdr;
        header.msg_namelen = RawAddress::CAPACITY;
        header.msg_controllen = Room::BYTES;
        header.msg_flags = 0;
    }

    /// Receives into these slots; at least one message, or an error.
    pub(crate) fn receive(
        &mut self,
        fd: RawFd,
        slots: Range<usize>,
        mode: Mode,
    ) -> io::Result<usize> {
        assert!(!slots.is_empty() && slots.end <= self.slots());
        if slots.len() == 1 {
            return self.receive_one(fd, slots.start, mode);
        }
        let flags = match mode {
            Mode::Block => libc::MSG_WAITFORONE,
            Mode::DontWait => libc::MSG_DONTWAIT,
        };
        let count = slots.len() as libc::c_uint;
        // SAFETY: recvmmsg(2): the headers of these slots, all there are (see above), each
        // pointing to memory that this inbox owns and nobody else refers to now (`&mut
        // self`), with its true lengths. A null timeout means none.
        number(unsafe {
            let headers = self.headers.ptr(slots.start);
            libc::recvmmsg(fd, headers, count, flags, std::ptr::null_mut()) as isize
        })
    }

    /// The plain call is the cheaper one for a single message.
    fn receive_one(&mut self, fd: RawFd, slot: usize, mode: Mode) -> io::Result<usize> {
        // SAFETY: recvmsg(2): as above, for one header.
        let length = number(unsafe {
            let header = &raw mut (*self.headers.ptr(slot)).msg_hdr;
            message::receive_message(fd, header, mode.flags())
        })?;
        self.headers.get_mut(slot).msg_len = length as libc::c_uint;
        Ok(1)
    }

    /// What came into `slot`, and makes the slot ready for the next receive.
    pub(crate) fn take(&mut self, slot: usize) -> Received {
        let header = self.headers.get(slot);
        let (length, source) = (header.msg_len as usize, *self.sources.get(slot));
        let room = self.controls.get(slot);
        let received = message::describe(length, source, room, &header.msg_hdr);
        self.rearm(slot);
        received
    }

    /// The memory of all slots, and how far apart they start.
    pub(crate) fn memory(&self) -> (&[u8], usize) {
        (self.buffers.slice(0, self.buffers.len()), self.stride)
    }
}

/// Room for sends, to be filled for each call.
pub(crate) struct Sends {
    headers: Slab<libc::mmsghdr>,
    vectors: Slab<libc::iovec>,
    targets: Slab<RawAddress>,
    controls: Slab<Room>,
}

impl Sends {
    /// Up to `slots` sends of up to `slots` pieces in all.
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            headers: Slab::new(slots),
            vectors: Slab::new(slots),
            targets: Slab::new(slots),
            controls: Slab::new(slots),
        }
    }

    /// To be filled with sends of bytes that live as long.
    pub(crate) fn fill<'a>(&'a mut self) -> Filling<'a> {
        Filling {
            sends: self,
            headers_used: 0,
            vectors_used: 0,
            bytes: PhantomData,
        }
    }
}

/// Sends that go by one call.
pub(crate) struct Filling<'a> {
    sends: &'a mut Sends,
    headers_used: usize,
    vectors_used: usize,
    bytes: PhantomData<&'a [u8]>,
}

impl<'a> Filling<'a> {
    /// Whether a send of up to `pieces` pieces can still be added.
    pub(crate) fn has_room_for(&self, pieces: usize) -> bool {
        self.headers_used < self.sends.headers.len()
            && self.vectors_used + pieces <= self.sends.vectors.len()
    }

    /// Starts a send, as datagrams of `segment_bytes` each where that is not 0 (UDP_SEGMENT,
    /// udp(7)). At least one piece follows.
    pub(crate) fn open(&mut self, transmit: &Transmit, segment_bytes: u16) {
        let index = self.headers_used;
        self.headers_used += 1;
        let sends = &mut *self.sends;
        *sends.targets.get_mut(index) = transmit.to;
        // SAFETY: all-zero is a valid msghdr.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        if !transmit.to.is_empty() {
            header.msg_name = sends.targets.ptr(index).cast();
            header.msg_namelen = transmit.to.length();
        }
        header.msg_controllen =
            control::encode(sends.controls.get_mut(index), transmit, segment_bytes);
        if header.msg_controllen > 0 {
            header.msg_control = sends.controls.ptr(index).cast();
        }
        // The pieces that `add` appends start here; none yet.
        header.msg_iov = sends.vectors.ptr(self.vectors_used);
        sends.headers.get_mut(index).msg_hdr = header;
    }

    /// Adds bytes to the send opened last.
    pub(crate) fn add(&mut self, piece: &'a [u8]) {
        *self.sends.vectors.get_mut(self.vectors_used) = libc::iovec {
            iov_base: piece.as_ptr().cast_mut().cast(),
            iov_len: piece.len(),
        };
        self.vectors_used += 1;
        let header = self.sends.headers.get_mut(self.headers_used - 1);
        header.msg_hdr.msg_iovlen += 1;
    }

    /// Sends what was added; how many went. An error is that of the first. The plainer the
    /// call, the cheaper.
    pub(crate) fn send(self, fd: RawFd) -> io::Result<usize> {
        let count = self.headers_used as libc::c_uint;
        let headers = self.sends.headers.ptr(0);
        // SAFETY: sendmmsg(2), sendmsg(2), sendto(2): the first `count` headers, whose names,
        // vectors and control buffers `sends` owns; the bytes are borrowed for as long as this
        // lives, and are only read.
        unsafe {
            if count > 1 {
                return number(libc::sendmmsg(fd, headers, count, SEND_FLAGS) as isize);
            }
            let one = &(*headers).msg_hdr;
            if one.msg_iovlen == 1 && one.msg_controllen == 0 {
                let (data, name) = (&*one.msg_iov, one.msg_name);
                let (base, length) = (data.iov_base, data.iov_len);
                number(message::send_to(fd, base, length, name, one.msg_namelen))?;
            } else {
                number(libc::sendmsg(fd, one, SEND_FLAGS))?;
            }
            Ok(1)
        }
    }
}
