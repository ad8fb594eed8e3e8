//! A simulated directory and its reader of messages: what survives a restart, and what does not.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::transfer::failure::{Failure, Reason};
use crate::transfer::serving::Kept;
use crate::transfer::store::memory::BytesSource;
use crate::transfer::store::{Digest, Identity, Name, Offer, Opened, Sink, Source, Storage};

/// So much of a file may be in a buffer, and is lost with its process.
const BUFFER_BYTES: usize = 8 * 1024;

/// The bytes of a message.
pub type Bytes = Arc<Vec<u8>>;

/// What was delivered.
#[derive(Debug, Clone)]
pub struct Finished {
    /// From whom, by which transfer, under which name.
    pub peer: SocketAddr,
    /// As above.
    pub id: u64,
    /// As above.
    pub name: Name,
    /// What.
    pub data: Bytes,
    /// As its sender said.
    pub digest: Digest,
}

type PartKey = (Name, Option<u64>, Identity);

#[derive(Default)]
struct Inner {
    files: BTreeMap<Name, Bytes>,
    parts: BTreeMap<PartKey, Vec<u8>>,
    writing: BTreeSet<Name>,
    finished: Vec<Finished>,
    opened: u64,
    /// Counts restarts: who was there before can do nothing more.
    age: u64,
}

/// A directory, and the list of all that was delivered. Clones are the same one.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<Inner>>);

impl Disk {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a file in it.
    pub fn put(&self, name: Name, data: Bytes) {
        self.inner().files.insert(name, data);
    }

    /// All that was delivered.
    pub fn finished(&self) -> Vec<Finished> {
        self.inner().finished.clone()
    }

    /// How often a message was to be taken.
    pub fn opened(&self) -> u64 {
        self.inner().opened
    }

    /// Who writes there is killed: what it had in buffers is gone.
    pub fn kill(&self) {
        let mut inner = self.inner();
        inner.age += 1;
        inner.writing.clear();
    }
}

/// Bytes with the identity of a file.
pub struct FileSource {
    bytes: BytesSource<Vec<u8>>,
    identity: Identity,
}

impl FileSource {
    /// Of these.
    pub fn new(bytes: Vec<u8>, identity: Identity) -> Self {
        Self {
            bytes: BytesSource::new(bytes),
            identity,
        }
    }
}

impl Source for FileSource {
    fn length(&self) -> Option<u64> {
        self.bytes.length()
    }

    fn read(&mut self, offset: u64, room: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(offset, room)
    }

    fn identity(&self) -> Identity {
        self.identity
    }
}

/// Bytes that come bit by bit, from who does not say how many: a pipe.
pub struct Trickle {
    bytes: Vec<u8>,
    /// What was not released begins here, and what has not come yet.
    first: u64,
    came: u64,
    asked: u32,
    has_ended: bool,
}

impl Trickle {
    /// Of these.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            first: 0,
            came: 0,
            asked: 0,
            has_ended: false,
        }
    }
}

impl Source for Trickle {
    fn length(&self) -> Option<u64> {
        self.has_ended.then_some(self.bytes.len() as u64)
    }

    fn first(&self) -> u64 {
        self.first
    }

    fn read(&mut self, offset: u64, room: &mut [u8]) -> io::Result<usize> {
        if offset < self.first {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if offset >= self.came {
            self.asked += 1;
            if self.asked.is_multiple_of(4) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.came = (offset + 5_000).min(self.bytes.len() as u64);
        }
        let rest = &self.bytes[(offset as usize).min(self.bytes.len())..self.came as usize];
        let count = rest.len().min(room.len());
        room[..count].copy_from_slice(&rest[..count]);
        self.has_ended |= count == 0;
        Ok(count)
    }

    fn release(&mut self, before: u64) {
        self.first = self.first.max(before);
    }
}

struct DiskSink {
    disk: Disk,
    offer: Offer,
    age: u64,
    data: Vec<u8>,
    saved: usize,
}

impl DiskSink {
    fn key(&self) -> PartKey {
        let offer = &self.offer;
        (offer.name.clone(), offer.length, offer.identity)
    }

