//! Losses in runs (RFC 3357): one loss of ten packets is another trouble than ten of one.

/// How many lengths of runs are told apart; longer ones are counted together.
pub const RUN_LENGTHS: usize = 16;

/// Losses in the order of the sequence numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LossRuns {
    /// Probes that were not answered in time.
    pub lost: u64,
    /// Loss periods (RFC 3357 §4.3): how often one or more in a row were lost.
    pub runs: u64,
    /// The longest of them.
    pub longest: u64,
    /// How many runs had each length, from 1 on; the last: that length or more.
    pub by_length: [u64; RUN_LENGTHS],
    current: u64,
}

impl LossRuns {
    /// What became of the next probe, in the order of sequence numbers.
    pub fn record(&mut self, is_lost: bool) {
        if !is_lost {
            self.current = 0;
            return;
        }
        self.lost += 1;
        self.current += 1;
        if self.current == 1 {
            self.runs += 1;
        } else {
            self.by_length[place(self.current - 1)] -= 1;
        }
        self.by_length[place(self.current)] += 1;
        self.longest = self.longest.max(self.current);
    }
}

fn place(length: u64) -> usize {
    usize::try_from(length).map_or(RUN_LENGTHS, |length| length.min(RUN_LENGTHS)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fates: &str) -> LossRuns {
        let mut runs = LossRuns::default();
        fates.chars().for_each(|fate| runs.record(fate == 'x'));
        runs
    }

    #[test]
    fn runs_are_counted_by_length() {
        let runs = of("x..xx.xxx.x");
        assert_eq!((runs.lost, runs.runs, runs.longest), (7, 4, 3));
        assert_eq!(runs.by_length[..4], [2, 1, 1, 0]);
        assert_eq!(of("....").runs, 0);
    }

    #[test]
    fn long_runs_share_a_place() {
        let runs = of(&("x".repeat(40) + "." + &"x".repeat(16)));
        assert_eq!((runs.lost, runs.runs, runs.longest), (56, 2, 40));
        assert_eq!(runs.by_length[RUN_LENGTHS - 1], 2);
        assert_eq!(runs.by_length[..RUN_LENGTHS - 1], [0; RUN_LENGTHS - 1]);
    }
}
