//! Struct formats, and records of them, from any bytes.

use crate::unpack::{Code, Layout, MAX_FIELDS, MAX_RECORD_BYTES, Value};

/// Records longer than this are only refused, not decoded: a fuzzer lives by many tries.
const DECODED_BYTES: usize = 1 << 12;

/// A format's length (2 bytes), the format, and a record's bytes; a format that is not
/// UTF-8 is skipped.
pub fn format_and_record(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = usize::from(u16::from_le_bytes(*length));
    let (format, record) = rest.split_at(rest.len().min(length));
    Some((str::from_utf8(format).ok()?, record))
}

/// Formats and records. What does not compile says so in one line; what does is bounded,
/// takes exactly its size, and gives back what was put in.
pub fn unpack_format(bytes: &[u8]) {
    let Some((format, record)) = format_and_record(bytes) else {
        return;
    };
    let layout = match Layout::compile(format) {
        Ok(layout) => layout,
        Err(error) => {
            let message = error.to_string();
            assert!(message.chars().count() < 300, "{message:?}");
            assert!(message.lines().count() == 1, "{message:?}");
            return;
        }
    };
    assert!(layout.size() <= MAX_RECORD_BYTES && layout.field_count() <= MAX_FIELDS);
    assert_eq!(layout.check(record).is_ok(), record.len() == layout.size());
    slots_tile(&layout);
    if layout.size() <= DECODED_BYTES && layout.field_count() <= DECODED_BYTES {
        round_trip(&layout, record);
    }
}

fn slots_tile(layout: &Layout) {
    let mut end = 0;
    let mut fields = 0;
    for slot in layout.slots() {
        assert!(slot.index == fields && slot.offset >= end && slot.code != Code::Pad);
        end = slot.offset + slot.width;
        fields += 1;
    }
    assert!(end <= layout.size() && fields == layout.field_count());
}

/// Equal, or both the same NaN.
fn same(one: &Value<'_>, other: &Value<'_>) -> bool {
    match (one, other) {
        (Value::Float(one), Value::Float(other)) => one.to_bits() == other.to_bits(),
        _ => one == other,
    }
}

fn round_trip(layout: &Layout, bytes: &[u8]) {
    // Two records of what there is, over and over.
    let bytes = if bytes.is_empty() { &[0] } else { bytes };
    let records: Vec<u8> = bytes
        .iter()
        .copied()
        .cycle()
        .take(2 * layout.size())
        .collect();
    let (first, second) = records.split_at(layout.size());
    let columns = layout.decode_columns(&records);
    assert_eq!(columns.is_ok(), layout.size() > 0);
    for (row, record) in [first, second].into_iter().enumerate() {
        let values: Vec<Value<'_>> = layout.decode(record).expect("of its size").collect();
        assert_eq!(values.len(), layout.field_count());
        if let Ok(columns) = &columns {
            for (column, value) in columns.columns().iter().zip(&values) {
                assert!(column.get(row).is_some_and(|found| same(&found, value)));
            }
        }
        let mut packed = Vec::new();
        layout
            .encode_into(&values, &mut packed)
            .expect("what was decoded fits");
        assert_eq!(packed.len(), layout.size());
        let again = layout.decode(&packed).expect("of its size");
        assert!(again.zip(&values).all(|(again, value)| same(&again, value)));
    }
}
