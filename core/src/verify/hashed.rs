//! Bytes with the hashes that were taken of them ahead of time: in another thread, on a machine that has more than one core.
//!
//! # Invariants
//! - The hashes are those of the bytes: [`Hashed::new`] takes them and nothing changes either afterwards. So whoever compares
//!   these hashes has checked these bytes.

use super::digest::{TREE_BYTES, tree_hash};
use crate::wire::RANGE_MAX_BYTES;
use crate::wire::digest::Sha256Digest;
use sha2::{Digest, Sha256};

/// Whole trees in the longest range.
pub const TREES_MAX_COUNT: usize = RANGE_MAX_BYTES as usize / TREE_BYTES;

/// The hashes of whole subtrees of an fs-verity tree, of [`TREE_BYTES`] each and one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trees(heapless::Vec<Sha256Digest, TREES_MAX_COUNT>);

impl Trees {
    /// Takes the hashes of as many whole trees as `bytes` begin with, at most [`TREES_MAX_COUNT`].
    pub fn of(bytes: &[u8]) -> Self {
        let whole = bytes.chunks_exact(TREE_BYTES).take(TREES_MAX_COUNT);
        Self(whole.map(tree_hash).collect())
    }

    /// The hashes.
    pub fn hashes(&self) -> &[Sha256Digest] {
        &self.0
    }

    /// How many bytes they stand for.
    pub fn bytes(&self) -> u64 {
        self.0.len() as u64 * TREE_BYTES as u64
    }
}

/// Bytes and their hashes.
#[derive(Clone, Debug)]
pub struct Hashed<B> {
    bytes: B,
    sha256: Sha256Digest,
    trees: Trees,
}

/// A borrowed [`Hashed`].
#[derive(Clone, Copy, Debug)]
pub struct HashedBytes<'b> {
    bytes: &'b [u8],
    sha256: &'b Sha256Digest,
    trees: &'b Trees,
}

impl<B: AsRef<[u8]>> Hashed<B> {
    /// Takes the SHA-256 of `bytes`, and the hashes of their fs-verity trees when they are wanted. A `B` gives the same bytes
    /// each time it is asked, as every buffer does.
    pub fn new(bytes: B, with_trees: bool) -> Self {
        let content = bytes.as_ref();
        let sha256 = Sha256::digest(content).into();
        let trees = if with_trees {
            Trees::of(content)
        } else {
            Trees::default()
        };
        Self {
            bytes,
            sha256,
            trees,
        }
    }

    /// What core takes.
    pub fn view(&self) -> HashedBytes<'_> {
        HashedBytes {
            bytes: self.bytes.as_ref(),
            sha256: &self.sha256,
            trees: &self.trees,
        }
    }

    /// Gives the buffer back.
    pub fn into_bytes(self) -> B {
        self.bytes
    }
}

impl<'b> HashedBytes<'b> {
    /// The bytes.
    pub const fn bytes(&self) -> &'b [u8] {
        self.bytes
    }

    /// Their SHA-256.
    pub const fn sha256(&self) -> &'b Sha256Digest {
        self.sha256
    }

    /// The hashes of the trees that they begin with; none when they were not wanted.
    pub const fn trees(&self) -> &'b Trees {
        self.trees
    }
}
