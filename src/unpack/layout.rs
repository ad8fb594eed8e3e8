//! A compiled format: the one thing callers hold.

use std::hash::{Hash, Hasher};

use super::encode;
use super::error::{DataError, FormatError};
use super::format::{self, Plan, Slot, Slots};
use super::names::Names;
use super::value::Value;

/// A compiled struct format, with names for its fields.
///
/// Two layouts are equal when they describe the same record with the same names, however the
/// format is spelled (`!2h` and `> hh`).
#[derive(Clone, Debug)]
pub struct Layout {
    format: Box<str>,
    pub(super) plan: Plan,
    names: Names,
}

impl Layout {
    /// Compiles a format whose fields are called `field_0`, `field_1`, …
    ///
    /// # Errors
    /// When the text breaks the grammar, asks for native sizes, describes nothing, or passes
    /// a ceiling of this module.
    pub fn compile(format: &str) -> Result<Self, FormatError> {
        let plan = format::parse(format)?;
        let names = Names::Numbered(plan.fields);
        Ok(Self {
            format: format.into(),
            plan,
            names,
        })
    }

    /// Compiles a format and names its values, in order.
    ///
    /// # Errors
    /// As [`Layout::compile`], and when there is not exactly one name for each value, or a
    /// name is empty, occurs twice, or has a character that does not print.
    pub fn with_names<S: AsRef<str>>(format: &str, names: &[S]) -> Result<Self, FormatError> {
        let mut layout = Self::compile(format)?;
        layout.names = Names::given(names, layout.plan.fields)
            .map_err(|kind| FormatError::new(format, kind))?;
        Ok(layout)
    }

    /// The format, as it was given.
    #[must_use]
    pub fn format(&self) -> &str {
        &self.format
    }

    /// Bytes of one record.
    #[must_use]
    pub fn size(&self) -> usize {
        self.plan.size
    }

    /// Values in one record, without padding.
    #[must_use]
    pub fn field_count(&self) -> usize {
        self.plan.fields
    }

    /// Whether names were given, and not made up.
    #[must_use]
    pub fn is_named(&self) -> bool {
        matches!(self.names, Names::Given { .. })
    }

    /// The name of a field, or `None` beyond the last.
    #[must_use]
    pub fn name(&self, index: usize) -> Option<String> {
        self.names.get(index)
    }

    /// The position of a name among the values.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.names.position(name)
    }

    /// Where each value lies, in order.
    #[must_use]
    pub fn slots(&self) -> Slots<'_> {
        Slots::new(&self.plan.runs, self.plan.fields)
    }

    /// Whether `data` is exactly one record. Every record of the right size can be decoded.
    ///
    /// # Errors
    /// When it is shorter or longer.
    #[inline]
    pub fn check(&self, data: &[u8]) -> Result<(), DataError> {
        if data.len() == self.plan.size {
            Ok(())
        } else {
            Err(DataError::wrong_size(self.plan.size, data.len()))
        }
    }

    /// How many records `bytes` bytes hold.
    ///
    /// # Errors
    /// When they are not a whole number of records, or a record has no size.
    pub fn records_in(&self, bytes: usize) -> Result<usize, DataError> {
        match bytes.checked_rem(self.plan.size) {
            None => Err(DataError::no_size()),
            Some(0) => Ok(bytes / self.plan.size),
            Some(_) => Err(DataError::multiple(self.plan.size, bytes)),
        }
    }

    /// Where a record at `offset` of a buffer of `bytes` bytes starts; a negative offset counts
    /// from the end.
    ///
    /// # Errors
    /// When the record would not lie within the buffer.
    pub fn start_at(&self, bytes: usize, offset: isize) -> Result<usize, DataError> {
        let start = if offset < 0 {
            bytes.checked_sub(offset.unsigned_abs())
        } else {
            Some(offset.unsigned_abs())
        };
        start
            .filter(|&start| {
                bytes
                    .checked_sub(start)
                    .is_some_and(|left| left >= self.plan.size)
            })
            .ok_or(DataError::offset(self.plan.size, bytes, offset))
    }

    /// Appends one record to `out`; on error `out` is as it was.
    ///
    /// # Errors
    /// When there is not one value for each field, or a value does not fit its field.
    pub fn encode_into(&self, values: &[Value<'_>], out: &mut Vec<u8>) -> Result<(), DataError> {
        self.check_count(values.len())?;
        let start = out.len();
        out.resize(start + self.plan.size, 0);
        for (slot, value) in self.slots().zip(values) {
            if let Err(error) = self.put(slot, value, &mut out[start..]) {
                out.truncate(start);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Whether `values` is the number of values of a record.
    ///
    /// # Errors
    /// When it is not.
    pub fn check_count(&self, values: usize) -> Result<(), DataError> {
        if values == self.plan.fields {
            Ok(())
        } else {
            Err(DataError::count(self.plan.fields, values))
        }
    }

    /// Writes one value into its slot of `record`, which is zeroed and [`Layout::size`] long.
    ///
    /// # Errors
    /// When the value is of the wrong kind or out of range.
    ///
    /// # Panics
    /// When `record` is shorter than a record of the layout the slot came from.
    pub fn put(&self, slot: Slot, value: &Value<'_>, record: &mut [u8]) -> Result<(), DataError> {
        encode::put(self.plan.order, slot, value, record)
    }
}

impl PartialEq for Layout {
    fn eq(&self, other: &Self) -> bool {
        self.plan == other.plan && self.names == other.names
    }
}

impl Eq for Layout {}

impl Hash for Layout {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.plan.hash(state);
        if let Names::Given { names, .. } = &self.names {
            names.hash(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_by_meaning_not_by_spelling() {
        let one = Layout::compile("!2h").unwrap();
        assert_eq!(one, Layout::compile("> hh").unwrap());
        assert_ne!(one, Layout::compile("<hh").unwrap());
        assert_ne!(one, Layout::with_names("!2h", &["a", "b"]).unwrap());
    }

    #[test]
    fn offsets_count_from_either_end() {
        let layout = Layout::compile("<i").unwrap();
        for (offset, start) in [
            (0, Some(0)),
            (4, Some(4)),
            (5, None),
            (-4, Some(4)),
            (-8, Some(0)),
            (-3, None),
            (-9, None),
            (isize::MAX, None),
            (isize::MIN, None),
        ] {
            assert_eq!(layout.start_at(8, offset).ok(), start, "{offset}");
        }
    }
}
