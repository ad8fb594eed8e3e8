//! Why a transfer failed: what goes over the wire in an ABORT, and what its user is told.

use std::fmt;
use std::io::ErrorKind;

use crate::error::describe;

/// Why: the reasons of ABORT in docs/transfer.md, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No such transfer here.
    Unknown = 1,
    /// Longer than a message may be, or than what is left of the quota.
    TooLarge = 2,
    /// Too many are open, for this source or in all.
    TooMany = 3,
    /// Something else has that name.
    Exists = 4,
    /// Something of the same length has that name: its digest would tell.
    ExistsAlike = 5,
    /// A name that is none, or cannot be used there.
    BadName = 6,
    /// Nothing has that name, or it is not shared.
    NotFound = 7,
    /// That side does only the other of sending and receiving.
    Refused = 8,
    /// What came is not what was sent.
    Corrupt = 9,
    /// Reading or writing failed.
    Io = 10,
    /// No progress in time.
    TimedOut = 11,
    /// Somebody gave it up.
    Cancelled = 12,
    /// Another version of the protocol is spoken there.
    Version = 13,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 13] = [
        Reason::Unknown,
        Reason::TooLarge,
        Reason::TooMany,
        Reason::Exists,
        Reason::ExistsAlike,
        Reason::BadName,
        Reason::NotFound,
        Reason::Refused,
        Reason::Corrupt,
        Reason::Io,
        Reason::TimedOut,
        Reason::Cancelled,
        Reason::Version,
    ];

    /// By its number on the wire.
    pub fn from_wire(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == number)
    }

    /// Its name in reports, as in `too_large`.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Unknown => "unknown",
            Reason::TooLarge => "too_large",
            Reason::TooMany => "too_many",
            Reason::Exists => "exists",
            Reason::ExistsAlike => "exists_alike",
            Reason::BadName => "bad_name",
            Reason::NotFound => "not_found",
            Reason::Refused => "refused",
            Reason::Corrupt => "corrupt",
            Reason::Io => "io",
            Reason::TimedOut => "timed_out",
            Reason::Cancelled => "cancelled",
            Reason::Version => "version",
        }
    }
}

/// A transfer failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// The same for people, and the way out: no capital, no full stop.
    pub text: String,
    /// The other side said so.
    pub is_remote: bool,
}

impl Failure {
    /// This side's.
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self {
            reason,
            text: text.into(),
            is_remote: false,
        }
    }

    /// Of a read or write; `what` reads after "cannot". No room on a disk or in a quota is
    /// `TooLarge`, none in memory that others have for now is `TooMany`.
    pub fn io(what: &str, error: &std::io::Error) -> Self {
        let reason = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Reason::TooLarge
            }
            ErrorKind::OutOfMemory => Reason::TooMany,
            _ => Reason::Io,
        };
        let why = match error.raw_os_error() {
            Some(errno) => describe(errno, error),
            None => error.to_string(),
        };
        Self::new(reason, format!("cannot {what}: {why}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}
