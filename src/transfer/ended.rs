//! Transfers that have ended, so that nothing is delivered twice.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use super::failure::Reason;
use super::store::Name;

/// A transfer: who, and its id.
pub(crate) type Key = (SocketAddr, u64);

/// So long at least, as long as there are no more than [`MOST`].
const KEPT_NS: u64 = 60_000_000_000;
const MOST: usize = 4_096;

/// How it ended.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    /// Why not, where it failed.
    pub(crate) failed: Option<(Reason, String)>,
    /// All of it had been there.
    pub(crate) was_there: bool,
    pub(crate) name: Name,
    at_ns: u64,
}

impl Ending {
    pub(crate) fn new(failed: Option<(Reason, String)>, was_there: bool, name: Name) -> Self {
        Self {
            failed,
            was_there,
            name,
            at_ns: 0,
        }
    }
}

/// The last ones.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    by_key: HashMap<Key, Ending>,
    order: VecDeque<Key>,
}

impl Ended {
    pub(crate) fn get(&self, key: &Key) -> Option<&Ending> {
        self.by_key.get(key)
    }

    pub(crate) fn add(&mut self, now_ns: u64, key: Key, ending: Ending) {
        self.forget(now_ns);
        let ending = Ending {
            at_ns: now_ns,
            ..ending
        };
        if self.by_key.insert(key, ending).is_none() {
            self.order.push_back(key);
        }
    }

    fn forget(&mut self, now_ns: u64) {
        while let Some(key) = self.order.front() {
            let is_old = self
                .by_key
                .get(key)
                .is_none_or(|ending| ending.at_ns + KEPT_NS <= now_ns);
            if !is_old && self.order.len() < MOST {
                break;
            }
            self.by_key.remove(key);
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_known_for_a_minute_at_least() {
        let mut ended = Ended::default();
        let peer: SocketAddr = "192.0.2.1:7".parse().unwrap();
        for id in 0..100 {
            ended.add(id, (peer, id), Ending::new(None, false, Name::none()));
        }
        ended.add(
            KEPT_NS - 1,
            (peer, 100),
            Ending::new(None, false, Name::none()),
        );
        assert!((0..=100).all(|id| ended.get(&(peer, id)).is_some()));
        ended.add(
            KEPT_NS + 50,
            (peer, 101),
            Ending::new(None, false, Name::none()),
        );
        assert!(ended.get(&(peer, 50)).is_none() && ended.get(&(peer, 51)).is_some());
        for id in 1_000..1_000 + 2 * MOST as u64 {
            ended.add(KEPT_NS, (peer, id), Ending::new(None, false, Name::none()));
        }
        assert_eq!(ended.by_key.len(), MOST);
        assert_eq!(ended.order.len(), MOST);
    }
}
