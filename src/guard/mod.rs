//! WHETHER to answer. One file a protection, one drop reason each.

pub(crate) mod sources;
