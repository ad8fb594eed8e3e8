//! Telling of connections that were closed at once because of whom they came from.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::{Level, Observer};
use crate::guard::Refusal;

/// Lines are at least this far apart.
const BETWEEN_LINES: Duration = Duration::from_secs(1);

/// One line a second at most.
#[derive(Debug)]
pub(super) struct Refusals {
    observer: Arc<Observer>,
    denied: u64,
    by_source: u64,
    last_peer: Option<SocketAddr>,
    last_line: Option<Instant>,
}

impl Refusals {
    pub(super) fn new(observer: Arc<Observer>) -> Self {
        Self {
            observer,
            denied: 0,
            by_source: 0,
            last_peer: None,
            last_line: None,
        }
    }

    /// Adds one, and writes a line if that is due.
    #[cold]
    pub(super) fn add(&mut self, refusal: Refusal, peer: SocketAddr) {
        match refusal {
            Refusal::Denied => self.denied += 1,
            Refusal::Source => self.by_source += 1,
        }
        self.last_peer = Some(peer);
        let now = Instant::now();
        if self
            .last_line
            .is_none_or(|last| now.saturating_duration_since(last) >= BETWEEN_LINES)
        {
            self.last_line = Some(now);
            self.write();
        }
    }

    /// Writes what has not been told yet.
    pub(super) fn write(&mut self) {
        let Some(peer) = self.last_peer.take() else {
            return;
        };
        let (denied, by_source) = (self.denied, self.by_source);
        (self.denied, self.by_source) = (0, 0);
        let text = format!(
            "closed at once on {}: {} connections (denied={denied} by_source={by_source}), the \
             last from {peer}",
            self.observer.server(),
            denied + by_source,
        );
        self.observer.notice(Level::Warning, "refused", text);
    }
}
