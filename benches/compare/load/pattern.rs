//! What messages are filled with: bytes that tell one place from another.

/// Pseudo-random bytes that repeat after a prime number of them, so that no usual length
/// divides the period and a piece that is lost, doubled or moved shows.
pub(crate) struct Pattern {
    sent: Vec<u8>,
    /// What comes back for them.
    answers: Vec<u8>,
    period: usize,
}

impl Pattern {
    /// From any place, `most` bytes can be had in one piece. With `upper` they are letters
    /// that come back in upper case, none of them as it was sent; otherwise any bytes, which
    /// come back as they are.
    pub(crate) fn new(period: usize, most: usize, upper: bool) -> Self {
        // xorshift64 (Marsaglia 2003): any generator without short cycles does.
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let random: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let byte = (state >> 32) as u8;
            if upper { b'a' + byte % 26 } else { byte }
        })
        .take(period)
        .collect();
        let sent: Vec<u8> = random.iter().copied().cycle().take(period + most).collect();
        let answers = if upper {
            sent.to_ascii_uppercase()
        } else {
            sent.clone()
        };
        Self {
            sent,
            answers,
            period,
        }
    }

    /// The `length` bytes from a place on.
    pub(crate) fn at(&self, place: u64, length: usize) -> &[u8] {
        &self.sent[self.start(place)..][..length]
    }

    /// What comes back for them.
    pub(crate) fn answer_at(&self, place: u64, length: usize) -> &[u8] {
        &self.answers[self.start(place)..][..length]
    }

    fn start(&self, place: u64) -> usize {
        (place % self.period as u64) as usize
    }
}
