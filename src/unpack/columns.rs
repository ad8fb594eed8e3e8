//! Many records at once, turned into one contiguous array per field.
//!
//! The input is walked in blocks that stay in the first-level cache while every column takes
//! its part of them, so memory is read once and written once.

use super::decode::{array, pascal};
use super::format::{Code, Order};
use super::half;
use super::layout::Layout;
use super::value::Value;

/// Bytes of input per block: half of a usual 32 KiB first-level data cache, the other half
/// being for what is written.
const BLOCK_BYTES: usize = 16 << 10;

/// One field of many records: its values in this machine's byte order, without gaps.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    code: Code,
    data: ColumnData,
    /// Bytes of one value of a `c`, `s` or `p` column.
    width: usize,
    records: usize,
}

/// The memory of a column.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ColumnData {
    /// `?`
    Bool(Vec<bool>),
    /// `b`
    I8(Vec<i8>),
    /// `B`
    U8(Vec<u8>),
    /// `h`
    I16(Vec<i16>),
    /// `H`
    U16(Vec<u16>),
    /// `i`, `l`
    I32(Vec<i32>),
    /// `I`, `L`
    U32(Vec<u32>),
    /// `q`
    I64(Vec<i64>),
    /// `Q`
    U64(Vec<u64>),
    /// `e`, as the bits of the binary16 numbers.
    F16(Vec<u16>),
    /// `f`
    F32(Vec<f32>),
    /// `d`
    F64(Vec<f64>),
    /// `c`, `s`, and `p` (with its length byte): the slots as they were, end to end.
    Bytes(Vec<u8>),
}

impl Column {
    fn new(code: Code, width: usize, records: usize) -> Self {
        let data = match code {
            Code::Bool => ColumnData::Bool(Vec::with_capacity(records)),
            Code::I8 => ColumnData::I8(Vec::with_capacity(records)),
            Code::U8 => ColumnData::U8(Vec::with_capacity(records)),
            Code::I16 => ColumnData::I16(Vec::with_capacity(records)),
            Code::U16 => ColumnData::U16(Vec::with_capacity(records)),
            Code::I32 => ColumnData::I32(Vec::with_capacity(records)),
            Code::U32 => ColumnData::U32(Vec::with_capacity(records)),
            Code::I64 => ColumnData::I64(Vec::with_capacity(records)),
            Code::U64 => ColumnData::U64(Vec::with_capacity(records)),
            Code::F16 => ColumnData::F16(Vec::with_capacity(records)),
            Code::F32 => ColumnData::F32(Vec::with_capacity(records)),
            Code::F64 => ColumnData::F64(Vec::with_capacity(records)),
            Code::Char | Code::Bytes | Code::Pascal | Code::Pad => {
                ColumnData::Bytes(Vec::with_capacity(records * width))
            }
        };
        Self {
            code,
            data,
            width,
            records: 0,
        }
    }

    /// How the values were coded.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The values' memory.
    #[must_use]
    pub fn data(&self) -> &ColumnData {
        &self.data
    }

    /// Bytes of one value.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// How many values, which is how many records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// One record's value, or `None` beyond the last.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> Option<Value<'_>> {
        if index >= self.records {
            return None;
        }
        Some(match &self.data {
            ColumnData::Bool(data) => Value::Bool(data[index]),
            ColumnData::I8(data) => Value::Int(data[index].into()),
            ColumnData::I16(data) => Value::Int(data[index].into()),
            ColumnData::I32(data) => Value::Int(data[index].into()),
            ColumnData::I64(data) => Value::Int(data[index]),
            ColumnData::U8(data) => Value::Uint(data[index].into()),
            ColumnData::U16(data) => Value::Uint(data[index].into()),
            ColumnData::U32(data) => Value::Uint(data[index].into()),
            ColumnData::U64(data) => Value::Uint(data[index]),
            ColumnData::F16(data) => Value::Float(half::to_f64(data[index])),
            ColumnData::F32(data) => Value::Float(data[index].into()),
            ColumnData::F64(data) => Value::Float(data[index]),
            ColumnData::Bytes(data) => {
                let slot = &data[index * self.width..(index + 1) * self.width];
                Value::Bytes(if self.code == Code::Pascal {
                    pascal(slot)
                } else {
                    slot
                })
            }
        })
    }

    /// The values, in the records' order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Value<'_>> {
        (0..self.records).map(|index| self.get(index).expect("below the length"))
    }

    fn extend(&mut self, order: Order, block: &[u8], size: usize, offset: usize) {
        macro_rules! gather {
            ($out:expr, $type:ty) => {
                match order {
                    Order::Little => gather($out, block, size, offset, <$type>::from_le_bytes),
                    Order::Big => gather($out, block, size, offset, <$type>::from_be_bytes),
                }
            };
        }
        match &mut self.data {
            ColumnData::Bool(out) => gather(out, block, size, offset, |[byte]: [u8; 1]| byte != 0),
            ColumnData::I8(out) => gather!(out, i8),
            ColumnData::U8(out) => gather!(out, u8),
            ColumnData::I16(out) => gather!(out, i16),
            ColumnData::U16(out) | ColumnData::F16(out) => gather!(out, u16),
            ColumnData::I32(out) => gather!(out, i32),
            ColumnData::U32(out) => gather!(out, u32),
            ColumnData::I64(out) => gather!(out, i64),
            ColumnData::U64(out) => gather!(out, u64),
            ColumnData::F32(out) => gather!(out, f32),
            ColumnData::F64(out) => gather!(out, f64),
            ColumnData::Bytes(out) => gather_bytes(out, block, size, offset, self.width),
        }
        self.records += block.len() / size;
    }
}

