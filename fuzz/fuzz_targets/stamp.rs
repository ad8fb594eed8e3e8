//! Any bytes as a packet of STAMP.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rsecho::fuzzing::stamp(bytes));
