//! Time as STAMP writes it: the NTP format (RFC 5905 §6) and PTP's (IEEE 1588), and how sure the
//! one who wrote it is (RFC 4656 §4.1.2).

/// Seconds from 1900, where NTP's time begins, to 1970.
const NTP_TO_UNIX: u64 = 2_208_988_800;

const SECOND_NS: u64 = 1_000_000_000;

/// How 64 bits are a time (the Z bit).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// 32 bits of seconds since 1900, 32 of fractions.
    #[default]
    Ntp,
    /// 32 bits of seconds since 1970, 32 of nanoseconds: the truncated format of RFC 8186.
    Ptp,
}

impl Format {
    /// A time, in nanoseconds since 1970, in this format. Seconds beyond 32 bits wrap, as era 1 of
    /// NTP does in 2036.
    pub fn write(self, unix_ns: u64) -> u64 {
        let (seconds, rest) = (unix_ns / SECOND_NS, unix_ns % SECOND_NS);
        match self {
            Self::Ntp => {
                let seconds = seconds.wrapping_add(NTP_TO_UNIX) & u64::from(u32::MAX);
                // Rounded up, so that reading, which rounds down, finds the same nanosecond.
                let fraction = (rest << 32).div_ceil(SECOND_NS);
                seconds << 32 | fraction
            }
            Self::Ptp => (seconds & u64::from(u32::MAX)) << 32 | rest,
        }
    }

    /// Nanoseconds since 1970 of a time in this format, in that era which is nearest to `near_ns`;
    /// `None` where a PTP time has more nanoseconds than a second.
    pub fn read(self, bits: u64, near_ns: u64) -> Option<u64> {
        let (seconds, low) = (bits >> 32, bits & u64::from(u32::MAX));
        let (since, rest) = match self {
            Self::Ntp => (
                seconds.wrapping_sub(NTP_TO_UNIX) & u64::from(u32::MAX),
                (low * SECOND_NS) >> 32,
            ),
            Self::Ptp if low < SECOND_NS => (seconds, low),
            Self::Ptp => return None,
        };
        // Seconds are known modulo 2³²: the nearest to what is near.
        let near = near_ns / SECOND_NS;
        let ahead = since.wrapping_sub(near) as u32 as i32;
        let seconds = near.checked_add_signed(ahead.into())?;
        seconds.checked_mul(SECOND_NS)?.checked_add(rest)
    }
}

/// The error estimate that goes with a time: S, Z, scale and multiplier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorEstimate(pub u16);

impl ErrorEstimate {
    /// An error of at least this many nanoseconds.
    pub fn new(format: Format, is_synchronised: bool, error_ns: u64) -> Self {
        // In units of 2⁻³² seconds, rounded up; the multiplier is never 0 (RFC 4656).
        let mut units = (u128::from(error_ns) << 32)
            .div_ceil(SECOND_NS.into())
            .max(1);
        let mut scale = 0u16;
        while units > 255 {
            units = units.div_ceil(2);
            scale += 1;
        }
        let synchronised = u16::from(is_synchronised) << 15;
        let ptp = u16::from(format == Format::Ptp) << 14;
        // At most 2⁶⁴ ns: 2⁶⁷ units, a scale of 59 at most, which 6 bits hold.
        Self(synchronised | ptp | scale.min(63) << 8 | units as u16)
    }

    /// The Z bit: how the time is written.
    pub fn format(self) -> Format {
        match self.0 & 0x4000 {
            0 => Format::Ntp,
            _ => Format::Ptp,
        }
    }

    /// The S bit: the clock is synchronised to UTC by an outside source.
    pub fn is_synchronised(self) -> bool {
        self.0 & 0x8000 != 0
    }

    /// The error in nanoseconds, rounded up; `None`: the multiplier is 0, which says nothing.
    pub fn error_ns(self) -> Option<u64> {
        let (scale, multiplier) = (self.0 >> 8 & 0x3f, u128::from(self.0 & 0xff));
        let error_ns = ((multiplier << scale) * u128::from(SECOND_NS)).div_ceil(1 << 32);
        (multiplier > 0).then(|| error_ns.try_into().unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_epochs_are_where_they_are() {
        assert_eq!(Format::Ntp.write(0), 2_208_988_800 << 32);
        assert_eq!(Format::Ptp.write(1_500_000_000), 1 << 32 | 500_000_000);
        assert_eq!(Format::Ntp.write(500_000_000) as u32, 1 << 31);
        assert_eq!(Format::Ptp.read(1_000_000_000, 0), None);
    }

    #[test]
    fn the_year_2036_is_no_end() {
        // 2036-02-07 06:28:16 UTC: NTP's era 1 begins.
        let era_1 = (1u64 << 32) - NTP_TO_UNIX;
        for seconds in [era_1 - 1, era_1, era_1 + 1] {
            let time = seconds * SECOND_NS;
            let bits = Format::Ntp.write(time);
            assert_eq!(Format::Ntp.read(bits, (era_1 - 5) * SECOND_NS), Some(time));
            assert_eq!(Format::Ntp.read(bits, (era_1 + 5) * SECOND_NS), Some(time));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(time in 0u64..10_000_000_000_000_000_000, apart in -1_000_000_000i64..1_000_000_000) {
            let near = time.saturating_add_signed(apart * 1_000_000_000);
            for format in [Format::Ntp, Format::Ptp] {
                prop_assert_eq!(format.read(format.write(time), near), Some(time));
            }
        }

        #[test]
        fn any_bits_are_read_without_a_panic(bits: u64, near: u64) {
            let _ = Format::Ntp.read(bits, near);
            let _ = Format::Ptp.read(bits, near);
            let _ = ErrorEstimate(bits as u16).error_ns();
        }

        #[test]
        fn an_error_is_never_told_smaller(error: u64) {
            let told = ErrorEstimate::new(Format::Ptp, true, error);
            let error_ns = told.error_ns().unwrap();
            prop_assert!(error_ns >= error);
            prop_assert!(u128::from(error_ns) <= u128::from(error) * 129 / 128 + 1);
            prop_assert!(told.is_synchronised() && told.format() == Format::Ptp);
        }
    }
}
