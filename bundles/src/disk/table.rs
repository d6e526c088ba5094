//! The partition table: GPT (UEFI specification 2.10, chapter 5), both headers, and the protective MBR before it.

use std::collections::BTreeMap;
use std::fs::File;

use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition::Partition;
use gpt::{GptConfig, partition_types};
use uuid::Uuid;

use super::DiskError;
use super::sizes::{MIB, TABLE_ROOM_BYTES};

/// Size of a logical block.
const BLOCK_BYTES: u64 = 512;

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
        .create_from_device(disk, Some(guid("disk", "")))?;
    table.update_partitions(entries)?;
    table.write()?;
    Ok(())
}
