//! Datagrams of the tutorial's format, and their bytes.

/// Bytes of a count, and of an index.
pub(super) const NUMBER_BYTES: usize = 4;

/// What a datagram says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    /// So many chunks follow.
    Count(u32),
    /// One of them: at least one byte.
    Chunk {
        /// From 0 on.
        index: u32,
        /// Its bytes.
        data: &'a [u8],
    },
}

/// What this datagram says; `None`: it is too short to say anything.
pub(super) fn decode(datagram: &[u8]) -> Option<Packet<'_>> {
    let (number, data) = datagram.split_first_chunk::<NUMBER_BYTES>()?;
    let number = u32::from_be_bytes(*number);
    Some(match data {
        [] => Packet::Count(number),
        data => Packet::Chunk {
            index: number,
            data,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_bytes_are_a_count_and_more_are_a_chunk() {
        assert_eq!(decode(&[0, 0, 0]), None);
        assert_eq!(decode(&[0, 0, 1, 2]), Some(Packet::Count(258)));
        let wanted = Packet::Chunk {
            index: 7,
            data: b"x",
        };
        assert_eq!(decode(b"\0\0\0\x07x"), Some(wanted));
    }
}
