//! Many records at once, turned into one contiguous array per field.
//!
//! What it costs is memory traffic, so:
//! 1. The input is walked in blocks that stay in the first-level cache while every column takes
//!    its part of them: memory is read once and written once.
//! 2. All columns lie in one allocation. Fresh pages cost more than decoding into them (10 of
//!    14 ms for 24 MB were page faults), and one large block is what an allocator keeps for the
//!    next call.
//! 3. Large inputs are divided among threads by records; each writes its own part.

use std::num::NonZero;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use super::decode::{array, read};
use super::error::DataError;
use super::format::{Code, NATIVE, Order, Slot};
use super::layout::Layout;
use super::value::Value;

/// Bytes of input per block: half of a usual 32 KiB first-level data cache, the other half
/// being for what is written.
const BLOCK_BYTES: usize = 16 << 10;

/// Input per thread, at least: a tenth of a millisecond of work, several times what starting a
/// thread takes.
const THREAD_BYTES: usize = 1 << 20;

/// Parts per thread: the smaller the parts, the shorter the wait for the last one.
const PARTS_PER_THREAD: usize = 4;

/// More threads than this only wait for the same memory.
const MAX_THREADS: usize = 8;

/// Where a column may start: on a cache line, which suits every item and lets no two columns
/// share one.
const ALIGN: usize = 64;

/// One field of many records: its values in this machine's byte order, without gaps.
///
/// Cheap to clone; keeps the memory of all columns that were decoded with it.
#[derive(Clone, Debug)]
pub struct Column {
    code: Code,
    width: usize,
    records: usize,
    start: usize,
    memory: Arc<Vec<u8>>,
}

impl Column {
    /// How the values were coded.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The values, end to end: [`Column::width`] bytes each, numbers in this machine's byte
    /// order and aligned, truth values 0 or 1, `p` with its length byte.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.records * self.width]
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
        let item = &self.bytes()[index * self.width..(index + 1) * self.width];
        Some(read(NATIVE, self.code, item))
    }

    /// The values, in the records' order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Value<'_>> {
        (0..self.records).map(|index| self.get(index).expect("below the length"))
    }
}

/// Every field of many records; see [`Layout::decode_columns`].
#[derive(Clone, Debug)]
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
}

impl Layout {
    /// Decodes any number of records, one contiguous array per field.
    ///
    /// # Errors
    /// When `data` is not a whole number of records, a record has no size, or there is no memory
    /// for the columns.
    pub fn decode_columns(&self, data: &[u8]) -> Result<Columns, DataError> {
        let mut builder = ColumnsBuilder::new(self, self.records_in(data.len())?)?;
        builder.push(data);
        Ok(builder.finish())
    }
}

/// Fills columns from records that come piece by piece.
#[derive(Debug)]
pub struct ColumnsBuilder<'l> {
    layout: &'l Layout,
    records: usize,
    filled: usize,
    /// Where the first column starts in `memory`; the others follow, each aligned.
    first: usize,
    memory: Vec<u8>,
}

impl<'l> ColumnsBuilder<'l> {
    /// Reserves room for `records` records.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn new(layout: &'l Layout, records: usize) -> Result<Self, DataError> {
        let bytes: usize = layout.slots().map(|slot| stride(slot, records)).sum();
        let bytes = bytes + ALIGN - 1;
        // Asked first, because `vec!` aborts the process where there is no memory; but only
        // `vec!` gets memory that the kernel has zeroed already.
        Vec::<u8>::new()
            .try_reserve_exact(bytes)
            .map_err(|_| DataError::no_memory(bytes))?;
        let memory = vec![0; bytes];
        Ok(Self {
            layout,
            records,
            filled: 0,
            first: (memory.as_ptr() as usize).wrapping_neg() % ALIGN,
            memory,
        })
    }

    /// Adds the whole records in `data`; what is left over at its end is not looked at.
    ///
    /// # Panics
    /// When there are more records than room was reserved for.
    pub fn push(&mut self, data: &[u8]) {
        let (order, size) = (self.layout.plan.order, self.layout.plan.size);
        let rows = data.len().checked_div(size).unwrap_or(0);
        assert!(rows <= self.records - self.filled, "more than reserved");
        let threads = threads_for(data.len());
        let targets = self.targets(rows);
        fill_divided(order, size, targets, &data[..rows * size], threads);
        self.filled += rows;
    }

    /// How many bytes of input are best given at a time, if they have to be copied first:
    /// whole records that fit the cache.
    #[must_use]
    pub fn block_bytes(&self) -> usize {
        block_bytes(self.layout.plan.size)
    }

    /// The columns of all records that were pushed.
    #[must_use]
    pub fn finish(self) -> Columns {
        let memory = Arc::new(self.memory);
        let mut start = self.first;
        let columns = self.layout.slots().map(|slot| {
            let column = Column {
                code: slot.code,
                width: slot.width,
                records: self.filled,
                start,
                memory: memory.clone(),
            };
            start += stride(slot, self.records);
            column
        });
        Columns {
            records: self.filled,
            columns: columns.collect(),
        }
    }

    /// Where the next `rows` records go: a part of each column.
    fn targets(&mut self, rows: usize) -> Vec<Target<'_>> {
        let mut rest = &mut self.memory[self.first..];
        let mut targets = Vec::with_capacity(self.layout.field_count());
        for slot in self.layout.slots() {
            let (column, others) = rest.split_at_mut(stride(slot, self.records));
            let out = &mut column[self.filled * slot.width..][..rows * slot.width];
            targets.push(Target { slot, out });
            rest = others;
        }
        targets
    }
}

