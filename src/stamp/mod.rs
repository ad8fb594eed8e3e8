//! STAMP (RFC 8762) and its TLVs (RFC 8972): packets, without I/O.

pub mod packet;
pub mod time;
pub mod tlv;
