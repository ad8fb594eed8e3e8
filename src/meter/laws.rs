//! What holds for a session whatever comes, against a model that remembers everything.

use std::collections::{HashMap, HashSet};

use super::probe::{Probes, Read};
use super::session::{Arrival, Session};
use super::window::Verdict;

/// How long the model's session waits for a reply.
const WAIT_NS: u64 = 100;

/// Four bytes an event: what happens, to which probe, and how much later. Panics where a reply
/// changes a count that it must not, or a probe is neither received, lost nor on its way.
pub(crate) fn hold_for(bytes: &[u8]) {
    let mut session = Session::new(WAIT_NS, true);
    let (mut now_ns, mut sent_at) = (0, HashMap::new());
    let (mut answered, mut seen) = (HashSet::new(), HashSet::new());
    let (mut lost, mut expected) = (Vec::new(), [0u64; 4]);
    let (events, _) = bytes.as_chunks::<4>();
    for &[what, number, gap, kernel] in events {
        now_ns += u64::from(gap);
        let sequence = u64::from(number);
        match what % 4 {
            0 => drop(sent_at.insert(session.send(now_ns, now_ns), now_ns)),
            1 => session.settle(now_ns, |probe| lost.push(probe.sequence)),
            2 => session.left(sequence, u64::from(kernel)),
            _ => {
                let arrival = Arrival {
                    user_ns: now_ns,
                    kernel_ns: u64::from(kernel),
                    at_peer_ns: 0,
                };
                let place = match sent_at.get(&sequence) {
                    None => 3,
                    Some(_) if !seen.insert(sequence) => 2,
                    Some(sent) if now_ns - sent <= WAIT_NS => 0,
                    Some(_) => 1,
                };
                expected[place] += 1;
                match session.reply(sequence, arrival) {
                    Ok(answer) => {
                        assert_eq!((place, answer.probe.sequence), (0, sequence));
                        assert!(answered.insert(sequence));
                    }
                    Err(Verdict::Late) => assert_eq!(place, 1),
                    Err(Verdict::Duplicate) => assert_eq!(place, 2),
                    Err(_) => assert_eq!(place, 3),
                }
            }
        }
        let counts = &session.counts;
        let known = counts.received + session.loss.lost;
        assert_eq!(counts.sent, known + session.on_their_way());
        let found = [
            counts.received,
            counts.late,
            counts.duplicates,
            counts.foreign,
        ];
        assert_eq!(found, expected);
    }
    session.settle(u64::MAX, |probe| lost.push(probe.sequence));
    let never: Vec<u64> = (0..session.counts.sent)
        .filter(|n| !answered.contains(n))
        .collect();
    assert_eq!(lost, never);
    assert_eq!(session.rtt.count(), session.counts.received);
    assert_eq!(session.reordering.received, session.counts.received);
    assert!(session.is_settled());
}

/// Any bytes are foreign to a run that has sent nothing: nobody can make its mark.
pub(crate) fn are_foreign(bytes: &[u8]) {
    assert_eq!(Probes::new().read(bytes, 64), Read::Foreign);
}
