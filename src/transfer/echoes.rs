//! Messages that are kept to go back to who sent them.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::budget::{Budget, Share};
use super::failure::{Failure, Reason};
use super::serving::Kept;
use super::store::memory::BytesSource;
use super::store::{Digest, Name, Offer, Opened, Sink, Source, Storage};

type Key = (SocketAddr, u64);

/// A message, and since when it is known to be kept.
struct Message {
    data: Arc<[u8]>,
    /// Given back with the message.
    _share: Share,
    seen_ns: Option<u64>,
}

/// Messages by sender, until they are fetched back or their time is over.
pub struct Echoes {
    budget: Arc<Budget>,
    max_message_bytes: u64,
    kept_ns: u64,
    messages: Arc<Mutex<HashMap<Key, Message>>>,
}

impl Echoes {
    /// Keeps messages of at most `max_message_bytes`, each for at most `kept_ns`.
    pub fn new(budget: Arc<Budget>, max_message_bytes: u64, kept_ns: u64) -> Self {
        Self {
            budget,
            max_message_bytes,
            kept_ns,
            messages: Arc::default(),
        }
    }
}

fn lock(messages: &Mutex<HashMap<Key, Message>>) -> MutexGuard<'_, HashMap<Key, Message>> {
    messages.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Storage for Echoes {
    fn open_sink(&self, offer: &Offer) -> Result<Opened, Failure> {
        if offer
            .length
            .is_some_and(|length| length > self.max_message_bytes)
        {
            let text = format!("it is longer than {} bytes", self.max_message_bytes);
            return Err(Failure::new(Reason::TooLarge, text));
        }
        Ok(Opened::Sink(Box::new(Keeping {
            key: (offer.peer, offer.id),
            data: Vec::new(),
            share: Share::new(&self.budget),
            max_bytes: self.max_message_bytes,
            messages: Arc::clone(&self.messages),
            kept_bytes: 0,
        })))
    }

    fn open_source(&self, _: &Name) -> Result<Box<dyn Source>, Failure> {
        let text = "nothing is kept by name here: it sends messages back";
        Err(Failure::new(Reason::NotFound, text))
    }
}

impl Kept for Echoes {
    fn take(&self, key: &Key) -> Option<Box<dyn Source>> {
        // It stays until it is forgotten: what goes back may have to go twice.
        let messages = lock(&self.messages);
        let data = Arc::clone(&messages.get(key)?.data);
        Some(Box::new(BytesSource::new(data)))
    }

    fn expire(&self, now_ns: u64) {
        lock(&self.messages).retain(|_, message| {
            let seen_ns = *message.seen_ns.get_or_insert(now_ns);
            seen_ns + self.kept_ns > now_ns
        });
    }
}

/// A message that comes in.
struct Keeping {
    key: Key,
    data: Vec<u8>,
    share: Share,
    max_bytes: u64,
    messages: Arc<Mutex<HashMap<Key, Message>>>,
    /// How long it was, once it has been handed over.
    kept_bytes: u64,
}

impl Sink for Keeping {
    fn length(&self) -> u64 {
        self.data.len() as u64 + self.kept_bytes
    }

    fn room(&self) -> u64 {
        let left = self.max_bytes.saturating_sub(self.length());
        left.min(self.share.left_bytes())
    }

    fn append(&mut self, data: &[u8]) -> io::Result<()> {
        let bytes = data.len() as u64;
        if bytes > self.max_bytes.saturating_sub(self.length()) {
            let text = format!("it is longer than {} bytes", self.max_bytes);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        if !self.share.grow(bytes) {
            let text = "the memory for all messages is full for now";
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, text));
        }
        self.data.extend_from_slice(data);
        Ok(())
    }

    fn read_back(&mut self, offset: u64, room: &mut [u8]) -> io::Result<usize> {
        BytesSource::new(&self.data).read(offset, room)
    }

    fn finish(&mut self, _: &Digest) -> Result<(), Failure> {
        let data = std::mem::take(&mut self.data);
        self.kept_bytes = data.len() as u64;
        let mut share = Share::new(self.share.budget());
        std::mem::swap(&mut share, &mut self.share);
        let message = Message {
            data: data.into(),
            _share: share,
            seen_ns: None,
        };
        lock(&self.messages).insert(self.key, message);
        Ok(())
    }

    fn discard(&mut self) {
        self.data = Vec::new();
        self.share.shrink(self.share.bytes());
    }
}

/// Stores messages with a name in one storage, and those without in another.
pub struct ByName {
    /// Storage for messages with a name.
    pub named: Arc<dyn Storage>,
    /// Storage for messages without a name.
    pub unnamed: Arc<dyn Storage>,
}

impl Storage for ByName {
    fn open_sink(&self, offer: &Offer) -> Result<Opened, Failure> {
        match offer.name.is_none() {
            true => self.unnamed.open_sink(offer),
            false => self.named.open_sink(offer),
        }
    }

    fn open_source(&self, name: &Name) -> Result<Box<dyn Source>, Failure> {
        self.named.open_source(name)
    }
}
