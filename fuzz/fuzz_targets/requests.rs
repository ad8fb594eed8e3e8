//! A stream cut into requests, in any pieces.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rsecho::fuzzing::requests(bytes));
