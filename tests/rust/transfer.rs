//! Large messages over UDP without sockets or a clock: what flows do to a path, what faults 36 to
//! 40 do to transfers, and the bytes of each packet (tests/vectors/transfer.json).

#[path = "transfer/faults.rs"]
mod faults;
#[path = "transfer/flows.rs"]
mod flows;
#[path = "transfer/helper.rs"]
mod helper;
#[path = "transfer/packets.rs"]
mod packets;
