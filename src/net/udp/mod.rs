//! A UDP socket's datagrams, in and out.
//!
//! Imports run one way: `endpoint → {link → plan, waiting → {gather, pace, owner}, reporting}
//! → engine`, `direct → link`, and `offload` is what both tell of trains.

pub(crate) mod direct;
pub(crate) mod endpoint;
pub(crate) mod engine;
mod gather;
mod hops;
mod link;
pub(crate) mod offload;
mod owner;
pub(crate) mod plan;
mod refused;
mod reporting;
pub(crate) mod waiting;

pub(crate) use endpoint::Endpoint;
pub(crate) use owner::shut_down;
pub(crate) use reporting::{is_one_address, report_destinations};
