//! Where messages are put: names for them, and the writes.

use std::net::SocketAddr;
use std::sync::Arc;

use super::chunks::Chunks;
use super::event::Kept;
use crate::transfer::failure::{Failure, Reason};
use crate::transfer::store::{Digest, Identity, Name, Offer, Opened, Sink, Storage};

/// Names that are tried for one message where something has them, say from before a restart.
const MOST_NAMES: usize = 1000;

/// Zeros of a part, for each byte that came.
const MOST_ZEROS: u64 = 64;

/// A storage, and the next name.
pub(super) struct Shelf {
    storage: Arc<dyn Storage>,
    gives_names: bool,
    next_name: u64,
}

impl Shelf {
    pub(super) fn new(storage: Arc<dyn Storage>, gives_names: bool) -> Self {
        Self {
            storage,
            gives_names,
            next_name: 1,
        }
    }

    /// Keeps a whole message.
    pub(super) fn keep(
        &mut self,
        peer: SocketAddr,
        number: u64,
        chunks: &Chunks,
    ) -> Result<(Name, Digest), Failure> {
        self.put(peer, number, chunks, "")
    }

    /// Keeps what came of one.
    pub(super) fn keep_part(
        &mut self,
        peer: SocketAddr,
        number: u64,
        chunks: &Chunks,
    ) -> Result<Kept, Failure> {
        let (came, length) = (chunks.bytes(), chunks.end());
        if length - came > came.saturating_mul(MOST_ZEROS) {
            let text = format!(
                "cannot keep a part of a message from {peer}: its {came} bytes lie apart over \
                 {length}, and no more than {MOST_ZEROS} times what came is filled with zeros; \
                 send it again"
            );
            return Err(Failure::new(Reason::TooLarge, text));
        }
        let (name, _) = self.put(peer, number, chunks, ".partial")?;
        Ok(Kept {
            name,
            length,
            chunk_bytes: chunks.chunk_bytes(),
        })
    }

    fn put(
        &mut self,
        peer: SocketAddr,
        number: u64,
        chunks: &Chunks,
        suffix: &str,
    ) -> Result<(Name, Digest), Failure> {
        let mut tries = 0;
        loop {
            let name = self.name(peer, suffix)?;
            let offer = Offer {
                peer,
                id: number,
                name,
                length: Some(chunks.end()),
                identity: Identity::default(),
                digest: None,
                replaces: false,
            };
            tries += 1;
            match self.try_put(&offer, chunks) {
                Ok(digest) => return Ok((offer.name, digest)),
                Err(failure) if is_taken(&failure) && self.gives_names && tries < MOST_NAMES => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    fn try_put(&self, offer: &Offer, chunks: &Chunks) -> Result<Digest, Failure> {
        let taken = || Failure::new(Reason::Exists, format!("{} is there already", offer.name));
        let Opened::Sink(mut sink) = self.storage.open_sink(offer)? else {
            return Err(taken());
        };
        if sink.length() > 0 {
            // A part of something else.
            return Err(taken());
        }
        write(sink.as_mut(), chunks)
    }

    /// The next name for a message of this sender.
    fn name(&mut self, peer: SocketAddr, suffix: &str) -> Result<Name, Failure> {
        if !self.gives_names {
            return Ok(Name::none());
        }
        // A colon is a host's end to half of the tools that take names of files.
        let ip = peer.ip().to_string().replace(':', "_");
        let name = format!("{ip}-{}-{}{suffix}", peer.port(), self.next_name);
        self.next_name += 1;
        let bad = || Failure::new(Reason::BadName, format!("{name:?} is no name"));
        Name::new(vec![name.clone()]).ok_or_else(bad)
    }
}

fn is_taken(failure: &Failure) -> bool {
    matches!(
        failure.reason,
        Reason::Exists | Reason::ExistsAlike | Reason::TooMany
    )
}

fn write(sink: &mut dyn Sink, chunks: &Chunks) -> Result<Digest, Failure> {
    let mut hasher = blake3::Hasher::new();
    let written = chunks.write(|data| {
        hasher.update(data);
        sink.append(data)
    });
    if let Err(error) = written {
        sink.discard();
        return Err(Failure::io("write a message", &error));
    }
    let digest = *hasher.finalize().as_bytes();
    sink.finish(&digest)?;
    Ok(digest)
}
