//! The hop limit with which a socket sends by itself: kept at what most replies are to have,
//! so that these need no control message, which costs a tenth of a microsecond a send.

use std::os::fd::RawFd;

use crate::sys::option::{self, SentHopLimits};

/// So many replies in a row with another one before the socket's is changed.
const IN_A_ROW: u32 = 256;

/// One socket's.
pub(crate) struct SocketHops {
    fd: RawFd,
    is_v6: bool,
    /// What it was before; `None`: it stays as it is, since somebody else sends by it too.
    before: Option<SentHopLimits>,
    /// What it is now; 0: that is not known, or not the same for IPv4 and IPv6.
    now: u8,
    /// What the last replies were to have, and how many in a row.
    wanted: u8,
    row: u32,
}

impl SocketHops {
    /// And what it sends with so far, as far as that is known. The caller keeps `fd` open.
    pub(crate) fn new(fd: RawFd, is_v6: bool, is_shared: bool) -> (Self, SentHopLimits) {
        let before = option::sent_hop_limits(fd, is_v6).ok();
        let all = before.unwrap_or_default();
        let own = all.both();
        let hops = Self {
            fd,
            is_v6,
            before: before.filter(|_| !is_shared),
            now: if is_shared { 0 } else { own },
            wanted: 0,
            row: 0,
        };
        (hops, all)
    }

    /// What a send is to ask for that is to have this one, and goes before [`SocketHops::follow`];
    /// 0: nothing, since it has it anyway.
    #[inline]
    pub(crate) fn ask(&mut self, wanted: u8) -> u8 {
        if wanted == self.now {
            self.row = 0;
            return 0;
        }
        self.row = if wanted == self.wanted {
            self.row + 1
        } else {
            0
        };
        self.wanted = wanted;
        wanted
    }

    /// Has the socket's own follow, where it should by now. To be called when all is sent that
    /// asked.
    #[inline]
    pub(crate) fn follow(&mut self) {
        if self.row >= IN_A_ROW {
            self.change();
        }
    }

    #[cold]
    fn change(&mut self) {
        self.row = 0;
        if self.before.is_some() && self.wanted > 0 {
            let of = SentHopLimits::of(self.wanted, self.is_v6);
            let done = option::set_sent_hop_limits(self.fd, of);
            // One of two may have been changed.
            self.now = done.map_or(0, |()| self.wanted);
        }
    }

    /// As it was before.
    pub(crate) fn restore(&mut self) {
        if let Some(before) = self.before {
            // Nothing is lost where this fails: it is closed.
            let _ = option::set_sent_hop_limits(self.fd, before);
            self.now = before.both();
        }
    }
}
