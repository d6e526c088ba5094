//! What fatfs 0.3 leaves to be done by hand in a volume that it has made: parents of directories, and long names.
//!
//! Format: Microsoft's FAT specification 1.03, sections 6 and 7. fatfs writes long-name entries for every name or for none; here
//! it writes none, and the few names that need some get them in the place of empty files made for that.
//!
//! # Invariants
//! - Only directory entries are written, in the first cluster of a directory: all that a volume just made has.

/// Bytes of a directory entry.
const ENTRY_BYTES: usize = 32;

/// Bytes of a short name, at the beginning of an entry: eight and three, filled with spaces.
const SHORT_BYTES: usize = 11;

/// Letters of a long name in one entry.
const LONG_UNITS: usize = 13;

/// Attribute of a directory, and those of a part of a long name.
const DIRECTORY: u8 = 0x10;
const LONG_NAME: u8 = 0x0f;

/// In the number of the entry that has the end of a long name.
const LAST: u8 = 0x40;

/// Where an entry has the number of its first cluster: the high half, the low half.
const CLUSTER: [usize; 2] = [20, 26];

/// Places of the letters of a long name in an entry (section 7.1).
const LONG_PLACES: [usize; LONG_UNITS] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/// How the names of the files begin that stand where a part of a long name will.
pub(super) const PLACE: &str = "PLACE";

/// A FAT32 volume in memory.
pub(super) struct Volume<'v> {
    bytes: &'v mut [u8],
    /// The first byte of cluster 2.
    data: usize,
    cluster_bytes: usize,
    root: usize,
}

/// How many empty files must stand before the file that gets a long name.
pub(super) const fn entries_before(long: &str) -> usize {
    long.len().div_ceil(LONG_UNITS)
}

impl<'v> Volume<'v> {
    /// Reads the boot sector; `None` when the volume is not laid out as expected.
    pub(super) fn new(bytes: &'v mut [u8]) -> Option<Self> {
        let number = |at: usize, length: usize| -> Option<usize> {
            let field = bytes.get(at..at + length)?;
            let digits = field.iter().rev();
            Some(digits.fold(0, |sum, byte| (sum << 8) | usize::from(*byte)))
        };
        // Bytes a sector, sectors a cluster, sectors before the tables, tables, sectors of each, first cluster of the root.
        let sector = number(11, 2)?;
        let cluster_bytes = number(13, 1)? * sector;
        let data = (number(14, 2)? + number(16, 1)? * number(36, 4)?) * sector;
        let root = number(44, 4)?;
        Some(Self {
            bytes,
            data,
            cluster_bytes,
            root,
        })
    }

    /// Puts right what fatfs gets wrong: in a directory of the root, `..` must name cluster 0, not the root's own (section 6.5).
    pub(super) fn mend_parents(&mut self) -> Option<()> {
        let directories: Vec<usize> = (0..self.entries())
            .filter_map(|index| self.entry(self.root, index))
            .filter(|entry| entry.get(SHORT_BYTES) == Some(&DIRECTORY))
            .map(cluster_of)
            .collect();
        for cluster in directories {
            let parent = self.entry_mut(cluster, 1)?;
            if !parent.starts_with(b"..         ") {
                return None;
            }
            for half in CLUSTER {
                parent.get_mut(half..half + 2)?.fill(0);
            }
        }
        Some(())
    }

    /// Gives the file at `path`, which is in short names, a long one too: written over the entries before its own, which must be
    /// those of empty files made for it ([`PLACE`]).
    pub(super) fn give_long_name(&mut self, path: &[&str], long: &str) -> Option<()> {
        let (name, directories) = path.split_last()?;
        let mut cluster = self.root;
        for directory in directories {
            let index = self.find(cluster, directory)?;
            cluster = cluster_of(self.entry(cluster, index)?);
        }
        let own = self.find(cluster, name)?;
        let parts = entries_before(long);
        let first = own.checked_sub(parts)?;
        let sum = checksum(&short_name(name)?);
        for (part, index) in (1..=parts).rev().zip(first..) {
            let entry = long_entry(long, part, parts, sum)?;
            let place = self.entry_mut(cluster, index)?;
            if !place.starts_with(PLACE.as_bytes()) {
                return None;
            }
            place.copy_from_slice(&entry);
        }
        Some(())
    }

