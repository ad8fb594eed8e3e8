//! Which answer, as a user says it.

use std::fmt;
use std::str::FromStr;

use super::command::Command;
use super::daytime::Daytime;
use super::discard::Discard;
use super::prefix::Prefix;
use super::time::Time;
use super::upper::Upper;
use super::{MakeResponder, Respond};
use crate::error::{Error, Result};
use crate::sys::clock::read_time_zone;

/// A responder of this package, as in `--responder prefix=TEXT`. Its text form is read back
/// as itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Choice {
    /// `echo`: the bytes that came (RFC 862).
    #[default]
    Echo,
    /// `upper`: in upper case, by Unicode where they are UTF-8, else by ASCII.
    Upper,
    /// `prefix=TEXT`: after this text, if they are UTF-8; else the error
    /// [`INVALID_ENCODING`](super::INVALID_ENCODING).
    Prefix {
        /// What is put before.
        text: String,
        /// `upper+prefix=TEXT`: what comes after it is in upper case.
        upper: bool,
    },
    /// `discard`: nothing (RFC 863).
    Discard,
    /// `daytime`: the time of day as a line (RFC 867).
    Daytime,
    /// `time`: the seconds since 1900 in four bytes (RFC 868).
    Time,
    /// `command`: TIME, ECHO, HOSTNAME, CLIENTIP and SERVERADDRESS.
    Command,
}

const NAMES: &str = "it is one of echo, upper, prefix=TEXT, discard, daytime, time, command and \
                     python=module:function";

impl Choice {
    /// The same in upper case, as `--upper` asks for: of `echo` and of `prefix`.
    ///
    /// # Errors
    ///
    /// For a responder whose answer is not what came.
    pub fn in_upper_case(self) -> Result<Self> {
        match self {
            Choice::Echo | Choice::Upper => Ok(Choice::Upper),
            Choice::Prefix { text, .. } => Ok(Choice::Prefix { text, upper: true }),
            other => {
                let rule = "only what echo and prefix=TEXT answer can be raised";
                Err(Error::argument("set", format!("upper for {other}"), rule))
            }
        }
    }

    /// What makes it for each worker; `None` for echo, which needs none.
    ///
    /// To be called where the server is made, not in its threads: it reads the time zone.
    pub fn make(&self) -> Option<MakeResponder> {
        read_time_zone();
        fn maker<R: Respond + 'static>(
            make: impl Fn() -> R + Send + Sync + 'static,
        ) -> MakeResponder {
            MakeResponder::new(move |_| Box::new(make()))
        }
        Some(match self {
            Choice::Echo => return None,
            Choice::Upper => maker(|| Upper),
            Choice::Prefix { text, upper } => {
                let (text, upper) = (text.clone().into_boxed_str(), *upper);
                maker(move || Prefix {
                    text: text.clone(),
                    upper,
                })
            }
            Choice::Discard => maker(|| Discard),
            Choice::Daytime => maker(|| Daytime),
            Choice::Time => maker(|| Time),
            Choice::Command => maker(|| Command),
        })
    }
}

impl FromStr for Choice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let prefix = |text: &str, upper| Choice::Prefix {
            text: text.to_owned(),
            upper,
        };
        if let Some(text) = text.strip_prefix("prefix=") {
            return Ok(prefix(text, false));
        }
        if let Some(text) = text.strip_prefix("upper+prefix=") {
            return Ok(prefix(text, true));
        }
        match text {
            "echo" => Ok(Choice::Echo),
            "upper" => Ok(Choice::Upper),
            "discard" => Ok(Choice::Discard),
            "daytime" => Ok(Choice::Daytime),
            "time" => Ok(Choice::Time),
            "command" => Ok(Choice::Command),
            _ => Err(Error::argument("set", format!("responder={text:?}"), NAMES)),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Echo => f.write_str("echo"),
            Choice::Upper => f.write_str("upper"),
            Choice::Prefix { text, upper: false } => write!(f, "prefix={text}"),
            Choice::Prefix { text, upper: true } => write!(f, "upper+prefix={text}"),
            Choice::Discard => f.write_str("discard"),
            Choice::Daytime => f.write_str("daytime"),
            Choice::Time => f.write_str("time"),
            Choice::Command => f.write_str("command"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::respond::tests::ask;
    use crate::respond::{Manner, Outcome};
    use proptest::prelude::*;

    fn choice() -> impl Strategy<Value = Choice> {
        prop_oneof![
            prop::sample::select(vec![
                Choice::Echo,
                Choice::Upper,
                Choice::Discard,
                Choice::Daytime,
                Choice::Time,
                Choice::Command,
            ]),
            (".*", any::<bool>()).prop_map(|(text, upper)| Choice::Prefix { text, upper }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(choice in choice()) {
            prop_assert_eq!(&choice.to_string().parse::<Choice>().unwrap(), &choice);
        }
    }

    #[test]
    fn what_is_no_responder_is_refused_with_all_that_are() {
        for text in ["", "Echo", "prefix", "python=os:getcwd"] {
            let error = text.parse::<Choice>().unwrap_err();
            assert!(error.is_argument(), "{error}");
            assert!(error.to_string().contains("prefix=TEXT"), "{error}");
        }
    }

    #[test]
    fn upper_goes_with_echo_and_prefix_only() {
        let upper = |text: &str| text.parse::<Choice>().unwrap().in_upper_case();
        assert_eq!(upper("echo").unwrap(), Choice::Upper);
        assert_eq!(
            upper("prefix=Response: ").unwrap().to_string(),
            "upper+prefix=Response: "
        );
        assert!(upper("time").unwrap_err().is_argument());
    }

    #[test]
    fn each_choice_makes_its_responder() {
        assert!(Choice::Echo.make().is_none());
        for (text, asked, outcome, reply) in [
            ("upper", "a", Outcome::Reply, "A"),
            ("prefix=Echo: ", "a", Outcome::Reply, "Echo: a"),
            ("upper+prefix=Echo: ", "a", Outcome::Reply, "Echo: A"),
            ("discard", "a", Outcome::Silence, ""),
            ("command", "ECHO a", Outcome::Reply, "a"),
        ] {
            let make = text.parse::<Choice>().unwrap().make().unwrap();
            let replies = ask(make.make(0).as_mut(), &[asked.as_bytes()]);
            assert_eq!(replies, [(outcome, reply.as_bytes().to_vec())], "{text}");
        }
        for (choice, manner) in [
            (Choice::Upper, Manner::Answers),
            (Choice::Daytime, Manner::Greets),
            (Choice::Time, Manner::Greets),
            (Choice::Discard, Manner::Listens),
        ] {
            assert_eq!(choice.make().unwrap().make(0).manner(), manner);
        }
    }
}
