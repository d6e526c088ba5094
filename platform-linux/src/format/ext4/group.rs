//! Bitmaps and descriptors of groups.
//!
//! Layouts: kernel documentation, `filesystems/ext4/globals.rst`, "Block Group Descriptors".

use super::super::block::{BLOCK_BYTES, Block};
use super::Checksum;
use super::geometry::{DESCRIPTOR_BYTES, GROUP_BLOCKS, Geometry, InodeNumber};

/// The inode table and its bitmap were not written: no inode is in use.
const INODES_UNWRITTEN: u16 = 0x1;

/// The block bitmap was not written: what the group has for itself is in use, and nothing else.
const BLOCKS_UNWRITTEN: u16 = 0x2;

/// Which blocks of a group are in use; those behind its end are, so that nobody takes them.
pub(super) fn block_bitmap(geometry: &Geometry, group: u32) -> Block {
    let used = geometry.used_blocks(group);
    bitmap(used, geometry.group_blocks(group))
}

/// Which inodes of the first group are in use.
pub(super) fn inode_bitmap(geometry: &Geometry) -> Block {
    bitmap(InodeNumber::LOST_AND_FOUND.0, geometry.inodes_per_group)
}

/// Ones below `used` and from `end`.
fn bitmap(used: u32, end: u32) -> Block {
    let mut block = Block::new();
    for (byte, first) in block.0.iter_mut().zip((0..GROUP_BLOCKS).step_by(8)) {
        let bits = (0..8).filter(|bit| !(used..end).contains(&(first + bit)));
        *byte = bits.fold(0, |byte, bit| byte | (1 << bit));
    }
    block
}

/// Checksums of the bitmaps that are written.
pub(super) struct Bitmaps {
    first_blocks: u32,
    last_blocks: u32,
    first_inodes: u32,
}

impl Bitmaps {
    pub(super) fn new(geometry: &Geometry, seed: &Checksum) -> Self {
        let of = |bitmap: &Block, bits: u32| {
            let mut checksum = seed.clone();
            checksum.update(bitmap.part(0, bits as usize / 8));
            checksum.finalize()
        };
        let blocks = |group| of(&block_bitmap(geometry, group), GROUP_BLOCKS);
        Self {
            first_blocks: blocks(0),
            last_blocks: blocks(geometry.last_group()),
            first_inodes: of(&inode_bitmap(geometry), geometry.inodes_per_group),
        }
    }

    /// A block of the table of descriptors.
    pub(super) fn descriptor_block(
        &self,
        geometry: &Geometry,
        seed: &Checksum,
        index: u32,
    ) -> Block {
        let per_block = BLOCK_BYTES as u32 / DESCRIPTOR_BYTES;
        let groups = index * per_block..((index + 1) * per_block).min(geometry.groups);
        let mut block = Block::new();
        for (group, at) in groups.zip((0..BLOCK_BYTES).step_by(DESCRIPTOR_BYTES as usize)) {
            self.put_descriptor(geometry, seed, group, &mut block, at);
        }
        block
    }

    fn put_descriptor(
        &self,
        geometry: &Geometry,
        seed: &Checksum,
        group: u32,
        block: &mut Block,
        at: usize,
    ) {
        let (first, last) = (group == 0, group == geometry.last_group());
        let used_inodes = if first {
            InodeNumber::LOST_AND_FOUND.0
        } else {
            0
        };
        let free_inodes = geometry.inodes_per_group - used_inodes;
        let mut flags = 0;
        let mut put_checksum = |offset, value: u32| {
            block.put_u16(at + offset, value as u16);
            block.put_u16(at + offset + 0x20, (value >> 16) as u16);
        };
        if first {
            put_checksum(0x1a, self.first_inodes);
        } else {
            flags |= INODES_UNWRITTEN;
        }
        match (first, last) {
            (true, _) => put_checksum(0x18, self.first_blocks),
            (_, true) => put_checksum(0x18, self.last_blocks),
            _ => flags |= BLOCKS_UNWRITTEN,
        }
        // Below 2^32, as all blocks are; counts of a group are at most 32,768.
        block.put_u32(at, geometry.block_bitmap(group) as u32);
        block.put_u32(at + 0x04, geometry.inode_bitmap(group) as u32);
        block.put_u32(at + 0x08, geometry.inode_table(group) as u32);
        block.put_u16(at + 0x0c, geometry.free_blocks(group).unwrap_or(0) as u16);
        block.put_u16(at + 0x0e, free_inodes as u16);
        block.put_u16(at + 0x10, if first { 2 } else { 0 }); // directories
        block.put_u16(at + 0x12, flags);
        block.put_u16(at + 0x1c, free_inodes as u16); // behind the last inode in use
        let mut checksum = seed.clone();
        checksum.update(&group.to_le_bytes());
        checksum.update(block.part(at, DESCRIPTOR_BYTES as usize));
        block.put_u16(at + 0x1e, checksum.finalize() as u16);
    }
}
