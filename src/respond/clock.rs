//! The time as text.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::sys::clock::{LocalTime, local_time};

/// How exact a time is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precision {
    Seconds,
    Microseconds,
}

/// The time since 1970 began; none before that.
pub(super) fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// The time as ISO 8601 has it (and RFC 3339), local with its offset from UTC, as in
/// `2026-11-20T13:00:00+01:00`; `None` where the system cannot say.
pub(super) fn now_as_text(precision: Precision) -> Option<Vec<u8>> {
    let now = since_1970();
    let local = local_time(now.as_secs())?;
    Some(text(&local, now.subsec_micros(), precision))
}

fn text(time: &LocalTime, microseconds: u32, precision: Precision) -> Vec<u8> {
    let mut text = Vec::with_capacity(32);
    // Writing to memory does not fail.
    let _ = write!(
        text,
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        time.year, time.month, time.day, time.hour, time.minute, time.second
    );
    if precision == Precision::Microseconds {
        let _ = write!(text, ".{microseconds:06}");
    }
    let sign = if time.offset_seconds < 0 { '-' } else { '+' };
    // Offsets of seconds ended with the local mean times of a century ago.
    let minutes = time.offset_seconds.unsigned_abs() / 60;
    let _ = write!(text, "{sign}{:02}:{:02}", minutes / 60, minutes % 60);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_iso_8601_with_the_offset() {
        let at = |offset_seconds| LocalTime {
            year: 2026,
            month: 1,
            day: 2,
            hour: 3,
            minute: 4,
            second: 5,
            offset_seconds,
        };
        for (offset, precision, wanted) in [
            (0, Precision::Seconds, "2026-01-02T03:04:05+00:00"),
            (3600, Precision::Seconds, "2026-01-02T03:04:05+01:00"),
            (
                -12_600,
                Precision::Microseconds,
                "2026-01-02T03:04:05.000078-03:30",
            ),
        ] {
            assert_eq!(text(&at(offset), 78, precision), wanted.as_bytes());
        }
    }
}
