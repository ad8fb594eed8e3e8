//! One error for everything that touches a socket: what was tried, on what, why not, and
//! the way out, in one line.

use std::fmt;
use std::io;

/// Shorthand for results with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What was tried, on what, why it failed, and the way out.
///
/// Opaque on purpose: ask the predicates, or [`Error::errno`], rather than match on text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    operation: &'static str,
    subject: String,
    reason: String,
    way_out: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The operating system refused, with this `errno`.
    System(i32),
    /// An argument that can never work.
    Argument,
    /// A host name that has no (such) address.
    Resolve,
    /// Nothing came in time.
    Timeout,
    /// The object is not in a state in which this can be done.
    State,
    /// The peer ended the stream before all that was wanted had come.
    Ended,
    /// Somebody else's code has not returned in time.
    Unfinished,
}

impl Error {
    /// A refused system call. `operation` reads after "cannot", as in `bind`.
    pub fn system(operation: &'static str, subject: impl fmt::Display, source: &io::Error) -> Self {
        // io::Error without a number is std's own (an address it could not parse, say).
        let errno = source.raw_os_error().unwrap_or(libc::EINVAL);
        Self {
            kind: Kind::System(errno),
            operation,
            subject: subject.to_string(),
            reason: describe(errno, source),
            way_out: way_out(operation, errno),
        }
    }

    /// An argument that can never work; `reason` states the rule.
    pub fn argument(
        operation: &'static str,
        subject: impl fmt::Display,
        reason: impl fmt::Display,
    ) -> Self {
        Self::plain(Kind::Argument, operation, subject, reason)
    }

    /// A name that could not be turned into an address.
    pub fn resolve(subject: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self::plain(Kind::Resolve, "resolve", subject, reason)
    }

    /// Nothing came in time; `reason` says how long was waited for what.
    pub fn timeout(
        operation: &'static str,
        subject: impl fmt::Display,
        reason: impl fmt::Display,
    ) -> Self {
        Self::plain(Kind::Timeout, operation, subject, reason)
    }

    /// The object cannot do this now; `reason` says what it is doing or that it has ended.
    pub fn state(
        operation: &'static str,
        subject: impl fmt::Display,
        reason: impl fmt::Display,
    ) -> Self {
        Self::plain(Kind::State, operation, subject, reason)
    }

    /// The peer ended the stream early; `reason` says how much was missing.
    pub fn ended(
        operation: &'static str,
        subject: impl fmt::Display,
        reason: impl fmt::Display,
    ) -> Self {
        Self::plain(Kind::Ended, operation, subject, reason)
    }

    /// Somebody else's code has not returned in time; `reason` says whose, and where.
    pub fn unfinished(
        operation: &'static str,
        subject: impl fmt::Display,
        reason: impl fmt::Display,
    ) -> Self {
        Self::plain(Kind::Unfinished, operation, subject, reason)
    }

    fn plain(
        kind: Kind,
        operation: &'static str,
        subject: impl fmt::Display,
        reason: impl fmt::Display,
    ) -> Self {
        Self {
            kind,
            operation,
            subject: subject.to_string(),
            reason: reason.to_string(),
            way_out: None,
        }
    }

    /// The same error with this way out.
    #[must_use]
    pub fn or(mut self, way_out: impl fmt::Display) -> Self {
        self.way_out = Some(way_out.to_string());
        self
    }

    /// The same error with this reason, where the system's words mislead.
    #[must_use]
    pub fn because(mut self, reason: impl fmt::Display) -> Self {
        self.reason = reason.to_string();
        self
    }

    /// The same error in the caller's words: what was tried, on what.
    #[must_use]
    #[cfg_attr(not(feature = "python"), allow(dead_code))]
    pub(crate) fn instead(mut self, operation: &'static str, subject: impl fmt::Display) -> Self {
        (self.operation, self.subject) = (operation, subject.to_string());
        self
    }

    /// The system's error number: of the call that failed, or by which the system would say
    /// that nothing came in time.
    pub fn errno(&self) -> Option<i32> {
        match self.kind {
            Kind::System(errno) => Some(errno),
            Kind::Timeout | Kind::Unfinished => Some(libc::ETIMEDOUT),
            _ => None,
        }
    }

    /// True for an argument that can never work.
    pub fn is_argument(&self) -> bool {
        self.kind == Kind::Argument
    }

