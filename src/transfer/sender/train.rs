//! What a sender sends: trains of DATA, END, and probes, as far as the windows and the pace go.

use std::io::ErrorKind;

use super::scoreboard::{Kind, cost, payload};
use super::{HASH_SLICE, STARVED_NS, Sender};
use crate::datagram::Outbox;
use crate::transfer::failure::{Failure, Reason};
use crate::transfer::wire::{self, Body, DATA_HEADER_BYTES};

/// A train's bytes at most: what one send takes (net/udp/plan.rs).
const TRAIN_BYTES: usize = 64_000;

/// So many bytes are hashed side by side, by the widest instructions.
const HASHED_AT_ONCE: u64 = 16 * 1024;

/// A datagram without options: what the wire has of a message.
struct Piece {
    offset: u64,
    length: usize,
}

impl Sender {
    /// Sends what may be sent now. False: the outbox is full, and there is more.
    pub(super) fn send_all(&mut self, now_ns: u64, out: &mut Outbox) -> bool {
        // Of nothing there is a digest as well.
        self.conclude();
        loop {
            if self.outcome().is_some() {
                return true;
            }
            if out.is_full() {
                return false;
            }
            if self.rate.next_ns() > now_ns {
                break;
            }
            let is_forced = self.probes > 0;
            let may_send = self.has_room() && self.pace.next_ns() <= now_ns;
            if !(is_forced || may_send) {
                break;
            }
            let sent = !std::mem::take(&mut self.only_pings)
                && (self.send_train(now_ns, is_forced, out)
                    || self.send_end(now_ns, is_forced, out));
            if is_forced {
                self.ping(now_ns, out);
                self.probes -= 1;
            } else if !sent {
                break;
            }
        }
        let is_window_ours = self.congestion.window() < self.window.in_flight_bytes;
        let is_rate_ours = self.rate.next_ns() <= now_ns;
        self.is_limited = is_window_ours && is_rate_ours && self.has_more();
        true
    }

    /// How many datagrams the next train may have.
    fn most_datagrams(&self, now_ns: u64, is_forced: bool) -> usize {
        if is_forced {
            return 1;
        }
        let size = self.mtu.size();
        let paced = self.pace.room(now_ns).min(self.rate.room(now_ns));
        let bytes = self.room().min(paced).min(TRAIN_BYTES as u64) as usize;
        (bytes / cost(size)).max(1)
    }

    /// Sends one train, of what is lost, or of what is fresh. False: there is neither.
    fn send_train(&mut self, now_ns: u64, is_forced: bool, out: &mut Outbox) -> bool {
        let most = self.most_datagrams(now_ns, is_forced);
        let size = payload(self.mtu.size());
        let pieces = match self.board.has_lost() {
            true => self.read_lost(size, most),
            false => self.read_fresh(now_ns, size, most),
        };
        let pieces = match pieces {
            Ok(pieces) if pieces.is_empty() => return false,
            Ok(pieces) => pieces,
            Err(failure) => {
                self.abort(failure, out);
                return true;
            }
        };
        self.put_train(now_ns, &pieces, out);
        true
    }

    /// Reads what is to be sent again, into `scratch`.
    fn read_lost(&mut self, size: usize, most: usize) -> Result<Vec<Piece>, Failure> {
        let mut pieces: Vec<Piece> = Vec::with_capacity(most);
        self.scratch.clear();
        let mut rest = self.board.first_lost(u64::MAX);
        while pieces.len() < most {
            let Some(range) = rest.filter(|range| !range.is_empty()) else {
                break;
            };
            let length = ((range.end - range.start) as usize).min(size);
            let start = self.scratch.len();
            self.scratch.resize(start + length, 0);
            let read = self.source.read(range.start, &mut self.scratch[start..]);
            let read = read.map_err(|error| Failure::io("read what is sent", &error))?;
            if read < length {
                return Err(shorter());
            }
            pieces.push(Piece {
                offset: range.start,
                length,
            });
            self.figures.retransmitted_packets += 1;
            if length < size {
                // A shorter datagram is the last of its train.
                break;
            }
            rest = Some(range.start + length as u64..range.end);
        }
        Ok(pieces)
    }

