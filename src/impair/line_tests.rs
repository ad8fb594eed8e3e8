//! Lines: what is queued, when it is due, and what was done to it.

use std::sync::Arc;
use std::thread;

use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;

fn line(spec: &str) -> Line<usize> {
    Line::new(&spec.parse().unwrap(), Direction::Out, None)
}

fn letter(tag: usize, bytes: usize) -> Letter<usize> {
    Letter {
        data: vec![tag as u8; bytes],
        tag,
    }
}

/// Asks whenever the line says so: when each letter goes, and which.
fn drain(line: &mut Line<usize>) -> Vec<(u64, usize)> {
    let mut gone = Vec::new();
    while let Some(due_ns) = line.next_due_ns() {
        while let Some(letter) = line.due(due_ns) {
            gone.push((due_ns, letter.tag));
        }
    }
    gone
}

#[test]
fn a_delay_is_waited_for_and_equals_go_in_order() {
    let mut line = line("delay 10ms");
    for tag in 0..3 {
        let fate = line.put(5, 0, letter(tag, 1));
        assert!(fate.delayed && !fate.reordered && !fate.lost);
    }
    assert_eq!((line.len(), line.next_due_ns()), (3, Some(10 * MS + 5)));
    assert_eq!(line.due(10 * MS + 4), None);
    let all = [0, 1, 2].map(|tag| (10 * MS + 5, tag));
    assert_eq!(drain(&mut line), all);
    assert_eq!((line.len(), line.next_due_ns()), (0, None));
}

#[test]
fn the_rest_is_taken_in_order_when_the_server_stops() {
    let mut line = line("delay 10ms 9ms seed 3");
    for tag in 0..50 {
        line.put(0, 0, letter(tag, 1));
    }
    let mut other = self::line("delay 10ms 9ms seed 3");
    for tag in 0..50 {
        other.put(0, 0, letter(tag, 1));
    }
    let tags: Vec<usize> = line.take_all().iter().map(|letter| letter.tag).collect();
    let due: Vec<usize> = drain(&mut other).iter().map(|(_, tag)| *tag).collect();
    assert_eq!(tags, due);
    assert!(!tags.is_sorted() && tags.len() == 50 && line.len() == 0);
}

#[test]
fn reordered_letters_overtake_those_that_are_held() {
    let mut line = line("delay 10ms reorder 100% gap 3");
    let fates: Vec<bool> = (0..7)
        .map(|tag| line.put(tag as u64, 0, letter(tag, 1)).reordered)
        .collect();
    // As tc-netem(8) has it for `gap 5`: the first gap - 1 are held, the next one goes.
    assert_eq!(fates, [false, false, true, false, false, true, false]);
    let tags: Vec<usize> = drain(&mut line).iter().map(|(_, tag)| *tag).collect();
    assert_eq!(tags, [2, 5, 0, 1, 3, 4, 6]);
}

#[test]
fn a_rate_spaces_letters_by_their_size() {
    // 1000 bytes a second: a millisecond a byte.
    let mut line = line("rate 8kbit");
    for (tag, bytes) in [(0, 10), (1, 20), (2, 5)] {
        line.put(0, tag as u32, letter(tag, bytes));
    }
    assert_eq!(drain(&mut line), [(10 * MS, 0), (30 * MS, 1), (35 * MS, 2)]);
    // An idle line saves nothing up.
    line.put(100 * MS, 0, letter(3, 10));
    assert_eq!(drain(&mut line), [(110 * MS, 3)]);
}

#[test]
fn with_a_rate_the_delay_passes_while_others_are_sent() {
    let mut line = line("delay 12ms rate 8kbit");
    for tag in 0..3 {
        line.put(0, 0, letter(tag, 10));
    }
    // As netem_enqueue() counts: the wait for those before is taken off the delay.
    assert_eq!(drain(&mut line), [(22 * MS, 0), (32 * MS, 1), (42 * MS, 2)]);
}

#[test]
fn overheads_and_cells_take_time_too() {
    let mut line = line("rate 8kbit 0 48 5");
    line.put(0, 0, letter(0, 50));
    assert_eq!(drain(&mut line), [(106 * MS, 0)]);
}

#[test]
fn slots_let_go_together_what_has_gathered() {
    let mut line = line("slot 10ms");
    for tag in 0..3 {
        line.put(tag as u64 * MS, 0, letter(tag, 1));
        assert_eq!(line.due(tag as u64 * MS), None);
    }
    // The slot was drawn when the first one was asked for.
    assert_eq!(drain(&mut line), [(10 * MS, 0), (10 * MS, 1), (10 * MS, 2)]);
    line.put(11 * MS, 0, letter(3, 1));
    assert_eq!(line.due(11 * MS), None);
    assert_eq!(drain(&mut line), [(21 * MS, 3)]);
}

