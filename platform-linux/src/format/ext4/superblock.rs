//! The superblock, and that of the journal.
//!
//! Layouts: kernel documentation, `filesystems/ext4/globals.rst`, "Super Block" and "Journal (jbd2)".

use super::super::Ext4;
use super::super::block::{BLOCK_BYTES, Block};
use super::geometry::{DESCRIPTOR_BYTES, GROUP_BLOCKS, Geometry, INODE_BYTES, InodeNumber};
use super::{CRC, TIME, inode};

/// Bytes before the superblock of the first group: room for a boot sector.
const BOOT_BYTES: usize = 1024;

/// Bytes of a superblock before its own checksum.
const CHECKED_BYTES: usize = 1020;

/// `has_journal`, `ext_attr`, `dir_index`.
const COMPATIBLE: u32 = 0x4 | 0x8 | 0x20;

/// `filetype`, `extent`, `64bit`.
const INCOMPATIBLE: u32 = 0x2 | 0x40 | 0x80;

/// `sparse_super`, `large_file`, `huge_file`, `dir_nlink`, `extra_isize`, `metadata_csum`, `verity`.
const READ_ONLY_COMPATIBLE: u32 = 0x1 | 0x2 | 0x8 | 0x20 | 0x40 | 0x400 | 0x8000;

/// `xattr_user` and `acl`, as in `mke2fs`.
const MOUNT_OPTIONS: u32 = 0xc;

/// Room for extra fields that an inode has and should have.
const EXTRA_BYTES: u16 = 32;

/// Magic number and type (version 2) of a journal's superblock, which is in big-endian order.
const JOURNAL_MAGIC: u32 = 0xc03b_3998;
const JOURNAL_SUPERBLOCK: u32 = 4;

/// The block with the superblock of a group.
pub(super) fn block(geometry: &Geometry, new: &Ext4<'_>, group: u32) -> Block {
    let content = superblock(geometry, new, group);
    if group != 0 {
        return content;
    }
    let mut first = Block::new();
    first.put(BOOT_BYTES, content.part(0, BLOCK_BYTES - BOOT_BYTES));
    first
}

fn superblock(geometry: &Geometry, new: &Ext4<'_>, group: u32) -> Block {
    let mut block = Block::new();
    sizes(geometry, &mut block);
    block.put_u32(0x30, TIME); // last write
    block.put_u16(0x36, u16::MAX); // never checked for the number of its mounts
    block.put_u16(0x38, 0xef53);
    block.put_u16(0x3a, 1); // clean
    block.put_u16(0x3c, 1); // goes on after errors
    block.put_u32(0x40, TIME); // last check
    block.put_u32(0x4c, 1); // revision with the fields below
    block.put_u32(0x54, InodeNumber::LOST_AND_FOUND.0); // first inode that is not reserved
    block.put_u16(0x58, INODE_BYTES as u16);
    // Group numbers have 16 bits here, and nobody reads them but people.
    block.put_u16(0x5a, group as u16);
    block.put_u32(0x5c, COMPATIBLE);
    block.put_u32(0x60, INCOMPATIBLE);
    block.put_u32(0x64, READ_ONLY_COMPATIBLE);
    block.put(0x68, &new.uuid);
    block.put_text(0x78, new.label, 16);
    block.put_u32(0xe0, InodeNumber::JOURNAL.0);
    block.put(0xec, &new.uuid); // seed of the hashes of directories
    block.put(0xfc, &[1, 1]); // half-MD4; the journal's inode has a copy
    block.put_u16(0xfe, DESCRIPTOR_BYTES as u16);
    block.put_u32(0x100, MOUNT_OPTIONS);
    block.put_u32(0x108, TIME); // made
    let journal = geometry.journal();
    block.put(0x10c, &inode::extent(journal));
    block.put_u32(0x10c + 16 * 4, inode::run_bytes(journal));
    block.put_u16(0x15c, EXTRA_BYTES);
    block.put_u16(0x15e, EXTRA_BYTES);
    block.put_u32(0x160, 1); // hashes of directories take letters as signed
    block.put(0x175, &[1]); // CRC-32C
    let mut checksum = CRC.digest();
    checksum.update(block.part(0, CHECKED_BYTES));
    block.put_u32(CHECKED_BYTES, checksum.finalize());
    block
}

fn sizes(geometry: &Geometry, block: &mut Block) {
    let block_bits = BLOCK_BYTES.ilog2() - 10;
    let free = geometry.all_free_blocks();
    block.put_u32(0x00, geometry.inodes());
    block.put_u32(0x04, geometry.blocks);
    // Below 2^32, as all blocks are.
    block.put_u32(0x0c, free as u32);
    block.put_u32(0x10, geometry.inodes() - InodeNumber::LOST_AND_FOUND.0);
    block.put_u32(0x18, block_bits);
    block.put_u32(0x1c, block_bits);
    block.put_u32(0x20, GROUP_BLOCKS);
    block.put_u32(0x24, GROUP_BLOCKS);
    block.put_u32(0x28, geometry.inodes_per_group);
}

/// The first block of an empty journal.
pub(super) fn journal(blocks: u32, uuid: &[u8; 16]) -> Block {
    let mut block = Block::new();
    let mut put = |offset, value: u32| block.put(offset, &value.to_be_bytes());
    put(0x00, JOURNAL_MAGIC);
    put(0x04, JOURNAL_SUPERBLOCK);
    put(0x0c, BLOCK_BYTES as u32);
    put(0x10, blocks);
    put(0x14, 1); // first block of the log
    put(0x18, 1); // first sequence number; the log's start stays 0: nothing to replay
    put(0x40, 1); // users
    block.put(0x30, uuid);
    block
}
