//! CPU time, latency, and how both are told.

use std::time::{Duration, Instant};

use crate::options::Options;
use crate::sys;

const FIRST_ECHO: Duration = Duration::from_secs(5);

/// All clocks at one moment.
pub(crate) struct Reading {
    at: Instant,
    server_cpu: Duration,
    own_cpu: Duration,
    /// What anybody spent on the watched CPUs.
    busy: Duration,
}

impl Reading {
    /// The wall clock is read last at the beginning and first at the end: what the other
    /// readings take is not measured.
    pub(crate) fn begin(options: &Options) -> Result<Self, String> {
        let mut reading = Self::take(options)?;
        reading.at = Instant::now();
        Ok(reading)
    }

    pub(crate) fn end(options: &Options) -> Result<Self, String> {
        Self::take(options)
    }

    fn take(options: &Options) -> Result<Self, String> {
        let at = Instant::now();
        let server_cpu = match options.pid {
            None => Duration::ZERO,
            Some(pid) => sys::process_cpu(pid)
                .map_err(|error| format!("cannot read the CPU time of process {pid}: {error}"))?,
        };
        Ok(Self {
            at,
            server_cpu,
            own_cpu: sys::own_cpu(),
            busy: busy(&options.watch),
        })
    }

    /// True when the measurement that began here is to end: after its time, and with an
    /// answer to speak of, for which a server that gets no CPU time is given a while.
    pub(crate) fn is_over(&self, now: Instant, options: &Options, has_answers: bool) -> bool {
        let spent = now - self.at;
        spent >= options.measured && (has_answers || spent >= options.measured + FIRST_ECHO)
    }
}

/// What has been spent on these CPUs (proc_stat(5)), in steps of 10 ms.
fn busy(cpus: &[usize]) -> Duration {
    if cpus.is_empty() {
        return Duration::ZERO;
    }
    let table = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: u64 = cpus
        .iter()
        .filter_map(|cpu| {
            let line = table.lines().find_map(|line| {
                line.strip_prefix("cpu")?
                    .strip_prefix(&cpu.to_string())?
                    .strip_prefix(' ')
            })?;
            let fields: Vec<u64> = line.split(' ').map_while(|n| n.parse().ok()).collect();
            // user nice system idle iowait irq softirq
            Some(
                [0, 1, 2, 5, 6]
                    .iter()
                    .filter_map(|i| fields.get(*i))
                    .sum::<u64>(),
            )
        })
        .sum();
    Duration::from_millis(ticks * 1000 / sys::clock_ticks_a_second())
}

/// Latencies in buckets of 1/64 of a power of two: any range, exact to 1.6 %.
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

const SUB_BITS: u32 = 6;
const SUB: u64 = 1 << SUB_BITS;

impl Histogram {
    pub(crate) fn new() -> Self {
        Self {
            counts: vec![0; ((64 - SUB_BITS + 1) as usize) << SUB_BITS],
            total: 0,
        }
    }

    pub(crate) fn add(&mut self, latency: Duration) {
        let ns = latency.as_nanos() as u64;
        let shift = ns.max(SUB).ilog2() - SUB_BITS;
        let bucket = if ns < SUB {
            ns
        } else {
            (u64::from(shift) + 1) * SUB + ((ns >> shift) & (SUB - 1))
        };
        self.counts[bucket as usize] += 1;
        self.total += 1;
    }

    /// The latency below which this part of all echoes stayed, in microseconds.
    fn quantile_us(&self, part: f64) -> Option<f64> {
        let wanted = (self.total as f64 * part) as u64;
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen > wanted
        })? as u64;
        if bucket < SUB {
            return Some(bucket as f64 / 1e3);
        }
        let width = (1u64 << (bucket / SUB - 1)) as f64;
        Some(((bucket % SUB + SUB) as f64 + 0.5) * width / 1e3)
    }
}

/// What a run came to.
pub(crate) struct Outcome {
    pub(crate) begin: Reading,
    pub(crate) end: Reading,
    pub(crate) is_server_known: bool,
    pub(crate) is_watched: bool,
    /// Verified, while it was measured.
    pub(crate) echoes: u64,
    pub(crate) length: usize,
    pub(crate) latency: Histogram,
    /// UDP: given up while it was measured.
    pub(crate) lost: u64,
    /// Of the wrong length, content or client.
    pub(crate) bad: u64,
    /// UDP: seen before.
    pub(crate) twice: u64,
    /// UDP: back after it had been given up.
    pub(crate) late: u64,
    /// TCP: connections refused, reset, closed or left without their echo.
    pub(crate) failed: u64,
}

impl Outcome {
    /// Echoes that should not have been.
    pub(crate) fn wrong(&self) -> u64 {
        self.bad + self.twice
    }

    pub(crate) fn text(&self, as_json: bool) -> String {
        let seconds = (self.end.at - self.begin.at).as_secs_f64();
        let server = (self.end.server_cpu - self.begin.server_cpu).as_secs_f64();
        let own = (self.end.own_cpu - self.begin.own_cpu).as_secs_f64();
        let busy = self.end.busy.saturating_sub(self.begin.busy).as_secs_f64();
        let rate = self.echoes as f64 / seconds;
        let known = self.is_server_known && self.echoes > 0;
        let foreign = (busy - server - own) / seconds;
        let fields = [
            ("echoes", Some(self.echoes as f64), 0),
            ("seconds", Some(seconds), 3),
            (
                "cpu_ns",
                known.then(|| server * 1e9 / self.echoes as f64),
                1,
            ),
            ("echoes_per_s", Some(rate), 0),
            ("mb_per_s", Some(rate * self.length as f64 / 1e6), 2),
            ("p50_us", self.latency.quantile_us(0.5), 2),
            ("p99_us", self.latency.quantile_us(0.99), 2),
            (
                "server_cores",
                self.is_server_known.then_some(server / seconds),
                3,
            ),
            ("load_cores", Some(own / seconds), 3),
            ("foreign_cores", self.is_watched.then_some(foreign), 3),
            ("lost", Some(self.lost as f64), 0),
            ("bad", Some(self.bad as f64), 0),
            ("twice", Some(self.twice as f64), 0),
            ("late", Some(self.late as f64), 0),
            ("failed", Some(self.failed as f64), 0),
        ];
        let shown = fields.map(|(name, value, digits)| {
            let value = value.map_or("null".into(), |value| format!("{value:.digits$}"));
            if as_json {
                format!("\"{name}\": {value}")
            } else {
                format!("{name}={value}")
            }
        });
        if as_json {
            format!("{{{}}}", shown.join(", "))
        } else {
            shown.join(" ")
        }
    }
}
