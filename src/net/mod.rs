//! How bytes come and go, fast: sockets, and nothing of what is done with what they carry.

pub(crate) mod choice;
pub(crate) mod pace;
pub(crate) mod udp;
