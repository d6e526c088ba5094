//! The index: which stored range gives which part of which blob.
//!
//! A route is a run of blocks of 4,096 bytes. Each block carries the SHA-256 of the next one and the manifest carries that of
//! the first, so a route is authenticated block by block, in order, in the memory of one block:
//!
//! ```text
//! block:   SHA-256 of the next block (32; zeros in the last) | number of records u16 | the records | zeros
//! records: Blob (Range…) [Alternative (Range…)]… Blob …
//! ```
//!
//! The route from a base release has, among its objects, a Removed record for each object that only the base has.
//!
//! The ranges that follow a blob store it whole. Each alternative is another way to get the same blob, from a base blob that the
//! device may have; a reader passes over the methods that it does not know, so new methods need no new format.
//!
//! A route is what a device pays for besides the data, so records are as long as they must be: numbers are varints, and places are
//! told from where the range before ended (`cursor.rs`). Digests are what is left.
//!
//! # Invariants
//! - A record that parses emits the same bytes: varints have their shortest form, and unknown kinds, roles, encodings and flags are
//!   errors.

mod cursor;

pub use cursor::Cursor;

use crate::error::RecordFault;
use crate::wire::digest::{BlobDigest, SHA256_BYTES, Sha256Digest};

/// Size of an index block: one page, the buffer that a reader needs.
pub const BLOCK_BYTES: usize = 4096;

/// Where the records start in a block.
pub const BLOCK_HEADER_BYTES: usize = SHA256_BYTES + 2;

/// Longest record: a Range with two digests, or a Blob with one of 64 bytes, whose numbers take all the bytes that they can.
pub const RECORD_MAX_BYTES: usize = 128;

/// Method of an [`Alternative`]: its ranges decode to instructions against the base ([`crate::patch`]). Never renumber.
pub const METHOD_PATCH: u8 = 1;

/// What a blob is for. The numbers are on the wire: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Role {
    /// The UKI; always the first blob of a bundle that has one.
    Uki = 1,
    /// Raw bytes of a named slot.
    Image = 2,
    /// An object of the composefs payload.
    Object = 3,
    /// The composefs image (EROFS); always the last blob of a bundle that has one.
    Composefs = 4,
}

/// How a range is stored. The numbers are on the wire: never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Encoding {
    /// As it is.
    Stored = 0,
    /// One raw DEFLATE stream (RFC 1951).
    Deflate = 1,
    /// One zstd frame (RFC 8878) with a window of at most the manifest's `zstd_window_log`.
    Zstd = 2,
}

/// One record of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Record {
    /// A blob; its ranges follow.
    Blob(Blob),
    /// Another way to get the blob before; its ranges follow.
    Alternative(Alternative),
    /// A stored range.
    Range(Range),
    /// An object of the base release that this release has not; only in the route from a base.
    Removed(Removed),
}

/// A blob and how it is stored whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Blob {
    /// What it is for.
    pub role: Role,
    /// Position of its payload in the manifest (for an object, of the composefs payload).
    pub payload: u8,
    /// Its name.
    pub digest: BlobDigest,
    /// Its size in bytes.
    pub size: u64,
    /// Ranges that store it whole; they follow this record.
    pub ranges: u32,
    /// Stored bytes of those ranges.
    pub stored_bytes: u64,
    /// Number of alternatives after those ranges.
    pub alternatives: u16,
}

/// Another way to get a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Alternative {
    /// How: [`METHOD_PATCH`], or a method that this version does not know and passes over.
    pub method: u8,
    /// What the base is for, which says where a device looks for it. An image is that of the slot that this blob goes to.
    pub base_role: Role,
    /// The blob that it starts from.
    pub base_digest: BlobDigest,
    /// Size of the base in bytes.
    pub base_size: u64,
    /// Ranges that follow.
    pub ranges: u32,
    /// Stored bytes of those ranges.
    pub stored_bytes: u64,
}

/// An object of the base release that this release has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Removed {
    /// Its name.
    pub digest: BlobDigest,
    /// Its size in bytes.
    pub size: u64,
}

