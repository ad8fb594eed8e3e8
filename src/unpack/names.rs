//! What the fields are called.

use std::collections::HashMap;

use super::error::{FormatKind, name_twice, name_unprintable};

const NUMBERED: &str = "field_";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// `field_0`, `field_1`, …: made when asked for, since there may be 65,536 of them.
    Numbered(usize),
    Given {
        names: Box<[Box<str>]>,
        positions: HashMap<Box<str>, usize>,
    },
}

impl Names {
    pub(super) fn given<S: AsRef<str>>(names: &[S], fields: usize) -> Result<Self, FormatKind> {
        if names.len() != fields {
            return Err(FormatKind::NameCount {
                names: names.len(),
                fields,
            });
        }
        let mut positions = HashMap::with_capacity(fields);
        for (index, name) in names.iter().map(AsRef::as_ref).enumerate() {
            if name.is_empty() {
                return Err(FormatKind::NameEmpty { index });
            }
            if !name.chars().all(prints) {
                return Err(name_unprintable(name));
            }
            if positions.insert(name.into(), index).is_some() {
                return Err(name_twice(name));
            }
        }
        Ok(Self::Given {
            names: names.iter().map(|name| name.as_ref().into()).collect(),
            positions,
        })
    }

    pub(super) fn get(&self, index: usize) -> Option<String> {
        match self {
            Self::Numbered(fields) => (index < *fields).then(|| format!("{NUMBERED}{index}")),
            Self::Given { names, .. } => names.get(index).map(|name| name.to_string()),
        }
    }

    pub(super) fn position(&self, name: &str) -> Option<usize> {
        match self {
            Self::Numbered(fields) => {
                let digits = name.strip_prefix(NUMBERED)?;
                let index = digits.parse().ok()?;
                // Only the canonical spelling: not field_+1, not field_01.
                (index < *fields && self.get(index).as_deref() == Some(name)).then_some(index)
            }
            Self::Given { positions, .. } => positions.get(name).copied(),
        }
    }
}

/// No control character, no separator of lines, nothing that reorders text: what Python's
/// `str.isprintable` says. Names go into log lines as they are.
fn prints(character: char) -> bool {
    // The standard library knows, but does not say so directly. Behind a letter, since a
    // combining character by itself is escaped as well.
    let is_quoted = matches!(character, '\'' | '"' | '\\');
    is_quoted || String::from_iter(['a', character]).escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_names_have_one_spelling() {
        let names = Names::Numbered(12);
        assert_eq!(names.get(11).as_deref(), Some("field_11"));
        assert_eq!(names.get(12), None);
        assert_eq!(names.position("field_11"), Some(11));
        for wrong in ["field_12", "field_+1", "field_01", "field_", "11", ""] {
            assert_eq!(names.position(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn given_names_are_one_each_and_unique() {
        let names = Names::given(&["id", "tag"], 2).unwrap();
        assert_eq!(names.position("tag"), Some(1));
        assert_eq!(names.position("field_0"), None);
        assert!(Names::given(&["id"], 2).is_err());
        assert!(Names::given(&["id", ""], 2).is_err());
        assert!(Names::given(&["id", "id"], 2).is_err());
    }

    #[test]
    fn f49_a_name_is_made_of_characters_that_print() {
        for name in [
            "größe", "x y", "it's", "a\\b", "\"", "e\u{301}", "長さ", "🦀",
        ] {
            assert!(Names::given(&[name], 1).is_ok(), "{name:?}");
        }
        let controls = ('\0'..' ').chain('\u{7f}'..='\u{a0}');
        let others = "\u{ad}\u{200b}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}\u{feff}\u{e0001}";
        for character in controls.chain(others.chars()) {
            for name in [format!("{character}"), format!("a{character}b")] {
                let refused = Names::given(&[&name], 1).unwrap_err();
                assert!(
                    matches!(&refused, FormatKind::NameUnprintable { name } if name.is_ascii()),
                    "{name:?}"
                );
            }
        }
    }
}
