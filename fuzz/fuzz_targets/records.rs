//! A stream cut into records, in any pieces.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rsecho::fuzzing::records(bytes));