    /// True for a name that could not be resolved.
    pub fn is_resolve(&self) -> bool {
        self.kind == Kind::Resolve
    }

    /// True when nothing came in time.
    pub fn is_timeout(&self) -> bool {
        self.errno() == Some(libc::ETIMEDOUT)
    }

    /// True when somebody else's code has not returned in time; [`Error::is_timeout`] is true
    /// as well.
    pub fn is_unfinished(&self) -> bool {
        self.kind == Kind::Unfinished
    }

    /// True when the object was not in a state for it (already stopped, say).
    pub fn is_state(&self) -> bool {
        self.kind == Kind::State
    }

    /// True when the peer ended the stream early.
    pub fn is_end_of_stream(&self) -> bool {
        self.kind == Kind::Ended
    }

    /// True when another socket has the address.
    pub fn is_address_in_use(&self) -> bool {
        self.errno() == Some(libc::EADDRINUSE)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot {} {}: {}",
            self.operation, self.subject, self.reason
        )?;
        match &self.way_out {
            Some(way_out) => write!(f, "; {way_out}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// The system's words for an error, without the number that std appends.
pub fn describe(errno: i32, source: &io::Error) -> String {
    let text = source.to_string();
    let suffix = format!(" (os error {errno})");
    let text = text.strip_suffix(&suffix).unwrap_or(&text);
    let mut letters = text.chars();
    match letters.next() {
        // "Address already in use" goes in the middle of a sentence.
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// What a user can do about it, where that follows from the number alone; see
/// `socket/refusal.rs` for what depends on this machine.
fn way_out(operation: &str, errno: i32) -> Option<String> {
    let text = match (operation, errno) {
        ("open a socket for", libc::EAFNOSUPPORT) => {
            "this kernel has no IPv6, or no IPv4: use an address of the other family"
        }
        ("connect to" | "exchange with", libc::ECONNREFUSED) => {
            "nothing listens there: check the port, and that the server is up"
        }
        ("connect to" | "exchange with", libc::ENETUNREACH) => {
            "no route leads there: check the address and `ip route get`"
        }
        ("connect to" | "exchange with", libc::EHOSTUNREACH) => {
            "no route leads there, or the host is down: check the address and `ip route get`"
        }
        ("connect to" | "exchange with", libc::ETIMEDOUT) => {
            "no answer came: check the address, and firewalls on the way"
        }
        ("connect to" | "exchange with", libc::ECONNRESET | libc::EPIPE) => {
            "the server closed the connection: it is full, refuses this address, or has ended"
        }
        (_, libc::EMSGSIZE) => {
            "a datagram has at most 65507 bytes over IPv4 and 65527 over IPv6: send less, or send \
             it over TCP"
        }
        (_, libc::EMFILE) => {
            "this process has as many files open as it may: raise its limit (`ulimit -n`), or \
             open fewer"
        }
        (_, libc::ENFILE) => {
            "this machine has as many files open as it may: raise its limit \
             (`sysctl fs.file-max`)"
        }
        (_, libc::ENOBUFS | libc::ENOMEM) => {
            "the kernel has no memory left for it: ask for smaller buffers, or for fewer sockets"
        }
        (_, libc::EPERM) => {
            "a packet filter forbids it (see `nft list ruleset`), or a capability is missing"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_where_why_and_the_way_out_in_one_line() {
        let refused = io::Error::from_raw_os_error(libc::EADDRINUSE);
        let error = Error::system("bind", "udp://127.0.0.1:9999", &refused);
        let text = error.to_string();
        assert_eq!(
            text,
            "cannot bind udp://127.0.0.1:9999: address already in use"
        );
        let text = error.clone().or("take another port").to_string();
        assert!(text.ends_with("in use; take another port"), "{text}");
        assert!(error.is_address_in_use());
        assert_eq!(error.errno(), Some(libc::EADDRINUSE));
    }

    #[test]
    fn kinds_do_not_overlap() {
        let error = Error::argument("use port", 65536, "a port is a number from 0 to 65535");
        assert!(error.is_argument() && !error.is_state() && !error.is_timeout());
        assert_eq!(error.errno(), None);
        let timeout = Error::timeout("read", "x", "nothing came");
        assert!(timeout.is_timeout() && !timeout.is_unfinished());
        let unfinished = Error::unfinished("stop", "x", "its worker is busy");
        assert!(unfinished.is_timeout() && unfinished.is_unfinished());
    }
}
