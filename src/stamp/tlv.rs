//! Type, length, value: what follows the first 44 bytes of a packet (RFC 8972 §4).

/// Flags, type and length.
pub const HEADER_BYTES: usize = 4;

/// The reflector does not know the type (U).
pub const UNRECOGNISED: u8 = 0x80;
/// The TLV is not well formed (M).
pub const MALFORMED: u8 = 0x40;
/// Its integrity could not be verified (I).
pub const INTEGRITY: u8 = 0x20;

/// RFC 8972 §4.1: zeros that make a packet longer.
pub const EXTRA_PADDING: u8 = 1;
/// RFC 8972 §4.3: how each side's times came about.
pub const TIMESTAMP_INFORMATION: u8 = 3;
/// RFC 8972 §4.4: DSCP and ECN, as sent and as seen.
pub const CLASS_OF_SERVICE: u8 = 4;
/// RFC 8972 §4.5: packets in each direction, as the two sides count them.
pub const DIRECT_MEASUREMENT: u8 = 5;
/// RFC 8972 §4.7: the number and time of the reply before.
pub const FOLLOW_UP_TELEMETRY: u8 = 7;
/// RFC 8972 §4.8: HMAC-SHA-256, cut to 16 bytes, over all TLVs before it.
pub const HMAC: u8 = 8;

/// One of a packet's TLVs, and where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// From the first TLV.
    pub offset: usize,
    /// [`UNRECOGNISED`], [`MALFORMED`], [`INTEGRITY`].
    pub flags: u8,
    /// What it is.
    pub kind: u8,
    /// What it says; shorter than its length says where the packet ends before.
    pub value: &'a [u8],
    /// Whether it is all there.
    pub is_whole: bool,
}

/// The TLVs of a packet, in order, from what follows its first 44 bytes. After one that is not
/// whole there is none: nobody knows where it would begin.
pub fn tlvs(data: &[u8]) -> impl Iterator<Item = Tlv<'_>> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let rest = data.get(offset..).filter(|rest| !rest.is_empty())?;
        let Some((header, after)) = rest.split_first_chunk::<HEADER_BYTES>() else {
            let tlv = Tlv {
                offset,
                flags: rest[0],
                kind: rest.get(1).copied().unwrap_or_default(),
                value: &[],
                is_whole: false,
            };
            offset = data.len();
            return Some(tlv);
        };
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let tlv = Tlv {
            offset,
            flags: header[0],
            kind: header[1],
            value: &after[..length.min(after.len())],
            is_whole: length <= after.len(),
        };
        offset = match tlv.is_whole {
            true => offset + HEADER_BYTES + length,
            false => data.len(),
        };
        Some(tlv)
    })
}

/// Appends a TLV, whose value is at most 65,535 bytes long.
pub fn write(kind: u8, value: &[u8], to: &mut Vec<u8>) {
    let length = value.len().min(usize::from(u16::MAX));
    to.extend_from_slice(&[0, kind]);
    to.extend_from_slice(&(length as u16).to_be_bytes());
    to.extend_from_slice(&value[..length]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tlvs_are_read_in_order() {
        let mut data = Vec::new();
        write(EXTRA_PADDING, &[0; 3], &mut data);
        write(CLASS_OF_SERVICE, &[1, 2, 3, 4], &mut data);
        let all: Vec<_> = tlvs(&data)
            .map(|t| (t.offset, t.kind, t.value.len(), t.is_whole))
            .collect();
        assert_eq!(all, [(0, 1, 3, true), (7, 4, 4, true)]);
    }

    #[test]
    fn what_is_cut_is_told_and_is_the_last() {
        for (data, value) in [
            (&b"\0\x01\0\x09ab"[..], &b"ab"[..]),
            (b"\0\x01\0", b""),
            (b"\x80", b""),
        ] {
            let all: Vec<_> = tlvs(data).collect();
            assert_eq!(all.len(), 1);
            assert_eq!((all[0].value, all[0].is_whole), (value, false));
        }
        assert_eq!(tlvs(b"").count(), 0);
        assert_eq!(tlvs(b"\0\x01\0\0\0\x02\0\x05x").count(), 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_cut_without_a_panic_or_a_gap(data in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut at = 0;
            for tlv in tlvs(&data) {
                prop_assert_eq!(tlv.offset, at);
                at += HEADER_BYTES + tlv.value.len();
                prop_assert!(!tlv.is_whole || at <= data.len());
            }
            prop_assert!(at >= data.len());
        }
    }
}
