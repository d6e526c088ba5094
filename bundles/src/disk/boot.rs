//! A boot slot: FAT32 with the UKI at the removable-media path, or with nothing that could boot.
//!
//! # Invariants
//! - Every name is a short one in capitals, without long-name entries: the agents' renames depend on it (a rename is then one
//!   sector).
//! - Times are those of FAT's beginning, 1980, and the volume has the number that it is given.

use std::io::{self, Cursor, Write};

use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions, format_volume};

use super::DiskError;

/// Directory of the removable-media path (UEFI specification 2.10, section 3.5.1.1).
const DIRECTORIES: [&str; 2] = ["EFI", "EFI/BOOT"];

/// File names of the removable-media path, by machine of the PE header (PE format, "Machine Types").
const FILE_NAMES: [(u16, &str); 4] = [
    (0x8664, "BOOTX64.EFI"),
    (0xaa64, "BOOTAA64.EFI"),
    (0x5064, "BOOTRISCV64.EFI"),
    (0x01c2, "BOOTARM.EFI"),
];

/// Clusters of 512 bytes up to this size, of 4096 above: as the table of FAT's specification has it for its smallest volumes.
const SMALL_CLUSTERS_TO_BYTES: u64 = 260 << 20;

/// The file name that firmware for `machine` boots.
pub(super) fn file_name(machine: u16) -> Result<&'static str, DiskError> {
    let found = FILE_NAMES.iter().find(|(number, _)| *number == machine);
    found
        .map(|(_, name)| *name)
        .ok_or(DiskError::Machine(machine))
}

/// The bytes of a slot of `bytes` with the UKI, if there is one. In memory: a tree of small writes, and pages that stay zeros are
/// never touched.
pub(super) fn make(
    bytes: u64,
    volume_number: u32,
    label: &str,
    uki: Option<(&str, &[u8])>,
) -> io::Result<Vec<u8>> {
    let cluster = if bytes <= SMALL_CLUSTERS_TO_BYTES {
        512
    } else {
        4096
    };
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .bytes_per_cluster(cluster)
        .volume_id(volume_number)
        .volume_label(volume_label(label));
    let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
    let mut volume = vec![0; bytes];
    format_volume(Cursor::new(volume.as_mut_slice()), options)?;
    fill(Cursor::new(volume.as_mut_slice()), uki)?;
    if uki.is_some() {
        mend_parent(&mut volume, cluster as usize)
            .ok_or_else(|| io::Error::other("the volume is not laid out as expected"))?;
    }
    Ok(volume)
}

fn fill(volume: Cursor<&mut [u8]>, uki: Option<(&str, &[u8])>) -> io::Result<()> {
    let volume = FileSystem::new(volume, FsOptions::new())?;
    if let Some((name, content)) = uki {
        let root = volume.root_dir();
        let mut directory = root.clone();
        for path in DIRECTORIES {
            directory = root.create_dir(path)?;
        }
        let mut file = directory.create_file(name)?;
        file.write_all(content)?;
        file.flush()?;
    }
    // Counts what is free, so that it stands in the volume.
    volume.stats()?;
    volume.unmount()
}

/// Puts right what fatfs 0.3 gets wrong: in a directory of the root, `..` must name cluster 0, not the root's own (FAT
/// specification 1.03, section 6.5). The first directory of a new volume lies in the cluster behind the root's.
fn mend_parent(volume: &mut [u8], cluster_bytes: usize) -> Option<()> {
    const ENTRY_BYTES: usize = 32;
    const DIRECTORY: u8 = 0x10;
    let number = |at: usize, bytes: usize| {
        let field = volume.get(at..at + bytes)?;
        let digits = field.iter().rev();
        Some(digits.fold(0, |sum, byte| (sum << 8) | usize::from(*byte)))
    };
    // Of the boot sector: bytes a sector, sectors before the tables, tables, sectors of each.
    let sector = number(11, 2)?;
    let before_data = number(14, 2)? + number(16, 1)? * number(36, 4)?;
    let parent = before_data * sector + cluster_bytes + ENTRY_BYTES;
    let entry = volume.get_mut(parent..parent + ENTRY_BYTES)?;
    if !entry.starts_with(b"..         ") || entry.get(11) != Some(&DIRECTORY) {
        return None;
    }
    for high_and_low in [20..22, 26..28] {
        entry.get_mut(high_and_low)?.fill(0);
    }
    Some(())
}

/// A label as FAT stores it: in capitals, filled with spaces.
fn volume_label(label: &str) -> [u8; 11] {
    let mut bytes = [b' '; 11];
    bytes
        .iter_mut()
        .zip(label.bytes())
        .for_each(|(to, from)| *to = from.to_ascii_uppercase());
    bytes
}
