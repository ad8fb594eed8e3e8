//! How much a reply may be, given the request.
//!
//! Whoever forges a source has us send to it; what goes there must be worth no forger's
//! while. RFC 9000 §8.1 bounds it by three times what came, for as long as the source is
//! not known to be real, which in UDP without a handshake is always. Echo itself is 1.0.

use std::net::IpAddr;

use super::Policy;
use crate::address::is_loopback;

/// Off loopback, unless said otherwise.
const DEFAULT_MOST: f64 = 3.0;

/// What IPv4 (RFC 791) or IPv6 (RFC 8200), and UDP (RFC 768), put before a datagram's bytes.
fn header_bytes(ip: IpAddr) -> usize {
    8 + if ip.is_ipv4() { 20 } else { 40 }
}

/// Whether `policy` lets a request of so many bytes from `source` (a plain address: IPv4 is
/// not mapped) be answered with so many. Both are counted as they are on the wire.
pub(super) fn allows(
    policy: &Policy,
    source: IpAddr,
    request_bytes: usize,
    reply_bytes: usize,
    copies: usize,
) -> bool {
    // Nothing gained, nothing to count.
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
