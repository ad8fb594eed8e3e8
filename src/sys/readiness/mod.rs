//! Which of many descriptors are ready: level-triggered, two implementations, one interface.
//!
//! Level-triggered means that what is still ready is told again by the next wait, so a
//! caller may do one step for each descriptor and leave the rest for later: nobody starves.
//!
//! Events carry a token only. What to do is known by the caller's own state, and an error
//! or a hang-up shows in the system call that the caller makes next.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

#[cfg(target_os = "linux")]
mod epoll;
mod poll;

#[cfg(target_os = "linux")]
pub(crate) use epoll::Epoll;
pub(crate) use poll::Poll;
/// The twin for systems without epoll; [`HAS_EPOLL`] says that it must not be reported.
#[cfg(not(target_os = "linux"))]
pub(crate) use poll::Poll as Epoll;

/// True where the system has epoll(7).
pub(crate) const HAS_EPOLL: bool = cfg!(target_os = "linux");

/// What a descriptor is watched for. Errors and hang-ups are always told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    /// There is something to read, to accept, or the end of a stream.
    Read,
    /// There is room to write.
    Write,
}

/// A set of watched descriptors, each with a token of the caller's choice.
///
/// Tokens should be small and dense: an implementation may keep a table of them.
pub(crate) trait Readiness: Sized + Send + 'static {
    /// The name by which statistics and tests know it.
    const NAME: &'static str;

    fn new() -> io::Result<Self>;

    /// Watches `fd`, which is not in the set.
    fn add(&mut self, fd: RawFd, token: u32, interest: Interest) -> io::Result<()>;

    /// Watches `fd`, which is in the set under `token`, for something else.
    fn change(&mut self, fd: RawFd, token: u32, interest: Interest) -> io::Result<()>;

    /// Stops watching. To be called before `fd` is closed: while a child of `fork` holds a
    /// copy, closing alone would leave it in the set for good (epoll(7), Q6).
    fn remove(&mut self, fd: RawFd, token: u32);

    /// Sleeps until something is ready or the time has passed (`None`: never); returns how
    /// many tokens [`Readiness::token`] has to give. A signal counts as "none".
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize>;

    /// The same for a time that is not rounded to milliseconds, where the system can sleep
    /// so (ppoll(2)); it may take a system call more.
    fn wait_exactly(&mut self, timeout: Duration) -> io::Result<usize>;

    /// The `index`-th token of the last wait, each at most once.
    fn token(&self, index: usize) -> u32;

    /// The descriptor that the set itself needs, if it needs one; whoever keeps it keeps
    /// its number from being used for something else.
    fn descriptor(&self) -> Option<Arc<OwnedFd>>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    const LONG: Option<Duration> = Some(Duration::from_secs(20));
    const NONE: Option<Duration> = Some(Duration::ZERO);

    fn tokens<R: Readiness>(set: &mut R, timeout: Option<Duration>) -> Vec<u32> {
        let count = set.wait(timeout).unwrap();
        let mut tokens: Vec<u32> = (0..count).map(|index| set.token(index)).collect();
        tokens.sort_unstable();
        tokens
    }

    fn tells_what_is_ready_until_it_is_no_more<R: Readiness>() {
        let mut set = R::new().unwrap();
        let pairs: Vec<_> = (0..5).map(|_| UnixStream::pair().unwrap()).collect();
        for (token, (near, _)) in (0u32..).zip(&pairs) {
            set.add(near.as_raw_fd(), token, Interest::Read).unwrap();
        }
        assert_eq!(tokens(&mut set, NONE), []);
        (&pairs[1].1).write_all(b"x").unwrap();
        (&pairs[4].1).write_all(b"x").unwrap();
        assert_eq!(tokens(&mut set, LONG), [1, 4]);
        assert_eq!(tokens(&mut set, LONG), [1, 4], "level-triggered");
        (&pairs[1].0).read_exact(&mut [0]).unwrap();
        assert_eq!(tokens(&mut set, LONG), [4]);
        set.change(pairs[2].0.as_raw_fd(), 2, Interest::Write)
            .unwrap();
        assert_eq!(tokens(&mut set, LONG), [2, 4]);
        set.remove(pairs[4].0.as_raw_fd(), 4);
        assert_eq!(tokens(&mut set, LONG), [2]);
        set.add(pairs[4].0.as_raw_fd(), 0x100, Interest::Read)
            .unwrap();
        assert_eq!(tokens(&mut set, LONG), [2, 0x100]);
    }

    fn tells_a_hang_up_whatever_the_interest<R: Readiness>() {
        let mut set = R::new().unwrap();
        let (near, far) = UnixStream::pair().unwrap();
        set.add(near.as_raw_fd(), 3, Interest::Read).unwrap();
        drop(far);
        assert_eq!(tokens(&mut set, LONG), [3]);
    }

    /// The shortest of many: a busy machine makes each of them longer.
    fn sleeps_exactly<R: Readiness>() {
        let mut set = R::new().unwrap();
        let (near, far) = UnixStream::pair().unwrap();
        set.add(near.as_raw_fd(), 3, Interest::Read).unwrap();
        let short = Duration::from_micros(200);
        let least = (0..50).map(|_| {
            let start = Instant::now();
            assert_eq!(set.wait_exactly(short).unwrap(), 0);
            start.elapsed()
        });
        let least = least.min().unwrap();
        assert!(least >= short, "not a moment early: {least:?}");
        #[cfg(target_os = "linux")]
        assert!(least < Duration::from_micros(900), "{least:?}");
        (&far).write_all(b"x").unwrap();
        let start = Instant::now();
        assert_eq!(set.wait_exactly(Duration::from_secs(20)).unwrap(), 1);
        assert_eq!(set.token(0), 3);
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn epoll() {
        sleeps_exactly::<Epoll>();
        tells_what_is_ready_until_it_is_no_more::<Epoll>();
        tells_a_hang_up_whatever_the_interest::<Epoll>();
    }

    #[test]
    fn portable() {
        sleeps_exactly::<Poll>();
        tells_what_is_ready_until_it_is_no_more::<Poll>();
        tells_a_hang_up_whatever_the_interest::<Poll>();
        assert_eq!(Poll::NAME, "portable");
    }
}
