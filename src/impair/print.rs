//! A specification as text that reads the same.

use std::fmt;

use super::distribution::Distribution;
use super::percent::Percent;
use super::spec::{Chance, Delay, Loss, Netem, Rate, Slot, SlotDelay, Truncate};
use super::units::{Bits, Time};

/// In the order of tc-netem(8); the empty text where there is nothing.
impl fmt::Display for Netem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Options { f, is_first: true };
        out.option("limit", self.limit)?;
        out.option("delay", self.delay)?;
        out.option("loss", self.loss)?;
        out.option("duplicate", self.duplicate)?;
        out.option("corrupt", self.corrupt)?;
        out.option("truncate", self.truncate)?;
        out.option("reorder", self.reorder)?;
        out.option("gap", self.gap)?;
        out.option("rate", self.rate)?;
        out.option("slot", self.slot)?;
        out.option("seed", self.seed)
    }
}

/// Options with a space between them.
struct Options<'a, 'f> {
    f: &'a mut fmt::Formatter<'f>,
    is_first: bool,
}

impl Options<'_, '_> {
    fn option(&mut self, name: &str, value: Option<impl fmt::Display>) -> fmt::Result {
        let Some(value) = value else {
            return Ok(());
        };
        let space = if self.is_first { "" } else { " " };
        self.is_first = false;
        write!(self.f, "{space}{name} {value}")
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Time(self.time_ns))?;
        let is_correlated = self.correlation != Percent::NEVER;
        let is_shaped = self.distribution != Distribution::Uniform;
        if self.jitter_ns > 0 || is_correlated || is_shaped {
            write!(f, " {}", Time(self.jitter_ns))?;
        }
        if is_correlated {
            write!(f, " {}", self.correlation)?;
        }
        if is_shaped {
            write!(f, " distribution {}", self.distribution.name())?;
        }
        Ok(())
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random(chance) => write!(f, "{chance}"),
            Self::State {
                p13,
                p31,
                p32,
                p23,
                p14,
            } => write!(f, "state {p13} {p31} {p32} {p23} {p14}"),
            Self::Gemodel {
                p,
                r,
                one_minus_h,
                one_minus_k,
            } => write!(f, "gemodel {p} {r} {one_minus_h} {one_minus_k}"),
        }
    }
}

impl fmt::Display for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.percent)?;
        if self.correlation != Percent::NEVER {
            write!(f, " {}", self.correlation)?;
        }
        Ok(())
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Bits(self.bytes_per_second))?;
        let has_cells = self.cell_size != 0 || self.cell_overhead != 0;
        if self.packet_overhead != 0 || has_cells {
            write!(f, " {}", self.packet_overhead)?;
        }
        if has_cells {
            write!(f, " {}", self.cell_size)?;
        }
        if self.cell_overhead != 0 {
            write!(f, " {}", self.cell_overhead)?;
        }
        Ok(())
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.delay {
            SlotDelay::Between { min_ns, max_ns } => {
                write!(f, "{} {}", Time(min_ns), Time(max_ns))?;
            }
            SlotDelay::Distribution {
                distribution,
                delay_ns,
                jitter_ns,
            } => {
                let (delay, jitter) = (Time(delay_ns), Time(jitter_ns));
                write!(f, "distribution {} {delay} {jitter}", distribution.name())?;
            }
        }
        if self.packets > 0 {
            write!(f, " packets {}", self.packets)?;
        }
        if self.bytes > 0 {
            write!(f, " bytes {}", self.bytes)?;
        }
        Ok(())
    }
}

impl fmt::Display for Truncate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.percent)?;
        match self.bytes {
            Some(bytes) => write!(f, " {bytes}"),
            None => Ok(()),
        }
    }
}
