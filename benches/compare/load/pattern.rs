//! What messages are filled with: bytes that tell one place from another.

/// Pseudo-random bytes that repeat after a prime number of them, so that no usual length
/// divides the period and a piece that is lost, doubled or moved shows.
pub(crate) struct Pattern {
    bytes: Vec<u8>,
    period: usize,
}

impl Pattern {
    /// From any place, `most` bytes can be had in one piece.
    pub(crate) fn new(period: usize, most: usize) -> Self {
        // xorshift64 (Marsaglia 2003): any generator without short cycles does.
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let random: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .take(period)
        .collect();
        let bytes = random.iter().copied().cycle().take(period + most).collect();
        Self { bytes, period }
    }

    /// The `length` bytes from a place on.
    pub(crate) fn at(&self, place: u64, length: usize) -> &[u8] {
        let start = (place % self.period as u64) as usize;
        &self.bytes[start..start + length]
    }
}
