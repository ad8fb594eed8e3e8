//! Numbers with units, as tc(8) writes them, and back.

use std::fmt;

use crate::error::{Error, Result};

use super::percent::Percent;

/// Times are at most a day: longer ones are slips, and no sum of them overflows.
pub(super) const LONGEST_NS: u64 = 86_400_000_000_000;

/// Rates are at most 1000 tbit.
const FASTEST_BYTES: f64 = 1e15 / 8.0;

/// An error about one word of a specification.
pub(super) fn refuse(word: &str, reason: impl fmt::Display) -> Error {
    Error::argument("impair with", Quoted(word), reason)
}

/// A word between quotation marks: one line, and not all of a long one.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = String::new();
        for letter in self.0.chars() {
            // Measured as it is shown: an escape takes up to ten.
            if shown.len() > 40 {
                shown.push('…');
                break;
            }
            shown.extend(letter.escape_debug());
        }
        write!(f, "\"{shown}\"")
    }
}

/// Whether a word is a number, as far as tc looks: by its first letter.
pub(super) fn is_number(word: &str) -> bool {
    word.starts_with(|letter: char| letter.is_ascii_digit() || letter == '.')
}

/// Whether a word is a number that may have a sign.
pub(super) fn is_signed_number(word: &str) -> bool {
    is_number(word.strip_prefix('-').unwrap_or(word))
}

/// A number and what follows it: `1.5e3ms` is 1500 and `ms`. `None` where there is no number.
fn split(word: &str) -> Option<(f64, &str)> {
    let bytes = word.as_bytes();
    let digits = |from: usize| {
        let rest = bytes.get(from..).unwrap_or_default();
        from + rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1);
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        let signed = matches!(bytes.get(end + 1), Some(b'+' | b'-'));
        let exponent = end + 1 + usize::from(signed);
        // A unit may begin with an e; an exponent has digits.
        if digits(exponent) > exponent {
            end = digits(exponent);
        }
    }
    let (number, unit) = word.split_at(end);
    let number: f64 = number.parse().ok()?;
    number.is_finite().then_some((number, unit))
}

/// The factor of a unit, whatever its case.
fn factor(table: &[(&str, f64)], unit: &str) -> Option<f64> {
    let found = table
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit));
    found.map(|(_, factor)| *factor)
}

