//! The grammar of toxics: names and units are those of Toxiproxy's README.
//!
//! Attributes are written `NAME=VALUE`, `NAME VALUE` or, in their order, as values alone. Some
//! names are a toxic's and an attribute's (`timeout`, `latency`, `delay`, `rate`): behind a
//! toxic that has it the attribute is meant, behind a comma the toxic.

use std::str::FromStr;

use super::spec::{Effect, Toxic, Toxics};
use crate::error::{Error, Result};
use crate::impair::distribution::Distribution;
use crate::impair::parse::{Words, is_line_of_tc, off};
use crate::impair::percent::Percent;
use crate::impair::spec::Netem;
use crate::impair::units::{
    apart, bytes_per_second, is_number, is_signed_number, is_unit, rate, refuse, size, small_size,
    time_ns, whole,
};

/// What a bare number counts where times are in milliseconds, and where in microseconds.
const MS: Option<f64> = Some(1e6);
const US: Option<f64> = Some(1e3);

/// Each toxic's attributes, in their order; and which of them it cannot do without.
const TOXICS: [(&str, &[&str], usize); 10] = [
    ("latency", &["latency", "jitter"], 1),
    ("bandwidth", &["rate"], 1),
    ("slow_close", &["delay"], 1),
    ("timeout", &["timeout"], 0),
    ("reset_peer", &["timeout"], 0),
    ("slicer", &["average_size", "size_variation", "delay"], 1),
    ("limit_data", &["bytes"], 1),
    ("half_close", &["bytes"], 0),
    ("accept_hang", &[], 0),
    ("refuse", &[], 0),
];

impl FromStr for Toxics {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if is_line_of_tc(text) {
            return of_netem(&text.parse()?);
        }
        // A word of its own.
        let text = text.replace(',', " , ");
        let mut words = Words::new(&text);
        let mut toxics = Self::default();
        while let Some(word) = words.next() {
            if word == "," {
                continue;
            }
            if is_seed(word) {
                let value = match word.strip_prefix("seed=") {
                    Some(value) => value,
                    None => words.need("seed", "a number")?,
                };
                if toxics.seed.replace(whole(value)?).is_some() {
                    return Err(refuse("seed", "it is given twice").or("leave one of them out"));
                }
                continue;
            }
            toxics.list.push(toxic(word, &mut words)?);
        }
        Ok(toxics)
    }
}

fn is_seed(word: &str) -> bool {
    word == "seed" || word.starts_with("seed=")
}

/// Whether a toxic begins with this word, where no attribute can be meant.
fn is_toxic(word: &str) -> bool {
    matches!(word, "delay" | "rate") || TOXICS.iter().any(|(known, ..)| *known == word)
}

fn toxic(name: &str, words: &mut Words<'_>) -> Result<Toxic> {
    // netem's two that a stream can have; their numbers have netem's units.
    match name {
        "delay" => return delay(words),
        "rate" => {
            let bytes_per_second = rate(words.need("rate", "a rate")?)?;
            return surely(Effect::Bandwidth { bytes_per_second });
        }
        _ => {}
    }
    let Some((name, attributes, required)) = TOXICS.iter().find(|(known, ..)| *known == name)
    else {
        return Err(unknown(name));
    };
    let mut given = Given {
        name,
        values: [None; 3],
        attributes,
        toxicity: None,
    };
    given.read(words)?;
    if given.values.iter().flatten().count() == 0 && *required > 0 {
        let wanted = attributes[0];
        return Err(refuse(name, format_args!("{wanted} must follow"))
            .or(format!("write `{name} {wanted}=100`, say")));
    }
    Ok(Toxic {
        effect: given.effect()?,
        toxicity: given.toxicity.map_or(Ok(1.0), fraction)?,
    })
}

fn surely(effect: Effect) -> Result<Toxic> {
    Ok(Toxic {
        effect,
        toxicity: 1.0,
    })
}

/// netem's `delay TIME [JITTER]`.
fn delay(words: &mut Words<'_>) -> Result<Toxic> {
    let latency_ns = time_ns(words.need("delay", "a time")?, None)?;
    let jitter_ns = words.number().map_or(Ok(0), |word| time_ns(word, None))?;
    if let Some(word) = words.number() {
        return Err(correlated(word));
    }
    surely(Effect::Latency {
        latency_ns,
        jitter_ns,
    })
}

