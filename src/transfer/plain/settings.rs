//! What a sender and a receiver of the tutorial's format are told, with the defaults.

use super::wire::NUMBER_BYTES;
use crate::error::{Error, Result};

/// Maximum length of a chunk: what a datagram over IPv4 carries, less the index.
pub const MAX_CHUNK_BYTES: usize = 65_507 - NUMBER_BYTES;

/// How a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendSettings {
    /// Bytes of each chunk but the last, [`MAX_CHUNK_BYTES`] at most; 1,024 by default: the
    /// tutorial's receiver has no room for more, and cuts what is longer.
    pub chunk_bytes: usize,
    /// Bytes per second, indices included, 8 MiB by default: nothing tells this sender that it is too
    /// fast. No more than 16 KiB (or one chunk) go at once, for which any receive buffer has room.
    pub bytes_per_second: u64,
}

impl Default for SendSettings {
    fn default() -> Self {
        Self {
            chunk_bytes: 1024,
            bytes_per_second: 8 << 20,
        }
    }
}

impl SendSettings {
    /// Refuses what can never work.
    ///
    /// # Errors
    ///
    /// A chunk is empty, or longer than a datagram; a rate is zero.
    pub fn validate(&self) -> Result<()> {
        if !(1..=MAX_CHUNK_BYTES).contains(&self.chunk_bytes) {
            let subject = format!("chunk_bytes={}", self.chunk_bytes);
            let rule = format!("a chunk has 1 to {MAX_CHUNK_BYTES} bytes");
            return Err(Error::argument("set", subject, rule));
        }
        at_least_one("bytes_per_second", self.bytes_per_second)
    }
}

/// How messages are received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveSettings {
    /// Maximum length of a message, 16 MiB by default. Messages are in memory until they are complete.
    pub max_message_bytes: u64,
    /// Memory for all messages together, bookkeeping included, 64 MiB by default.
    pub max_total_bytes: usize,
    /// Maximum number of incomplete messages per IPv4 address or IPv6 /64, 8 by default.
    pub max_open_per_source: usize,
    /// A message without a new chunk for this time is lost, 10 s by default.
    pub progress_timeout_ns: u64,
    /// Stores the received part of an incomplete message, with zeros for missing chunks; off by
    /// default. See [`super::Kept`].
    pub keep_partial: bool,
    /// Gives each message a name of who sent it and a number, as in `192.0.2.1-40123-1` (and
    /// `.partial` behind that of one that is lost): for a directory. Off by default.
    pub gives_names: bool,
    /// Sends each message back to its sender, in the same chunks, at this rate. Off (`None`)
    /// by default.
    pub echo_bytes_per_second: Option<u64>,
}

impl Default for ReceiveSettings {
    fn default() -> Self {
        Self {
            max_message_bytes: 16 << 20,
            max_total_bytes: 64 << 20,
            max_open_per_source: 8,
            progress_timeout_ns: 10_000_000_000,
            keep_partial: false,
            gives_names: false,
            echo_bytes_per_second: None,
        }
    }
}

impl ReceiveSettings {
    /// Refuses what can never work.
    ///
    /// # Errors
    ///
    /// A limit, a timeout or a rate is zero.
    pub fn validate(&self) -> Result<()> {
        at_least_one("max_message_bytes", self.max_message_bytes)?;
        at_least_one("max_total_bytes", self.max_total_bytes as u64)?;
        at_least_one("max_open_per_source", self.max_open_per_source as u64)?;
        at_least_one("progress_timeout_ns", self.progress_timeout_ns)?;
        let rate = self.echo_bytes_per_second.unwrap_or(1);
        at_least_one("echo_bytes_per_second", rate)
    }
}

fn at_least_one(name: &str, value: u64) -> Result<()> {
    if value == 0 {
        let subject = format!("{name}=0");
        return Err(Error::argument("set", subject, "it is 1 or more"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_never_work_is_refused_by_name() {
        assert_eq!(SendSettings::default().validate(), Ok(()));
        assert_eq!(ReceiveSettings::default().validate(), Ok(()));
        for chunk_bytes in [0, MAX_CHUNK_BYTES + 1] {
            let settings = SendSettings {
                chunk_bytes,
                ..SendSettings::default()
            };
            let told = settings.validate().unwrap_err().to_string();
            assert!(
                told.contains(&format!("chunk_bytes={chunk_bytes}")),
                "{told}"
            );
        }
        let settings = ReceiveSettings {
            progress_timeout_ns: 0,
            ..ReceiveSettings::default()
        };
        let told = settings.validate().unwrap_err().to_string();
        assert!(told.contains("progress_timeout_ns=0"), "{told}");
    }
}
