//! tc-netem(8)'s grammar. netem_parse_opt() in iproute2's tc/q_netem.c is the reference for
//! what is accepted, but for what it accepts and the kernel then takes for something else.

use std::iter::Peekable;
use std::str::{FromStr, SplitWhitespace};

use crate::error::{Error, Result};

use super::distribution::Distribution;
use super::percent::Percent;
use super::spec::{Chance, Delay, Loss, Netem, Rate, Slot, SlotDelay, Truncate};
use super::units::{
    apart, count, is_number, is_signed_number, is_unit, percent, rate, refuse, small_size, time_ns,
    whole,
};

/// The words of a specification, one after the other.
pub(super) struct Words<'a>(Peekable<SplitWhitespace<'a>>);

impl<'a> Words<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self(text.split_whitespace().peekable())
    }

    pub(super) fn next(&mut self) -> Option<&'a str> {
        self.0.next()
    }

    /// The word that must follow `after`; `what` says what it is.
    pub(super) fn need(&mut self, after: &str, what: &str) -> Result<&'a str> {
        self.0
            .next()
            .ok_or_else(|| refuse(after, format_args!("{what} must follow")))
    }

    /// The next word if it is a number.
    pub(super) fn number(&mut self) -> Option<&'a str> {
        self.0.next_if(|word| is_number(word))
    }

    /// The next word, which is not taken.
    pub(super) fn peek(&mut self) -> Option<&'a str> {
        self.0.peek().copied()
    }

    fn signed_number(&mut self) -> Option<&'a str> {
        self.0.next_if(|word| is_signed_number(word))
    }

    /// Whether this word comes next; then it is taken.
    fn is_next(&mut self, wanted: &str) -> bool {
        self.0.next_if_eq(&wanted).is_some()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keyword {
    Limit,
    Delay,
    Loss,
    Seed,
    Ecn,
    Reorder,
    Corrupt,
    Gap,
    Duplicate,
    Distribution,
    Rate,
    Slot,
    Truncate,
}

/// In the order in which tc looks: any beginning of a name will do, and the first one that
/// begins so is meant (`d` is `delay`, `dup` is `duplicate`).
const OPTIONS: [(&str, Keyword); 15] = [
    ("limit", Keyword::Limit),
    ("latency", Keyword::Delay),
    ("delay", Keyword::Delay),
    ("loss", Keyword::Loss),
    ("drop", Keyword::Loss),
    ("seed", Keyword::Seed),
    ("ecn", Keyword::Ecn),
    ("reorder", Keyword::Reorder),
    ("corrupt", Keyword::Corrupt),
    ("gap", Keyword::Gap),
    ("duplicate", Keyword::Duplicate),
    ("distribution", Keyword::Distribution),
    ("rate", Keyword::Rate),
    ("slot", Keyword::Slot),
    ("truncate", Keyword::Truncate),
];

/// What streams have and datagrams have not.
const OF_STREAMS: [&str; 9] = [
    "bandwidth",
    "slow_close",
    "timeout",
    "reset_peer",
    "slicer",
    "limit_data",
    "half_close",
    "accept_hang",
    "refuse",
];

impl FromStr for Netem {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = options_of(text)?;
        if text.contains(',') {
            return Err(commas(text));
        }
        let mut words = Words::new(text);
        let mut parsed = Parsed::default();
        while let Some(word) = words.next() {
            parsed.option(word, &mut words)?;
        }
        parsed.finish()
    }
}

/// Whether this is a line of tc's, or the end of one from `netem` on.
pub(super) fn is_line_of_tc(text: &str) -> bool {
    let first = text.split_whitespace().next().unwrap_or_default();
    matches!(first, "sudo" | "qdisc" | "netem") || first.rsplit('/').next() == Some("tc")
}

/// What follows `netem` in a whole line of tc; other text as it is.
fn options_of(text: &str) -> Result<&str> {
    if !is_line_of_tc(text) {
        return Ok(text);
    }
    let is_end = text.split_whitespace().next() == Some("netem");
    // A word by itself: a device may be called netem0.
    let mut from = 0;
    for word in text.split_whitespace() {
        let at = from + text[from..].find(word).unwrap_or_default();
        from = at + word.len();
        if word == "netem" {
            let verbs = ["add", "change", "replace"];
            let has_verb = text[..at]
                .split_whitespace()
                .any(|word| verbs.contains(&word));
            if is_end || has_verb {
                return Ok(&text[from..]);
            }
            break;
        }
    }
    Err(refuse(
        text,
        "of tc's lines only those that add or change a netem can be used",
    )
    .or("write `tc qdisc add dev eth0 root netem loss 1%`, or `loss 1%` alone"))
}

#[derive(Default)]
struct Parsed {
    netem: Netem,
    /// Given apart from the delay that it shapes.
    distribution: Option<Distribution>,
    has_jitter: bool,
}