#[test]
fn slots_hold_so_many_datagrams_and_bytes() {
    for spec in ["slot 10ms packets 2", "slot 10ms bytes 20"] {
        let mut line = line(spec);
        for tag in 0..5 {
            line.put(0, 0, letter(tag, 10));
        }
        assert_eq!(line.due(0), None);
        let gone = drain(&mut line);
        let times: Vec<u64> = gone.iter().map(|(at, _)| *at / MS).collect();
        assert_eq!(times, [10, 10, 20, 20, 30], "{spec}");
        assert!(gone.iter().map(|(_, tag)| *tag).eq(0..5));
    }
}

#[test]
fn slots_stray_as_they_are_told() {
    for (spec, least, most) in [
        ("slot 5ms 15ms packets 1", 5 * MS, 15 * MS),
        (
            "slot distribution uniform 10ms 5ms packets 1",
            5 * MS,
            15 * MS,
        ),
    ] {
        let mut line = line(spec);
        for tag in 0..900 {
            line.put(0, 0, letter(tag, 1));
        }
        line.due(0);
        let gone = drain(&mut line);
        let gaps: Vec<u64> = gone.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert!(
            gaps.iter().all(|gap| (least..=most).contains(gap)),
            "{spec}"
        );
        assert!(gaps.iter().any(|gap| *gap < 6 * MS) && gaps.iter().any(|gap| *gap > 14 * MS));
    }
}

#[test]
fn beyond_the_limit_letters_are_dropped_and_told() {
    let mut short = line("delay 1ms limit 3");
    let fates: Vec<bool> = (0..5)
        .map(|tag| short.put(0, 0, letter(tag, 1)).overflow)
        .collect();
    assert_eq!(fates, [false, false, false, true, true]);
    assert_eq!(drain(&mut short).len(), 3);
    assert!(!short.put(2 * MS, 0, letter(5, 1)).overflow);
    let mut usual = line("delay 1ms");
    let kept = (0..2000).filter(|tag| !usual.put(0, 0, letter(*tag, 1)).overflow);
    assert_eq!(kept.count(), DEFAULT_LIMIT as usize);
    assert!(line("limit 0").put(0, 0, letter(0, 1)).overflow);
    // A duplicate without room is none.
    let fate = line("duplicate 100% limit 1").put(0, 0, letter(0, 1));
    assert_eq!((fate.overflow, fate.duplicates), (false, 0));
}

#[test]
fn corruption_flips_exactly_one_bit() {
    let mut impaired = line("corrupt 100%");
    let mut places = [false; 64];
    for tag in 0..2000 {
        assert!(impaired.put(0, 0, letter(tag, 8)).corrupted);
        let found = impaired.due(0).unwrap().data;
        let flipped = found.iter().map(|byte| byte ^ tag as u8);
        let bits: Vec<usize> = flipped
            .enumerate()
            .flat_map(|(byte, bits)| {
                (0..8)
                    .filter(move |bit| bits >> bit & 1 == 1)
                    .map(move |bit| byte * 8 + bit)
            })
            .collect();
        assert_eq!(bits.len(), 1);
        places[bits[0]] = true;
    }
    assert!(places.iter().all(|seen| *seen), "any bit may be the one");
    // Nothing can be flipped of nothing.
    assert!(!impaired.put(0, 0, letter(0, 0)).corrupted);
}

