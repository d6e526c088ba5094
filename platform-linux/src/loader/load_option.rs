//! `EFI_LOAD_OPTION`: the value of a `Boot####` variable (UEFI specification 2.10, section 3.1.3).
//!
//! ```text
//! attributes u32 | length of the device path u16 | description UCS-2, NUL | device path | optional data
//! ```
//!
//! The device path (section 10.3) is a chain of nodes `type u8 | subtype u8 | length u16 | …`. Ours has three: the partition
//! (hard drive media device path, 10.3.5.1), the file in it (file path media device path, 10.3.5.4), and the end (10.3.1).
//! The partition's node comes first, the short form that firmware must complete by searching for the partition (3.1.2).
//!
//! # Invariants
//! - Everything here is little-endian and unaligned, and comes from a firmware: no length is believed.

use super::uefi::BootPartition;
use heapless::Vec;
use rustix::io::Errno;

/// Longest load option that is made here: what three nodes and a description of 21 letters and a path of 35 take (178 bytes), with some room.
pub(crate) const OPTION_MAX_BYTES: usize = 192;

/// `LOAD_OPTION_ACTIVE`: the boot manager tries it.
const ACTIVE: u32 = 1;

/// Attributes and length of the device path.
const FIXED_BYTES: usize = 6;

const NODE_HEADER_BYTES: usize = 4;

const MEDIA: u8 = 4;
const HARD_DRIVE: u8 = 1;
const FILE_PATH: u8 = 4;

/// Length of a hard drive node.
const HARD_DRIVE_BYTES: usize = 42;

/// `MBRType` 2: the disk has a GPT. `SignatureType` 2: the signature is the partition's GUID.
const GPT_WITH_GUID: [u8; 2] = [2, 2];

/// End of the whole device path.
const END: [u8; 4] = [0x7f, 0xff, 4, 0];

/// The value of the variable that boots a file of a partition; `file` is its path, part by part.
pub(crate) fn encode(
    description: &str,
    partition: &BootPartition,
    file: [&str; 3],
) -> Result<Vec<u8, OPTION_MAX_BYTES>, Errno> {
    let mut path = Vec::new();
    encode_path(partition, file, &mut path)?;
    let mut option = Vec::new();
    let length = u16::try_from(path.len()).map_err(|_| Errno::FBIG)?;
    put(&mut option, &ACTIVE.to_le_bytes())?;
    put(&mut option, &length.to_le_bytes())?;
    put_text(&mut option, description)?;
    put(&mut option, &[0, 0])?;
    put(&mut option, &path)?;
    Ok(option)
}

fn encode_path(
    partition: &BootPartition,
    file: [&str; 3],
    path: &mut Vec<u8, OPTION_MAX_BYTES>,
) -> Result<(), Errno> {
    put(path, &[MEDIA, HARD_DRIVE, HARD_DRIVE_BYTES as u8, 0])?;
    put(path, &partition.number.to_le_bytes())?;
    put(path, &partition.start_blocks.to_le_bytes())?;
    put(path, &partition.size_blocks.to_le_bytes())?;
    put(path, &partition.guid)?;
    put(path, &GPT_WITH_GUID)?;
    let mut name = Vec::new();
    for part in file {
        put_text(&mut name, "\\")?;
        put_text(&mut name, part)?;
    }
    put(&mut name, &[0, 0])?;
    let length = u16::try_from(NODE_HEADER_BYTES + name.len()).map_err(|_| Errno::FBIG)?;
    put(path, &[MEDIA, FILE_PATH])?;
    put(path, &length.to_le_bytes())?;
    put(path, &name)?;
    put(path, &END)
}

fn put(to: &mut Vec<u8, OPTION_MAX_BYTES>, bytes: &[u8]) -> Result<(), Errno> {
    to.extend_from_slice(bytes).map_err(|_| Errno::FBIG)
}

fn put_text(to: &mut Vec<u8, OPTION_MAX_BYTES>, text: &str) -> Result<(), Errno> {
    text.encode_utf16()
        .try_for_each(|unit| put(to, &unit.to_le_bytes()))
}

/// Whether a load option has this description and boots from the partition with this GUID, whatever else it says.
pub(crate) fn is_for(option: &[u8], description: &str, guid: &[u8; 16]) -> bool {
    let Some((found, path)) = split(option) else {
        return false;
    };
    let same = description
        .encode_utf16()
        .eq(found.chunks_exact(2).map(unit));
    same && names_partition(path, guid)
}