impl Parsed {
    fn option(&mut self, word: &str, words: &mut Words<'_>) -> Result<()> {
        let Some((name, option)) = OPTIONS.iter().find(|(name, _)| name.starts_with(word)) else {
            return Err(unknown(word));
        };
        let netem = &mut self.netem;
        match option {
            Keyword::Limit => set(
                &mut netem.limit,
                word,
                count(words.need(name, "a number")?)?,
            ),
            Keyword::Delay => {
                let (delay, has_jitter) = delay(name, words)?;
                self.has_jitter = has_jitter;
                set(&mut netem.delay, word, delay)
            }
            Keyword::Loss => set(&mut netem.loss, word, loss(name, words)?),
            Keyword::Seed => set(&mut netem.seed, word, whole(words.need(name, "a number")?)?),
            Keyword::Ecn => Err(refuse(
                word,
                "marking instead of dropping is done in the IP header of a packet on its way, \
                 and a server has no such packet in hand",
            )
            .or("leave ecn out, and datagrams are lost")),
            Keyword::Reorder => set(&mut netem.reorder, word, chance(name, words)?),
            Keyword::Corrupt => set(&mut netem.corrupt, word, chance(name, words)?),
            Keyword::Gap => set(&mut netem.gap, word, whole(words.need(name, "a number")?)?),
            Keyword::Duplicate => set(&mut netem.duplicate, word, chance(name, words)?),
            Keyword::Distribution => set(&mut self.distribution, word, distribution(name, words)?),
            Keyword::Rate => set(&mut netem.rate, word, line_rate(name, words)?),
            Keyword::Slot => set(&mut netem.slot, word, slot(name, words)?),
            Keyword::Truncate => set(&mut netem.truncate, word, truncate(name, words)?),
        }
    }

    /// What can only be judged when all is read.
    fn finish(mut self) -> Result<Netem> {
        if let Some(distribution) = self.distribution {
            let Some(delay) = self.netem.delay.as_mut().filter(|_| self.has_jitter) else {
                return Err(refuse(
                    "distribution",
                    "it shapes a delay's jitter, and there is none",
                )
                .or("write `delay 100ms 10ms distribution normal`, say"));
            };
            delay.distribution = distribution;
        }
        let reorders = self
            .netem
            .reorder
            .is_some_and(|chance| chance.percent != Percent::NEVER);
        let delays = self.netem.delay.is_some_and(|delay| delay.time_ns > 0);
        if reorders && !delays {
            return Err(refuse(
                "reorder",
                "what is reordered overtakes those that are held, and without a delay none is",
            )
            .or("write `delay 10ms reorder 25%`, say"));
        }
        if self.netem.gap.is_some_and(|gap| gap > 0) && self.netem.reorder.is_none() {
            return Err(
                refuse("gap", "it counts from one reordered datagram to the next")
                    .or("write `delay 10ms reorder 100% gap 5`, say"),
            );
        }
        Ok(self.netem)
    }
}

fn set<V>(place: &mut Option<V>, word: &str, value: V) -> Result<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(refuse(word, "it is given twice").or("leave one of them out")),
    }
}

/// A list with commas, as streams have it.
fn commas(text: &str) -> Error {
    let mut names = text.split(|letter: char| letter == ',' || letter.is_whitespace());
    if let Some(name) = names.find(|name| OF_STREAMS.contains(name)) {
        return unknown(name);
    }
    let mut words = text.split_whitespace();
    let word = words.find(|word| word.contains(',')).unwrap_or(text);
    refuse(word, "options are separated by spaces, as in tc").or("leave the comma out")
}

/// Another word for nothing.
pub(super) fn off(word: &str) -> Error {
    refuse(word, "what impairs nothing is the empty text")
        .or("give \"\", or leave out the way that is not to be impaired")
}

fn unknown(word: &str) -> Error {
    if is_unit(word) {
        return apart(word);
    }
    if let Some((name, _)) = word.split_once('=')
        && OPTIONS.iter().any(|(known, _)| *known == name)
    {
        return refuse(word, "a value stands behind a space, as in tc")
            .or(format!("put one behind `{name}`"));
    }
    if matches!(word, "off" | "none") {
        return off(word);
    }
    if word == "jitter" {
        return refuse(word, "it follows the delay without a name")
            .or("write `delay 100ms 10ms`, say");
    }
    if OF_STREAMS.contains(&word) {
        return refuse(word, "this is done to streams, not to datagrams")
            .or("impair a TCP server with it; for datagrams see `rate`, `delay` and `loss`");
    }
    refuse(word, "there is no such option").or(
        "there are delay, distribution, loss, duplicate, corrupt, reorder, gap, rate, slot, \
         limit, truncate and seed, as in tc-netem(8)",
    )
}

fn delay(name: &str, words: &mut Words<'_>) -> Result<(Delay, bool)> {
    let mut delay = Delay {
        time_ns: time_ns(words.need(name, "a time")?, None)?,
        ..Delay::default()
    };
    let Some(jitter) = words.number() else {
        return Ok((delay, false));
    };
    delay.jitter_ns = time_ns(jitter, None)?;
    delay.correlation = or_never(words.number())?;
    Ok((delay, true))
}

fn chance(name: &str, words: &mut Words<'_>) -> Result<Chance> {
    Ok(Chance {
        percent: percent(words.need(name, "a percentage")?)?,
        correlation: or_never(words.number())?,
    })
}

