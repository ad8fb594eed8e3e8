//! Messages in memory: sent from bytes that are there, received into an inbox.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::inbox::{Delivered, Inbox, overhead_bytes};
use super::{Digest, Name, Offer, Opened, Sink, Source, Storage};
use crate::transfer::budget::Share;
use crate::transfer::failure::{Failure, Reason};

/// Default for the maximum length of a message in memory, in bytes.
pub const DEFAULT_MAX_MESSAGE_BYTES: u64 = 16 << 20;

/// A message in memory, which is not copied.
pub struct BytesSource<T>(T);

impl<T: AsRef<[u8]> + Send> BytesSource<T> {
    /// Sends these bytes.
    pub fn new(bytes: T) -> Self {
        Self(bytes)
    }
}

impl<T: AsRef<[u8]> + Send> Source for BytesSource<T> {
    fn length(&self) -> Option<u64> {
        Some(self.0.as_ref().len() as u64)
    }

    fn read(&mut self, offset: u64, room: &mut [u8]) -> io::Result<usize> {
        Ok(copy_from(self.0.as_ref(), offset, room))
    }
}

fn copy_from(bytes: &[u8], offset: u64, room: &mut [u8]) -> usize {
    let rest = usize::try_from(offset)
        .ok()
        .and_then(|offset| bytes.get(offset..))
        .unwrap_or_default();
    let count = rest.len().min(room.len());
    room[..count].copy_from_slice(&rest[..count]);
    count
}

/// A message that comes into memory, as it comes: nobody gets any by announcing a length.
struct MemorySink {
    peer: SocketAddr,
    id: u64,
    name: Name,
    max_bytes: u64,
    data: Vec<u8>,
    delivered_bytes: u64,
    /// `None`: it has been handed over.
    share: Option<Share>,
    inbox: Arc<Inbox>,
}

impl Sink for MemorySink {
    fn length(&self) -> u64 {
        self.data.len() as u64 + self.delivered_bytes
    }

    fn room(&self) -> u64 {
        let left = self.share.as_ref().map_or(0, Share::left_bytes);
        self.max_bytes.saturating_sub(self.length()).min(left)
    }

    fn append(&mut self, data: &[u8]) -> io::Result<()> {
        let count = data.len() as u64;
        if count > self.max_bytes.saturating_sub(self.length()) {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("it is longer than {} bytes", self.max_bytes),
            ));
        }
        let share = self.share.as_mut().ok_or(io::ErrorKind::InvalidInput)?;
        if !share.grow(count) {
            return Err(full());
        }
        if self.data.try_reserve(data.len()).is_err() {
            share.shrink(count);
            return Err(full());
        }
        self.data.extend_from_slice(data);
        Ok(())
    }

    fn read_back(&mut self, offset: u64, room: &mut [u8]) -> io::Result<usize> {
        Ok(copy_from(&self.data, offset, room))
    }

    fn finish(&mut self, digest: &Digest) -> Result<(), Failure> {
        let Some(share) = self.share.take() else {
            return Ok(());
        };
        let mut data = std::mem::take(&mut self.data);
        // It may stay for long, and counts as what is in it.
        data.shrink_to_fit();
        let message = Delivered {
            peer: self.peer,
            id: self.id,
            name: std::mem::take(&mut self.name),
            length: data.len() as u64,
            digest: *digest,
            data: Some(data),
            missing: Vec::new(),
            failure: None,
        };
        self.delivered_bytes = message.length;
        if self.inbox.put(message, share) {
            return Ok(());
        }
        Err(Failure::new(
            Reason::Cancelled,
            "cannot deliver the message: the receiver has ended",
        ))
    }

    fn discard(&mut self) {
        self.data = Vec::new();
        self.share = None;
    }
}

fn full() -> io::Error {
    io::Error::new(
        io::ErrorKind::OutOfMemory,
        "the memory for all messages is full for now",
    )
}

/// Puts received messages into an inbox. Nothing can be fetched from it.
#[derive(Debug)]
pub struct MemoryStorage {
    inbox: Arc<Inbox>,
    max_message_bytes: u64,
}

impl MemoryStorage {
    /// Stores messages of at most `max_message_bytes` ([`DEFAULT_MAX_MESSAGE_BYTES`]) in this inbox.
    pub fn new(inbox: Arc<Inbox>, max_message_bytes: u64) -> Self {
        Self {
            inbox,
            max_message_bytes,
        }
    }
}

impl Storage for MemoryStorage {
    fn open_sink(&self, offer: &Offer) -> Result<Opened, Failure> {
        let budget = self.inbox.budget();
        let overhead = overhead_bytes(&offer.name);
        let max_bytes = budget.max_total_bytes().saturating_sub(overhead);
        let max_bytes = self.max_message_bytes.min(max_bytes);
        let length = offer.length.unwrap_or(0);
        if length > max_bytes {
            return Err(Failure::new(
                Reason::TooLarge,
                format!(
                    "cannot receive {length} bytes: a message may have {max_bytes}; have the \
                     receiver allow more, or put files into a directory"
                ),
            ));
        }
        let mut share = Share::new(budget);
        // Of the length only so much as comes is taken; where it has no room now, it waits.
        if !share.grow(overhead) || length > share.left_bytes() {
            return Err(Failure::new(
                Reason::TooMany,
                format!("cannot receive {length} bytes: {}", full()),
            ));
        }
        Ok(Opened::Sink(Box::new(MemorySink {
            peer: offer.peer,
            id: offer.id,
            name: offer.name.clone(),
            max_bytes: offer.length.unwrap_or(max_bytes),
            data: Vec::new(),
            delivered_bytes: 0,
            share: Some(share),
            inbox: self.inbox.clone(),
        })))
    }

