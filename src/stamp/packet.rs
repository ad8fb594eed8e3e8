//! The two packets of unauthenticated STAMP (RFC 8762 §4.2.1, §4.3.1, with RFC 8972's SSID).

use super::time::ErrorEstimate;

/// The length of both packets, before any TLV (RFC 8762 §4.2.1).
pub const PACKET_BYTES: usize = 44;

/// The length of a probe of TWAMP Light (RFC 5357 appendix I, §4.1.2), without padding.
pub const TWAMP_BYTES: usize = 14;

/// Where a request's session id lies; TWAMP Light has padding there.
const SSID: usize = 14;

/// What a sender asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The sender's number.
    pub sequence: u32,
    /// T1, as it is written.
    pub sent: u64,
    /// How sure T1 is, and how it is written.
    pub error: ErrorEstimate,
    /// Which of a sender's sessions (RFC 8972 §3); 0: it has one.
    pub ssid: u16,
}

/// What a reflector answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// The reflector's number: of its own counter where it is stateful, else the sender's.
    pub sequence: u32,
    /// T3, as it is written.
    pub sent: u64,
    /// How sure T2 and T3 are, and how they are written.
    pub error: ErrorEstimate,
    /// The request's.
    pub ssid: u16,
    /// T2, as it is written.
    pub received: u64,
    /// The request, as it came.
    pub request: Request,
    /// The hop limit with which the request came.
    pub ttl: u8,
}

impl Request {
    /// The first bytes of a packet.
    pub fn write(&self) -> [u8; PACKET_BYTES] {
        let mut packet = [0; PACKET_BYTES];
        packet[..4].copy_from_slice(&self.sequence.to_be_bytes());
        packet[4..12].copy_from_slice(&self.sent.to_be_bytes());
        packet[12..14].copy_from_slice(&self.error.0.to_be_bytes());
        packet[SSID..16].copy_from_slice(&self.ssid.to_be_bytes());
        packet
    }

    /// From a packet of at least [`TWAMP_BYTES`]; the SSID of one shorter than [`PACKET_BYTES`],
    /// which is TWAMP Light's, is 0.
    pub fn read(packet: &[u8]) -> Option<Self> {
        let (head, rest) = packet.split_first_chunk::<TWAMP_BYTES>()?;
        let ssid = match rest.first_chunk() {
            Some(ssid) if packet.len() >= PACKET_BYTES => u16::from_be_bytes(*ssid),
            _ => 0,
        };
        Some(Self {
            sequence: u32::from_be_bytes(part(head, 0)),
            sent: u64::from_be_bytes(part(head, 4)),
            error: ErrorEstimate(u16::from_be_bytes(part(head, 12))),
            ssid,
        })
    }
}

impl Reply {
    /// The first bytes of a packet.
    pub fn write(&self) -> [u8; PACKET_BYTES] {
        let own = Request {
            sequence: self.sequence,
            sent: self.sent,
            error: self.error,
            ssid: self.ssid,
        };
        let mut packet = own.write();
        packet[16..24].copy_from_slice(&self.received.to_be_bytes());
        packet[24..28].copy_from_slice(&self.request.sequence.to_be_bytes());
        packet[28..36].copy_from_slice(&self.request.sent.to_be_bytes());
        packet[36..38].copy_from_slice(&self.request.error.0.to_be_bytes());
        packet[40] = self.ttl;
        packet
    }

    /// From a packet of at least [`PACKET_BYTES`]: a shorter one says less than a reply has to.
    pub fn read(packet: &[u8]) -> Option<Self> {
        let head = packet.first_chunk::<PACKET_BYTES>()?;
        let own = Request::read(head)?;
        Some(Self {
            sequence: own.sequence,
            sent: own.sent,
            error: own.error,
            ssid: own.ssid,
            received: u64::from_be_bytes(part(head, 16)),
            request: Request {
                sequence: u32::from_be_bytes(part(head, 24)),
                sent: u64::from_be_bytes(part(head, 28)),
                error: ErrorEstimate(u16::from_be_bytes(part(head, 36))),
                ssid: own.ssid,
            },
            ttl: head[40],
        })
    }
}

/// `N` bytes from an offset at which they are.
fn part<const N: usize>(packet: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&packet[at..at + N]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REQUEST: Request = Request {
        sequence: 0x0102_0304,
        sent: 0x1112_1314_1516_1718,
        error: ErrorEstimate(0x2122),
        ssid: 0x3132,
    };

    #[test]
    fn a_request_lies_as_rfc_8762_draws_it() {
        let packet = REQUEST.write();
        assert_eq!(
            packet[..16],
            *b"\x01\x02\x03\x04\x11\x12\x13\x14\x15\x16\x17\x18\x21\x22\x31\x32"
        );
        assert_eq!(packet[16..], [0; 28]);
        assert_eq!(Request::read(&packet), Some(REQUEST));
    }

    #[test]
    fn twamp_light_has_no_session_id() {
        let packet = REQUEST.write();
        let light = Request { ssid: 0, ..REQUEST };
        assert_eq!(Request::read(&packet[..43]), Some(light));
        assert_eq!(Request::read(&packet[..14]), Some(light));
        assert_eq!(Request::read(&packet[..13]), None);
    }

    #[test]
    fn a_reply_lies_as_rfc_8762_draws_it() {
        let reply = Reply {
            sequence: 9,
            sent: 10,
            error: ErrorEstimate(11),
            ssid: 0x3132,
            received: 12,
            request: REQUEST,
            ttl: 63,
        };
        let packet = reply.write();
        assert_eq!(packet[16..28], *b"\0\0\0\0\0\0\0\x0c\x01\x02\x03\x04");
        assert_eq!(
            packet[28..44],
            *b"\x11\x12\x13\x14\x15\x16\x17\x18\x21\x22\0\0\x3f\0\0\0"
        );
        assert_eq!(Reply::read(&packet), Some(reply));
        assert_eq!(Reply::read(&packet[..43]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(data in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(Request::read(&data).is_some(), data.len() >= 14);
            prop_assert_eq!(Reply::read(&data).is_some(), data.len() >= 44);
        }
    }
}
