//! The chunks of one message: which of them may come, and what came. No allocation by what a count
//! says.

use std::collections::BTreeMap;
use std::io;

use super::missing::Missing;
use crate::transfer::store::Source;

/// What is kept beside each chunk's bytes, at most: its place in the tree, its allocation.
pub(super) const CHUNK_COST_BYTES: usize = 80;

/// What became of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the first with its index.
    New,
    /// It is here already.
    Duplicate,
    /// Other bytes are here with its index, and stay.
    Conflicting,
    /// Its index is beyond the count, or its length disagrees with what is here.
    Malformed,
    /// With it the message would be longer than one may be.
    TooLarge,
}

/// Chunks by their indices.
#[derive(Debug)]
pub(super) struct Chunks {
    count: u32,
    /// Of all but the last, once one of those came.
    chunk_bytes: Option<usize>,
    by_index: BTreeMap<u32, Box<[u8]>>,
    bytes: u64,
}

impl Chunks {
    /// None yet of so many, at least one.
    pub(super) fn new(count: u32) -> Self {
        Self {
            count,
            chunk_bytes: None,
            by_index: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// How many there are to be.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Whether none came.
    pub(super) fn is_empty(&self) -> bool {
        self.by_index.is_empty()
    }

    /// Whether all came.
    pub(super) fn is_whole(&self) -> bool {
        self.by_index.len() as u64 == u64::from(self.count)
    }

    /// Bytes that came.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of each but the last; `None`: none of those came, or there are none.
    pub(super) fn chunk_bytes(&self) -> Option<usize> {
        self.chunk_bytes
    }

    /// Bytes of each chunk but the last, or of the only one, once it is whole.
    pub(super) fn whole_chunk_bytes(&self) -> usize {
        self.chunk_bytes.unwrap_or(self.bytes as usize)
    }

    /// The memory of what came, at most.
    pub(super) fn cost_bytes(&self) -> usize {
        self.bytes as usize + self.by_index.len() * CHUNK_COST_BYTES
    }

    /// Which did not come.
    pub(super) fn missing(&self) -> Missing {
        Missing::but_for(self.count, self.by_index.keys().copied())
    }

    /// What to do with a chunk, of a message of `max_bytes` at most.
    pub(super) fn judge(&self, index: u32, data: &[u8], max_bytes: u64) -> Verdict {
        if index >= self.count {
            return Verdict::Malformed;
        }
        if let Some(here) = self.by_index.get(&index) {
            return match **here == *data {
                true => Verdict::Duplicate,
                false => Verdict::Conflicting,
            };
        }
        let last = self.count - 1;
        let is_last = index == last;
        let agrees = match self.chunk_bytes {
            Some(size) if is_last => data.len() <= size,
            Some(size) => data.len() == size,
            // Where nothing is here, neither disagrees with anything.
            None if is_last => true,
            None => {
                let last = self.by_index.get(&last);
                last.is_none_or(|last| last.len() <= data.len())
            }
        };
        if !agrees {
            return Verdict::Malformed;
        }
        // The least that it can come to with this one.
        let (size, end) = match (is_last, self.chunk_bytes) {
            (true, size) => (size.unwrap_or(1), data.len()),
            (false, _) => (
                data.len(),
                self.by_index.get(&last).map_or(1, |end| end.len()),
            ),
        };
        let least = u128::from(last) * size as u128 + end as u128;
        if least > max_bytes.into() {
            return Verdict::TooLarge;
        }
        Verdict::New
    }

    /// Keeps a chunk that was judged as new.
    pub(super) fn insert(&mut self, index: u32, data: &[u8]) {
        if index + 1 < self.count {
            self.chunk_bytes = Some(data.len());
        }
        self.bytes += data.len() as u64;
        self.by_index.insert(index, data.into());
    }

    /// How long what came is, with the holes before it.
    pub(super) fn end(&self) -> u64 {
        let Some((index, data)) = self.by_index.last_key_value() else {
            return 0;
        };
        // Of the last chunk alone it cannot be said where it belongs.
        let before = self
            .chunk_bytes
            .map_or(0, |size| size as u64 * u64::from(*index));
        before + data.len() as u64
    }

    /// Gives what came to `write` in order, with zeros for the holes before and between.
    pub(super) fn write<E>(&self, mut write: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut at = 0;
        for (index, data) in &self.by_index {
            let size = self.chunk_bytes.unwrap_or_default() as u64;
            let start = size * u64::from(*index);
            while at < start {
                let zeros = ZEROS.len().min((start - at) as usize);
                write(&ZEROS[..zeros])?;
                at += zeros as u64;
            }
            write(data)?;
            at = start + data.len() as u64;
        }
        Ok(())
    }
}

/// For one that is whole, to be sent back; it gives its memory back when it is dropped.
impl Source for Chunks {
    fn length(&self) -> Option<u64> {
        Some(self.bytes)
    }

    fn read(&mut self, offset: u64, room: &mut [u8]) -> io::Result<usize> {
        // A single chunk starts at 0 whatever its size.
        let size = self.chunk_bytes.map_or(u64::MAX, |size| size as u64);
        let mut filled = 0;
        while filled < room.len() {
            let at = offset + filled as u64;
            let chunk = u32::try_from(at / size)
                .ok()
                .and_then(|index| self.by_index.get(&index));
            let rest = chunk.and_then(|chunk| chunk.get((at % size) as usize..));
            let Some(rest) = rest.filter(|rest| !rest.is_empty()) else {
                break;
            };
            let taken = rest.len().min(room.len() - filled);
            room[filled..filled + taken].copy_from_slice(&rest[..taken]);
            filled += taken;
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(count: u32, came: &[(u32, &[u8])]) -> Chunks {
        let mut chunks = Chunks::new(count);
        for (index, data) in came {
            assert_eq!(chunks.judge(*index, data, 100), Verdict::New);
            chunks.insert(*index, data);
        }
        chunks
    }

    fn written(chunks: &Chunks) -> Vec<u8> {
        let mut all = Vec::new();
        let write = |data: &[u8]| {
            all.extend_from_slice(data);
            Ok::<_, ()>(())
        };
        chunks.write(write).unwrap();
        assert_eq!(chunks.end(), all.len() as u64);
        all
    }

    #[test]
    fn f34_f36_which_chunks_may_come() {
        use Verdict::*;
        let empty = with(3, &[]);
        let middle = with(3, &[(1, b"bb")]);
        let last = with(3, &[(2, b"cc")]);
        for (chunks, index, data, wanted) in [
            (&empty, 3, &b"x"[..], Malformed),
            (&empty, u32::MAX, b"x", Malformed),
            (&empty, 2, &[0; 98], New),
            (&empty, 2, &[0; 99], TooLarge),
            (&empty, 0, &[0; 49], New),
            (&empty, 0, &[0; 50], TooLarge),
            (&middle, 1, b"bb", Duplicate),
            (&middle, 1, b"bx", Conflicting),
            (&middle, 1, b"b", Conflicting),
            (&middle, 0, b"aa", New),
            (&middle, 0, b"a", Malformed),
            (&middle, 0, b"aaa", Malformed),
            (&middle, 2, b"c", New),
            (&middle, 2, b"cc", New),
            (&middle, 2, b"ccc", Malformed),
            (&last, 0, b"a", Malformed),
            (&last, 0, b"aa", New),
            (&last, 0, &[0; 49], New),
            (&with(1, &[]), 0, &[0; 100], New),
            (&with(1, &[]), 0, &[0; 101], TooLarge),
        ] {
            assert_eq!(chunks.judge(index, data, 100), wanted, "{index}: {data:?}");
        }
    }

    #[test]
    fn what_came_is_in_order_with_zeros_between() {
        assert_eq!(
            written(&with(3, &[(2, b"c"), (0, b"aa"), (1, b"bb")])),
            b"aabbc"
        );
        assert_eq!(
            written(&with(9, &[(3, b"dd"), (1, b"bb")])),
            b"\0\0bb\0\0dd"
        );
        assert_eq!(written(&with(9, &[(8, b"last")])), b"last");
        assert_eq!(written(&with(9, &[])), b"");
    }

    #[test]
    fn what_is_whole_can_be_read_from_anywhere() {
        let mut chunks = with(3, &[(2, b"c"), (0, b"aa"), (1, b"bb")]);
        for offset in 0..7 {
            for length in 0..7 {
                let mut room = vec![0; length];
                let count = chunks.read(offset as u64, &mut room).unwrap();
                let wanted = &b"aabbc"[offset.min(5)..(offset + length).min(5).max(offset.min(5))];
                assert_eq!(&room[..count], wanted);
            }
        }
        let mut one = with(1, &[(0, b"only")]);
        let mut room = [0; 8];
        assert_eq!(
            (one.read(0, &mut room).unwrap(), &room[..4]),
            (4, &b"only"[..])
        );
    }
}
