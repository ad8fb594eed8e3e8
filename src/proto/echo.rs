//! THE ECHO (RFC 862): each datagram's own bytes back to its sender, from where they lie.
//!
//! Rules, kept for every datagram: no copy, log call, formatting, lock, allocation or clock read;
//! no dynamic dispatch; no `cfg`. A train goes back as a train.

use super::{Batch, Outbox, Progress, Protocol};

/// Sends back what comes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Echo;

impl Protocol for Echo {
    fn on_batch(&mut self, _now_ns: u64, batch: &Batch<'_>, out: &mut Outbox) -> Progress {
        for train in batch.trains() {
            out.echo(&train);
        }
        Progress::Done
    }

    fn is_timed(&self) -> bool {
        false
    }

    fn only_echoes(&self) -> bool {
        true
    }
}
