//! The grammar: a format text becomes a few runs. CPython's `prepare_s` in `_struct.c` is the
//! reference for every accepted and refused text, but for native mode and the ceilings.

use super::error::{FormatError, FormatKind};
use super::{MAX_FIELDS, MAX_FORMAT_BYTES, MAX_RECORD_BYTES};

/// The byte order of every multi-byte value in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Order {
    Little,
    Big,
}

/// This machine's.
pub(super) const NATIVE: Order = if cfg!(target_endian = "little") {
    Order::Little
} else {
    Order::Big
};

/// What a format code means, apart from its letter (`i` and `l` mean the same).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// `x`: one byte that holds no value; zero when packed.
    Pad,
    /// `c`: one byte, as bytes of length 1.
    Char,
    /// `?`: any byte but zero is true.
    Bool,
    /// `b`
    I8,
    /// `B`
    U8,
    /// `h`
    I16,
    /// `H`
    U16,
    /// `i`, `l`
    I32,
    /// `I`, `L`
    U32,
    /// `q`
    I64,
    /// `Q`
    U64,
    /// `e`: IEEE 754 binary16.
    F16,
    /// `f`
    F32,
    /// `d`
    F64,
    /// `s`: a fixed number of bytes, the count.
    Bytes,
    /// `p`: a length byte and at most count − 1 bytes.
    Pascal,
}

impl Code {
    fn from_letter(letter: u8) -> Option<Self> {
        Some(match letter {
            b'x' => Self::Pad,
            b'c' => Self::Char,
            b'?' => Self::Bool,
            b'b' => Self::I8,
            b'B' => Self::U8,
            b'h' => Self::I16,
            b'H' => Self::U16,
            b'i' | b'l' => Self::I32,
            b'I' | b'L' => Self::U32,
            b'q' => Self::I64,
            b'Q' => Self::U64,
            b'e' => Self::F16,
            b'f' => Self::F32,
            b'd' => Self::F64,
            b's' => Self::Bytes,
            b'p' => Self::Pascal,
            _ => return None,
        })
    }

    /// Bytes of one unit: of one value, or of one byte of a string.
    fn unit(self) -> usize {
        match self {
            Self::Pad | Self::Char | Self::Bool | Self::I8 | Self::U8 => 1,
            Self::Bytes | Self::Pascal => 1,
            Self::I16 | Self::U16 | Self::F16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }

    /// Before these the count is a length, not a repetition.
    fn is_string(self) -> bool {
        matches!(self, Self::Bytes | Self::Pascal)
    }
}

/// Equal neighbours of a record: `values` values of `width` bytes each from `offset` on.
/// Padding is a run without values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Run {
    pub(super) code: Code,
    pub(super) letter: u8,
    /// Position of the first value among the record's values.
    pub(super) first: u32,
    pub(super) values: u32,
    pub(super) offset: u32,
    pub(super) width: u32,
}

/// Where one value of a record lies and how it is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// How it is coded.
    pub code: Code,
    /// The format character, as written.
    pub letter: char,
    /// Its position among the record's values.
    pub index: usize,
    /// Where it starts, in bytes from the start of the record.
    pub offset: usize,
    /// How many bytes it takes.
    pub width: usize,
}

/// The slots of a record, in order; see [`super::Layout::slots`].
#[derive(Clone, Debug)]
pub struct Slots<'l> {
    runs: std::slice::Iter<'l, Run>,
    run: Option<&'l Run>,
    next: u32,
    left: usize,
}

impl<'l> Slots<'l> {
    pub(super) fn new(runs: &'l [Run], fields: usize) -> Self {
        let mut runs = runs.iter();
        Self {
            run: runs.next(),
            runs,
            next: 0,
            left: fields,
        }
    }
}

