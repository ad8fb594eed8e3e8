//! IEEE 754 binary16 to and from `f64`, bit for bit as CPython 3.11 to 3.13 do it.
//!
//! Not the `half` crate: its `f16::from_f64` drops the low 32 bits of the mantissa before it
//! rounds (2.7.1, `f64_to_f16_fallback`; hardware paths go through `f32`), so that
//! 1 + 2⁻¹¹ + 2⁻⁴⁰ becomes 1.0 where the nearest half is 1 + 2⁻¹⁰. CPython rounds once.

/// NaNs lose their payload and keep their sign, as in `PyFloat_Unpack2`.
pub(super) fn to_f64(bits: u16) -> f64 {
    let sign = u64::from(bits >> 15) << 63;
    let exponent = u64::from(bits >> 10 & 0x1f);
    let mantissa = u64::from(bits & 0x3ff);
    match (exponent, mantissa) {
        (0x1f, 0) => f64::from_bits(sign | 0x7ff0 << 48),
        (0x1f, _) => f64::from_bits(sign | 0x7ff8 << 48),
        // Subnormal: mantissa × 2⁻²⁴, exact in f64.
        (0, _) => f64::from_bits(sign | (mantissa as f64 / f64::from(1 << 24)).to_bits()),
        _ => f64::from_bits(sign | (exponent + 1023 - 15) << 52 | mantissa << 42),
    }
}

/// Rounds half to even, once; `None` where a finite number would become infinite.
pub(super) fn from_f64(value: f64) -> Option<u16> {
    let bits = value.to_bits();
    let sign = (bits >> 48) as u16 & 0x8000;
    if value.is_nan() {
        return Some(sign | 0x7e00);
    }
    if value.is_infinite() {
        return Some(sign | 0x7c00);
    }
    let exponent = (bits >> 52 & 0x7ff) as i32 - 1023;
    if exponent >= 16 {
        return None;
    }
    if exponent < -25 {
        return Some(sign);
    }
    let significand = bits & ((1 << 52) - 1) | 1 << 52;
    // Below 2⁻¹⁴ the spacing of halves stays at 2⁻²⁴, so more bits go.
    let dropped = 42 + (-14 - exponent).max(0);
    let kept = (significand >> dropped) as u16;
    let rest = significand & ((1 << dropped) - 1);
    let middle = 1_u64 << (dropped - 1);
    let up = rest > middle || (rest == middle && kept & 1 == 1);
    // `kept` carries the hidden bit for normal numbers, hence 14 and not 15; a carry out of
    // the mantissa runs into the exponent, which is what it should do.
    let magnitude = (((exponent + 14).max(0) as u16) << 10) + kept + u16::from(up);
    (magnitude < 0x7c00).then_some(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_survives_the_round_trip() {
        for bits in 0..=u16::MAX {
            let wide = to_f64(bits);
            let wanted = if wide.is_nan() {
                bits & 0x8000 | 0x7e00
            } else {
                bits
            };
            assert_eq!(from_f64(wide), Some(wanted), "{bits:#06x}");
        }
    }

    #[test]
    fn rounds_to_the_nearest_and_ties_to_even() {
        // Between every two neighbours: the middle goes to the even one, a hair off it to the
        // near one. This also crosses from subnormal to normal.
        for low in 0..0x7bff_u16 {
            let middle = (to_f64(low) + to_f64(low + 1)) / 2.0;
            let even = low + (low & 1);
            assert_eq!(from_f64(middle), Some(even), "{low:#06x}");
            assert_eq!(from_f64(middle.next_down()), Some(low), "{low:#06x}");
            assert_eq!(from_f64(middle.next_up()), Some(low + 1), "{low:#06x}");
            assert_eq!(from_f64(-middle), Some(even | 0x8000), "{low:#06x}");
        }
    }

    #[test]
    fn the_largest_and_the_special() {
        assert_eq!(from_f64(65519.99), Some(0x7bff));
        assert_eq!(from_f64(65520.0), None);
        assert_eq!(from_f64(-1e300), None);
        assert_eq!(from_f64(f64::NEG_INFINITY), Some(0xfc00));
        assert_eq!(from_f64(-f64::NAN.copysign(1.0)), Some(0xfe00));
        assert_eq!(from_f64(-0.0), Some(0x8000));
        assert_eq!(from_f64(f64::MIN_POSITIVE / 4.0), Some(0));
    }
}