fn or_never(word: Option<&str>) -> Result<Percent> {
    word.map_or(Ok(Percent::NEVER), percent)
}

fn loss(name: &str, words: &mut Words<'_>) -> Result<Loss> {
    if words.is_next("state") {
        let p13 = percent(words.need("state", "a percentage")?)?;
        let mut rest = [
            p13.complement(),
            Percent::NEVER,
            Percent::ALWAYS,
            Percent::NEVER,
        ];
        defaults(&mut rest, words)?;
        let [p31, p32, p23, p14] = rest;
        at_most_all("p13 and p14", "state 1", [p13, p14])?;
        at_most_all("p31 and p32", "state 3", [p31, p32])?;
        return Ok(Loss::State {
            p13,
            p31,
            p32,
            p23,
            p14,
        });
    }
    if words.is_next("gemodel") {
        let p = percent(words.need("gemodel", "a percentage")?)?;
        let mut rest = [p.complement(), Percent::ALWAYS, Percent::NEVER];
        defaults(&mut rest, words)?;
        let [r, one_minus_h, one_minus_k] = rest;
        return Ok(Loss::Gemodel {
            p,
            r,
            one_minus_h,
            one_minus_k,
        });
    }
    let name = if words.is_next("random") {
        "random"
    } else {
        name
    };
    let follows = words.need(name, "a percentage, random, state or gemodel")?;
    if !is_number(follows) {
        return Err(refuse(
            follows,
            "loss goes by a percentage, random, state or gemodel",
        )
        .or("write `loss 1%`, say"));
    }
    Ok(Loss::Random(Chance {
        percent: percent(follows)?,
        correlation: or_never(words.number())?,
    }))
}

/// Replaces what is there by the numbers that follow.
fn defaults(values: &mut [Percent], words: &mut Words<'_>) -> Result<()> {
    for value in values {
        match words.number() {
            Some(word) => *value = percent(word)?,
            None => break,
        }
    }
    Ok(())
}

/// The kernel adds them in 32 bits and takes what overflows for the sum.
fn at_most_all(names: &str, state: &str, ways: [Percent; 2]) -> Result<()> {
    let sum: u64 = ways.iter().map(|way| u64::from(way.steps())).sum();
    // Each may have been rounded up.
    if sum <= u64::from(u32::MAX) + 2 {
        return Ok(());
    }
    Err(refuse(
        names,
        format_args!("they lead out of {state}, and come to more than 100%"),
    )
    .or("lower one of them"))
}

fn distribution(name: &str, words: &mut Words<'_>) -> Result<Distribution> {
    let word = words.need(name, "uniform, normal, pareto or paretonormal")?;
    let found = Distribution::NAMES.iter().find(|(name, _)| *name == word);
    found.map(|(_, distribution)| *distribution).ok_or_else(|| {
        refuse(word, "tables of one's own are not read")
            .or("take uniform, normal, pareto or paretonormal")
    })
}

fn line_rate(name: &str, words: &mut Words<'_>) -> Result<Rate> {
    let mut line = Rate {
        bytes_per_second: rate(words.need(name, "a rate")?)?,
        ..Rate::default()
    };
    if let Some(overhead) = words.signed_number() {
        line.packet_overhead = whole(overhead)?;
        if let Some(size) = words.number() {
            line.cell_size = whole(size)?;
            if let Some(overhead) = words.signed_number() {
                line.cell_overhead = whole(overhead)?;
            }
        }
    }
    Ok(line)
}

fn slot(name: &str, words: &mut Words<'_>) -> Result<Slot> {
    let delay = if words.is_next("distribution") {
        let distribution = distribution("distribution", words)?;
        let delay_ns = time_ns(words.need("slot distribution", "a delay")?, None)?;
        let word = words.need("slot distribution", "a jitter")?;
        let jitter_ns = time_ns(word, None)?;
        if jitter_ns == 0 {
            return Err(refuse(word, "a distribution without jitter is none")
                .or("write `slot MIN MAX` for slots without one"));
        }
        SlotDelay::Distribution {
            distribution,
            delay_ns,
            jitter_ns,
        }
    } else {
        let min_ns = time_ns(words.need(name, "a time, or distribution")?, None)?;
        let max_ns = match words.number() {
            Some(word) => time_ns(word, None)?,
            None => min_ns,
        };
        if max_ns < min_ns {
            return Err(
                refuse(name, "the longest delay is shorter than the shortest")
                    .or("write the shorter one first"),
            );
        }
        SlotDelay::Between { min_ns, max_ns }
    };
    let mut limit = |name, read: fn(&str) -> Result<u32>| match words.is_next(name) {
        true => read(words.need(name, "a number")?),
        false => Ok(0),
    };
    Ok(Slot {
        delay,
        packets: limit("packets", count)?,
        bytes: limit("bytes", small_size)?,
    })
}

fn truncate(name: &str, words: &mut Words<'_>) -> Result<Truncate> {
    Ok(Truncate {
        percent: percent(words.need(name, "a percentage")?)?,
        bytes: words.number().map(small_size).transpose()?,
    })
}
