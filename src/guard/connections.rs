//! Which TCP connections are served: from which networks, how many per source at a time, and how
//! many new ones per source and second.
//!
//! Asked once per connection, by the worker that accepted it.
//!
//! Rule 1: memory is bounded. A source's count is forgotten with its last connection, so there
//! are no more counts than connections; the token buckets are a table that never grows.
//! Rule 2: a connection that is refused takes neither a token nor a place.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::access::Access;
use super::rates::Rates;
use super::{Policy, Source};
use crate::address::is_loopback;

/// Why a connection is closed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its source is on no `allow` list, or on the `deny` list.
    Denied,
    /// Its source has as many as it may have.
    Source,
    /// Its source has opened as many of late as it may.
    Rate,
}

/// The connections of one server, by source.
#[derive(Debug)]
pub(crate) struct Connections {
    access: Option<Access>,
    most: Option<usize>,
    /// One token per connection.
    rates: Option<Rates>,
    /// std's hash has random keys: nobody can choose sources that meet.
    by_source: Mutex<HashMap<Source, usize>>,
}

impl Connections {
    /// For a server with that many workers.
    pub(crate) fn new(policy: &Policy, workers: usize) -> Self {
        Self {
            access: Access::new(&policy.allow, &policy.deny),
            most: policy.connections_per_source,
            rates: Rates::new(policy.connection_rate_per_source, None, workers),
            by_source: Mutex::default(),
        }
    }

    /// Counts a connection in that comes from this plain address; to be undone by
    /// [`Connections::leave`].
    pub(crate) fn try_enter(&self, ip: IpAddr, now: Instant) -> Result<(), Refusal> {
        if self
            .access
            .as_ref()
            .is_some_and(|access| !access.admits(ip))
        {
            return Err(Refusal::Denied);
        }
        let source = Source::of(ip);
        let Some(most) = self.most_of(ip) else {
            return self.take_token(source, now);
        };
        let mut by_source = self.by_source();
        let count = by_source.get(&source).copied().unwrap_or_default();
        if count >= most {
            return Err(Refusal::Source);
        }
        self.take_token(source, now)?;
        by_source.insert(source, count + 1);
        Ok(())
    }

    fn take_token(&self, source: Source, now: Instant) -> Result<(), Refusal> {
        let Some(rates) = &self.rates else {
            return Ok(());
        };
        match rates
            .take(rates.tag(source), 1, rates.moment(now))
            .datagrams
        {
            0 => Err(Refusal::Rate),
            _ => Ok(()),
        }
    }

    /// A connection that was counted in has ended.
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

    /// How many connections this source may have open; `None`: no limit.
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
    use crate::guard::Rate;
    use std::time::Duration;

