//! How large everything is: from the content of the bundle, or as the caller says.
//!
//! # Invariants
//! - Every partition begins and ends on a mebibyte: no flash works in larger units, and every tool takes it.
//! - What does not fit is refused before anything is written, with the size that would do.

use std::fmt;
use std::str::FromStr;

use super::DiskError;

/// The unit of partitions.
pub(super) const MIB: u64 = 1 << 20;

/// Room before the first partition and behind the last: the partition table and its copy.
pub(super) const TABLE_ROOM_BYTES: u64 = MIB;

/// The least for a boot slot: FAT32 has at least 65,525 clusters (of 512 bytes here), two tables of 4 bytes for each, and 32
/// sectors before them.
const BOOT_MIN_BYTES: u64 = 34 * MIB;

/// A boot slot unless the UKI is large.
const BOOT_DEFAULT_BYTES: u64 = 64 * MIB;

/// Room in a root slot beyond twice its content: what an update brings that is larger than what it replaces.
const ROOT_HEADROOM_BYTES: u64 = 64 * MIB;

/// The least for `data`.
const DATA_MIN_BYTES: u64 = 64 * MIB;

/// `data` when nothing says how large the disk is.
const DATA_DEFAULT_BYTES: u64 = 256 * MIB;

/// Largest disk and largest partition: ext4 with 32-bit block numbers, which every boot loader and recovery tool reads.
const DISK_MAX_BYTES: u64 = 16 << 40;

/// Largest boot slot: far above what firmware loads.
const BOOT_MAX_BYTES: u64 = 4 << 30;

/// Largest content: twice of it fits a partition.
const CONTENT_MAX_BYTES: u64 = DISK_MAX_BYTES / 4;

/// What ext4 needs for itself, in bytes: size of an inode; journals of small and of other file systems; groups, directories.
const INODE_BYTES: u64 = 256;
const JOURNAL_SMALL_BYTES: u64 = 4 * MIB;
const JOURNAL_BYTES: u64 = 16 * MIB;
const JOURNAL_SMALL_BELOW_BYTES: u64 = 256 * MIB;
const EXT4_FIXED_BYTES: u64 = 4 * MIB;

/// A number of bytes as people write it: 512M, 2G, 1048576.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let wrong = || ByteSizeError(text.to_owned());
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let shift = match text.get(digits.len()..).unwrap_or("") {
            "" => 0,
            "K" | "KiB" => 10,
            "M" | "MiB" => 20,
            "G" | "GiB" => 30,
            "T" | "TiB" => 40,
            _ => return Err(wrong()),
        };
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(wrong)
    }
}

/// Text that is no number of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByteSizeError(String);

impl fmt::Display for ByteSizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text) = self;
        write!(
            f,
            "`{text}` is not a size: give bytes, or a whole number with K, M, G or T, each 1024 of the one before"
        )
    }
}

impl std::error::Error for ByteSizeError {}

/// What the bundle holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    /// Bytes of the UKI.
    pub uki_bytes: u64,
    /// Bytes of a boot loader of its own, with its copy.
    pub loader_bytes: u64,
    /// Blocks that the objects and the composefs image take, sealed, in bytes.
    pub sealed_bytes: u64,
    /// How many they are.
    pub files: u64,
    /// Bytes of each image.
    pub images: Vec<u64>,
}

/// What the caller says; what it does not say follows from the content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The whole disk.
    pub disk: Option<ByteSize>,
    /// Each boot slot.
    pub boot: Option<ByteSize>,
    /// Each root slot.
    pub root: Option<ByteSize>,
}

/// How large everything becomes, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub boot: u64,
    pub root: u64,
    /// Each pair of image slots.
    pub images: Vec<u64>,
    pub data: u64,
    pub disk: u64,
}

impl Content {
    /// Inodes of a root slot: two releases that share nothing, and directories.
    pub(super) const fn inodes(&self) -> u64 {
        self.files * 2 + 1024
    }

    /// Chooses sizes.
    pub(super) fn sizes(&self, wanted: &Wanted) -> Result<Sizes, DiskError> {
        let largest = [self.uki_bytes, self.sealed_bytes]
            .into_iter()
            .chain(self.images.iter().copied())
            .max()
            .unwrap_or(0);
        // Nothing below overflows after this.
        if largest > CONTENT_MAX_BYTES {
            return Err(DiskError::ContentTooLarge(largest));
        }
        let boot = self.boot_bytes(wanted.boot)?;
        let root = self.root_bytes(wanted.root)?;
        // As much again as half of it, for images that grow.
        let images: Vec<u64> = self
            .images
            .iter()
            .map(|bytes| (bytes + bytes / 2).next_multiple_of(MIB))
            .collect();
        let slots = 2 * (boot + root + images.iter().sum::<u64>()) + 2 * TABLE_ROOM_BYTES;
        let Some(ByteSize(disk)) = wanted.disk else {
            let (data, disk) = (DATA_DEFAULT_BYTES, slots + DATA_DEFAULT_BYTES);
            return Ok(Sizes {
                boot,
                root,
                images,
                data,
                disk,
            });
        };
        let given = disk - disk % MIB;
        let needed = slots + DATA_MIN_BYTES;
        check("size", "the disk", disk, needed, DISK_MAX_BYTES)?;
        let (data, disk) = (given - slots, given);
        Ok(Sizes {
            boot,
            root,
            images,
            data,
            disk,
        })
    }

