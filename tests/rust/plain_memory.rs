//! What a receiver of the tutorial's format really allocates, whatever comes. In a binary of its own,
//! because it counts what the whole process allocates.

// A global allocator cannot be written without it; this is no part of the library.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};

use rsecho::datagram::{Batch, Copied, Destination, Message, Outbox, RawAddress, Received};
use rsecho::proto::Protocol;
use rsecho::transfer::Failure;
use rsecho::transfer::plain::{Event, PlainReceiving, ReceiveSettings};
use rsecho::transfer::store::{Digest, Name, Offer, Opened, Sink, Source, Storage};

struct Counting;

static IN_USE: AtomicIsize = AtomicIsize::new(0);
static MOST: AtomicIsize = AtomicIsize::new(0);

/// What the system's allocator (malloc(3) of glibc) takes of each allocation for itself, at most.
const OVERHEAD_BYTES: usize = 24;

fn cost(memory: Memory) -> isize {
    (memory.size() + OVERHEAD_BYTES) as isize
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, memory: Memory) -> *mut u8 {
        let before = IN_USE.fetch_add(cost(memory), Ordering::Relaxed);
        MOST.fetch_max(before + cost(memory), Ordering::Relaxed);
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(memory) }
    }

    unsafe fn dealloc(&self, address: *mut u8, memory: Memory) {
        IN_USE.fetch_sub(cost(memory), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(address, memory) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts what it is given.
struct Nowhere;

struct Counter(u64);

impl Storage for Nowhere {
    fn open_sink(&self, _: &Offer) -> Result<Opened, Failure> {
        Ok(Opened::Sink(Box::new(Counter(0))))
    }

    fn open_source(&self, _: &Name) -> Result<Box<dyn Source>, Failure> {
        unreachable!("this format has no pulls")
    }
}

impl Sink for Counter {
    fn length(&self) -> u64 {
        self.0
    }

    fn append(&mut self, data: &[u8]) -> io::Result<()> {
        self.0 += data.len() as u64;
        Ok(())
    }

    fn read_back(&mut self, _: u64, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }

    fn finish(&mut self, _: &Digest) -> Result<(), Failure> {
        Ok(())
    }

    fn discard(&mut self) {}
}

struct Receiver {
    receiving: PlainReceiving,
    out: Outbox,
    before: isize,
}

impl Receiver {
    fn new() -> Self {
        let before = IN_USE.load(Ordering::Relaxed);
        MOST.store(before, Ordering::Relaxed);
        let receiving = PlainReceiving::new(ReceiveSettings::default(), Arc::new(Nowhere));
        Self {
            receiving: receiving.unwrap(),
            out: Outbox::default(),
            before,
        }
    }

    fn come(&mut self, now_ns: u64, peer: SocketAddr, number: u32, data: &[u8]) {
        let copies = [Copied {
            data: [&number.to_be_bytes()[..], data].concat(),
            message: Message::admitted(Received {
                length: 4 + data.len(),
                source: RawAddress::from(peer),
                destination: Destination::Unknown,
                segment_bytes: 0,
                truncated: false,
                maybe_merged: false,
                hop_limit: 64,
                kernel_ns: 0,
            }),
        }];
        let batch = Batch::of_copies(&copies);
        let _ = self.receiving.on_batch(now_ns, &batch, &mut self.out);
    }

    fn in_use(&self) -> isize {
        IN_USE.load(Ordering::Relaxed) - self.before
    }

    /// The most in use so far. What it says of itself must cover what is in use now, but for a little.
    fn most(&self) -> isize {
        let said = self.receiving.held_bytes() as isize + (64 << 10);
        let in_use = self.in_use();
        assert!(in_use <= said, "{in_use} in use, {said} said");
        MOST.load(Ordering::Relaxed) - self.before
    }
}

fn peer(number: u32) -> SocketAddr {
    ((number + (11 << 24)).to_be_bytes(), 9).into()
}

/// All in one test: a second one beside it would be counted with it.
#[test]
fn f34_f37_memory_is_what_came_and_a_fixed_overhead() {
    // The largest counts there are.
    let mut receiver = Receiver::new();
    for number in 0..8 {
        receiver.come(0, peer(number), 16 << 20, b"");
        receiver.come(0, peer(number), (16 << 20) - 1, b"x");
        receiver.come(0, peer(number), u32::MAX, b"");
    }
    assert!(receiver.most() < 32 << 10, "{}", receiver.most());

    // Chunks of a byte, in an order that fills the tree badly, up to what all may have together.
    let mut receiver = Receiver::new();
    let count = 16 << 20;
    receiver.come(0, peer(0), count, b"");
    let mut index = 0_u32;
    let lost = loop {
        index = (index + 7_654_321) % count;
        receiver.come(0, peer(0), index, b"x");
        if let [Event::Lost(lost)] = &receiver.receiving.take_events()[..] {
            break lost.came_bytes;
        }
        if index.is_multiple_of(1000) {
            receiver.most();
        }
    };
    assert!(lost > 800_000, "{lost}");
    assert!(receiver.most() <= 64 << 20, "{}", receiver.most());
    assert!(
        receiver.in_use() < 1 << 20,
        "{} are left",
        receiver.in_use()
    );

    // A flood of forged first chunks, then of counts alone.
    let mut receiver = Receiver::new();
    for number in 0..100_000 {
        receiver.come(u64::from(number), peer(number), 1000, b"");
        receiver.come(u64::from(number), peer(number), 0, &[1; 1000]);
        receiver.receiving.take_events();
    }
    let most = receiver.most();
    assert!((48 << 20..=64 << 20).contains(&most), "{most}");
    let mut receiver = Receiver::new();
    for number in 0..100_000 {
        receiver.come(u64::from(number), peer(number), 1000, b"");
    }
    assert!(receiver.most() < 1 << 20, "{}", receiver.most());
}
