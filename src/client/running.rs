//! THE LOOP of a client's driver: receive → protocol → send, until it is done.
//!
//! Rules, kept for every batch: one question to the clock for each of the protocol's calls and one
//! for the caller's patience; no allocation, log call or formatting. The socket is checked between
//! two slices of a protocol that is always busy.

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::Socket;

use super::patience::{Patience, Until};
use crate::datagram::{Batch, Copied, Outbox};
use crate::error::{Error, Result};
use crate::net::udp::direct::Direct;
use crate::net::udp::engine::Engine;
use crate::proto::{Progress, Protocol};
use crate::sys::timestamps;

pub(super) const OPERATION: &str = "exchange with";

const NO_ROOM: &str = "the send buffer had no room";
const NOTHING_CAME: &str = "nothing came back";

/// How many receives are dropped at once at most, so that a peer that never stops sending
/// cannot hold the caller up.
const MOST_DROPPED: usize = 65_536;

/// One run of a protocol.
pub(super) struct Running<'a, E, P: ?Sized> {
    /// Locked for calls that do not wait.
    pub(super) direct: &'a Mutex<Direct<E>>,
    pub(super) socket: &'a Socket,
    /// The peer, or who runs it, for errors.
    pub(super) name: &'a str,
    /// From when on the protocol's time runs.
    pub(super) start: Instant,
    pub(super) reports_times: &'a AtomicBool,
    pub(super) outbox: &'a mut Outbox,
    pub(super) protocol: &'a mut P,
    pub(super) patience: Patience<'a>,
    /// What came, and waits for the send buffer to have room for what is answered to it.
    pub(super) held: Vec<Copied>,
}

/// How far the time's part of a round came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passed {
    /// All is sent, and nothing more is to be done now.
    Whole,
    /// All is sent, and the protocol has more.
    Slice,
    /// The send buffer has no room.
    Blocked,
}

impl<E: Engine, P: Protocol + ?Sized> Running<'_, E, P> {
    pub(super) fn run(mut self, mut is_done: impl FnMut(&P) -> bool) -> Result<()> {
        loop {
            let passed = self.pass_time()?;
            if self.reports_times.load(Ordering::Relaxed) {
                // While one is kept, the socket counts as ready.
                while let Some(sent) = timestamps::next_sent(self.socket.as_raw_fd()) {
                    self.protocol.on_sent(sent);
                }
            }
            if passed == Passed::Whole && is_done(self.protocol) {
                return Ok(());
            }
            if passed == Passed::Blocked {
                self.patience.ask_now_and_then(OPERATION, self.name)?;
                self.wait(Until::Writable, None, NO_ROOM)?;
                continue;
            }
            let came = self.serve_held() || self.serve_batch()?;
            let due = self.due();
            if !came && passed == Passed::Whole && due.is_none_or(|due| due > Instant::now()) {
                self.wait(Until::Readable, due, NOTHING_CAME)?;
                continue;
            }
            // Who is done with what just came is not too late.
            if passed == Passed::Slice || !(self.outbox.is_empty() && is_done(self.protocol)) {
                self.patience.check(OPERATION, self.name, NOTHING_CAME)?;
            }
        }
    }

    fn wait(&self, until: Until, due: Option<Instant>, missing: &str) -> Result<()> {
        let (socket, name) = (self.socket, self.name);
        self.patience
            .wait_until(due, socket, until, OPERATION, name, missing)
    }

    /// When the protocol is due.
    fn due(&self) -> Option<Instant> {
        let due = self.protocol.deadline_ns().map(Duration::from_nanos)?;
        self.start.checked_add(due)
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Has what is due sent, one slice of it.
    fn pass_time(&mut self) -> Result<Passed> {
        if !self.send()? {
            return Ok(Passed::Blocked);
        }
        let progress = self.protocol.on_time(self.now_ns(), self.outbox);
        if !self.send()? {
            return Ok(Passed::Blocked);
        }
        Ok(match progress {
            Progress::Done => Passed::Whole,
            Progress::More(_) => Passed::Slice,
        })
    }

    /// Sends what is in the outbox; false: the send buffer has no room.
    fn send(&mut self) -> Result<bool> {
        if self.outbox.is_empty() {
            return Ok(true);
        }
        let mut direct = lock(self.direct);
        self.send_by(&mut direct)
    }

    fn send_by(&mut self, direct: &mut Direct<E>) -> Result<bool> {
        loop {
            match direct.send_now(self.outbox) {
                Ok(()) => return Ok(true),
                Err(error) if is_not_yet(&error) => return Ok(false),
                Err(error) => self.tolerate(&error)?,
            }
        }
    }

    /// Goes on where the protocol does, as long as its caller's patience lasts.
    #[cold]
    fn tolerate(&mut self, error: &io::Error) -> Result<()> {
        if !self.protocol.tolerates(error) {
            return Err(Error::system(OPERATION, self.name, error));
        }
        self.patience.check(OPERATION, self.name, NOTHING_CAME)
    }

    /// Has the protocol look at what has come; false: nothing has.
    fn serve_batch(&mut self) -> Result<bool> {
        let mut direct = lock(self.direct);
        match direct.receive_now() {
            Ok(()) => {}
            Err(error) if is_not_yet(&error) => return Ok(false),
            Err(error) => {
                drop(direct);
                return self.tolerate(&error).map(|()| true);
            }
        }
        let mut taken = 0;
        loop {
            let now_ns = self.now_ns();
            let batch = direct.batch().without(taken);
            match self.protocol.on_batch(now_ns, &batch, self.outbox) {
                Progress::Done => break,
                Progress::More(more) => taken += more,
            }
            if !self.send_by(&mut direct)? {
                self.hold(&direct.batch().without(taken));
                break;
            }
            self.patience.ask_now_and_then(OPERATION, self.name)?;
        }
        // What lies in the slots does not outlive the lock.
        self.outbox.keep(direct.slots());
        Ok(true)
    }

    #[cold]
    fn hold(&mut self, batch: &Batch<'_>) {
        self.held = batch.datagrams().map(|one| one.copied()).collect();
    }

    /// The same for what was held, one slice of it.
    fn serve_held(&mut self) -> bool {
        if self.held.is_empty() {
            return false;
        }
        let batch = Batch::of_copies(&self.held);
        let now_ns = self.now_ns();
        match self.protocol.on_batch(now_ns, &batch, self.outbox) {
            Progress::Done => self.held.clear(),
            Progress::More(taken) => drop(self.held.drain(..taken.min(self.held.len()))),
        }
        true
    }
}

