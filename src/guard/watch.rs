//! WHETHER to answer: all the rules but those about impossible sources, for one UDP worker.
//!
//! Rule 1: with the defaults, a receive costs a comparison or two, and the first few of a
//! batch a look into a small table. Nothing is locked or allocated, and no clock is read.
//! Rule 2: what costs more happens while sources have limits, or while somebody is suspected.

use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::access::Access;
use super::loops::{Loops, News, Seen, Why};
use super::rates::{Grant, Moment, Rates, Tags};
use super::{Policy, ports};
use crate::event::{Level, Observer};
use crate::stats::DropReason;
use crate::sys::message::Received;
use crate::sys::option::HopLimits;
use crate::sys::{self, RawAddress};

/// Receives of a batch whose sources are counted: enough to meet each peer that asks often.
const SIGHTED: usize = 8;

/// Lines about quarantines are at least this far apart: a forger could have many.
const BETWEEN_LINES: Duration = Duration::from_secs(1);

/// One worker's guard.
pub(crate) struct Guard {
    access: Option<Access>,
    answers_service_ports: bool,
    rates: Option<Arc<Rates>>,
    tags: Tags,
    loops: Option<Loops>,
    observer: Arc<Observer>,
    /// Something is to be looked at, and the time is known: rule 2.
    is_slow: bool,
    now: Instant,
    moment: Option<Moment>,
    /// Sightings left in this batch.
    sightings: usize,
    /// What the socket reported of hop limits before it was told to report them all.
    own_hop_limits: Option<HopLimits>,
    last_line: Option<Instant>,
    untold: u64,
}

impl Guard {
    /// `rates` are shared by the workers.
    pub(crate) fn new(policy: &Policy, rates: Option<Arc<Rates>>, observer: Arc<Observer>) -> Self {
        let limits_sources = rates.as_ref().is_some_and(|rates| rates.limits_sources());
        Self {
            access: Access::new(&policy.allow, &policy.deny),
            answers_service_ports: policy.answer_service_ports,
            rates,
            tags: Tags::new(),
            loops: policy.loop_guard.then(|| Loops::new(limits_sources)),
            observer,
            is_slow: false,
            now: Instant::now(),
            moment: None,
            sightings: 0,
            own_hop_limits: None,
            last_line: None,
            untold: 0,
        }
    }

    /// To be called before each batch.
    #[inline]
    pub(crate) fn begin(&mut self) {
        self.sightings = SIGHTED;
        let is_alert = self.loops.as_ref().is_some_and(Loops::is_alert);
        self.is_slow = is_alert || self.rates.is_some();
        if self.is_slow {
            self.begin_slowly();
        }
    }

    fn begin_slowly(&mut self) {
        self.now = Instant::now();
        self.moment = self.rates.as_ref().map(|rates| rates.moment(self.now));
        if let Some(loops) = &mut self.loops {
            loops.begin(self.now);
        }
    }

    /// Why a datagram from there is not answered whatever it is; `None`: it may be.
    #[inline]
    pub(crate) fn admit(&self, source: &RawAddress) -> Option<DropReason> {
        let port = source.port();
        // The cheapest first: hardly anybody has such a port.
        let is_low = !self.answers_service_ports && ports::may_be_service(port);
        if !is_low && self.access.is_none() {
            return None;
        }
        let ip = source.ip()?;
        if self
            .access
            .as_ref()
            .is_some_and(|access| !access.admits(ip))
        {
            return Some(DropReason::Denied);
        }
        (is_low && ports::is_service(ip, port)).then_some(DropReason::ServicePort)
    }

