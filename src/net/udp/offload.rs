//! Whether the kernel merges and cuts trains of datagrams for the engine, as it turns out.
//!
//! An engine without them serves as well, at the price of one that never had them: so what
//! the kernel refused is told, in the report of the socket and once in the log.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};

use crate::error::describe;
use crate::socket::{OptionReport, Severity, Value};

use super::engine::MAX_SEGMENTS;

/// What is known of UDP_GRO and UDP_SEGMENT (udp(7)) on the sockets of one server; of several
/// workers, the worst of any.
#[derive(Debug, Default)]
pub(crate) struct Offload {
    /// The engine is to have trains.
    is_wanted: bool,
    /// Why UDP_GRO was refused; 0: it was not.
    receive_errno: AtomicI32,
    /// Datagrams that one send may carry, and why they are not more; 0: nobody refused more.
    max_segments: AtomicUsize,
    send_errno: AtomicI32,
    /// How often the path to a peer refused a train.
    refused_by_path: AtomicU64,
}

impl Offload {
    /// Of a server whose engine is to have trains; asks the kernel whether it may.
    pub(crate) fn of(fd: RawFd, is_wanted: bool) -> Self {
        let offload = Self {
            is_wanted,
            max_segments: AtomicUsize::new(if is_wanted { MAX_SEGMENTS } else { 1 }),
            ..Self::default()
        };
        if let Err(error) = probe(fd, is_wanted) {
            let _ = offload.refuse_receive(&error);
        }
        offload
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// UDP_GRO was refused; the line to tell, if that is new.
    pub(crate) fn refuse_receive(&self, error: &io::Error) -> Option<String> {
        let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
        let old = self.receive_errno.swap(errno, Ordering::Relaxed);
        // Where datagrams are not merged, none are sent as trains either.
        self.max_segments.store(1, Ordering::Relaxed);
        (old == 0).then(|| receive_text(errno))
    }

    /// The kernel refused a train with this error, so that from now on one has at most so many
    /// datagrams; the line to tell, if that is new.
    pub(crate) fn limit_segments(&self, most: usize, error: &io::Error) -> Option<String> {
        let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
        if self.max_segments.fetch_min(most, Ordering::Relaxed) <= most {
            return None;
        }
        self.send_errno.store(errno, Ordering::Relaxed);
        Some(send_text(most, errno))
    }

    /// The path to a peer refused a train; the line to tell, if that is the first.
    pub(crate) fn refuse_path(&self) -> Option<String> {
        let before = self.refused_by_path.fetch_add(1, Ordering::Relaxed);
        (before == 0).then(|| path_text(1))
    }

    /// A line of the socket's report for each of the two.
    pub(crate) fn report(&self) -> [OptionReport; 2] {
        let receive_errno = self.receive_errno.load(Ordering::Relaxed);
        let segments = self.max_segments.load(Ordering::Relaxed);
        let send_errno = self.send_errno.load(Ordering::Relaxed);
        let by_path = self.refused_by_path.load(Ordering::Relaxed);
        let is_on = self.is_wanted && receive_errno == 0;
        let line =
            |name, option, ceiling, requested, effective, warning: Option<String>| OptionReport {
                name,
                option,
                requested: Some(requested),
                effective: Some(effective),
                ceiling,
                sysctl: None,
                warning: warning.map(|text| (Severity::Warning, text)),
            };
        let number = |number: usize| Value::Number(number as u64);
        let wanted = if self.is_wanted { MAX_SEGMENTS } else { 1 };
        let send_warning = match (send_errno, by_path) {
            (0, 0) => None,
            (0, paths) => Some(path_text(paths)),
            (errno, _) => Some(send_text(segments, errno)),
        };
        [
            line(
                "receive_offload",
                "UDP_GRO",
                None,
                Value::Flag(self.is_wanted),
                Value::Flag(is_on),
                (receive_errno != 0).then(|| receive_text(receive_errno)),
            ),
            line(
                "max_segments",
                "UDP_SEGMENT",
                None,
                number(wanted),
                number(segments.max(1)),
                send_warning,
            ),
        ]
    }
}

fn words(errno: i32) -> String {
    describe(errno, &io::Error::from_raw_os_error(errno))
}

fn receive_text(errno: i32) -> String {
    format!(
        "UDP_GRO: refused: {}: trains of datagrams are neither merged nor sent, which costs a \
         system call's worth of work for each datagram",
        words(errno)
    )
}

fn send_text(most: usize, errno: i32) -> String {
    let instead = match most {
        0 | 1 => "datagrams are sent singly".to_owned(),
        most => format!("trains have at most {most} datagrams"),
    };
    format!(
        "UDP_SEGMENT: refused by the kernel or the driver: {}: from now on {instead}",
        words(errno)
    )
}

fn path_text(times: u64) -> String {
    format!(
        "UDP_SEGMENT: refused on the path to a peer, whose MTU is below a datagram's length \
         ({times} times): such a peer's datagrams are sent singly"
    )
}

/// Whether UDP_GRO could be turned on, which is left as it was.
#[cfg(target_os = "linux")]
fn probe(fd: RawFd, is_wanted: bool) -> io::Result<()> {
    use crate::sys::mmsg;
    if !is_wanted || mmsg::receive_offload(fd)? {
        return Ok(());
    }
    mmsg::set_receive_offload(fd, true)?;
    mmsg::set_receive_offload(fd, false)
}

#[cfg(not(target_os = "linux"))]
fn probe(_: RawFd, _: bool) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(errno: i32) -> io::Error {
        io::Error::from_raw_os_error(errno)
    }

    fn wanted() -> Offload {
        Offload {
            is_wanted: true,
            max_segments: AtomicUsize::new(MAX_SEGMENTS),
            ..Offload::default()
        }
    }

    #[test]
    fn what_was_refused_is_told_once_and_stays_in_the_report() {
        let offload = wanted();
        let [receive, send] = offload.report();
        assert_eq!((receive.warning, send.warning), (None, None));
        assert_eq!(receive.effective, Some(Value::Flag(true)));
        let told = offload.refuse_receive(&refused(libc::EPERM)).unwrap();
        assert!(
            told.contains("UDP_GRO: refused: operation not permitted"),
            "{told}"
        );
        assert_eq!(offload.refuse_receive(&refused(libc::EPERM)), None);
        let [receive, send] = offload.report();
        assert_eq!(receive.requested, Some(Value::Flag(true)));
        assert_eq!(receive.effective, Some(Value::Flag(false)));
        assert_eq!(receive.warning, Some((Severity::Warning, told)));
        assert_eq!(send.effective, Some(Value::Number(1)));
    }

    #[test]
    fn each_lower_limit_is_told_and_no_higher_one() {
        let offload = wanted();
        let limit = |most| offload.limit_segments(most, &refused(libc::EINVAL));
        if MAX_SEGMENTS > 64 {
            assert!(limit(64).unwrap().contains("at most 64"));
        }
        assert!(limit(1).unwrap().contains("sent singly"));
        assert_eq!(limit(1), None);
        assert_eq!(limit(64), None);
        let [_, send] = offload.report();
        assert_eq!(send.effective, Some(Value::Number(1)));
        assert!(send.warning.unwrap().1.contains("invalid argument"));
    }

    #[test]
    fn a_path_that_refuses_trains_limits_no_other() {
        let offload = wanted();
        assert!(offload.refuse_path().is_some());
        assert!(offload.refuse_path().is_none());
        let [_, send] = offload.report();
        assert_eq!(send.effective, Some(Value::Number(MAX_SEGMENTS as u64)));
        assert!(send.warning.unwrap().1.contains("(2 times)"));
    }
}
