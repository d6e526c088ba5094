//! One tar header: 512 bytes of fixed fields.
//!
//! Source: POSIX.1-2017, `pax`, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format", for numbers in base 256.
//!
//! # Invariants
//! - A number that does not follow its field's grammar, or is out of range, is an error, never a default.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;

use composefs::generic_tree::LeafContent;
use composefs::generic_tree::Stat;

use super::ArchiveFault;
use super::FileContent;
use super::limits::device_number;
use super::pax::Records;

/// Everything in a tar archive is a whole number of these.
pub(super) const BLOCK_BYTES: usize = 512;

/// The mode of symbolic links in Linux.
const SYMLINK_MODE: u64 = 0o777;

mod field {
    use super::Range;
    pub const NAME: Range<usize> = 0..100;
    pub const MODE: Range<usize> = 100..108;
    pub const USER: Range<usize> = 108..116;
    pub const GROUP: Range<usize> = 116..124;
    pub const SIZE: Range<usize> = 124..136;
    pub const MODIFIED: Range<usize> = 136..148;
    pub const CHECKSUM: Range<usize> = 148..156;
    pub const TYPE: Range<usize> = 156..157;
    pub const LINK_NAME: Range<usize> = 157..257;
    pub const MAGIC: Range<usize> = 257..263;
    pub const DEVICE_MAJOR: Range<usize> = 329..337;
    pub const DEVICE_MINOR: Range<usize> = 337..345;
    pub const PREFIX: Range<usize> = 345..500;
}

/// What a member is.
#[derive(Debug)]
pub(super) enum MemberKind {
    /// A directory.
    Directory,
    /// A regular file of this many bytes.
    File(u64),
    /// Another name of the member of this name.
    HardLink(Vec<u8>),
    /// A symbolic link, a device or a pipe.
    Special(LeafContent<FileContent>),
}

/// A block that is taken for a header.
#[derive(Debug)]
pub(super) struct Header(pub(super) [u8; BLOCK_BYTES]);

impl Header {
    /// Whether this is no header but a part of the end marker.
    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    pub(super) fn has_valid_checksum(&self) -> bool {
        let outside = self
            .0
            .iter()
            .enumerate()
            .filter(|(index, _)| !field::CHECKSUM.contains(index));
        // The checksum's own field counts as spaces.
        let spaces = field::CHECKSUM.len() as i64 * i64::from(b' ');
        let sum = spaces + outside.map(|(_, byte)| i64::from(*byte)).sum::<i64>();
        parse_number(self.bytes(field::CHECKSUM)) == Some(sum)
    }

    /// The letter or digit that says what the member is.
    pub(super) fn type_letter(&self) -> u8 {
        self.bytes(field::TYPE).first().copied().unwrap_or_default()
    }

    /// The size field. Extended records may say otherwise.
    pub(super) fn size(&self) -> Result<u64, ArchiveFault> {
        to_unsigned(self.number(field::SIZE, "size")?, "size")
    }

    /// The name: ustar may cut it in two, GNU and V7 use the second part for something else or nothing.
    pub(super) fn name(&self) -> Vec<u8> {
        let name = until_zero(self.bytes(field::NAME));
        let prefix = until_zero(self.bytes(field::PREFIX));
        if self.bytes(field::MAGIC) == b"ustar\0" && !prefix.is_empty() {
            [prefix, b"/", name].concat()
        } else {
            name.to_vec()
        }
    }

    /// The name that a link leads to.
    pub(super) fn link_name(&self) -> Vec<u8> {
        until_zero(self.bytes(field::LINK_NAME)).to_vec()
    }

    /// What the member of this name is, with `records` before the header's own fields.
    pub(super) fn kind(
        &self,
        records: &Records,
        name: &[u8],
        link: Vec<u8>,
    ) -> Result<MemberKind, ArchiveFault> {
        let size = match records.number("size")? {
            Some(size) => to_unsigned(size, "size")?,
            None => self.size()?,
        };
        let kind = match self.type_letter() {
            // Before there was a type for directories, a trailing slash made one.
            b'0' | 0 | b'7' if name.ends_with(b"/") => MemberKind::Directory,
            b'0' | 0 | b'7' => return Ok(MemberKind::File(size)),
            b'1' => MemberKind::HardLink(link),
            b'2' if link.contains(&0) => return Err(ArchiveFault::NameInvalid),
            b'2' => MemberKind::Special(LeafContent::Symlink(OsStr::from_bytes(&link).into())),
            b'3' => MemberKind::Special(LeafContent::CharacterDevice(self.device()?)),
            b'4' => MemberKind::Special(LeafContent::BlockDevice(self.device()?)),
            b'5' => MemberKind::Directory,
            b'6' => MemberKind::Special(LeafContent::Fifo),
            b'S' => return Err(ArchiveFault::SparseFile),
            other => return Err(ArchiveFault::TypeNotRead(other)),
        };
        if size == 0 {
            Ok(kind)
        } else {
            Err(ArchiveFault::UnexpectedData)
        }
    }