    fn boot_bytes(&self, wanted: Option<ByteSize>) -> Result<u64, DiskError> {
        // Two tables of 4 bytes for each cluster of 512, and room for directories.
        let files = self.uki_bytes + self.loader_bytes;
        let with_tables = files + files / 64 + 2 * MIB;
        let needed = with_tables.next_multiple_of(MIB).max(BOOT_MIN_BYTES);
        let Some(ByteSize(given)) = wanted else {
            let twice = (2 * files + 16 * MIB).next_multiple_of(MIB);
            return Ok(twice.max(BOOT_DEFAULT_BYTES));
        };
        check("boot-bytes", "a boot slot", given, needed, BOOT_MAX_BYTES)
    }

    fn root_bytes(&self, wanted: Option<ByteSize>) -> Result<u64, DiskError> {
        let own = |journal| self.inodes() * INODE_BYTES + journal + EXT4_FIXED_BYTES;
        let Some(ByteSize(given)) = wanted else {
            let bytes = 2 * self.sealed_bytes + own(JOURNAL_BYTES) + ROOT_HEADROOM_BYTES;
            return Ok(bytes.next_multiple_of(MIB));
        };
        let journal = journal_bytes(given - given % MIB);
        let needed = (self.sealed_bytes + own(journal)).next_multiple_of(MIB);
        check("root-bytes", "a root slot", given, needed, DISK_MAX_BYTES)
    }
}

/// Size of the journal of a file system of `bytes`.
pub(super) const fn journal_bytes(bytes: u64) -> u64 {
    if bytes < JOURNAL_SMALL_BELOW_BYTES {
        JOURNAL_SMALL_BYTES
    } else {
        JOURNAL_BYTES
    }
}

/// Gives `given` in whole mebibytes if it is in its range.
fn check(
    flag: &'static str,
    what: &'static str,
    given: u64,
    needed: u64,
    limit: u64,
) -> Result<u64, DiskError> {
    if given > limit {
        return Err(DiskError::TooLarge { flag, given, limit });
    }
    let whole = given - given % MIB;
    if whole < needed {
        return Err(DiskError::TooSmall {
            flag,
            what,
            given,
            needed,
        });
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> Content {
        Content {
            uki_bytes: 15_000_000,
            loader_bytes: 0,
            sealed_bytes: 220 * MIB,
            files: 5400,
            images: vec![3_000_000],
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64M", 64 * MIB),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)));
        }
        for text in ["", "M", "1.5G", "-1", "2g", "1MB", "99999999T"] {
            let error = text.parse::<ByteSize>().unwrap_err().to_string();
            assert!(error.contains("is not a size"), "{error}");
        }
    }

    #[test]
    fn defaults_leave_room_for_the_next_release() {
        let sizes = content().sizes(&Wanted::default()).unwrap();
        assert_eq!((sizes.boot, sizes.data), (64 * MIB, 256 * MIB));
        assert!(sizes.root >= 2 * content().sealed_bytes + ROOT_HEADROOM_BYTES);
        assert_eq!(sizes.images, [5 * MIB]);
        let sum = 2 * (sizes.boot + sizes.root + 5 * MIB) + sizes.data + 2 * MIB;
        assert_eq!(sizes.disk, sum);
    }

    #[test]
    fn a_loader_of_its_own_takes_room_beside_the_uki() {
        let with_loader = Content {
            loader_bytes: 40 * MIB,
            ..content()
        };
        let boot = |content: &Content| content.sizes(&Wanted::default()).unwrap().boot;
        assert!(boot(&with_loader) >= boot(&content()) + 40 * MIB);
        let wanted = Wanted {
            boot: Some(ByteSize(50 * MIB)),
            ..Wanted::default()
        };
        assert!(content().sizes(&wanted).is_ok());
        assert!(with_loader.sizes(&wanted).is_err());
    }

    #[test]
    fn the_least_that_is_named_is_enough_and_a_byte_less_is_not() {
        let wanted = |flag: &str, bytes| {
            let size = Some(ByteSize(bytes));
            let mut wanted = Wanted::default();
            match flag {
                "size" => wanted.disk = size,
                "boot-bytes" => wanted.boot = size,
                _ => wanted.root = size,
            }
            content().sizes(&wanted)
        };
        for flag in ["size", "boot-bytes", "root-bytes"] {
            let Err(DiskError::TooSmall { needed, .. }) = wanted(flag, 5) else {
                panic!("{flag}")
            };
            let message = wanted(flag, needed - 1).unwrap_err().to_string();
            let advice = format!("Give `--{flag} {}M` or more", needed / MIB);
            assert!(message.contains(&advice), "{message}");
            assert!(wanted(flag, needed).is_ok(), "{flag}");
            let error = wanted(flag, u64::MAX).unwrap_err();
            assert!(matches!(error, DiskError::TooLarge { .. }), "{error}");
        }
        let sizes = wanted("size", (4 << 30) + 12_345).unwrap();
        assert_eq!(sizes.disk, 4 << 30, "whole mebibytes");
    }
}