    /// Reads what was never sent, into `scratch`, and hashes it on the way.
    fn read_fresh(&mut self, now_ns: u64, size: usize, most: usize) -> Result<Vec<Piece>, Failure> {
        if !self.may_send_fresh() || self.starved_until_ns > now_ns {
            return Ok(Vec::new());
        }
        let (size, most) = self.aligned(size, most);
        let length = self.source.length();
        let end = self.window.limit.min(length.unwrap_or(u64::MAX));
        let wanted = ((end - self.fresh).min((size * most) as u64)) as usize;
        self.scratch.resize(wanted, 0);
        let read = match self.source.read(self.fresh, &mut self.scratch) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // A pipe whose writer rests is no reason to give up.
                self.starved_until_ns = now_ns + STARVED_NS;
                self.last_progress_ns = now_ns;
                return Ok(Vec::new());
            }
            Err(error) => return Err(Failure::io("read what is sent", &error)),
        };
        if read < wanted && length.is_some() {
            return Err(shorter());
        }
        self.scratch.truncate(read);
        let start = self.fresh;
        self.fresh += read as u64;
        if (start..self.fresh).contains(&self.hashed) {
            let new = &self.scratch[(self.hashed - start) as usize..];
            self.hasher.update(new);
            self.hashed = self.fresh;
        }
        self.conclude();
        let pieces = (0..read).step_by(size).map(|at| Piece {
            offset: start + at as u64,
            length: size.min(read - at),
        });
        Ok(pieces.collect())
    }

    /// After shorter datagrams, one that is a bit shorter than the others: then each of those begins
    /// and ends with blocks that both sides hash several of at a time (BLAKE3 §5.3).
    fn aligned(&self, size: usize, most: usize) -> (usize, usize) {
        let over = (self.fresh % HASHED_AT_ONCE) as usize;
        match size > 2 * HASHED_AT_ONCE as usize && over > 0 {
            true => (size - over, 1),
            false => (size, most),
        }
    }

    /// Puts what lies in `scratch` into the outbox.
    fn put_train(&mut self, now_ns: u64, pieces: &[Piece], out: &mut Outbox) {
        let (mut bytes, mut taken) = (0, 0);
        let (id, board, scratch) = (self.id, &mut self.board, &self.scratch);
        out.send_train(self.to, self.mtu.size(), |page| {
            for piece in pieces {
                let start = page.len();
                page.resize(start + DATA_HEADER_BYTES, 0);
                page.extend_from_slice(&scratch[taken..taken + piece.length]);
                taken += piece.length;
                let kind = Kind::Data {
                    offset: piece.offset,
                    length: piece.length as u32,
                };
                let length = page.len() - start;
                let number = board.send(now_ns, kind, length);
                wire::seal_data(&mut page[start..], id, number, piece.offset);
                bytes += length;
            }
        });
        self.figures.sent_packets += pieces.len() as u64;
        self.account(now_ns, bytes);
    }

    /// Accounts for bytes that leave now.
    fn account(&mut self, now_ns: u64, bytes: usize) {
        self.figures.sent_bytes += bytes as u64;
        self.last_sent_ns = now_ns;
        self.pace.take(now_ns, bytes as u64);
        self.rate.take(now_ns, bytes as u64);
    }

    /// Sends END where all was sent. False: it is not to be sent now.
    fn send_end(&mut self, now_ns: u64, is_forced: bool, out: &mut Outbox) -> bool {
        let is_due = self.end_is_due() || (is_forced && self.board.has_end());
        let (true, Some(digest), Some(length)) = (is_due, self.digest, self.source.length()) else {
            return false;
        };
        let bytes = wire::HEADER_BYTES + 48;
        let number = self.board.send(now_ns, Kind::End, bytes);
        self.send(
            out,
            &Body::End {
                number,
                length,
                digest,
            },
        );
        self.ends_sent += 1;
        self.last_sent_ns = now_ns;
        true
    }

    /// Asks for an acknowledgement.
    fn ping(&mut self, now_ns: u64, out: &mut Outbox) {
        let number = self.board.send(now_ns, Kind::Ping, wire::HEADER_BYTES + 8);
        self.send(out, &Body::Probe { number });
        self.last_sent_ns = now_ns;
    }

    /// Tries a longer datagram, where that is worth it.
    pub(super) fn send_probe(&mut self, now_ns: u64, out: &mut Outbox) {
        let length = self.source.length().unwrap_or(u64::MAX);
        let left = length.saturating_sub(self.fresh);
        // A buffer that has no room for several of a size does not need to know whether it passes.
        let window = self.congestion.window().min(self.window.in_flight_bytes);
        let is_worth_it =
            left >= HASH_SLICE as u64 / 16 && window / 4 >= self.mtu.next_size() as u64;
        if !self.rtt.is_known() || !is_worth_it || !self.has_room() {
            return;
        }
        let Some(size) = self.mtu.probe(now_ns) else {
            return;
        };
        let number = self.board.send(now_ns, Kind::Probe { size }, size);
        let (id, to) = (self.id, self.to);
        out.send_train(to, size, |page| wire::encode_probe(page, id, number, size));
        self.account(now_ns, size);
    }
}

fn shorter() -> Failure {
    Failure::new(Reason::Io, "it has become shorter while it was sent")
}
