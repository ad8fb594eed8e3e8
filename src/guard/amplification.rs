//! stub
use super::Policy;
use std::net::IpAddr;
pub(crate) fn allows(_: &Policy, _: IpAddr, _: usize, _: usize) -> bool {
    true
}
