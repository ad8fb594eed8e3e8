//! Any bytes as packets of large messages, for the decoder and for a server.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rsecho::fuzzing::transfer(bytes));
