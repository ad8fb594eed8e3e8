//! How much may be on its way: CUBIC (RFC 9438), slow start ended by HyStart++ (RFC 9406), and
//! what a loss means (`loss.rs`).
//!
//! Bytes here are what packets cost in a receiver's buffer, with their headers.

mod cubic;
mod loss;
mod slow_start;

use cubic::Cubic;
use loss::Shares;
use slow_start::SlowStart;

/// Packets that may leave before anything is known (RFC 6928).
const INITIAL_PACKETS: f64 = 10.0;
/// And whatever was lost.
const LEAST_PACKETS: f64 = 2.0;
/// What is left of the window after congestion (RFC 9438 §4.6).
const BETA: f64 = 0.7;
/// A queue shows when the least round trip of a round is above the least ever by an eighth of it,
/// and by this: what a machine that is busy adds of itself is less.
const QUEUE_NS: u64 = 4_000_000;
/// Sends are spread over a bit less than a round trip (RFC 9002 §7.7), twice as fast in slow start.
const PACING: f64 = 1.25;

/// One round trip's acknowledgements.
#[derive(Debug, Default, Clone, Copy)]
struct Round {
    /// It is over when a packet from this number on is acknowledged.
    end: u64,
    least_rtt_ns: Option<u64>,
    /// Of the round before.
    before_ns: Option<u64>,
    is_cut: bool,
}

/// The window of one path.
#[derive(Debug, Clone)]
pub(crate) struct Congestion {
    window: f64,
    packet: f64,
    slow_start: Option<SlowStart>,
    cubic: Cubic,
    shares: Shares,
    round: Round,
    smoothed_ns: u64,
    /// How often it was made smaller.
    pub(crate) cuts: u64,
}

/// What an acknowledgement brought.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Acked {
    pub(crate) now_ns: u64,
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    /// The largest packet number of them, and the next one to be sent.
    pub(crate) largest: u64,
    pub(crate) next_number: u64,
    pub(crate) rtt_ns: Option<u64>,
    pub(crate) smoothed_ns: u64,
    /// The window was what held more sends back.
    pub(crate) is_limiting: bool,
}

impl Congestion {
    /// With packets of this cost.
    pub(crate) fn new(packet_bytes: usize) -> Self {
        let packet = packet_bytes as f64;
        Self {
            window: INITIAL_PACKETS * packet,
            packet,
            slow_start: Some(SlowStart::default()),
            cubic: Cubic::default(),
            shares: Shares::default(),
            round: Round::default(),
            smoothed_ns: 0,
            cuts: 0,
        }
    }

    /// Packets have this cost from now on; what is on its way does not change.
    pub(crate) fn set_packet(&mut self, packet_bytes: usize) {
        self.packet = packet_bytes as f64;
        self.window = self.window.max(LEAST_PACKETS * self.packet);
    }

    /// What may be on its way.
    pub(crate) fn window(&self) -> u64 {
        self.window as u64
    }

    /// How fast it may leave; 0: at once, since nothing is known of the path.
    pub(crate) fn bytes_per_second(&self) -> f64 {
        if self.smoothed_ns == 0 {
            return 0.0;
        }
        let gain = if self.slow_start.is_some() {
            2.0
        } else {
            PACING
        };
        gain * self.window / (self.smoothed_ns as f64 / 1e9)
    }

    /// Packets came.
    pub(crate) fn on_acked(&mut self, acked: &Acked) {
        self.smoothed_ns = acked.smoothed_ns;
        self.shares.acked += acked.packets;
        if let Some(rtt_ns) = acked.rtt_ns {
            let least = self.round.least_rtt_ns.unwrap_or(u64::MAX);
            self.round.least_rtt_ns = Some(least.min(rtt_ns));
            if let Some(slow_start) = &mut self.slow_start
                && slow_start.ends_by_rtt(rtt_ns)
            {
                self.leave_slow_start();
            }
        }
        let bytes = acked.bytes as f64;
        match &mut self.slow_start {
            _ if !acked.is_limiting => self.cubic.pause(),
            Some(slow_start) => self.window += slow_start.growth(bytes),
            None => {
                let (now_ns, smoothed_ns) = (acked.now_ns, acked.smoothed_ns);
                let window = self.window / self.packet;
                let grown = self
                    .cubic
                    .grow(now_ns, smoothed_ns, window, bytes / self.packet);
                self.window = grown * self.packet;
            }
        }
        if acked.largest >= self.round.end {
            self.end_round(acked);
        }
    }

    fn end_round(&mut self, acked: &Acked) {
        if self.shares.judge() {
            self.cut(acked.now_ns);
        }
        if let Some(slow_start) = &mut self.slow_start
            && slow_start.end_round()
        {
            self.leave_slow_start();
        }
        self.round = Round {
            end: acked.next_number,
            least_rtt_ns: None,
            before_ns: self.round.least_rtt_ns,
            is_cut: false,
        };
    }

    fn leave_slow_start(&mut self) {
        self.slow_start = None;
        self.cubic.begin(self.window / self.packet);
    }

    /// Packets were lost, of which `largest` was the last to be sent.
    pub(crate) fn on_lost(&mut self, now_ns: u64, packets: u64, least_ns: u64) {
        self.shares.lost += packets;
        if self.shows_queue(least_ns) && !self.round.is_cut {
            self.cut(now_ns);
        }
    }

    /// Whether packets wait on the way.
    fn shows_queue(&self, least_ns: u64) -> bool {
        let most = least_ns.saturating_add((least_ns / 8).max(QUEUE_NS));
        let lately = [self.round.least_rtt_ns, self.round.before_ns];
        lately
            .into_iter()
            .flatten()
            .min()
            .is_some_and(|rtt| rtt > most)
    }

    /// Congestion. Once a round.
    fn cut(&mut self, now_ns: u64) {
        self.round.is_cut = true;
        self.slow_start = None;
        self.cuts += 1;
        self.shares.forget();
        let window = self.window / self.packet;
        self.window = (window * BETA).max(LEAST_PACKETS) * self.packet;
        self.cubic.cut(now_ns, window, self.window / self.packet);
    }

    /// Nothing came through for so long that nothing is known any more (RFC 9002 §7.6).
    pub(crate) fn on_silence(&mut self) {
        self.cuts += 1;
        self.cubic.cut(0, self.window / self.packet, LEAST_PACKETS);
        self.window = LEAST_PACKETS * self.packet;
        self.slow_start = Some(SlowStart::until(self.cubic.target() * self.packet));
    }
}

#[cfg(test)]
mod tests;
