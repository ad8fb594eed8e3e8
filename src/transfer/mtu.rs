//! How long a datagram may be on this path: a search with probes (RFC 8899).

/// Sizes worth knowing: IPv6 and IPv4 over Ethernet, FDDI-like links, jumbo frames, loopback.
/// The first is what every path has to take (RFC 8899 §5.1.2), or nearly every.
const SIZES: [usize; 9] = [
    BASE, 1_452, 1_472, 3_712, 8_952, 8_972, 16_416, 32_800, 49_184,
];

/// What a path that takes less is tried with.
const LEAST: usize = 512;
const BASE: usize = 1_200;

/// A size is given up when so many probes of it were lost (RFC 8899 §5.1.2, MAX_PROBES).
const PROBES: u32 = 3;

/// A search is repeated after so long: a path may have changed. RFC 8899 §5.1.1 has 600 s for
/// paths that live long; a transfer seldom does.
const RAISE_NS: u64 = 30_000_000_000;

/// So many times long datagrams were lost, and none came, and the size is taken for what is lost,
/// though short ones come: their acknowledgements keep a timeout from coming.
const LOSSES: u32 = 4;

/// The size of a path's datagrams.
#[derive(Debug, Clone)]
pub(crate) struct Mtu {
    size: usize,
    /// Sizes that may be tried: the indices of those that are too small or fine, and too large.
    low: usize,
    high: usize,
    /// How often the size in question was lost.
    lost: u32,
    /// A probe is on its way.
    is_probing: bool,
    /// The next search may begin.
    next_ns: u64,
    /// The next probe is of the largest size: most paths take what the interface does.
    is_first: bool,
    most: usize,
    /// How often long datagrams were lost since one came.
    losses: u32,
    /// When that was counted last.
    lost_ns: u64,
}

impl Mtu {
    /// Of a path whose first link takes datagrams of so many bytes.
    pub(crate) fn new(most: usize) -> Self {
        let mut mtu = Self {
            size: BASE.min(most),
            low: 0,
            high: 0,
            lost: 0,
            is_probing: false,
            next_ns: 0,
            is_first: true,
            most,
            losses: 0,
            lost_ns: 0,
        };
        mtu.begin();
        mtu
    }

    fn begin(&mut self) {
        self.low = 0;
        self.high = SIZES.partition_point(|size| *size <= self.most);
        while self.low + 1 < self.high && SIZES[self.low + 1] <= self.size {
            self.low += 1;
        }
        self.is_first = true;
        self.lost = 0;
    }

