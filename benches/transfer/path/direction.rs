//! One direction of the path: what is lost, and when the rest arrives.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::packet::{HEADER, Train};
use crate::sys;

/// Room for a `virtio_net_hdr` and the longest packet.
const MAX_READ: usize = HEADER + 65_535;
/// Reads between two looks at what is due.
const READS: usize = 32;
/// Buffers kept for use again.
const SPARES: usize = 4096;

/// Packets, as they are on the wire: those of a train one by one.
#[derive(Default)]
pub(crate) struct Counts {
    came: AtomicU64,
    lost: AtomicU64,
    /// Found the queue full.
    overflowed: AtomicU64,
    /// The device they were for did not take them.
    refused: AtomicU64,
    /// What came in one piece.
    trains: AtomicU64,
}

impl Counts {
    pub(crate) fn json(&self) -> String {
        format!(
            r#"{{"came": {}, "lost": {}, "overflowed": {}, "refused": {}, "trains": {}}}"#,
            self.came.load(Relaxed),
            self.lost.load(Relaxed),
            self.overflowed.load(Relaxed),
            self.refused.load(Relaxed),
            self.trains.load(Relaxed),
        )
    }
}

struct Waiting {
    due: Instant,
    bytes: Vec<u8>,
    packets: usize,
}

pub(crate) struct Direction {
    from: File,
    to: File,
    delay: Duration,
    loss: u64,
    random: u64,
    queue_bytes: usize,
    rate: Option<f64>,
    counts: Arc<Counts>,
    queue: VecDeque<Waiting>,
    queued: usize,
    spares: Vec<Vec<u8>>,
    /// When the last packet has left the slowest link.
    free_at: Instant,
}

impl Direction {
    pub(crate) fn new(
        options: &Options,
        way: u64,
        from: File,
        to: File,
        counts: Arc<Counts>,
    ) -> Self {
        let loses = !options.is_one_way || way == 0;
        Self {
            from,
            to,
            delay: options.delay,
            loss: if loses { options.loss } else { 0 },
            random: options.seed.wrapping_mul(2).wrapping_add(way),
            queue_bytes: options.queue_bytes,
            rate: options.rate,
            counts,
            queue: VecDeque::new(),
            queued: 0,
            spares: Vec::new(),
            free_at: Instant::now(),
        }
    }

    /// Forwards for ever; the reason why it cannot.
    pub(crate) fn run(mut self) -> io::Error {
        sys::be_punctual();
        let mut bytes = vec![0; MAX_READ];
        loop {
            if let Err(error) = self.turn(&mut bytes) {
                return error;
            }
        }
    }

    fn turn(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let now = Instant::now();
        while self.queue.front().is_some_and(|first| first.due <= now) {
            if let Some(first) = self.queue.pop_front() {
                self.queued -= first.bytes.len();
                self.write(&first.bytes, first.packets);
                if self.spares.len() < SPARES {
                    self.spares.push(first.bytes);
                }
            }
        }
        for _ in 0..READS {
            match self.from.read(bytes) {
                Ok(length) => self.take(&bytes[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let first = self.queue.front().map(|first| first.due);
                    let wait = first.map(|due| due.saturating_duration_since(Instant::now()));
                    return sys::wait_readable(self.from.as_raw_fd(), wait);
                }
                // The device is not up yet, or no longer.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                    std::thread::sleep(Duration::from_millis(1));
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What came from the device: loses what is to be lost of it, and hands on the rest.
    fn take(&mut self, bytes: &[u8]) {
        let train = Train::read(bytes);
        let count = train.as_ref().map_or(1, Train::count);
        let wire_bytes = train.as_ref().map_or_else(
            || bytes.len().saturating_sub(HEADER),
            |train| train.wire_bytes(bytes),
        );
        self.counts.came.fetch_add(count as u64, Relaxed);
        self.counts.trains.fetch_add(1, Relaxed);
        let mut run = 0;
        let mut part = self.spares.pop().unwrap_or_default();
        let each = wire_bytes / count;
        for at in 0..count {
            if !self.loses() {
                continue;
            }
            self.counts.lost.fetch_add(1, Relaxed);
            if let (Some(train), true) = (&train, run < at) {
                train.cut(bytes, run..at, &mut part);
                self.pass(&part, at - run, each);
            }
            run = at + 1;
        }
        if run == 0 {
            self.pass(bytes, count, each);
        } else if let (Some(train), true) = (&train, run < count) {
            train.cut(bytes, run..count, &mut part);
            self.pass(&part, count - run, each);
        }
        self.spares.push(part);
    }

    /// Whether the next packet is lost: SplitMix64 (Steele, Lea and Flood, 2014).
    fn loses(&mut self) -> bool {
        if self.loss == 0 {
            return false;
        }
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) >> 32 < self.loss
    }

    /// Onto the link, which may be slow, and on the way, which may be long.
    fn pass(&mut self, bytes: &[u8], packets: usize, each: usize) {
        if self.delay.is_zero() && self.rate.is_none() {
            self.write(bytes, packets);
            return;
        }
        if self.queued + bytes.len() > self.queue_bytes {
            self.counts.overflowed.fetch_add(packets as u64, Relaxed);
            return;
        }
        let mut left = Instant::now();
        if let Some(rate) = self.rate {
            let takes = Duration::from_secs_f64((packets * each) as f64 / rate);
            left = self.free_at.max(left) + takes;
            self.free_at = left;
        }
        let mut copy = self.spares.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(bytes);
        self.queued += copy.len();
        self.queue.push_back(Waiting {
            due: left + self.delay,
            bytes: copy,
            packets,
        });
    }

    fn write(&mut self, bytes: &[u8], packets: usize) {
        if self.to.write(bytes).is_err() {
            self.counts.refused.fetch_add(packets as u64, Relaxed);
        }
    }
}
