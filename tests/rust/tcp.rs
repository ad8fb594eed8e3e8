//! The TCP echo server, by its public interface: one suite, run against both engines.
//! Tests named after a line of the fault table (`f24_…`) check what it promises.

#[path = "tcp/helper.rs"]
mod helper;

#[path = "tcp/conformance.rs"]
mod conformance;
#[path = "tcp/deadlines.rs"]
mod deadlines;
#[path = "tcp/faults.rs"]
mod faults;
#[path = "tcp/limits.rs"]
mod limits;
#[path = "tcp/process.rs"]
mod process;
#[path = "tcp/responders.rs"]
mod responders;
#[path = "tcp/sources.rs"]
mod sources;
#[path = "tcp/stopping.rs"]
mod stopping;
#[path = "tcp/telling.rs"]
mod telling;
#[path = "tcp/toxics.rs"]
mod toxics;
#[path = "tcp/waiting.rs"]
mod waiting;
