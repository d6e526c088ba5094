//! An empty FAT file system.
//!
//! Format: Microsoft's FAT specification 1.03. The type follows from the number of clusters (section 3.5), so a slot that is too small
//! for FAT32 is FAT16; one too small for that is refused, since UEFI knows FAT12 on removable
//! media only. Sectors are as large as the disk's blocks, up to the 4096 bytes that FAT knows.

use super::Fat;
use super::block::{BLOCK_BYTES, Block};
use super::medium::Medium;
use twinseal_core::error::StorageError;

/// FAT32 begins here, and FAT16 is below it; a few clusters to either side are left alone, as the specification advises, because
/// not everybody counts alike.
const FAT32_MIN_CLUSTERS: u64 = 65_525;
const FAT16_MIN_CLUSTERS: u64 = 4085;
const KEPT_AWAY_CLUSTERS: u64 = 16;

/// Largest volume, as in `bundles/src/disk/sizes.rs`: far above what firmware loads. What is above is not used.
const VOLUME_MAX_BYTES: u64 = 4 << 30;

/// Clusters of one sector up to this size, of 4096 bytes above, as in `bundles/src/disk/boot.rs`.
const SMALL_CLUSTERS_TO_BYTES: u64 = 260 << 20;

/// Sectors before the tables. FAT16 needs one, and has as many as are written last in one piece.
const FAT16_RESERVED: u64 = 8;
const FAT32_RESERVED: u64 = 32;

/// Tables.
const TABLES: u64 = 2;

/// Clusters that a table counts and that are none.
const NO_CLUSTERS: u64 = 2;

/// Entries in the root directory of FAT16, of 32 bytes each.
const ROOT_ENTRIES: u16 = 512;
const ENTRY_BYTES: u64 = 32;

/// A partition on a fixed disk.
const MEDIA: u8 = 0xf8;

/// A geometry that nothing follows, and without which mtools reads nothing; as in `bundles/src/disk/fat.rs`.
const SECTORS_PER_TRACK: u16 = 32;
const HEADS: u16 = 64;

/// Where FAT32 has its count of what is free, and the copy of the first sectors.
const INFORMATION_SECTOR: u64 = 1;
const COPY_SECTOR: u64 = 6;

/// What a sector of those holds, whatever its size.
const SECTOR_CONTENT_BYTES: usize = 512;

/// The root directory of FAT32.
const ROOT_CLUSTER: u32 = 2;

/// Bytes of a label.
const LABEL_BYTES: usize = 11;

/// Attribute of the entry that has the volume's label.
const LABEL: u8 = 0x08;

/// 1980-01-01, the first day that FAT knows.
const FIRST_DAY: u16 = (1 << 5) | 1;

/// End of a chain of clusters.
const CHAIN_END: u32 = 0x0fff_ffff;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Fat16,
    Fat32,
}

/// Sizes in sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    kind: Kind,
    sector_bytes: u64,
    cluster: u64,
    before_tables: u64,
    table: u64,
    /// The root directory of FAT16, which is no cluster.
    root: u64,
    clusters: u64,
    all: u64,
}

impl Layout {
    /// That of a slot; `None` when it is too small.
    fn new(bytes: u64, sector_bytes: u64) -> Option<Self> {
        let bytes = bytes.min(VOLUME_MAX_BYTES);
        if !(512..=BLOCK_BYTES as u64).contains(&sector_bytes) {
            return None;
        }
        let usual = if bytes <= SMALL_CLUSTERS_TO_BYTES {
            1
        } else {
            BLOCK_BYTES as u64 / sector_bytes
        };
        let fat32 = Self::of(Kind::Fat32, bytes, sector_bytes, usual)?;
        if fat32.clusters >= FAT32_MIN_CLUSTERS + KEPT_AWAY_CLUSTERS {
            return Some(fat32);
        }
        // At most twice as many clusters as there may be: the second size does.
        let allowed =
            FAT16_MIN_CLUSTERS + KEPT_AWAY_CLUSTERS..FAT32_MIN_CLUSTERS - KEPT_AWAY_CLUSTERS;
        [usual, 2 * usual]
            .into_iter()
            .filter_map(|cluster| Self::of(Kind::Fat16, bytes, sector_bytes, cluster))
            .find(|layout| allowed.contains(&layout.clusters))
    }

    fn of(kind: Kind, bytes: u64, sector_bytes: u64, cluster: u64) -> Option<Self> {
        let all = bytes / sector_bytes;
        let (entry_bytes, before_tables, root) = match kind {
            Kind::Fat16 => (
                2,
                FAT16_RESERVED,
                u64::from(ROOT_ENTRIES) * ENTRY_BYTES / sector_bytes,
            ),
            Kind::Fat32 => (4, FAT32_RESERVED, 0),
        };
        let rest = all.checked_sub(before_tables + root)?;
        // What one sector of every table counts, with those sectors themselves.
        let counted = sector_bytes / entry_bytes * cluster + TABLES;
        let table = (rest + NO_CLUSTERS * cluster).div_ceil(counted);
        let clusters = rest.checked_sub(TABLES * table)? / cluster;
        Some(Self {
            kind,
            sector_bytes,
            cluster,
            before_tables,
            table,
            root,
            clusters,
            all,
        })
    }

    /// Byte offset of a sector.
    const fn offset(&self, sector: u64) -> u64 {
        sector * self.sector_bytes
    }

