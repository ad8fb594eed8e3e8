//! A trace as text: JSON lines, of which the first tells the schema and each other one
//! decision.

use std::fmt::Write as _;

use crate::error::{Error, Result};

use super::decide::Decision;
use super::directions::Direction;
use super::units::Quoted;

const SCHEMA: &str = "rsecho.impair.trace/1";

/// A trace as text, which [`parse_trace`] reads.
pub fn print_trace(decisions: &[Decision]) -> String {
    let mut text = format!("{{\"schema\":\"{SCHEMA}\"}}\n");
    for decision in decisions {
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "{{\"direction\":\"{}\",\"flow\":{},\"index\":{},\"copy\":{},\"lost\":{},\
             \"duplicates\":{},\"delay_ns\":{},\"corrupt_bit\":{},\"truncate_to\":{},\
             \"reordered\":{}}}",
            decision.direction.name(),
            decision.flow,
            decision.index,
            decision.copy,
            decision.lost,
            decision.duplicates,
            decision.delay_ns,
            or_null(decision.corrupt_bit),
            or_null(decision.truncate_to),
            decision.reordered,
        );
    }
    text
}

fn or_null(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "null".to_owned(), |value| value.to_string())
}

/// Reads a trace. Each line needs `direction`, `flow` and `index`; what else is left out is
/// as if nothing became of the datagram. Empty lines are skipped. Refuses any other text, by
/// the number of its line.
pub fn parse_trace(text: &str) -> Result<Vec<Decision>> {
    let mut lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let refuse = |number: usize, reason: String| {
        Error::argument(
            "read the trace",
            format_args!("at line {}", number + 1),
            reason,
        )
    };
    let schema = lines.next().and_then(|(_, line)| {
        let fields = fields(line).ok()?;
        let found = fields.into_iter().find(|(name, _)| *name == "schema");
        found.map(|(_, value)| value)
    });
    if schema != Some(Value::Text(SCHEMA)) {
        let wanted = format!("its first line must be {{\"schema\":\"{SCHEMA}\"}}");
        return Err(refuse(0, wanted).or("give it a trace that was recorded by rsecho"));
    }
    lines
        .map(|(number, line)| decision(line).map_err(|reason| refuse(number, reason)))
        .collect()
}

/// One line; an error is the reason.
fn decision(line: &str) -> std::result::Result<Decision, String> {
    let mut decision = Decision::untouched(Direction::Out, 0, 0, 0);
    let mut missing = vec!["direction", "flow", "index"];
    for (name, value) in fields(line)? {
        missing.retain(|wanted| *wanted != name);
        let place = Place { name, value };
        match name {
            "direction" => {
                decision.direction = match value {
                    Value::Text("in") => Direction::In,
                    Value::Text("out") => Direction::Out,
                    _ => return Err(place.wrong("\"in\" or \"out\"")),
                }
            }
            "flow" => decision.flow = place.number()?,
            "index" => decision.index = place.number()?,
            "copy" => decision.copy = place.number()?,
            "lost" => decision.lost = place.truth()?,
            "duplicates" => decision.duplicates = place.number()?,
            "delay_ns" => decision.delay_ns = place.number()?,
            "corrupt_bit" => decision.corrupt_bit = place.optional()?,
            "truncate_to" => decision.truncate_to = place.optional()?,
            "reordered" => decision.reordered = place.truth()?,
            _ => return Err(format!("there is no {}", Quoted(name))),
        }
    }
    match missing.first() {
        None => Ok(decision),
        Some(name) => Err(format!("{} is missing", Quoted(name))),
    }
}

/// What a field may be here: none nests, and none of the texts needs escapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value<'a> {
    Text(&'a str),
    /// A number, true, false or null, as it stands.
    Bare(&'a str),
}

struct Place<'a> {
    name: &'a str,
    value: Value<'a>,
}

impl Place<'_> {
    fn wrong(&self, wanted: &str) -> String {
        format!("{} must be {wanted}", Quoted(self.name))
    }

    fn number<N: std::str::FromStr>(&self) -> std::result::Result<N, String> {
        let wrong = || self.wrong("a whole number that fits");
        let Value::Bare(text) = self.value else {
            return Err(wrong());
        };
        text.parse().map_err(|_| wrong())
    }

    fn optional<N: std::str::FromStr>(&self) -> std::result::Result<Option<N>, String> {
        match self.value {
            Value::Bare("null") => Ok(None),
            _ => self.number().map(Some),
        }
    }

    fn truth(&self) -> std::result::Result<bool, String> {
        match self.value {
            Value::Bare("true") => Ok(true),
            Value::Bare("false") => Ok(false),
            _ => Err(self.wrong("true or false")),
        }
    }
}

