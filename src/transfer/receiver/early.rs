//! What came before what comes before it.

use std::collections::BTreeMap;

use super::Taken;
use std::sync::Arc;

use crate::transfer::budget::{Budget, Share};

/// What a piece costs beside its bytes.
const PIECE_BYTES: u64 = 64;

/// Pieces that do not overlap, within a budget.
pub(super) struct Early {
    pieces: BTreeMap<u64, Box<[u8]>>,
    share: Share,
}

impl Early {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self {
            pieces: BTreeMap::new(),
            share: Share::new(budget),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Where the first one begins.
    pub(super) fn start(&self) -> Option<u64> {
        self.pieces.first_key_value().map(|(start, _)| *start)
    }

    /// The end of the last one; 0 without any.
    pub(super) fn end(&self) -> u64 {
        let last = self.pieces.last_key_value();
        last.map_or(0, |(offset, data)| offset + data.len() as u64)
    }

    /// Keeps what of it is not there yet, if there is memory for that.
    pub(super) fn insert(&mut self, offset: u64, data: &[u8]) -> Taken {
        let end = offset + data.len() as u64;
        let (mut at, mut gaps) = (offset, Vec::new());
        let before = self.pieces.range(..offset).next_back();
        let mut differs = false;
        for (&start, piece) in before.into_iter().chain(self.pieces.range(offset..end)) {
            let until = start + piece.len() as u64;
            let (from, to) = (start.max(offset), until.min(end));
            if from < to {
                let there = &piece[(from - start) as usize..(to - start) as usize];
                differs |= there != &data[(from - offset) as usize..(to - offset) as usize];
                if from > at {
                    gaps.push(at..from);
                }
                at = at.max(to);
            }
        }
        if at < end {
            gaps.push(at..end);
        }
        if gaps.is_empty() {
            return match differs {
                true => Taken::Conflicting,
                false => Taken::Duplicate,
            };
        }
        let bytes: u64 = gaps
            .iter()
            .map(|gap| gap.end - gap.start + PIECE_BYTES)
            .sum();
        if !self.share.grow(bytes) {
            return Taken::Refused;
        }
        for gap in gaps {
            let piece = &data[(gap.start - offset) as usize..(gap.end - offset) as usize];
            self.pieces.insert(gap.start, piece.into());
        }
        Taken::New
    }

    /// The piece that goes on at `prefix`, without what lies before.
    pub(super) fn take(&mut self, prefix: u64) -> Option<Box<[u8]>> {
        loop {
            let entry = self.pieces.first_entry()?;
            if *entry.key() > prefix {
                return None;
            }
            let (start, data) = entry.remove_entry();
            let bytes = data.len() as u64 + PIECE_BYTES;
            self.share.shrink(bytes);
            let skipped = (prefix - start) as usize;
            if skipped < data.len() {
                return Some(match skipped {
                    0 => data,
                    _ => data[skipped..].into(),
                });
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.share.shrink(self.share.bytes());
        self.pieces.clear();
    }
}
