//! Any text as a format, any bytes as a record of it; and what compiling it allocates.

#![no_main]

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use rsecho::fuzzing::{format_and_record, unpack_format};
use rsecho::unpack::Layout;

struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, memory: Memory) -> *mut u8 {
        ALLOCATED.fetch_add(memory.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(memory) }
    }

    unsafe fn dealloc(&self, address: *mut u8, memory: Memory) {
        // SAFETY: as above.
        unsafe { System.dealloc(address, memory) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some((format, _)) = format_and_record(bytes) {
        let before = ALLOCATED.load(Ordering::Relaxed);
        let _ = Layout::compile(format);
        let allocated = ALLOCATED.load(Ordering::Relaxed) - before;
        assert!(allocated <= 1 << 20, "{allocated} bytes allocated");
    }
    unpack_format(bytes);
});