impl Iterator for Slots<'_> {
    type Item = Slot;

    #[inline]
    fn next(&mut self) -> Option<Slot> {
        loop {
            let run = self.run?;
            if self.next == run.values {
                self.run = self.runs.next();
                self.next = 0;
                continue;
            }
            let within = self.next;
            self.next += 1;
            self.left -= 1;
            return Some(Slot {
                code: run.code,
                letter: run.letter.into(),
                index: (run.first + within) as usize,
                offset: (run.offset + within * run.width) as usize,
                width: run.width as usize,
            });
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Slots<'_> {}

/// A compiled format, without names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Plan {
    pub(super) order: Order,
    pub(super) runs: Box<[Run]>,
    pub(super) size: usize,
    pub(super) fields: usize,
}

pub(super) fn parse(text: &str) -> Result<Plan, FormatError> {
    if text.len() > MAX_FORMAT_BYTES {
        return Err(FormatError::too_long(text.len()));
    }
    parse_bounded(text).map_err(|kind| FormatError::new(text, kind))
}

fn parse_bounded(text: &str) -> Result<Plan, FormatKind> {
    let bytes = text.as_bytes();
    let order = match bytes.first() {
        Some(b'<') => Order::Little,
        Some(b'>' | b'!') => Order::Big,
        Some(b'=') => NATIVE,
        _ if bytes.iter().copied().all(is_space) => return Err(FormatKind::Empty),
        Some(&first) if starts_native(first) => return Err(FormatKind::Native),
        _ => return Err(unknown(text, 0)),
    };
    let mut runs: Vec<Run> = Vec::new();
    let (mut size, mut fields) = (0_usize, 0_usize);
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        if is_space(byte) {
            at += 1;
            continue;
        }
        let start = at;
        // Saturates instead of overflowing: 40 digits are as much too large as 8.
        let mut count = if byte.is_ascii_digit() { 0 } else { 1 };
        while let Some(digit) = bytes.get(at).filter(|b| b.is_ascii_digit()) {
            count = usize::min(count * 10 + usize::from(digit - b'0'), MAX_RECORD_BYTES + 1);
            at += 1;
        }
        let Some(&letter) = bytes.get(at) else {
            return Err(FormatKind::DanglingCount { position: start });
        };
        let code = Code::from_letter(letter).ok_or_else(|| unknown(text, at))?;
        at += 1;

        let offset = size;
        size += count * code.unit();
        if size > MAX_RECORD_BYTES {
            return Err(FormatKind::RecordTooLarge);
        }
        let values = match code {
            Code::Pad => 0,
            Code::Bytes | Code::Pascal => 1,
            _ => count,
        };
        let first = fields;
        fields += values;
        if fields > MAX_FIELDS {
            return Err(FormatKind::TooManyFields);
        }
        if values == 0 {
            continue;
        }
        // The ceilings keep all of these far below 2^32.
        let values = values as u32;
        match runs.last_mut() {
            Some(last)
                if last.letter == letter
                    && !code.is_string()
                    && last.offset + last.values * last.width == offset as u32 =>
            {
                last.values += values;
            }
            _ => runs.push(Run {
                code,
                letter,
                first: first as u32,
                values,
                offset: offset as u32,
                width: if code.is_string() { count } else { code.unit() } as u32,
            }),
        }
    }
    if size == 0 && fields == 0 {
        return Err(FormatKind::Empty);
    }
    Ok(Plan {
        order,
        runs: runs.into_boxed_slice(),
        size,
        fields,
    })
}

/// C's `isspace`, as CPython's table has it: `u8::is_ascii_whitespace` lacks the vertical tab.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

fn starts_native(first: u8) -> bool {
    first == b'@'
        || first.is_ascii_digit()
        || is_space(first)
        || matches!(first, b'n' | b'N' | b'P')
        || Code::from_letter(first).is_some()
}

fn unknown(text: &str, position: usize) -> FormatKind {
    match text[position..].chars().next() {
        Some(letter @ ('n' | 'N' | 'P')) => FormatKind::NativeOnly { letter },
        found => FormatKind::Unknown {
            found: found.unwrap_or_default(),
            position,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> (usize, usize, usize) {
        let plan = parse(text).unwrap();
        (plan.size, plan.fields, plan.runs.len())
    }

    #[test]
    fn sizes_fields_and_runs() {
        // (format, size, values, runs): sizes as struct.calcsize gives them.
        for (text, size, fields, runs) in [
            ("! I 2s Q 2h f", 22, 6, 5),
            ("<4x", 4, 0, 0),
            ("<0s", 0, 1, 1),
            ("<0p", 0, 1, 1),
            ("<\n4i\r\x0b\x0cB", 17, 5, 2),
            ("<00000000000000000000000000000000000003i", 12, 3, 1),
            ("<65535h", 131_070, 65_535, 1),
            ("<hh2h", 8, 4, 1),
            ("<hxh", 5, 2, 2),
            ("=2s2s", 4, 2, 2),
            ("<xcbB?hHiIlLqQefdsp", 57, 17, 17),
        ] {
            assert_eq!(shape(text), (size, fields, runs), "{text:?}");
        }
    }

    #[test]
    fn refusals() {
        type Predicate = fn(&FormatError) -> bool;
        let cases: &[(&str, Predicate)] = &[
            ("", FormatError::is_empty),
            (" ", FormatError::is_empty),
            ("<", FormatError::is_empty),
            ("< ", FormatError::is_empty),
            ("<0i", FormatError::is_empty),
            ("@i", FormatError::is_native),
            ("i", FormatError::is_native),
            (" <i", FormatError::is_native),
            ("4s", FormatError::is_native),
            ("<n", FormatError::is_native),
            ("<N", FormatError::is_native),
            ("<P", FormatError::is_native),
            ("<z", FormatError::is_syntax),
            ("<i<i", FormatError::is_syntax),
            ("<4 i", FormatError::is_syntax),
            ("<i4", FormatError::is_syntax),
            ("<i 4 ", FormatError::is_syntax),
            ("<-1i", FormatError::is_syntax),
            ("<\0i", FormatError::is_syntax),
            ("<é", FormatError::is_syntax),
            ("é", FormatError::is_syntax),
            ("<1048577x", FormatError::is_too_large),
            ("<65537B", FormatError::is_too_large),
            ("<65536B0s", FormatError::is_too_large),
        ];
        for (text, predicate) in cases {
            let error = parse(text).unwrap_err();
            assert!(predicate(&error), "{text:?}: {error:?}");
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn a_ceiling_is_still_allowed() {
        assert_eq!(shape("<1048576s"), (MAX_RECORD_BYTES, 1, 1));
        assert_eq!(shape("<65536q"), (512 << 10, MAX_FIELDS, 1));
        let longest = format!("<{}", "x".repeat(MAX_FORMAT_BYTES - 1));
        assert_eq!(shape(&longest), (MAX_FORMAT_BYTES - 1, 0, 0));
        assert!(parse(&format!("{longest}x")).unwrap_err().is_too_large());
    }
}