const TIMES: [(&str, f64); 14] = [
    ("ns", 1.0),
    ("nsec", 1.0),
    ("nsecs", 1.0),
    ("us", 1e3),
    ("usec", 1e3),
    ("usecs", 1e3),
    ("ms", 1e6),
    ("msec", 1e6),
    ("msecs", 1e6),
    ("s", 1e9),
    ("sec", 1e9),
    ("secs", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
];

/// A time in nanoseconds. `bare_ns` is what a number without a unit counts; without it, it
/// is refused: tc(8) says microseconds, tc-netem(8) milliseconds, and tc takes nanoseconds.
pub(super) fn time_ns(word: &str, bare_ns: Option<f64>) -> Result<u64> {
    let wrong =
        || refuse(word, "a time is a number and ns, us, ms, s, m or h").or("write 100ms, say");
    let (number, unit) = split(word).ok_or_else(wrong)?;
    let factor = match (unit, bare_ns) {
        ("", Some(bare)) => bare,
        ("", None) if number == 0.0 => 1.0,
        ("", None) => {
            return Err(refuse(
                word,
                "it is a time without a unit, which tc(8) reads as microseconds and \
                 tc-netem(8) as milliseconds",
            )
            .or(format!("write {word}ms, say")));
        }
        (unit, _) => factor(&TIMES, unit).ok_or_else(wrong)?,
    };
    let time = (number * factor).round();
    if time > LONGEST_NS as f64 {
        return Err(refuse(word, "a time is at most a day").or("write 24h or less"));
    }
    Ok(time as u64)
}

/// A probability: `20%`, or as in tc `20`, which is the same.
pub(super) fn percent(word: &str) -> Result<Percent> {
    split(word)
        .filter(|(_, unit)| matches!(*unit, "" | "%"))
        .and_then(|(number, _)| Percent::new(number))
        .ok_or_else(|| {
            refuse(word, "a probability is from 0% to 100%")
                .or("write 20% for one in five (0.2 is 0.2%, as in tc)")
        })
}

const RATES: [(&str, f64); 19] = [
    ("", 1.0),
    ("bit", 1.0),
    ("kbit", 1e3),
    ("kibit", 1024.0),
    ("mbit", 1e6),
    ("mibit", 1024.0 * 1024.0),
    ("gbit", 1e9),
    ("gibit", 1024.0 * 1024.0 * 1024.0),
    ("tbit", 1e12),
    ("tibit", 1024.0 * 1024.0 * 1024.0 * 1024.0),
    ("bps", 8.0),
    ("kbps", 8e3),
    ("kibps", 8.0 * 1024.0),
    ("mbps", 8e6),
    ("mibps", 8.0 * 1024.0 * 1024.0),
    ("gbps", 8e9),
    ("gibps", 8.0 * 1024.0 * 1024.0 * 1024.0),
    ("tbps", 8e12),
    ("tibps", 8.0 * 1024.0 * 1024.0 * 1024.0 * 1024.0),
];

/// A rate in bytes a second. As in tc, `bps` are bytes and a bare number is bits a second.
pub(super) fn rate(word: &str) -> Result<u64> {
    if word.ends_with('%') {
        return Err(refuse(
            word,
            "a share of the device's speed needs a device, and there is none",
        )
        .or("write the rate itself, as in 100mbit"));
    }
    let (number, unit) = split(word)
        .and_then(|(number, unit)| Some((number, factor(&RATES, unit)?)))
        .ok_or_else(|| {
            refuse(
                word,
                "a rate is a number and bit, kbit, mbit, gbit (bits) or bps, kbps, \
                          mbps, gbps (bytes), each a second",
            )
            .or("write 100kbit, say")
        })?;
    bytes_per_second(word, number * unit / 8.0)
}

/// So many bytes a second, if they can be kept.
pub(super) fn bytes_per_second(word: &str, bytes: f64) -> Result<u64> {
    if bytes > FASTEST_BYTES {
        return Err(refuse(word, "a rate is at most 1000tbit").or("leave it out for no limit"));
    }
    if bytes > 0.0 && bytes < 1.0 {
        return Err(refuse(word, "a rate is a byte a second or more").or("write 8bit or more"));
    }
    Ok(bytes as u64)
}

const SIZES: [(&str, f64); 8] = [
    ("", 1.0),
    ("b", 1.0),
    ("k", 1024.0),
    ("kb", 1024.0),
    ("m", 1024.0 * 1024.0),
    ("mb", 1024.0 * 1024.0),
    ("g", 1024.0 * 1024.0 * 1024.0),
    ("gb", 1024.0 * 1024.0 * 1024.0),
];

/// A count or a size; k, m and g are powers of 1024, as in tc.
pub(super) fn size(word: &str) -> Result<u64> {
    split(word)
        .and_then(|(number, unit)| Some(number * factor(&SIZES, unit)?))
        .filter(|size| *size <= 1e15)
        .map(|size| size as u64)
        .ok_or_else(|| refuse(word, "a size is a number and b, k, m or g").or("write 64k, say"))
}

/// A size of 32 bits.
pub(super) fn small_size(word: &str) -> Result<u32> {
    u32::try_from(size(word)?).map_err(|_| {
        refuse(word, format_args!("it is at most {}", u32::MAX)).or("write a smaller one")
    })
}

/// A number of datagrams; k, m and g are taken, as tc takes them.
pub(super) fn count(word: &str) -> Result<u32> {
    let found = size(word).ok().and_then(|count| u32::try_from(count).ok());
    found.ok_or_else(|| {
        refuse(
            word,
            format_args!("a number of datagrams is from 0 to {}", u32::MAX),
        )
        .or("write 1000, say")
    })
}

/// Whether this is a unit that got away from its number: `loss 5 %`, `latency 100 ms`.
pub(super) fn is_unit(word: &str) -> bool {
    word == "%"
        || [&TIMES[..], &RATES[1..], &SIZES[1..]]
            .iter()
            .any(|table| factor(table, word).is_some())
}

/// That it did.
pub(super) fn apart(word: &str) -> Error {
    refuse(word, "a unit stands behind its number without a space").or("leave the space out")
}

/// A whole number, without a unit.
pub(super) fn whole<N: std::str::FromStr>(word: &str) -> Result<N> {
    word.parse().map_err(|_| {
        refuse(word, "it is not a whole number, or it is too large").or("write 7, say")
    })
}

/// A time in the largest unit that gives a whole number.
pub(super) struct Time(pub(super) u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)];
        let fits = units.iter().find(|(_, unit)| self.0.is_multiple_of(*unit));
        let (name, unit) = fits.unwrap_or(&("ns", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

/// Bytes a second, as bits in the largest unit that gives a whole number.
pub(super) struct Bits(pub(super) u64);

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from(self.0) * 8;
        let units = [
            ("gbit", 1_000_000_000),
            ("mbit", 1_000_000),
            ("kbit", 1_000),
        ];
        let fits = units.iter().find(|(_, unit)| bits.is_multiple_of(*unit));
        let (name, unit) = fits.unwrap_or(&("bit", 1));
        write!(f, "{}{name}", bits / unit)
    }
}

