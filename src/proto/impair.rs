//! Another protocol, behind lines on which datagrams are lost, late, twice, out of order or
//! changed: on their way in and on their way out.
//!
//! Costs a copy a datagram, and an allocation for each that is held back.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Batch, Broadcast, BroadcastRate, Outbox, Pending, Progress, Protocol};
use crate::books::DropReason;
use crate::books::udp::{Count, Tally};
use crate::datagram::{Copied, Message, RawAddress, Transmit};
use crate::guard::Policy;
use crate::impair::{Direction, Fate, Flows, Letter, Line};

/// What datagrams go through.
pub(crate) struct Lines {
    pub(crate) incoming: Option<Line<Message>>,
    pub(crate) outgoing: Option<Line<Transmit>>,
    /// The flows as the decisions know them.
    pub(crate) flows: Flows,
    /// How many replies one request may come to, where datagrams are duplicated on purpose.
    pub(crate) copies: usize,
}

impl Lines {
    /// None.
    pub(crate) fn none() -> Self {
        Self {
            incoming: None,
            outgoing: None,
            flows: Flows::new(Arc::default()),
            copies: 1,
        }
    }

    /// Whether there is any.
    pub(crate) fn are_needed(&self) -> bool {
        self.incoming.is_some() || self.outgoing.is_some()
    }
}

/// A protocol and what its datagrams go through.
pub(crate) struct Impaired {
    inner: Box<dyn Protocol>,
    lines: Lines,
    /// What answers to broadcasts go through instead, and how often there may be one.
    broadcast: Option<(Line<Transmit>, Arc<BroadcastRate>)>,
    /// Through the incoming line, and not yet answered.
    arrived: VecDeque<Copied>,
    /// Through what was the outgoing line.
    leaving: VecDeque<Letter<Transmit>>,
    /// What the protocol answers, on its way to the outgoing line.
    replies: Outbox,
}

impl Impaired {
    pub(crate) fn new(
        inner: Box<dyn Protocol>,
        policy: Policy,
        broadcast: Option<(Broadcast, Arc<BroadcastRate>)>,
    ) -> Self {
        let line = |one: Broadcast| Line::new(&one.delay(), Direction::Out, None);
        Self {
            inner,
            lines: Lines::none(),
            broadcast: broadcast.map(|(one, rate)| (line(one), rate)),
            arrived: VecDeque::new(),
            leaving: VecDeque::new(),
            replies: Outbox::new(policy),
        }
    }

    /// Other lines from now on. What the old ones held has come through them, and is to be
    /// served before anything is put into the new ones.
    pub(crate) fn replace_lines(&mut self, lines: Lines) {
        let old = std::mem::replace(&mut self.lines, lines);
        self.replies.set_copies(self.lines.copies);
        let arrived = old
            .incoming
            .into_iter()
            .flat_map(|mut line| line.take_all());
        self.arrived.extend(arrived.map(copied));
        let leaving = old
            .outgoing
            .into_iter()
            .flat_map(|mut line| line.take_all());
        self.leaving.extend(leaving);
    }

    /// Whether the protocol would do without.
    pub(crate) fn is_needed(&self) -> bool {
        self.lines.are_needed() || self.broadcast.is_some()
    }

    /// The protocol alone.
    pub(crate) fn into_inner(self) -> Box<dyn Protocol> {
        self.inner
    }

    /// Runs the protocol; what it answers goes into the lines, or straight out.
    fn run(
        &mut self,
        now_ns: u64,
        batch: Option<&Batch<'_>>,
        out: &mut Outbox,
        run: impl FnOnce(&mut dyn Protocol, &mut Outbox) -> Progress,
    ) -> Progress {
        if self.lines.outgoing.is_none() && self.broadcast.is_none() {
            return run(&mut *self.inner, out);
        }
        // The counts of what is dropped meanwhile are those of the outbox proper.
        std::mem::swap(&mut self.replies.tally, &mut out.tally);
        let progress = run(&mut *self.inner, &mut self.replies);
        std::mem::swap(&mut self.replies.tally, &mut out.tally);
        self.put_replies(now_ns, batch, out);
        progress
    }

    fn put_replies(&mut self, now_ns: u64, batch: Option<&Batch<'_>>, out: &mut Outbox) {
        let slots = batch.map_or_else(Default::default, Batch::slots);
        for entry in self.replies.entries() {
            let (transmit, mut offset) = (entry.transmit, 0);
            for length in entry.lengths() {
                let data = self.replies.data(slots, entry, offset, length);
                offset += length;
                let line = match &mut self.broadcast {
                    Some((line, rate)) if transmit.from.is_group() => {
                        if !rate.take(now_ns) {
                            out.drop(DropReason::BroadcastLimited, 1, &transmit.to);
                            continue;
                        }
                        Some(line)
                    }
                    _ => self.lines.outgoing.as_mut(),
                };
                let (Some(line), Some(peer)) = (line, transmit.to.to_std()) else {
                    out.push(transmit, data);
                    continue;
                };
                let letter = Letter {
                    data: data.to_vec(),
                    tag: transmit,
                };
                let fate = line.put(now_ns, self.lines.flows.number(peer), letter);
                count_fate(&mut out.tally, &fate, &transmit.to);
            }
        }
        self.replies.clear();
    }

