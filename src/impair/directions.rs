//! Which way it goes: `in SPEC; out SPEC`.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

use super::random_seed;
use super::spec::Netem;
use super::stream::{Accept, Toxics};
use super::units::refuse;

/// Which way a datagram or a stream goes, seen from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From clients to the server: requests. Toxiproxy's "upstream".
    In,
    /// From the server to clients: replies. Toxiproxy's "downstream".
    Out,
}

impl Direction {
    /// As in the grammar: `in`, `out`.
    pub fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// What is impaired of a UDP server's datagrams. Nothing by default.
///
/// As text: `SPEC` alone is what tc would do on the way out, to replies; `in SPEC`,
/// `out SPEC` and `both SPEC` say which way, and several are joined by `;`. SPEC is
/// [`Netem`]'s.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DatagramImpairments {
    /// What comes in.
    pub incoming: Option<Netem>,
    /// What goes out.
    pub outgoing: Option<Netem>,
}

impl DatagramImpairments {
    /// True where neither way is impaired.
    pub fn is_noop(&self) -> bool {
        self.each().all(Netem::is_noop)
    }

    /// The seed, where one was given; of two the one on the way out.
    pub fn seed(&self) -> Option<u64> {
        self.each().find_map(Netem::seed)
    }

    /// With this seed on each way that has none.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self {
            incoming: self.incoming.map(|netem| netem.with_seed(seed)),
            outgoing: self.outgoing.map(|netem| netem.with_seed(seed)),
        }
    }

    /// With a seed on each way: the one that was given, also where it was given for the other
    /// way, or a new one. What impairs nothing needs none.
    #[must_use]
    pub fn seeded(self) -> Self {
        if self.is_noop() {
            return self;
        }
        let seed = self.seed().unwrap_or_else(random_seed);
        self.with_seed(seed)
    }

    fn each(&self) -> impl Iterator<Item = &Netem> {
        self.outgoing.iter().chain(&self.incoming)
    }
}

impl FromStr for DatagramImpairments {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let [incoming, outgoing] = split(text)?;
        let read = |text: Option<&str>| -> Result<Option<Netem>> {
            let netem = text.map(str::parse).transpose()?;
            // `netem` without an option says nothing.
            Ok(netem.filter(|netem| *netem != Netem::default()))
        };
        Ok(Self {
            incoming: read(incoming)?,
            outgoing: read(outgoing)?,
        })
    }
}

impl fmt::Display for DatagramImpairments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |netem: &Option<Netem>| netem.as_ref().map(Netem::to_string);
        join(f, text(&self.incoming), text(&self.outgoing))
    }
}

/// What is impaired of a TCP server's connections. Nothing by default.
///
/// As text: as [`DatagramImpairments`], with [`Toxics`] for SPEC; `upstream` and `downstream`
/// are other names of `in` and `out`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StreamImpairments {
    /// What comes in.
    pub incoming: Toxics,
    /// What goes out.
    pub outgoing: Toxics,
}

impl StreamImpairments {
    /// True where neither way is impaired, nor any connection.
    pub fn is_noop(&self) -> bool {
        self.incoming.is_noop() && self.outgoing.is_noop()
    }

    /// What becomes of the connection with this number when it comes; the stricter where
    /// the two ways differ.
    pub fn accept(&self, connection: u64) -> Accept {
        let incoming = self.incoming.accept(Direction::In, connection);
        incoming.max(self.outgoing.accept(Direction::Out, connection))
    }

    /// The seed, where one was given; of two the one on the way out.
    pub fn seed(&self) -> Option<u64> {
        self.outgoing.seed().or(self.incoming.seed())
    }

    /// With a seed on each way: the one that was given, also where it was given for the other
    /// way, or a new one. What impairs nothing needs none.
    #[must_use]
    pub fn seeded(self) -> Self {
        if self.is_noop() {
            return self;
        }
        let seed = self.seed().unwrap_or_else(random_seed);
        self.with_seed(seed)
    }

