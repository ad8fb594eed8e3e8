//! What the kernel would not take yet of one connection's output.

/// Bytes on their way out, in order. Holds memory only while there are any.
#[derive(Debug, Default)]
pub(super) struct Pending {
    data: Box<[u8]>,
    sent: usize,
}

impl Pending {
    /// Keeps `rest`. There must be nothing pending, since nothing is read while there is.
    pub(super) fn keep(&mut self, rest: &[u8]) {
        debug_assert!(self.is_empty());
        self.data = rest.into();
        self.sent = 0;
    }

    /// What is to be sent next.
    pub(super) fn rest(&self) -> &[u8] {
        &self.data[self.sent..]
    }

    pub(super) fn len(&self) -> usize {
        self.data.len() - self.sent
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The kernel took `count` more bytes; the memory goes with the last of them.
    pub(super) fn advance(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.data.len());
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_out_in_pieces_and_then_holds_nothing() {
        let mut pending = Pending::default();
        assert!(pending.is_empty());
        pending.keep(b"abcdef");
        pending.advance(2);
        assert_eq!((pending.rest(), pending.len()), (&b"cdef"[..], 4));
        pending.advance(0);
        pending.advance(4);
        assert!(pending.is_empty() && pending.data.is_empty());
        pending.keep(b"x");
        assert_eq!(pending.rest(), b"x");
    }
}