    /// Of a file that may be gone on with, what is there survives.
    fn save(&mut self) {
        let can_resume = !self.offer.name.is_none() && self.offer.identity != [0; 16];
        let key = self.key();
        let mut inner = self.disk.inner();
        if can_resume && inner.age == self.age {
            let part = inner.parts.entry(key).or_default();
            part.extend_from_slice(&self.data[self.saved..]);
            self.saved = self.data.len();
        }
    }
}

impl Sink for DiskSink {
    fn length(&self) -> u64 {
        self.data.len() as u64
    }

    fn append(&mut self, data: &[u8]) -> io::Result<()> {
        self.data.extend_from_slice(data);
        if self.data.len() - self.saved >= BUFFER_BYTES {
            self.save();
        }
        Ok(())
    }

    fn read_back(&mut self, offset: u64, room: &mut [u8]) -> io::Result<usize> {
        let rest = self.data.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(room.len());
        room[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn finish(&mut self, digest: &Digest) -> Result<(), Failure> {
        let (key, data) = (self.key(), Arc::new(std::mem::take(&mut self.data)));
        self.saved = 0;
        let mut inner = self.disk.inner();
        let offer = &self.offer;
        if !offer.name.is_none() {
            if inner.files.contains_key(&offer.name) && !offer.replaces {
                return Err(Failure::new(Reason::Exists, "there by now"));
            }
            inner.parts.remove(&key);
            inner.files.insert(offer.name.clone(), Arc::clone(&data));
        }
        inner.finished.push(Finished {
            peer: offer.peer,
            id: offer.id,
            name: offer.name.clone(),
            data,
            digest: *digest,
        });
        Ok(())
    }

    fn discard(&mut self) {
        let key = self.key();
        self.disk.inner().parts.remove(&key);
        (self.data, self.saved) = (Vec::new(), 0);
    }
}

impl Drop for DiskSink {
    fn drop(&mut self) {
        if !self.data.is_empty() {
            self.save();
        }
        let mut inner = self.disk.inner();
        if inner.age == self.age {
            inner.writing.remove(&self.offer.name);
        }
    }
}

impl Storage for Disk {
    fn open_sink(&self, offer: &Offer) -> Result<Opened, Failure> {
        let mut inner = self.inner();
        inner.opened += 1;
        let (age, mut data) = (inner.age, Vec::new());
        if !offer.name.is_none() {
            if let Some(there) = inner.files.get(&offer.name) {
                let is_alike = offer.length == Some(there.len() as u64);
                match (is_alike, offer.digest) {
                    (true, Some(_)) => {
                        let source = BytesSource::new(there.to_vec());
                        return Ok(Opened::Compare(Box::new(source)));
                    }
                    (true, None) => return Err(Failure::new(Reason::ExistsAlike, "")),
                    _ if offer.replaces => {}
                    _ => return Err(Failure::new(Reason::Exists, "another is there")),
                }
            }
            if !inner.writing.insert(offer.name.clone()) {
                return Err(Failure::new(Reason::TooMany, "it is being written"));
            }
            let key = (offer.name.clone(), offer.length, offer.identity);
            data = inner.parts.get(&key).cloned().unwrap_or_default();
        }
        Ok(Opened::Sink(Box::new(DiskSink {
            disk: self.clone(),
            offer: offer.clone(),
            age,
            saved: data.len(),
            data,
        })))
    }

    fn open_source(&self, name: &Name) -> Result<Box<dyn Source>, Failure> {
        let inner = self.inner();
        let data = inner.files.get(name);
        let data = data.ok_or_else(|| Failure::new(Reason::NotFound, "nothing has that name"))?;
        Ok(Box::new(FileSource::new(data.to_vec(), [1; 16])))
    }
}

impl Kept for Disk {
    fn take(&self, key: &(SocketAddr, u64)) -> Option<Box<dyn Source>> {
        let inner = self.inner();
        let mut kept = inner.finished.iter();
        let it = kept.find(|it| (it.peer, it.id) == *key)?;
        Some(Box::new(BytesSource::new(it.data.to_vec())))
    }

    fn expire(&self, _: u64) {}
}