    /// How many of the `datagrams` of a receive are to be answered, and why not the others;
    /// to be asked last, since they are counted against the limits. Sets the hop limit of
    /// their replies. `data` are the receive's bytes.
    #[inline]
    pub(crate) fn weigh<'a>(
        &mut self,
        received: &mut Received,
        datagrams: u64,
        data: impl FnOnce() -> &'a [u8],
    ) -> Grant {
        if self.is_slow {
            return self.weigh_slowly(received, datagrams, data());
        }
        self.sight(&received.source);
        Grant {
            datagrams,
            reason: None,
        }
    }

    #[inline]
    fn sight(&mut self, source: &RawAddress) -> Option<usize> {
        let loops = self.loops.as_mut().filter(|_| self.sightings > 0)?;
        self.sightings -= 1;
        loops.sight(source)
    }

    fn weigh_slowly(&mut self, received: &mut Received, datagrams: u64, data: &[u8]) -> Grant {
        let source = received.source;
        let seen = Seen {
            source: &source,
            hop_limit: received.hop_limit,
            datagrams,
            data,
        };
        if let Some(loops) = self.loops.as_mut().filter(|loops| loops.is_alert()) {
            let finding = loops.examine(&seen, self.now);
            received.reply_hop_limit = finding.reply_hop_limit;
            self.tell(finding.news);
            if finding.reason.is_some() {
                return Grant {
                    datagrams: 0,
                    reason: finding.reason,
                };
            }
        }
        let place = self.sight(&source);
        let (Some(rates), Some(moment), Some(ip)) = (&self.rates, self.moment, source.ip()) else {
            return Grant {
                datagrams,
                reason: None,
            };
        };
        let tag = self.tags.of(rates, ip);
        let grant = rates.take(tag, datagrams, moment);
        if let Some(place) = place
            && let Some(loops) = &mut self.loops
            && rates.limits_sources()
        {
            loops.note(place, &seen);
            if grant.reason == Some(DropReason::RateLimited) {
                let news = loops.refused(place, &source, rates.burst(), self.now);
                self.tell(news);
            }
        }
        grant
    }

    /// To be called after each batch: has the socket report hop limits while that is needed.
    #[inline]
    pub(crate) fn end(&mut self, fd: RawFd, is_v4: bool) {
        let needs = self.loops.as_ref().is_some_and(Loops::needs_hop_limits);
        if needs != self.own_hop_limits.is_some() {
            self.ask_for_hop_limits(fd, is_v4, needs);
        }
    }

    /// To be called last of all: a socket that was passed in goes on living elsewhere.
    pub(crate) fn close(&mut self, fd: RawFd, is_v4: bool) {
        if self.own_hop_limits.is_some() {
            self.ask_for_hop_limits(fd, is_v4, false);
        }
    }

    #[cold]
    fn ask_for_hop_limits(&mut self, fd: RawFd, is_v4: bool, on: bool) {
        let own = self.own_hop_limits.take();
        let of = own.unwrap_or(HopLimits { v4: true, v6: true });
        if on {
            self.own_hop_limits = Some(sys::option::received_hop_limits(fd, !is_v4));
        }
        // Where the system does not say them, nobody is found by them: that is all.
        let _ = sys::option::receive_hop_limits(fd, !is_v4, of);
    }

    fn tell(&mut self, news: Option<News>) {
        if let Some(news) = news {
            self.tell_slowly(news);
        }
    }

    #[cold]
    fn tell_slowly(&mut self, news: News) {
        let is_due = self
            .last_line
            .is_none_or(|last| self.now.saturating_duration_since(last) >= BETWEEN_LINES);
        if !is_due {
            self.untold += 1;
            return;
        }
        let more = match std::mem::take(&mut self.untold) {
            0 => String::new(),
            untold => format!(" ({untold} more such lines were left out)"),
        };
        self.last_line = Some(self.now);
        let server = self.observer.server();
        let (level, name, text) = match news {
            News::Quarantined(peer, time, why) => {
                let text = quarantine_text(peer, time, why);
                (Level::Warning, "quarantined", text)
            }
            News::Released(peer) => {
                let text =
                    format!("released {peer}: it sends without being answered, so it is no echo");
                (Level::Info, "released", text)
            }
        };
        self.observer
            .notice(level, name, format!("{server} {text}{more}"));
    }
}

fn quarantine_text(peer: SocketAddr, time: Duration, why: Why) -> String {
    let why = match why {
        Why::Hops => {
            "its datagrams go round and round between it and this server: their hop limit falls"
        }
        Why::LockStep => "it sends back what it was sent, one datagram at a time, beyond its limit",
    };
    format!("quarantined {peer} for {} s: {why}", time.as_secs())
}
