//! The platform: system calls that neither std nor socket2 offers, and nothing else.
//!
//! # Contract
//!
//! Every platform provides, under these names:
//!
//! | item | what it promises |
//! |---|---|
//! | [`RawAddress`] | a socket address as the kernel writes it, compared and read without conversion |
//! | [`message`] | one datagram in, one out, with the address it was sent to |
//! | [`Waker`] | `wake` from any thread or after a fork makes a sleeping [`wait_readable`] return |
//! | [`stream`] | accept(2), and one connection's calls: none waits, none raises SIGPIPE |
//! | [`readiness`] | which of many descriptors are ready, by epoll(7) or by poll(2) |
//! | [`timestamps`] | when the kernel received and sent; `Unsupported` where it does not say |
//! | [`option`] | socket options that socket2 lacks; `Unsupported` where the system has none |
//! | [`signal`] | a thread that waits for signals; an end of the process that waits for nothing |
//! | [`files`] | files by one name in an open directory: no path, no link is followed; a new name that overwrites nothing |
//! | [`clock`] | the local time, with its offset; the machine's name |
//! | [`interface_name`] | the name of a network interface, by the number in a scoped address |
//! | [`interface_names`] | the names of all network interfaces |
//! | [`abandon`] | a descriptor inherited by `fork` lets go of its socket, its number staying valid |
//!
//! All `unsafe` of this crate is below this folder, but for Python's buffer protocol and for calls
//! that may be unwound (`python/buffer.rs` and `python/calls.rs` say why). Each block argues from
//! the man page.

#![allow(unsafe_code)]

pub(crate) mod clock;
pub(crate) mod control;
pub(crate) mod datagram;
mod descriptor;
pub(crate) mod files;
mod interfaces;
pub(crate) mod message;
#[cfg(target_os = "linux")]
pub(crate) mod mmsg;
pub(crate) mod option;
mod poll;
mod raw_address;
pub(crate) mod readiness;
// Only the command waits for signals.
#[cfg_attr(not(feature = "python"), allow(dead_code))]
pub(crate) mod signal;
#[cfg(target_os = "linux")]
mod slab;
pub(crate) mod stream;
pub(crate) mod thread;
pub(crate) mod timestamps;
mod wake;

#[cfg(feature = "python")]
pub(crate) use descriptor::exit_now;
pub(crate) use descriptor::{abandon, borrow, process_id, spare_descriptor};
pub(crate) use interfaces::{interface_name, interface_names, local_addresses};
pub use raw_address::RawAddress;
pub(crate) use wake::{Ready, Waker, condition, wait_either, wait_readable, wait_writable};
