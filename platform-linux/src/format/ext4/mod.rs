//! An empty ext4 file system: a root directory, `lost+found`, a journal.
//!
//! Format: kernel documentation, `filesystems/ext4/`. Blocks of 4096 bytes, all checksums, 64-byte descriptors. Each group holds its
//! own bitmaps and inode table. Inode tables are not written except for the inodes in use: descriptors say so, under their
//! checksums, and the kernel clears them behind the first mount that may write, as with `mke2fs` on Linux.
//!
//! # Invariants
//! - Features are those of `twinseal-bundle disk` (`bundles/src/disk/ext4.rs`) but `flex_bg`, which only moves bitmaps and tables.
//! - The journal's blocks are zeros: what an old one held there cannot be replayed.

mod geometry;
mod group;
mod inode;
mod superblock;

use super::Ext4;
use super::block::{BLOCK_BYTES, Block};
use super::medium::Medium;
use crc::{Algorithm, Crc, Digest, NoTable};
use geometry::{Geometry, InodeNumber};
use group::Bitmaps;
use twinseal_core::error::StorageError;

/// CRC-32C as ext4 uses it: begun with ones, not inverted at the end.
const CHECKSUM: Algorithm<u32> = Algorithm {
    xorout: 0,
    ..crc::CRC_32_ISCSI
};

static CRC: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CHECKSUM);

/// A checksum on its way; those of metadata begin with the UUID.
type Checksum = Digest<'static, u32, NoTable>;

/// Times in the file system: seconds since 1970. Not 0, which tools take for "unknown".
const TIME: u32 = 1;

/// What stands before everything with a checksum.
fn seed(uuid: &[u8; 16]) -> Checksum {
    let mut checksum = CRC.digest();
    checksum.update(uuid);
    checksum
}

/// Makes the file system.
pub(super) fn make(medium: &mut Medium, new: &Ext4<'_>) -> Result<(), StorageError> {
    let Some(geometry) = Geometry::new(medium.bytes, new.inodes) else {
        return Err(medium.too_small());
    };
    let maker = Maker {
        geometry,
        new: *new,
        seed: seed(&new.uuid),
        bitmaps: Bitmaps::new(&geometry, &seed(&new.uuid)),
    };
    medium.forget()?;
    maker.content(medium)?;
    maker.groups(medium)?;
    medium.finish(&maker.superblock(0))
}

/// What every part of the work needs.
struct Maker<'l> {
    geometry: Geometry,
    new: Ext4<'l>,
    seed: Checksum,
    /// Checksums of the bitmaps that are written.
    bitmaps: Bitmaps,
}

impl Maker<'_> {
    /// Inodes in use and what they have: all in the first group.
    fn content(&self, medium: &mut Medium) -> Result<(), StorageError> {
        let geometry = &self.geometry;
        medium.write(
            offset(geometry.inode_table(0)),
            &inode::table(geometry, &self.seed),
        )?;
        for (number, place) in [
            (InodeNumber::ROOT, geometry.root_directory()),
            (InodeNumber::LOST_AND_FOUND, geometry.lost_and_found()),
        ] {
            for index in 0..place.blocks {
                let block = inode::directory_block(number, index, &self.seed);
                medium.write(offset(place.first + u64::from(index)), &block)?;
            }
        }
        let journal = geometry.journal();
        let bytes = u64::from(journal.blocks) * BLOCK_BYTES as u64;
        medium.zero(offset(journal.first), bytes)?;
        let block = superblock::journal(journal.blocks, &self.new.uuid);
        medium.write(offset(journal.first), &block)
    }

    /// The bitmaps that are written, and the superblock with its descriptors in every group that has a copy; the first superblock is
    /// left out.
    fn groups(&self, medium: &mut Medium) -> Result<(), StorageError> {
        let geometry = &self.geometry;
        for group in 0..geometry.groups {
            if group == 0 || group == geometry.last_group() {
                let bitmap = group::block_bitmap(geometry, group);
                medium.write(offset(geometry.block_bitmap(group)), &bitmap)?;
            }
            if group == 0 {
                let bitmap = group::inode_bitmap(geometry);
                medium.write(offset(geometry.inode_bitmap(group)), &bitmap)?;
            }
            if geometry.has_superblock(group) {
                self.descriptors(group, medium)?;
            }
            if geometry.has_superblock(group) && group != 0 {
                let at = offset(geometry.first_block(group));
                medium.write(at, &self.superblock(group))?;
            }
        }
        Ok(())
    }

    fn descriptors(&self, group: u32, medium: &mut Medium) -> Result<(), StorageError> {
        let first = self.geometry.first_block(group) + 1;
        for index in 0..self.geometry.descriptor_blocks() {
            let block = self
                .bitmaps
                .descriptor_block(&self.geometry, &self.seed, index);
            medium.write(offset(first + u64::from(index)), &block)?;
        }
        Ok(())
    }

    /// The block with the superblock of a group; only the first has it behind a boot sector's room.
    fn superblock(&self, group: u32) -> Block {
        superblock::block(&self.geometry, &self.new, group)
    }
}

/// Byte offset of a block.
const fn offset(block: u64) -> u64 {
    block * BLOCK_BYTES as u64
}