#[test]
fn truncation_leaves_the_first_bytes() {
    let mut fixed = line("truncate 100% 4");
    for (bytes, left) in [(10, 4), (5, 4), (4, 4), (3, 3), (0, 0)] {
        let fate = fixed.put(0, 0, letter(7, bytes));
        assert_eq!(fate.truncated, left < bytes, "{bytes}");
        assert_eq!(fixed.due(0).unwrap().data, vec![7; left]);
    }
    let mut any = line("truncate 100%");
    let mut seen = [false; 10];
    for _ in 0..500 {
        assert!(any.put(0, 0, letter(7, 10)).truncated);
        seen[any.due(0).unwrap().data.len()] = true;
    }
    assert_eq!(seen, [true; 10], "from none to all but one");
    assert!(!any.put(0, 0, letter(7, 0)).truncated);
    // What is flipped is in what is left.
    let mut both = line("truncate 100% 2 corrupt 100%");
    both.put(0, 0, letter(0, 100));
    let found = both.due(0).unwrap().data;
    assert_eq!(found.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    assert_eq!(found.len(), 2);
}

#[test]
fn a_duplicate_has_its_own_fate_and_cancels_a_loss() {
    let mut twice = line("duplicate 100% delay 10ms 5ms");
    assert_eq!(twice.put(0, 0, letter(1, 1)).duplicates, 1);
    let gone = drain(&mut twice);
    assert_eq!(gone.len(), 2);
    assert_ne!(gone[0].0, gone[1].0);
    // netem_enqueue(): one more and one less is one.
    let mut cancelled = line("duplicate 100% loss 100%");
    let fate = cancelled.put(0, 0, letter(1, 1));
    assert_eq!((fate.lost, fate.duplicates, cancelled.len()), (false, 0, 1));
}

const ALL: &str = "delay 5ms 3ms 20% distribution pareto loss gemodel 5% 40% duplicate 10% corrupt 10% \
                   truncate 10% reorder 10% seed 11";

/// What a line with this tape makes of 500 datagrams.
fn run(spec: &str, tape: Option<Arc<Tape>>) -> (Vec<Fate>, Vec<Letter<usize>>) {
    let mut line = Line::new(&spec.parse().unwrap(), Direction::In, tape);
    let put = |tag: usize| line.put(tag as u64 * MS, tag as u32 % 3, letter(tag, 30));
    let fates = (0..500).map(put).collect();
    (fates, line.take_all())
}

#[test]
fn what_was_recorded_is_replayed_as_it_was() {
    let tape = Arc::new(Tape::recording(10_000));
    let first = run(ALL, Some(Arc::clone(&tape)));
    let text = print_trace(&tape.decisions());
    assert!(tape.dropped() == 0 && text.lines().count() > 501);
    // The seed is another one, so that nothing can have been drawn.
    let other = ALL.replace("seed 11", "seed 12");
    assert_ne!(run(&other, None), first);
    let replayed = Arc::new(Tape::replaying(parse_trace(&text).unwrap()));
    assert_eq!(run(&other, Some(Arc::clone(&replayed))), first);
    assert_eq!(run("", Some(Arc::clone(&replayed))), first);
    assert_eq!(print_trace(&replayed.decisions()), text);
}

#[test]
fn a_trace_that_does_not_fit_does_no_harm() {
    let cut = Decision {
        truncate_to: Some(100),
        corrupt_bit: Some(u64::MAX),
        ..Decision::untouched(Direction::In, 0, 0, 0)
    };
    let tape = Arc::new(Tape::replaying(vec![cut]));
    let mut line = Line::new(&Netem::default(), Direction::In, Some(tape));
    assert_eq!(line.put(0, 0, letter(0, 3)), Fate::default());
    assert_eq!(line.due(0), Some(letter(0, 3)));
}

#[test]
fn the_same_seed_gives_the_same_trace_with_1_2_and_4_workers() {
    let spec: Netem = ALL.parse().unwrap();
    let trace = |workers: u32| {
        let tape = Arc::new(Tape::recording(100_000));
        thread::scope(|scope| {
            for worker in 0..workers {
                let mut line = Line::new(&spec, Direction::Out, Some(Arc::clone(&tape)));
                scope.spawn(move || {
                    // Each flow's datagrams in order; the flows as the workers get to them,
                    // at times of their own.
                    for round in 0..300 {
                        for flow in (worker..8).step_by(workers as usize) {
                            let now_ns = round * u64::from(workers) * 77;
                            line.put(now_ns, flow, letter(0, 40));
                            while line.due(now_ns).is_some() {}
                        }
                    }
                });
            }
        });
        print_trace(&tape.decisions())
    };
    let one = trace(1);
    assert!(one.lines().count() > 2400);
    assert_eq!(trace(2), one);
    assert_eq!(trace(4), one);
}

#[test]
fn directions_flows_and_seeds_are_drawn_for_apart() {
    let lost = |seed: u64, direction, flow| {
        let spec = "loss 50%".parse::<Netem>().unwrap().with_seed(seed);
        let mut line = Line::new(&spec, direction, None);
        (0..64)
            .map(|tag| line.put(0, flow, letter(tag, 1)).lost)
            .collect::<Vec<_>>()
    };
    let one = lost(1, Direction::In, 0);
    assert_eq!(lost(1, Direction::In, 0), one);
    assert_ne!(lost(2, Direction::In, 0), one);
    assert_ne!(lost(1, Direction::Out, 0), one);
    assert_ne!(lost(1, Direction::In, 1), one);
}

proptest! {
    #[test]
    fn letters_come_in_the_order_of_their_time(gaps in prop::collection::vec(0..3 * MS, 1..60), seed: u64) {
        let spec = "delay 5ms 5ms distribution normal".parse::<Netem>().unwrap().with_seed(seed);
        let tape = Arc::new(Tape::recording(100));
        let mut line = Line::new(&spec, Direction::Out, Some(Arc::clone(&tape)));
        let mut now_ns = 0;
        let mut put = Vec::new();
        for (tag, gap) in gaps.into_iter().enumerate() {
            now_ns += gap;
            line.put(now_ns, 0, letter(tag, 1));
            put.push(now_ns);
        }
        let delay = |tag: usize| tape.decisions()[tag].delay_ns;
        let mut wanted: Vec<(u64, usize)> =
            put.iter().enumerate().map(|(tag, at)| (at + delay(tag), tag)).collect();
        wanted.sort();
        prop_assert_eq!(drain(&mut line), wanted);
    }
}
