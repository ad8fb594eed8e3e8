//! Why a transfer failed: what goes over the wire in an ABORT, and what its user is told.

use std::fmt;
use std::io::ErrorKind;

use crate::error::describe;

/// Why a transfer failed: the reasons of ABORT in docs/transfer.md, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The transfer is not known.
    Unknown = 1,
    /// The message exceeds the maximum length, or the rest of the quota.
    TooLarge = 2,
    /// Too many transfers are open, of this source or in total.
    TooMany = 3,
    /// A file of that name exists.
    Exists = 4,
    /// A file of that name and length exists; only its digest tells whether it is the same.
    ExistsAlike = 5,
    /// The name is invalid, or cannot be used there.
    BadName = 6,
    /// No file has that name, or it is not shared.
    NotFound = 7,
    /// The other side does not send, or does not receive.
    Refused = 8,
    /// The digest is wrong.
    Corrupt = 9,
    /// Reading or writing failed.
    Io = 10,
    /// There was no progress in time.
    TimedOut = 11,
    /// A user cancelled it.
    Cancelled = 12,
    /// The other side speaks another version of the protocol.
    Version = 13,
}

impl Reason {
    /// All reasons.
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

    /// The reason with this number on the wire.
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
    /// The reason.
    pub reason: Reason,
    /// The reason as text, with the way out: no capital, no full stop.
    pub text: String,
    /// True if the other side reported it.
    pub is_remote: bool,
}

impl Failure {
    /// A failure of this side.
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
