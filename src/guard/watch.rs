//! WHETHER to answer: all the rules but those about impossible sources, for one UDP worker.
//!
//! Rule 1: with the defaults, a receive costs a comparison or two and a look into a small
//! table. Nothing is locked or allocated, and no clock is read.
//! Rule 2: what costs more happens while sources have limits, or where somebody off loopback
//! repeats what it was sent.

use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Instant;

use super::access::Access;
use super::loops::{Finding, Loops, MOST, Seen};
use super::rates::{Grant, Moment, Rates, Tags};
use super::repeats::Millis;
use super::socket_hops::SocketHops;
use super::{Policy, ports, repeats};
use crate::event::{Level, Line, Lines, Observer};
use crate::stats::DropReason;
use crate::sys::RawAddress;
use crate::sys::message::Received;
use crate::sys::option::{self, HopLimits};
use crate::throttle::LeftOut;

/// One worker's guard.
pub(crate) struct Guard {
    access: Option<Access>,
    answers_service_ports: bool,
    rates: Option<Arc<Rates>>,
    tags: Tags,
    ends_loops: bool,
    /// While it serves, where loops are ended.
    loops: Option<Watch>,
    observer: Arc<Observer>,
    /// Of this batch, where sources have limits: rule 2.
    moment: Option<Moment>,
    ended: Lines<Option<SocketAddr>>,
    repeated: Lines<Option<SocketAddr>>,
}

/// What ends loops, and what it needs of the socket.
struct Watch {
    loops: Loops,
    fd: RawFd,
    is_v6: bool,
    /// What the socket reported of hop limits before it was told to report them all.
    reported: HopLimits,
    socket: SocketHops,
    /// It was told to report them all, and did not refuse.
    is_reporting: bool,
    /// Replies may be sent after their batch.
    is_composing: bool,
    clock: Clock,
}

/// The time, asked for at most once a batch.
struct Clock {
    start: Instant,
    now: Option<Millis>,
}

impl Clock {
    fn now(&mut self) -> Millis {
        // It wraps after 49 days, which makes one silence shorter.
        let read = || self.start.elapsed().as_millis() as Millis;
        *self.now.get_or_insert_with(read)
    }
}

impl Guard {
    /// `rates` are shared by the workers.
    pub(crate) fn new(policy: &Policy, rates: Option<Arc<Rates>>, observer: Arc<Observer>) -> Self {
        Self {
            access: Access::new(&policy.allow, &policy.deny),
            answers_service_ports: policy.answer_service_ports,
            rates,
            tags: Tags::new(),
            ends_loops: policy.loop_guard,
            loops: None,
            ended: Lines::new(Arc::clone(&observer), ended),
            repeated: Lines::new(Arc::clone(&observer), repeated),
            observer,
            moment: None,
        }
    }

    /// To be called first of all. The caller keeps the socket open until [`Guard::close`];
    /// `is_shared`: somebody else sends by it too.
    pub(crate) fn open(&mut self, fd: RawFd, is_v4: bool, is_shared: bool) {
        if !self.ends_loops {
            return;
        }
        let is_v6 = !is_v4;
        let reported = option::received_hop_limits(fd, is_v6);
        let all = HopLimits {
            v4: true,
            v6: is_v6,
        };
        let done = option::receive_hop_limits(fd, is_v6, all);
        let is_reporting = done.is_ok();
        if let Err(error) = done {
            // No fallback in silence: what is left is the bound on repeats, off loopback.
            let server = self.observer.server();
            let text = format!(
                "cannot tell hop limits on {server}: {error}; loops with other servers are \
                 bounded off loopback only"
            );
            self.observer.notice(Level::Warning, "no_hop_limits", text);
        }
        let (socket, own) = SocketHops::new(fd, is_v6, is_shared);
        let own = [own.v4(), own.v6()].map(|own| own.filter(|own| *own > 0).unwrap_or(MOST));
        self.loops = Some(Watch {
            loops: Loops::new(own),
            fd,
            is_v6,
            reported,
            socket,
            is_reporting,
            is_composing: false,
            clock: Clock {
                start: Instant::now(),
                now: None,
            },
        });
    }

    /// From now on a request has up to `copies` replies. Unless all are its own bytes, sent
    /// in its batch, whatever is sent is told: [`Guard::sent`].
    pub(crate) fn answers(&mut self, copies: usize, is_composing: bool) {
        if let Some(watch) = &mut self.loops {
            watch.is_composing = is_composing;
            watch.loops.answers(copies, !is_composing);
        }
    }

