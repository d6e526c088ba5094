//! Extended headers of POSIX tar: records `LENGTH KEYWORD=VALUE\n`, of which the length counts the whole record.
//!
//! Source: POSIX.1-2017, `pax`, "pax Extended Header"; `SCHILY.xattr.` as in GNU tar and star.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::ArchiveFault;

/// The keyword of an extended attribute begins so; the rest is the attribute's name and the value its value.
const ATTRIBUTE_PREFIX: &[u8] = b"SCHILY.xattr.";

const NANOSECOND_DIGITS: usize = 9;
const NANOSECONDS_A_SECOND: u32 = 1_000_000_000;

/// The attributes of an inode as the image wants them.
pub(super) type Attributes = BTreeMap<Box<OsStr>, Box<[u8]>>;

/// Records by keyword; of equal keywords the last one counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Records(BTreeMap<Vec<u8>, Vec<u8>>);

impl Records {
    /// Reads `bytes` and adds their records to these.
    pub(super) fn extend(&mut self, mut bytes: &[u8]) -> Result<(), ArchiveFault> {
        while !bytes.is_empty() {
            let (keyword, value, rest) =
                split_record(bytes).ok_or(ArchiveFault::ExtensionMalformed)?;
            self.0.insert(keyword.to_vec(), value.to_vec());
            bytes = rest;
        }
        Ok(())
    }

    /// The value of `keyword`. An empty value means that the header's own field counts, as POSIX asks.
    pub(super) fn value(&self, keyword: &str) -> Option<&[u8]> {
        self.0
            .get(keyword.as_bytes())
            .map(Vec::as_slice)
            .filter(|value| !value.is_empty())
    }

    /// The decimal number at `keyword`.
    pub(super) fn number(&self, keyword: &'static str) -> Result<Option<i64>, ArchiveFault> {
        let Some(value) = self.value(keyword) else {
            return Ok(None);
        };
        let number = std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse().ok());
        number.map(Some).ok_or(ArchiveFault::Number(keyword))
    }

    /// The modification time: seconds since 1970 and nanoseconds.
    pub(super) fn modification_time(&self) -> Result<Option<(i64, u32)>, ArchiveFault> {
        let Some(value) = self.value("mtime") else {
            return Ok(None);
        };
        parse_time(value)
            .map(Some)
            .ok_or(ArchiveFault::Number("mtime"))
    }

    /// The extended attributes.
    pub(super) fn attributes(&self) -> Attributes {
        let named = self
            .0
            .iter()
            .filter_map(|(keyword, value)| Some((keyword.strip_prefix(ATTRIBUTE_PREFIX)?, value)));
        named
            .map(|(name, value)| (OsStr::from_bytes(name).into(), value.as_slice().into()))
            .collect()
    }

    /// Refuses what would be lost in silence: sparse files, and access rules under keywords that are not read.
    pub(super) fn check(&self) -> Result<(), ArchiveFault> {
        let begins = |prefix: &str| {
            self.0
                .keys()
                .any(|keyword| keyword.starts_with(prefix.as_bytes()))
        };
        if begins("GNU.sparse.") || begins("SCHILY.realsize") {
            return Err(ArchiveFault::SparseFile);
        }
        for keyword in ["SCHILY.acl.", "RHT.security.selinux"] {
            if begins(keyword) {
                return Err(ArchiveFault::AttributesNotRead(keyword));
            }
        }
        // libarchive writes each attribute in both forms unless told otherwise.
        if begins("LIBARCHIVE.xattr.") && !begins("SCHILY.xattr.") {
            return Err(ArchiveFault::AttributesNotRead("LIBARCHIVE.xattr."));
        }
        Ok(())
    }
}

/// The keyword and value of the first record, and what follows it.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(bytes.get(..space)?)
        .ok()?
        .parse()
        .ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (keyword, value) = record.split_at_checked(equals)?;
    if keyword.is_empty() {
        return None;
    }
    Some((keyword, value.get(1..)?, rest))
}

/// A decimal number of seconds with an optional fraction. Digits beyond nanoseconds are dropped.
fn parse_time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let digits = fraction
        .bytes()
        .chain(std::iter::repeat(b'0'))
        .take(NANOSECOND_DIGITS);
    let nanoseconds = digits.fold(0, |sum: u32, digit| sum * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        // Times count nanoseconds upwards from the second before.
        (true, _) => (-seconds - 1, NANOSECONDS_A_SECOND - nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_any_byte() {
        let mut records = Records::default();
        records
            .extend(b"30 SCHILY.xattr.user.a=\n=\0\xff\nb\n20 mtime=1577926923\n")
            .unwrap();
        let attributes = records.attributes();
        assert_eq!(
            attributes.get(OsStr::new("user.a")).unwrap().as_ref(),
            b"\n=\0\xff\nb"
        );
        assert_eq!(records.modification_time(), Ok(Some((1_577_926_923, 0))));
    }

    #[test]
    fn an_empty_value_restores_the_field_but_is_a_value_of_an_attribute() {
        let mut records = Records::default();
        records
            .extend(b"8 path=\n27 SCHILY.xattr.user.none=\n")
            .unwrap();
        assert_eq!(records.value("path"), None);
        assert_eq!(
            records
                .attributes()
                .get(OsStr::new("user.none"))
                .unwrap()
                .as_ref(),
            b""
        );
    }

    #[test]
    fn malformed_records_are_refused() {
        for bytes in [
            "x", "5 a=b", "6 a=b", "99 a=b\n", "4 ab\n", "5 =ab\n", "-6 a=b\n", "3 \n", "0 a=b\n",
            "2 a=b\n",
        ] {
            let result = Records::default().extend(bytes.as_bytes());
            assert_eq!(result, Err(ArchiveFault::ExtensionMalformed), "{bytes:?}");
        }
    }

    #[test]
    fn times_have_nanoseconds_and_signs() {
        let cases = [
            ("0", Some((0, 0))),
            ("12.5", Some((12, 500_000_000))),
            ("12.000000001999", Some((12, 1))),
            ("-3", Some((-3, 0))),
            ("-1.25", Some((-2, 750_000_000))),
            ("", None),
            (".5", None),
            ("1.x", None),
            ("99999999999999999999", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_time(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn what_would_be_lost_is_refused() {
        let check = |keyword: &str| {
            let record = format!(" {keyword}=1\n");
            let mut records = Records::default();
            records
                .extend(format!("{}{record}", record.len() + 2).as_bytes())
                .unwrap();
            records.check()
        };
        assert_eq!(check("GNU.sparse.major"), Err(ArchiveFault::SparseFile));
        assert_eq!(
            check("SCHILY.acl.access"),
            Err(ArchiveFault::AttributesNotRead("SCHILY.acl."))
        );
        assert_eq!(
            check("RHT.security.selinux"),
            Err(ArchiveFault::AttributesNotRead("RHT.security.selinux"))
        );
        assert_eq!(
            check("LIBARCHIVE.xattr.user.a"),
            Err(ArchiveFault::AttributesNotRead("LIBARCHIVE.xattr."))
        );
        assert_eq!(check("SCHILY.xattr.user.a"), Ok(()));
        assert_eq!(check("comment"), Ok(()));
    }
}
