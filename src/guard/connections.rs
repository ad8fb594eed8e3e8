//! Which TCP connections are taken in: who may connect, and how often at a time.
//!
//! Asked once a connection, by whichever worker accepted it. Memory is bounded by what there
//! is to count: a source is forgotten with its last connection.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::access::Access;
use super::{Policy, Source};
use crate::address::is_loopback;

/// Why a connection is closed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its source is on no `allow` list, or on the `deny` list.
    Denied,
    /// Its source has as many as it may have.
    Source,
}

/// The connections of one server, by source.
#[derive(Debug)]
pub(crate) struct Connections {
    access: Option<Access>,
    most: Option<usize>,
    /// std's hash has random keys: nobody can choose sources that meet.
    by_source: Mutex<HashMap<Source, usize>>,
}

impl Connections {
    pub(crate) fn new(policy: &Policy) -> Self {
        Self {
            access: Access::new(&policy.allow, &policy.deny),
            most: policy.connections_per_source,
            by_source: Mutex::default(),
        }
    }

    /// Takes a connection from this plain address in; to be given back by
    /// [`Connections::leave`].
    pub(crate) fn try_enter(&self, ip: IpAddr) -> Result<(), Refusal> {
        if self
            .access
            .as_ref()
            .is_some_and(|access| !access.admits(ip))
        {
            return Err(Refusal::Denied);
        }
        let Some(most) = self.most_of(ip) else {
            return Ok(());
        };
        let mut by_source = self.by_source();
        let count = by_source.entry(Source::of(ip)).or_default();
        if *count == most {
            return Err(Refusal::Source);
        }
        *count += 1;
        Ok(())
    }

    /// A connection that was taken in has ended.
    pub(crate) fn leave(&self, ip: IpAddr) {
        if self.most_of(ip).is_none() {
            return;
        }
        let mut by_source = self.by_source();
        let source = Source::of(ip);
        if let Some(count) = by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                by_source.remove(&source);
            }
        }
    }

    /// Connections that this source may have; `None`: any number.
    fn most_of(&self, ip: IpAddr) -> Option<usize> {
        match self.most {
            Some(most) => (most > 0).then_some(most),
            None => (!is_loopback(ip)).then_some(Policy::CONNECTIONS_PER_SOURCE),
        }
    }

    fn by_source(&self) -> MutexGuard<'_, HashMap<Source, usize>> {
        // Whole after every statement, also where one panicked that held the lock.
        self.by_source
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(most: Option<usize>) -> Connections {
        Connections::new(&Policy {
            connections_per_source: most,
            deny: vec!["192.0.2.66".parse().unwrap()],
            ..Policy::default()
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_source_has_its_own_number_and_gets_it_back() {
        let connections = connections(Some(2));
        for _ in 0..2 {
            assert_eq!(connections.try_enter(ip("192.0.2.1")), Ok(()));
            assert_eq!(connections.try_enter(ip("2001:db8::1")), Ok(()));
            assert_eq!(connections.try_enter(ip("127.0.0.1")), Ok(()));
        }
        assert_eq!(connections.try_enter(ip("192.0.2.1")), Err(Refusal::Source));
        assert_eq!(connections.try_enter(ip("127.0.0.1")), Err(Refusal::Source));
        assert_eq!(
            connections.try_enter(ip("2001:db8::2")),
            Err(Refusal::Source),
            "the same /64"
        );
        assert_eq!(connections.try_enter(ip("2001:db8:0:1::2")), Ok(()));
        assert_eq!(
            connections.try_enter(ip("192.0.2.66")),
            Err(Refusal::Denied)
        );
        connections.leave(ip("192.0.2.1"));
        assert_eq!(connections.try_enter(ip("192.0.2.1")), Ok(()));
    }

    #[test]
    fn a_source_is_forgotten_with_its_last_connection() {
        let connections = connections(None);
        for number in 0..1000u32 {
            let ip = IpAddr::from(number.to_be_bytes());
            connections.try_enter(ip).unwrap();
            connections.leave(ip);
        }
        assert!(connections.by_source().is_empty());
    }

    #[test]
    fn without_a_number_loopback_has_none_and_others_have_the_default() {
        let connections = connections(None);
        for _ in 0..Policy::CONNECTIONS_PER_SOURCE {
            assert_eq!(connections.try_enter(ip("192.0.2.1")), Ok(()));
            assert_eq!(connections.try_enter(ip("127.0.0.1")), Ok(()));
        }
        assert_eq!(connections.try_enter(ip("192.0.2.1")), Err(Refusal::Source));
        assert_eq!(connections.try_enter(ip("127.0.0.1")), Ok(()));
        let connections = self::connections(Some(0));
        assert!((0..10_000).all(|_| connections.try_enter(ip("192.0.2.1")).is_ok()));
    }
}
