//! Where everything lies.
//!
//! A group: copy of superblock and descriptors (in some), block bitmap, inode bitmap, inode table, data. In the first group the data
//! begins with the root directory, `lost+found` and the journal.

use super::super::block::BLOCK_BYTES;

/// Blocks of a group: as many as a bitmap of one block has bits.
pub(super) const GROUP_BLOCKS: u32 = BLOCK_BYTES as u32 * 8;

/// Size of a descriptor, with the feature `64bit`.
pub(super) const DESCRIPTOR_BYTES: u32 = 64;

/// Size of an inode.
pub(super) const INODE_BYTES: u32 = 256;

/// Inodes in a block.
const INODES_PER_BLOCK: u32 = BLOCK_BYTES as u32 / INODE_BYTES;

/// Most inodes of a group: as many as a bitmap of one block has bits.
const GROUP_INODES_MAX: u32 = GROUP_BLOCKS;

/// Blocks for each inode when nobody says how many files there will be, as in `bundles/src/disk/ext4.rs`: one for each 16 KiB.
const BLOCKS_PER_INODE: u32 = 4;

/// Blocks that a last group needs beyond what it has for itself, or it is left out; as in `mke2fs`.
const LAST_GROUP_MIN_BLOCKS: u32 = 50;

/// Most blocks: those that 32 bits can count, as in `bundles/src/disk/sizes.rs`. What is above is not used.
const BLOCKS_MAX: u64 = u32::MAX as u64;

/// Blocks of `lost+found`: as in `mke2fs`, so that a repair has room there on a file system that is full.
const LOST_AND_FOUND_BLOCKS: u32 = 4;

/// Blocks of the journal of a small file system, of another, and what is small: as in `bundles/src/disk/sizes.rs`.
const JOURNAL_SMALL_BLOCKS: u32 = 1024;
const JOURNAL_BLOCKS: u32 = 4096;
const SMALL_BELOW_BLOCKS: u32 = 65_536;

/// Block bitmap and inode bitmap.
const BITMAP_BLOCKS: u32 = 2;

/// Number of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InodeNumber(pub u32);

impl InodeNumber {
    pub(super) const ROOT: Self = Self(2);
    pub(super) const JOURNAL: Self = Self(8);
    /// The first that is not reserved, and the last that is in use.
    pub(super) const LOST_AND_FOUND: Self = Self(11);
}

/// Blocks one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub first: u64,
    pub blocks: u32,
}

/// Sizes from which all places follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub blocks: u32,
    pub groups: u32,
    pub inodes_per_group: u32,
}

impl Geometry {
    /// That of a slot of so many bytes; `None` when it is too small, or cannot have so many inodes.
    pub(super) fn new(bytes: u64, inodes: Option<u32>) -> Option<Self> {
        let blocks = (bytes / BLOCK_BYTES as u64).min(BLOCKS_MAX);
        let blocks = u32::try_from(blocks).ok()?;
        let this = Self::of_blocks(blocks, inodes)?;
        let last = this.last_group();
        if last == 0 || this.free_blocks(last) >= Some(LAST_GROUP_MIN_BLOCKS) {
            return this.fits();
        }
        Self::of_blocks(last * GROUP_BLOCKS, inodes)?.fits()
    }

    fn of_blocks(blocks: u32, inodes: Option<u32>) -> Option<Self> {
        let groups = blocks.div_ceil(GROUP_BLOCKS);
        if groups == 0 {
            return None;
        }
        let wanted = inodes.unwrap_or(blocks / BLOCKS_PER_INODE).div_ceil(groups);
        let at_least = wanted.max(InodeNumber::LOST_AND_FOUND.0);
        let inodes_per_group = at_least.checked_next_multiple_of(INODES_PER_BLOCK)?;
        (inodes_per_group <= GROUP_INODES_MAX).then_some(Self {
            blocks,
            groups,
            inodes_per_group,
        })
    }

