//! What a directory's transfers have between them: names that are being written, parts that were
//! left, and how many bytes of a quota all of that is.
//!
//! What is used: files that were put there, less what they replaced; what is known to be left of
//! parts; and what open transfers may still write. So it is what the directory may have grown by.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Name;

/// A quota that is counted on the way is asked for in pieces of this size.
const STEP_BYTES: u64 = 1 << 20;

/// A directory, by device and inode.
pub(super) type Place = (u64, u64);

/// Where parts of one name are: in this directory, with this hash of the name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Spot {
    pub(super) place: Place,
    pub(super) hash: String,
}

#[derive(Debug)]
pub(super) struct Ledger {
    quota_bytes: u64,
    state: Mutex<State>,
    /// Held by whoever looks for parts, so that nobody takes those for left that others have
    /// opened meanwhile.
    looking: Mutex<HashSet<Place>>,
}

#[derive(Debug, Default)]
struct State {
    used_bytes: u64,
    names: HashSet<Name>,
    /// What is left of parts, by their names.
    left: HashMap<Spot, HashMap<OsString, u64>>,
}

impl Ledger {
    /// Without a quota there is no bound.
    pub(super) fn new(quota_bytes: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            quota_bytes: quota_bytes.unwrap_or(u64::MAX),
            state: Mutex::default(),
            looking: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bytes are left of the quota.
    pub(super) fn left_bytes(&self) -> u64 {
        self.quota_bytes.saturating_sub(self.state().used_bytes)
    }

    /// The right to write to this name; `None`: another transfer does.
    pub(super) fn claim(self: &Arc<Self>, name: &Name) -> Option<Claim> {
        self.state().names.insert(name.clone()).then(|| Claim {
            ledger: self.clone(),
            name: name.clone(),
        })
    }

    /// Looks for parts in a directory where nobody has looked yet: `look` is to [`Ledger::note`]
    /// them.
    pub(super) fn look_once(&self, place: Place, look: impl FnOnce()) {
        let mut seen = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.insert(place) {
            look();
        }
    }

    /// A part that is left: found, or no longer written to.
    pub(super) fn note(&self, spot: &Spot, part: &OsStr, bytes: u64) {
        let mut state = self.state();
        let left = state.left.entry(spot.clone()).or_default();
        let before = left.insert(part.to_owned(), bytes).unwrap_or(0);
        state.used_bytes = state
            .used_bytes
            .saturating_sub(before)
            .saturating_add(bytes);
    }

    /// Room for so many bytes in this part, those included that are there already; and the parts
    /// that others left of the same name, which are to be removed. `None`: the quota has none.
    pub(super) fn reserve(
        self: &Arc<Self>,
        spot: Option<&Spot>,
        part: &OsStr,
        bytes: u64,
    ) -> Option<(Lease, Vec<(OsString, u64)>)> {
        let mut state = self.state();
        let left = spot.and_then(|spot| state.left.get(spot));
        let left_bytes: u64 = left.map_or(0, |left| left.values().sum());
        let used = state.used_bytes.saturating_sub(left_bytes);
        let used = used
            .checked_add(bytes)
            .filter(|used| *used <= self.quota_bytes)?;
        state.used_bytes = used;
        let mut left = spot
            .and_then(|spot| state.left.remove(spot))
            .unwrap_or_default();
        let own = left.remove(part);
        let own = spot.cloned().zip(own);
        let lease = Lease {
            ledger: self.clone(),
            bytes,
            found: own.map(|(spot, own)| (spot, part.to_owned(), own)),
        };
        Some((lease, left.into_iter().collect()))
    }

    #[cfg(test)]
    pub(super) fn used_bytes(&self) -> u64 {
        self.state().used_bytes
    }
}

/// The right to write to a name, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    ledger: Arc<Ledger>,
    name: Name,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.ledger.state().names.remove(&self.name);
    }
}

/// Bytes of the quota that a transfer may write, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    ledger: Arc<Ledger>,
    bytes: u64,
    /// What is there of the part already, until it is opened.
    found: Option<(Spot, OsString, u64)>,
}

impl Lease {
    /// The part has been opened: whoever has it says what is left of it.
    pub(super) fn begin(&mut self) {
        self.found = None;
    }

