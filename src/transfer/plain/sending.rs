//! A sender: one message to one peer. Nothing tells whether it arrives.

use std::fmt;

use super::outgoing::Outgoing;
use super::settings::SendSettings;
use crate::books::DropReason;
use crate::datagram::Transmit;
use crate::proto::{Batch, Outbox, Progress, Protocol};
use crate::transfer::failure::{Failure, Reason};
use crate::transfer::store::Source;

/// Sends a message in the tutorial's format.
pub struct PlainSending {
    outgoing: Outgoing,
    outcome: Option<Result<Sent, Failure>>,
}

/// A message that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Length in bytes.
    pub length: u64,
    /// Number of chunks.
    pub chunks: u32,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { length, chunks } = self;
        write!(
            f,
            "sent {length} bytes in {chunks} chunks; nothing tells whether they arrived"
        )
    }
}

impl PlainSending {
    /// Sends what a source has to a peer.
    ///
    /// # Errors
    ///
    /// Settings that cannot work; a source that is empty, or whose length is not known (`Refused`);
    /// more chunks than 4 bytes can count (`TooLarge`).
    pub fn new(
        settings: &SendSettings,
        to: Transmit,
        source: Box<dyn Source>,
    ) -> Result<Self, Failure> {
        if let Err(error) = settings.validate() {
            return Err(Failure::new(Reason::Refused, error.to_string()));
        }
        Ok(Self {
            outgoing: Outgoing::new(settings, to, source, 0)?,
            outcome: None,
        })
    }

    /// The result, or why it failed; `None`: not finished yet.
    pub fn outcome(&self) -> Option<&Result<Sent, Failure>> {
        self.outcome.as_ref()
    }

    /// Length of the message in bytes.
    pub fn length(&self) -> u64 {
        self.outgoing.length()
    }

    /// Number of bytes sent so far.
    pub fn sent_bytes(&self) -> u64 {
        self.outgoing.sent_bytes()
    }
}

impl Protocol for PlainSending {
    fn on_batch(&mut self, _now_ns: u64, batch: &Batch<'_>, out: &mut Outbox) -> Progress {
        // Nobody answers in this format.
        for datagram in batch.datagrams() {
            out.drop(
                DropReason::TransferUnknown,
                1,
                &datagram.message.came.source,
            );
        }
        Progress::Done
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.outcome.is_none().then(|| self.outgoing.due_ns())
    }

    fn on_time(&mut self, now_ns: u64, out: &mut Outbox) -> Progress {
        if self.outcome.is_some() {
            return Progress::Done;
        }
        match self.outgoing.send_due(now_ns, out) {
            Ok(Progress::Done) => {}
            Ok(more) => return more,
            Err(failure) => self.outcome = Some(Err(failure)),
        }
        if self.outgoing.is_done() {
            self.outcome = Some(Ok(Sent {
                length: self.outgoing.length(),
                chunks: self.outgoing.chunks(),
            }));
        }
        Progress::Done
    }
}
