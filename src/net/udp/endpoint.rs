//! THE ENDPOINT: how a socket's datagrams come and go.
//!
//! Rules, kept for every datagram: no log call, formatting, lock, allocation or clock read; no
//! dynamic dispatch; no `cfg`. What was chosen at start (engine, waiting) is compiled in or a
//! branch a batch. Whatever is rare is `#[cold]`.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::engine::Engine;
use super::link::Link;
use super::offload::Offload;
use super::refused::Patience;
use super::reporting::{self, Hops};
use super::waiting::{Arrival, Receiver, tolerate};
use crate::books::udp::{Count, Tally};
use crate::datagram::{Destination, Outbox, Received, Slots};
use crate::event::{Level, Observer};
use crate::worker::Control;

/// What an endpoint is made of, beside its engine.
pub(crate) struct Parts {
    pub(crate) socket: Arc<Socket>,
    pub(crate) receiver: Receiver,
    /// Its address is IPv4.
    pub(crate) is_v4: bool,
    /// It was passed in: somebody else may use it too.
    pub(crate) is_shared: bool,
    /// Each datagram says where it was sent to, unless whoever else holds the socket has
    /// turned that off.
    pub(crate) expects_destination: bool,
    /// What becomes of trains.
    pub(crate) offload: Arc<Offload>,
    /// Whom it tells what is wrong.
    pub(crate) observer: Arc<Observer>,
    /// How long what is sent may wait for room in the send buffer.
    pub(crate) send_timeout: Duration,
}

/// One socket, with its engine and the memory that every batch uses again.
pub(crate) struct Endpoint<E> {
    // Dropped first: it puts back what the socket was set to.
    hops: Option<Hops>,
    pub(super) link: Link<E>,
    pub(super) parts: Parts,
    pub(super) patience: Patience,
    /// A send said that whoever else holds the socket has shut it down.
    pub(super) is_shut_down: bool,
    has_told_of_destinations: bool,
}

impl<E: Engine> Endpoint<E> {
    pub(crate) fn new(parts: Parts, engine: E) -> Self {
        Self {
            hops: None,
            link: Link::new(engine),
            parts,
            patience: Patience::default(),
            is_shut_down: false,
            has_told_of_destinations: false,
        }
    }

    pub(super) fn fd(&self) -> RawFd {
        self.parts.socket.as_raw_fd()
    }

    /// From now on receives say with which hop limit they came, and the socket's own follows
    /// what most sends are to have. Returns what it sends with by IPv4 and by IPv6, and why it
    /// does not report, where it does not.
    pub(crate) fn report_hop_limits(&mut self) -> ([Option<u8>; 2], io::Result<()>) {
        let (is_v6, is_shared) = (!self.parts.is_v4, self.parts.is_shared);
        let (hops, own, done) = Hops::new(self.fd(), is_v6, is_shared);
        self.hops = Some(hops);
        (own, done)
    }

    /// Has the calling thread's sleeps end as soon as this endpoint's way of waiting needs.
    pub(crate) fn sharpen_timers(&self) {
        self.parts.receiver.sharpen_timers();
    }

    // --- receive ------------------------------------------------------------------------

    /// The next datagrams, or why there are none; until `due` at most.
    ///
    /// # Errors
    ///
    /// Of the receive, where it is a reason to end; ESHUTDOWN where a socket that was passed in
    /// was shut down.
    pub(crate) fn receive(
        &mut self,
        control: &Control,
        due: Option<Instant>,
    ) -> io::Result<Arrival> {
        if self.is_shut_down {
            return Err(io::Error::from_raw_os_error(libc::ESHUTDOWN));
        }
        let receiver = &mut self.parts.receiver;
        receiver.receive(&mut self.link.engine, control, due)
    }

