//! Answers commands, of which each stands for itself.

use std::io::Write;

use super::clock::{Precision, now_as_text};
use super::{Outcome, Replies, Request, Respond};
use crate::sys::clock::append_host_name;

/// The error reply to anything that is not a command.
pub const UNKNOWN_COMMAND: &[u8] = b"Unknown command";

/// The responder `command`.
///
/// | request | reply |
/// |---|---|
/// | `TIME` | the local time with its offset and microseconds: ISO 8601 |
/// | `ECHO text` | the text |
/// | `HOSTNAME` | the name of this machine: gethostname(2) |
/// | `CLIENTIP` | whom the server sees, as in `192.0.2.1:4711`, `[2001:db8::1]:4711` |
/// | `SERVERADDRESS` | which address was asked, likewise |
/// | anything else | [`UNKNOWN_COMMAND`], an error |
///
/// White space (ASCII) around the request and around the text is ignored. Case is kept, and
/// counts: `time` is no command.
#[derive(Debug)]
pub(super) struct Command;

impl Respond for Command {
    fn respond(&mut self, requests: &[Request<'_>], replies: &mut Replies) {
        // Read for the first that asks, the same for the others.
        let (mut time, mut host) = (None, None);
        for request in requests {
            let asked = request.data.trim_ascii();
            let (command, text) = match asked.iter().position(u8::is_ascii_whitespace) {
                Some(space) => (&asked[..space], asked[space..].trim_ascii_start()),
                None => (asked, &[][..]),
            };
            match command {
                b"ECHO" => replies.reply(text),
                // The others take no text.
                _ if !text.is_empty() => replies.error(UNKNOWN_COMMAND),
                b"TIME" => say(
                    time.get_or_insert_with(|| now_as_text(Precision::Microseconds)),
                    replies,
                ),
                b"HOSTNAME" => say(host.get_or_insert_with(host_name), replies),
                // Writing to memory does not fail.
                b"CLIENTIP" => replies.reply_with(|reply| {
                    let _ = write!(reply, "{}", request.peer);
                }),
                b"SERVERADDRESS" => replies.reply_with(|reply| {
                    let _ = write!(reply, "{}", request.local);
                }),
                _ => replies.error(UNKNOWN_COMMAND),
            }
        }
    }
}

fn say(text: &Option<Vec<u8>>, replies: &mut Replies) {
    match text {
        Some(text) => replies.reply(text),
        None => replies.end(Outcome::Failed),
    }
}

fn host_name() -> Option<Vec<u8>> {
    let mut name = Vec::new();
    append_host_name(&mut name).ok().map(|()| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::respond::tests::{ask, ask_from};

    #[test]
    fn each_command_and_what_is_none() {
        for (request, outcome, reply) in [
            (
                &b"ECHO Hello World"[..],
                Outcome::Reply,
                &b"Hello World"[..],
            ),
            (b" \t ECHO  two  words \r\n", Outcome::Reply, b"two  words"),
            (b"ECHO", Outcome::Reply, b""),
            (b"ECHO \xff\x00", Outcome::Reply, b"\xff\x00"),
            (b"HOSTNAME\n", Outcome::Reply, &host_name().unwrap()),
            (b"CLIENTIP", Outcome::Reply, b"192.0.2.1:4711"),
            (b"SERVERADDRESS", Outcome::Reply, b"192.0.2.2:7"),
            (b"", Outcome::Error, b"Unknown command"),
            (b"time", Outcome::Error, b"Unknown command"),
            (b"ECHOES", Outcome::Error, b"Unknown command"),
            (b"TIME please", Outcome::Error, b"Unknown command"),
        ] {
            assert_eq!(
                ask(&mut Command, &[request]),
                [(outcome, reply.to_vec())],
                "{}",
                request.escape_ascii()
            );
        }
    }

    #[test]
    fn an_ipv6_address_stands_in_brackets() {
        let (peer, local) = ("[2001:db8::1]:4711", "[2001:db8::2]:7");
        let replies = ask_from(&mut Command, peer, local, &[b"CLIENTIP", b"SERVERADDRESS"]);
        assert_eq!(replies[0].1, peer.as_bytes());
        assert_eq!(replies[1].1, local.as_bytes());
    }

    #[test]
    fn the_time_is_iso_8601_and_one_for_a_batch() {
        let replies = ask(&mut Command, &[b"TIME", b"TIME"]);
        let time = str::from_utf8(&replies[0].1).unwrap();
        assert_eq!(time.len(), "2026-11-20T13:00:00.000000+01:00".len());
        assert_eq!((&time[10..11], &time[19..20]), ("T", "."));
        assert_eq!(replies[0], replies[1]);
    }
}
