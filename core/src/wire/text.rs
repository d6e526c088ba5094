//! Closed grammars for every string that comes from outside.
//!
//! A name from a bundle is never a path: it must match a grammar that has no separator, no leading dot and no control character.
//!
//! # Invariants
//! - [`Name`] is `[a-z0-9][a-z0-9._-]*`; [`Line`] is printable ASCII without line breaks, for people only.

use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest [`Name`]: what fits a tar name field after the `info/` prefix, a GPT label suffix and a line on a console.
pub const NAME_MAX_BYTES: usize = 64;

/// Longest [`Line`].
pub const LINE_MAX_BYTES: usize = 128;

/// A name that a machine compares: device type, slot, file under `info/`.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Name(heapless::String<NAME_MAX_BYTES>);

/// A line of text for people: version, source revision, builder.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Line(heapless::String<LINE_MAX_BYTES>);

impl Name {
    /// Takes `text` when it matches the grammar and the limit; `None` otherwise.
    pub fn new(text: &str) -> Option<Self> {
        let (first, rest) = text.as_bytes().split_first()?;
        let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let valid = plain(first) && rest.iter().all(|byte| plain(byte) || b"._-".contains(byte));
        let text = heapless::String::try_from(text).ok()?;
        valid.then_some(Self(text))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Line {
    /// Takes `text` when it is printable ASCII and within the limit; `None` otherwise.
    pub fn new(text: &str) -> Option<Self> {
        let valid = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        let text = heapless::String::try_from(text).ok()?;
        valid.then_some(Self(text))
    }

    /// Takes as much of `text` as fits; what is not printable ASCII becomes a question mark. For names that are only told.
    pub fn lossy(text: &str) -> Self {
        let mut line = heapless::String::new();
        for letter in text.chars() {
            let plain = if (' '..='~').contains(&letter) {
                letter
            } else {
                '?'
            };
            if line.push(plain).is_err() {
                break;
            }
        }
        Self(line)
    }

    /// The line as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

macro_rules! text_type {
    ($type:ident, $what:literal) => {
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0.as_str())
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.0.as_str())
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.0.as_str())
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <&'de str>::deserialize(deserializer)?;
                $type::new(text).ok_or_else(|| serde::de::Error::custom($what))
            }
        }
    };
}
text_type!(Name, "not a name");
text_type!(Line, "not a line of printable text");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lossy_line_takes_anything() {
        assert_eq!(Line::lossy("b\u{e4}d\nname").as_str(), "b?d?name");
        let long = [b'x'; LINE_MAX_BYTES + 1];
        let text = core::str::from_utf8(&long).unwrap();
        assert_eq!(Line::lossy(text).as_str().len(), LINE_MAX_BYTES);
    }

    #[test]
    fn names_are_never_paths() {
        for bad in [
            "", ".", "..", "a/b", "/a", "-a", "A", "a b", "a\0", "é", ".a",
        ] {
            assert!(Name::new(bad).is_none(), "{bad:?} must not be a name");
        }
        let long = [b'a'; NAME_MAX_BYTES + 1];
        assert!(core::str::from_utf8(&long).is_ok_and(|text| Name::new(text).is_none()));
        assert!(Name::new("acme-gw.2_b").is_some());
    }

    #[test]
    fn lines_hold_no_control_characters() {
        assert!(Line::new("1.2.3 (build 7)").is_some());
        for bad in ["a\n", "\x1b[31m", "\x7f", "ü"] {
            assert!(Line::new(bad).is_none());
        }
    }
}