fn correlated(word: &str) -> Error {
    refuse(
        word,
        "a stream's data stays in order, and its delays stray by themselves: there is no \
         correlation",
    )
    .or("leave it out")
}

/// What a line of tc's does to a stream; refused where that is more than TCP shows.
fn of_netem(netem: &Netem) -> Result<Toxics> {
    let refused = [
        ("loss", netem.loss.is_some()),
        ("duplicate", netem.duplicate.is_some()),
        ("corrupt", netem.corrupt.is_some()),
        ("reorder", netem.reorder.is_some()),
        ("gap", netem.gap.is_some()),
        ("slot", netem.slot.is_some()),
        ("limit", netem.limit.is_some()),
        ("truncate", netem.truncate.is_some()),
    ];
    if let Some((name, _)) = refused.iter().find(|(_, is_given)| *is_given) {
        return Err(unknown(name));
    }
    let mut effects = Vec::new();
    if let Some(delay) = netem.delay {
        if delay.distribution != Distribution::Uniform {
            return Err(unknown("distribution"));
        }
        if delay.correlation != Percent::NEVER {
            return Err(correlated(&delay.correlation.to_string()));
        }
        effects.push(Effect::Latency {
            latency_ns: delay.time_ns,
            jitter_ns: delay.jitter_ns,
        });
    }
    if let Some(rate) = netem.rate {
        if (rate.packet_overhead, rate.cell_size, rate.cell_overhead) != (0, 0, 0) {
            return Err(refuse(
                "rate",
                "a stream has no packets with headers or cells to count",
            )
            .or("write the rate alone"));
        }
        effects.push(Effect::Bandwidth {
            bytes_per_second: rate.bytes_per_second,
        });
    }
    let list = effects.into_iter().map(surely).collect::<Result<_>>()?;
    Ok(Toxics {
        list,
        seed: netem.seed,
    })
}

/// What of netem cannot be done to a stream, and why.
fn unknown(word: &str) -> Error {
    let name = word.split_once('=').map_or(word, |(name, _)| name);
    if is_unit(word) {
        return apart(word);
    }
    let owner = TOXICS
        .iter()
        .find(|(_, attributes, _)| attributes.contains(&name));
    if let Some((owner, ..)) = owner {
        return refuse(word, format_args!("it is an attribute, as {owner} has it"))
            .or(format!("write `{owner} 100 {name} 20`, say"));
    }
    match name {
        "off" | "none" => off(word),
        "toxicity" => refuse(
            word,
            "it belongs to a toxic, and none is before it that has it",
        )
        .or("write `latency 100 toxicity 0.5`, say"),
        "loss" | "drop" => refuse(
            word,
            "TCP sends again what is lost: the stream would only be late",
        )
        .or("take latency, or timeout for data that never comes"),
        "duplicate" => refuse(word, "TCP drops what comes twice: nobody would see it")
            .or("leave it out, or impair a UDP server with it"),
        "reorder" | "gap" => refuse(
            word,
            "TCP puts in order what comes out of order: the stream would only be late",
        )
        .or("take latency with jitter"),
        "corrupt" => refuse(
            word,
            "TCP drops what its checksum tells is corrupt, and sends it again: the stream \
             would only be late",
        )
        .or("take latency, or answer with other bytes by a responder"),
        "truncate" => {
            refuse(word, "a stream has no datagrams to cut").or("take limit_data or half_close")
        }
        "slot" => refuse(word, "a stream has no packets to gather").or("take slicer with a delay"),
        "limit" => refuse(word, "a stream's queue is bounded, and never overflows")
            .or("take limit_data for an end after so many bytes"),
        "distribution" => refuse(word, "a stream's delays stray evenly").or("leave it out"),
        "ecn" => refuse(word, "marks are the kernel's business in TCP").or("leave it out"),
        _ => refuse(word, "there is no such toxic").or(
            "there are latency, bandwidth, slow_close, timeout, reset_peer, slicer, limit_data, \
             half_close, accept_hang, refuse and seed, as in Toxiproxy, and netem's delay and \
             rate",
        ),
    }
}

/// The attributes that were given, by their place.
struct Given<'a> {
    name: &'static str,
    attributes: &'static [&'static str],
    values: [Option<&'a str>; 3],
    toxicity: Option<&'a str>,
}