    /// Entries in one cluster.
    const fn entries(&self) -> usize {
        self.cluster_bytes / ENTRY_BYTES
    }

    fn place(&self, cluster: usize, index: usize) -> Option<usize> {
        let first = self.data + cluster.checked_sub(2)? * self.cluster_bytes;
        (index < self.entries()).then_some(first + index * ENTRY_BYTES)
    }

    fn entry(&self, cluster: usize, index: usize) -> Option<&[u8]> {
        let place = self.place(cluster, index)?;
        self.bytes.get(place..place + ENTRY_BYTES)
    }

    fn entry_mut(&mut self, cluster: usize, index: usize) -> Option<&mut [u8]> {
        let place = self.place(cluster, index)?;
        self.bytes.get_mut(place..place + ENTRY_BYTES)
    }

    fn find(&self, cluster: usize, name: &str) -> Option<usize> {
        let short = short_name(name)?;
        let is_it = |index: &usize| {
            let entry = self.entry(cluster, *index);
            entry.is_some_and(|entry| entry.starts_with(&short))
        };
        (0..self.entries()).find(is_it)
    }
}

fn cluster_of(entry: &[u8]) -> usize {
    CLUSTER
        .iter()
        .flat_map(|half| [half + 1, *half])
        .fold(0, |sum, at| {
            (sum << 8) | usize::from(entry.get(at).copied().unwrap_or(0))
        })
}

/// A short name as an entry has it.
fn short_name(name: &str) -> Option<[u8; SHORT_BYTES]> {
    let (stem, suffix) = name.split_once('.').unwrap_or((name, ""));
    let mut short = [b' '; SHORT_BYTES];
    let (before, behind) = short.split_at_mut(8);
    before
        .get_mut(..stem.len())?
        .copy_from_slice(stem.as_bytes());
    behind
        .get_mut(..suffix.len())?
        .copy_from_slice(suffix.as_bytes());
    Some(short)
}

/// The sum that ties the parts of a long name to its short one (section 7.2).
fn checksum(short: &[u8; SHORT_BYTES]) -> u8 {
    short
        .iter()
        .fold(0, |sum: u8, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// One part of a long name, counted from 1; a NUL ends it, and what follows is filled.
fn long_entry(long: &str, part: usize, parts: usize, sum: u8) -> Option<[u8; ENTRY_BYTES]> {
    let mut entry = [0; ENTRY_BYTES];
    let number = u8::try_from(part).ok()?;
    *entry.get_mut(0)? = if part == parts { number | LAST } else { number };
    *entry.get_mut(SHORT_BYTES)? = LONG_NAME;
    *entry.get_mut(13)? = sum;
    let filled = long
        .encode_utf16()
        .chain([0])
        .chain(std::iter::repeat(0xffff));
    for (unit, place) in filled.skip((part - 1) * LONG_UNITS).zip(LONG_PLACES) {
        entry
            .get_mut(place..place + 2)?
            .copy_from_slice(&unit.to_le_bytes());
    }
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_is_filled_with_spaces() {
        assert_eq!(&short_name("EFI").unwrap(), b"EFI        ");
        assert_eq!(&short_name("LOADER~1.CON").unwrap(), b"LOADER~1CON");
        for name in ["TOOLONGAB.EFI", "A.LONG"] {
            assert_eq!(short_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_long_name_is_cut_into_entries_from_its_end() {
        let long = "systemd-bootx64.efi";
        assert_eq!(entries_before(long), 2);
        assert_eq!(entries_before("loader.conf"), 1);
        let entry = |part| long_entry(long, part, 2, 7).unwrap();
        let letters = |part| {
            let entry = entry(part);
            LONG_PLACES.map(|at| u16::from_le_bytes([entry[at], entry[at + 1]]))
        };
        assert_eq!(String::from_utf16(&letters(1)).unwrap(), "systemd-bootx");
        let end = letters(2);
        assert_eq!(String::from_utf16(&end[..6]).unwrap(), "64.efi");
        assert_eq!((end[6], end[12]), (0, 0xffff));
        assert_eq!((entry(1)[0], entry(2)[0]), (1, 0x42));
    }
}