    /// What is there now. Breaks where nothing is.
    ///
    /// # Errors
    ///
    /// As for [`Endpoint::receive`].
    pub(crate) fn receive_now(&mut self, control: &Control) -> io::Result<ControlFlow<(), usize>> {
        match self.link.receive_now() {
            Ok(count) => Ok(ControlFlow::Continue(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(ControlFlow::Break(())),
            // What is no reason to end is no reason to stop either.
            Err(error) => tolerate(error, control).map(|_| ControlFlow::Continue(0)),
        }
    }

    /// A new batch begins: what it sends may wait as long as it may.
    #[inline]
    pub(crate) fn begin(&mut self) {
        self.patience.begin(self.parts.send_timeout);
    }

    /// What came into a slot. Once a receive.
    #[inline]
    pub(crate) fn take(&mut self, slot: usize) -> Received {
        let received = self.link.take(slot);
        if let Some(hops) = &mut self.hops {
            hops.look(received.hop_limit);
        }
        received
    }

    /// Where the bytes of what came lie.
    #[inline]
    pub(crate) fn slots(&self) -> Slots<'_> {
        self.link.slots()
    }

    /// Whether receives may bring trains.
    pub(crate) fn has_trains(&self) -> bool {
        self.link.engine.max_segments() > 1
    }

    /// Told what a batch came to: so many messages, some of them trains, and so many sends.
    #[inline]
    pub(crate) fn learn(&mut self, messages: usize, trains: usize, sends: usize) {
        self.parts.receiver.learn(messages, trains, sends);
    }

    /// Whether what came does not say where it was sent to, though it has to. Then asks for that
    /// again: whoever else holds the socket has turned IP_PKTINFO off.
    #[inline]
    pub(crate) fn lacks_destination(&mut self, received: &Received) -> bool {
        let lacks = self.parts.expects_destination && received.destination == Destination::Unknown;
        if lacks {
            self.ask_for_destinations();
        }
        lacks
    }

    #[cold]
    fn ask_for_destinations(&mut self) {
        let asked = reporting::report_destinations(self.fd(), self.parts.is_v4);
        if std::mem::replace(&mut self.has_told_of_destinations, true) {
            return;
        }
        let done = match asked {
            Ok(()) => "it is on again".to_owned(),
            Err(error) => format!("it cannot be turned on again: {error}"),
        };
        self.tell(
            "shared",
            &format!(
                "the program that passed this socket in has turned IP_PKTINFO off, which tells from \
                 which address to answer; {done}"
            ),
        );
    }

    /// Tells what the owner of a socket that was passed in has done to it.
    #[cold]
    pub(crate) fn tell_news(&mut self) {
        if let Some(news) = self.parts.receiver.take_news() {
            let text = news.text(self.parts.observer.server());
            self.parts.observer.notice(Level::Warning, "shared", text);
        }
    }

    #[cold]
    pub(super) fn tell(&self, name: &'static str, text: &str) {
        let observer = &self.parts.observer;
        let text = format!("{}: {text}", observer.server());
        observer.notice(Level::Warning, name, text);
    }

    /// Sleeps, whatever comes, until the time is over or the worker is woken.
    pub(crate) fn rest(&self, time: Duration) {
        self.parts.receiver.rest(time);
    }

    // --- send ---------------------------------------------------------------------------

    /// Sends what is in the outbox, and counts it there; in how many sends. Before it waits for
    /// room in the send buffer, it has what is accounted for published.
    #[inline]
    pub(crate) fn flush(
        &mut self,
        outbox: &mut Outbox,
        control: &Control,
        mut publish: impl FnMut(&mut Tally),
    ) -> usize {
        self.plan_sends(outbox);
        let groups = self.link.plan.groups().len();
        let mut next = 0;
        while next < groups {
            match self.link.engine.send(&self.link.plan, outbox, next) {
                Ok(sent) => {
                    for group in &self.link.plan.groups()[next..next + sent] {
                        outbox.tally.add(Count::SentPackets, group.datagrams.into());
                        outbox.tally.add(Count::SentBytes, group.bytes.into());
                    }
                    next += sent;
                }
                Err(error) => {
                    self.send_singly(outbox, next, &error, control, &mut publish);
                    next += 1;
                }
            }
        }
        if let Some(hops) = &mut self.hops {
            hops.socket.follow();
        }
        groups
    }

    #[inline]
    fn plan_sends(&mut self, outbox: &mut Outbox) {
        if let Some(hops) = &mut self.hops {
            for entry in outbox.entries_mut() {
                entry.transmit.hop_limit = hops.socket.ask(entry.transmit.hop_limit);
            }
        }
        let planned = self.link.plan_sends(outbox);
        assert_eq!(planned, outbox.entries().len(), "an outbox is bounded");
    }
}
