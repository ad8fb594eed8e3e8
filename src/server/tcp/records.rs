//! A stream cut into records of one length, however it came in pieces.

/// The cutter of one connection. Holds less than one record between pieces.
#[derive(Debug)]
pub(super) struct Assembler {
    length: usize,
    partial: Vec<u8>,
}

impl Assembler {
    /// Records of `length` bytes, which is at least 1.
    pub(super) fn new(length: usize) -> Self {
        Self {
            length: length.max(1),
            partial: Vec::new(),
        }
    }

    /// Takes the next piece of the stream; calls `record` with each record it completes.
    pub(super) fn push(&mut self, mut piece: &[u8], mut record: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            let missing = self.length - self.partial.len();
            let (head, rest) = piece.split_at(missing.min(piece.len()));
            self.partial.extend_from_slice(head);
            piece = rest;
            if self.partial.len() < self.length {
                return;
            }
            record(&self.partial);
            self.partial.clear();
        }
        // Whole records are told from where they lie.
        let whole = piece.chunks_exact(self.length);
        let rest = whole.remainder();
        whole.for_each(&mut record);
        self.partial.extend_from_slice(rest);
    }

    /// What no record was made of so far.
    pub(super) fn rest(&self) -> &[u8] {
        &self.partial
    }
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
            let mut assembler = Assembler::new(length);
            let mut records: Vec<Vec<u8>> = Vec::new();
            let mut left = &stream[..];
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (piece, rest) = left.split_at(cut.min(left.len()));
                assembler.push(piece, |record| records.push(record.to_vec()));
                prop_assert!(assembler.rest().len() < length);
                left = rest;
            }
            let wanted: Vec<&[u8]> = stream.chunks_exact(length).collect();
            prop_assert_eq!(records, wanted);
            prop_assert_eq!(assembler.rest(), stream.chunks_exact(length).remainder());
        }
    }
}
