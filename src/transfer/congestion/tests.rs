use super::*;

const MS: u64 = 1_000_000;

/// A path of this round trip: what a window of packets comes to, round by round.
struct Path {
    congestion: Congestion,
    now_ns: u64,
    next: u64,
    rtt_ns: u64,
}

impl Path {
    fn new() -> Self {
        Self {
            congestion: Congestion::new(1_500),
            now_ns: 0,
            next: 0,
            rtt_ns: 50 * MS,
        }
    }

    fn packets(&self) -> u64 {
        self.congestion.window() / 1_500
    }

    /// A round in which a share of the packets is lost and the round trip is so much longer.
    fn round(&mut self, share: f64, queue_ns: u64) {
        let packets = self.packets();
        self.next += packets;
        let rtt_ns = self.rtt_ns + queue_ns;
        self.now_ns += rtt_ns;
        let (mut owed, mut number) = (0.0, self.next - packets);
        for _ in 0..packets {
            owed += share;
            number += 1;
            if owed >= 1.0 {
                owed -= 1.0;
                self.congestion.on_lost(self.now_ns, 1, self.rtt_ns);
                continue;
            }
            self.congestion.on_acked(&Acked {
                now_ns: self.now_ns,
                bytes: 1_500,
                packets: 1,
                largest: number - 1,
                next_number: self.next,
                rtt_ns: Some(rtt_ns),
                smoothed_ns: rtt_ns,
                is_limiting: true,
            });
        }
    }
}

#[test]
fn doubles_each_round_trip_at_first_and_stops_when_that_grows() {
    let mut path = Path::new();
    assert_eq!(path.packets(), 10);
    for wanted in [20, 40, 80, 160] {
        path.round(0.0, 0);
        assert_eq!(path.packets(), wanted);
    }
    for _ in 0..10 {
        path.round(0.0, 20 * MS);
    }
    assert!(path.packets() < 1_000, "{}", path.packets());
    assert_eq!(path.congestion.cuts, 0);
}

#[test]
fn a_loss_behind_a_queue_is_congestion_once_a_round() {
    let mut path = Path::new();
    for _ in 0..4 {
        path.round(0.0, 0);
    }
    path.round(0.0, 10 * MS);
    path.round(0.0, 10 * MS);
    let before = path.packets();
    path.round(0.05, 10 * MS);
    assert_eq!(path.congestion.cuts, 1);
    let after = path.packets() as f64 / before as f64;
    assert!((0.65..0.8).contains(&after), "{after}");
}

#[test]
fn what_a_smaller_window_does_not_cure_is_no_congestion() {
    for share in [0.01, 0.05, 0.1, 0.2] {
        let mut path = Path::new();
        for _ in 0..12 {
            path.round(share, 0);
        }
        assert!(path.packets() > 2_000, "{share}: {}", path.packets());
    }
}

#[test]
fn what_a_smaller_window_cures_is_congestion() {
    // A link with a capacity of 100 packets a round trip and hardly a queue.
    let mut path = Path::new();
    let mut lost = Vec::new();
    for _ in 0..200 {
        let packets = path.packets() as f64;
        let share = (1.0 - 100.0 / packets).max(0.0);
        lost.push(share);
        path.round(share, 0);
    }
    let late = &lost[50..];
    let mean = late.iter().sum::<f64>() / late.len() as f64;
    assert!(mean < 0.05, "{mean}");
    assert!(path.packets() > 60, "{}", path.packets());
}

#[test]
fn silence_starts_again_from_next_to_nothing() {
    let mut path = Path::new();
    for _ in 0..5 {
        path.round(0.0, 0);
    }
    path.congestion.on_silence();
    assert_eq!(path.packets(), 2);
    path.round(0.0, 0);
    assert_eq!(path.packets(), 4);
}

#[test]
fn cubic_is_back_where_it_was_after_the_time_that_rfc_9438_says() {
    let mut cubic = Cubic::default();
    cubic.cut(0, 100.0, 70.0);
    // K = cbrt(30 / 0.4) = 4.2 s.
    let (mut window, mut now_ns) = (70.0, 0);
    let mut back_ns = None;
    while now_ns < 8_000 * MS {
        now_ns += 100 * MS;
        window = cubic.grow(now_ns, 100 * MS, window, window);
        if window >= 99.9 && back_ns.is_none() {
            back_ns = Some(now_ns);
        }
    }
    let back = back_ns.unwrap() as f64 / 1e9;
    assert!((3.0..4.5).contains(&back), "{back}");
    assert!(window > 110.0, "{window}");
}