    /// Has what came through the incoming line answered.
    fn serve_arrived(&mut self, now_ns: u64, out: &mut Outbox) -> Progress {
        if self.arrived.is_empty() {
            return Progress::Done;
        }
        let mut arrived = std::mem::take(&mut self.arrived);
        let batch = Batch::of_copies(arrived.make_contiguous());
        let progress = self.run(now_ns, None, out, |inner, out| {
            inner.on_batch(now_ns, &batch, out)
        });
        match progress {
            Progress::Done => arrived.clear(),
            Progress::More(taken) => drop(arrived.drain(..taken)),
        }
        self.arrived = arrived;
        progress
    }
}

impl Protocol for Impaired {
    fn on_batch(&mut self, now_ns: u64, batch: &Batch<'_>, out: &mut Outbox) -> Progress {
        let Some(line) = &mut self.lines.incoming else {
            return self.run(now_ns, Some(batch), out, |inner, out| {
                inner.on_batch(now_ns, batch, out)
            });
        };
        for datagram in batch.datagrams() {
            let peer = &datagram.message.came.source;
            let Some(flow) = datagram.peer().map(|peer| self.lines.flows.number(peer)) else {
                continue;
            };
            let Copied { data, message } = datagram.copied();
            let letter = Letter { data, tag: message };
            let fate = line.put(now_ns, flow, letter);
            count_fate(&mut out.tally, &fate, peer);
        }
        // What is due already is served by `on_time`.
        Progress::Done
    }

    fn deadline_ns(&self) -> Option<u64> {
        let lines = &self.lines;
        let broadcast = self.broadcast.as_ref();
        [
            lines.incoming.as_ref().and_then(Line::next_due_ns),
            lines.outgoing.as_ref().and_then(Line::next_due_ns),
            broadcast.and_then(|(line, _)| line.next_due_ns()),
            self.inner.deadline_ns(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn on_time(&mut self, now_ns: u64, out: &mut Outbox) -> Progress {
        while let Some(letter) = due(self.lines.incoming.as_mut(), now_ns) {
            self.arrived.push_back(copied(letter));
        }
        if self.serve_arrived(now_ns, out) != Progress::Done {
            return Progress::More(0);
        }
        if self.inner.is_timed() {
            let run = |inner: &mut dyn Protocol, out: &mut Outbox| inner.on_time(now_ns, out);
            if self.run(now_ns, None, out, run) != Progress::Done {
                return Progress::More(0);
            }
        }
        while !out.is_full() {
            let broadcast = self.broadcast.as_mut().map(|(line, _)| line);
            let letter = self
                .leaving
                .pop_front()
                .or_else(|| due(self.lines.outgoing.as_mut(), now_ns))
                .or_else(|| due(broadcast, now_ns));
            let Some(letter) = letter else {
                return Progress::Done;
            };
            out.push(letter.tag, &letter.data);
        }
        Progress::More(0)
    }

    fn calls_out(&self) -> bool {
        self.inner.calls_out()
    }

    fn pending(&self) -> Pending {
        let inner = self.inner.pending();
        let lines = &self.lines;
        let held = lines.incoming.as_ref().map_or(0, Line::len)
            + lines.outgoing.as_ref().map_or(0, Line::len)
            + self.broadcast.as_ref().map_or(0, |(line, _)| line.len())
            + self.arrived.len()
            + self.leaving.len();
        Pending {
            held: inner.held + held,
            ..inner
        }
    }
}

fn due<T: Clone>(line: Option<&mut Line<T>>, now_ns: u64) -> Option<Letter<T>> {
    line?.due(now_ns)
}

fn copied(letter: Letter<Message>) -> Copied {
    // It may have been cut or changed on its way.
    let mut message = letter.tag;
    message.came.length = letter.data.len();
    message.admitted_bytes = Some(letter.data.len());
    Copied {
        data: letter.data,
        message,
    }
}

fn count_fate(tally: &mut Tally, fate: &Fate, peer: &RawAddress) {
    if fate.lost {
        tally.drop(DropReason::ImpairLost, 1, peer);
    }
    if fate.overflow {
        tally.drop(DropReason::ImpairOverflow, 1, peer);
    }
    let is_gone = fate.lost || fate.overflow;
    tally.add(Count::DuplicatedPackets, fate.duplicates.into());
    tally.add(Count::CorruptedPackets, fate.corrupted.into());
    tally.add(Count::DelayedPackets, u64::from(fate.delayed && !is_gone));
}
