//! Many datagrams a system call: recvmmsg(2) with UDP_GRO, sendmmsg(2) with UDP_SEGMENT.
//!
//! Linux only. All memory is allocated once; a call writes only to what it uses.

use std::io;
use std::mem;
use std::ops::Range;
use std::os::fd::RawFd;

use super::RawAddress;
use super::control::SOL_UDP;
use super::message::{
    self, CONTROL_BYTES, ControlRoom, Destination, Mode, Received, read_control, write_hop_limit,
    write_source,
};
use super::slab::Slab;

const UDP_SEGMENT: libc::c_int = 103;
const UDP_GRO: libc::c_int = 104;

/// Whether the kernel may hand over trains of datagrams in one read: UDP_GRO (udp(7), since
/// Linux 5.0).
pub(crate) fn set_receive_offload(fd: RawFd, on: bool) -> io::Result<()> {
    super::option::set_int(fd, SOL_UDP, UDP_GRO, on.into())
}

/// Whether it is on. The first kernels that knew it do not tell.
pub(crate) fn receive_offload(fd: RawFd) -> io::Result<bool> {
    super::option::get_bool(fd, SOL_UDP, UDP_GRO)
}

/// Room for `slots` receives.
pub(crate) struct Inbox {
    headers: Slab<libc::mmsghdr>,
    // What the headers point to; read through the accessors below.
    _vectors: Slab<libc::iovec>,
    sources: Slab<RawAddress>,
    _controls: Slab<ControlRoom>,
    buffers: Slab<u8>,
    slot_bytes: usize,
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
            _controls: Slab::new(slots),
            buffers: Slab::new(slots * stride),
            slot_bytes,
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
            header.msg_control = inbox._controls.ptr(slot).cast();
        }
        inbox.rearm(0, slots);
        inbox
    }

    pub(crate) fn slots(&self) -> usize {
        self.headers.len()
    }

    /// The kernel shortens these fields; makes them whole again.
    fn rearm(&mut self, start: usize, count: usize) {
        for header in self.headers.slice_mut(start, count) {
            header.msg_hdr.msg_namelen = RawAddress::CAPACITY;
            header.msg_hdr.msg_controllen = CONTROL_BYTES;
            header.msg_hdr.msg_flags = 0;
        }
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
        // SAFETY: recvmmsg(2): the headers of these slots, all there are (see above), each
        // pointing to memory that this inbox owns and nobody else refers to now (`&mut
        // self`), with its true lengths. A null timeout means none.
        let count = unsafe {
            let headers = self.headers.ptr(slots.start);
            let count = slots.len() as libc::c_uint;
            libc::recvmmsg(fd, headers, count, flags, std::ptr::null_mut())
        };
        if count < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(count as usize)
        }
    }

    /// The plain call is the cheaper one for a single message.
    fn receive_one(&mut self, fd: RawFd, slot: usize, mode: Mode) -> io::Result<usize> {
        let flags = if mode == Mode::DontWait {
            libc::MSG_DONTWAIT
        } else {
            0
        };
        // SAFETY: recvmsg(2): as above, for one header.
        let length =
            unsafe { libc::recvmsg(fd, &raw mut (*self.headers.ptr(slot)).msg_hdr, flags) };
        if length < 0 {
            return Err(io::Error::last_os_error());
        }
        self.headers.get_mut(slot).msg_len = length as libc::c_uint;
        Ok(1)
    }

    /// What came into `slot`, and makes the slot ready for the next receive.
    pub(crate) fn take(&mut self, slot: usize) -> Received {
        let header = *self.headers.get(slot);
        let mut source = *self.sources.get(slot);
        source.set_length(header.msg_hdr.msg_namelen);
        // SAFETY: recvmmsg(2) filled this header, and its control buffer is alive.
        let control = unsafe { read_control(&header.msg_hdr) };
        self.rearm(slot, 1);
        message::describe(
            header.msg_len as usize,
            source,
            control,
            header.msg_hdr.msg_flags,
        )
    }

    /// The first `length` bytes of a slot.
    pub(crate) fn data(&self, slot: usize, length: usize) -> &[u8] {
        assert!(length <= self.slot_bytes);
        self.buffers.slice(slot * self.stride, length)
    }
}

