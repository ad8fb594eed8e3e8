//! What comes in: offers, bytes, and what becomes of them.

use super::super::comparing::Comparing;
use super::super::failure::{Failure, Reason};
use super::super::receiver::{Arrival, Incoming, Taken};
use super::super::store::{Offer, Opened};
use super::super::wire::{self, Body, OfferBody};
use super::{Key, Serving};
use crate::books::DropReason;
use crate::books::udp::Count;
use crate::datagram::{Datagram, Outbox};
use crate::event::{Level, Parts};

impl Serving {
    pub(super) fn on_offer(
        &mut self,
        now_ns: u64,
        key: Key,
        body: OfferBody,
        datagram: &Datagram<'_>,
        out: &mut Outbox,
    ) {
        if let Some(incoming) = self.incoming.get_mut(&key) {
            incoming.offered_again();
            out.consume(datagram);
            return self.touch(key);
        }
        if self.comparing.contains_key(&key) {
            return out.consume(datagram);
        }
        let is_retry = |reason: &Reason| matches!(reason, Reason::TooMany | Reason::ExistsAlike);
        let ending = self.ended.get(&key).map(|ending| &ending.failed);
        if ending.is_some_and(|failed| failed.as_ref().is_none_or(|(why, _)| !is_retry(why))) {
            return self.reply_ending(key, datagram, out);
        }
        if !self.shared.cookies.is_right(now_ns, key.0, &body.cookie) {
            let cookie = self.shared.cookies.make(now_ns, key.0);
            return self.reply(key.1, datagram, &Body::Cookie(cookie), out);
        }
        let offer = Offer {
            peer: key.0,
            id: key.1,
            name: body.name,
            length: body.length,
            identity: body.identity,
            digest: body.digest,
            replaces: body.replaces,
        };
        self.supersede(now_ns, &offer, out);
        let name = offer.name.clone();
        match self.open_sink(now_ns, key, offer, datagram) {
            Ok(()) => {
                out.consume(datagram);
                self.touch(key);
            }
            Err(failure) => {
                if !is_retry(&failure.reason) {
                    let text = format!("refused a message from {}: {failure}", key.0);
                    let parts = vec![("reason", failure.reason.name().into())];
                    self.shared.tell(Level::Warning, &text, key.0, &name, parts);
                    out.tally.add(Count::FailedTransfers, 1);
                }
                self.refuse(key.1, datagram, &failure, out);
            }
        }
    }

    /// Who offers the same file again by another id goes on with that: it was restarted, or takes
    /// this side for restarted.
    fn supersede(&mut self, now_ns: u64, offer: &Offer, out: &mut Outbox) {
        if offer.name.is_none() || offer.identity == [0; 16] {
            return;
        }
        let is_same = |other: &Offer| {
            other.peer.ip() == offer.peer.ip()
                && (&other.name, other.identity) == (&offer.name, offer.identity)
        };
        let found = self.incoming.iter();
        let old = found.filter(|(_, incoming)| is_same(incoming.offer()));
        for key in old.map(|(key, _)| *key).collect::<Vec<_>>() {
            let failure = Failure::new(Reason::Cancelled, "it is offered again");
            self.close_incoming(now_ns, key, Some(&failure), out);
        }
    }

    fn open_sink(
        &mut self,
        now_ns: u64,
        key: Key,
        offer: Offer,
        datagram: &Datagram<'_>,
    ) -> Result<(), Failure> {
        self.shared.enter(key.0)?;
        let to = datagram.message.reply();
        match self.shared.storage.open_sink(&offer) {
            Ok(Opened::Sink(sink)) => {
                let budget = &self.shared.budget;
                let incoming = Incoming::new(offer, to, sink, budget, now_ns);
                self.incoming.insert(key, incoming);
            }
            Ok(Opened::Compare(source)) => {
                let comparing = Comparing::new(offer, source, to);
                self.comparing.insert(key, comparing);
            }
            Err(failure) => {
                self.shared.leave(key.0);
                return Err(failure);
            }
        }
        Ok(())
    }

    pub(super) fn on_data(
        &mut self,
        now_ns: u64,
        key: Key,
        (number, offset, data): (u64, u64, &[u8]),
        datagram: &Datagram<'_>,
        out: &mut Outbox,
    ) {
        let Some(incoming) = self.incoming.get_mut(&key) else {
            return self.reply_ending(key, datagram, out);
        };
        match incoming.on_data(now_ns, number, offset, data) {
            Taken::Refused => {
                let source = &datagram.message.came.source;
                out.drop(DropReason::TransferLimit, 1, source);
            }
            Taken::Conflicting => {
                out.tally.add(Count::ConflictingPackets, 1);
                out.consume(datagram);
            }
            Taken::New | Taken::Duplicate => out.consume(datagram),
        }
        self.touch(key);
    }

    /// END, or a probe.
    pub(super) fn on_mark(
        &mut self,
        now_ns: u64,
        key: Key,
        body: &Body<'_>,
        datagram: &Datagram<'_>,
        out: &mut Outbox,
    ) {
        let Some(incoming) = self.incoming.get_mut(&key) else {
            return self.reply_ending(key, datagram, out);
        };
        match *body {
            Body::End {
                number,
                length,
                digest,
            } => incoming.on_end(now_ns, number, length, digest),
            Body::Probe { number } => incoming.on_probe(now_ns, number),
            _ => {}
        }
        out.consume(datagram);
        self.touch(key);
    }

