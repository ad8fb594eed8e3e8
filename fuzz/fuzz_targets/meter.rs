//! Probes, replies and times in any order, for the meter.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rsecho::fuzzing::meter(bytes));
