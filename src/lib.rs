//! Echo servers for UDP and TCP, and what stands around them.
//!
//! This is the core without Python; `src/python` (feature `python`) wraps it thinly.

#![deny(unsafe_code)]

pub mod unpack;

#[cfg(feature = "python")]
mod python;