impl<'a> Given<'a> {
    /// All that belongs to this toxic.
    fn read(&mut self, words: &mut Words<'a>) -> Result<()> {
        let mut place = 0;
        let mut is_behind_comma = false;
        while let Some(word) = words.peek() {
            if word == "," {
                is_behind_comma = true;
            } else if is_seed(word) || (is_behind_comma && is_toxic(word)) {
                break;
            } else if let Some((attribute, value)) = word.split_once('=') {
                self.set(attribute, value)?;
            } else if is_number(word) {
                let attribute = self.attributes.get(place).copied().unwrap_or(word);
                self.set(attribute, word)?;
                place += 1;
            } else if word == "toxicity" || self.attributes.contains(&word) {
                words.next();
                let value = words.peek().filter(|value| is_signed_number(value));
                self.set(word, value.ok_or_else(|| self.lacks(word))?)?;
            } else {
                break;
            }
            words.next();
        }
        Ok(())
    }

    fn lacks(&self, attribute: &str) -> Error {
        let error = refuse(
            attribute,
            format_args!(
                "behind {} it is an attribute, and a number must follow",
                self.name
            ),
        );
        match is_toxic(attribute) {
            true => error.or(format!("write `{}, {attribute}` for two toxics", self.name)),
            false => error.or(format!("write `{attribute} 0.5`, say")),
        }
    }

    fn set(&mut self, attribute: &str, value: &'a str) -> Result<()> {
        if attribute == "toxicity" {
            return once(&mut self.toxicity, attribute, value);
        }
        let Some(place) = self.attributes.iter().position(|known| *known == attribute) else {
            let error = refuse(
                attribute,
                format_args!("{} has no such attribute", self.name),
            );
            return Err(match self.attributes {
                [] => error.or("it has toxicity, and nothing else"),
                known => error.or(format!("it has {} and toxicity", known.join(", "))),
            });
        };
        once(&mut self.values[place], attribute, value)
    }

    fn time_ns(&self, place: usize, bare_ns: Option<f64>) -> Result<u64> {
        self.values[place].map_or(Ok(0), |word| time_ns(word, bare_ns))
    }

    fn effect(&self) -> Result<Effect> {
        Ok(match self.name {
            "latency" => Effect::Latency {
                latency_ns: self.time_ns(0, MS)?,
                jitter_ns: self.time_ns(1, MS)?,
            },
            "bandwidth" => Effect::Bandwidth {
                bytes_per_second: self.values[0].map_or(Ok(0), kilobytes)?,
            },
            "slow_close" => Effect::SlowClose {
                delay_ns: self.time_ns(0, MS)?,
            },
            "timeout" => Effect::Timeout {
                timeout_ns: self.time_ns(0, MS)?,
            },
            "reset_peer" => Effect::ResetPeer {
                timeout_ns: self.time_ns(0, MS)?,
            },
            "slicer" => self.slicer()?,
            "limit_data" => Effect::LimitData {
                bytes: self.values[0].map_or(Ok(0), size)?,
            },
            "half_close" => Effect::HalfClose {
                bytes: self.values[0].map_or(Ok(0), size)?,
            },
            "accept_hang" => Effect::AcceptHang,
            _ => Effect::Refuse,
        })
    }

    fn slicer(&self) -> Result<Effect> {
        let average_size = self.values[0].map_or(Ok(0), small_size)?;
        let size_variation = self.values[1].map_or(Ok(0), small_size)?;
        if size_variation >= average_size {
            return Err(refuse(
                "slicer",
                "average_size is more than 0, and more than size_variation",
            )
            .or("write `slicer average_size=64 size_variation=32`, say"));
        }
        Ok(Effect::Slicer {
            average_size,
            size_variation,
            delay_ns: self.time_ns(2, US)?,
        })
    }
}

fn once<'a>(place: &mut Option<&'a str>, attribute: &str, value: &'a str) -> Result<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(refuse(attribute, "it is given twice")
            .or("leave one of them out, or put a comma before another toxic")),
    }
}

/// A bandwidth: bare numbers are KB/s, of 1000 bytes each; with a unit it is netem's.
fn kilobytes(word: &str) -> Result<u64> {
    match word.parse::<f64>() {
        Ok(number) if is_number(word) => bytes_per_second(word, (number * 1e3).round()),
        _ => rate(word),
    }
}

fn fraction(word: &str) -> Result<f64> {
    let number = word
        .parse()
        .ok()
        .filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| {
        refuse(word, "toxicity is a number from 0 to 1")
            .or("write toxicity=0.5 for every other one")
    })
}
