//! The grammar of toxics: names and units are those of Toxiproxy's README.

use std::str::FromStr;

use super::spec::{Effect, Toxic, Toxics};
use crate::error::{Error, Result};
use crate::impair::parse::Words;
use crate::impair::units::{
    bytes_per_second, is_number, rate, refuse, size, small_size, time_ns, whole,
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
        // Commas separate what a space would separate as well.
        let text = text.replace(',', " ");
        let mut words = Words::new(&text);
        let mut toxics = Self::default();
        while let Some(word) = words.next() {
            if word == "seed" || word.starts_with("seed=") {
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
    };
    let mut toxicity = 1.0;
    let mut place = 0;
    while let Some(word) = words.attribute() {
        match word.split_once('=') {
            Some(("toxicity", value)) => toxicity = fraction(value)?,
            Some((attribute, value)) => given.set(attribute, value)?,
            None => {
                let attribute = attributes.get(place).copied().unwrap_or(word);
                given.set(attribute, word)?;
                place += 1;
            }
        }
    }
    if given.values.iter().flatten().count() == 0 && *required > 0 {
        let wanted = attributes[0];
        return Err(refuse(name, format_args!("{wanted} must follow"))
            .or(format!("write `{name} {wanted}=100`, say")));
    }
    Ok(Toxic {
        effect: given.effect()?,
        toxicity,
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
        return Err(refuse(
            word,
            "a stream's data stays in order, and its delays stray by \
                                 themselves: there is no correlation",
        )
        .or("leave it out"));
    }
    surely(Effect::Latency {
        latency_ns,
        jitter_ns,
    })
}

/// What of netem cannot be done to a stream, and why.
fn unknown(word: &str) -> Error {
    let name = word.split_once('=').map_or(word, |(name, _)| name);
    match name {
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
}

impl<'a> Given<'a> {
    fn set(&mut self, attribute: &str, value: &'a str) -> Result<()> {
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
        match self.values[place].replace(value) {
            None => Ok(()),
            Some(_) => Err(refuse(attribute, "it is given twice").or("leave one of them out")),
        }
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
