//! The inodes in use, and blocks of directories.
//!
//! Layouts: kernel documentation, `filesystems/ext4/dynamic.rst`, "Index Nodes" and "Directory Entries".

use super::super::block::{BLOCK_BYTES, Block};
use super::geometry::{Geometry, INODE_BYTES, InodeNumber, Run};
use super::{Checksum, TIME};

/// Bytes of the part of an inode that says where its content lies.
const EXTENT_BYTES: usize = 60;

/// `EXT4_EXTENTS_FL`.
const EXTENTS: u32 = 0x8_0000;

/// Room for extra fields that an inode has.
const EXTRA_BYTES: u16 = 32;

/// Bytes at the end of a directory's block: what looks like an entry that is not in use, and holds the checksum.
const TAIL_BYTES: usize = 12;
const TAIL_TYPE: u8 = 0xde;

/// Type of a directory in an entry.
const DIRECTORY: u8 = 2;

/// An inode in use.
struct Inode {
    number: InodeNumber,
    mode: u16,
    links: u16,
    content: Run,
}

/// The first block of the first inode table: it holds every inode in use.
pub(super) fn table(geometry: &Geometry, seed: &Checksum) -> Block {
    let mut block = Block::new();
    for inode in [
        Inode {
            number: InodeNumber::ROOT,
            mode: 0o40755,
            links: 3,
            content: geometry.root_directory(),
        },
        Inode {
            number: InodeNumber::JOURNAL,
            mode: 0o100_600,
            links: 1,
            content: geometry.journal(),
        },
        Inode {
            number: InodeNumber::LOST_AND_FOUND,
            mode: 0o40700,
            links: 2,
            content: geometry.lost_and_found(),
        },
    ] {
        put_inode(&inode, &mut block, seed);
    }
    block
}

fn put_inode(inode: &Inode, block: &mut Block, seed: &Checksum) {
    let at = (inode.number.0 - 1) as usize * INODE_BYTES as usize;
    block.put_u16(at, inode.mode);
    block.put_u32(at + 0x04, run_bytes(inode.content));
    for time in [0x08, 0x0c, 0x10, 0x90] {
        block.put_u32(at + time, TIME);
    }
    block.put_u16(at + 0x1a, inode.links);
    block.put_u32(at + 0x1c, run_bytes(inode.content) / 512);
    block.put_u32(at + 0x20, EXTENTS);
    block.put(at + 0x28, &extent(inode.content));
    block.put_u16(at + 0x80, EXTRA_BYTES);
    let mut checksum = of_inode(inode.number, seed);
    checksum.update(block.part(at, INODE_BYTES as usize));
    let checksum = checksum.finalize();
    block.put_u16(at + 0x7c, checksum as u16);
    block.put_u16(at + 0x82, (checksum >> 16) as u16);
}

/// A checksum of something that belongs to an inode begins with its number and its generation, which is 0.
fn of_inode(number: InodeNumber, seed: &Checksum) -> Checksum {
    let mut checksum = seed.clone();
    checksum.update(&number.0.to_le_bytes());
    checksum.update(&0_u32.to_le_bytes());
    checksum
}

/// Size of a run in bytes: the largest is a journal's.
pub(super) const fn run_bytes(run: Run) -> u32 {
    run.blocks * BLOCK_BYTES as u32
}

/// The root of a tree of extents with one leaf.
pub(super) fn extent(run: Run) -> [u8; EXTENT_BYTES] {
    let [a, b, c, d, ..] = run.first.to_le_bytes();
    // A run has at most as many blocks as a journal.
    let [low, high] = (run.blocks as u16).to_le_bytes();
    let fields = [
        [0x0a, 0xf3, 1, 0], // magic number, one leaf
        [4, 0, 0, 0],       // of four that have room; no level below
        [0; 4],
        [0; 4], // first block of the file
        [low, high, 0, 0],
        [a, b, c, d],
    ];
    let mut extent = [0; EXTENT_BYTES];
    extent
        .iter_mut()
        .zip(fields.as_flattened())
        .for_each(|(to, from)| *to = *from);
    extent
}

/// A block of the root directory or of `lost+found`.
pub(super) fn directory_block(number: InodeNumber, index: u32, seed: &Checksum) -> Block {
    let mut block = Block::new();
    let end = BLOCK_BYTES - TAIL_BYTES;
    match (index, number) {
        (0, InodeNumber::ROOT) => {
            put_entry(&mut block, 0, 12, number, ".");
            put_entry(&mut block, 12, 12, InodeNumber::ROOT, "..");
            let lost = InodeNumber::LOST_AND_FOUND;
            put_entry(&mut block, 24, end - 24, lost, "lost+found");
        }
        (0, _) => {
            put_entry(&mut block, 0, 12, number, ".");
            put_entry(&mut block, 12, end - 12, InodeNumber::ROOT, "..");
        }
        // One entry that is not in use.
        _ => block.put_u16(4, end as u16),
    }
    let mut checksum = of_inode(number, seed);
    checksum.update(block.part(0, end));
    block.put_u16(end + 4, TAIL_BYTES as u16);
    block.put(end + 7, &[TAIL_TYPE]);
    block.put_u32(end + 8, checksum.finalize());
    block
}

fn put_entry(block: &mut Block, at: usize, bytes: usize, number: InodeNumber, name: &str) {
    block.put_u32(at, number.0);
    block.put_u16(at + 4, bytes as u16);
    block.put(at + 6, &[name.len() as u8, DIRECTORY]);
    block.put(at + 8, name.as_bytes());
}
