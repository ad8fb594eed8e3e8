//! Hostile formats cost next to nothing. In a binary of its own, because it counts what the
//! whole process allocates.

// A global allocator cannot be written without it; this is no part of the library.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use rsecho::unpack::{Layout, MAX_FORMAT_BYTES};

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

/// The sum of all allocations while `work` ran: never less than the peak.
fn allocated<R>(work: impl FnOnce() -> R) -> (R, usize) {
    let before = ALLOCATED.load(Ordering::Relaxed);
    let result = work();
    (result, ALLOCATED.load(Ordering::Relaxed) - before)
}

/// All in one test: a second one beside it would be counted with it.
#[test]
fn f41_hostile_formats_are_one_typed_error_within_1_mib() {
    let digits = "9".repeat(40);
    let refused = [
        "999999999999s".to_owned(),
        "<999999999999s".to_owned(),
        format!("{digits}i"),
        format!("<{digits}i"),
        format!("<{digits}x"),
        format!("<0i{digits}p"),
        format!("<{digits}"),
        "<z".to_owned(),
        "z".to_owned(),
        "<\0".to_owned(),
        "\0".to_owned(),
        "<é".to_owned(),
        "é".to_owned(),
        String::new(),
        "<".to_owned(),
        "<65537B".to_owned(),
        format!("<{}", "0s".repeat(1 << 20)),
        "9".repeat(1 << 24),
    ];
    for text in &refused {
        let (result, bytes) = allocated(|| Layout::compile(text));
        let shown: String = text.chars().take(20).collect();
        assert!(result.is_err(), "{shown}");
        assert!(bytes <= 1 << 20, "{shown}: {bytes} bytes allocated");
        let message = result.unwrap_err().to_string();
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(message.len() < 300, "{message}");
    }

    // What a fuzzer kept: two bytes of length, a format, and data.
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/unpack_format");
    for entry in std::fs::read_dir(kept).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let Some((length, rest)) = bytes.split_first_chunk() else {
            continue;
        };
        let length = rest.len().min(u16::from_le_bytes(*length).into());
        if let Ok(text) = str::from_utf8(&rest[..length]) {
            let (_, bytes) = allocated(|| Layout::compile(text));
            assert!(bytes <= 1 << 20, "{text:?}: {bytes} bytes allocated");
        }
    }

    // The costliest formats that are accepted.
    let runs = format!("<{}", "hH".repeat(MAX_FORMAT_BYTES / 2 - 1));
    for text in ["<65535h", "<1048576s", "<1048576x", &runs] {
        let (layout, bytes) = allocated(|| Layout::compile(text).unwrap());
        assert!(bytes <= 1 << 20, "{bytes} bytes allocated");
        for length in [0, 1, layout.size() - 1, layout.size() + 1, 1 << 24] {
            let data = vec![0; length];
            let (error, bytes) = allocated(|| layout.check(&data).unwrap_err());
            assert!(error.is_size());
            assert_eq!(bytes, 0, "a refusal allocates nothing");
            assert!(layout.decode(&data).is_err());
        }
        let record = vec![0; layout.size()];
        let (values, bytes) = allocated(|| layout.decode(&record).unwrap().count());
        assert_eq!((values, bytes), (layout.field_count(), 0));
    }
}
