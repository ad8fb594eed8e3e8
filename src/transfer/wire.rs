//! Packets and their bytes: docs/transfer.md. Both directions are here and nowhere else.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod laws;

use super::failure::Reason;
use super::store::{Digest, Identity, MAX_COMPONENTS, Name};

/// What every packet begins with.
pub const MAGIC: [u8; 2] = *b"rE";
/// The version of the protocol that this code speaks.
pub const VERSION: u8 = 1;
/// Magic, version, type, checksum, id.
pub const HEADER_BYTES: usize = 16;
/// Bytes before the data of a DATA packet.
pub const DATA_HEADER_BYTES: usize = HEADER_BYTES + 16;
/// Minimum length of an OFFER and a PULL, so that no answer to one is longer.
pub const MIN_REQUEST_BYTES: usize = 128;
/// Maximum number of ranges in an ACK: then it fits into 512 bytes, which every path has to take.
pub const MAX_RANGES: usize = 58;
/// Maximum length of the text of an ABORT, in bytes.
pub const MAX_TEXT_BYTES: usize = 200;

const UNKNOWN_LENGTH: u64 = u64::MAX;

/// Proof that a peer receives at its address: a receiver sends it there, and the peer returns it.
pub type Cookie = [u8; 16];

/// Body of an OFFER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferBody {
    /// Zeros in the first one, before the peer has a cookie.
    pub cookie: Cookie,
    /// Length of the message in bytes; `None`: not known yet.
    pub length: Option<u64>,
    /// Tells whether a file is the same as before; zeros: cannot be told.
    pub identity: Identity,
    /// BLAKE3 digest of the message; `None`: not known yet.
    pub digest: Option<Digest>,
    /// Asks to replace a file of this name.
    pub replaces: bool,
    /// Name of the file; without components: a message without a name.
    pub name: Name,
}

/// Body of a PULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullBody {
    /// Zeros in the first one, before the peer has a cookie.
    pub cookie: Cookie,
    /// Asks for a message that was sent before, by its id, instead of a file.
    pub is_echo: bool,
    /// Name of the file that is asked for.
    pub name: Name,
}

/// Body of an ACK.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AckBody {
    /// The receiver refuses data from this offset on.
    pub limit: u64,
    /// Bytes that may be on their way: the receiver's socket buffer has room for them.
    pub in_flight_bytes: u32,
    /// Number of bytes received without a gap, from the start of the message.
    pub prefix: u64,
    /// Time in µs from the arrival of the largest packet number to this ACK.
    pub delay_us: u32,
    /// Received packet numbers as (first, last), newest first. Ranges neither overlap nor touch.
    pub ranges: Vec<(u64, u64)>,
}

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body<'a> {
    /// Announces a message.
    Offer(OfferBody),
    /// Asks the peer to repeat its OFFER or PULL with this cookie.
    Cookie(Cookie),
    /// A part of the message.
    Data {
        /// Packet number.
        number: u64,
        /// Offset of the data in the message.
        offset: u64,
        /// The data, at least one byte.
        data: &'a [u8],
    },
    /// Tells the sender what has arrived.
    Ack(AckBody),
    /// All bytes of the message were sent.
    End {
        /// Packet number.
        number: u64,
        /// Length of the message in bytes.
        length: u64,
        /// BLAKE3 digest of the message.
        digest: Digest,
    },
    /// The message is complete at the receiver.
    Done {
        /// The receiver had it before this transfer.
        was_there: bool,
    },
    /// Ends the transfer without success.
    Abort {
        /// The reason; `None`: a number that this version does not know.
        reason: Option<Reason>,
        /// The reason as a sentence.
        text: &'a str,
    },
    /// Asks for a file, or for a message to be echoed.
    Pull(PullBody),
    /// Tests whether a datagram of this length gets through, or (a short one) whether the peer answers.
    Probe {
        /// Packet number.
        number: u64,
    },
}

/// What is wrong with a datagram that begins with the magic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// The checksum is wrong.
    Checksum,
    /// Another version of the protocol, whose ids may lie elsewhere.
    Version(u8),
    /// Its length, or a field, is impossible for its type.
    Shape,
}

/// True if a datagram begins like a packet of this protocol.
pub fn is_ours(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER_BYTES && datagram[..2] == MAGIC
}

/// The transfer's id in a datagram of this protocol, of any type.
pub fn id_of(datagram: &[u8]) -> u64 {
    datagram
        .get(8..16)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u64::from_be_bytes)
}

// --- from bytes -----------------------------------------------------------------------------

/// Takes fields from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        Some(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// No field is left.
    fn end<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }

    /// Zeros are left, or nothing.
    fn padding<T>(self, value: T) -> Option<T> {
        self.0.iter().all(|byte| *byte == 0).then_some(value)
    }

    fn name(&mut self) -> Option<Name> {
        let count = usize::from(self.u8()?);
        if count > MAX_COMPONENTS {
            return None;
        }
        let component = |_| {
            let length = usize::from(self.u8()?);
            let bytes = self.bytes(length)?;
            Some(str::from_utf8(bytes).ok()?.to_owned())
        };
        Name::new((0..count).map(component).collect::<Option<_>>()?)
    }
}

