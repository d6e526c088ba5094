//! The partition table: GPT (UEFI specification 2.10, chapter 5), both headers, the protective MBR before it, and two
//! spares of all that in the room that partitions leave free.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition::Partition;
use gpt::{GptConfig, partition_types};
use uuid::Uuid;

use super::DiskError;
use super::sizes::{MIB, TABLE_ROOM_BYTES};

/// Size of a logical block.
const BLOCK_BYTES: u64 = 512;

/// Protective MBR, header, and 128 entries of 128 bytes: what a spare has (`docs/disk.md`).
const SPARE_BYTES: usize = 34 * BLOCK_BYTES as usize;

/// Longest label: 36 units of UTF-16.
pub(super) const LABEL_MAX: usize = 36;

/// What firmware may look into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An EFI system partition.
    Boot,
    /// A partition that a boot loader reads besides the one that it stands in (XBOOTLDR).
    LoaderReads,
    /// Anything that Linux looks after.
    Linux,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub label: String,
    pub kind: Kind,
    pub start: u64,
    pub bytes: u64,
}

/// Partitions one after the other, the first behind the table.
pub(super) fn places<I>(list: I) -> Vec<Place>
where
    I: IntoIterator<Item = (String, Kind, u64)>,
{
    let mut start = TABLE_ROOM_BYTES;
    let place = |(label, kind, bytes)| {
        let place = Place {
            label,
            kind,
            start,
            bytes,
        };
        start += bytes;
        place
    };
    list.into_iter().map(place).collect()
}

/// Writes the table to `disk`, which has its final length.
pub(super) fn write<G>(
    disk: &mut File,
    bytes: u64,
    places: &[Place],
    guid: G,
) -> Result<(), DiskError>
where
    G: Fn(&str, &str) -> Uuid,
{
    debug_assert!(bytes.is_multiple_of(MIB));
    let entry = |place: &Place| Partition {
        part_type_guid: match place.kind {
            Kind::Boot => partition_types::EFI,
            Kind::LoaderReads => partition_types::FREEDESK_BOOT,
            Kind::Linux => partition_types::LINUX_FS,
        },
        part_guid: guid("partition", &place.label),
        first_lba: place.start / BLOCK_BYTES,
        last_lba: (place.start + place.bytes) / BLOCK_BYTES - 1,
        flags: 0,
        name: place.label.clone(),
    };
    let entries: BTreeMap<u32, Partition> = (1..).zip(places.iter().map(entry)).collect();
    // Blocks behind the MBR, or as many as it can say.
    let blocks = u32::try_from(bytes / BLOCK_BYTES - 1).unwrap_or(u32::MAX);
    ProtectiveMBR::with_lb_size(blocks)
        .overwrite_lba0(disk)
        .map_err(|error| gpt::GptError::from(std::io::Error::other(error)))?;
    let mut table = GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(&mut *disk, Some(guid("disk", "")))?;
    table.update_partitions(entries)?;
    table.write()?;
    write_spares(disk, bytes).map_err(gpt::GptError::from)?;
    Ok(())
}

/// Puts the disk's first sectors where a recovery finds them when the table and its backup are erased.
fn write_spares(disk: &File, bytes: u64) -> io::Result<()> {
    let mut sectors = [0; SPARE_BYTES];
    disk.read_exact_at(&mut sectors, 0)?;
    for offset in [TABLE_ROOM_BYTES / 2, bytes - TABLE_ROOM_BYTES] {
        disk.write_all_at(&sectors, offset)?;
    }
    Ok(())
}
