//! What holds for any bytes that are read as a packet.

use super::packet::{PACKET_BYTES, Reply, Request, TWAMP_BYTES};
use super::tlv::{HEADER_BYTES, tlvs};

/// Reads them as each packet and as TLVs; panics where what is read is not what is written.
pub(crate) fn hold_for(bytes: &[u8]) {
    let request = Request::read(bytes);
    assert_eq!(request.is_some(), bytes.len() >= TWAMP_BYTES);
    if let Some(request) = request {
        assert_eq!(request.write()[..TWAMP_BYTES], bytes[..TWAMP_BYTES]);
        let _ = request.error.error_ns();
        let _ = request.error.format().read(request.sent, request.sent);
    }
    let reply = Reply::read(bytes);
    assert_eq!(reply.is_some(), bytes.len() >= PACKET_BYTES);
    if let Some(reply) = reply {
        assert_eq!(Reply::read(&reply.write()), Some(reply));
    }
    let mut at = 0;
    for tlv in tlvs(bytes) {
        assert_eq!(tlv.offset, at);
        at += HEADER_BYTES + tlv.value.len();
        assert!(!tlv.is_whole || at <= bytes.len());
    }
    assert!(at >= bytes.len());
}
