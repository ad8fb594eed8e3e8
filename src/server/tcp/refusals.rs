//! Telling of connections that were closed at once because of whom they came from.

use std::net::SocketAddr;

use crate::event::{Level, Line, Lines};
use crate::guard::Refusal;
use crate::throttle::LeftOut;

/// Those since the last line about them.
#[derive(Debug, Default)]
pub(super) struct Refused {
    denied: u64,
    by_source: u64,
    last_peer: Option<SocketAddr>,
}

/// One line a second at most.
pub(super) type Refusals = Lines<Refused>;

impl Refused {
    pub(super) fn add(&mut self, refusal: Refusal, peer: SocketAddr) {
        match refusal {
            Refusal::Denied => self.denied += 1,
            Refusal::Source => self.by_source += 1,
        }
        self.last_peer = Some(peer);
    }

    /// The line. How many others were left out is no matter: it has the sum of them.
    pub(super) fn line(self, server: &str, _: LeftOut) -> Line {
        let (denied, by_source) = (self.denied, self.by_source);
        let last = self.last_peer.map(|peer| format!(", the last from {peer}"));
        let text = format!(
            "closed at once on {server}: {} connections (denied={denied} by_source={by_source}){}",
            denied + by_source,
            last.unwrap_or_default(),
        );
        Line {
            level: Level::Warning,
            name: "refused",
            text,
        }
    }
}