fn gather<const N: usize, T>(
    out: &mut Vec<T>,
    block: &[u8],
    size: usize,
    offset: usize,
    convert: impl Fn([u8; N]) -> T,
) {
    // Said once here, so that the compiler need not ask for each record.
    assert!(offset <= size && N <= size - offset);
    out.extend(
        block
            .chunks_exact(size)
            .map(|record| convert(array(&record[offset..]))),
    );
}

fn gather_bytes(out: &mut Vec<u8>, block: &[u8], size: usize, offset: usize, width: usize) {
    // A copy of a length known when compiling is one move; of another, a call.
    match width {
        0 => {}
        1 => gather_chunks::<1>(out, block, size, offset),
        2 => gather_chunks::<2>(out, block, size, offset),
        4 => gather_chunks::<4>(out, block, size, offset),
        8 => gather_chunks::<8>(out, block, size, offset),
        16 => gather_chunks::<16>(out, block, size, offset),
        _ => {
            for record in block.chunks_exact(size) {
                out.extend_from_slice(&record[offset..offset + width]);
            }
        }
    }
}

fn gather_chunks<const N: usize>(out: &mut Vec<u8>, block: &[u8], size: usize, offset: usize) {
    assert!(offset <= size && N <= size - offset);
    let start = out.len();
    out.resize(start + block.len() / size * N, 0);
    let (slots, _) = out[start..].as_chunks_mut::<N>();
    for (slot, record) in slots.iter_mut().zip(block.chunks_exact(size)) {
        *slot = array(&record[offset..]);
    }
}

/// Every field of many records; see [`Layout::decode_columns`].
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    records: usize,
    columns: Vec<Column>,
}

impl Columns {
    /// How many records were decoded.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records
    }

    /// The columns, in the fields' order.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The columns themselves.
    #[must_use]
    pub fn into_columns(self) -> Vec<Column> {
        self.columns
    }
}

/// Fills columns from records that come piece by piece.
#[derive(Debug)]
pub struct ColumnsBuilder<'l> {
    layout: &'l Layout,
    records: usize,
    columns: Vec<Column>,
}

impl<'l> ColumnsBuilder<'l> {
    /// Reserves room for `records` records.
    #[must_use]
    pub fn new(layout: &'l Layout, records: usize) -> Self {
        let columns = layout
            .slots()
            .map(|slot| Column::new(slot.code, slot.width, records))
            .collect();
        Self {
            layout,
            records: 0,
            columns,
        }
    }

    /// Adds the whole records in `data`; what is left over at its end is not looked at.
    pub fn push(&mut self, data: &[u8]) {
        let (order, size) = (self.layout.plan.order, self.layout.plan.size);
        if size == 0 {
            return;
        }
        self.records += data.len() / size;
        let whole = data.len() - data.len() % size;
        for block in data[..whole].chunks(self.block_bytes()) {
            for (slot, column) in self.layout.slots().zip(&mut self.columns) {
                column.extend(order, block, size, slot.offset);
            }
        }
    }

    /// How many bytes of input are best given at a time: whole records that fit the cache.
    #[must_use]
    pub fn block_bytes(&self) -> usize {
        let size = self.layout.plan.size.max(1);
        (BLOCK_BYTES / size).max(1) * size
    }

    /// The columns of all records that were pushed.
    #[must_use]
    pub fn finish(self) -> Columns {
        Columns {
            records: self.records,
            columns: self.columns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_hold_what_records_hold() {
        // Sizes around the block's, so that its seams are crossed.
        let layout = Layout::compile("> x c ? b B h H i I q Q e f d 0s 2s 3s 5p 0p 2h").unwrap();
        let block = ColumnsBuilder::new(&layout, 0).block_bytes() / layout.size();
        for records in [0, 1, block - 1, block, block + 1, 3 * block + 7] {
            let data: Vec<u8> = (0..records * layout.size())
                .map(|i| (i * 31 + i / 251) as u8)
                .collect();
            let columns = layout.decode_columns(&data).unwrap();
            assert_eq!(columns.records(), records);
            for (record, bytes) in data.chunks_exact(layout.size()).enumerate() {
                let values = layout.decode(bytes).unwrap();
                for (column, value) in columns.columns().iter().zip(values) {
                    // Debug text, because a NaN does not equal itself.
                    let found = column.get(record).unwrap();
                    assert_eq!(format!("{found:?}"), format!("{value:?}"));
                }
            }
            for column in columns.columns() {
                assert_eq!((column.len(), column.iter().len()), (records, records));
                assert!(column.get(records).is_none());
            }
        }
    }

    #[test]
    fn a_part_of_a_record_is_refused() {
        let layout = Layout::compile("!I").unwrap();
        assert!(layout.decode_columns(&[0; 7]).unwrap_err().is_size());
        let nothing = Layout::compile("<0s").unwrap();
        assert!(nothing.decode_columns(b"").unwrap_err().is_size());
    }
}
