//! Whether what is there already is what is offered.

use crate::datagram::Transmit;

use super::failure::{Failure, Reason};
use super::store::{Digest, Offer, Source};

const SLICE: usize = 1 << 20;

/// A comparison, in slices.
pub(crate) struct Comparing {
    pub(crate) offer: Offer,
    pub(crate) to: Transmit,
    source: Box<dyn Source>,
    hasher: blake3::Hasher,
    hashed: u64,
    room: Vec<u8>,
}

impl Comparing {
    pub(crate) fn new(offer: Offer, source: Box<dyn Source>, to: Transmit) -> Self {
        Self {
            offer,
            to,
            source,
            hasher: blake3::Hasher::new(),
            hashed: 0,
            room: vec![0; SLICE],
        }
    }

    /// One slice further; the result, once there is one.
    pub(crate) fn advance(&mut self) -> Option<Result<Digest, Failure>> {
        match self.source.read(self.hashed, &mut self.room) {
            Ok(0) => {
                let digest = *self.hasher.finalize().as_bytes();
                Some(match self.offer.digest == Some(digest) {
                    true => Ok(digest),
                    false => Err(exists(&self.offer)),
                })
            }
            Ok(read) => {
                self.hasher.update(&self.room[..read]);
                self.hashed += read as u64;
                None
            }
            Err(error) => Some(Err(Failure::io("read what is there", &error))),
        }
    }
}

fn exists(offer: &Offer) -> Failure {
    let text = format!("{} is there already, and is another", offer.name);
    Failure::new(Reason::Exists, text)
}
