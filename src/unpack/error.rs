//! What can be wrong with a format, and what with data. Each message is one line: what was
//! tried, on what, why not, the way out.

use std::fmt;

use super::{MAX_FIELDS, MAX_FORMAT_BYTES, MAX_RECORD_BYTES};

/// A format (or its field names) that cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatError {
    /// The format as given, escaped and cut, for the message.
    format: Box<str>,
    kind: FormatKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FormatKind {
    Empty,
    Native,
    NativeOnly { letter: char },
    Unknown { found: char, position: usize },
    DanglingCount { position: usize },
    RecordTooLarge,
    TooManyFields,
    TooLong { bytes: usize },
    NameCount { names: usize, fields: usize },
    NameEmpty { index: usize },
    NameTwice { name: Box<str> },
    NameUnprintable { name: Box<str> },
}

impl FormatError {
    pub(super) fn new(format: &str, kind: FormatKind) -> Self {
        Self {
            format: excerpt(format),
            kind,
        }
    }

    /// An error for a text too long to be looked at; for callers that would have to copy or
    /// transcode it first.
    #[must_use]
    pub fn too_long(bytes: usize) -> Self {
        Self::new("", FormatKind::TooLong { bytes })
    }

    /// The format describes no value and no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kind == FormatKind::Empty
    }

    /// The format asks for this machine's sizes and alignment.
    #[must_use]
    pub fn is_native(&self) -> bool {
        matches!(
            self.kind,
            FormatKind::Native | FormatKind::NativeOnly { .. }
        )
    }

    /// The text breaks the grammar: an unknown character, or a count without a code.
    #[must_use]
    pub fn is_syntax(&self) -> bool {
        matches!(
            self.kind,
            FormatKind::Unknown { .. } | FormatKind::DanglingCount { .. }
        )
    }

    /// A ceiling was passed: of the record, of the number of values, or of the text itself.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(
            self.kind,
            FormatKind::RecordTooLarge | FormatKind::TooManyFields | FormatKind::TooLong { .. }
        )
    }

    /// The field names do not suit the format.
    #[must_use]
    pub fn is_names(&self) -> bool {
        matches!(
            self.kind,
            FormatKind::NameCount { .. }
                | FormatKind::NameEmpty { .. }
                | FormatKind::NameTwice { .. }
                | FormatKind::NameUnprintable { .. }
        )
    }
}

/// At most this many characters of somebody's text go into a message, as they are shown
/// there: one that is escaped counts as what it becomes.
const EXCERPT_CHARS: usize = 40;

fn excerpt(text: &str) -> Box<str> {
    let mut cut = String::new();
    let mut left = EXCERPT_CHARS;
    for escaped in text.chars().map(char::escape_debug) {
        match left.checked_sub(escaped.len()) {
            Some(rest) => left = rest,
            None => {
                cut.push('…');
                break;
            }
        }
        cut.extend(escaped);
    }
    cut.into_boxed_str()
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let FormatKind::TooLong { bytes } = self.kind {
            return write!(
                f,
                "cannot compile a format of {bytes} bytes: the limit is {MAX_FORMAT_BYTES}; \
                 use counts, as in '<512I'"
            );
        }
        write!(f, "cannot compile format '{}': ", self.format)?;
        match &self.kind {
            FormatKind::Empty => {
                f.write_str("it describes no value and no byte; name at least one code, as in '!I'")
            }
            FormatKind::Native => f.write_str(
                "native sizes and padding differ between machines and wire data has none; \
                 start it with '=', '<', '>' or '!'",
            ),
            FormatKind::NativeOnly { letter } => write!(
                f,
                "'{letter}' has no standard size; use 'q' or 'Q' for 64 bits, 'i' or 'I' for 32"
            ),
            FormatKind::Unknown { found, position } => write!(
                f,
                "{found:?} at position {position} is not a format character; \
                 the codes are xcbB?hHiIlLqQefdsp, each with an optional count directly before it"
            ),
            FormatKind::DanglingCount { position } => write!(
                f,
                "the count at position {position} has no code after it; write it directly before \
                 one, as in '4s'"
            ),
            FormatKind::RecordTooLarge => write!(
                f,
                "a record would be larger than {MAX_RECORD_BYTES} bytes; \
                 describe a smaller record and decode many"
            ),
            FormatKind::TooManyFields => write!(
                f,
                "a record would hold more than {MAX_FIELDS} values; \
                 take arrays as bytes, with 's'"
            ),
            FormatKind::NameCount { names, fields } => write!(
                f,
                "{names} names for {fields} values; give one name for each value \
                 (a count makes several, except before 's' and 'p'; 'x' makes none)"
            ),
            FormatKind::NameEmpty { index } => {
                write!(f, "name {index} is empty; every field needs one")
            }
            FormatKind::NameTwice { name } => {
                write!(f, "the name '{name}' occurs twice; names must be unique")
            }
            FormatKind::NameUnprintable { name } => write!(
                f,
                "the name '{name}' has a character that does not print; names stand in log \
                 lines, so they are made of letters and other printable characters"
            ),
            FormatKind::TooLong { .. } => unreachable!("answered above"),
        }
    }
}