/// Room for as many sends as there may be groups.
pub(crate) struct Outbox {
    headers: Slab<libc::mmsghdr>,
    vectors: Slab<libc::iovec>,
    targets: Slab<RawAddress>,
    controls: Slab<ControlRoom>,
    headers_used: usize,
    vectors_used: usize,
}

impl Outbox {
    /// Up to `slots` sends of up to `slots` pieces in all.
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            headers: Slab::new(slots),
            vectors: Slab::new(slots),
            targets: Slab::new(slots),
            controls: Slab::new(slots),
            headers_used: 0,
            vectors_used: 0,
        }
    }

    /// Forgets all sends.
    pub(crate) fn clear(&mut self) {
        self.headers_used = 0;
        self.vectors_used = 0;
    }

    /// Starts a send to `to` from the address that `from` names; as datagrams of
    /// `segment_bytes` each where that is not 0 (UDP_SEGMENT, udp(7)); with this hop limit
    /// where that is not 0.
    pub(crate) fn open(
        &mut self,
        to: RawAddress,
        from: Destination,
        segment_bytes: u16,
        hop_limit: u8,
    ) {
        let index = self.headers_used;
        self.headers_used += 1;
        *self.targets.get_mut(index) = to;
        // SAFETY: all-zero is a valid msghdr.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_name = self.targets.ptr(index).cast();
        header.msg_namelen = to.length();
        if from != Destination::Unknown || segment_bytes > 0 || hop_limit > 0 {
            *self.controls.get_mut(index) = ControlRoom::EMPTY;
            header.msg_control = self.controls.ptr(index).cast();
            header.msg_controllen = CONTROL_BYTES;
            // SAFETY: the control buffer is zeroed, aligned, and has room for all three.
            header.msg_controllen = unsafe {
                let used = write_both(&header, from, segment_bytes);
                used + write_hop_limit(&header, used, hop_limit, to.is_v4())
            };
        }
        // The pieces that `add` appends start here; none yet. One past the end is never
        // asked for: a send has at least one piece.
        header.msg_iov = self.vectors.ptr(self.vectors_used);
        self.headers.get_mut(index).msg_hdr = header;
    }

    fn add_piece(&mut self, base: *mut libc::c_void, length: usize) {
        *self.vectors.get_mut(self.vectors_used) = libc::iovec {
            iov_base: base,
            iov_len: length,
        };
        self.vectors_used += 1;
        self.headers
            .get_mut(self.headers_used - 1)
            .msg_hdr
            .msg_iovlen += 1;
    }
}

/// Writes the control messages of a send; returns their length.
///
/// # Safety
///
/// `header`'s control buffer is CONTROL_BYTES long, aligned and zeroed.
pub(super) unsafe fn write_both(
    header: &libc::msghdr,
    from: Destination,
    segment_bytes: u16,
) -> usize {
    // SAFETY: cmsg(3). The address message is written first and is at most 40 bytes with
    // its header; the segment size goes right behind it, within CONTROL_BYTES.
    unsafe {
        let used = write_source(header, from);
        if segment_bytes == 0 {
            return used;
        }
        let size = mem::size_of::<u16>() as u32;
        let second = header
            .msg_control
            .cast::<u8>()
            .add(used)
            .cast::<libc::cmsghdr>();
        (*second).cmsg_level = SOL_UDP;
        (*second).cmsg_type = UDP_SEGMENT;
        (*second).cmsg_len = libc::CMSG_LEN(size) as _;
        libc::CMSG_DATA(second)
            .cast::<u16>()
            .write_unaligned(segment_bytes);
        used + libc::CMSG_SPACE(size) as usize
    }
}

