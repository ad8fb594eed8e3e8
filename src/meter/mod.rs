//! What came back, how late, and where the rest was lost: the arithmetic of a meter, without I/O.
//!
//! A [`session::Session`] is told when each probe was to be sent, when it was sent, and which
//! replies came. It matches them ([`window`]), and keeps what is printed in memory that does not
//! grow with the run: distributions ([`distribution`]), loss runs ([`loss`]), delay variation
//! ([`variation`]) and reordering ([`reordering`]).
//!
//! Each figure names the RFC that defines it. Times are nanoseconds.

pub mod distribution;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod laws;
pub mod loss;
pub mod pinger;
pub mod probe;
pub mod reordering;
pub mod schedule;
pub mod session;
pub mod variation;
pub mod window;
