//! How much a reply may be, given the request.
//!
//! A forger can have us send replies to the source that it claims. RFC 9000 §8.1 limits them to
//! three times the bytes that came, as long as the source may be forged. In UDP without a handshake
//! it always may be. The factor of an echo is 1.

use std::net::IpAddr;

use super::Policy;
use crate::address::is_loopback;

/// Beyond loopback, by default.
const DEFAULT_MOST: f64 = 3.0;

/// Length of the headers of IPv4 (RFC 791) or IPv6 (RFC 8200), and of UDP (RFC 768).
fn header_bytes(ip: IpAddr) -> usize {
    8 + if ip.is_ipv4() { 20 } else { 40 }
}

/// See [`Policy::allows_reply`].
pub(super) fn allows(
    policy: &Policy,
    source: IpAddr,
    request_bytes: usize,
    reply_bytes: usize,
    copies: usize,
) -> bool {
    // An echo, or less.
    if reply_bytes <= request_bytes && copies <= 1 {
        return true;
    }
    let most = match policy.max_amplification {
        Some(most) => most,
        None if is_loopback(source) => return true,
        None => DEFAULT_MOST,
    };
    let headers = header_bytes(source);
    (copies * (reply_bytes + headers)) as f64 <= most * (request_bytes + headers) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allowed(most: Option<f64>, source: &str, request: usize, reply: usize) -> bool {
        let policy = Policy {
            max_amplification: most,
            ..Policy::default()
        };
        allows(&policy, source.parse().unwrap(), request, reply, 1)
    }

    #[test]
    fn three_times_the_bytes_on_the_wire_off_loopback() {
        // 28 + 4 bytes came, so 96 - 28 may go.
        assert!(allowed(None, "192.0.2.1", 4, 68));
        assert!(!allowed(None, "192.0.2.1", 4, 69));
        // 48 + 4 bytes came, so 156 - 48 may go.
        assert!(allowed(None, "2001:db8::1", 4, 108));
        assert!(!allowed(None, "2001:db8::1", 4, 109));
    }

    #[test]
    fn loopback_is_exempt_unless_a_limit_was_asked_for() {
        assert!(allowed(None, "127.0.0.1", 0, 65_507));
        assert!(allowed(None, "::1", 0, 65_507));
        assert!(!allowed(Some(3.0), "127.0.0.1", 0, 65_507));
        assert!(allowed(Some(1000.0), "192.0.2.1", 4, 32_000 - 28));
    }

    #[test]
    fn each_copy_of_a_reply_counts() {
        let allowed = |source: &str, copies| {
            let policy = Policy::default();
            allows(&policy, source.parse().unwrap(), 100, 100, copies)
        };
        assert!(allowed("192.0.2.1", 3) && !allowed("192.0.2.1", 4));
        assert!(allowed("127.0.0.1", 4));
    }

    proptest! {
        #[test]
        fn an_echo_is_always_allowed_and_the_factor_is_kept(
            v4: bool,
            most in 1.0..100.0,
            request in 0usize..65_536,
            reply in 0usize..65_536,
        ) {
            let source = if v4 { "192.0.2.1" } else { "2001:db8::1" };
            prop_assert!(allowed(Some(most), source, request, request));
            let headers = if v4 { 28.0 } else { 48.0 };
            let factor = (reply as f64 + headers) / (request as f64 + headers);
            prop_assert_eq!(allowed(Some(most), source, request, reply), factor <= most);
        }
    }
}
