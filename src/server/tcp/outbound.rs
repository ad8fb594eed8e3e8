//! What goes out over one connection, from where it is said to where it is sent. No I/O.
//!
//! ```text
//! push → buffer → (shapers) → ready → sent
//!
//! state   what is still sent          next
//! Open    all that is said            Shut: a shaper ends the stream or the connection, be
//!                                     it by itself or because all has been said
//! Shut    nothing; it is discarded    -
//! ```

use super::buffer::Buffer;
use super::shaper_queue::ShaperQueue;
use crate::books::tcp::Tally;
use crate::impair::{Action, Direction, Shaper, Toxics};

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    Shut,
}

#[derive(Debug, Default)]
pub(super) struct Outbound {
    state: State,
    buffer: Buffer,
    shapers: Option<ShaperQueue>,
}

impl Outbound {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.push(bytes);
    }

    /// How many bytes wait for the shapers, or to be sent where there are none.
    pub(super) fn waiting(&self) -> usize {
        self.buffer.len()
    }

    /// The bytes that are to be sent now.
    pub(super) fn ready(&mut self, now_ns: u64, tally: &mut Tally) -> &[u8] {
        if self.state == State::Shut {
            tally.discarded(self.buffer.len());
            self.buffer.clear();
            return &[];
        }
        let Some(shapers) = &mut self.shapers else {
            return self.buffer.rest();
        };
        let count = |shapers: &ShaperQueue, buffer: &Buffer| shapers.room().min(buffer.len());
        let mut dropped = 0;
        while let 1.. = count(shapers, &self.buffer) {
            let count = count(shapers, &self.buffer);
            dropped += shapers.push(now_ns, &self.buffer.rest()[..count]);
            self.buffer.advance(count);
        }
        tally.discarded(dropped);
        shapers.ready(now_ns)
    }

    /// So many of them were sent.
    pub(super) fn sent(&mut self, count: usize) {
        match &mut self.shapers {
            Some(shapers) => shapers.consume(count),
            None => self.buffer.advance(count),
        }
    }

    /// What the shapers want done with the connection now that nothing is ready any more;
    /// `is_all`: nothing more will be said.
    pub(super) fn finish(
        &mut self,
        now_ns: u64,
        is_all: bool,
        tally: &mut Tally,
    ) -> Option<Action> {
        let shapers = self.shapers.as_mut()?;
        if is_all {
            shapers.end(now_ns);
        }
        let (action, held) = shapers.action(now_ns)?;
        tally.discarded(held);
        self.state = State::Shut;
        Some(action)
    }

    /// The shapers will say when the stream ends.
    pub(super) fn ends_by_itself(&self) -> bool {
        self.shapers.is_some() && self.state == State::Open
    }

    /// From now on, what is said is impaired so.
    pub(super) fn impair(&mut self, now_ns: u64, shaper: Shaper) {
        if let Some(shapers) = &mut self.shapers {
            shapers.change(shaper);
        } else if !shaper.is_noop() {
            // What waits to be sent was said before.
            let untouched = Shaper::new(&Toxics::default(), Direction::Out, 0);
            let mut shapers = ShaperQueue::new(untouched);
            let count = shapers.room().min(self.buffer.len());
            shapers.push(now_ns, &self.buffer.rest()[..count]);
            self.buffer.advance(count);
            shapers.change(shaper);
            self.shapers = Some(shapers);
        }
    }

    /// Lets go of shapers that do nothing any more; true if there are none.
    pub(super) fn simplify(&mut self) -> bool {
        self.shapers.take_if(|shapers| shapers.is_spent());
        self.shapers.is_none() && self.state == State::Open
    }

    pub(super) fn shapers(&self) -> Option<&ShaperQueue> {
        self.shapers.as_ref()
    }

    /// How many bytes are here.
    pub(super) fn held(&self) -> usize {
        self.buffer.len() + self.shapers.as_ref().map_or(0, ShaperQueue::held)
    }
}
