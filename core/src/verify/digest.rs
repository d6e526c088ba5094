//! fs-verity digests in a stream: SHA-256, 4 KiB blocks, no salt, in memory of one block hash per tree level.
//!
//! The format is the kernel's (`Documentation/filesystems/fsverity.rst`): a Merkle tree over 4,096-byte blocks, the last one of
//! each level filled with zeros; the digest is the SHA-256 of a 256-byte descriptor that holds the root hash and the file size.
//!
//! # Invariants
//! - The result does not depend on how the bytes are cut into calls of [`VerityDigest::update`].

use super::hashed::Trees;
use crate::wire::digest::{BlobDigest, SHA256_BYTES, Sha256Digest};
use sha2::{Digest, Sha256};

/// Size of a tree block and of a data block.
const BLOCK_BYTES: usize = 4096;

/// Hashes in a tree block.
const HASHES_PER_BLOCK: u64 = (BLOCK_BYTES / SHA256_BYTES) as u64;

/// What one block of hashes stands for: the piece whose hash can be taken apart from all others.
pub const TREE_BYTES: usize = BLOCK_BYTES * HASHES_PER_BLOCK as usize;

/// Levels above the data: 128^8 blocks of 4 KiB are 2^68 bytes, more than a file can have.
const LEVELS: usize = 8;

/// Size of the descriptor whose hash is the digest.
const DESCRIPTOR_BYTES: usize = 256;

/// What blocks are filled up with, piece by piece: a whole block of zeros would be a tenth of the verify path of a small target.
static ZEROS: [u8; 256] = [0; 256];

/// One level of the tree: the block that is being filled, and the hash that it took last.
#[derive(Clone)]
struct Level {
    block: Sha256,
    filled: u64,
    last: Sha256Digest,
}

/// A running fs-verity digest.
#[derive(Clone)]
pub struct VerityDigest {
    size: u64,
    /// The data block that is being filled.
    data: Sha256,
    levels: [Level; LEVELS],
}

impl Default for VerityDigest {
    fn default() -> Self {
        Self::new()
    }
}

impl VerityDigest {
    /// A digest of nothing yet.
    pub fn new() -> Self {
        let level = |_| Level {
            block: Sha256::new(),
            filled: 0,
            last: Sha256Digest::default(),
        };
        Self {
            size: 0,
            data: Sha256::new(),
            levels: core::array::from_fn(level),
        }
    }

    /// Bytes taken so far.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Takes the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = BLOCK_BYTES - (self.size % BLOCK_BYTES as u64) as usize;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.data.update(now);
            self.size += now.len() as u64;
            bytes = later;
            if self.size.is_multiple_of(BLOCK_BYTES as u64) {
                self.close_data_block();
            }
        }
    }

    /// Takes the next bytes by the hashes of their trees. Gives whether it did: it cannot where a tree has begun.
    pub fn update_trees(&mut self, trees: &Trees) -> bool {
        let between = self.size.is_multiple_of(TREE_BYTES as u64);
        if between {
            trees.hashes().iter().for_each(|hash| self.push(1, *hash));
            self.size += trees.bytes();
        }
        between
    }

    /// The digest of all bytes taken.
    pub fn finish(mut self) -> BlobDigest {
        let rest = (self.size % BLOCK_BYTES as u64) as usize;
        if rest > 0 {
            fill_up(&mut self.data, BLOCK_BYTES - rest);
            self.close_data_block();
        }
        let mut descriptor = [0; DESCRIPTOR_BYTES];
        // Version 1, SHA-256 (1), blocks of 2^12 bytes, no salt; no signature; then the size and the root hash.
        descriptor[..4].copy_from_slice(&[1, 1, 12, 0]);
        descriptor[8..16].copy_from_slice(&self.size.to_le_bytes());
        descriptor[16..16 + SHA256_BYTES].copy_from_slice(&self.root());
        BlobDigest::sha256(Sha256::digest(descriptor).into())
    }

    fn close_data_block(&mut self) {
        let hash = self.data.finalize_reset().into();
        self.push(0, hash);
    }

    /// Puts a hash into the block of `level`, and the hashes of blocks that it fills into the levels above.
    fn push(&mut self, level: usize, mut hash: Sha256Digest) {
        for level in self.levels.iter_mut().skip(level) {
            level.block.update(hash);
            level.last = hash;
            level.filled = (level.filled + 1) % HASHES_PER_BLOCK;
            if level.filled != 0 {
                return;
            }
            hash = level.block.finalize_reset().into();
        }
    }

    /// Closes the levels from below until one holds a single hash: that is the root. That of an empty file is zeros.
    fn root(&mut self) -> Sha256Digest {
        let mut hashes = self.size.div_ceil(BLOCK_BYTES as u64);
        for number in 0..LEVELS {
            let Some(level) = self.levels.get_mut(number) else {
                break;
            };
            if hashes <= 1 {
                return level.last;
            }
            if level.filled > 0 {
                let zeros = (HASHES_PER_BLOCK - level.filled) as usize * SHA256_BYTES;
                fill_up(&mut level.block, zeros);
                level.filled = 0;
                let hash = level.block.finalize_reset().into();
                self.push(number + 1, hash);
            }
            hashes = hashes.div_ceil(HASHES_PER_BLOCK);
        }
        Sha256Digest::default()
    }
}