/// Decodes a datagram of this protocol: the transfer's id, and the body.
///
/// # Errors
///
/// If any part of it is wrong; then no other part may be used.
pub fn decode(datagram: &[u8]) -> Result<(u64, Body<'_>), Malformed> {
    if !is_ours(datagram) {
        return Err(Malformed::Shape);
    }
    let mut reader = Reader(&datagram[4..]);
    let (checksum, id) = reader.u32().zip(reader.u64()).ok_or(Malformed::Shape)?;
    if checksum != checksum_of(datagram) {
        return Err(Malformed::Checksum);
    }
    if datagram[2] != VERSION {
        return Err(Malformed::Version(datagram[2]));
    }
    let body = body(datagram[3], reader, datagram.len()).ok_or(Malformed::Shape)?;
    Ok((id, body))
}

fn body<'a>(kind: u8, mut reader: Reader<'a>, length: usize) -> Option<Body<'a>> {
    let is_request = length >= MIN_REQUEST_BYTES;
    match kind {
        1 if is_request => {
            let flags = reader.u8()?;
            let cookie = reader.array()?;
            let length = reader.u64()?;
            let identity = reader.array()?;
            let digest = reader.array()?;
            let name = reader.name()?;
            let body = OfferBody {
                cookie,
                length: (length != UNKNOWN_LENGTH).then_some(length),
                identity,
                digest: (flags & 1 != 0).then_some(digest),
                replaces: flags & 2 != 0,
                name,
            };
            let is_right = flags < 4 && (body.digest.is_some() || digest == [0; 32]);
            reader.padding(Body::Offer(body)).filter(|_| is_right)
        }
        2 => {
            let cookie = reader.array()?;
            reader.end(Body::Cookie(cookie))
        }
        3 => {
            let (number, offset) = (reader.u64()?, reader.u64()?);
            let data = reader.0;
            offset.checked_add(data.len() as u64)?;
            (!data.is_empty()).then_some(Body::Data {
                number,
                offset,
                data,
            })
        }
        4 => {
            let body = AckBody {
                limit: reader.u64()?,
                in_flight_bytes: reader.u32()?,
                prefix: reader.u64()?,
                delay_us: reader.u32()?,
                ranges: ranges(&mut reader)?,
            };
            reader.end(Body::Ack(body))
        }
        5 => {
            let (number, length, digest) = (reader.u64()?, reader.u64()?, reader.array()?);
            let body = Body::End {
                number,
                length,
                digest,
            };
            reader.end(body).filter(|_| length != UNKNOWN_LENGTH)
        }
        6 => {
            let flags = reader.u8()?;
            let body = Body::Done {
                was_there: flags & 1 != 0,
            };
            reader.end(body).filter(|_| flags < 2)
        }
        7 => {
            let reason = Reason::from_wire(reader.u8()?);
            let text = str::from_utf8(reader.0).ok()?;
            (text.len() <= MAX_TEXT_BYTES).then_some(Body::Abort { reason, text })
        }
        8 if is_request => {
            let flags = reader.u8()?;
            let cookie = reader.array()?;
            let name = reader.name()?;
            let body = PullBody {
                cookie,
                is_echo: flags & 1 != 0,
                name,
            };
            let is_right = flags < 2 && body.is_echo == body.name.is_none();
            reader.padding(Body::Pull(body)).filter(|_| is_right)
        }
        9 => {
            let number = reader.u64()?;
            reader.padding(Body::Probe { number })
        }
        _ => None,
    }
}

fn ranges(reader: &mut Reader<'_>) -> Option<Vec<(u64, u64)>> {
    let count = usize::from(reader.u8()?);
    if count > MAX_RANGES {
        return None;
    }
    let mut ranges = Vec::with_capacity(count);
    // The lowest number of the range before.
    let mut before: Option<u64> = None;
    for _ in 0..count {
        let last = match before {
            None => reader.u64()?,
            // At least two below: what touches is one range.
            Some(lowest) => {
                let below = reader.u32().filter(|below| *below >= 2)?;
                lowest.checked_sub(below.into())?
            }
        };
        let length = u64::from(reader.u32()?);
        let first = last.checked_sub(length.checked_sub(1)?)?;
        ranges.push((first, last));
        before = Some(first);
    }
    Some(ranges)
}

// --- to bytes -------------------------------------------------------------------------------