    /// Owner, mode, time and attributes, with `records` before the header's own fields.
    pub(super) fn stat(&self, records: &Records) -> Result<Stat, ArchiveFault> {
        let owner = |keyword: &'static str, field: Range<usize>| {
            let number = match records.number(keyword)? {
                Some(number) => number,
                None => self.number(field, keyword)?,
            };
            // The largest value means "nobody given" to every call that sets an owner.
            let number = u32::try_from(number)
                .ok()
                .filter(|owner| *owner != u32::MAX);
            number.ok_or(ArchiveFault::Number(keyword))
        };
        let (seconds, nanoseconds) = match records.modification_time()? {
            Some(time) => time,
            None => (self.number(field::MODIFIED, "mtime")?, 0),
        };
        let mode = match self.type_letter() {
            // Linux gives every symbolic link the same mode, whatever an archive says.
            b'2' => SYMLINK_MODE,
            _ => to_unsigned(self.number(field::MODE, "mode")?, "mode")?,
        };
        Ok(Stat {
            // Some archives store the type of the file too.
            st_mode: (mode & 0o7777) as u32,
            st_uid: owner("uid", field::USER)?,
            st_gid: owner("gid", field::GROUP)?,
            st_mtim_sec: seconds,
            st_mtim_nsec: nanoseconds,
            xattrs: records.attributes(),
        })
    }

    fn device(&self) -> Result<u64, ArchiveFault> {
        let major = self.number(field::DEVICE_MAJOR, "devmajor")?;
        let minor = self.number(field::DEVICE_MINOR, "devminor")?;
        device_number(major, minor).ok_or(ArchiveFault::Number("devmajor, devminor"))
    }

    fn number(&self, field: Range<usize>, name: &'static str) -> Result<i64, ArchiveFault> {
        parse_number(self.bytes(field)).ok_or(ArchiveFault::Number(name))
    }

    fn bytes(&self, field: Range<usize>) -> &[u8] {
        self.0.get(field).unwrap_or_default()
    }
}

/// The bytes before the first zero.
pub(super) fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn to_unsigned(number: i64, name: &'static str) -> Result<u64, ArchiveFault> {
    u64::try_from(number).map_err(|_| ArchiveFault::Number(name))
}

/// Octal digits between spaces and zero bytes (none at all is 0), or base 256 if the first bit is set.
fn parse_number(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let start = if *first == 0xff {
            -1
        } else {
            i128::from(first & 0x7f)
        };
        let shift_in = |sum: i128, byte: &u8| sum.checked_mul(256)?.checked_add(i128::from(*byte));
        return i64::try_from(rest.iter().try_fold(start, shift_in)?).ok();
    }
    let text = field.trim_ascii_start();
    let end = text
        .iter()
        .position(|byte| matches!(byte, b' ' | 0))
        .unwrap_or(text.len());
    let (digits, filler) = text.split_at_checked(end)?;
    if !filler.iter().all(|byte| matches!(byte, b' ' | 0)) {
        return None;
    }
    digits.iter().try_fold(0_i64, |sum, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 8)?;
        sum.checked_mul(8)?.checked_add(i64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        let cases: [(&[u8], Option<i64>); 12] = [
            (b"0000644\0", Some(0o644)),
            (b" 644 \0\0\0", Some(0o644)),
            (b"77777777", Some(0o77_777_777)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"\x80\0\0\0\0\x01\x11\x70", Some(70_000)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"0000648\0", None),
            (b"-000644\0", None),
            (b"644 644\0", None),
            (b"\x01\x02\x03\x04", None),
            (b"", None),
        ];
        for (field, expected) in cases {
            assert_eq!(parse_number(field), expected, "{}", field.escape_ascii());
        }
    }
}
