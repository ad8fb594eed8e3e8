//! What is impaired of streams: Toxiproxy's toxics, and three of ours.

mod parse;
mod print;
mod shaper;
mod spec;

pub use spec::{Accept, Effect, Toxic, Toxics};

pub(crate) use shaper::{Action, Shaper};