/// Appends a packet to `to`.
pub fn encode(to: &mut Vec<u8>, id: u64, body: &Body<'_>) {
    let start = to.len();
    let kind = match body {
        Body::Offer(_) => 1,
        Body::Cookie(_) => 2,
        Body::Data { .. } => 3,
        Body::Ack(_) => 4,
        Body::End { .. } => 5,
        Body::Done { .. } => 6,
        Body::Abort { .. } => 7,
        Body::Pull(_) => 8,
        Body::Probe { .. } => 9,
    };
    header(to, kind, id);
    match body {
        Body::Offer(offer) => {
            to.push(u8::from(offer.digest.is_some()) | u8::from(offer.replaces) << 1);
            to.extend(offer.cookie);
            to.extend(offer.length.unwrap_or(UNKNOWN_LENGTH).to_be_bytes());
            to.extend(offer.identity);
            to.extend(offer.digest.unwrap_or_default());
            name(to, &offer.name);
            pad(to, start + MIN_REQUEST_BYTES);
        }
        Body::Cookie(cookie) => to.extend(cookie),
        Body::Data {
            number,
            offset,
            data,
        } => {
            to.extend(number.to_be_bytes());
            to.extend(offset.to_be_bytes());
            to.extend(*data);
        }
        Body::Ack(ack) => acknowledge(to, ack),
        Body::End {
            number,
            length,
            digest,
        } => {
            to.extend(number.to_be_bytes());
            to.extend(length.to_be_bytes());
            to.extend(digest);
        }
        Body::Done { was_there } => to.push(u8::from(*was_there)),
        Body::Abort { reason, text } => {
            to.push(reason.map_or(0, |reason| reason as u8));
            to.extend(cut(text, MAX_TEXT_BYTES).bytes());
        }
        Body::Pull(pull) => {
            to.push(u8::from(pull.is_echo));
            to.extend(pull.cookie);
            name(to, &pull.name);
            pad(to, start + MIN_REQUEST_BYTES);
        }
        Body::Probe { number } => to.extend(number.to_be_bytes()),
    }
    seal(&mut to[start..]);
}

/// Cuts a text to at most `most` bytes, between characters.
pub fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev();
    let end = end.into_iter().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// Appends a PROBE with a total length of `length` bytes.
pub fn encode_probe(to: &mut Vec<u8>, id: u64, number: u64, length: usize) {
    let start = to.len();
    header(to, 9, id);
    to.extend(number.to_be_bytes());
    pad(to, start + length);
    seal(&mut to[start..]);
}

/// Writes the header of a DATA packet. Its data is in `packet` already, from
/// [`DATA_HEADER_BYTES`] on.
pub fn seal_data(packet: &mut [u8], id: u64, number: u64, offset: u64) {
    packet[..2].copy_from_slice(&MAGIC);
    packet[2..4].copy_from_slice(&[VERSION, 3]);
    packet[8..16].copy_from_slice(&id.to_be_bytes());
    packet[16..24].copy_from_slice(&number.to_be_bytes());
    packet[24..32].copy_from_slice(&offset.to_be_bytes());
    seal(packet);
}

fn header(to: &mut Vec<u8>, kind: u8, id: u64) {
    to.extend(MAGIC);
    to.extend([VERSION, kind]);
    to.extend([0; 4]);
    to.extend(id.to_be_bytes());
}

fn name(to: &mut Vec<u8>, name: &Name) {
    to.push(name.components().len() as u8);
    for component in name.components() {
        to.push(component.len() as u8);
        to.extend(component.bytes());
    }
}

fn pad(to: &mut Vec<u8>, length: usize) {
    to.resize(to.len().max(length), 0);
}

fn acknowledge(to: &mut Vec<u8>, ack: &AckBody) {
    to.extend(ack.limit.to_be_bytes());
    to.extend(ack.in_flight_bytes.to_be_bytes());
    to.extend(ack.prefix.to_be_bytes());
    to.extend(ack.delay_us.to_be_bytes());
    let at = to.len();
    to.push(0);
    let mut before = None;
    for (first, last) in ack.ranges.iter().take(MAX_RANGES) {
        match before {
            None => to.extend(last.to_be_bytes()),
            Some(lowest) => match u32::try_from(lowest - last) {
                Ok(below) => to.extend(below.to_be_bytes()),
                // Too far away to matter.
                Err(_) => break,
            },
        }
        // Of a longer one the newest part is enough: the prefix says the rest.
        let length = u32::try_from(last - first + 1).unwrap_or(u32::MAX);
        to.extend(length.to_be_bytes());
        before = Some(last - u64::from(length - 1));
        to[at] += 1;
    }
}

/// Writes the checksum.
fn seal(packet: &mut [u8]) {
    let checksum = checksum_of(packet);
    packet[4..8].copy_from_slice(&checksum.to_be_bytes());
}

/// CRC-32C of a packet, with zeros where the checksum stands.
fn checksum_of(packet: &[u8]) -> u32 {
    let head = crc32c::crc32c(&packet[..4]);
    let head = crc32c::crc32c_append(head, &[0; 4]);
    crc32c::crc32c_append(head, &packet[8..])
}
