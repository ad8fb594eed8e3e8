//! Struct formats: compile once, decode many.
//!
//! The formats are those of Python's [`struct`](https://docs.python.org/3/library/struct.html)
//! in its standard modes (`<`, `>`, `!`, `=`): same grammar, same sizes, same rounding, no
//! alignment. Native mode is refused, because its sizes and padding differ between machines
//! and wire data has neither.
//!
//! Laws of this module:
//! 1. What a format may cost is bounded before anything is allocated for it (see the
//!    `MAX_…` constants), so a format may come from an untrusted hand.
//! 2. A plan holds runs (`65535h` is one run), never one entry per value.
//! 3. Checking and decoding one record allocates nothing; nor does building an error.
//!
//! ```
//! use rsecho::unpack::{Layout, Value};
//!
//! let layout = Layout::compile("! H 2s")?;
//! let values: Vec<Value> = layout.decode(b"\x00\x07ok")?.collect();
//! assert_eq!(values, [Value::Uint(7), Value::Bytes(b"ok")]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod columns;
mod decode;
mod encode;
mod error;
mod format;
mod half;
mod layout;
mod names;
mod value;

pub use columns::{Column, Columns, ColumnsBuilder};
pub use decode::Values;
pub use error::{DataError, FormatError};
pub use format::{Code, Slot, Slots};
pub use layout::Layout;
pub use value::Value;

/// The largest record a layout may describe, in bytes.
///
/// Far above any datagram (65,527 bytes) and any sensible frame, and small enough that a
/// format such as `999999999999s` cannot make a reader wait for, or reserve, memory that
/// nobody sent.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

/// The most values one record may hold.
///
/// Each value becomes a column of its own in [`Layout::decode_columns`]; more than this is an
/// array, for which `s` and a view of the bytes serve better.
pub const MAX_FIELDS: usize = 1 << 16;

/// The longest format text, in bytes.
///
/// Bounds the plan (one run for each code at most), since `0s` adds values without size.
pub const MAX_FORMAT_BYTES: usize = 16 << 10;
