//! Threads: signals kept away, CPUs kept to, sleeps that end on time.

use std::io;
use std::time::Duration;

/// Blocks every signal in the calling thread: pthread_sigmask(3).
///
/// Signals are for the main thread (Python runs its handlers there); a worker would only
/// find its sleep cut short.
pub(crate) fn block_signals() {
    // SAFETY: sigfillset(3) initialises the set; pthread_sigmask(3) reads it and takes a
    // null pointer for the old one.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// The CPUs that this process may use: sched_getaffinity(2); empty where that is unknown.
#[cfg(target_os = "linux")]
pub(crate) fn allowed_cpus() -> Vec<usize> {
    // SAFETY: zero is a value of cpu_set_t; sched_getaffinity(2) writes at most its size;
    // CPU_ISSET reads within it, by the range.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) < 0 {
            return Vec::new();
        }
        (0..libc::CPU_SETSIZE as usize)
            .filter(|cpu| libc::CPU_ISSET(*cpu, &set))
            .collect()
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn allowed_cpus() -> Vec<usize> {
    Vec::new()
}

/// Binds the calling thread to one CPU: sched_setaffinity(2).
#[cfg(target_os = "linux")]
pub(crate) fn bind_to_cpu(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: CPU_SET writes within the set, by the check above; sched_setaffinity(2) reads
    // it. Thread 0 is the calling one.
    let done = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn bind_to_cpu(_: usize) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

/// Lets short sleeps of the calling thread end on time: PR_SET_TIMERSLACK (prctl(2)); the
/// 50 µs that are the default would double a nap.
#[cfg(target_os = "linux")]
pub(crate) fn sharpen_timers(slack: Duration) {
    let nanoseconds = slack.as_nanos().clamp(1, 1_000_000_000) as libc::c_ulong;
    // SAFETY: prctl(2) with PR_SET_TIMERSLACK takes an integer and concerns this thread.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanoseconds, 0, 0, 0) };
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn sharpen_timers(_: Duration) {}
