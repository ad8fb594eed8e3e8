//! Any datagrams, and any time between them, for the tutorial's receiver.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rsecho::fuzzing::plain(bytes));