    fn open_source(&self, _: &Name) -> Result<Box<dyn Source>, Failure> {
        Err(Failure::new(
            Reason::Refused,
            "cannot be pulled: the receiver has no directory to share",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::budget::Budget;
    use std::time::Duration;

    fn offer(length: Option<u64>) -> Offer {
        Offer {
            peer: SocketAddr::from(([127, 0, 0, 1], 9)),
            id: 1,
            name: Name::none(),
            length,
            identity: [0; 16],
            digest: None,
            replaces: false,
        }
    }

    fn storage(max_total_bytes: u64, max_message_bytes: u64) -> (MemoryStorage, Arc<Inbox>) {
        let inbox = Inbox::new(Budget::new(max_total_bytes));
        (MemoryStorage::new(inbox.clone(), max_message_bytes), inbox)
    }

    fn sink(storage: &MemoryStorage, length: Option<u64>) -> Result<Box<dyn Sink>, Failure> {
        match storage.open_sink(&offer(length))? {
            Opened::Sink(sink) => Ok(sink),
            Opened::Compare(_) => panic!("nothing to compare with"),
        }
    }

    #[test]
    fn bytes_are_read_where_they_are() {
        let bytes = b"0123456789";
        let mut source = BytesSource::new(bytes);
        assert_eq!(source.length(), Some(10));
        let mut room = [0; 4];
        assert_eq!(source.read(3, &mut room).unwrap(), 4);
        assert_eq!(&room, b"3456");
        assert_eq!(source.read(8, &mut room).unwrap(), 2);
        for beyond in [10, 11, u64::MAX] {
            assert_eq!(source.read(beyond, &mut room).unwrap(), 0);
        }
        assert_eq!(source.identity(), [0; 16]);
    }

    #[test]
    fn what_came_is_delivered_and_counts_until_it_is_taken() {
        let (storage, inbox) = storage(10_000, 1_000);
        let mut sink = sink(&storage, Some(6)).unwrap();
        assert_eq!(sink.room(), 6);
        sink.append(b"abc").unwrap();
        sink.append(b"def").unwrap();
        let mut room = [0; 9];
        assert_eq!(sink.read_back(2, &mut room).unwrap(), 4);
        assert_eq!(&room[..4], b"cdef");
        sink.finish(&[7; 32]).unwrap();
        drop(sink);
        let taken = 6 + overhead_bytes(&Name::none());
        assert_eq!(inbox.budget().left_bytes(), 10_000 - taken);
        let message = inbox.take(Some(Duration::ZERO)).unwrap();
        assert_eq!(message.data.as_deref(), Some(&b"abcdef"[..]));
        assert_eq!((message.length, message.digest), (6, [7; 32]));
        assert_eq!(inbox.budget().left_bytes(), 10_000);
    }

    #[test]
    fn announced_lengths_take_no_memory() {
        let (storage, inbox) = storage(100_000, 90_000);
        let sinks: Vec<_> = (0..100)
            .map(|_| sink(&storage, Some(60_000)).unwrap())
            .collect();
        let taken = 100 * overhead_bytes(&Name::none());
        assert_eq!(inbox.budget().left_bytes(), 100_000 - taken);
        drop(sinks);
        assert_eq!(inbox.budget().left_bytes(), 100_000);
    }

    #[test]
    fn bounds_hold_for_one_and_for_all() {
        let (storage, inbox) = storage(4_000, 3_000);
        let reason = |result: Result<Box<dyn Sink>, Failure>| result.err().unwrap().reason;
        assert_eq!(reason(sink(&storage, Some(3_001))), Reason::TooLarge);
        let mut first = sink(&storage, None).unwrap();
        first.append(&[1; 2_500]).unwrap();
        let too_long = first.append(&[1; 501]).unwrap_err();
        assert_eq!(Failure::io("receive", &too_long).reason, Reason::TooLarge);

        assert_eq!(reason(sink(&storage, Some(2_000))), Reason::TooMany);
        let mut second = sink(&storage, None).unwrap();
        assert!(second.room() < 1_500);
        let full = second.append(&[1; 1_500]).unwrap_err();
        assert_eq!(Failure::io("receive", &full).reason, Reason::TooMany);
        assert_eq!(second.length(), 0);
        first.discard();
        second.append(&[1; 1_500]).unwrap();
        drop((first, second));
        assert_eq!(inbox.budget().left_bytes(), 4_000);
    }

    #[test]
    fn a_receiver_that_has_ended_takes_nothing() {
        let (storage, inbox) = storage(4_000, 3_000);
        let mut sink = sink(&storage, None).unwrap();
        inbox.close();
        assert_eq!(sink.finish(&[0; 32]).unwrap_err().reason, Reason::Cancelled);
        assert_eq!(inbox.budget().left_bytes(), 4_000);
        let refused = storage.open_source(&Name::none()).err().unwrap();
        assert_eq!(refused.reason, Reason::Refused);
    }
}
