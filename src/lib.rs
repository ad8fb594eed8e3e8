//! UDP and TCP echo servers, and clients for them.
//!
//! This is the core, without Python. The feature `python` adds thin wrappers (`src/python`).

#![deny(unsafe_code)]

pub mod address;
pub mod books;
pub mod client;
pub mod datagram;
pub mod error;
pub mod event;
#[cfg(all(any(test, feature = "fuzzing"), target_os = "linux"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod guard;
pub mod impair;
pub mod meter;
mod net;
pub mod proto;
pub mod respond;
pub mod server;
pub mod socket;
pub mod stamp;
mod sys;
pub mod throttle;
pub mod transfer;
pub mod unpack;
pub mod worker;

#[cfg(feature = "python")]
mod python;
