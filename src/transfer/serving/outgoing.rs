//! What is pulled from here.

use super::super::failure::{Failure, Reason};
use super::super::sender::{Sender, Sending};
use super::super::store::{Name, Source};
use super::super::wire::{Body, PullBody};
use super::{Key, Serving};
use crate::books::DropReason;
use crate::books::udp::Count;
use crate::datagram::{Datagram, Outbox};
use crate::event::Level;

impl Serving {
    pub(super) fn on_pull(
        &mut self,
        now_ns: u64,
        key: Key,
        body: PullBody,
        datagram: &Datagram<'_>,
        out: &mut Outbox,
    ) {
        if self.outgoing.contains_key(&key) {
            return out.consume(datagram);
        }
        if !body.is_echo
            && let Some(ending) = self.ended.get(&key)
        {
            // Late: it was sent, or it failed and is to be asked for by another id.
            return match ending.failed {
                None => out.consume(datagram),
                Some(_) => self.reply_ending(key, datagram, out),
            };
        }
        if !self.shared.cookies.is_right(now_ns, key.0, &body.cookie) {
            let cookie = self.shared.cookies.make(now_ns, key.0);
            return self.reply(key.1, datagram, &Body::Cookie(cookie), out);
        }
        match self.open_source(now_ns, key, &body, datagram) {
            Ok(()) => out.consume(datagram),
            Err(failure) => {
                let text = format!("refused to send {} to {}: {failure}", body.name, key.0);
                let parts = vec![("reason", failure.reason.name().into())];
                self.shared
                    .tell(Level::Warning, &text, key.0, &body.name, parts);
                self.refuse(key.1, datagram, &failure, out);
            }
        }
    }

    fn open_source(
        &mut self,
        now_ns: u64,
        key: Key,
        body: &PullBody,
        datagram: &Datagram<'_>,
    ) -> Result<(), Failure> {
        self.shared.enter(key.0)?;
        let source = match body.is_echo {
            true => self.sent_before(key),
            false => self.shared.storage.open_source(&body.name),
        };
        let source = source.inspect_err(|_| self.shared.leave(key.0))?;
        let settings = Sending {
            name: body.name.clone(),
            replaces: false,
            progress_timeout_ns: self.shared.limits.progress_timeout_ns,
            bytes_per_second: self.shared.limits.bytes_per_second,
            max_datagram_bytes: (self.shared.link_mtu)(key.0),
        };
        let to = datagram.message.reply();
        let sender = Sender::new(key.1, to, source, settings, now_ns);
        self.outgoing.insert(key, sender);
        Ok(())
    }

    /// What came by this transfer, to go back.
    fn sent_before(&self, key: Key) -> Result<Box<dyn Source>, Failure> {
        let Some(kept) = &self.shared.kept else {
            let text = "it sends nothing back: start it with --echo-transfers";
            return Err(Failure::new(Reason::Refused, text));
        };
        if let Some(source) = kept.take(&key) {
            return Ok(source);
        }
        let none = Name::none();
        let name = self.ended.get(&key).map_or(&none, |ending| &ending.name);
        if name.is_none() {
            return Err(Failure::new(Reason::NotFound, "no such message is kept"));
        }
        self.shared.storage.open_source(name)
    }

    /// ACK, DONE, ABORT or COOKIE: to what is sent from here.
    pub(super) fn on_answer(
        &mut self,
        now_ns: u64,
        key: Key,
        body: &Body<'_>,
        datagram: &Datagram<'_>,
        out: &mut Outbox,
    ) {
        if let Some(sender) = self.outgoing.get_mut(&key) {
            sender.on_packet(now_ns, body);
            return out.consume(datagram);
        }
        if let Body::Abort { reason, text } = body
            && self.incoming.contains_key(&key)
        {
            out.consume(datagram);
            return self.abandon(now_ns, key, *reason, text, out);
        }
        let source = &datagram.message.came.source;
        match self.ended.get(&key) {
            // Late.
            Some(_) => out.consume(datagram),
            None => out.drop(DropReason::TransferUnknown, 1, source),
        }
    }

    /// Sends what may be sent now. False: the outbox is full, and there is more.
    pub(super) fn advance_outgoing(&mut self, now_ns: u64, out: &mut Outbox) -> bool {
        let mut ended = Vec::new();
        for (key, sender) in &mut self.outgoing {
            if sender.deadline_ns().is_some_and(|due_ns| due_ns > now_ns) {
                continue;
            }
            if !sender.on_time(now_ns, out) {
                return false;
            }
            if sender.outcome().is_some() {
                ended.push(*key);
            }
        }
        for key in ended {
            self.close_outgoing(now_ns, key, out);
        }
        true
    }

    fn close_outgoing(&mut self, now_ns: u64, key: Key, out: &mut Outbox) {
        let Some(sender) = self.outgoing.remove(&key) else {
            return;
        };
        let (name, peer) = (sender.name().clone(), key.0);
        let what = match name.is_none() {
            true => "a message".to_owned(),
            false => name.to_string(),
        };
        let failure = match sender.outcome() {
            Some(Ok(figures)) => {
                out.tally.add(Count::SentTransfers, 1);
                let text = format!("sent {what} of {} bytes to {peer}", figures.length);
                let parts = vec![("length_bytes", figures.length.into())];
                self.shared.tell(Level::Info, &text, peer, &name, parts);
                None
            }
            Some(Err(failure)) => {
                out.tally.add(Count::FailedTransfers, 1);
                let done = sender.done_bytes();
                let text = format!("{what} to {peer} failed after {done} bytes: {failure}");
                let parts = vec![
                    ("length_bytes", done.into()),
                    ("reason", failure.reason.name().into()),
                ];
                self.shared.tell(Level::Warning, &text, peer, &name, parts);
                Some(failure)
            }
            None => None,
        };
        self.end(now_ns, key, failure.as_ref(), false, Name::none());
    }
}
