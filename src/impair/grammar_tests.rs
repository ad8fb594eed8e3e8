//! The grammars, by what they read, refuse, and print; and any text at all.

use proptest::prelude::*;

use super::laws;
use super::*;

fn percent(percent: f64) -> Percent {
    Percent::new(percent).unwrap()
}

fn netem(text: &str) -> Netem {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn chance(probability: f64, correlation: f64) -> Chance {
    Chance {
        percent: percent(probability),
        correlation: percent(correlation),
    }
}

#[test]
fn reads_what_tc_netem_reads() {
    let delay = |time_ns, jitter_ns, correlation, distribution| Netem {
        delay: Some(Delay {
            time_ns,
            jitter_ns,
            correlation: percent(correlation),
            distribution,
        }),
        ..Netem::default()
    };
    let ms = 1_000_000;
    use Distribution::{Normal, ParetoNormal, Uniform};
    for (text, wanted) in [
        ("delay 100ms", delay(100 * ms, 0, 0.0, Uniform)),
        ("latency 100ms 10ms", delay(100 * ms, 10 * ms, 0.0, Uniform)),
        (
            "delay 100ms 10ms 25%",
            delay(100 * ms, 10 * ms, 25.0, Uniform),
        ),
        (
            "delay 100ms 10ms distribution normal",
            delay(100 * ms, 10 * ms, 0.0, Normal),
        ),
        (
            "distribution paretonormal delay 1s 1ms 1",
            delay(1000 * ms, ms, 1.0, ParetoNormal),
        ),
        (
            "delay 1ms 1us distribution uniform",
            delay(ms, 1000, 0.0, Uniform),
        ),
    ] {
        assert_eq!(netem(text), wanted, "{text}");
    }
    let loss = |text| netem(text).loss.unwrap();
    assert_eq!(loss("loss 0.3%"), Loss::Random(chance(0.3, 0.0)));
    assert_eq!(loss("drop random 30 25%"), Loss::Random(chance(30.0, 25.0)));
    // Defaults as in tc-netem(8).
    assert_eq!(
        loss("loss state 1%"),
        Loss::State {
            p13: percent(1.0),
            p31: percent(1.0).complement(),
            p32: Percent::NEVER,
            p23: Percent::ALWAYS,
            p14: Percent::NEVER,
        }
    );
    assert_eq!(
        loss("loss state 1% 10% 5% 50% 0.1%"),
        Loss::State {
            p13: percent(1.0),
            p31: percent(10.0),
            p32: percent(5.0),
            p23: percent(50.0),
            p14: percent(0.1),
        }
    );
    assert_eq!(
        loss("loss gemodel 1%"),
        Loss::Gemodel {
            p: percent(1.0),
            r: percent(1.0).complement(),
            one_minus_h: Percent::ALWAYS,
            one_minus_k: Percent::NEVER,
        }
    );
    assert_eq!(
        loss("loss gemodel 1% 10% 70% 0.1%"),
        Loss::Gemodel {
            p: percent(1.0),
            r: percent(10.0),
            one_minus_h: percent(70.0),
            one_minus_k: percent(0.1),
        }
    );
    let all = netem(
        "duplicate 1% 2% corrupt 3% reorder 25% 50% gap 5 delay 10ms rate 5kbit 20 100 5 \
         slot 800us 1ms packets 2 bytes 3k limit 7 seed 42 truncate 9% 64",
    );
    assert_eq!(all.duplicate, Some(chance(1.0, 2.0)));
    assert_eq!(all.corrupt, Some(chance(3.0, 0.0)));
    assert_eq!((all.reorder, all.gap), (Some(chance(25.0, 50.0)), Some(5)));
    assert_eq!(
        all.rate,
        Some(Rate {
            bytes_per_second: 625,
            packet_overhead: 20,
            cell_size: 100,
            cell_overhead: 5,
        })
    );
    let between = |min_ns, max_ns| SlotDelay::Between { min_ns, max_ns };
    assert_eq!(
        all.slot,
        Some(Slot {
            delay: between(800_000, ms),
            packets: 2,
            bytes: 3072,
        })
    );
    assert_eq!(
        (all.limit, all.seed, all.seed()),
        (Some(7), Some(42), Some(42))
    );
    let cut = Truncate {
        percent: percent(9.0),
        bytes: Some(64),
    };
    assert_eq!(all.truncate, Some(cut));
    assert_eq!(netem("rate 1mbit -14").rate.unwrap().packet_overhead, -14);
    assert_eq!(netem("slot 1ms").slot.unwrap().delay, between(ms, ms));
    assert_eq!(
        netem("slot distribution pareto 1ms 10us")
            .slot
            .unwrap()
            .delay,
        SlotDelay::Distribution {
            distribution: Distribution::Pareto,
            delay_ns: ms,
            jitter_ns: 10_000,
        }
    );
}

#[test]
fn a_line_of_tc_pastes_in() {
    let wanted = netem("delay 100ms 10ms loss 1%");
    for text in [
        "tc qdisc add dev eth0 root netem delay 100ms 10ms loss 1%",
        "sudo /sbin/tc qdisc replace dev netem0 parent 1:1 handle 10: netem delay 100ms 10ms loss 1%",
        "sudo tc qdisc change dev eth0 root netem loss random 1% \\\n delay 100ms 10ms",
        "netem del 100ms 10ms lo 1",
        "  delay   100ms 10ms\tloss 1% ",
    ] {
        // A shell takes the backslash away.
        let text = text.replace('\\', " ");
        assert_eq!(netem(&text), wanted, "{text}");
    }
    // As tc takes beginnings of names: the first one that fits.
    assert_eq!(netem("d 1ms"), netem("delay 1ms"));
    assert_eq!(netem("dup 1%"), netem("duplicate 1%"));
    assert_eq!(netem("l 5"), netem("limit 5"));
    for text in [
        "tc qdisc del dev eth0 root netem",
        "tc qdisc add dev eth0 root fq",
        "tc",
    ] {
        let error = text.parse::<Netem>().unwrap_err().to_string();
        assert!(error.contains("add or change a netem"), "{error}");
    }
}

#[test]
fn refuses_in_one_line_with_the_reason_and_the_way_out() {
    for (text, reason) in [
        ("loss", "must follow"),
        ("loss 120%", "0% to 100%"),
        ("loss -1%", "random, state or gemodel"),
        ("loss 5 %", "without a space"),
        ("rate 8 mbit", "without a space"),
        ("loss=5%", "behind a space"),
        ("delay 10ms jitter 5ms", "delay 100ms 10ms"),
        ("delay 10ms, loss 1%", "leave the comma out"),
        ("latency 100 jitter 20, bandwidth 64", "to streams"),
        ("limit -1", "a number of datagrams is from 0"),
        ("limit 5g", "a number of datagrams is from 0"),
        ("slot 1ms packets -1", "a number of datagrams is from 0"),
        ("off", "give \"\""),
        ("none seed 7", "give \"\""),
        ("loss fast", "random, state or gemodel"),
        ("loss 1% loss 2%", "twice"),
        ("loss state 60% 40% 0% 0% 41%", "more than 100%"),
        ("loss state 1% 60% 41%", "more than 100%"),
        ("loss 1% ecn", "IP header"),
        ("delay", "must follow"),
        ("delay 100", "100ms"),
        ("delay 10ms 5", "5ms"),
        ("delay 48h", "a day"),
        ("delay 1ms distribution normal", "jitter"),
        ("distribution normal", "jitter"),
        ("delay 1ms 1ms distribution experimental", "paretonormal"),
        ("reorder 25%", "without a delay"),
        ("delay 0ms 5ms reorder 25%", "without a delay"),
        ("delay 1ms gap 5", "reorder"),
        ("rate 50%", "device"),
        ("rate fast", "kbit"),
        ("slot 2ms 1ms", "shorter"),
        ("slot distribution normal 1ms 0ms", "jitter"),
        ("slot distribution normal 1ms", "must follow"),
        ("slot 1ms packets", "must follow"),
        ("limit many", "a number of datagrams"),
        ("seed -1", "whole number"),
        ("bandwidth 100", "streams"),
        ("colour blue", "tc-netem(8)"),
        ("\u{1b}[2Jloss", "\\u{1b}"),
    ] {
        let error = text.parse::<Netem>().unwrap_err();
        let message = error.to_string();
        assert!(message.contains(reason), "{text}: {message}");
        assert!(
            message.contains("; ") || message.contains("must follow"),
            "{text}: {message}"
        );
        laws::hold_for_text(text);
    }
}

#[test]
fn zero_is_a_no_op_and_nothing_else_is() {
    for text in [
        "",
        "delay 0ms",
        "delay 0ms 0ms 50%",
        "loss 0%",
        "loss 0% 50%",
        "loss state 0%",
        "loss gemodel 0%",
        "loss gemodel 5% 5% 0% 0%",
        "duplicate 0%",
        "corrupt 0%",
        "truncate 0%",
        "truncate 0% 10",
        "delay 0ms reorder 0%",
        "rate 0",
        "slot 0ms",
        "limit 1",
        "seed 7",
    ] {
        assert!(netem(text).is_noop(), "{text}");
        assert!(
            text.parse::<DatagramImpairments>().unwrap().is_noop(),
            "{text}"
        );
        // That it is one: letters go at once, unchanged.
        laws::hold_for_letters(
            &netem(text),
            &[(0, 0, 5), (0, 0, 0), (9, 1, 1500), (0, 0, 7)],
        );
    }
    for text in [
        "delay 1ns",
        "delay 0ms 1ns",
        "loss 0.0000001%",
        "loss state 0% 1% 1% 1% 1%",
        "loss gemodel 0% 5% 5% 1%",
        "loss gemodel 1%",
        "duplicate 1%",
        "corrupt 1%",
        "truncate 1%",
        "rate 1tbit",
        "slot 0ms 1ns",
        "limit 0",
    ] {
        assert!(!netem(text).is_noop(), "{text}");
    }
}

#[test]
fn is_printed_as_short_as_it_can_be_read() {
    for text in [
        "limit 100 delay 100ms 10ms 25% distribution normal loss 20% duplicate 1% corrupt 0.1% \
         truncate 5% 10 reorder 25% 50% gap 5 rate 1mbit 20 48 5 \
         slot 800us 1ms packets 5 bytes 1500 seed 7",
        "delay 1500us 0s distribution pareto",
        "delay 1s 0s 25%",
        "loss state 1% 10% 0% 100% 0%",
        "loss gemodel 1% 10% 100% 0%",
        "rate 8bit -14",
        "rate 1gbit 0 0 -3",
        "slot distribution normal 1ms 100us",
    ] {
        assert_eq!(netem(text).to_string(), text);
    }
}

fn toxics(text: &str) -> Toxics {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn reads_toxics_by_their_names_and_in_their_units() {
    let ms = 1_000_000;
    for (text, effect, printed) in [
        (
            "latency latency=100 jitter=20",
            Effect::Latency {
                latency_ns: 100 * ms,
                jitter_ns: 20 * ms,
            },
            "latency latency=100 jitter=20",
        ),
        (
            "latency 100ms 500us",
            Effect::Latency {
                latency_ns: 100 * ms,
                jitter_ns: 500_000,
            },
            "latency latency=100 jitter=0.5",
        ),
        (
            "delay 100ms 20ms",
            Effect::Latency {
                latency_ns: 100 * ms,
                jitter_ns: 20 * ms,
            },
            "latency latency=100 jitter=20",
        ),
        (
            "bandwidth rate=100",
            Effect::Bandwidth {
                bytes_per_second: 100_000,
            },
            "bandwidth rate=100",
        ),
        (
            "bandwidth 1mbit",
            Effect::Bandwidth {
                bytes_per_second: 125_000,
            },
            "bandwidth rate=125",
        ),
        (
            "rate 1kbit",
            Effect::Bandwidth {
                bytes_per_second: 125,
            },
            "bandwidth rate=0.125",
        ),
        (
            "slow_close 1000",
            Effect::SlowClose {
                delay_ns: 1000 * ms,
            },
            "slow_close delay=1000",
        ),
        (
            "timeout",
            Effect::Timeout { timeout_ns: 0 },
            "timeout timeout=0",
        ),
        (
            "timeout timeout=2s",
            Effect::Timeout {
                timeout_ns: 2000 * ms,
            },
            "timeout timeout=2000",
        ),
        (
            "reset_peer 5",
            Effect::ResetPeer { timeout_ns: 5 * ms },
            "reset_peer timeout=5",
        ),
        (
            "slicer average_size=64 size_variation=32 delay=10",
            Effect::Slicer {
                average_size: 64,
                size_variation: 32,
                delay_ns: 10_000,
            },
            "slicer average_size=64 size_variation=32 delay=10",
        ),
        (
            "limit_data 1k",
            Effect::LimitData { bytes: 1024 },
            "limit_data bytes=1024",
        ),
        (
            "half_close",
            Effect::HalfClose { bytes: 0 },
            "half_close bytes=0",
        ),
        (
            "half_close bytes=9",
            Effect::HalfClose { bytes: 9 },
            "half_close bytes=9",
        ),
        ("accept_hang", Effect::AcceptHang, "accept_hang"),
        ("refuse", Effect::Refuse, "refuse"),
    ] {
        let read = toxics(text);
        let toxic = Toxic {
            effect,
            toxicity: 1.0,
        };
        assert_eq!(read.list, [toxic], "{text}");
        assert_eq!(read.to_string(), printed, "{text}");
        laws::hold_for_text(text);
    }
    let two = toxics("latency 100 jitter=20 toxicity=0.5, slicer 64 seed=7");
    assert_eq!(
        two,
        toxics("latency latency=100 jitter=20ms toxicity=0.5 seed 7 slicer average_size=64")
    );
    assert_eq!((two.list[0].toxicity, two.seed()), (0.5, Some(7)));
    assert_eq!(
        two.to_string(),
        "latency latency=100 jitter=20 toxicity=0.5, slicer average_size=64, seed 7"
    );
}

#[test]
fn attributes_of_toxics_stand_behind_their_names_or_an_equals_sign() {
    for (text, printed) in [
        (
            "latency 100 jitter 20, bandwidth 64",
            "latency latency=100 jitter=20, bandwidth rate=64",
        ),
        (
            "latency 100 jitter 20 bandwidth 64",
            "latency latency=100 jitter=20, bandwidth rate=64",
        ),
        (
            "latency latency 100 jitter 20",
            "latency latency=100 jitter=20",
        ),
        ("latency jitter 20 100", "latency latency=100 jitter=20"),
        ("latency 100, jitter 20", "latency latency=100 jitter=20"),
        ("reset_peer timeout 10", "reset_peer timeout=10"),
        (
            "reset_peer, timeout 10",
            "reset_peer timeout=0, timeout timeout=10",
        ),
        (
            "reset_peer 5,timeout",
            "reset_peer timeout=5, timeout timeout=0",
        ),
        ("timeout timeout 1000", "timeout timeout=1000"),
        (
            "timeout 5, timeout 6",
            "timeout timeout=5, timeout timeout=6",
        ),
        ("bandwidth rate 64", "bandwidth rate=64"),
        (
            "bandwidth 64, rate 8kbit",
            "bandwidth rate=64, bandwidth rate=1",
        ),
        ("slow_close delay 9", "slow_close delay=9"),
        (
            "slow_close 9, delay 9ms",
            "slow_close delay=9, latency latency=9",
        ),
        ("limit_data bytes 10", "limit_data bytes=10"),
        ("half_close bytes 10", "half_close bytes=10"),
        (
            "slicer average_size 64 size_variation 3 delay 10",
            "slicer average_size=64 size_variation=3 delay=10",
        ),
        ("latency 10 toxicity 0.5", "latency latency=10 toxicity=0.5"),
        ("refuse toxicity 0.5 seed 3", "refuse toxicity=0.5, seed 3"),
        ("timeout seed 3", "timeout timeout=0, seed 3"),
    ] {
        assert_eq!(toxics(text).to_string(), printed, "{text}");
        laws::hold_for_text(text);
    }
}

#[test]
fn a_line_of_tc_is_for_streams_what_they_can_have_of_it() {
    let line = "tc qdisc add dev eth0 root netem";
    for (options, printed) in [
        (
            "del 100ms 10ms rate 1mbit seed 3",
            "latency latency=100 jitter=10, bandwidth rate=125, seed 3",
        ),
        ("delay 5ms", "latency latency=5"),
        ("", ""),
    ] {
        for text in [format!("{line} {options}"), format!("netem {options}")] {
            assert_eq!(toxics(&text).to_string(), printed, "{text}");
            laws::hold_for_text(&text);
        }
    }
    for (options, reason) in [
        ("delay 100ms loss 1%", "sends again"),
        ("delay 100ms reorder 25%", "out of order"),
        ("dup 1%", "comes twice"),
        ("corrupt 1%", "checksum"),
        ("limit 5", "never overflows"),
        ("slot 1ms", "slicer"),
        ("delay 1ms 1ms 25%", "correlation"),
        ("delay 1ms 1ms distribution normal", "evenly"),
        ("rate 1mbit 20", "no packets"),
        ("colour", "no such option"),
    ] {
        let text = format!("{line} {options}");
        let message = text.parse::<Toxics>().unwrap_err().to_string();
        assert!(message.contains(reason), "{text}: {message}");
    }
    let message = "tc qdisc del dev eth0 root netem"
        .parse::<Toxics>()
        .unwrap_err();
    assert!(message.to_string().contains("add or change"), "{message}");
}

#[test]
fn refuses_for_streams_what_tcp_would_hide() {
    for (text, reason) in [
        ("loss 1%", "sends again"),
        ("duplicate 1%", "comes twice"),
        ("reorder 25%", "out of order"),
        ("corrupt 1%", "checksum"),
        ("truncate 1%", "limit_data"),
        ("slot 1ms", "slicer"),
        ("delay 1ms 1ms 25%", "correlation"),
        ("delay 1ms 1ms distribution normal", "evenly"),
        ("latency", "must follow"),
        ("bandwidth", "must follow"),
        ("slicer", "must follow"),
        ("slicer 10 10", "size_variation"),
        ("slicer 0", "size_variation"),
        ("latency toxicity=2 5", "0 to 1"),
        ("latency 5 toxicity=nan", "0 to 1"),
        ("latency speed=5", "latency, jitter"),
        ("latency 1 2 3", "no such attribute"),
        ("latency 5 latency=6", "twice"),
        ("refuse 5", "toxicity, and nothing else"),
        ("seed 1 seed 2", "twice"),
        ("colour", "Toxiproxy"),
        ("latency 5 latency 6", "a comma before another"),
        ("latency 5 toxicity 0.5 toxicity 1", "twice"),
        ("bandwidth 64 rate 1mbit", "a comma before another"),
        ("reset_peer timeout", "`reset_peer, timeout` for two"),
        ("reset_peer timeout, latency 5", "a number must follow"),
        ("latency 5 jitter", "a number must follow"),
        ("latency 5 jitter -1", "a time is a number"),
        ("latency 5 toxicity half", "a number must follow"),
        ("delay 10ms jitter 5ms", "an attribute, as latency has it"),
        ("delay 10ms toxicity 0.5", "belongs to a toxic"),
        ("latency 100 ms", "without a space"),
        ("off", "give \"\""),
        ("none seed 7", "give \"\""),
    ] {
        let message = text.parse::<Toxics>().unwrap_err().to_string();
        assert!(message.contains(reason), "{text}: {message}");
        laws::hold_for_text(text);
    }
    let read: StreamImpairments = "upstream timeout; downstream latency 5".parse().unwrap();
    assert_eq!(
        read.to_string(),
        "in timeout timeout=0; out latency latency=5"
    );
}

#[test]
fn connections_are_refused_and_hung_by_their_toxicity() {
    let read = |text: &str| text.parse::<StreamImpairments>().unwrap();
    let all = |text: &str| {
        let read = read(text);
        (0..1000)
            .map(move |connection| read.accept(connection))
            .collect::<Vec<_>>()
    };
    assert!(
        all("latency 5")
            .iter()
            .all(|accept| *accept == Accept::Normal)
    );
    assert!(
        all("accept_hang")
            .iter()
            .all(|accept| *accept == Accept::Hang)
    );
    assert!(
        all("in refuse; out accept_hang")
            .iter()
            .all(|accept| *accept == Accept::Refuse)
    );
    assert_eq!(all("refuse toxicity=0.3"), all("refuse toxicity=0.3"));
    assert_ne!(
        all("refuse toxicity=0.3 seed 1"),
        all("refuse toxicity=0.3 seed 2")
    );
    let count = all("refuse toxicity=0.3")
        .iter()
        .filter(|accept| **accept == Accept::Refuse)
        .count();
    // 4 standard errors of 1000 tries.
    assert!((242..=358).contains(&count), "{count}");
    assert!(read("").is_noop() && read("latency 0, bandwidth 0").is_noop());
    assert!(read("refuse toxicity=0").is_noop() && !read("refuse").is_noop());
    assert_eq!(read("refuse").with_seed(3).seed(), Some(3));
    assert_eq!(read("refuse seed 4").with_seed(3).seed(), Some(4));
}

// Boxed, since the tree of all of them is too large for a test's stack.

fn any_percent() -> BoxedStrategy<Percent> {
    prop_oneof![
        any::<u32>().prop_map(Percent::of_steps),
        Just(Percent::NEVER),
        Just(Percent::ALWAYS)
    ]
    .boxed()
}

fn any_chance() -> BoxedStrategy<Chance> {
    (any_percent(), any_percent())
        .prop_map(|(percent, correlation)| Chance {
            percent,
            correlation,
        })
        .boxed()
}

fn any_time() -> BoxedStrategy<u64> {
    prop_oneof![
        0..86_400_000_000_000u64,
        (0..86_400u64).prop_map(|seconds| seconds * 1_000_000_000),
        0..2000u64
    ]
    .boxed()
}

fn any_distribution() -> BoxedStrategy<Distribution> {
    prop::sample::select(
        Distribution::NAMES
            .map(|(_, distribution)| distribution)
            .to_vec(),
    )
    .boxed()
}

fn any_loss() -> BoxedStrategy<Loss> {
    let four = (any_percent(), any_percent(), any_percent(), any_percent());
    prop_oneof![
        any_chance().prop_map(Loss::Random),
        four.prop_map(|(p13, p31, p23, share)| Loss::State {
            p13,
            p31,
            p23,
            p32: share.min(p31.complement()),
            p14: share.min(p13.complement()),
        }),
        (any_percent(), any_percent(), any_percent(), any_percent()).prop_map(
            |(p, r, one_minus_h, one_minus_k)| Loss::Gemodel {
                p,
                r,
                one_minus_h,
                one_minus_k
            }
        ),
    ]
    .boxed()
}

fn any_rate() -> BoxedStrategy<Rate> {
    let cells = (any::<i32>(), any::<u32>(), any::<i32>());
    (0..=125_000_000_000_000u64, cells)
        .prop_map(|(bytes_per_second, cells)| Rate {
            bytes_per_second,
            packet_overhead: cells.0,
            cell_size: cells.1,
            cell_overhead: cells.2,
        })
        .boxed()
}

fn any_slot() -> BoxedStrategy<Slot> {
    let delay = (any_time(), any_time(), prop::option::of(any_distribution()));
    (delay, any::<u32>(), any::<u32>())
        .prop_map(|((one, other, distribution), packets, bytes)| Slot {
            delay: match distribution {
                Some(distribution) => SlotDelay::Distribution {
                    distribution,
                    delay_ns: one,
                    jitter_ns: other.max(1),
                },
                None => SlotDelay::Between {
                    min_ns: one.min(other),
                    max_ns: one.max(other),
                },
            },
            packets,
            bytes,
        })
        .boxed()
}

fn any_netem() -> BoxedStrategy<Netem> {
    use prop::option::of;
    let delay = (any_time(), any_time(), any_percent(), any_distribution());
    let reorder = of((any_chance(), of(any::<u32>())));
    let truncate = (any_percent(), of(any::<u32>()));
    let first = (
        of(delay),
        of(any_loss()),
        of(any_chance()),
        of(any_chance()),
        reorder,
    );
    let second = (
        of(any_rate()),
        of(any_slot()),
        of(any::<u32>()),
        of(truncate),
        of(any::<u64>()),
    );
    (first, second)
        .prop_map(|(first, second)| {
            let delay = first
                .0
                .map(|(time_ns, jitter_ns, correlation, distribution)| Delay {
                    time_ns,
                    jitter_ns,
                    correlation,
                    distribution,
                });
            let reorder = first
                .4
                .filter(|_| delay.is_some_and(|delay| delay.time_ns > 0));
            Netem {
                delay,
                loss: first.1,
                duplicate: first.2,
                corrupt: first.3,
                reorder: reorder.map(|(chance, _)| chance),
                gap: reorder.and_then(|(_, gap)| gap),
                rate: second.0,
                slot: second.1,
                limit: second.2,
                truncate: second.3.map(|(percent, bytes)| Truncate { percent, bytes }),
                seed: second.4,
            }
        })
        .boxed()
}

pub(super) fn any_effect() -> BoxedStrategy<Effect> {
    let size = prop_oneof![0..300u64, any::<u64>().prop_map(|bytes| bytes >> 15)];
    prop_oneof![
        (any_time(), any_time()).prop_map(|(latency_ns, jitter_ns)| Effect::Latency {
            latency_ns,
            jitter_ns
        }),
        (0..=125_000_000_000_000u64)
            .prop_map(|bytes_per_second| Effect::Bandwidth { bytes_per_second }),
        any_time().prop_map(|delay_ns| Effect::SlowClose { delay_ns }),
        any_time().prop_map(|timeout_ns| Effect::Timeout { timeout_ns }),
        any_time().prop_map(|timeout_ns| Effect::ResetPeer { timeout_ns }),
        (1..5000u32, any::<u32>(), any_time()).prop_map(|(average_size, other, delay_ns)| {
            Effect::Slicer {
                average_size,
                size_variation: other % average_size,
                delay_ns,
            }
        }),
        size.clone().prop_map(|bytes| Effect::LimitData { bytes }),
        size.prop_map(|bytes| Effect::HalfClose { bytes }),
        Just(Effect::AcceptHang),
        Just(Effect::Refuse),
    ]
    .boxed()
}

pub(super) fn any_toxics() -> BoxedStrategy<Toxics> {
    let toxicity = prop_oneof![Just(1.0), 0.0..=1.0];
    let toxic = (any_effect(), toxicity).prop_map(|(effect, toxicity)| Toxic { effect, toxicity });
    let list = prop::collection::vec(toxic, 0..4);
    (list, any::<Option<u64>>())
        .prop_map(|(list, seed)| Toxics { list, seed })
        .boxed()
}

/// Texts that are nearly right.
fn any_words() -> impl Strategy<Value = String> {
    let words = "delay loss random state gemodel duplicate corrupt reorder gap rate slot limit \
                 truncate seed distribution normal packets bytes ecn tc qdisc add netem in out \
                 both ; , latency=5 jitter=1 jitter timeout toxicity bytes off latency bandwidth slicer reset_peer toxicity=0.5 \
                 half_close 1% 10ms 5 0 100kbit 1k -3 99% 1e9s";
    let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    prop::collection::vec(prop::sample::select(words), 0..12).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn what_is_printed_reads_the_same(incoming in any_netem(), outgoing in any_netem()) {
        let said = |netem: Netem| Some(netem).filter(|netem| *netem != Netem::default());
        let spec = DatagramImpairments { incoming: said(incoming), outgoing: said(outgoing) };
        let printed = spec.to_string();
        prop_assert_eq!(printed.parse(), Ok(spec), "{}", printed);
    }

    #[test]
    fn what_is_printed_of_streams_reads_the_same(incoming in any_toxics(), outgoing in any_toxics()) {
        let spec = StreamImpairments { incoming, outgoing };
        let printed = spec.to_string();
        prop_assert_eq!(printed.parse(), Ok(spec), "{}", printed);
    }

    #[test]
    fn any_text_is_read_or_refused(text: String, words in any_words()) {
        laws::hold_for_text(&text);
        laws::hold_for_text(&words);
    }

    #[test]
    fn whatever_is_done_letters_are_accounted_for(
        spec in any_netem(),
        letters in prop::collection::vec((0..5_000_000u64, 0..3u32, 0..2000usize), 0..40),
    ) {
        laws::hold_for_letters(&spec, &letters);
    }
}
