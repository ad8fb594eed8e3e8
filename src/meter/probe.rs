//! What a probe carries that any echo server sends back: whose it is, and which.
//!
//! ```text
//! 0–7   sequence number, big-endian
//! 8–15  tag: a keyed hash of the sequence number
//! 16–   fill, which depends on the sequence number
//! ```
//!
//! The key is drawn for each run and never sent, so that a reply that somebody else made up, or
//! that belongs to another run from the same port, is told from ours.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

/// The shortest probe.
pub const HEADER_BYTES: usize = 16;

/// The longest probe that UDP over IPv4 carries.
const LONGEST: usize = 65_507;

/// The fill of a probe starts at one of this many places.
const STARTS: usize = 251;

/// What is read from a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// An echo of the probe with this number, byte for byte.
    Ours(u64),
    /// It has the mark of one of our probes, and other bytes: it was changed on its way.
    Corrupt(u64),
    /// None of this run's.
    Foreign,
}

/// Writes probes of one run, and reads their echoes.
#[derive(Debug)]
pub struct Probes {
    key: RandomState,
    fill: &'static [u8],
}

/// The same for all runs: it is the mark that tells them apart.
static FILL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bits = 0x2545_f491_4f6c_dd1d_u64;
    let fill = (0..LONGEST + STARTS).map(|_| {
        // xorshift64 (Marsaglia 2003): bytes that no compression on the way shortens.
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        bits as u8
    });
    fill.collect()
});

impl Default for Probes {
    fn default() -> Self {
        Self::new()
    }
}

impl Probes {
    /// Of a new run, with a key of its own.
    pub fn new() -> Self {
        Self {
            fill: &FILL,
            key: RandomState::new(),
        }
    }

    fn tag(&self, sequence: u64) -> u64 {
        self.key.hash_one(sequence)
    }

    fn fill(&self, sequence: u64, bytes: usize) -> &[u8] {
        let start = (sequence % STARTS as u64) as usize;
        &self.fill[start..][..bytes.min(LONGEST)]
    }

    /// Appends the probe with this number, `length_bytes` long, at least [`HEADER_BYTES`].
    pub fn write(&self, sequence: u64, length_bytes: usize, to: &mut Vec<u8>) {
        to.extend_from_slice(&sequence.to_be_bytes());
        to.extend_from_slice(&self.tag(sequence).to_be_bytes());
        to.extend_from_slice(self.fill(sequence, length_bytes.saturating_sub(HEADER_BYTES)));
    }

    /// What came back, of probes that were `length_bytes` long.
    pub fn read(&self, data: &[u8], length_bytes: usize) -> Read {
        let Some((sequence, rest)) = data.split_first_chunk() else {
            return Read::Foreign;
        };
        let Some((tag, fill)) = rest.split_first_chunk() else {
            return Read::Foreign;
        };
        let sequence = u64::from_be_bytes(*sequence);
        if u64::from_be_bytes(*tag) != self.tag(sequence) {
            return Read::Foreign;
        }
        let expected = length_bytes.max(HEADER_BYTES);
        if data.len() == expected && *fill == *self.fill(sequence, expected - HEADER_BYTES) {
            Read::Ours(sequence)
        } else {
            Read::Corrupt(sequence)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_ours_and_nothing_else_is() {
        let (probes, others) = (Probes::new(), Probes::new());
        for length in [16, 17, 64, 1400, LONGEST] {
            for sequence in [0, 1, 250, 251, u64::MAX] {
                let mut data = Vec::new();
                probes.write(sequence, length, &mut data);
                assert_eq!(data.len(), length);
                assert_eq!(probes.read(&data, length), Read::Ours(sequence));
                assert_eq!(others.read(&data, length), Read::Foreign);
                if length > 16 {
                    assert_eq!(
                        probes.read(&data[..length - 1], length),
                        Read::Corrupt(sequence)
                    );
                    data[length - 1] ^= 1;
                    assert_eq!(probes.read(&data, length), Read::Corrupt(sequence));
                }
                data[0] ^= 1;
                assert_eq!(probes.read(&data, length), Read::Foreign);
            }
        }
        assert_eq!(probes.read(b"short", 64), Read::Foreign);
        assert_eq!(probes.read(b"", 64), Read::Foreign);
    }
}
