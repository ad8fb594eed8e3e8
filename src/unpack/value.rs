//! One decoded value.

use std::fmt;

/// One value of a record. Strings borrow from the data that was decoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'d> {
    /// `b h i l q`
    Int(i64),
    /// `B H I L Q`
    Uint(u64),
    /// `e f d`
    Float(f64),
    /// `?`
    Bool(bool),
    /// `c s p`
    Bytes(&'d [u8]),
}

/// For logs: one line whatever was received, since bytes that are not printable ASCII are
/// escaped.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) => write!(f, "{value}"),
            Self::Uint(value) => write!(f, "{value}"),
            // Debug, because Display writes 1e300 with 300 zeros.
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Bytes(value) => write!(f, "\"{}\"", value.escape_ascii()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_on_one_line() {
        for (value, shown) in [
            (Value::Int(-7), "-7"),
            (Value::Uint(u64::MAX), "18446744073709551615"),
            (Value::Float(1e300), "1e300"),
            (Value::Float(f64::NAN), "NaN"),
            (Value::Bool(true), "true"),
            (Value::Bytes(b"a\"\n\x00\xff"), r#""a\"\n\x00\xff""#),
        ] {
            assert_eq!(value.to_string(), shown);
        }
    }
}
