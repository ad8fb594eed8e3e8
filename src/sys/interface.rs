//! Network interfaces by name.

use std::ffi::CStr;

/// The name of the interface with this index; `None` where there is none (any more).
pub(crate) fn interface_name(index: u32) -> Option<String> {
    let mut name = [0 as libc::c_char; libc::IF_NAMESIZE];
    // SAFETY: if_indextoname(3) writes at most IF_NAMESIZE bytes, NUL included, to `name`.
    if unsafe { libc::if_indextoname(index, name.as_mut_ptr()) }.is_null() {
        return None;
    }
    // SAFETY: on success if_indextoname(3) has written a NUL-terminated string, and `name`
    // lives until it is copied.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) };
    Some(name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_loopback_and_no_interface_zero() {
        // Linux numbers the loopback of every network namespace 1 (net/core/dev.c).
        if cfg!(target_os = "linux") {
            assert_eq!(interface_name(1).as_deref(), Some("lo"));
        }
        assert_eq!(interface_name(0), None);
    }
}
