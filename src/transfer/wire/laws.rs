//! What holds for any bytes as a packet.

use super::*;

/// Gives bytes the magic and the checksum of a packet; none, where they are too few.
pub(crate) fn sealed(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut packet = bytes.to_vec();
    packet.get_mut(..2)?.copy_from_slice(&MAGIC);
    (packet.len() >= HEADER_BYTES).then(|| seal(&mut packet))?;
    Some(packet)
}

/// Decodes them as they are, and with a checksum that is right; panics unless what they say can be
/// said again, and with one bit flipped is not said.
pub(crate) fn hold_for(bytes: &[u8]) {
    let _ = decode(bytes);
    let Some(packet) = sealed(bytes) else {
        return;
    };
    let decoded = decode(&packet);
    assert_ne!(decoded, Err(Malformed::Checksum));
    let Ok((id, body)) = decoded else {
        return;
    };
    assert_eq!(id, id_of(&packet));
    let mut again = Vec::new();
    encode(&mut again, id, &body);
    assert!(again.len() <= packet.len().max(MIN_REQUEST_BYTES));
    assert_eq!(decode(&again), Ok((id, body)));
    // CRC-32C tells any flip of one to three bits in so few bytes.
    let bit = usize::from(bytes[bytes.len() - 1]) * 7 % (8 * packet.len());
    let mut spoilt = packet;
    spoilt[bit / 8] ^= 1 << (bit % 8);
    assert!(decode(&spoilt).is_err());
}
