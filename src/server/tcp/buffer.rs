//! Bytes of one connection that wait: for the rest of a request, for room to be sent.

/// Most that an ordinary receive takes, and so most that a connection which stalls keeps.
pub(super) const PLAIN_BYTES: usize = 64 << 10;

/// What is emptied keeps no more memory than this.
const KEPT_BYTES: usize = 1 << 10;

/// Bytes in order, added at one end and taken from the other.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    data: Vec<u8>,
    taken: usize,
}

impl Buffer {
    /// Adds bytes at the end.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        // What was taken makes room before the memory grows.
        if self.taken > 0 && self.data.len() + bytes.len() > self.data.capacity() {
            self.data.drain(..self.taken);
            self.taken = 0;
        }
        self.data.extend_from_slice(bytes);
    }

    /// What is there.
    pub(super) fn rest(&self) -> &[u8] {
        &self.data[self.taken..]
    }

    pub(super) fn len(&self) -> usize {
        self.data.len() - self.taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes `count` bytes away; memory goes with the last of them, but for a little.
    pub(super) fn advance(&mut self, count: usize) {
        self.taken = (self.taken + count).min(self.data.len());
        if self.is_empty() {
            self.clear();
        }
    }

    /// Takes all away, and keeps no memory.
    pub(super) fn release(&mut self) {
        *self = Self::default();
    }

    pub(super) fn clear(&mut self) {
        self.taken = 0;
        self.data.clear();
        self.data.shrink_to(KEPT_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the plain model: one vector.
        #[test]
        fn gives_back_what_was_put_in_in_order(
            steps in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), 0..50usize), 0..60)
        ) {
            let (mut buffer, mut model) = (Buffer::default(), Vec::new());
            for (bytes, count) in steps {
                buffer.push(&bytes);
                model.extend(bytes);
                prop_assert_eq!(buffer.rest(), &model);
                buffer.advance(count);
                model.drain(..count.min(model.len()));
                prop_assert_eq!((buffer.rest(), buffer.len()), (&model[..], model.len()));
            }
        }
    }

    #[test]
    fn goes_out_in_pieces() {
        let mut buffer = Buffer::default();
        assert!(buffer.is_empty());
        buffer.push(b"abcdef");
        buffer.advance(2);
        assert_eq!((buffer.rest(), buffer.len()), (&b"cdef"[..], 4));
        buffer.advance(0);
        buffer.advance(4);
        assert!(buffer.is_empty());
        buffer.push(b"x");
        assert_eq!(buffer.rest(), b"x");
    }

    #[test]
    fn an_empty_buffer_holds_little() {
        let mut buffer = Buffer::default();
        buffer.push(&[7; 100_000]);
        buffer.advance(99_999);
        assert_eq!(buffer.rest(), [7]);
        buffer.advance(1);
        assert!(buffer.data.capacity() <= KEPT_BYTES);
    }
}