    fn connections(most: Option<usize>) -> Connections {
        Connections::new(
            &Policy {
                connections_per_source: most,
                deny: vec!["192.0.2.66".parse().unwrap()],
                ..Policy::default()
            },
            1,
        )
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_source_has_its_own_number_and_gets_it_back() {
        let connections = connections(Some(2));
        for _ in 0..2 {
            assert_eq!(
                connections.try_enter(ip("192.0.2.1"), Instant::now()),
                Ok(())
            );
            assert_eq!(
                connections.try_enter(ip("2001:db8::1"), Instant::now()),
                Ok(())
            );
            assert_eq!(
                connections.try_enter(ip("127.0.0.1"), Instant::now()),
                Ok(())
            );
        }
        assert_eq!(
            connections.try_enter(ip("192.0.2.1"), Instant::now()),
            Err(Refusal::Source)
        );
        assert_eq!(
            connections.try_enter(ip("127.0.0.1"), Instant::now()),
            Err(Refusal::Source)
        );
        assert_eq!(
            connections.try_enter(ip("2001:db8::2"), Instant::now()),
            Err(Refusal::Source),
            "the same /64"
        );
        assert_eq!(
            connections.try_enter(ip("2001:db8:0:1::2"), Instant::now()),
            Ok(())
        );
        assert_eq!(
            connections.try_enter(ip("192.0.2.66"), Instant::now()),
            Err(Refusal::Denied)
        );
        connections.leave(ip("192.0.2.1"));
        assert_eq!(
            connections.try_enter(ip("192.0.2.1"), Instant::now()),
            Ok(())
        );
    }

    #[test]
    fn a_source_is_forgotten_with_its_last_connection() {
        let connections = connections(None);
        for number in 0..1000u32 {
            let ip = IpAddr::from(number.to_be_bytes());
            connections.try_enter(ip, Instant::now()).unwrap();
            connections.leave(ip);
        }
        assert!(connections.by_source().is_empty());
    }

    #[test]
    fn without_a_number_loopback_has_none_and_others_have_the_default() {
        let connections = connections(None);
        for _ in 0..Policy::CONNECTIONS_PER_SOURCE {
            assert_eq!(
                connections.try_enter(ip("192.0.2.1"), Instant::now()),
                Ok(())
            );
            assert_eq!(
                connections.try_enter(ip("127.0.0.1"), Instant::now()),
                Ok(())
            );
        }
        assert_eq!(
            connections.try_enter(ip("192.0.2.1"), Instant::now()),
            Err(Refusal::Source)
        );
        assert_eq!(
            connections.try_enter(ip("127.0.0.1"), Instant::now()),
            Ok(())
        );
        let connections = self::connections(Some(0));
        assert!((0..10_000).all(|_| {
            connections
                .try_enter(ip("192.0.2.1"), Instant::now())
                .is_ok()
        }));
    }

    fn rated(per_second: f64, burst: u32, most: usize) -> Connections {
        let policy = Policy {
            connection_rate_per_source: Some(Rate::new(per_second, Some(burst))),
            connections_per_source: Some(most),
            ..Policy::default()
        };
        Connections::new(&policy, 2)
    }

    #[test]
    fn each_source_has_its_own_rate_on_loopback_as_well() {
        let connections = rated(10.0, 3, 0);
        let start = Instant::now();
        let let_in = |text: &str, count: u32, after_ms: u64| {
            let now = start + Duration::from_millis(after_ms);
            (0..count)
                .filter(|_| connections.try_enter(ip(text), now).is_ok())
                .count()
        };
        for source in ["192.0.2.1", "127.0.0.1", "2001:db8::1"] {
            assert_eq!(let_in(source, 9, 0), 3, "{source}");
        }
        assert_eq!(let_in("2001:db8::2", 9, 0), 0, "the same /64");
        assert_eq!(let_in("192.0.2.1", 9, 100), 1);
        assert_eq!(let_in("192.0.2.1", 9, 60_000), 3);
        let now = start + Duration::from_secs(60);
        assert_eq!(
            connections.try_enter(ip("192.0.2.1"), now),
            Err(Refusal::Rate)
        );
    }

    #[test]
    fn a_refused_connection_takes_neither_a_token_nor_a_place() {
        let connections = rated(0.001, 3, 1);
        let enter = || connections.try_enter(ip("192.0.2.1"), Instant::now());
        assert_eq!(enter(), Ok(()));
        for _ in 0..100 {
            assert_eq!(enter(), Err(Refusal::Source));
        }
        // Two tokens are left, and then none, which leaves no count behind.
        for _ in 0..2 {
            connections.leave(ip("192.0.2.1"));
            assert_eq!(enter(), Ok(()));
        }
        connections.leave(ip("192.0.2.1"));
        assert_eq!(enter(), Err(Refusal::Rate));
        assert!(connections.by_source().is_empty());
    }

    #[test]
    fn a_flood_of_sources_leaves_the_memory_and_a_limited_source_as_they_were() {
        let connections = rated(0.001, 2, 0);
        let mut now = Instant::now();
        let regular = ip("192.0.2.1");
        let mut served = 0;
        for number in 0..500_000u32 {
            // 100,000 new sources per second, each once; one comes back each 10 ms.
            let source = IpAddr::from((0x0B00_0000 + number).to_be_bytes());
            assert_eq!(connections.try_enter(source, now), Ok(()));
            if number.is_multiple_of(1000) {
                served += usize::from(connections.try_enter(regular, now).is_ok());
            }
            now += Duration::from_micros(10);
        }
        assert_eq!(served, 2);
        assert!(connections.by_source().is_empty());
    }
}
