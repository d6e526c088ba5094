//! Changes of a FAT32 boot slot that no tool makes: the state in which a power cut may leave a file.
//!
//! Format: Microsoft's FAT specification 1.03, sections 3 and 4.

use super::{Scene, Set, uki};
use crate::disk::{Disk, DiskError};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Where an install writes the UKI until it is whole.
const STAGED: &str = "/EFI/BOOT/TWINSEAL.NEW";

/// What ends a chain; greater numbers do too.
const END: u32 = 0x0fff_fff8;

/// What a table has for a cluster that nobody has.
const FREE: u32 = 0;

/// The tables of a volume.
struct Tables {
    /// First byte of the first one, in the image.
    at: u64,
    /// Bytes of one.
    bytes: u64,
    count: u64,
}

/// Leaves a UKI under its staging name that is longer than its chain of clusters: its entry got its size, and the table all but
/// the first cluster not yet.
pub(super) fn stage_longer_than_its_clusters(scene: &Scene<'_>, set: Set) -> Result<(), DiskError> {
    let disk = uki::disk(scene);
    let slot = uki::slot(set);
    let copy = uki::copy_out(scene, set)?;
    disk.copy_in(&slot, &copy.file, STAGED)?;
    let first = first_cluster(&disk, &slot, STAGED)?;
    let failed = |error| DiskError::file(disk.file, "changed")(error);
    let file = disk.open()?;
    let tables = tables(&file, disk.partition(&slot)?.offset_bytes).map_err(failed)?;
    for table in 0..tables.count {
        let at = tables.at + table * tables.bytes;
        if cut_chain(&file, at, first).map_err(failed)? == 0 {
            return Err(DiskError::Unfit {
                file: STAGED.to_owned(),
                label: slot,
                what: "it has one cluster alone",
            });
        }
    }
    Ok(())
}

/// What mtools say of the first cluster of a file: "::/NAME <3-17> <20>".
fn first_cluster(disk: &Disk<'_>, label: &str, name: &str) -> Result<u32, DiskError> {
    let ask = disk.mtool("mshowfat", label)?.argument(format!("::{name}"));
    let said = disk.runner.run(&ask)?.expect_success()?.stdout;
    let number = said.split_once('<').map_or("", |(_, ranges)| ranges);
    let number = number.split(|c: char| !c.is_ascii_digit()).next();
    number
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| DiskError::Unfit {
            file: name.to_owned(),
            label: label.to_owned(),
            what: "mshowfat names no cluster of it",
        })
}

/// Reads the boot sector: bytes a sector, sectors before the tables, tables, sectors of each.
fn tables(file: &File, volume: u64) -> io::Result<Tables> {
    let number = |at: u64, length: usize| -> io::Result<u64> {
        let mut field = [0; 8];
        file.read_exact_at(field.get_mut(..length).unwrap_or_default(), volume + at)?;
        Ok(u64::from_le_bytes(field))
    };
    let sector = number(11, 2)?;
    Ok(Tables {
        at: volume + number(14, 2)? * sector,
        bytes: number(36, 4)? * sector,
        count: number(16, 1)?,
    })
}

/// Ends a chain behind its first cluster and frees the others; gives how many these were.
fn cut_chain(file: &File, table: u64, first: u32) -> io::Result<u64> {
    let mut next = replace(file, table, first, END)?;
    let mut freed = 0;
    while (2..END).contains(&next) {
        next = replace(file, table, next, FREE)?;
        freed += 1;
    }
    Ok(freed)
}

/// Writes what a table has for a cluster; gives what it had.
fn replace(file: &File, table: u64, cluster: u32, new: u32) -> io::Result<u32> {
    let (at, mut entry) = (table + u64::from(cluster) * 4, [0; 4]);
    file.read_exact_at(&mut entry, at)?;
    file.write_all_at(&new.to_le_bytes(), at)?;
    // The four highest bits are no part of the number.
    Ok(u32::from_le_bytes(entry) & 0x0fff_ffff)
}
