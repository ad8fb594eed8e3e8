//! STAMP (RFC 8762) and its TLVs (RFC 8972): packets, without I/O.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod laws;
pub mod packet;
pub mod time;
pub mod tlv;
