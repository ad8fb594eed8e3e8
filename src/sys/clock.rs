//! The time of day where this process is, and the name of the machine it is on.

use std::io;
use std::mem::MaybeUninit;

unsafe extern "C" {
    /// tzset(3), which POSIX has and the libc crate has not everywhere.
    fn tzset();
}

/// A moment as a calendar and a clock on the wall show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LocalTime {
    pub(crate) year: i64,
    /// 1 to 12.
    pub(crate) month: u8,
    pub(crate) day: u8,
    pub(crate) hour: u8,
    pub(crate) minute: u8,
    /// 60 in a leap second, where the system shows those.
    pub(crate) second: u8,
    /// How far ahead of UTC the clock is; negative to the west.
    pub(crate) offset_seconds: libc::c_long,
}

/// Reads the time zone (the environment's TZ, or /etc/localtime), for [`local_time`].
///
/// To be called before the threads that ask for the time start: the environment must not be
/// read while another thread may write to it, and later calls find it read already.
pub(crate) fn read_time_zone() {
    // SAFETY: tzset(3) takes no argument; it sets the C library's own state under its lock.
    unsafe { tzset() }
}

/// The local time so many seconds after 1970 began (UTC); `None` where the system cannot say.
pub(crate) fn local_time(since_1970: u64) -> Option<LocalTime> {
    let time = libc::time_t::try_from(since_1970).ok()?;
    let mut parts = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: localtime_r(3) reads the live time and writes the live structure; it returns
    // null when the year does not fit.
    if unsafe { libc::localtime_r(&raw const time, parts.as_mut_ptr()) }.is_null() {
        return None;
    }
    // SAFETY: zeroed memory is a `tm` (integers and a pointer), which has been filled in.
    let parts = unsafe { parts.assume_init() };
    Some(LocalTime {
        year: i64::from(parts.tm_year) + 1900,
        month: parts.tm_mon as u8 + 1,
        day: parts.tm_mday as u8,
        hour: parts.tm_hour as u8,
        minute: parts.tm_min as u8,
        second: parts.tm_sec as u8,
        offset_seconds: parts.tm_gmtoff,
    })
}

/// Appends the name of this machine: gethostname(2).
pub(crate) fn append_host_name(to: &mut Vec<u8>) -> io::Result<()> {
    // SUSv2 grants 255 bytes, Linux 64; one more for the NUL.
    let mut name = [0u8; 256];
    // SAFETY: gethostname(2) writes at most the length given to the live array, whose last
    // byte it is not told of and which stays 0.
    if unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) } < 0 {
        return Err(io::Error::last_os_error());
    }
    to.extend(name.iter().take_while(|byte| **byte != 0));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_time_is_utc_and_its_offset() {
        read_time_zone();
        // 2026-11-20 13:00:01 UTC.
        let since_1970 = 1_795_179_601;
        let time = local_time(since_1970).unwrap();
        let clock =
            i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + i64::from(time.second);
        let utc = (clock - time.offset_seconds).rem_euclid(86_400);
        assert_eq!(utc, 13 * 3600 + 1);
        assert_eq!((time.year, time.month), (2026, 11));
    }

    #[test]
    fn a_host_has_a_name() {
        let mut name = b"on ".to_vec();
        append_host_name(&mut name).unwrap();
        assert!(name.starts_with(b"on ") && name.len() > 3 && !name.contains(&0));
    }
}
