//! What is read off a device: a `virtio_net_hdr`, then an IPv4 packet or a train of them.

use std::ops::Range;

/// Of `struct virtio_net_hdr` (<linux/virtio_net.h>).
pub(crate) const HEADER: usize = 10;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_UDP_L4: u8 = 5;
/// A bit beside those.
const GSO_ECN: u8 = 0x80;

const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const UDP_HEADER: usize = 8;
const TCP_FIN_OR_PSH: u8 = 0x01 | 0x08;
const TCP_CWR: u8 = 0x80;

/// Where the parts of a train are.
pub(crate) struct Train {
    protocol: u8,
    /// The length of the IP header.
    ip: usize,
    /// Where the payload starts, behind the virtio and all other headers.
    payload: usize,
    segment: usize,
    count: usize,
}

impl Train {
    /// None: the bytes are a single packet, or none that can be taken apart.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let packet = bytes.get(HEADER..)?;
        let segment = usize::from(u16::from_ne_bytes([bytes[4], bytes[5]]));
        let ip = usize::from(*packet.first()? & 0x0f) * 4;
        if packet[0] >> 4 != 4 || ip < 20 || segment == 0 {
            return None;
        }
        let (protocol, transport) = match bytes[1] & !GSO_ECN {
            GSO_TCPV4 => (PROTOCOL_TCP, usize::from(*packet.get(ip + 12)? >> 4) * 4),
            GSO_UDP_L4 => (PROTOCOL_UDP, UDP_HEADER),
            _ => return None,
        };
        let payload = HEADER + ip + transport;
        let count = bytes.len().checked_sub(payload)?.div_ceil(segment);
        (packet[9] == protocol && count > 0).then_some(Self {
            protocol,
            ip,
            payload,
            segment,
            count,
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The length on the wire of all packets of `bytes`, from which this was read.
    pub(crate) fn wire_bytes(&self, bytes: &[u8]) -> usize {
        bytes.len() - HEADER + (self.count - 1) * (self.payload - HEADER)
    }

    /// Writes some packets of the train, as a train of their own, into `part`.
    pub(crate) fn cut(&self, bytes: &[u8], run: Range<usize>, part: &mut Vec<u8>) {
        let start = self.payload + run.start * self.segment;
        let end = bytes.len().min(self.payload + run.end * self.segment);
        part.clear();
        part.extend_from_slice(&bytes[..self.payload]);
        part.extend_from_slice(&bytes[start..end]);
        if run.len() == 1 {
            part[1] = GSO_NONE;
            part[4..6].fill(0);
        }
        let packet = &mut part[HEADER..];
        let length = packet.len();
        put(packet, 2, length as u16);
        // What segments a train counts the identification on (RFC 6864 §4.1 lets it).
        let identification = get(packet, 4).wrapping_add(run.start as u16);
        put(packet, 4, identification);
        put(packet, 10, 0);
        let checksum = !sum(&packet[..self.ip], 0);
        put(packet, 10, checksum);
        // The kernel left the transport's checksum to the device: here is the sum of the
        // pseudo-header (RFC 9293 §3.1), which depends on the length.
        let transport_length = (length - self.ip) as u16;
        let pseudo = sum(
            &packet[12..20],
            u32::from(self.protocol) + u32::from(transport_length),
        );
        let (_, transport) = packet.split_at_mut(self.ip);
        if self.protocol == PROTOCOL_UDP {
            put(transport, 4, transport_length);
            put(transport, 6, pseudo);
            return;
        }
        let skipped = (run.start * self.segment) as u32;
        let sequence = u32::from_be_bytes([transport[4], transport[5], transport[6], transport[7]]);
        transport[4..8].copy_from_slice(&sequence.wrapping_add(skipped).to_be_bytes());
        if run.end < self.count {
            transport[13] &= !TCP_FIN_OR_PSH;
        }
        if run.start > 0 {
            transport[13] &= !TCP_CWR;
        }
        put(transport, 16, pseudo);
    }
}

fn get(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// The ones' complement sum of RFC 1071, with something already in it.
fn sum(bytes: &[u8], start: u32) -> u16 {
    let mut total = start;
    for pair in bytes.chunks_exact(2) {
        total += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    while total > 0xffff {
        total = (total >> 16) + (total & 0xffff);
    }
    total as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A train of UDP datagrams with these payloads, as the kernel would hand it over.
    fn train(payload: &[u8], segment: u16) -> Vec<u8> {
        let mut bytes = vec![1, GSO_UDP_L4, 28, 0, 0, 0, 20, 0, 6, 0];
        bytes[4..6].copy_from_slice(&segment.to_ne_bytes());
        let total = (28 + payload.len()) as u16;
        bytes.extend([
            0x45, 0, 0, 0, 0, 7, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        bytes.extend([0x10, 0, 0x20, 0, 0, 0, 0, 0]);
        put(&mut bytes, HEADER + 2, total);
        put(&mut bytes, HEADER + 24, total - 20);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn a_run_is_a_train_of_its_own() {
        let bytes = train(b"aaabbbcccd", 3);
        let found = Train::read(&bytes).unwrap();
        assert_eq!(found.count(), 4);
        assert_eq!(found.wire_bytes(&bytes), 4 * 28 + 10);
        let mut part = Vec::new();
        found.cut(&bytes, 1..3, &mut part);
        assert_eq!(&part[HEADER + 28..], b"bbbccc");
        assert_eq!(part[1], GSO_UDP_L4);
        assert_eq!(get(&part, HEADER + 2), 34);
        assert_eq!(get(&part, HEADER + 4), 8);
        assert_eq!(get(&part, HEADER + 24), 14);
        // RFC 1071 §1: the sum over a header with its checksum is all ones.
        assert_eq!(sum(&part[HEADER..HEADER + 20], 0), 0xffff);
    }

    #[test]
    fn a_single_packet_is_no_train() {
        let bytes = train(b"aaabbbcccd", 3);
        let mut part = Vec::new();
        Train::read(&bytes).unwrap().cut(&bytes, 3..4, &mut part);
        assert_eq!(&part[HEADER + 28..], b"d");
        assert!(Train::read(&part).is_none());
        for length in 0..bytes.len() {
            Train::read(&bytes[..length]);
        }
    }
}
