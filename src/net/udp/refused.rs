//! Sends that the kernel refused: waited for, cut up, or counted as dropped. Not on the fast
//! path.

use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use super::Endpoint;
use super::engine::Engine;
use crate::books::DropReason;
use crate::books::udp::{Count, Tally};
use crate::datagram::{Outbox, Transmit};
use crate::sys::{self, message};
use crate::worker::Control;

/// How long a full send buffer may hold up a worker that is to stop; also how often one
/// that waits looks whether it is to.
const WHILE_STOPPING: Duration = Duration::from_millis(50);

/// How long a batch may still wait for room in the send buffer.
#[derive(Default)]
pub(super) struct Patience {
    left: Duration,
}

impl Patience {
    pub(super) fn begin(&mut self, most: Duration) {
        self.left = most;
    }

    /// Waits for room after this error, for a part of what is left.
    fn wait(&mut self, fd: RawFd, error: &io::Error) -> io::Result<()> {
        let (start, most) = (Instant::now(), self.left.min(WHILE_STOPPING));
        if error.raw_os_error() == Some(libc::ENOBUFS) {
            // The device's queue is full, which poll(2) does not know of.
            std::thread::sleep(most.min(Duration::from_millis(1)));
        } else {
            sys::wait_writable(fd, None, Some(most))?;
        }
        self.left = self.left.saturating_sub(start.elapsed());
        Ok(())
    }
}

impl<E: Engine> Endpoint<E> {
    /// Whether the way back is blocked: this batch waited for as long as it might.
    pub(crate) fn is_blocked(&self) -> bool {
        self.patience.left.is_zero()
    }

    /// Sends a refused group datagram by datagram: what the error was for is dropped, the rest
    /// goes.
    #[cold]
    pub(super) fn send_singly(
        &mut self,
        outbox: &mut Outbox,
        group: usize,
        error: &io::Error,
        control: &Control,
        publish: &mut impl FnMut(&mut Tally),
    ) {
        let group = self.link.plan.groups()[group];
        let transmit = outbox.entries()[usize::from(group.entry)].transmit;
        let size = group.segment_bytes.max(1) as usize;
        let mut any_sent = false;
        let pieces: Vec<_> = self.link.plan.pieces(&group).collect();
        for piece in pieces {
            let index = usize::from(piece.entry);
            let (start, all) = (piece.offset as usize, piece.length as usize);
            for offset in (0..all.max(1)).step_by(size) {
                let length = size.min(all - offset);
                let part = (index, start + offset, length);
                match self.send_one(outbox, part, &transmit, control, publish) {
                    Ok(()) => {
                        any_sent = true;
                        outbox.tally.add(Count::SentPackets, 1);
                        outbox.tally.add(Count::SentBytes, length as u64);
                    }
                    Err(error) => {
                        let reason = classify(&error);
                        outbox.drop(reason, 1, &transmit.to);
                        outbox.entries_mut()[index].failed = Some(reason);
                    }
                }
            }
        }
        if group.datagrams > 1 && any_sent {
            let (datagrams, offload) = (group.datagrams, &self.parts.offload);
            let told = self
                .link
                .learn_of_trains(datagrams, &transmit.to, error, offload);
            if let Some(text) = told {
                self.tell("offload", &text);
            }
        }
    }

    /// Sends one datagram, a part of an entry, waiting for room in the send buffer where there
    /// is none, as long as the batch's patience lasts.
    fn send_one(
        &mut self,
        outbox: &mut Outbox,
        (index, offset, length): (usize, usize, usize),
        transmit: &Transmit,
        control: &Control,
        publish: &mut impl FnMut(&mut Tally),
    ) -> io::Result<()> {
        let fd = self.fd();
        let mut stale_error_taken = false;
        loop {
            let entry = &outbox.entries()[index];
            let data = outbox.data(self.link.slots(), entry, offset, length);
            let Err(error) = message::send(fd, data, transmit) else {
                return Ok(());
            };
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                // Nothing of ours shuts the send side down (net/core/sock.c,
                // `sock_alloc_send_pskb`).
                Some(libc::EPIPE) => {
                    self.is_shut_down = true;
                    return Err(error);
                }
                // An ICMP error for somebody else's datagram, reported to whoever sends next.
                Some(libc::ECONNREFUSED) if !stale_error_taken => stale_error_taken = true,
                Some(libc::EAGAIN | libc::ENOBUFS) => {
                    if control.is_stopping() {
                        self.patience.left = self.patience.left.min(WHILE_STOPPING);
                    }
                    if self.patience.left.is_zero() {
                        return Err(error);
                    }
                    // Whoever asks meanwhile need not wait with us.
                    publish(&mut outbox.tally);
                    self.patience.wait(fd, &error)?;
                }
                _ => return Err(error),
            }
        }
    }
}

/// The reason under which a refused send is counted.
fn classify(error: &io::Error) -> DropReason {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS) => DropReason::SendBufferFull,
        Some(libc::EPERM) => DropReason::SendFiltered,
        Some(libc::EMSGSIZE) => DropReason::SendTooLarge,
        Some(libc::EACCES) => DropReason::SendRefused,
        Some(
            libc::ENETUNREACH
            | libc::EHOSTUNREACH
            | libc::EADDRNOTAVAIL
            | libc::ENETDOWN
            | libc::EHOSTDOWN
            | libc::ENODEV,
        ) => DropReason::SendUnreachable,
        _ => DropReason::SendFailed,
    }
}