/// A number in units of a thousand or a million of what it counts: `1500` thousandths are
/// `1.5`.
pub(super) struct Scaled(pub(super) u64, pub(super) u64);

impl fmt::Display for Scaled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, unit) = *self;
        write!(f, "{}", count / unit)?;
        if count.is_multiple_of(unit) {
            return Ok(());
        }
        let digits = unit.ilog10() as usize;
        let fraction = format!("{:0digits$}", count % unit);
        write!(f, ".{}", fraction.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_tcs_units() {
        for (word, wanted) in [
            ("100ms", 100_000_000),
            ("100MSEC", 100_000_000),
            ("1.5s", 1_500_000_000),
            ("800us", 800_000),
            ("7ns", 7),
            ("1e3us", 1_000_000),
            (".5ms", 500_000),
            ("2m", 120_000_000_000),
            ("24h", LONGEST_NS),
            ("0", 0),
        ] {
            assert_eq!(time_ns(word, None), Ok(wanted), "{word}");
        }
        for word in [
            "100", "ms", "", "1x", "-1ms", "25h", "1e999s", "1e", "nan", "inf", "1 ms",
        ] {
            let error = time_ns(word, None).unwrap_err();
            assert!(
                error.is_argument() && error.to_string().contains("; "),
                "{word}: {error}"
            );
        }
        assert_eq!(time_ns("100", Some(1e6)), Ok(100_000_000));
    }

    #[test]
    fn rates_are_bits_and_bps_are_bytes() {
        for (word, wanted) in [
            ("8", 1),
            ("100kbit", 12_500),
            ("1Mbit", 125_000),
            ("1mibit", 131_072),
            ("10kbps", 10_000),
            ("1GBps", 1_000_000_000),
            ("0", 0),
        ] {
            assert_eq!(rate(word), Ok(wanted), "{word}");
        }
        for word in ["4bit", "50%", "1parsec", "", "2000tbit", "1e30"] {
            assert!(rate(word).is_err(), "{word}");
        }
    }

    #[test]
    fn what_is_printed_reads_the_same() {
        for (time, wanted) in [
            (0, "0s"),
            (100_000_000, "100ms"),
            (1_500_000, "1500us"),
            (7, "7ns"),
            (60_000_000_000, "60s"),
        ] {
            assert_eq!(Time(time).to_string(), wanted);
            assert_eq!(time_ns(wanted, None), Ok(time));
        }
        for (bytes, wanted) in [
            (0, "0gbit"),
            (125_000, "1mbit"),
            (12_500, "100kbit"),
            (1, "8bit"),
        ] {
            assert_eq!(Bits(bytes).to_string(), wanted);
            assert_eq!(rate(wanted), Ok(bytes));
        }
        assert_eq!(Scaled(1_500, 1_000).to_string(), "1.5");
        assert_eq!(Scaled(1_000_001, 1_000_000).to_string(), "1.000001");
        assert_eq!(Scaled(2_000, 1_000).to_string(), "2");
    }
}