    /// With this seed on each way that has none.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self {
            incoming: self.incoming.with_seed(seed),
            outgoing: self.outgoing.with_seed(seed),
        }
    }
}

impl FromStr for StreamImpairments {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let [incoming, outgoing] = split(text)?;
        Ok(Self {
            incoming: incoming.unwrap_or_default().parse()?,
            outgoing: outgoing.unwrap_or_default().parse()?,
        })
    }
}

impl fmt::Display for StreamImpairments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |toxics: &Toxics| Some(toxics.to_string());
        join(f, text(&self.incoming), text(&self.outgoing))
    }
}

/// What is said of the way in, and of the way out.
fn split(text: &str) -> Result<[Option<&str>; 2]> {
    let mut ways = [None; 2];
    for part in text.split(';').map(str::trim) {
        if part.is_empty() {
            continue;
        }
        let (word, rest) = part.split_once(char::is_whitespace).unwrap_or((part, ""));
        let (is_meant, rest) = match word {
            "in" | "upstream" => ([true, false], rest),
            "out" | "downstream" => ([false, true], rest),
            "both" => ([true, true], rest),
            _ => ([false, true], part),
        };
        if rest.trim().is_empty() {
            return Err(refuse(part, "what to impair that way must follow")
                .or(format!("write `{word} delay 10ms`, say")));
        }
        for (way, _) in ways
            .iter_mut()
            .zip(is_meant)
            .filter(|(_, is_meant)| *is_meant)
        {
            if way.replace(rest).is_some() {
                return Err(refuse(part, "this way was spoken of before")
                    .or("say all that is impaired one way in one part"));
            }
        }
    }
    Ok(ways)
}

/// The shortest way to say both; an empty text says nothing.
fn join(
    f: &mut fmt::Formatter<'_>,
    incoming: Option<String>,
    outgoing: Option<String>,
) -> fmt::Result {
    let said = |text: Option<String>| text.filter(|text| !text.is_empty());
    match (said(incoming), said(outgoing)) {
        (None, None) => Ok(()),
        (None, Some(outgoing)) => f.write_str(&outgoing),
        (Some(incoming), None) => write!(f, "in {incoming}"),
        (Some(incoming), Some(outgoing)) if incoming == outgoing => write!(f, "both {outgoing}"),
        (Some(incoming), Some(outgoing)) => write!(f, "in {incoming}; out {outgoing}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alone_is_the_way_out_as_tc_would_have_it() {
        for (text, printed) in [
            ("", ""),
            (" ; ", ""),
            ("both netem", ""),
            ("loss 1%", "loss 1%"),
            ("out loss 1%", "loss 1%"),
            ("downstream loss 1%", "loss 1%"),
            ("in loss 1%", "in loss 1%"),
            ("upstream loss 1%;", "in loss 1%"),
            ("both loss 1%", "both loss 1%"),
            ("in loss 1%; out loss 1%", "both loss 1%"),
            ("loss 2%; in loss 1%", "in loss 1%; out loss 2%"),
        ] {
            let read: DatagramImpairments = text.parse().unwrap();
            assert_eq!(read.to_string(), printed, "{text}");
            assert_eq!(printed.parse(), Ok(read), "{text}");
        }
        for text in [
            "in",
            "both ",
            "loss 1%; out loss 2%",
            "both loss 1%; in loss 1%",
            "in in loss 1%",
        ] {
            let error = text.parse::<DatagramImpairments>().unwrap_err();
            assert!(error.is_argument(), "{text}");
        }
    }

    #[test]
    fn a_seed_that_was_given_stays() {
        let spec: DatagramImpairments = "in loss 1% seed 7; out loss 1%".parse().unwrap();
        assert_eq!(spec.seed(), Some(7));
        let spec = spec.with_seed(9);
        assert_eq!(spec.to_string(), "in loss 1% seed 7; out loss 1% seed 9");
        assert_eq!(spec.seed(), Some(9));
        assert_eq!(DatagramImpairments::default().with_seed(9).seed(), None);
    }
}
