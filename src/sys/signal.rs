//! Signals waited for by a thread of their own, and the end that needs nobody's consent.

use std::io;

/// A set of signals.
#[derive(Clone, Copy)]
pub(crate) struct Signals(libc::sigset_t);

impl Signals {
    /// Of these numbers; an error for one that is none.
    pub(crate) fn new(numbers: &[i32]) -> io::Result<Self> {
        // SAFETY: zero is a value of sigset_t; sigemptyset(3) and sigaddset(3) write it.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for number in numbers {
                if libc::sigaddset(&raw mut set, *number) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(Self(set))
        }
    }

    /// Sleeps until one of them comes, which is to be blocked in every thread; its number.
    pub(crate) fn wait(&self) -> io::Result<i32> {
        let mut number = 0;
        // SAFETY: sigwait(3) reads the set and writes the number; both are live.
        match unsafe { libc::sigwait(&raw const self.0, &raw mut number) } {
            0 => Ok(number),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Whether this is what a terminal sends as it closes: SIGHUP, signal(7).
pub(crate) fn is_hang_up(number: i32) -> bool {
    number == libc::SIGHUP
}

/// Ends the process at once: _exit(2). Nothing is flushed, and nobody is asked.
pub(crate) fn end_process(status: i32) -> ! {
    // SAFETY: _exit(2) takes an integer, and does not return.
    unsafe { libc::_exit(status) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_no_signals_is_refused() {
        assert!(Signals::new(&[libc::SIGTERM, libc::SIGINT]).is_ok());
        assert!(Signals::new(&[12_345]).is_err());
    }
}