/// A stored range: a run of bytes of `data` that gives, by itself or with the base of its patch, a run of bytes of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Range {
    /// How it is stored.
    pub encoding: Encoding,
    /// Where the bytes that it gives start in the blob.
    pub raw_offset: u64,
    /// How many bytes it gives.
    pub raw_bytes: u32,
    /// Where it starts in `data` (all parts taken together).
    pub stored_offset: u64,
    /// Stored bytes.
    pub stored_bytes: u32,
    /// SHA-256 of the stored bytes: checked before a decoder sees them.
    pub stored_sha256: Sha256Digest,
    /// SHA-256 of the bytes that it gives: tells whether a device has them already. Zeros where it gives its whole blob: then the
    /// blob's own digest tells.
    pub raw_sha256: Sha256Digest,
}

impl Role {
    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Uki),
            2 => Some(Self::Image),
            3 => Some(Self::Object),
            4 => Some(Self::Composefs),
            _ => None,
        }
    }
}

impl Range {
    /// Whether its sizes and digests are those of bytes that are stored whole: what is stored as it is has both twice. A range of a
    /// patch need not be so, because what it decodes to are instructions.
    pub fn can_store_whole(&self) -> bool {
        self.encoding != Encoding::Stored
            || (self.raw_bytes == self.stored_bytes
                && (!self.has_raw_sha256() || self.raw_sha256 == self.stored_sha256))
    }

    /// Whether it has a digest of the bytes that it gives.
    pub fn has_raw_sha256(&self) -> bool {
        self.raw_sha256 != Sha256Digest::default()
    }

    /// Whether it gives all bytes of a blob of this size.
    pub fn gives_all(&self, size: u64) -> bool {
        self.raw_offset == 0 && u64::from(self.raw_bytes) == size
    }
}

impl Encoding {
    const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Stored),
            1 => Some(Self::Deflate),
            2 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// A block whose digest has been checked against the one before, as a view over its bytes.
#[derive(Clone, Copy)]
pub struct Block<'a>(&'a [u8; BLOCK_BYTES]);

impl<'a> Block<'a> {
    /// Takes a block. The caller has checked its digest.
    pub const fn new(bytes: &'a [u8; BLOCK_BYTES]) -> Self {
        Self(bytes)
    }

    /// SHA-256 of the next block; zeros in the last block of a route.
    pub fn next(&self) -> Sha256Digest {
        let mut digest = [0; SHA256_BYTES];
        digest.copy_from_slice(&self.0[..SHA256_BYTES]);
        digest
    }

    /// Number of records in the block.
    ///
    /// # Errors
    /// [`RecordFault`] when a record is wrong, there are none or too many, or what must be zero is not.
    pub fn records(&self) -> Result<usize, RecordFault> {
        let count = usize::from(u16::from_le_bytes([
            self.0[SHA256_BYTES],
            self.0[SHA256_BYTES + 1],
        ]));
        let mut cursor = Cursor::new();
        for _ in 0..count {
            self.record(&mut cursor)?;
        }
        let unused = self.0.get(cursor.position()..).unwrap_or(&[]);
        if count > 0 && unused.iter().all(|byte| *byte == 0) {
            Ok(count)
        } else {
            Err(RecordFault::Block)
        }
    }

    /// The record at a place, which moves on.
    ///
    /// # Errors
    /// [`RecordFault`] says what is wrong with it.
    pub fn record(&self, cursor: &mut Cursor) -> Result<Record, RecordFault> {
        cursor.parse(self.0)
    }
}

/// Fills a block with as many of the records as fit; gives how many. `next` is known when the blocks behind are made: see [`set_next`].
pub fn emit_block(records: &[Record], next: &Sha256Digest) -> ([u8; BLOCK_BYTES], usize) {
    let mut block = [0; BLOCK_BYTES];
    block[..SHA256_BYTES].copy_from_slice(next);
    let (mut cursor, mut count) = (Cursor::new(), 0);
    while let Some(record) = records.get(count)
        && cursor.emit(record, &mut block)
    {
        count += 1;
    }
    block[SHA256_BYTES..BLOCK_HEADER_BYTES].copy_from_slice(&(count as u16).to_le_bytes());
    (block, count)
}

/// Says which block is next, once its SHA-256 is known: a route is finished from its last block to its first.
pub fn set_next(block: &mut [u8; BLOCK_BYTES], next: &Sha256Digest) {
    block[..SHA256_BYTES].copy_from_slice(next);
}

#[cfg(test)]
mod tests;
