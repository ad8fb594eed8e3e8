//! What was requested from the kernel, what it granted, and why they differ.

use std::fmt;
use std::time::Duration;

/// The value of a socket option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// On or off.
    Flag(bool),
    /// A count, or a number of bytes; the option's name says which.
    Number(u64),
    /// A time; zero for none.
    Time(Duration),
    /// A name (of an interface, of an algorithm).
    Text(String),
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Value::Flag(flag)
    }
}

impl From<u8> for Value {
    fn from(number: u8) -> Self {
        Value::Number(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Value::Number(number.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Value::Number(number as u64)
    }
}

impl From<Duration> for Value {
    fn from(time: Duration) -> Self {
        Value::Time(time)
    }
}

impl From<Option<Duration>> for Value {
    fn from(time: Option<Duration>) -> Self {
        Value::Time(time.unwrap_or_default())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

/// A kernel's name, which ends with NUL.
impl From<Vec<u8>> for Value {
    fn from(name: Vec<u8>) -> Self {
        let text = String::from_utf8_lossy(&name);
        Value::Text(text.trim_end_matches('\0').to_owned())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Flag(true) => f.write_str("on"),
            Value::Flag(false) => f.write_str("off"),
            Value::Number(number) => number.fmt(f),
            Value::Time(time) => write!(f, "{time:?}"),
            Value::Text(text) => text.fmt(f),
        }
    }
}

/// How much a difference matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The kernel did something that explains the figures (it doubled the size).
    Notice,
    /// The kernel granted less than was requested, or something else.
    Warning,
}

/// One option of one socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionReport {
    /// The name by which this crate sets it, as in `recv_buffer_bytes`.
    pub name: &'static str,
    /// The kernel's name, as in `SO_RCVBUF`.
    pub option: &'static str,
    /// The requested value; `None`: none, so the system's default applies.
    pub requested: Option<Value>,
    /// The value that the kernel reports; `None`: it cannot be read.
    pub effective: Option<Value>,
    /// The largest value that the kernel accepts.
    pub ceiling: Option<u64>,
    /// The sysctl that sets the ceiling.
    pub sysctl: Option<&'static str>,
    /// The difference, its reason and the way out, in one line.
    pub warning: Option<(Severity, String)>,
}

/// The options of one socket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SocketReport {
    /// In the order in which they are set.
    pub options: Vec<OptionReport>,
}

impl SocketReport {
    /// The report of one option.
    pub fn get(&self, name: &str) -> Option<&OptionReport> {
        self.options.iter().find(|report| report.name == name)
    }

    pub(crate) fn add(&mut self, report: OptionReport) {
        self.options.push(report);
    }
}

/// The warning for a buffer: Linux stores twice what it takes, and takes at most the
/// ceiling (socket(7), net/core/sock.c `__sock_set_rcvbuf`).
pub(crate) fn judge_buffer(
    option: &str,
    requested: u64,
    effective: u64,
    ceiling: Option<u64>,
    sysctl: &str,
) -> Option<(Severity, String)> {
    let doubled = requested.saturating_mul(2);
    // Where there is no ceiling to read, nothing is known of doubling either.
    if effective == requested && ceiling.is_none() {
        return None;
    }
    if effective == doubled {
        return Some((
            Severity::Notice,
            format!(
                "{option}: the kernel stores {effective} bytes for the {requested} asked for: \
                 it doubles them to cover its own bookkeeping (socket(7))"
            ),
        ));
    }
    if effective > doubled {
        return Some((
            Severity::Notice,
            format!(
                "{option}: the kernel stores {effective} bytes for the {requested} asked for: \
                 that is the least it gives"
            ),
        ));
    }
    let text = match ceiling {
        Some(ceiling) if requested > ceiling => format!(
            "{option}: asked for {requested} bytes, the kernel took {ceiling} and stores \
             {effective}: raise its ceiling with `sysctl -w {sysctl}={requested}`, or force it \
             with CAP_NET_ADMIN"
        ),
        _ => format!("{option}: asked for {requested} bytes, the kernel stores {effective}"),
    };
    Some((Severity::Warning, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_may_be_doubled_raised_clamped_or_as_asked() {
        let judge = |requested, effective| {
            judge_buffer(
                "SO_RCVBUF",
                requested,
                effective,
                Some(1000),
                "net.core.rmem_max",
            )
        };
        assert_eq!(
            judge_buffer("SO_RCVBUF", 500, 500, None, "net.core.rmem_max"),
            None
        );
        // Clamped to the ceiling and then doubled: as many as asked for, and half as useful.
        assert_eq!(judge(2000, 2000).unwrap().0, Severity::Warning);
        assert_eq!(judge(500, 1000).unwrap().0, Severity::Notice);
        assert_eq!(judge(5, 2304).unwrap().0, Severity::Notice);
        let (severity, text) = judge(4000, 2000).unwrap();
        assert_eq!(severity, Severity::Warning);
        assert!(text.contains("sysctl -w net.core.rmem_max=4000"), "{text}");
    }
}
