//! The log line about connections that were closed at once because of their source.

use std::net::SocketAddr;

use crate::event::{Level, Line, Lines};
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
        let Self {
            denied,
            by_source,
            by_rate,
            ..
        } = self;
        let last = self.last_peer.map(|peer| format!(", the last from {peer}"));
        let text = format!(
            "closed at once on {server}: {} connections (denied={denied} by_source={by_source} by_rate={by_rate}){}",
            denied + by_source + by_rate,
            last.unwrap_or_default(),
        );
        Line {
            level: Level::Warning,
            name: "refused",
            text,
        }
    }
}
