//! Bytes to values, one record at a time.

use super::error::DataError;
use super::format::{Code, Order, Slots};
use super::half;
use super::layout::Layout;
use super::value::Value;

/// The values of one record, in order; see [`Layout::decode`].
#[derive(Clone, Debug)]
pub struct Values<'l, 'd> {
    slots: Slots<'l>,
    order: Order,
    record: &'d [u8],
}

impl Layout {
    /// The values of one record, without allocating.
    ///
    /// # Errors
    /// When `data` is not exactly one record.
    #[inline]
    pub fn decode<'d>(&self, data: &'d [u8]) -> Result<Values<'_, 'd>, DataError> {
        self.check(data)?;
        Ok(Values {
            slots: self.slots(),
            order: self.plan.order,
            record: data,
        })
    }
}

impl<'d> Iterator for Values<'_, 'd> {
    type Item = Value<'d>;

    #[inline]
    fn next(&mut self) -> Option<Value<'d>> {
        let slot = self.slots.next()?;
        let bytes = &self.record[slot.offset..slot.offset + slot.width];
        Some(read(self.order, slot.code, bytes))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.slots.size_hint()
    }
}

impl ExactSizeIterator for Values<'_, '_> {}

#[inline]
pub(super) fn read(order: Order, code: Code, bytes: &[u8]) -> Value<'_> {
    macro_rules! number {
        ($type:ty) => {{
            let array = array(bytes);
            match order {
                Order::Little => <$type>::from_le_bytes(array),
                Order::Big => <$type>::from_be_bytes(array),
            }
        }};
    }
    match code {
        Code::I8 => Value::Int(number!(i8).into()),
        Code::I16 => Value::Int(number!(i16).into()),
        Code::I32 => Value::Int(number!(i32).into()),
        Code::I64 => Value::Int(number!(i64)),
        Code::U8 => Value::Uint(number!(u8).into()),
        Code::U16 => Value::Uint(number!(u16).into()),
        Code::U32 => Value::Uint(number!(u32).into()),
        Code::U64 => Value::Uint(number!(u64)),
        Code::F16 => Value::Float(half::to_f64(number!(u16))),
        Code::F32 => Value::Float(number!(f32).into()),
        Code::F64 => Value::Float(number!(f64)),
        Code::Bool => Value::Bool(bytes != [0]),
        Code::Pascal => Value::Bytes(pascal(bytes)),
        // Padding has no slots.
        Code::Char | Code::Bytes | Code::Pad => Value::Bytes(bytes),
    }
}

/// The string in a `p` slot: its length byte is believed only as far as the slot reaches.
#[inline]
fn pascal(slot: &[u8]) -> &[u8] {
    match slot.split_first() {
        Some((&length, rest)) => &rest[..rest.len().min(length.into())],
        None => &[],
    }
}

#[inline]
pub(super) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes.first_chunk().expect("a slot is as wide as its code")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode<'d>(format: &str, data: &'d [u8]) -> Vec<Value<'d>> {
        Layout::compile(format)
            .unwrap()
            .decode(data)
            .unwrap()
            .collect()
    }

    #[test]
    fn a_record_of_everything() {
        assert_eq!(
            decode(
                "> x c ? b B h H i I q Q e f d 2s 3p",
                b"\xaaA\x02\xff\xff\xff\xfe\xff\xfe\xff\xff\xff\xfd\xff\xff\xff\xfd\
                  \xff\xff\xff\xff\xff\xff\xff\xfc\xff\xff\xff\xff\xff\xff\xff\xfc\
                  \x3c\x00\x40\x00\x00\x00\xc0\x00\x00\x00\x00\x00\x00\x00hi\x01zz",
            ),
            [
                Value::Bytes(b"A"),
                Value::Bool(true),
                Value::Int(-1),
                Value::Uint(255),
                Value::Int(-2),
                Value::Uint(0xfffe),
                Value::Int(-3),
                Value::Uint(0xffff_fffd),
                Value::Int(-4),
                Value::Uint(0xffff_ffff_ffff_fffc),
                Value::Float(1.0),
                Value::Float(2.0),
                Value::Float(-2.0),
                Value::Bytes(b"hi"),
                Value::Bytes(b"z"),
            ]
        );
    }

    #[test]
    fn a_pascal_length_never_leaves_its_slot() {
        assert_eq!(decode("<3p", b"\xffab"), [Value::Bytes(b"ab")]);
        assert_eq!(decode("<1p", b"\x05"), [Value::Bytes(b"")]);
        assert_eq!(decode("<0pB", b"\x05"), [Value::Bytes(b""), Value::Uint(5)]);
    }

    #[test]
    fn short_and_long_are_refused() {
        let layout = Layout::compile("!I").unwrap();
        for length in [0, 3, 5, 65_527] {
            let error = layout.check(&vec![0; length]).unwrap_err();
            assert!(error.is_size());
        }
        assert!(layout.check(&[0; 4]).is_ok());
    }
}
