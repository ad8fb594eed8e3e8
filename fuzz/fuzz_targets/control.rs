//! Any bytes as the control buffer of a receive.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rsecho::fuzzing::control(bytes));