    /// Makes it cover so many bytes. False: the quota does not have them.
    #[must_use]
    pub(super) fn cover(&mut self, total_bytes: u64) -> bool {
        if total_bytes <= self.bytes {
            return true;
        }
        let mut state = self.ledger.state();
        let step = total_bytes.checked_next_multiple_of(STEP_BYTES);
        for total in [step.unwrap_or(total_bytes), total_bytes] {
            let used = state.used_bytes.checked_add(total - self.bytes);
            if let Some(used) = used.filter(|used| *used <= self.ledger.quota_bytes) {
                state.used_bytes = used;
                self.bytes = total;
                return true;
            }
        }
        false
    }

    /// So much is there for good, in the place of something else.
    pub(super) fn spend(&mut self, bytes: u64, replaced_bytes: u64) {
        self.give_back(bytes.saturating_sub(replaced_bytes));
        // What is longer than what takes its place: that room is free again.
        let freed = replaced_bytes.saturating_sub(bytes);
        let mut state = self.ledger.state();
        state.used_bytes = state.used_bytes.saturating_sub(freed);
        drop(state);
        self.bytes = 0;
    }

    fn give_back(&mut self, but: u64) {
        let mut state = self.ledger.state();
        let rest = self.bytes.saturating_sub(but);
        state.used_bytes = state.used_bytes.saturating_sub(rest);
        self.bytes -= rest;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((spot, part, bytes)) = self.found.take() {
            self.ledger.note(&spot, &part, bytes);
        }
        self.give_back(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot() -> Spot {
        Spot {
            place: (1, 2),
            hash: "h".to_owned(),
        }
    }

    #[test]
    fn a_name_is_written_by_one_at_a_time() {
        let ledger = Ledger::new(None);
        let name = Name::new(vec!["a".to_owned()]).unwrap();
        let claim = ledger.claim(&name).unwrap();
        assert!(ledger.claim(&name).is_none());
        drop(claim);
        assert!(ledger.claim(&name).is_some());
    }

    #[test]
    fn what_is_left_counts_once_and_makes_room_for_its_successor() {
        let ledger = Ledger::new(Some(100));
        for bytes in [30, 60] {
            ledger.note(&spot(), OsStr::new("old"), bytes);
        }
        assert_eq!(ledger.used_bytes(), 60);
        assert!(ledger.reserve(None, OsStr::new("x"), 41).is_none());
        assert!(
            ledger
                .reserve(Some(&spot()), OsStr::new("x"), 101)
                .is_none()
        );
        assert_eq!(ledger.used_bytes(), 60, "nothing is forgotten");
        let (lease, left) = ledger
            .reserve(Some(&spot()), OsStr::new("new"), 100)
            .unwrap();
        assert_eq!(left, [("old".into(), 60)]);
        assert_eq!(ledger.used_bytes(), 100);
        drop(lease);
        assert_eq!(ledger.used_bytes(), 0);
        // One's own part is gone on with, not removed.
        ledger.note(&spot(), OsStr::new("own"), 60);
        let (_lease, left) = ledger
            .reserve(Some(&spot()), OsStr::new("own"), 100)
            .unwrap();
        assert!(left.is_empty());
    }

    #[test]
    fn a_lease_grows_as_far_as_the_quota_goes() {
        let ledger = Ledger::new(Some(3 * STEP_BYTES / 2));
        let (mut lease, _) = ledger.reserve(None, OsStr::new("x"), 0).unwrap();
        assert!(lease.cover(10));
        assert_eq!(ledger.used_bytes(), STEP_BYTES);
        assert!(lease.cover(STEP_BYTES + 10));
        assert_eq!(ledger.used_bytes(), STEP_BYTES + 10);
        assert!(!lease.cover(2 * STEP_BYTES));
        assert!(!lease.cover(u64::MAX));
        lease.spend(STEP_BYTES + 5, 0);
        drop(lease);
        assert_eq!(ledger.used_bytes(), STEP_BYTES + 5);
    }

    #[test]
    fn what_is_replaced_no_longer_counts() {
        let ledger = Ledger::new(Some(100));
        for (bytes, replaced, used) in [(80, 0, 80), (20, 0, 100), (0, 80, 20), (30, 20, 30)] {
            // Until it takes the other's place both are there.
            let (mut lease, _) = ledger.reserve(None, OsStr::new("x"), bytes).unwrap();
            lease.spend(bytes, replaced);
            drop(lease);
            assert_eq!(ledger.used_bytes(), used);
        }
    }
}