/// Hash of the block of hashes that stands for [`TREE_BYTES`] bytes; fewer are filled up with zeros.
pub(super) fn tree_hash(bytes: &[u8]) -> Sha256Digest {
    let mut hashes = Sha256::new();
    let mut room = HASHES_PER_BLOCK as usize;
    for block in bytes.chunks(BLOCK_BYTES).take(room) {
        let mut hash = Sha256::new_with_prefix(block);
        fill_up(&mut hash, BLOCK_BYTES - block.len());
        hashes.update(hash.finalize());
        room -= 1;
    }
    fill_up(&mut hashes, room * SHA256_BYTES);
    hashes.finalize().into()
}

/// Takes the zeros that a block of the tree ends with.
fn fill_up(block: &mut Sha256, mut missing: usize) {
    while missing > 0 {
        let piece = ZEROS.get(..missing).unwrap_or(&ZEROS);
        block.update(piece);
        missing -= piece.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn ours(size: usize, step: usize) -> BlobDigest {
        let mut digest = VerityDigest::new();
        let mut position = 0;
        while position < size {
            let length = step.min(size - position);
            let piece: Vec<u8> = (position..position + length)
                .map(|byte| (byte * 7 % 251) as u8)
                .collect();
            digest.update(&piece);
            position += length;
        }
        digest.finish()
    }

    fn oracle(size: usize) -> Vec<u8> {
        use sha2_of_oracle::Digest as _;
        let bytes: Vec<u8> = (0..size).map(|byte| (byte * 7 % 251) as u8).collect();
        let mut digest = fs_verity::FsVeritySha256::<[u8; 0]>::new();
        digest.update(&bytes);
        digest.finalize().to_vec()
    }

    #[test]
    fn equals_the_oracle_at_every_kind_of_edge() {
        const LEAF: usize = 4096;
        const TREE: usize = 128 * LEAF;
        let sizes = [
            0,
            1,
            4095,
            LEAF,
            4097,
            2 * LEAF,
            127 * LEAF,
            TREE - 1,
            TREE,
            TREE + 1,
            129 * LEAF,
            2 * TREE,
            2 * TREE + 1,
            128 * TREE - 1,
            128 * TREE,
            128 * TREE + 1,
            128 * TREE + TREE + LEAF,
        ];
        for size in sizes {
            assert_eq!(ours(size, 65_536).as_bytes(), oracle(size), "{size} bytes");
        }
    }

    #[test]
    fn trees_may_be_hashed_apart() {
        let bytes: Vec<u8> = (0..5 * TREE_BYTES + 9000)
            .map(|byte| (byte * 7 % 251) as u8)
            .collect();
        for size in [2 * TREE_BYTES, 4 * TREE_BYTES + 1, bytes.len()] {
            let whole = &bytes[..size];
            let mut digest = VerityDigest::new();
            for piece in whole.chunks(2 * TREE_BYTES) {
                let trees = Trees::of(piece);
                assert!(digest.update_trees(&trees));
                digest.update(&piece[trees.bytes() as usize..]);
            }
            assert_eq!(digest.size(), size as u64);
            assert_eq!(digest.finish().as_bytes(), oracle(size), "{size} bytes");
        }
    }

    #[test]
    fn a_tree_that_has_begun_takes_no_hash() {
        let bytes = std::vec![7; TREE_BYTES];
        let mut digest = VerityDigest::new();
        digest.update(&bytes[..4096]);
        assert!(!digest.update_trees(&Trees::of(&bytes)));
        assert_eq!(digest.size(), 4096);
    }

    #[test]
    fn pieces_do_not_matter() {
        for step in [1, 7, 4096, 5000] {
            assert_eq!(ours(20_000, step), ours(20_000, 20_000));
        }
    }
}
