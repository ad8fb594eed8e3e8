//! Toxics as text that reads the same.

use std::fmt;

use super::spec::{Effect, Toxic, Toxics};
use crate::impair::units::Scaled;

impl fmt::Display for Toxics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for toxic in &self.list {
            write!(f, "{comma}{toxic}")?;
            comma = ", ";
        }
        match self.seed {
            Some(seed) => write!(f, "{comma}seed {seed}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Toxic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.effect)?;
        if self.toxicity != 1.0 {
            write!(f, " toxicity={}", self.toxicity)?;
        }
        Ok(())
    }
}

/// In Toxiproxy's units.
impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time_ns| Scaled(time_ns, 1_000_000);
        let us = |time_ns| Scaled(time_ns, 1_000);
        match *self {
            Self::Latency {
                latency_ns,
                jitter_ns,
            } => {
                write!(f, "latency latency={}", ms(latency_ns))?;
                if jitter_ns > 0 {
                    write!(f, " jitter={}", ms(jitter_ns))?;
                }
                Ok(())
            }
            Self::Bandwidth { bytes_per_second } => {
                write!(f, "bandwidth rate={}", Scaled(bytes_per_second, 1_000))
            }
            Self::SlowClose { delay_ns } => write!(f, "slow_close delay={}", ms(delay_ns)),
            Self::Timeout { timeout_ns } => write!(f, "timeout timeout={}", ms(timeout_ns)),
            Self::ResetPeer { timeout_ns } => {
                write!(f, "reset_peer timeout={}", ms(timeout_ns))
            }
            Self::Slicer {
                average_size,
                size_variation,
                delay_ns,
            } => {
                write!(f, "slicer average_size={average_size}")?;
                if size_variation > 0 {
                    write!(f, " size_variation={size_variation}")?;
                }
                if delay_ns > 0 {
                    write!(f, " delay={}", us(delay_ns))?;
                }
                Ok(())
            }
            Self::LimitData { bytes } => write!(f, "limit_data bytes={bytes}"),
            Self::HalfClose { bytes } => write!(f, "half_close bytes={bytes}"),
            Self::AcceptHang => f.write_str("accept_hang"),
            Self::Refuse => f.write_str("refuse"),
        }
    }
}