    /// Such bytes are sent to somebody.
    pub(crate) fn sent(&mut self, to: &RawAddress, data: &[u8]) {
        if let Some(watch) = &mut self.loops {
            watch.loops.sent(to, data);
        }
    }

    /// To be called before each batch.
    #[inline]
    pub(crate) fn begin(&mut self) {
        if let Some(watch) = &mut self.loops {
            watch.loops.begin();
            watch.clock.now = None;
        }
        if let Some(rates) = &self.rates {
            self.moment = Some(rates.moment(Instant::now()));
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
    pub(crate) fn weigh(&mut self, received: &mut Received, datagrams: u64, data: &[u8]) -> Grant {
        let mut grant = Grant {
            datagrams,
            reason: None,
        };
        if let Some(watch) = &mut self.loops {
            let finding = watch.examine(received, datagrams, data);
            if let Some(reason) = finding.reason {
                grant = Grant {
                    datagrams: datagrams - finding.left_out,
                    reason: Some(reason),
                };
                self.tell(reason, &received.source);
            }
        }
        match self.moment {
            Some(moment) if grant.datagrams > 0 => self.limit(grant, &received.source, moment),
            _ => grant,
        }
    }

    /// As many of these as their source has tokens for.
    fn limit(&mut self, grant: Grant, source: &RawAddress, moment: Moment) -> Grant {
        let (Some(rates), Some(ip)) = (&self.rates, source.ip()) else {
            return grant;
        };
        let tag = self.tags.of(rates, ip);
        let limited = rates.take(tag, grant.datagrams, moment);
        Grant {
            reason: limited.reason.or(grant.reason),
            ..limited
        }
    }

    /// To be called after each batch.
    #[inline]
    pub(crate) fn end(&mut self) {
        if let Some(watch) = &mut self.loops {
            watch.socket.end();
        }
    }

    /// To be called last of all: a socket that was passed in goes on living elsewhere.
    pub(crate) fn close(&mut self) {
        if let Some(mut watch) = self.loops.take() {
            watch.socket.restore();
            // Nothing is lost where this fails.
            let _ = option::receive_hop_limits(watch.fd, watch.is_v6, watch.reported);
        }
    }

    #[cold]
    fn tell(&self, reason: DropReason, source: &RawAddress) {
        let lines = match reason {
            DropReason::EchoLoop => &self.ended,
            _ => &self.repeated,
        };
        lines.add(Instant::now(), |last| *last = source.to_std());
    }
}

impl Watch {
    #[inline]
    fn examine(&mut self, received: &mut Received, datagrams: u64, data: &[u8]) -> Finding {
        let seen = Seen {
            source: &received.source,
            hop_limit: received.hop_limit,
            data,
            segment_bytes: received.segment_bytes,
        };
        let finding = self.loops.examine(&seen, datagrams, || self.clock.now());
        if received.hop_limit == 0 && self.is_reporting {
            self.report_again();
        }
        received.reply_hop_limit = if self.is_composing {
            finding.reply_hop_limit
        } else {
            self.socket.ask(finding.reply_hop_limit)
        };
        finding
    }

    /// A socket that was passed in is somebody else's too, who had it report no more: another
    /// server that ended puts back what it found.
    #[cold]
    fn report_again(&mut self) {
        let all = HopLimits {
            v4: true,
            v6: self.is_v6,
        };
        self.is_reporting = option::receive_hop_limits(self.fd, self.is_v6, all).is_ok();
    }
}

fn ended(last: Option<SocketAddr>, server: &str, left_out: LeftOut) -> Line {
    let peer = name(last);
    line(
        DropReason::EchoLoop,
        format!(
            "{server} ended an echo loop with {peer}: a datagram went round until nothing was left \
             of its hop limit{left_out}"
        ),
    )
}

fn repeated(last: Option<SocketAddr>, server: &str, left_out: LeftOut) -> Line {
    let peer = name(last);
    let (repeats, per_second) = (repeats::REPEATS, repeats::PER_SECOND);
    line(
        DropReason::Repeated,
        format!(
            "{server} left a datagram of {peer} unanswered: it sends what it was sent, as an echo \
             would, more than {repeats} times, or more than {per_second} times a second{left_out}"
        ),
    )
}

fn line(reason: DropReason, text: String) -> Line {
    Line {
        level: Level::Warning,
        name: reason.name(),
        text,
    }
}

fn name(peer: Option<SocketAddr>) -> String {
    peer.map_or_else(|| "nobody".to_owned(), |peer| peer.to_string())
}
