//! The log line about connections that were closed at once because of their source.

use std::net::SocketAddr;

use crate::event::{Level, Line, Lines, Part, Parts};
use crate::guard::Refusal;
use crate::throttle::LeftOut;

/// Those since the last line.
#[derive(Debug, Default)]
pub(super) struct Refused {
    denied: u64,
    by_source: u64,
    by_rate: u64,
    last_peer: Option<SocketAddr>,
}

/// At most one line per second.
pub(super) type Refusals = Lines<Refused>;

impl Refused {
    pub(super) fn add(&mut self, refusal: Refusal, peer: SocketAddr) {
        match refusal {
            Refusal::Denied => self.denied += 1,
            Refusal::Source => self.by_source += 1,
            Refusal::Rate => self.by_rate += 1,
        }
        self.last_peer = Some(peer);
    }

    /// The line. It needs no count of the lines that were left out: it has the sum of all.
    pub(super) fn line(self, server: &str, _: LeftOut) -> Line {
        // By their names in the statistics.
        let counts = [
            ("denied_connections", self.denied),
            ("refused_by_source", self.by_source),
            ("refused_by_rate", self.by_rate),
        ];
        let total: u64 = counts.iter().map(|(_, count)| count).sum();
        let connections = if total == 1 {
            "connection"
        } else {
            "connections"
        };
        let mut text = format!("{server} closed {total} new {connections} at once (");
        let told = counts.iter().filter(|(_, count)| *count > 0);
        let told: Vec<String> = told
            .map(|(name, count)| format!("{name}={count}"))
            .collect();
        text += &format!("{})", told.join(" "));
        let mut parts: Parts = vec![
            ("connections", total.into()),
            ("counters", Part::Counts(counts.to_vec())),
        ];
        if let Some(peer) = self.last_peer {
            text += &format!(", the last from {peer}");
            parts.push(("peer", peer.into()));
        }
        Line {
            level: Level::Warning,
            name: "refused",
            text,
            parts,
        }
    }
}
