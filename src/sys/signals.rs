//! Keeping signals away from worker threads.

/// Blocks every signal in the calling thread: pthread_sigmask(3).
///
/// Signals are for the main thread (Python runs its handlers there); a worker would only
/// find its sleep cut short.
pub(crate) fn block_all() {
    // SAFETY: sigfillset(3) initialises the set; pthread_sigmask(3) reads it and takes a
    // null pointer for the old one.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}
