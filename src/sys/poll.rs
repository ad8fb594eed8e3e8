//! Sleeping until one of some descriptors is ready: ppoll(2) where the system has it, which
//! does not round the time, else poll(2).

use std::io;
use std::time::Duration;

/// Sleeps until one of `watched` is ready, for `timeout` at most (`None`: for ever). Returns how
/// many are; none after a signal.
#[cfg(any(
    target_os = "linux",
    target_os = "freebsd",
    target_os = "openbsd",
    target_os = "dragonfly",
))]
pub(super) fn poll(watched: &mut [libc::pollfd], timeout: Option<Duration>) -> io::Result<usize> {
    let time = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        // Below a thousand millions, which every C long holds.
        tv_nsec: timeout.subsec_nanos() as _,
    });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let length = watched.len() as _;
    // SAFETY: ppoll(2) reads and writes the live slice, of the length given, and reads the live
    // time, if there is one; a null signal mask changes none.
    polled(unsafe { libc::ppoll(watched.as_mut_ptr(), length, time, std::ptr::null()) })
}

#[cfg(not(any(
    target_os = "linux",
    target_os = "freebsd",
    target_os = "openbsd",
    target_os = "dragonfly",
)))]
pub(super) fn poll(watched: &mut [libc::pollfd], timeout: Option<Duration>) -> io::Result<usize> {
    let length = watched.len() as _;
    // SAFETY: poll(2) reads and writes the live slice, of the length given.
    polled(unsafe { libc::poll(watched.as_mut_ptr(), length, milliseconds(timeout)) })
}

/// What a call returned that says how many are ready.
pub(super) fn polled(count: libc::c_int) -> io::Result<usize> {
    usize::try_from(count).or_else(|_| {
        let error = io::Error::last_os_error();
        // A signal: the caller looks around and comes back.
        if error.kind() == io::ErrorKind::Interrupted {
            Ok(0)
        } else {
            Err(error)
        }
    })
}

/// For calls that take milliseconds. Rounded up: waking a moment early would make callers spin
/// until their deadline.
pub(super) fn milliseconds(timeout: Option<Duration>) -> libc::c_int {
    timeout.map_or(-1, |timeout| {
        timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as libc::c_int
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_rounded_up_and_bounded() {
        assert_eq!(milliseconds(None), -1);
        assert_eq!(milliseconds(Some(Duration::ZERO)), 0);
        assert_eq!(milliseconds(Some(Duration::from_nanos(1))), 1);
        assert_eq!(milliseconds(Some(Duration::from_micros(1001))), 2);
        assert_eq!(milliseconds(Some(Duration::MAX)), i32::MAX);
    }
}
