//! How a window grows after congestion: RFC 9438 §4. Windows are in packets.

/// Packets a second cubed (§5).
const C: f64 = 0.4;
const BETA: f64 = super::BETA;
/// What Reno's window grows by a round trip, to be as large on average (§4.3).
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// Where the window was, and since when it grows.
#[derive(Debug, Clone, Default)]
pub(super) struct Cubic {
    /// The window at the last congestion.
    most: f64,
    /// The window from which this growth began, and the one before that.
    began: f64,
    /// When it would be at `most` again, in seconds after the start.
    k: f64,
    start_ns: Option<u64>,
    /// What Reno's window would be.
    reno: f64,
}

impl Cubic {
    /// After slow start: from here on.
    pub(super) fn begin(&mut self, window: f64) {
        *self = Self {
            most: window,
            began: window,
            reno: window,
            ..Self::default()
        };
    }

    /// After congestion: the window was `before` and is `now`.
    pub(super) fn cut(&mut self, _now_ns: u64, before: f64, now: f64) {
        // Fast convergence (§4.7): who had more before leaves room for newcomers.
        self.most = if before < self.most {
            before * (1.0 + BETA) / 2.0
        } else {
            before
        };
        self.began = now;
        self.reno = now;
        self.start_ns = None;
    }

    /// The window at the last congestion, in packets.
    pub(super) fn target(&self) -> f64 {
        self.most
    }

    /// Time in which the window holds nothing back does not count (§5.8).
    pub(super) fn pause(&mut self) {
        if self.start_ns.is_some() {
            self.began = self.began.max(self.reno);
        }
        self.start_ns = None;
    }

    /// The window after `acked` packets more.
    pub(super) fn grow(&mut self, now_ns: u64, rtt_ns: u64, window: f64, acked: f64) -> f64 {
        let start_ns = *self.start_ns.get_or_insert_with(|| {
            self.began = window;
            self.reno = window;
            self.k = ((self.most - window).max(0.0) / C).cbrt();
            now_ns
        });
        let seconds = now_ns.saturating_sub(start_ns).saturating_add(rtt_ns) as f64 / 1e9;
        let origin = self.most.max(self.began);
        let cubic = origin + C * (seconds - self.k).powi(3);
        let target = cubic.clamp(window, 1.5 * window);
        let alpha = if self.reno < self.most { ALPHA } else { 1.0 };
        self.reno += alpha * acked / window;
        let grown = window + (target - window) / window * acked;
        grown.max(self.reno)
    }
}
