//! WHETHER to answer: all the rules but those about impossible sources, for one UDP worker.
//!
//! Rule 1: with the defaults, a receive costs a comparison or two and a look into a small
//! table. Nothing is locked or allocated, and no clock is read.
//! Rule 2: more than that costs a receive where rates are limited, or where a peer beyond loopback
//! repeats a reply.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::access::Access;
use super::loops::{Cause, Finding, Loops, MOST, Seen};
use super::rates::{Grant, Moment, Rates, Tags};
use super::repeats::Millis;
use super::{Policy, ports, repeats};
use crate::books::DropReason;
use crate::event::{Level, Line, Lines, Observer, Parts};
use crate::sys::RawAddress;
use crate::sys::datagram::Received;
use crate::throttle::LeftOut;

/// One worker's guard.
pub(crate) struct Guard {
    access: Option<Access>,
    answers_service_ports: bool,
    rates: Option<Arc<Rates>>,
    tags: Tags,
    ends_loops: bool,
    /// Where loops are ended; made when the socket reports hop limits.
    loops: Option<Watch>,
    /// When this batch came, where rates are limited: rule 2.
    moment: Option<Moment>,
    ended: Lines<Option<Told>>,
    repeated: Lines<Option<Told>>,
}

/// The last datagram that a line is about: who sent it, and why it was not answered.
#[derive(Clone, Copy)]
struct Told {
    peer: Option<SocketAddr>,
    cause: Cause,
    hop_limit: u8,
}

/// Ends loops, and reads the clock for that.
struct Watch {
    loops: Loops,
    clock: Clock,
}

/// A clock that is read at most once per batch.
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
            ended: Lines::new(Arc::clone(&observer), line),
            repeated: Lines::new(observer, line),
            moment: None,
        }
    }

    /// Whether the socket has to report hop limits.
    pub(crate) fn needs_hop_limits(&self) -> bool {
        self.ends_loops
    }

    /// The socket reports hop limits from now on, and sends with these by IPv4 and by IPv6, as far
    /// as that is known.
    pub(crate) fn watch(&mut self, own_hop_limits: [Option<u8>; 2]) {
        let own = own_hop_limits.map(|own| own.filter(|own| *own > 0).unwrap_or(MOST));
        self.loops = Some(Watch {
            loops: Loops::new(own),
            clock: Clock {
                start: Instant::now(),
                now: None,
            },
        });
    }

    /// From now on a request has up to `copies` replies. Unless `only_echoes` is true (all replies
    /// are their request's bytes, sent in its batch), each reply is told by [`Guard::sent`].
    pub(crate) fn answers(&mut self, copies: usize, only_echoes: bool) {
        if let Some(watch) = &mut self.loops {
            watch.loops.answers(copies, only_echoes);
        }
    }

    /// A reply with these bytes is sent.
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

    /// Why datagrams of this source are never answered; `None`: they may be.
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

    /// How many of the `datagrams` of a receive may be answered, and why the others may not. Asked
    /// last, since it counts them against the limits. Also the hop limit of their replies; 0: the
    /// socket's own. `data` are the receive's bytes.
    ///
    /// Rates come before the loop guard's count of repeats: what a rate refuses goes round no more.
    #[inline]
    pub(crate) fn weigh(
        &mut self,
        received: &Received,
        datagrams: u64,
        data: &[u8],
    ) -> (Grant, u8) {
        let mut grant = Grant::all(datagrams);
        let mut limit = || {
            if let (Some(rates), Some(moment)) = (&self.rates, self.moment)
                && let Some(ip) = received.source.ip()
            {
                grant = rates.take(self.tags.of(rates, ip), datagrams, moment);
            }
            grant.datagrams
        };
        let Some(watch) = &mut self.loops else {
            limit();
            return (grant, 0);
        };
        let finding = watch.examine(received, datagrams, data, limit);
        if let Some(cause) = finding.cause {
            grant.datagrams -= finding.left_out;
            grant.reason = grant.reason.or(Some(cause.reason()));
            self.tell(cause, received);
        }
        (grant, finding.reply_hop_limit)
    }

    #[cold]
    fn tell(&self, cause: Cause, received: &Received) {
        let lines = match cause {
            Cause::NoHopsLeft | Cause::HopLimitsVary => &self.ended,
            Cause::Repeats => &self.repeated,
        };
        let told = Told {
            peer: received.source.to_std(),
            cause,
            hop_limit: received.hop_limit,
        };
        lines.add(Instant::now(), |last| *last = Some(told));
    }
}

impl Watch {
    #[inline]
    fn examine(
        &mut self,
        received: &Received,
        datagrams: u64,
        data: &[u8],
        limit: impl FnOnce() -> u64,
    ) -> Finding {
        let seen = Seen {
            source: &received.source,
            hop_limit: received.hop_limit,
            data,
            segment_bytes: received.segment_bytes,
        };
        self.loops
            .examine(&seen, datagrams, limit, || self.clock.now())
    }
}

/// Says what happened, and accuses nobody: a client that repeats itself looks like an echo.
fn line(last: Option<Told>, server: &str, left_out: LeftOut) -> Line {
    let mut parts = Parts::new();
    if let Some(peer) = last.as_ref().and_then(|told| told.peer) {
        parts.push(("peer", peer.into()));
    }
    let (peer, cause, hop_limit) = match last {
        Some(Told {
            peer: Some(peer),
            cause,
            hop_limit,
        }) => (peer.to_string(), cause, hop_limit),
        _ => ("an unknown peer".to_owned(), Cause::Repeats, 0),
    };
    let text = match cause {
        Cause::NoHopsLeft => {
            parts.push(("hop_limit", u64::from(hop_limit).into()));
            format!(
                "{server} ended an echo loop with {peer}: its datagram came with hop limit \
                 {hop_limit}, which leaves none for a reply"
            )
        }
        Cause::HopLimitsVary => format!(
            "{server} ended an echo loop with {peer}: its datagram repeats a reply, and its hop \
             limits vary"
        ),
        Cause::Repeats => {
            let (repeats, per_second) = (repeats::REPEATS, repeats::PER_SECOND);
            let excess = repeats::EXCESS;
            format!(
                "{server} did not answer a datagram of {peer} that repeats a reply: to end echo \
                 loops, one in {repeats} of these is dropped, and one in {excess} beyond \
                 {per_second} per second; a client loses no more than that"
            )
        }
    };
    Line {
        level: Level::Warning,
        name: cause.reason().name(),
        text: format!("{text}{left_out}"),
        parts,
    }
}