impl std::error::Error for FormatError {}

pub(super) fn name_twice(name: &str) -> FormatKind {
    FormatKind::NameTwice {
        name: excerpt(name),
    }
}

pub(super) fn name_unprintable(name: &str) -> FormatKind {
    FormatKind::NameUnprintable {
        name: excerpt(name),
    }
}

/// Data that does not fit a layout, or a value that does not fit its field.
///
/// Plain numbers, so that refusing a datagram costs no allocation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DataError {
    kind: DataKind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum DataKind {
    Size {
        size: usize,
        got: usize,
    },
    Multiple {
        size: usize,
        got: usize,
    },
    NoSize,
    NoMemory {
        bytes: usize,
    },
    Offset {
        size: usize,
        got: usize,
        offset: isize,
    },
    Count {
        fields: usize,
        got: usize,
    },
    Kind {
        field: usize,
        letter: char,
    },
    Range {
        field: usize,
        letter: char,
        value: Option<i128>,
    },
    FloatRange {
        field: usize,
        letter: char,
        value: f64,
    },
}

impl DataError {
    /// A record of `got` bytes where the layout has `size`.
    #[must_use]
    pub fn wrong_size(size: usize, got: usize) -> Self {
        DataKind::Size { size, got }.into()
    }

    pub(super) fn multiple(size: usize, got: usize) -> Self {
        DataKind::Multiple { size, got }.into()
    }

    pub(super) fn no_size() -> Self {
        DataKind::NoSize.into()
    }

    pub(super) fn no_memory(bytes: usize) -> Self {
        DataKind::NoMemory { bytes }.into()
    }

    pub(super) fn offset(size: usize, got: usize, offset: isize) -> Self {
        DataKind::Offset { size, got, offset }.into()
    }

    pub(super) fn count(fields: usize, got: usize) -> Self {
        DataKind::Count { fields, got }.into()
    }

    /// A value of the wrong kind for the field at `field` with format code `letter`.
    #[must_use]
    pub fn wrong_kind(field: usize, letter: char) -> Self {
        DataKind::Kind { field, letter }.into()
    }

    /// An integer outside the field's range; `None` when it does not even fit 64 bits.
    #[must_use]
    pub fn out_of_range(field: usize, letter: char, value: Option<i128>) -> Self {
        DataKind::Range {
            field,
            letter,
            value,
        }
        .into()
    }

    pub(super) fn float_range(field: usize, letter: char, value: f64) -> Self {
        DataKind::FloatRange {
            field,
            letter,
            value,
        }
        .into()
    }

    /// The number of bytes is wrong for the layout.
    #[must_use]
    pub fn is_size(&self) -> bool {
        matches!(
            self.kind,
            DataKind::Size { .. }
                | DataKind::Multiple { .. }
                | DataKind::NoSize
                | DataKind::Offset { .. }
        )
    }

