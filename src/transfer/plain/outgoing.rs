//! One message on its way out: its count, then its chunks, at its pace.

use super::pace::Pace;
use super::settings::SendSettings;
use super::wire::NUMBER_BYTES;
use crate::datagram::{Outbox, Transmit};
use crate::proto::Progress;
use crate::transfer::failure::{Failure, Reason};
use crate::transfer::store::Source;

/// The count goes so much earlier than the first chunk, which a receiver would take for a stranger's
/// before it.
const HEAD_START_NS: u64 = 1_000_000;

/// Between two looks at a source that has nothing yet.
const LOOK_NS: u64 = 10_000_000;

/// The message, and how much of it is sent.
pub(super) struct Outgoing {
    source: Box<dyn Source>,
    to: Transmit,
    length: u64,
    chunk_bytes: usize,
    chunks: u32,
    /// The next chunk; `None`: the count.
    next: Option<u32>,
    /// Nothing goes before.
    not_before_ns: u64,
    pace: Pace,
}

impl Outgoing {
    /// Of what a source has, to somebody, from this time on; the settings are valid.
    pub(super) fn new(
        settings: &SendSettings,
        to: Transmit,
        source: Box<dyn Source>,
        from_ns: u64,
    ) -> Result<Self, Failure> {
        let refused = |why: &str| Failure::new(Reason::Refused, format!("cannot send {why}"));
        let length = source.length().ok_or_else(|| {
            refused(
                "what has no known length in the tutorial's format, which begins with how many \
                 chunks it has; read it to its end first, or send it from a file",
            )
        })?;
        if length == 0 {
            let what = "an empty message in the tutorial's format: a count of 0 is none; send a \
                        byte at least";
            return Err(refused(what));
        }
        let chunk_bytes = settings.chunk_bytes;
        let chunks = length.div_ceil(chunk_bytes as u64);
        let chunks = u32::try_from(chunks).map_err(|_| {
            let text = format!(
                "cannot send {length} bytes in chunks of {chunk_bytes}: {chunks} are more than the \
                 4 bytes of their count can say; choose larger chunks"
            );
            Failure::new(Reason::TooLarge, text)
        })?;
        Ok(Self {
            source,
            to,
            length,
            chunk_bytes,
            chunks,
            next: None,
            not_before_ns: from_ns,
            pace: Pace::new(settings.bytes_per_second, NUMBER_BYTES + chunk_bytes),
        })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn chunks(&self) -> u32 {
        self.chunks
    }

    /// Bytes of the message that are sent.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.offset(self.next.unwrap_or_default()).min(self.length)
    }

    /// Whether all is sent.
    pub(super) fn is_done(&self) -> bool {
        self.next == Some(self.chunks)
    }

    /// From when on nothing of it is felt any more: as much may go at once as before it.
    pub(super) fn rested_ns(&self) -> u64 {
        self.pace.full_ns()
    }

    /// When there is something to be sent; of no meaning once all is.
    pub(super) fn due_ns(&self) -> u64 {
        let bytes = match self.next {
            None => NUMBER_BYTES,
            Some(next) => self.bytes_of(self.part(next)),
        };
        self.pace.ready_ns(bytes).max(self.not_before_ns)
    }

    /// Sends what is due. `More`: the outbox is to be sent first.
    pub(super) fn send_due(&mut self, now_ns: u64, out: &mut Outbox) -> Result<Progress, Failure> {
        while !self.is_done() && self.due_ns() <= now_ns {
            if out.is_full() {
                return Ok(Progress::More(0));
            }
            match self.next {
                None => {
                    out.send(self.to, &self.chunks.to_be_bytes());
                    self.pace.spend(now_ns, NUMBER_BYTES);
                    self.not_before_ns = now_ns.saturating_add(HEAD_START_NS);
                    self.next = Some(0);
                }
                Some(next) => self.send_chunks(next, now_ns, out)?,
            }
        }
        Ok(Progress::Done)
    }

    /// Sends the next chunks as one train.
    fn send_chunks(&mut self, first: u32, now_ns: u64, out: &mut Outbox) -> Result<(), Failure> {
        let (first, end) = self.part(first);
        let (source, chunk_bytes, length) = (&mut self.source, self.chunk_bytes, self.length);
        let (mut next, mut read) = (first, Ok(()));
        out.send_train(self.to, NUMBER_BYTES + chunk_bytes, |page| {
            while next < end {
                let (start, offset) = (page.len(), u64::from(next) * chunk_bytes as u64);
                page.extend(next.to_be_bytes());
                let wanted = (length - offset).min(chunk_bytes as u64) as usize;
                page.resize(start + NUMBER_BYTES + wanted, 0);
                read = match source.read(offset, &mut page[start + NUMBER_BYTES..]) {
                    Ok(count) if count >= wanted => Ok(()),
                    Ok(count) => Err(cut(offset + count as u64, length)),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Err(None),
                    Err(error) => Err(Some(Failure::io("read what is to be sent", &error))),
                };
                if read.is_err() {
                    // What was read before goes.
                    page.truncate(start);
                    break;
                }
                next += 1;
            }
        });
        self.pace.spend(now_ns, self.bytes_of((first, next)));
        self.next = Some(next);
        self.source.release(self.offset(next));
        match read {
            Ok(()) => Ok(()),
            Err(None) => {
                self.not_before_ns = now_ns.saturating_add(LOOK_NS);
                Ok(())
            }
            Err(Some(failure)) => Err(failure),
        }
    }

    /// Which chunks go together, from this one on.
    fn part(&self, first: u32) -> (u32, u32) {
        let datagram_bytes = NUMBER_BYTES + self.chunk_bytes;
        let count = (self.pace.quantum_bytes() / datagram_bytes).max(1) as u32;
        (first, first.saturating_add(count).min(self.chunks))
    }

    /// Bytes of these chunks with their indices.
    fn bytes_of(&self, (first, end): (u32, u32)) -> usize {
        let bytes = self.offset(end).min(self.length) - self.offset(first).min(self.length);
        bytes as usize + (end - first) as usize * NUMBER_BYTES
    }

    fn offset(&self, index: u32) -> u64 {
        u64::from(index) * self.chunk_bytes as u64
    }
}

/// The source has fewer bytes than it said.
fn cut(end: u64, length: u64) -> Option<Failure> {
    let text = format!(
        "cannot read what is to be sent: it ends at byte {end} of {length}, so it was cut \
         meanwhile; send it again"
    );
    Some(Failure::new(Reason::Io, text))
}
