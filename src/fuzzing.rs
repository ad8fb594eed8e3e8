//! What fuzz/ calls: each part's laws as a function over bytes, whatever they are. Panics
//! where a law is broken.
//!
//! The functions turn bytes into a part's input and leave the laws to the part itself, where
//! its property tests use them too. The tests here run the kept corpus (tests/corpus)
//! through them, so that what a fuzzer found once is tried by everyone who runs the tests.

use crate::impair;
use crate::meter;
use crate::net::udp::plan::laws;
use crate::respond::{self, Framing};
use crate::server::tcp;
use crate::stamp;
use crate::sys;
use crate::transfer::{self, plain};

mod format;

pub use format::{format_and_record, unpack_format};

/// The control-message decoder: any bytes as a control buffer.
pub fn control(bytes: &[u8]) {
    sys::control::laws::hold_for(bytes);
}

/// The planner. Eight bytes a receive: peer (2), length (2), segment size (2), datagrams a
/// send (1), and one that tells whether it starts a new batch, its destination, and whether
/// its sizes are small ones.
pub fn plan(bytes: &[u8]) {
    let mut batches = vec![Vec::new()];
    let (receives, _) = bytes.as_chunks::<8>();
    for &[p0, p1, l0, l1, s0, s1, max_segments, flags] in receives {
        if flags & 1 != 0 {
            batches.push(Vec::new());
        }
        // Few peers and few sizes meet more often.
        let mask = if flags & 4 != 0 { 7 } else { u16::MAX };
        let number = |low, high| u16::from_le_bytes([low, high]);
        let length = usize::from(number(l0, l1) & mask);
        let segment_bytes = usize::from(number(s0, s1) & mask);
        if let Some(batch) = batches.last_mut() {
            batch.push(laws::Came {
                peer: number(p0, p1) & mask,
                destination: flags >> 1 & 1,
                length,
                // Thousands of datagrams in a read cost more than they find.
                segment_bytes: match segment_bytes {
                    0 => 0,
                    size => size.max(length / 16),
                },
                max_segments: max_segments.into(),
            });
        }
    }
    laws::hold_for(&batches);
}

/// The TCP record assembler: a record's length (2 bytes), how many cuts, the cuts (a byte
/// each), and the stream.
pub fn records(bytes: &[u8]) {
    let Some((&[low, high, cuts], rest)) = bytes.split_first_chunk() else {
        return;
    };
    let (cuts, stream) = rest.split_at(rest.len().min(cuts.into()));
    let cuts = cuts.iter().map(|&cut| usize::from(cut));
    tcp::record_laws(usize::from(u16::from_le_bytes([low, high])), cuts, stream);
}

/// What to impair: any text as netem's options, as toxics, and as a trace. Other bytes than
/// UTF-8 are skipped.
pub fn impair(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        impair::laws::hold_for_text(text);
    }
}

/// The meter: probes, replies and times in any order, three bytes each; and any bytes as a reply.
pub fn meter(bytes: &[u8]) {
    meter::laws::hold_for(bytes);
    meter::laws::are_foreign(bytes);
}

/// STAMP: any bytes as a packet.
pub fn stamp(bytes: &[u8]) {
    stamp::laws::hold_for(bytes);
}

/// Large messages: the decoder of packets, and a server that is handed any.
pub fn transfer(bytes: &[u8]) {
    transfer::wire::laws::hold_for(bytes);
    transfer::laws::hold_for(bytes);
}

/// The cutter of requests: what they are (1 byte: lines, chunks, or records of a
/// length), the longest line (2 bytes), how many cuts, the cuts (a byte each), and the stream.
pub fn requests(bytes: &[u8]) {
    let Some((&[kind, low, high, cuts], rest)) = bytes.split_first_chunk() else {
        return;
    };
    let framing = match kind {
        0 => Framing::Lines,
        1 => Framing::Chunks,
        length => Framing::Records(length.into()),
    };
    let (cuts, stream) = rest.split_at(rest.len().min(cuts.into()));
    let cuts = cuts.iter().map(|&cut| usize::from(cut));
    let most = usize::from(u16::from_le_bytes([low, high]));
    respond::framing_laws(framing, most, cuts, stream);
}

/// The tutorial's receiver: any bytes as datagrams of a few peers, and time that passes between.
pub fn plain(bytes: &[u8]) {
    plain::laws::hold_for(plain::laws::small(), &plain::laws::steps(bytes));
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// Runs the kept files of a target through its function.
    fn replay(target: &str, function: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/corpus")
            .join(target);
        let mut files = 0;
        for entry in fs::read_dir(&folder).expect("a target has a corpus") {
            let path = entry.unwrap().path();
            // Said by libtest where the function panics.
            println!("{}", path.display());
            function(&fs::read(&path).unwrap());
            files += 1;
        }
        assert!(files > 0, "nothing is kept in {}", folder.display());
    }

    #[test]
    fn control() {
        replay("control", super::control);
    }

    #[test]
    fn plan() {
        replay("plan", super::plan);
    }

    #[test]
    fn unpack_format() {
        replay("unpack_format", super::unpack_format);
    }

    #[test]
    fn requests() {
        replay("requests", super::requests);
    }

    #[test]
    fn records() {
        replay("records", super::records);
    }

    #[test]
    fn transfer() {
        replay("transfer", super::transfer);
    }

    #[test]
    fn impair() {
        replay("impair", super::impair);
    }

    #[test]
    fn plain() {
        replay("plain", super::plain);
    }

    #[test]
    fn meter() {
        replay("meter", super::meter);
    }

    #[test]
    fn stamp() {
        replay("stamp", super::stamp);
    }
}