    const fn table_start(&self, table: u64) -> u64 {
        self.before_tables + table * self.table
    }

    /// The first sector of the root directory: behind the tables in either kind.
    const fn root_start(&self) -> u64 {
        self.table_start(TABLES)
    }

    /// Sectors of the root directory.
    const fn root_sectors(&self) -> u64 {
        match self.kind {
            Kind::Fat16 => self.root,
            Kind::Fat32 => self.cluster,
        }
    }
}

/// Makes the file system.
pub(super) fn make(medium: &mut Medium, new: &Fat<'_>) -> Result<(), StorageError> {
    let sector_bytes = u64::from(medium.sector_bytes);
    let Some(layout) = Layout::new(medium.bytes, sector_bytes) else {
        return Err(medium.too_small());
    };
    let label = label(new.label);
    medium.forget()?;
    // Everything before the first file, then what is not zero there.
    let used = layout.root_start() + layout.root_sectors();
    medium.zero(0, layout.offset(used))?;
    for table in 0..TABLES {
        medium.write(
            layout.offset(layout.table_start(table)),
            &first_entries(&layout),
        )?;
    }
    medium.write(layout.offset(layout.root_start()), &label_entry(&label))?;
    let boot = boot_sector(&layout, new.number, &label);
    let mut first = boot.clone();
    if layout.kind == Kind::Fat32 {
        let information = information(&layout);
        for (sector, content) in [
            (INFORMATION_SECTOR, &information),
            (COPY_SECTOR, &boot),
            (COPY_SECTOR + INFORMATION_SECTOR, &information),
        ] {
            let offset = layout.offset(sector);
            if offset < BLOCK_BYTES as u64 {
                first.put(offset as usize, content.part(0, SECTOR_CONTENT_BYTES));
            } else {
                medium.write(offset, content)?;
            }
        }
    }
    medium.finish(&first)
}

/// The boot sector, without code: nothing but UEFI boots from here.
fn boot_sector(layout: &Layout, number: u32, label: &[u8; LABEL_BYTES]) -> Block {
    let mut block = Block::new();
    // Counts in a layout of at most 4 GiB fit their fields.
    let all = layout.all as u32;
    let small = u16::try_from(layout.all).ok();
    let (is_fat32, own, type_name) = match layout.kind {
        Kind::Fat16 => (false, 0x24, b"FAT16   "),
        Kind::Fat32 => (true, 0x40, b"FAT32   "),
    };
    block.put(0x00, &[0xeb, own as u8 + 0x18, 0x90]);
    block.put(0x03, b"twinseal");
    block.put_u16(0x0b, layout.sector_bytes as u16);
    block.put(0x0d, &[layout.cluster as u8]);
    block.put_u16(0x0e, layout.before_tables as u16);
    block.put(0x10, &[TABLES as u8]);
    block.put_u16(0x11, if is_fat32 { 0 } else { ROOT_ENTRIES });
    match small.filter(|_| !is_fat32) {
        Some(all) => block.put_u16(0x13, all),
        None => block.put_u32(0x20, all),
    }
    block.put(0x15, &[MEDIA]);
    block.put_u16(0x18, SECTORS_PER_TRACK);
    block.put_u16(0x1a, HEADS);
    if is_fat32 {
        block.put_u32(0x24, layout.table as u32);
        block.put_u32(0x2c, ROOT_CLUSTER);
        block.put_u16(0x30, INFORMATION_SECTOR as u16);
        block.put_u16(0x32, COPY_SECTOR as u16);
    } else {
        block.put_u16(0x16, layout.table as u16);
    }
    block.put(own, &[0x80, 0, 0x29]); // first fixed disk; the three fields below are there
    block.put_u32(own + 3, number);
    block.put(own + 7, label);
    block.put(own + 18, type_name);
    block.put(0x1fe, &[0x55, 0xaa]);
    block
}

/// How much is free, and where to look for it first. One cluster is in use: the root directory.
fn information(layout: &Layout) -> Block {
    let mut block = Block::new();
    block.put(0x000, b"RRaA");
    block.put(0x1e4, b"rrAa");
    block.put_u32(0x1e8, layout.clusters as u32 - 1);
    block.put_u32(0x1ec, ROOT_CLUSTER + 1);
    block.put_u32(0x1fc, 0xaa55_0000);
    block
}

/// The beginning of a table: two entries that are no clusters, and the root directory of FAT32.
fn first_entries(layout: &Layout) -> Block {
    let mut block = Block::new();
    match layout.kind {
        Kind::Fat16 => block.put(0, &[MEDIA, 0xff, 0xff, 0xff]),
        Kind::Fat32 => {
            block.put_u32(0, CHAIN_END - 0xff + u32::from(MEDIA));
            block.put_u32(4, CHAIN_END);
            block.put_u32(8, CHAIN_END);
        }
    }
    block
}

/// The entry of the root directory that has the volume's label.
fn label_entry(label: &[u8; LABEL_BYTES]) -> Block {
    let mut block = Block::new();
    block.put(0, label);
    block.put(0x0b, &[LABEL]);
    block.put_u16(0x18, FIRST_DAY);
    block
}

/// A label as FAT stores it: in capitals, filled with spaces.
fn label(text: &str) -> [u8; LABEL_BYTES] {
    let mut label = [b' '; LABEL_BYTES];
    label
        .iter_mut()
        .zip(text.bytes())
        .for_each(|(to, from)| *to = from.to_ascii_uppercase());
    label
}
