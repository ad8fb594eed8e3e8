//! What holds for any text, any letters, any stream: for tests and fuzz/.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use super::{
    Action, DatagramImpairments, Direction, Letter, Line, Netem, Shaper, StreamImpairments, Toxics,
    parse_trace, print_trace,
};
use crate::error::{Error, Result};

/// Each grammar: a text is refused in one line that says the way out, or what it means is
/// printed so that it reads the same. What was read can be done.
pub(crate) fn hold_for_text(text: &str) {
    round_trip::<DatagramImpairments>(text);
    round_trip::<StreamImpairments>(text);
    if let Some(spec) = round_trip::<Netem>(text) {
        hold_for_letters(
            &spec,
            &[(0, 0, 0), (1, 0, 9), (1_000, 1, 100), (0, 0, 1500)],
        );
    }
    if let Some(toxics) = round_trip::<Toxics>(text) {
        hold_for_stream(&toxics, &[(0, 9), (1_000_000, 1), (0, 300)], 100);
    }
    match parse_trace(text) {
        Ok(decisions) => {
            let read = parse_trace(&print_trace(&decisions));
            assert_eq!(read, Ok(decisions));
        }
        Err(error) => is_a_good_error(&error),
    }
}

fn round_trip<S>(text: &str) -> Option<S>
where
    S: FromStr<Err = Error> + Display + PartialEq + Debug,
{
    match text.parse::<S>() {
        Ok(spec) => {
            let printed = spec.to_string();
            let read: Result<S> = printed.parse();
            assert_eq!(read.as_ref(), Ok(&spec), "{printed}");
            assert_eq!(read.map(|spec| spec.to_string()), Ok(printed));
            Some(spec)
        }
        Err(error) => {
            is_a_good_error(&error);
            None
        }
    }
}

fn is_a_good_error(error: &Error) {
    let message = error.to_string();
    assert!(error.is_argument(), "{message}");
    assert!(message.chars().count() < 400, "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(!message.contains(char::is_control), "{message:?}");
}

/// Puts letters (nanoseconds after the one before, flow, bytes) into a line: what comes out
/// is what was put, but for what was said to be lost or to come twice, when it is said to be
/// due, and nothing stays behind.
pub(crate) fn hold_for_letters(spec: &Netem, letters: &[(u64, u32, usize)]) {
    let mut line = Line::new(spec, Direction::Out, None);
    let mut now_ns: u64 = 1;
    let (mut waiting, mut gone) = (0, 0);
    for (number, &(gap_ns, flow, bytes)) in letters.iter().enumerate() {
        now_ns += gap_ns;
        let letter = Letter {
            data: vec![number as u8; bytes],
            tag: number,
        };
        let fate = line.put(now_ns, flow, letter);
        assert!(!(fate.lost && fate.overflow) && fate.duplicates <= 1);
        waiting += usize::from(!fate.lost && !fate.overflow) + fate.duplicates as usize;
        if spec.is_noop() {
            assert_eq!(fate, Default::default());
            let letter = line.due(now_ns).expect("it goes at once");
            assert_eq!(
                (letter.tag, letter.data),
                (number, vec![number as u8; bytes])
            );
            waiting -= 1;
        }
        assert_eq!(line.len(), waiting);
    }
    for _ in 0..4 * letters.len() + 4 {
        let Some(due_ns) = line.next_due_ns() else {
            break;
        };
        now_ns = now_ns.max(due_ns);
        while let Some(letter) = line.due(now_ns) {
            assert!(letter.data.len() <= letters[letter.tag].2);
            gone += 1;
        }
    }
    assert_eq!((gone, line.len(), line.next_due_ns()), (waiting, 0, None));
}

/// Sends pieces (nanoseconds after the one before, bytes) through a shaper whose output takes
/// so many bytes at a time: what goes out is a beginning of what came in, all of it where
/// nothing ends it early; no more than is allowed is held, and it never waits for nothing.
pub(crate) fn hold_for_stream(toxics: &Toxics, pieces: &[(u64, usize)], taken: usize) {
    let mut shaper = Shaper::new(toxics, Direction::Out, 7);
    let byte = |place: usize| (place % 251) as u8;
    let (mut came, mut went) = (0, 0);
    let mut now_ns = 0;
    let mut actions = Vec::new();
    let mut pieces = pieces.iter().copied();
    let mut piece = pieces.next();
    // Each turn something comes, goes, or changes at the time that was said.
    for turn in 0.. {
        assert!(turn < 2_000_000, "it goes round and round");
        loop {
            let ready = shaper.ready(now_ns);
            let count = ready.len().min(taken.max(1));
            if count == 0 {
                break;
            }
            let is_wanted = |(place, found): (usize, &u8)| *found == byte(went + place);
            assert!(ready[..count].iter().enumerate().all(is_wanted));
            shaper.consume(count);
            went += count;
        }
        actions.extend(shaper.action(now_ns));
        assert!(shaper.held_bytes() <= 64 * 1024 && shaper.room() <= 64 * 1024);
        let change_ns = shaper.next_due_ns();
        assert!(
            change_ns.is_none_or(|at| at > now_ns),
            "{change_ns:?} at {now_ns}"
        );
        match piece {
            Some((gap_ns, bytes)) if shaper.room() > 0 => {
                // What changes first is done first.
                let at_ns = now_ns + gap_ns;
                if let Some(change_ns) = change_ns.filter(|change_ns| *change_ns < at_ns) {
                    piece = Some((at_ns - change_ns, bytes));
                    now_ns = change_ns;
                    continue;
                }
                now_ns = at_ns;
                let count = bytes.min(shaper.room());
                let data: Vec<u8> = (came..came + count).map(byte).collect();
                shaper.push(now_ns, &data);
                came += count;
                piece = match bytes - count {
                    0 => pieces.next(),
                    rest => Some((0, rest)),
                };
                if piece.is_none() {
                    shaper.end(now_ns);
                }
            }
            _ => match change_ns {
                Some(change_ns) => now_ns = change_ns,
                None => break,
            },
        }
    }
    assert!(piece.is_none(), "what has no room waits for something");
    assert!(shaper.held_bytes() == 0 && went <= came);
    if toxics.is_noop() {
        assert!(shaper.is_noop() && went == came);
    }
    let ends_early = toxics.list.iter().any(|toxic| {
        use super::Effect::{HalfClose, LimitData, ResetPeer, Timeout};
        matches!(
            toxic.effect,
            HalfClose { .. } | LimitData { .. } | ResetPeer { .. } | Timeout { .. }
        )
    });
    if !ends_early && came > 0 {
        assert_eq!(
            (went, actions.as_slice()),
            (came, [Action::Finish].as_slice())
        );
    }
    // Nothing comes after the connection's end, and this direction ends once.
    let last = actions.iter().position(|action| *action != Action::Finish);
    assert!(
        last.is_none_or(|place| place + 1 == actions.len()),
        "{actions:?}"
    );
    assert!(actions.len() <= 2, "{actions:?}");
}
