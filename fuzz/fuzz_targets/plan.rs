//! Any receives, planned batch by batch.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rsecho::fuzzing::plan(bytes));