    /// What a datagram may be long now.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    fn in_question(&self) -> Option<usize> {
        if self.low + 1 >= self.high {
            return None;
        }
        let index = match self.is_first {
            true => self.high - 1,
            false => self.low + (self.high - self.low) / 2,
        };
        Some(index)
    }

    /// The size of the probe that is to be sent now.
    pub(crate) fn probe(&mut self, now_ns: u64) -> Option<usize> {
        if self.is_probing || now_ns < self.next_ns {
            return None;
        }
        let index = self.in_question()?;
        self.is_probing = true;
        Some(SIZES[index])
    }

    /// The size of the next probe; of none, 0.
    pub(crate) fn next_size(&self) -> usize {
        self.in_question().map_or(0, |index| SIZES[index])
    }

    /// What becomes of the probe that is on its way will not be known.
    pub(crate) fn forget_probe(&mut self) {
        self.is_probing = false;
    }

    /// What it would be next, if it had to be smaller.
    fn smaller(&self) -> usize {
        if self.size > BASE { BASE } else { LEAST }
    }

    /// Datagrams came, of which the longest was of so many bytes.
    pub(crate) fn came(&mut self, longest: usize) {
        if longest > self.smaller() {
            self.losses = 0;
        }
    }

    /// Datagrams were lost, of which the longest was of so many bytes. True: from now on they are
    /// shorter. What is lost within one round trip counts once.
    pub(crate) fn lost(&mut self, now_ns: u64, longest: usize, round_trip_ns: u64) -> bool {
        if longest <= self.smaller() || self.size <= LEAST {
            return false;
        }
        if self.losses > 0 && now_ns < self.lost_ns + round_trip_ns {
            return false;
        }
        self.lost_ns = now_ns;
        self.losses += 1;
        if self.losses >= LOSSES {
            self.shrink(now_ns);
            return true;
        }
        false
    }

    fn shrink(&mut self, now_ns: u64) {
        self.size = self.smaller().min(self.size);
        self.begin();
        self.low = 0;
        self.losses = 0;
        self.next_ns = now_ns + RAISE_NS;
    }

    /// A probe of this size has come through.
    pub(crate) fn passed(&mut self, now_ns: u64, size: usize) {
        self.is_probing = false;
        self.size = self.size.max(size);
        self.lost = 0;
        self.is_first = false;
        while self.low + 1 < self.high && SIZES[self.low + 1] <= size {
            self.low += 1;
        }
        self.end_search(now_ns);
    }

    /// A probe was lost, which says nothing of congestion.
    pub(crate) fn failed(&mut self, now_ns: u64) {
        self.is_probing = false;
        self.lost += 1;
        if self.lost >= PROBES
            && let Some(index) = self.in_question()
        {
            self.high = index;
            self.lost = 0;
            self.is_first = false;
            self.end_search(now_ns);
        }
    }

    fn end_search(&mut self, now_ns: u64) {
        if self.low + 1 >= self.high && self.high < SIZES.partition_point(|s| *s <= self.most) {
            self.begin();
            self.next_ns = now_ns + RAISE_NS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches on a path that takes so many bytes; how many probes that took.
    fn search(mtu: &mut Mtu, path: usize, now_ns: u64) -> u32 {
        let mut probes = 0;
        while let Some(size) = mtu.probe(now_ns) {
            probes += 1;
            assert!(probes < 100);
            match size <= path {
                true => mtu.passed(now_ns, size),
                false => mtu.failed(now_ns),
            }
        }
        probes
    }

    #[test]
    fn finds_what_each_path_takes() {
        for most in [1_200, 1_472, 8_972, 65_507] {
            for path in SIZES {
                let mut mtu = Mtu::new(most);
                let probes = search(&mut mtu, path, 0);
                assert_eq!(
                    mtu.size(),
                    path.min(SIZES.into_iter().filter(|s| *s <= most).max().unwrap())
                );
                assert!(probes <= 3 * 4, "{probes} for {path} of {most}");
            }
        }
        let mut mtu = Mtu::new(1_472);
        assert_eq!(search(&mut mtu, 1_472, 0), 1, "the first guess is right");
    }

    #[test]
    fn searches_again_after_a_while_where_the_path_takes_less() {
        let mut mtu = Mtu::new(8_972);
        search(&mut mtu, 1_472, 0);
        assert_eq!(search(&mut mtu, 8_972, RAISE_NS - 1), 0);
        assert_eq!(search(&mut mtu, 8_972, RAISE_NS), 1);
        assert_eq!(mtu.size(), 8_972);
    }

    #[test]
    fn what_only_short_datagrams_pass_makes_it_small_and_smaller() {
        let mut mtu = Mtu::new(8_972);
        search(&mut mtu, 8_972, 0);
        assert!((1..LOSSES).all(|_| !mtu.lost(0, 8_972, 0)));
        mtu.came(8_972);
        assert!((1..LOSSES).all(|_| !mtu.lost(0, 8_972, 0)));
        mtu.came(100);
        assert_eq!(mtu.size(), 8_972);
        assert!(!mtu.lost(0, 8_972, 1), "in the same round trip");
        assert!(mtu.lost(0, 8_972, 0));
        assert_eq!(mtu.size(), BASE);
        assert_eq!(mtu.probe(0), None);
        assert!((1..LOSSES).all(|_| !mtu.lost(0, BASE, 0)));
        assert!(mtu.lost(0, BASE, 0));
        assert_eq!(mtu.size(), LEAST);
        assert!((0..10).all(|_| !mtu.lost(0, LEAST, 0)));
        search(&mut mtu, 1_472, RAISE_NS);
        assert_eq!(mtu.size(), 1_472);
    }
}