/// Bytes from the start of one column to the start of the next.
fn stride(slot: Slot, records: usize) -> usize {
    (slot.width * records).next_multiple_of(ALIGN)
}

fn block_bytes(size: usize) -> usize {
    let size = size.max(1);
    (BLOCK_BYTES / size).max(1) * size
}

fn threads_for(bytes: usize) -> usize {
    // Asked once: it reads files under /proc and /sys.
    static CORES: OnceLock<usize> = OnceLock::new();
    let wanted = (bytes / THREAD_BYTES).min(MAX_THREADS);
    if wanted < 2 {
        return 1;
    }
    let cores =
        *CORES.get_or_init(|| thread::available_parallelism().map_or(1, NonZero::<usize>::get));
    wanted.min(cores)
}

/// A part of one column, to be filled.
struct Target<'m> {
    slot: Slot,
    out: &'m mut [u8],
}

impl<'m> Target<'m> {
    /// Takes the first `rows` items off.
    fn take(&mut self, rows: usize) -> Target<'m> {
        let (out, rest) = std::mem::take(&mut self.out).split_at_mut(rows * self.slot.width);
        self.out = rest;
        Target {
            slot: self.slot,
            out,
        }
    }
}

/// Fills the targets with the help of other threads. Those take parts until none is left, so a
/// core that is busy elsewhere holds nobody up, and a thread that cannot be started is not
/// missed.
fn fill_divided(
    order: Order,
    size: usize,
    mut targets: Vec<Target<'_>>,
    data: &[u8],
    threads: usize,
) {
    if threads < 2 {
        return fill(order, size, targets, data);
    }
    let part_bytes = (data.len() / size).div_ceil(threads * PARTS_PER_THREAD) * size;
    let parts = data.chunks(part_bytes.max(size)).map(|part| {
        let rows = part.len() / size;
        let targets: Vec<_> = targets.iter_mut().map(|whole| whole.take(rows)).collect();
        (targets, part)
    });
    let queue = Mutex::new(parts.collect::<Vec<_>>());
    let work = || {
        loop {
            let part = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some((targets, part)) = part else { break };
            fill(order, size, targets, part);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            let builder = thread::Builder::new().name("rsecho-unpack".into());
            if builder.spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
}

fn fill(order: Order, size: usize, mut targets: Vec<Target<'_>>, data: &[u8]) {
    if size == 0 {
        return;
    }
    for block in data.chunks(block_bytes(size)) {
        for target in &mut targets {
            gather(order, size, block, target.take(block.len() / size));
        }
    }
}

/// Copies one value out of every record of a block, in this machine's byte order.
fn gather(order: Order, size: usize, block: &[u8], Target { slot, out }: Target<'_>) {
    let from = Stride {
        block,
        size,
        offset: slot.offset,
    };
    match (slot.code, slot.width) {
        (Code::Bool, _) => from.map(out, |[byte]: [u8; 1]| [u8::from(byte != 0)]),
        (Code::Char | Code::Bytes | Code::Pascal, width) => match width {
            // A copy of a length known when compiling is one move; of another, a call.
            0 => {}
            1 => from.map(out, |item: [u8; 1]| item),
            2 => from.map(out, |item: [u8; 2]| item),
            4 => from.map(out, |item: [u8; 4]| item),
            8 => from.map(out, |item: [u8; 8]| item),
            16 => from.map(out, |item: [u8; 16]| item),
            _ => {
                for (item, record) in out.chunks_exact_mut(width).zip(block.chunks_exact(size)) {
                    item.copy_from_slice(&record[slot.offset..slot.offset + width]);
                }
            }
        },
        (_, 2) => match order {
            Order::Little => from.map(out, |item| u16::from_le_bytes(item).to_ne_bytes()),
            Order::Big => from.map(out, |item| u16::from_be_bytes(item).to_ne_bytes()),
        },
        (_, 4) => match order {
            Order::Little => from.map(out, |item| u32::from_le_bytes(item).to_ne_bytes()),
            Order::Big => from.map(out, |item| u32::from_be_bytes(item).to_ne_bytes()),
        },
        (_, 8) => match order {
            Order::Little => from.map(out, |item| u64::from_le_bytes(item).to_ne_bytes()),
            Order::Big => from.map(out, |item| u64::from_be_bytes(item).to_ne_bytes()),
        },
        _ => from.map(out, |item: [u8; 1]| item),
    }
}

/// The same place in every record of a block.
struct Stride<'d> {
    block: &'d [u8],
    size: usize,
    offset: usize,
}

impl Stride<'_> {
    #[inline]
    fn map<const N: usize>(&self, out: &mut [u8], convert: impl Fn([u8; N]) -> [u8; N]) {
        let Self {
            block,
            size,
            offset,
        } = *self;
        // Said once here, so that the compiler need not ask for each record.
        assert!(offset <= size && N <= size - offset);
        let (items, _) = out.as_chunks_mut::<N>();
        for (item, record) in items.iter_mut().zip(block.chunks_exact(size)) {
            *item = convert(array(&record[offset..]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str = "> x c ? b B h H i I q Q e f d 0s 2s 3s 5p 0p 4s 8s 16s 1s 2h";

    fn sample(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|i| (i * 31 + i / 251) as u8).collect()
    }

    fn assert_same(layout: &Layout, data: &[u8], columns: &Columns) {
        assert_eq!(columns.records(), data.len() / layout.size());
        for (record, bytes) in data.chunks_exact(layout.size()).enumerate() {
            let values = layout.decode(bytes).unwrap();
            assert_eq!(values.len(), columns.columns().len());
            for (column, value) in columns.columns().iter().zip(values) {
                let found = column.get(record).unwrap();
                match (found, value) {
                    // A NaN does not equal itself.
                    (Value::Float(a), Value::Float(b)) => assert_eq!(a.to_bits(), b.to_bits()),
                    _ => assert_eq!(found, value),
                }
            }
        }
    }

    #[test]
    fn columns_hold_what_records_hold() {
        for format in [ALL.to_owned(), ALL.replace('>', "<")] {
            let layout = Layout::compile(&format).unwrap();
            // Around the block's size, so that its seams are crossed.
            let block = block_bytes(layout.size()) / layout.size();
            for records in [0, 1, block - 1, block, block + 1, 3 * block + 7] {
                let data = sample(records * layout.size());
                let columns = layout.decode_columns(&data).unwrap();
                assert_same(&layout, &data, &columns);
                for column in columns.columns() {
                    assert_eq!((column.len(), column.iter().len()), (records, records));
                    assert!(column.get(records).is_none());
                    assert_eq!(column.bytes().as_ptr() as usize % ALIGN, 0);
                }
            }
        }
    }

    #[test]
    fn threads_and_pieces_make_no_difference() {
        let layout = Layout::compile(ALL).unwrap();
        let data = sample(1001 * layout.size());
        for threads in [1, 2, 3, 8] {
            let mut builder = ColumnsBuilder::new(&layout, 1001).unwrap();
            let targets = builder.targets(1001);
            fill_divided(Order::Big, layout.size(), targets, &data, threads);
            builder.filled = 1001;
            assert_same(&layout, &data, &builder.finish());
        }
        let mut builder = ColumnsBuilder::new(&layout, 1001).unwrap();
        for piece in data.chunks(300 * layout.size()) {
            builder.push(piece);
        }
        assert_same(&layout, &data, &builder.finish());
    }

    #[test]
    fn a_part_of_a_record_is_refused() {
        let layout = Layout::compile("!I").unwrap();
        assert!(layout.decode_columns(&[0; 7]).unwrap_err().is_size());
        let nothing = Layout::compile("<0s").unwrap();
        assert!(nothing.decode_columns(b"").unwrap_err().is_size());
    }
}
