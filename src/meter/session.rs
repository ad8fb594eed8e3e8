//! One run of a meter against one peer: from probes and replies to what is printed.

use super::distribution::Distribution;
use super::loss::LossRuns;
use super::reordering::Reordering;
use super::variation::{Ipdv, Jitter};
use super::window::{Probe, Verdict, Window};

/// Which clock the two times of a round trip were taken by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StampSource {
    /// The kernel's, at the device (SO_TIMESTAMPING).
    Kernel,
    /// This process's, before the send and after the receive.
    User,
}

/// When a reply was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When this process had it, by the clock by which probes are sent.
    pub user_ns: u64,
    /// When the kernel had it; 0: not told.
    pub kernel_ns: u64,
    /// How long the peer had it, T3 − T2, where it says so (RFC 8762).
    pub at_peer_ns: u64,
}

/// An answered probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The probe.
    pub probe: Probe,
    /// Its round-trip time (RFC 2681): T4 − T1, without the time at the peer where that is known.
    pub rtt_ns: u64,
    /// By which clock.
    pub source: StampSource,
    /// The same by this process's clock.
    pub user_rtt_ns: u64,
}

/// The counts of a run. `sent` is `received` + `lost` + those that are on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Probes that were handed to the kernel.
    pub sent: u64,
    /// Probes that were answered in time.
    pub received: u64,
    /// First replies that came after their probe was given up; their probes are lost (RFC 6673).
    pub late: u64,
    /// Replies to probes that had one (RFC 5560).
    pub duplicates: u64,
    /// Replies of ours whose bytes were changed on the way.
    pub corrupt: u64,
    /// What came and was no reply to any probe of this run.
    pub foreign: u64,
    /// Probes that the kernel refused to send. They are not part of `sent`.
    pub send_failures: u64,
}

/// What a run has found so far. Its memory does not depend on how long it lasts.
#[derive(Debug)]
pub struct Session {
    window: Window,
    wants_kernel: bool,
    /// What came and went.
    pub counts: Counts,
    /// Losses, as far as they are known.
    pub loss: LossRuns,
    /// Round-trip times.
    pub rtt: Distribution,
    /// Of those, how many by the kernel's clock.
    pub kernel_rtts: u64,
    /// How much longer a round trip was by this process's clock than by the kernel's.
    pub host_overhead: Distribution,
    /// By how much probes were sent after their time.
    pub slip: Distribution,
    /// RFC 3550's jitter of the replies.
    pub jitter: Jitter,
    /// RFC 3393's variation of round-trip times.
    pub ipdv: Ipdv,
    /// RFC 4737's reordering of the replies.
    pub reordering: Reordering,
    /// Round-trip times that wait for those of earlier probes, for [`Session::ipdv`], which is in
    /// the order of sequence numbers.
    pending: std::collections::BTreeMap<u64, u64>,
}

impl Session {
    /// A probe without a reply is lost after `wait_ns`. The kernel's times are used where
    /// `wants_kernel` says so and they are there.
    pub fn new(wait_ns: u64, wants_kernel: bool) -> Self {
        Self {
            window: Window::new(wait_ns),
            wants_kernel,
            counts: Counts::default(),
            loss: LossRuns::default(),
            rtt: Distribution::new(),
            kernel_rtts: 0,
            host_overhead: Distribution::new(),
            slip: Distribution::new(),
            jitter: Jitter::default(),
            ipdv: Ipdv::default(),
            reordering: Reordering::default(),
            pending: std::collections::BTreeMap::new(),
        }
    }

    /// The number that the next probe has.
    pub fn next_sequence(&self) -> u64 {
        self.window.sent()
    }

    /// Whether more probes are on their way than are remembered.
    pub fn is_full(&self) -> bool {
        self.window.is_full()
    }

    /// The next probe is sent now.
    pub fn send(&mut self, intended_ns: u64, now_ns: u64) -> u64 {
        self.counts.sent += 1;
        self.slip.record(now_ns.saturating_sub(intended_ns));
        self.window.send(intended_ns, now_ns)
    }

    /// The kernel says when it left.
    pub fn left(&mut self, sequence: u64, kernel_ns: u64) {
        self.window.left(sequence, kernel_ns);
    }