/// A train that is too long for one send is cut; room for that without a second round, in
/// all but strange cases.
const SENDS_PER_SLOT: usize = 4;

/// An inbox and the outbox that sends its bytes back, without a copy; or those of a page
/// that was lent to it.
pub(crate) struct Mailbox {
    pub(crate) inbox: Inbox,
    outbox: Outbox,
    /// What is sent instead of the inbox's bytes. Not touched as long as it is here.
    page: Option<Vec<u8>>,
}

impl Mailbox {
    pub(crate) fn new(slots: usize, slot_bytes: usize) -> Self {
        Self {
            inbox: Inbox::new(slots, slot_bytes),
            outbox: Outbox::new((slots * SENDS_PER_SLOT).max(128)),
            page: None,
        }
    }

    /// Takes a page of bytes, which [`Mailbox::add`] then refers to.
    pub(crate) fn lend(&mut self, page: Vec<u8>) {
        self.outbox.clear();
        self.page = Some(page);
    }

    /// Gives the page back; nothing refers to it any more.
    pub(crate) fn give_back(&mut self) -> Vec<u8> {
        self.outbox.clear();
        self.page.take().unwrap_or_default()
    }

    /// The bytes that [`Mailbox::add`] would add.
    pub(crate) fn data(&self, slot: usize, offset: usize, length: usize) -> &[u8] {
        match &self.page {
            Some(page) => &page[offset..offset + length],
            None => &self.inbox.data(slot, offset + length)[offset..],
        }
    }

    /// Forgets all sends.
    pub(crate) fn clear(&mut self) {
        self.outbox.clear();
    }

    /// Whether a send of up to `pieces` pieces can still be added.
    pub(crate) fn has_room_for(&self, pieces: usize) -> bool {
        self.outbox.headers_used < self.outbox.headers.len()
            && self.outbox.vectors_used + pieces <= self.outbox.vectors.len()
    }

    /// Starts a send: see [`Outbox::open`].
    pub(crate) fn open(
        &mut self,
        to: RawAddress,
        from: Destination,
        segment_bytes: u16,
        hop_limit: u8,
    ) {
        self.outbox.open(to, from, segment_bytes, hop_limit);
    }

    /// Adds bytes to the send opened last: of a slot, or of the page where there is one.
    pub(crate) fn add(&mut self, slot: usize, offset: usize, length: usize) {
        let base = if let Some(page) = &self.page {
            page[offset..offset + length].as_ptr().cast_mut()
        } else {
            assert!(offset + length <= self.inbox.slot_bytes);
            self.inbox.buffers.ptr(slot * self.inbox.stride + offset)
        };
        self.outbox.add_piece(base.cast(), length);
    }

    /// Sends from the send numbered `start` on; how many went. An error is that of send
    /// `start`: those behind a refused one are for the next call.
    pub(crate) fn send(&mut self, fd: RawFd, start: usize) -> io::Result<usize> {
        let count = self.outbox.headers_used - start;
        const FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: sendmmsg(2), sendmsg(2), sendto(2): `count` headers from `start` on, whose
        // names, vectors and control buffers this mailbox owns; the bytes lie in its inbox or
        // in the page that it holds, which `&mut self` keeps still, and are only read. The plainer the call, the cheaper.
        let sent = unsafe {
            let headers = self.outbox.headers.ptr(start);
            if count > 1 {
                libc::sendmmsg(fd, headers, count as libc::c_uint, FLAGS)
            } else {
                let one = &(*headers).msg_hdr;
                let sent = if one.msg_iovlen == 1 && one.msg_controllen == 0 {
                    let data = &*one.msg_iov;
                    let name = one.msg_name.cast::<libc::sockaddr>();
                    libc::sendto(
                        fd,
                        data.iov_base,
                        data.iov_len,
                        FLAGS,
                        name,
                        one.msg_namelen,
                    )
                } else {
                    libc::sendmsg(fd, one, FLAGS)
                };
                if sent < 0 { -1 } else { 1 }
            }
        };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(sent as usize)
        }
    }
}