    /// Itself when everything has room.
    fn fits(self) -> Option<Self> {
        self.inodes_per_group.checked_mul(self.groups)?;
        self.free_blocks(0)?;
        self.free_blocks(self.last_group())?;
        Some(self)
    }

    pub(super) const fn last_group(&self) -> u32 {
        self.groups.saturating_sub(1)
    }

    pub(super) const fn inodes(&self) -> u32 {
        self.inodes_per_group * self.groups
    }

    /// The first block of a group.
    pub(super) fn first_block(&self, group: u32) -> u64 {
        u64::from(group) * u64::from(GROUP_BLOCKS)
    }

    /// Blocks of a group.
    pub(super) const fn group_blocks(&self, group: u32) -> u32 {
        let before = group * GROUP_BLOCKS;
        if self.blocks - before < GROUP_BLOCKS {
            self.blocks - before
        } else {
            GROUP_BLOCKS
        }
    }

    /// Whether a group has a copy of the superblock (`sparse_super`): 0, 1 and powers of 3, 5 and 7.
    pub(super) fn has_superblock(&self, group: u32) -> bool {
        let is_power_of = |base: u32| {
            let mut rest = group;
            while rest.is_multiple_of(base) {
                rest /= base;
            }
            rest == 1
        };
        group <= 1 || [3, 5, 7].into_iter().any(is_power_of)
    }

    /// Blocks of the table of descriptors.
    pub(super) const fn descriptor_blocks(&self) -> u32 {
        self.groups.div_ceil(BLOCK_BYTES as u32 / DESCRIPTOR_BYTES)
    }

    /// Blocks of a group's inode table.
    pub(super) const fn inode_table_blocks(&self) -> u32 {
        self.inodes_per_group / INODES_PER_BLOCK
    }

    pub(super) fn block_bitmap(&self, group: u32) -> u64 {
        let copies = if self.has_superblock(group) {
            1 + self.descriptor_blocks()
        } else {
            0
        };
        self.first_block(group) + u64::from(copies)
    }

    pub(super) fn inode_bitmap(&self, group: u32) -> u64 {
        self.block_bitmap(group) + 1
    }

    pub(super) fn inode_table(&self, group: u32) -> u64 {
        self.block_bitmap(group) + u64::from(BITMAP_BLOCKS)
    }

    pub(super) fn root_directory(&self) -> Run {
        let first = self.inode_table(0) + u64::from(self.inode_table_blocks());
        Run { first, blocks: 1 }
    }

    pub(super) fn lost_and_found(&self) -> Run {
        Self::behind(self.root_directory(), LOST_AND_FOUND_BLOCKS)
    }

    pub(super) fn journal(&self) -> Run {
        let small = self.blocks < SMALL_BELOW_BLOCKS;
        let blocks = if small {
            JOURNAL_SMALL_BLOCKS
        } else {
            JOURNAL_BLOCKS
        };
        Self::behind(self.lost_and_found(), blocks)
    }

    fn behind(run: Run, blocks: u32) -> Run {
        let first = run.first + u64::from(run.blocks);
        Run { first, blocks }
    }

    /// Blocks from the beginning of a group that are in use.
    pub(super) fn used_blocks(&self, group: u32) -> u32 {
        let end = if group == 0 {
            Self::behind(self.journal(), 0).first
        } else {
            self.inode_table(group) + u64::from(self.inode_table_blocks())
        };
        // Below two groups: a copy has at most 2,049 blocks, a table 2,048, a journal 4,096.
        (end - self.first_block(group)) as u32
    }

    /// Blocks of a group that nobody uses; `None` when it cannot hold what it must.
    pub(super) fn free_blocks(&self, group: u32) -> Option<u32> {
        self.group_blocks(group)
            .checked_sub(self.used_blocks(group))
    }

    /// Blocks of the whole that nobody uses.
    pub(super) fn all_free_blocks(&self) -> u64 {
        let free = |group| u64::from(self.free_blocks(group).unwrap_or(0));
        (0..self.groups).map(free).sum()
    }
}
