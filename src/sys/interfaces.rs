//! The addresses of this machine, and its interfaces by name: getifaddrs(3),
//! if_indextoname(3), if_nameindex(3).

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Every IPv4 and IPv6 address of every interface, as now.
pub(crate) fn local_addresses() -> io::Result<Vec<IpAddr>> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: getifaddrs(3) stores the head of a list that it allocates.
    if unsafe { libc::getifaddrs(&raw mut first) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut next = first;
    // SAFETY: `next` is null or an element of the list, alive until freeifaddrs below.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        // SAFETY: ifa_addr is null or a sockaddr whose family says how long it is
        // (getifaddrs(3)).
        unsafe {
            let Some(address) = entry.ifa_addr.as_ref() else {
                continue;
            };
            match i32::from(address.sa_family) {
                libc::AF_INET => {
                    let v4 = entry.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned();
                    found.push(IpAddr::V4(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr))));
                }
                libc::AF_INET6 => {
                    let v6 = entry.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned();
                    found.push(IpAddr::V6(Ipv6Addr::from(v6.sin6_addr.s6_addr)));
                }
                _ => {}
            }
        }
    }
    // SAFETY: the list that getifaddrs(3) gave, freed once; nothing refers to it any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

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

/// The names of all interfaces, in the order of their indices.
pub(crate) fn interface_names() -> Vec<String> {
    // SAFETY: if_nameindex(3) gives null, or an array that it allocates, which ends with an
    // entry of index 0 and a null name.
    let first = unsafe { libc::if_nameindex() };
    let mut names = Vec::new();
    let mut next = first;
    // SAFETY: `next` is null, or an entry of the array at or before its last one, alive until
    // if_freenameindex below.
    while let Some(entry) = unsafe { next.as_ref() }
        && !entry.if_name.is_null()
    {
        // SAFETY: a name of the array is a NUL-terminated string (if_nameindex(3)).
        let name = unsafe { CStr::from_ptr(entry.if_name) };
        names.push(name.to_string_lossy().into_owned());
        // SAFETY: this entry is not the last one, so the next one is in the array.
        next = unsafe { next.add(1) };
    }
    if !first.is_null() {
        // SAFETY: the array that if_nameindex(3) gave, freed once; nothing refers to it any more.
        unsafe { libc::if_freenameindex(first) };
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_among_them() {
        assert!(local_addresses().unwrap().iter().any(IpAddr::is_loopback));
    }

    #[test]
    fn knows_the_loopback_and_no_interface_zero() {
        // Linux numbers the loopback of every network namespace 1 (net/core/dev.c).
        if cfg!(target_os = "linux") {
            assert_eq!(interface_name(1).as_deref(), Some("lo"));
            assert_eq!(interface_names().first().map(String::as_str), Some("lo"));
        }
        assert_eq!(interface_name(0), None);
    }
}
