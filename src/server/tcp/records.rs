//! A stream cut into records of one length, however it came in pieces.

use crate::respond::{Cutter, Framing};

/// What a [`Cutter`] cuts off one connection's stream, where nobody keeps that. Holds less than one
/// record between pieces.
#[derive(Debug)]
pub(super) struct Assembler {
    cutter: Cutter,
    partial: Vec<u8>,
}

impl Assembler {
    /// Records of `length` bytes, which is at least 1.
    pub(super) fn new(length: usize) -> Self {
        Self {
            cutter: Cutter::new(Framing::Records(length.max(1)), 0),
            partial: Vec::new(),
        }
    }

    /// Takes the next piece of the stream; calls `record` with each record it completes.
    pub(super) fn push(&mut self, mut piece: &[u8], mut record: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            let length = self.cutter.longest();
            let missing = length - self.partial.len();
            let (head, rest) = piece.split_at(missing.min(piece.len()));
            self.partial.extend_from_slice(head);
            piece = rest;
            if self.partial.len() < length {
                return;
            }
            record(&self.partial);
            self.partial.clear();
        }
        // Whole records are told from where they lie.
        while let Ok(Some(cut)) = self.cutter.next(piece) {
            record(&piece[..cut.length]);
            piece = &piece[cut.taken..];
        }
        self.partial.extend_from_slice(piece);
    }

    /// What no record was made of so far.
    pub(super) fn rest(&self) -> &[u8] {
        &self.partial
    }
}

/// Cuts a stream in pieces of these lengths and one of what is left; panics unless the
/// records are those of the whole stream, and less than one is held between pieces.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn laws_hold_for(length: usize, cuts: impl IntoIterator<Item = usize>, stream: &[u8]) {
    let mut assembler = Assembler::new(length);
    let length = length.max(1);
    let mut wanted = stream.chunks_exact(length);
    let mut left = stream;
    for cut in cuts.into_iter().chain([usize::MAX]) {
        let (piece, rest) = left.split_at(cut.min(left.len()));
        assembler.push(piece, |record| assert_eq!(Some(record), wanted.next()));
        assert!(assembler.rest().len() < length);
        left = rest;
    }
    assert_eq!(wanted.next(), None);
    assert_eq!(assembler.rest(), wanted.remainder());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_do_not_depend_on_how_the_stream_came(
            stream in prop::collection::vec(any::<u8>(), 0..300),
            cuts in prop::collection::vec(0..40usize, 0..50),
            length in 1..50usize,
        ) {
            laws_hold_for(length, cuts, &stream);
        }
    }
}
