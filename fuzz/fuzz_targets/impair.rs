//! Any text as impairments, and as a trace of them.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rsecho::fuzzing::impair(bytes));
