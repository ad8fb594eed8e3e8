//! What was sent, and what became of it.

use std::collections::VecDeque;

use crate::transfer::ranges::Ranges;
use crate::transfer::wire::DATA_HEADER_BYTES;

/// A packet is lost once one sent so many later is acknowledged (RFC 9002 §6.1.1).
const REORDERING: u64 = 3;
/// Where packets that were taken for lost come after all, up to so many later.
const MOST_REORDERING: u64 = 1_024;

/// And no longer than this, or twice as long as packets that none overtakes.
const MOST_PATIENCE_NS: u64 = 50_000_000;

/// What a datagram of so many bytes takes of a receiver's buffer: docs/transfer.md, Window.
pub(crate) fn cost(datagram_bytes: usize) -> usize {
    datagram_bytes.max(1_280)
}

/// What a packet was sent for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bytes of the message.
    Data { offset: u64, length: u32 },
    /// That it ends.
    End,
    /// An answer.
    Ping,
    /// To see whether a datagram of this size comes through.
    Probe { size: usize },
}

impl Kind {
    /// How long its datagram is, where it has bytes of the message; else 0.
    fn datagram_bytes(self) -> usize {
        match self {
            Kind::Data { length, .. } => DATA_HEADER_BYTES + length as usize,
            _ => 0,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Packet {
    sent_ns: u64,
    kind: Kind,
    cost: u32,
    is_on_way: bool,
    /// It was taken for lost, and has not come.
    is_lost: bool,
}

/// What an acknowledgement was the first to tell of.
#[derive(Debug, Default)]
pub(super) struct Came {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    /// The largest packet number, if it is the largest ever, and when it was sent.
    pub(super) newest: Option<(u64, u64)>,
    /// The longest datagram with bytes of the message.
    pub(super) longest: usize,
    /// Sizes that came through.
    pub(super) probes: Vec<usize>,
    /// END came.
    pub(super) has_end: bool,
    /// More is there without a gap.
    pub(super) has_progress: bool,
}

/// What was found to be lost.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// The longest datagram with bytes of the message.
    pub(super) longest: usize,
    pub(super) packets: u64,
    pub(super) probes: u64,
}

impl Lost {
    pub(super) fn any(&self) -> bool {
        self.packets + self.probes > 0
    }
}

/// Every packet that is not accounted for, and the offsets that are to be sent again.
#[derive(Debug, Default)]
pub(super) struct Scoreboard {
    /// The first is number `next_number - len`.
    packets: VecDeque<Packet>,
    pub(super) next_number: u64,
    pub(super) largest_acked: Option<u64>,
    /// What packets on their way cost.
    pub(super) in_flight: u64,
    /// The receiver has all before this.
    pub(super) prefix: u64,
    /// What it has beyond.
    acked: Ranges,
    lost: Ranges,
    end: Option<bool>,
    /// How far packets overtake one another here: in numbers beyond [`REORDERING`], and in time
    /// beyond what is waited for anyway (RFC 8985 §6.2 has the same).
    overtaken: u64,
    overtaken_ns: u64,
}

impl Scoreboard {
    /// A receiver that has this much, and nothing that is on its way.
    pub(super) fn restart(&mut self, prefix: u64) {
        self.packets.clear();
        self.in_flight = 0;
        self.prefix = prefix;
        self.acked.clear();
        self.lost.clear();
        self.end = None;
        self.largest_acked = None;
    }

    fn first_number(&self) -> u64 {
        self.next_number - self.packets.len() as u64
    }

    /// Takes a number for a packet that is sent now.
    pub(super) fn send(&mut self, now_ns: u64, kind: Kind, datagram_bytes: usize) -> u64 {
        let cost = cost(datagram_bytes);
        self.packets.push_back(Packet {
            sent_ns: now_ns,
            kind,
            cost: cost as u32,
            is_on_way: true,
            is_lost: false,
        });
        self.in_flight += cost as u64;
        match kind {
            Kind::Data { offset, length } => {
                self.lost.remove(offset..offset + u64::from(length));
            }
            Kind::End => self.end = Some(false),
            _ => {}
        }
        self.next_number += 1;
        self.next_number - 1
    }

    /// The number that the next packet will have.
    pub(super) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// The first offsets that are to be sent again.
    pub(super) fn first_lost(&self, most: u64) -> Option<std::ops::Range<u64>> {
        self.lost.first(most)
    }

    /// END is on its way, or has come.
    pub(super) fn has_end(&self) -> bool {
        self.end.is_some()
    }

    // --- acknowledged -------------------------------------------------------------------

    pub(super) fn acknowledge(&mut self, now_ns: u64, ranges: &[(u64, u64)], prefix: u64) -> Came {
        let mut came = Came::default();
        let first_number = self.first_number();
        for (first, last) in ranges {
            if *last < first_number {
                break;
            }
            for number in (*first).max(first_number)..=*last {
                let index = (number - first_number) as usize;
                self.come(now_ns, number, index, &mut came);
            }
        }
        let largest = ranges.first().map(|(_, last)| *last);
        self.largest_acked = self.largest_acked.max(largest);
        if prefix > self.prefix {
            self.prefix = prefix;
            self.acked.remove(0..prefix);
            self.lost.remove(0..prefix);
            came.has_progress = true;
        }
        self.forget();
        came
    }

    fn come(&mut self, now_ns: u64, number: u64, index: usize, came: &mut Came) {
        let Some(packet) = self.packets.get_mut(index) else {
            return;
        };
        let Packet { sent_ns, kind, .. } = *packet;
        if std::mem::take(&mut packet.is_lost) {
            came.longest = came.longest.max(kind.datagram_bytes());
            let later = self.largest_acked.unwrap_or(0).saturating_sub(number);
            self.overtaken = self.overtaken.max(later.min(MOST_REORDERING));
            self.overtaken_ns = self.overtaken_ns.max((now_ns - sent_ns) * 9 / 8);
        }
        match kind {
            Kind::Data { offset, length } => {
                let range = offset.max(self.prefix)..offset + u64::from(length);
                // Also of one that was taken for lost.
                if packet.is_on_way || self.lost.first(1).is_some() {
                    self.lost.remove(range.clone());
                    self.acked.insert(range);
                }
            }
            Kind::End => {
                came.has_end |= self.end != Some(true);
                self.end = Some(true);
            }
            Kind::Probe { size } if packet.is_on_way => came.probes.push(size),
            _ => {}
        }
        if !packet.is_on_way {
            return;
        }
        packet.is_on_way = false;
        self.in_flight -= u64::from(packet.cost);
        came.longest = came.longest.max(kind.datagram_bytes());
        came.packets += 1;
        came.bytes += u64::from(packet.cost);
        if self.largest_acked.is_none_or(|largest| number > largest)
            && came.newest.is_none_or(|(newest, _)| number > newest)
        {
            came.newest = Some((number, sent_ns));
        }
    }

    /// Forgets the packets at the front that are accounted for: of those that are taken for lost, all
    /// but the last, which may yet come.
    fn forget(&mut self) {
        const KEPT: usize = 1_024;
        let first = |is: fn(&Packet) -> bool| self.packets.iter().position(is);
        let on_way = first(|one| one.is_on_way).unwrap_or(self.packets.len());
        let open = first(|one| one.is_on_way || one.is_lost).unwrap_or(self.packets.len());
        self.packets.drain(..open.max(on_way.saturating_sub(KEPT)));
    }

    // --- lost ---------------------------------------------------------------------------

    /// What is lost by now.
    pub(super) fn find_lost(&mut self, now_ns: u64, delay_ns: u64) -> Lost {
        let mut lost = Lost::default();
        let Some(largest) = self.largest_acked else {
            return lost;
        };
        let delay_ns = self.patience(delay_ns);
        let reordering = REORDERING + self.overtaken;
        let first_number = self.first_number();
        for index in 0..self.packets.len() {
            let number = first_number + index as u64;
            if number >= largest {
                break;
            }
            let packet = self.packets[index];
            let is_late = packet.sent_ns + delay_ns <= now_ns;
            if packet.is_on_way && (number + reordering <= largest || is_late) {
                self.lose(index);
                lost.longest = lost.longest.max(packet.kind.datagram_bytes());
                match packet.kind {
                    Kind::Probe { .. } => lost.probes += 1,
                    _ => lost.packets += 1,
                }
            }
        }
        if lost.any() {
            // What was overtaken once is not waited for like that for ever.
            self.overtaken -= self.overtaken / 16;
            self.overtaken_ns -= self.overtaken_ns / 16;
        }
        lost
    }

    fn lose(&mut self, index: usize) {
        let packet = &mut self.packets[index];
        packet.is_on_way = false;
        packet.is_lost = true;
        self.in_flight -= u64::from(packet.cost);
        match packet.kind {
            Kind::Data { offset, length } => {
                let end = offset + u64::from(length);
                for gap in self
                    .acked
                    .gaps(offset.max(self.prefix)..end.max(self.prefix))
                {
                    self.lost.insert(gap);
                }
            }
            Kind::End if self.end == Some(false) => self.end = None,
            _ => {}
        }
    }

    /// When the next packet is lost, if nothing comes.
    pub(super) fn next_lost_ns(&self, delay_ns: u64) -> Option<u64> {
        let largest = self.largest_acked?;
        let before = largest.saturating_sub(self.first_number()) as usize;
        let mut packets = self.packets.iter().take(before);
        let first = packets.find(|packet| packet.is_on_way)?;
        Some(first.sent_ns + self.patience(delay_ns))
    }

    /// How long a packet is waited for that others have overtaken: as long as such ones took before,
    /// within bounds. Round trips do not tell, since they are those of the packets that overtake.
    fn patience(&self, delay_ns: u64) -> u64 {
        let most_ns = MOST_PATIENCE_NS.max(2 * delay_ns);
        self.overtaken_ns.clamp(delay_ns, most_ns)
    }

    /// The longest datagram with bytes of the message that is on its way.
    pub(super) fn longest_on_way(&self) -> usize {
        let on_way = self.packets.iter().filter(|packet| packet.is_on_way);
        let bytes = on_way.map(|packet| packet.kind.datagram_bytes());
        bytes.max().unwrap_or(0)
    }

    /// Takes the oldest for lost, to have them sent again.
    pub(super) fn lose_oldest(&mut self, most: u32) {
        let data = |packet: &Packet| packet.is_on_way && !matches!(packet.kind, Kind::Probe { .. });
        for _ in 0..most {
            match self.packets.iter().position(data) {
                Some(index) => self.lose(index),
                None => break,
            }
        }
    }

    /// Takes all for lost; how many packets that is.
    pub(super) fn lose_all(&mut self) -> u64 {
        let mut lost = 0;
        for index in 0..self.packets.len() {
            if self.packets[index].is_on_way {
                self.lose(index);
                lost += 1;
            }
        }
        self.packets.clear();
        lost
    }
}

/// What a datagram of so many bytes carries of a message.
pub(super) fn payload(datagram_bytes: usize) -> usize {
    datagram_bytes - DATA_HEADER_BYTES
}
