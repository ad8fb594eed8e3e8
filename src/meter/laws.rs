//! What holds whatever comes, against models that remember everything.

use std::collections::{HashMap, HashSet};

use super::probe::{Probes, Read};
#[cfg(test)]
use super::session::{Arrival, Session};
use super::window::{Verdict, Window};

/// How long a model waits for a reply.
const WAIT_NS: u64 = 100;

/// What is true of the probes of a run.
#[derive(Default)]
struct Model {
    sent_at: HashMap<u64, u64>,
    answered: HashSet<u64>,
    seen: HashSet<u64>,
}

impl Model {
    /// What a reply to this probe is, now. One to a probe that may be forgotten is late, or what it
    /// really is.
    fn expect(&mut self, sequence: u64, now_ns: u64) -> &'static str {
        match self.sent_at.get(&sequence) {
            Some(sent) if now_ns - sent > 2 * WAIT_NS => {
                self.seen.insert(sequence);
                "old"
            }
            None => "unknown",
            Some(_) if !self.seen.insert(sequence) => "duplicate",
            Some(sent) if now_ns - sent <= WAIT_NS => {
                self.answered.insert(sequence);
                "answer"
            }
            Some(_) => "late",
        }
    }
}

fn told(verdict: Verdict, sequence: u64) -> &'static str {
    match verdict {
        Verdict::Answer(probe) => {
            assert_eq!(probe.sequence, sequence);
            "answer"
        }
        Verdict::Late => "late",
        Verdict::Duplicate => "duplicate",
        Verdict::Unknown => "unknown",
    }
}

/// The matcher: three bytes an event: what happens, to which probe, and how much later. Panics
/// where a reply is taken for what it is not, or a fate is told wrongly, twice or out of order.
pub(crate) fn hold_for(bytes: &[u8]) {
    // Few slots, so that it grows.
    let mut window = Window::with_slots(WAIT_NS, 4);
    let (mut model, mut now_ns, mut fates) = (Model::default(), 0, Vec::new());
    let (events, _) = bytes.as_chunks::<3>();
    for &[what, number, gap] in events {
        now_ns += u64::from(gap);
        let sequence = u64::from(number);
        match what % 4 {
            0 => drop(model.sent_at.insert(window.send(now_ns, now_ns), now_ns)),
            1 => window.settle(now_ns, |probe, is_lost| {
                fates.push((probe.sequence, is_lost))
            }),
            2 => window.left(sequence, 1),
            _ => {
                let expected = model.expect(sequence, now_ns);
                let told = told(window.reply(sequence, now_ns), sequence);
                assert!(
                    told == expected || expected == "old" && matches!(told, "late" | "duplicate")
                );
            }
        }
    }
    window.settle(u64::MAX, |probe, is_lost| {
        fates.push((probe.sequence, is_lost))
    });
    let all = (0..window.sent()).map(|number| (number, !model.answered.contains(&number)));
    assert!(fates.iter().copied().eq(all));
}

/// The same events for a session: its counts are the model's, and each probe is received, lost or
/// on its way.
#[cfg(test)]
pub(crate) fn hold_for_session(bytes: &[u8]) {
    let mut session = Session::new(WAIT_NS, true);
    let (mut model, mut now_ns, mut lost) = (Model::default(), 0, Vec::new());
    let mut expected = HashMap::new();
    let (events, _) = bytes.as_chunks::<3>();
    for &[what, number, gap] in events {
        now_ns += u64::from(gap);
        let sequence = u64::from(number);
        match what % 4 {
            0 => drop(model.sent_at.insert(session.send(now_ns, now_ns), now_ns)),
            1 => session.settle(now_ns, |probe| lost.push(probe.sequence)),
            2 => session.left(sequence, u64::from(gap)),
            _ => {
                let arrival = Arrival {
                    user_ns: now_ns,
                    kernel_ns: u64::from(gap),
                    at_peer_ns: 0,
                };
                *expected.entry(model.expect(sequence, now_ns)).or_insert(0) += 1;
                let _ = session.reply(sequence, arrival);
            }
        }
        let counts = &session.counts;
        let known = counts.received + session.loss.lost;
        assert_eq!(counts.sent, known + session.on_their_way());
        let of = |name| expected.get(name).copied().unwrap_or(0);
        assert_eq!(counts.received, of("answer"));
        let behind = of("late") + of("duplicate") + of("old");
        assert_eq!(counts.late + counts.duplicates, behind);
        assert!(counts.late >= of("late") && counts.duplicates >= of("duplicate"));
        assert_eq!(counts.foreign, of("unknown"));
    }
    session.settle(u64::MAX, |probe| lost.push(probe.sequence));
    let never = (0..session.counts.sent).filter(|number| !model.answered.contains(number));
    assert!(lost.iter().copied().eq(never));
    assert_eq!(session.rtt.count(), session.counts.received);
    assert!(session.is_settled());
}

/// Any bytes are foreign to a run that has sent nothing: nobody can make its mark.
pub(crate) fn are_foreign(bytes: &[u8]) {
    assert_eq!(Probes::new().read(bytes, 64), Read::Foreign);
}