/// Description, without its NUL, and device path.
fn split(option: &[u8]) -> Option<(&[u8], &[u8])> {
    let (fixed, rest) = option.split_at_checked(FIXED_BYTES)?;
    let length = usize::from(unit(fixed.get(4..)?));
    let units = rest.chunks_exact(2).position(|two| two == [0, 0])?;
    let (description, rest) = rest.split_at_checked(units * 2)?;
    Some((description, rest.get(2..)?.get(..length)?))
}

/// Whether a node of the device path is the partition with this GUID. A firmware may have put the way to the disk before it.
fn names_partition(mut path: &[u8], guid: &[u8; 16]) -> bool {
    while let Some((header, rest)) = path.split_at_checked(NODE_HEADER_BYTES) {
        let length = usize::from(header.get(2..).map_or(0, unit));
        let body = length
            .checked_sub(NODE_HEADER_BYTES)
            .and_then(|length| rest.split_at_checked(length));
        // A node that is shorter than its header or longer than the path: nothing after it can be read.
        let Some((body, rest)) = body else {
            return false;
        };
        if header.starts_with(&[MEDIA, HARD_DRIVE])
            && body.get(20..36) == Some(guid)
            && body.get(36..) == Some(&GPT_WITH_GUID)
        {
            return true;
        }
        path = rest;
    }
    false
}

/// The first two bytes as a number; 0 when there are less.
fn unit(bytes: &[u8]) -> u16 {
    bytes
        .first_chunk()
        .map_or(0, |two| u16::from_le_bytes(*two))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::REMOVABLE_MEDIA_FILE;
    use std::vec::Vec as Bytes;

    const PARTITION: BootPartition = BootPartition {
        number: 1,
        start_blocks: 2048,
        size_blocks: 131_072,
        guid: [0xa5; 16],
    };

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_bytes_are_those_of_the_specification() {
        let option = encode("ab", &PARTITION, REMOVABLE_MEDIA_FILE).unwrap();
        let mut expected = Bytes::from([1, 0, 0, 0, 94, 0, b'a', 0, b'b', 0, 0, 0]);
        expected.extend([4, 1, 42, 0, 1, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0]);
        expected.extend([0, 0, 2, 0, 0, 0, 0, 0]);
        expected.extend([0xa5; 16]);
        expected.extend([2, 2, 4, 4, 48, 0]);
        expected.extend(
            "\\EFI\\BOOT\\BOOTX64.EFI\0"
                .bytes()
                .flat_map(|byte| [byte, 0]),
        );
        expected.extend([0x7f, 0xff, 4, 0]);
        assert_eq!(option.as_slice(), expected);
    }

    #[test]
    fn an_entry_is_known_by_description_and_partition() {
        let option = encode("twinseal a", &PARTITION, REMOVABLE_MEDIA_FILE).unwrap();
        assert!(is_for(&option, "twinseal a", &[0xa5; 16]));
        assert!(!is_for(&option, "twinseal b", &[0xa5; 16]));
        assert!(!is_for(&option, "twinseal", &[0xa5; 16]));
        assert!(!is_for(&option, "twinseal a", &[0xa6; 16]));
        let mut with_data = option.clone();
        with_data.extend_from_slice(b"optional data").unwrap();
        assert!(is_for(&with_data, "twinseal a", &[0xa5; 16]));
    }

    #[test]
    fn a_partition_is_found_behind_the_way_to_its_disk() {
        let mut path = Bytes::from([1, 1, 6, 0, 0, 0x1f]);
        let mut own = Vec::new();
        encode_path(&PARTITION, REMOVABLE_MEDIA_FILE, &mut own).unwrap();
        path.extend(&own);
        assert!(names_partition(&path, &[0xa5; 16]));
    }

    #[test]
    fn no_cut_and_no_wild_length_is_believed() {
        let option = encode("twinseal a", &PARTITION, REMOVABLE_MEDIA_FILE).unwrap();
        for end in 0..option.len() {
            assert!(
                !is_for(&option[..end], "twinseal a", &[0xa5; 16]),
                "{end} bytes"
            );
        }
        // The length of the path, and that of each node.
        for position in [4, 5, 30, 31, 72, 73] {
            for value in [0, 1, 3, 0xff] {
                let mut wild = option.clone();
                wild[position] = value;
                let _ = is_for(&wild, "twinseal a", &[0xa5; 16]);
            }
        }
        let mut endless = option.clone();
        endless[30] = 0;
        assert!(
            !is_for(&endless, "twinseal a", &[0xa5; 16]),
            "a node of no length"
        );
    }
}
