//! Values to bytes.

use super::error::DataError;
use super::format::{Code, Order, Slot};
use super::half;
use super::value::Value;

pub(super) fn put(
    order: Order,
    slot: Slot,
    value: &Value<'_>,
    record: &mut [u8],
) -> Result<(), DataError> {
    let out = &mut record[slot.offset..slot.offset + slot.width];
    let wrong_kind = || DataError::wrong_kind(slot.index, slot.letter);

    macro_rules! write {
        ($number:expr) => {
            out.copy_from_slice(&match order {
                Order::Little => $number.to_le_bytes(),
                Order::Big => $number.to_be_bytes(),
            })
        };
    }
    macro_rules! integer {
        ($type:ty) => {{
            let wide: i128 = match *value {
                Value::Int(number) => number.into(),
                Value::Uint(number) => number.into(),
                _ => return Err(wrong_kind()),
            };
            let Ok(number) = <$type>::try_from(wide) else {
                let (field, letter) = (slot.index, slot.letter);
                return Err(DataError::out_of_range(field, letter, Some(wide)));
            };
            write!(number)
        }};
    }
    let float = || match *value {
        Value::Float(number) => Ok(number),
        _ => Err(wrong_kind()),
    };
    let too_large = |number| DataError::float_range(slot.index, slot.letter, number);
    let bytes = || match *value {
        Value::Bytes(bytes) => Ok(bytes),
        _ => Err(wrong_kind()),
    };

    match slot.code {
        Code::I8 => integer!(i8),
        Code::U8 => integer!(u8),
        Code::I16 => integer!(i16),
        Code::U16 => integer!(u16),
        Code::I32 => integer!(i32),
        Code::U32 => integer!(u32),
        Code::I64 => integer!(i64),
        Code::U64 => integer!(u64),
        Code::F16 => {
            let number = float()?;
            write!(half::from_f64(number).ok_or(too_large(number))?);
        }
        Code::F32 => {
            let number = float()?;
            let narrow = number as f32;
            if narrow.is_infinite() && number.is_finite() {
                return Err(too_large(number));
            }
            write!(narrow);
        }
        Code::F64 => write!(float()?),
        Code::Bool => match *value {
            Value::Bool(truth) => out[0] = truth.into(),
            _ => return Err(wrong_kind()),
        },
        Code::Char => match bytes()? {
            &[byte] => out[0] = byte,
            _ => return Err(wrong_kind()),
        },
        // Cut at the slot's end, zeros to its end: as struct does, without complaint.
        Code::Bytes => copy_cut(bytes()?, out),
        Code::Pascal => {
            let bytes = bytes()?;
            if let Some((length, rest)) = out.split_first_mut() {
                // One byte for the length: 255 at most, though more of the string is stored.
                *length = bytes.len().min(rest.len()).min(255) as u8;
                copy_cut(bytes, rest);
            }
        }
        Code::Pad => {}
    }
    Ok(())
}

fn copy_cut(bytes: &[u8], out: &mut [u8]) {
    let length = bytes.len().min(out.len());
    out[..length].copy_from_slice(&bytes[..length]);
}

#[cfg(test)]
mod tests {
    use crate::unpack::{Layout, Value};

    fn encode(format: &str, values: &[Value<'_>]) -> Result<Vec<u8>, super::DataError> {
        let mut out = b"kept".to_vec();
        let result = Layout::compile(format)
            .unwrap()
            .encode_into(values, &mut out);
        assert_eq!(&out[..4], b"kept");
        if result.is_err() {
            assert_eq!(out.len(), 4, "nothing is left of a failed record");
        }
        result.map(|()| out.split_off(4))
    }

    #[test]
    fn strings_are_cut_and_padded() {
        for (format, given, packed) in [
            ("<4s", &b"ab"[..], &b"ab\0\0"[..]),
            ("<1s", b"ab", b"a"),
            ("<0s", b"ab", b""),
            ("<5p", b"abc", b"\x03abc\0"),
            ("<3p", b"abc", b"\x02ab"),
            ("<1p", b"abc", b"\0"),
            ("<0p", b"abc", b""),
            ("<c", b"a", b"a"),
        ] {
            let packed_now = encode(format, &[Value::Bytes(given)]).unwrap();
            assert_eq!(packed_now, packed, "{format}");
        }
        let long = encode("<300p", &[Value::Bytes(&[b'a'; 400])]).unwrap();
        assert_eq!((long[0], long[299]), (255, b'a'));
    }

    #[test]
    fn integers_at_and_beyond_their_ends() {
        for (format, low, high) in [
            ("<b", i128::from(i8::MIN), i128::from(i8::MAX)),
            ("<B", 0, 255),
            ("<h", -32_768, 32_767),
            ("<H", 0, 65_535),
            ("<i", i32::MIN.into(), i32::MAX.into()),
            ("<L", 0, u32::MAX.into()),
            ("<q", i64::MIN.into(), i64::MAX.into()),
            ("<Q", 0, u64::MAX.into()),
        ] {
            for (number, fits) in [
                (low, true),
                (high, true),
                (low - 1, false),
                (high + 1, false),
            ] {
                let value = if let Ok(number) = i64::try_from(number) {
                    Value::Int(number)
                } else if let Ok(number) = u64::try_from(number) {
                    Value::Uint(number)
                } else {
                    continue;
                };
                let result = encode(format, &[value]);
                assert_eq!(result.is_ok(), fits, "{format} {number}");
                if let Err(error) = result {
                    assert_eq!(error.field(), Some(0));
                    assert!(error.to_string().contains(&number.to_string()), "{error}");
                }
            }
        }
    }

    #[test]
    fn floats_that_would_become_infinite_are_refused() {
        let fits = |format, value| encode(format, &[Value::Float(value)]).is_ok();
        assert!(fits("<f", 3.402_823_567_797_336_2e38));
        assert!(!fits("<f", 3.402_823_567_797_336_6e38));
        assert!(fits("<f", f64::INFINITY));
        assert!(!fits("<e", 65_520.0));
        assert!(fits("<d", f64::MAX));
    }

    #[test]
    fn the_wrong_kind_or_number_of_values() {
        for (format, value) in [
            ("<i", Value::Float(1.0)),
            ("<d", Value::Int(1)),
            ("<s", Value::Int(1)),
            ("<p", Value::Bool(true)),
            ("<c", Value::Bytes(b"ab")),
            ("<?", Value::Int(1)),
        ] {
            let error = encode(format, &[value]).unwrap_err();
            assert!(error.is_value(), "{format}: {error}");
        }
        assert!(encode("<2i", &[Value::Int(1)]).unwrap_err().is_value());
        assert_eq!(encode("<2x", &[]).unwrap(), [0, 0]);
    }
}