/// The fields of a flat JSON object (RFC 8259), in their order.
fn fields(line: &str) -> std::result::Result<Vec<(&str, Value<'_>)>, String> {
    let wrong = || "this is no flat JSON object".to_owned();
    let inner = line
        .trim()
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    let mut rest = inner.ok_or_else(wrong)?.trim();
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (name, after) = quoted(rest).ok_or_else(wrong)?;
        let after = after
            .trim_start()
            .strip_prefix(':')
            .ok_or_else(wrong)?
            .trim_start();
        let (value, after) = match quoted(after) {
            Some((text, after)) => (Value::Text(text), after.trim_start()),
            None => {
                let end = after.find(',').unwrap_or(after.len());
                (Value::Bare(after[..end].trim()), &after[end..])
            }
        };
        if fields.iter().any(|(known, _)| *known == name) {
            return Err(format!("{} is given twice", Quoted(name)));
        }
        fields.push((name, value));
        rest = match after.strip_prefix(',') {
            // A comma is between two.
            Some(more) if !more.trim().is_empty() => more.trim_start(),
            None if after.is_empty() => after,
            _ => return Err(wrong()),
        };
    }
    Ok(fields)
}

/// A text in quotation marks, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let (text, after) = text.strip_prefix('"')?.split_once('"')?;
    (!text.contains('\\')).then_some((text, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_decision() -> impl Strategy<Value = Decision> {
        let which = (any::<bool>(), any::<u32>(), any::<u64>(), any::<u32>());
        let what = (any::<bool>(), any::<u32>(), any::<u64>(), any::<bool>());
        let impaired = (any::<Option<u64>>(), any::<Option<usize>>());
        (which, what, impaired).prop_map(|(which, what, impaired)| Decision {
            direction: if which.0 {
                Direction::In
            } else {
                Direction::Out
            },
            flow: which.1,
            index: which.2,
            copy: which.3,
            lost: what.0,
            duplicates: what.1,
            delay_ns: what.2,
            corrupt_bit: impaired.0,
            truncate_to: impaired.1,
            reordered: what.3,
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_the_same(decisions in prop::collection::vec(any_decision(), 0..20)) {
            prop_assert_eq!(parse_trace(&print_trace(&decisions)), Ok(decisions));
        }
    }

    #[test]
    fn reads_what_others_would_write() {
        let text = "\n{ \"schema\" : \"rsecho.impair.trace/1\", \"note\": 1 }\r\n\n \
                    {\"lost\": true , \"index\": 3,\"flow\":0, \"direction\" : \"in\"}\n";
        let wanted = Decision {
            lost: true,
            ..Decision::untouched(Direction::In, 0, 3, 0)
        };
        assert_eq!(parse_trace(text), Ok(vec![wanted]));
    }

    #[test]
    fn refuses_the_rest_by_its_line() {
        let head = print_trace(&[]);
        for line in [
            "{}",
            "[]",
            "{\"flow\":0,\"index\":0}",
            "{\"direction\":\"up\",\"flow\":0,\"index\":0}",
            "{\"direction\":\"in\",\"flow\":-1,\"index\":0}",
            "{\"direction\":\"in\",\"flow\":0,\"index\":\"0\"}",
            "{\"direction\":\"in\",\"flow\":0,\"index\":0,}",
            "{\"direction\":\"in\",\"flow\":0,\"flow\":1,\"index\":0}",
            "{\"direction\":\"in\",\"flow\":0,\"index\":0,\"lost\":1}",
            "{\"direction\":\"in\",\"flow\":0,\"index\":0,\"colour\":1}",
            "{\"direction\":\"in\" \"flow\":0,\"index\":0}",
            "{\"direction\":{\"in\":1}}",
        ] {
            let error = parse_trace(&format!("{head}{line}")).unwrap_err();
            assert!(error.to_string().contains("line 2"), "{line}: {error}");
        }
        for text in ["", "{}", "{\"schema\":\"rsecho.impair.trace/2\"}"] {
            assert!(parse_trace(text).unwrap_err().is_argument(), "{text}");
        }
    }
}