/// Drops what has come so far, and the errors that reading clears.
pub(super) fn drop_received<E: Engine>(direct: &Mutex<Direct<E>>) {
    let mut direct = lock(direct);
    for _ in 0..MOST_DROPPED {
        if direct.receive_now().is_err_and(|error| is_not_yet(&error)) {
            return;
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_not_yet(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::{Received, Slots};
    use crate::guard::Policy;
    use crate::net::udp::engine::Portable;
    use crate::net::udp::offload::Offload;
    use crate::net::udp::plan::Plan;
    use crate::sys::message::Mode;
    use std::net::UdpSocket;
    use std::ops::Range;
    use std::sync::Arc;

    /// A socket whose send buffer has room once in so many times.
    struct Narrow {
        portable: Portable,
        turn: usize,
        round: usize,
    }

    impl Engine for Narrow {
        fn slots(&self) -> usize {
            1
        }

        fn receive(&mut self, slots: Range<usize>, mode: Mode) -> io::Result<usize> {
            self.portable.receive(slots, mode)
        }

        fn take(&mut self, slot: usize) -> Received {
            // As UDP_GRO would have it: a train of datagrams of one byte.
            let came = self.portable.take(slot);
            Received {
                segment_bytes: 1,
                ..came
            }
        }

        fn memory(&self) -> Slots<'_> {
            self.portable.memory()
        }

        fn max_segments(&self) -> usize {
            1
        }

        fn limit_segments(&mut self, _: usize) {}

        fn send(&mut self, plan: &Plan, outbox: &Outbox, start: usize) -> io::Result<usize> {
            self.turn += 1;
            match self.turn.is_multiple_of(self.round) {
                true => self.portable.send(plan, outbox, start),
                false => Err(ErrorKind::WouldBlock.into()),
            }
        }
    }

    /// Sends back what comes, two at a time.
    struct Pairs {
        answered: usize,
    }

    impl Protocol for Pairs {
        fn on_batch(&mut self, _now_ns: u64, batch: &Batch<'_>, out: &mut Outbox) -> Progress {
            let taken = batch.datagrams().take(2).map(|one| out.echo(&one)).count();
            self.answered += taken;
            match taken {
                0 => Progress::Done,
                taken => Progress::More(taken),
            }
        }
    }

    #[test]
    fn what_came_waits_for_room_and_all_of_it_is_answered_in_order() {
        for round in 1..5 {
            let own = UdpSocket::bind("127.0.0.1:0").unwrap();
            let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
            peer.send_to(b"abcdefghi", own.local_addr().unwrap())
                .unwrap();
            let fd = own.as_raw_fd();
            let engine = Narrow {
                portable: Portable::new(fd, 100),
                turn: 0,
                round,
            };
            let offload = Arc::new(Offload::of(fd, false));
            let running = Running {
                direct: &Mutex::new(Direct::new(fd, engine, offload)),
                socket: &own.into(),
                name: "x",
                start: Instant::now(),
                reports_times: &AtomicBool::new(false),
                outbox: &mut Outbox::new(Policy::default()),
                protocol: &mut Pairs { answered: 0 },
                patience: Patience::new(Some(Duration::from_secs(20)), &|| false),
                held: Vec::new(),
            };
            running.run(|it| it.answered == 9).unwrap();
            let mut room = [0; 10];
            for byte in b"abcdefghi" {
                assert_eq!(peer.recv(&mut room).unwrap(), 1);
                assert_eq!(room[0], *byte);
            }
        }
    }
}