    /// A reply to the probe with this number.
    pub fn reply(&mut self, sequence: u64, arrival: Arrival) -> Result<Answer, Verdict> {
        let verdict = self.window.reply(sequence, arrival.user_ns);
        let Verdict::Answer(probe) = verdict else {
            match verdict {
                Verdict::Late => self.counts.late += 1,
                Verdict::Duplicate => self.counts.duplicates += 1,
                _ => self.counts.foreign += 1,
            }
            return Err(verdict);
        };
        self.counts.received += 1;
        let at_peer = arrival.at_peer_ns;
        let user_ns = arrival.user_ns.saturating_sub(probe.sent_ns);
        let has_both = probe.kernel_sent_ns > 0 && arrival.kernel_ns > 0;
        let kernel_ns = has_both.then(|| arrival.kernel_ns.checked_sub(probe.kernel_sent_ns));
        let (raw_ns, source, ends) = match kernel_ns.flatten().filter(|_| self.wants_kernel) {
            Some(kernel_ns) => {
                self.kernel_rtts += 1;
                self.host_overhead.record(user_ns.saturating_sub(kernel_ns));
                let ends = (probe.kernel_sent_ns, arrival.kernel_ns);
                (kernel_ns, StampSource::Kernel, ends)
            }
            None => (user_ns, StampSource::User, (probe.sent_ns, arrival.user_ns)),
        };
        let answer = Answer {
            probe,
            rtt_ns: raw_ns.saturating_sub(at_peer),
            source,
            user_rtt_ns: user_ns.saturating_sub(at_peer),
        };
        self.rtt.record(answer.rtt_ns);
        self.jitter.record(ends.0, ends.1.saturating_sub(at_peer));
        self.reordering.record(sequence);
        self.pending.insert(sequence, answer.rtt_ns);
        Ok(answer)
    }

    /// A reply of ours that was changed on its way: its probe stays without one.
    pub fn corrupt(&mut self) {
        self.counts.corrupt += 1;
    }

    /// Something else came.
    pub fn foreign(&mut self) {
        self.counts.foreign += 1;
    }

    /// The kernel refused to send a probe.
    pub fn refused(&mut self) {
        self.counts.send_failures += 1;
    }

    /// Gives up the probes whose time is over, and tells of each that is lost.
    pub fn settle(&mut self, now_ns: u64, mut lost: impl FnMut(&Probe)) {
        let Self {
            window,
            loss,
            ipdv,
            pending,
            ..
        } = self;
        window.settle(now_ns, |probe, is_lost| {
            loss.record(is_lost);
            if is_lost {
                lost(probe);
            } else if let Some(rtt_ns) = pending.remove(&probe.sequence) {
                ipdv.record(probe.sequence, rtt_ns.try_into().unwrap_or(i64::MAX));
            }
        });
    }

    /// When [`Session::settle`] has to do next; `None`: nothing is on its way.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.window.deadline_ns()
    }

    /// Probes that were neither answered nor given up.
    pub fn on_their_way(&self) -> u64 {
        self.counts.sent - self.counts.received - self.loss.lost
    }

    /// Whether the fate of each probe is known.
    pub fn is_settled(&self) -> bool {
        self.window.unsettled() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_reply_counts_twice_and_no_probe_is_forgotten(
            events in prop::collection::vec(any::<u8>(), 0..1600),
        ) {
            crate::meter::laws::hold_for(&events);
            crate::meter::laws::hold_for_session(&events);
        }
    }

    fn at(user_ns: u64) -> Arrival {
        Arrival {
            user_ns,
            kernel_ns: 0,
            at_peer_ns: 0,
        }
    }

    #[test]
    fn every_probe_is_received_lost_or_on_its_way() {
        let mut session = Session::new(1_000, true);
        for number in 0..5 {
            session.send(number * 100, number * 100 + 7);
        }
        assert_eq!(session.reply(0, at(57)).unwrap().rtt_ns, 50);
        assert_eq!(session.reply(2, at(300)).unwrap().rtt_ns, 93);
        assert_eq!(session.reply(2, at(310)), Err(Verdict::Duplicate));
        assert_eq!(session.reply(9, at(310)), Err(Verdict::Unknown));
        let mut lost = Vec::new();
        session.settle(1_108, |probe| lost.push(probe.sequence));
        assert_eq!(lost, [1]);
        assert_eq!(session.on_their_way(), 2);
        assert_eq!(session.reply(1, at(1_300)), Err(Verdict::Late));
        session.settle(u64::MAX, |_| {});
        let counts = session.counts;
        assert_eq!(counts.sent, counts.received + session.loss.lost);
        assert_eq!((counts.duplicates, counts.late, counts.foreign), (1, 1, 1));
        assert_eq!((session.loss.runs, session.loss.longest), (2, 2));
        assert!(session.is_settled() && session.pending.is_empty());
        assert_eq!(session.ipdv.sizes.count(), 0);
        assert_eq!(session.slip.greatest_ns(), Some(7));
    }

    #[test]
    fn the_kernels_clock_counts_where_it_told_both_times() {
        let mut session = Session::new(1_000_000, true);
        for number in 0..2 {
            session.send(0, 10);
            session.left(number, 1_000_020);
        }
        let arrival = Arrival {
            user_ns: 110,
            kernel_ns: 1_000_090,
            at_peer_ns: 30,
        };
        let answer = session.reply(0, arrival).unwrap();
        assert_eq!((answer.rtt_ns, answer.user_rtt_ns), (40, 70));
        assert_eq!(answer.source, StampSource::Kernel);
        assert_eq!(session.host_overhead.greatest_ns(), Some(30));
        let answer = session.reply(1, at(110)).unwrap();
        assert_eq!((answer.rtt_ns, answer.source), (100, StampSource::User));
        assert_eq!(session.kernel_rtts, 1);
    }
}