    /// The data is right, but there is no memory for its columns.
    #[must_use]
    pub fn is_memory(&self) -> bool {
        matches!(self.kind, DataKind::NoMemory { .. })
    }

    /// A value, or the number of values, is wrong for the layout.
    #[must_use]
    pub fn is_value(&self) -> bool {
        !self.is_size() && !self.is_memory()
    }

    /// The position of the value at fault, if it is one value's fault.
    #[must_use]
    pub fn field(&self) -> Option<usize> {
        match self.kind {
            DataKind::Kind { field, .. }
            | DataKind::Range { field, .. }
            | DataKind::FloatRange { field, .. } => Some(field),
            _ => None,
        }
    }
}

impl From<DataKind> for DataError {
    fn from(kind: DataKind) -> Self {
        Self { kind }
    }
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            DataKind::Size { size, got } => write!(
                f,
                "cannot unpack {got} bytes: a record has {size}; pass exactly one record"
            ),
            DataKind::Multiple { size, got } => write!(
                f,
                "cannot unpack {got} bytes into records of {size}: their number is not a \
                 multiple of {size}; pass whole records"
            ),
            DataKind::NoSize => f.write_str(
                "cannot unpack many records of 0 bytes: their number is not known; \
                 unpack one at a time",
            ),
            DataKind::NoMemory { bytes } => write!(
                f,
                "cannot unpack records into {bytes} bytes of columns: there is not so much \
                 memory; unpack fewer at a time"
            ),
            DataKind::Offset { size, got, offset } => write!(
                f,
                "cannot unpack {size} bytes at offset {offset}: the buffer has {got}; \
                 pass a longer buffer or another offset"
            ),
            DataKind::Count { fields, got } => write!(
                f,
                "cannot pack {got} values: a record has {fields}; pass one for each field"
            ),
            DataKind::Kind { field, letter } => write!(
                f,
                "cannot pack value {field} as '{letter}': {}",
                match letter {
                    'c' => "it needs a bytes object of length 1",
                    's' | 'p' => "it needs bytes or a bytearray",
                    'e' | 'f' | 'd' => "it needs a float",
                    '?' => "it needs a truth value",
                    _ => "it needs an integer; convert with int() first",
                }
            ),
            DataKind::Range {
                field,
                letter,
                value,
            } => {
                write!(f, "cannot pack value {field} as '{letter}': ")?;
                match value {
                    Some(value) => write!(f, "{value} is")?,
                    None => f.write_str("the integer is")?,
                }
                let (low, high) = integer_range(letter);
                write!(f, " outside {low} to {high}; use a wider code")
            }
            DataKind::FloatRange {
                field,
                letter,
                value,
            } => write!(
                f,
                "cannot pack value {field} as '{letter}': {value:?} is too large; use a wider code"
            ),
        }
    }
}

impl std::error::Error for DataError {}

fn integer_range(letter: char) -> (i128, i128) {
    match letter {
        'b' => (i8::MIN.into(), i8::MAX.into()),
        'B' => (0, u8::MAX.into()),
        'h' => (i16::MIN.into(), i16::MAX.into()),
        'H' => (0, u16::MAX.into()),
        'i' | 'l' => (i32::MIN.into(), i32::MAX.into()),
        'I' | 'L' => (0, u32::MAX.into()),
        'q' => (i64::MIN.into(), i64::MAX.into()),
        _ => (0, u64::MAX.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_short_also_where_it_is_escaped() {
        for (text, shown) in [
            ("!I".to_owned(), "!I".to_owned()),
            ("é".repeat(40), "é".repeat(40)),
            ("é".repeat(41), "é".repeat(40) + "…"),
            ("\0".repeat(20), "\\0".repeat(20)),
            ("\0".repeat(21), "\\0".repeat(20) + "…"),
            // Six characters each.
            ("\x7f".repeat(1000), "\\u{7f}".repeat(6) + "…"),
        ] {
            assert_eq!(*excerpt(&text), *shown);
        }
    }
}