    /// Acknowledges what this batch brought.
    pub(super) fn answer_touched(&mut self, now_ns: u64, out: &mut Outbox) {
        let touched = std::mem::take(&mut self.touched);
        let room = self.room();
        for key in &touched {
            self.settle_incoming(now_ns, *key, out);
            if let Some(incoming) = self.incoming.get_mut(key) {
                incoming.answer(now_ns, &room, out);
            }
        }
        self.touched = touched;
        self.touched.clear();
    }

    /// Finishes what is whole, and lets go of what has ended.
    fn settle_incoming(&mut self, now_ns: u64, key: Key, out: &mut Outbox) {
        let Some(incoming) = self.incoming.get_mut(&key) else {
            return;
        };
        incoming.advance(now_ns);
        match incoming.arrival().clone() {
            Arrival::Open => {}
            Arrival::Whole => self.close_incoming(now_ns, key, None, out),
            Arrival::Failed(failure) => self.close_incoming(now_ns, key, Some(&failure), out),
        }
    }

    /// Tells both sides how it ended.
    fn close_incoming(
        &mut self,
        now_ns: u64,
        key: Key,
        failure: Option<&Failure>,
        out: &mut Outbox,
    ) {
        let room = self.room();
        let Some(mut incoming) = self.incoming.remove(&key) else {
            return;
        };
        if let Some(failure) = failure {
            incoming.give_up(failure.clone());
        }
        incoming.owe();
        incoming.answer(now_ns, &room, out);
        let (name, prefix) = (incoming.offer().name.clone(), incoming.prefix());
        let was_there = incoming.was_there();
        let what = match name.is_none() {
            true => "a message".to_owned(),
            false => format!("{name}"),
        };
        let duration_ns = now_ns - incoming.began_ns();
        let seconds = duration_ns as f64 / 1e9;
        let mut parts: Parts = vec![
            ("length_bytes", prefix.into()),
            ("duration_ns", duration_ns.into()),
        ];
        let peer = key.0;
        match failure {
            None => {
                out.tally.add(Count::ReceivedTransfers, 1);
                let resumed = match incoming.resumed_from() {
                    0 => String::new(),
                    from => format!(", of which {from} were here from before"),
                };
                let text = format!(
                    "received {what} of {prefix} bytes from {peer} in {seconds:.3} s{resumed}"
                );
                self.shared.tell(Level::Info, &text, peer, &name, parts);
            }
            Some(failure) => {
                out.tally.add(Count::FailedTransfers, 1);
                let of = match incoming.offer().length {
                    Some(length) => format!("{prefix} of {length} bytes"),
                    None => format!("{prefix} bytes"),
                };
                let text = format!("{what} from {peer} failed after {of}: {failure}");
                parts.push(("reason", failure.reason.name().into()));
                self.shared.tell(Level::Warning, &text, peer, &name, parts);
            }
        }
        drop(incoming);
        self.end(now_ns, key, failure, was_there, name);
    }

    pub(super) fn advance_incoming(&mut self, now_ns: u64, out: &mut Outbox) {
        let timeout_ns = self.shared.limits.progress_timeout_ns;
        let is_due = |incoming: &Incoming| {
            incoming.has_work() || incoming.last_progress_ns() + timeout_ns <= now_ns
        };
        let due = self.incoming.iter().filter(|(_, one)| is_due(one));
        let due: Vec<Key> = due.map(|(key, _)| *key).collect();
        for key in due {
            self.settle_incoming(now_ns, key, out);
            let late = self.incoming.get(&key);
            let late = late.filter(|one| one.last_progress_ns() + timeout_ns <= now_ns);
            if late.is_some() {
                let text = format!("no progress for {} s", timeout_ns as f64 / 1e9);
                let failure = Failure::new(Reason::TimedOut, text);
                self.close_incoming(now_ns, key, Some(&failure), out);
            }
        }
    }

    pub(super) fn advance_comparing(&mut self, now_ns: u64, out: &mut Outbox) {
        let keys: Vec<Key> = self.comparing.keys().copied().collect();
        for key in keys {
            let Some(comparing) = self.comparing.get_mut(&key) else {
                continue;
            };
            let Some(result) = comparing.advance() else {
                continue;
            };
            let Some(comparing) = self.comparing.remove(&key) else {
                continue;
            };
            let body = match &result {
                Ok(_) => Body::Done { was_there: true },
                Err(failure) => Body::Abort {
                    reason: Some(failure.reason),
                    text: &failure.text,
                },
            };
            self.scratch.clear();
            wire::encode(&mut self.scratch, key.1, &body);
            out.send(comparing.to, &self.scratch);
            let name = comparing.offer.name;
            let (count, level, text) = match &result {
                Ok(_) => (
                    Count::ReceivedTransfers,
                    Level::Info,
                    format!("{name} from {} was here already", key.0),
                ),
                Err(failure) => (
                    Count::FailedTransfers,
                    Level::Warning,
                    format!("refused {name} from {}: {failure}", key.0),
                ),
            };
            out.tally.add(count, 1);
            let parts = result.as_ref().err();
            let parts = parts.map(|failure| ("reason", failure.reason.name().into()));
            let parts = parts.into_iter().collect();
            self.shared.tell(level, &text, key.0, &name, parts);
            self.end(now_ns, key, result.err().as_ref(), true, name);
        }
    }

    /// The sender gives it up.
    pub(super) fn abandon(
        &mut self,
        now_ns: u64,
        key: Key,
        reason: Option<Reason>,
        text: &str,
        out: &mut Outbox,
    ) {
        let text = match text {
            "" => "the sender gave up".to_owned(),
            text => format!("the sender gave up: {text}"),
        };
        let failure = Failure {
            reason: reason.unwrap_or(Reason::Cancelled),
            text,
            is_remote: true,
        };
        self.close_incoming(now_ns, key, Some(&failure), out);
    }
}
