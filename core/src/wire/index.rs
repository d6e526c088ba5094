//! The index: which stored range gives which part of which blob.
//!
//! A route is a run of blocks of 4,096 bytes. Each block carries the SHA-256 of the next one and the manifest carries that of
//! the first, so a route is authenticated block by block, in order, in the memory of one block:
//!
//! ```text
//! block:   SHA-256 of the next block (32; zeros in the last) | records u16 | zeros (30) | 42 records of 96 bytes, unused ones zero
//! records: Blob (Range…) [Alternative (Range…)]… Blob …
//! ```
//!
//! The route from a base release has, among its objects, a Removed record for each object that only the base has.
//!
//! The ranges that follow a blob store it whole. Each alternative is another way to get the same blob, from a base blob that the
//! device may have; a reader passes over the methods that it does not know, so new methods need no new format.
//! All integers are little-endian.
//!
//! # Invariants
//! - A record that parses emits the same 96 bytes: reserved bytes are zero, unknown kinds, roles, encodings and flags are errors.

use crate::error::RecordFault;
use crate::wire::digest::{BlobDigest, DigestAlgorithm, SHA256_BYTES, Sha256Digest};
use crate::wire::{BLOB_MAX_BYTES, RANGE_MAX_BYTES, RANGE_RAW_MAX_BYTES};

/// Size of an index block: one page, the buffer that a reader needs.
pub const BLOCK_BYTES: usize = 4096;

/// Size of a record.
pub const RECORD_BYTES: usize = 96;

/// Where the records start in a block.
pub const BLOCK_HEADER_BYTES: usize = 64;

/// Records in a full block.
pub const RECORDS_PER_BLOCK: usize = (BLOCK_BYTES - BLOCK_HEADER_BYTES) / RECORD_BYTES;

/// Method of an [`Alternative`]: its ranges decode to instructions against the base ([`crate::patch`]). Never renumber.
pub const METHOD_PATCH: u8 = 1;

const KIND_BLOB: u8 = 1;
const KIND_ALTERNATIVE: u8 = 2;
const KIND_RANGE: u8 = 3;
const KIND_REMOVED: u8 = 4;

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
    /// SHA-256 of the bytes that it gives: tells whether a device has them already.
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
            || (self.raw_bytes == self.stored_bytes && self.raw_sha256 == self.stored_sha256)
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

/// Byte ranges of the fields of a record; the first byte is its kind.
mod field {
    use core::ops::Range;
    pub const BLOB_RANGES: Range<usize> = 4..8;
    pub const BLOB_SIZE: Range<usize> = 8..16;
    pub const BLOB_STORED: Range<usize> = 16..24;
    pub const BLOB_ALTERNATIVES: Range<usize> = 24..26;
    pub const BLOB_DIGEST: Range<usize> = 32..96;
    pub const ALTERNATIVE_RANGES: Range<usize> = 4..8;
    pub const ALTERNATIVE_STORED: Range<usize> = 8..16;
    pub const ALTERNATIVE_BASE_SIZE: Range<usize> = 16..24;
    pub const ALTERNATIVE_BASE: Range<usize> = 32..96;
    pub const RANGE_RAW_BYTES: Range<usize> = 4..8;
    pub const RANGE_RAW_OFFSET: Range<usize> = 8..16;
    pub const RANGE_STORED_OFFSET: Range<usize> = 16..24;
    pub const RANGE_STORED_BYTES: Range<usize> = 24..28;
    pub const RANGE_STORED_SHA256: Range<usize> = 32..64;
    pub const RANGE_RAW_SHA256: Range<usize> = 64..96;
    pub const REMOVED_SIZE: Range<usize> = 8..16;
    pub const REMOVED_DIGEST: Range<usize> = 32..96;
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    /// [`RecordFault`] says what is wrong; a record is exactly [`RECORD_BYTES`] long.
    pub fn parse(bytes: &[u8; RECORD_BYTES]) -> Result<Self, RecordFault> {
        let record = match bytes[0] {
            KIND_BLOB => Self::Blob(parse_blob(bytes)?),
            KIND_ALTERNATIVE => Self::Alternative(parse_alternative(bytes)?),
            KIND_RANGE => Self::Range(parse_range(bytes)?),
            KIND_REMOVED => Self::Removed(parse_removed(bytes)?),
            _ => return Err(RecordFault::Kind),
        };
        if record.emit() == *bytes {
            Ok(record)
        } else {
            Err(RecordFault::Reserved)
        }
    }

    /// Writes a record.
    pub fn emit(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        match self {
            Self::Blob(blob) => {
                bytes[..4].copy_from_slice(&[
                    KIND_BLOB,
                    blob.role as u8,
                    blob.payload,
                    blob.digest.algorithm() as u8,
                ]);
                bytes[field::BLOB_RANGES].copy_from_slice(&blob.ranges.to_le_bytes());
                bytes[field::BLOB_SIZE].copy_from_slice(&blob.size.to_le_bytes());
                bytes[field::BLOB_STORED].copy_from_slice(&blob.stored_bytes.to_le_bytes());
                bytes[field::BLOB_ALTERNATIVES].copy_from_slice(&blob.alternatives.to_le_bytes());
                emit_digest(&mut bytes[field::BLOB_DIGEST], &blob.digest);
            }
            Self::Alternative(other) => {
                bytes[..4].copy_from_slice(&[
                    KIND_ALTERNATIVE,
                    other.method,
                    other.base_digest.algorithm() as u8,
                    other.base_role as u8,
                ]);
                bytes[field::ALTERNATIVE_RANGES].copy_from_slice(&other.ranges.to_le_bytes());
                bytes[field::ALTERNATIVE_STORED].copy_from_slice(&other.stored_bytes.to_le_bytes());
                bytes[field::ALTERNATIVE_BASE_SIZE].copy_from_slice(&other.base_size.to_le_bytes());
                emit_digest(&mut bytes[field::ALTERNATIVE_BASE], &other.base_digest);
            }
            Self::Range(range) => {
                bytes[..2].copy_from_slice(&[KIND_RANGE, range.encoding as u8]);
                bytes[field::RANGE_RAW_BYTES].copy_from_slice(&range.raw_bytes.to_le_bytes());
                bytes[field::RANGE_RAW_OFFSET].copy_from_slice(&range.raw_offset.to_le_bytes());
                bytes[field::RANGE_STORED_OFFSET]
                    .copy_from_slice(&range.stored_offset.to_le_bytes());
                bytes[field::RANGE_STORED_BYTES].copy_from_slice(&range.stored_bytes.to_le_bytes());
                bytes[field::RANGE_STORED_SHA256].copy_from_slice(&range.stored_sha256);
                bytes[field::RANGE_RAW_SHA256].copy_from_slice(&range.raw_sha256);
            }
            Self::Removed(removed) => {
                bytes[0] = KIND_REMOVED;
                bytes[3] = removed.digest.algorithm() as u8;
                bytes[field::REMOVED_SIZE].copy_from_slice(&removed.size.to_le_bytes());
                emit_digest(&mut bytes[field::REMOVED_DIGEST], &removed.digest);
            }
        }
        bytes
    }
}

fn parse_blob(bytes: &[u8; RECORD_BYTES]) -> Result<Blob, RecordFault> {
    let blob = Blob {
        role: Role::from_number(bytes[1]).ok_or(RecordFault::Role)?,
        payload: bytes[2],
        digest: parse_digest(bytes[3], &bytes[field::BLOB_DIGEST])?,
        size: u64_at(bytes, field::BLOB_SIZE),
        ranges: u32_at(bytes, field::BLOB_RANGES),
        stored_bytes: u64_at(bytes, field::BLOB_STORED),
        alternatives: u16::from_le_bytes([
            bytes[field::BLOB_ALTERNATIVES.start],
            bytes[field::BLOB_ALTERNATIVES.start + 1],
        ]),
    };
    let empty = blob.size == 0;
    if blob.size > BLOB_MAX_BYTES
        || empty != (blob.ranges == 0)
        || empty != (blob.stored_bytes == 0)
    {
        return Err(RecordFault::Size);
    }
    Ok(blob)
}

fn parse_alternative(bytes: &[u8; RECORD_BYTES]) -> Result<Alternative, RecordFault> {
    let other = Alternative {
        method: bytes[1],
        base_role: Role::from_number(bytes[3]).ok_or(RecordFault::Role)?,
        base_digest: parse_digest(bytes[2], &bytes[field::ALTERNATIVE_BASE])?,
        base_size: u64_at(bytes, field::ALTERNATIVE_BASE_SIZE),
        ranges: u32_at(bytes, field::ALTERNATIVE_RANGES),
        stored_bytes: u64_at(bytes, field::ALTERNATIVE_STORED),
    };
    if other.base_size > BLOB_MAX_BYTES || other.stored_bytes > BLOB_MAX_BYTES {
        return Err(RecordFault::Size);
    }
    Ok(other)
}

fn parse_range(bytes: &[u8; RECORD_BYTES]) -> Result<Range, RecordFault> {
    let sha256_at = |field: core::ops::Range<usize>| {
        let mut digest = [0; SHA256_BYTES];
        digest.copy_from_slice(&bytes[field]);
        digest
    };
    let range = Range {
        encoding: Encoding::from_number(bytes[1]).ok_or(RecordFault::Encoding)?,
        raw_offset: u64_at(bytes, field::RANGE_RAW_OFFSET),
        raw_bytes: u32_at(bytes, field::RANGE_RAW_BYTES),
        stored_offset: u64_at(bytes, field::RANGE_STORED_OFFSET),
        stored_bytes: u32_at(bytes, field::RANGE_STORED_BYTES),
        stored_sha256: sha256_at(field::RANGE_STORED_SHA256),
        raw_sha256: sha256_at(field::RANGE_RAW_SHA256),
    };
    let fits = range.raw_offset <= BLOB_MAX_BYTES && range.stored_offset <= BLOB_MAX_BYTES;
    let raw_fits = (1..=RANGE_RAW_MAX_BYTES).contains(&range.raw_bytes);
    if !fits || !raw_fits || !(1..=RANGE_MAX_BYTES).contains(&range.stored_bytes) {
        return Err(RecordFault::Size);
    }
    Ok(range)
}

fn parse_removed(bytes: &[u8; RECORD_BYTES]) -> Result<Removed, RecordFault> {
    let removed = Removed {
        digest: parse_digest(bytes[3], &bytes[field::REMOVED_DIGEST])?,
        size: u64_at(bytes, field::REMOVED_SIZE),
    };
    if removed.size > BLOB_MAX_BYTES {
        return Err(RecordFault::Size);
    }
    Ok(removed)
}

fn emit_digest(to: &mut [u8], digest: &BlobDigest) {
    to.iter_mut()
        .zip(digest.as_bytes())
        .for_each(|(to, from)| *to = *from);
}

fn parse_digest(algorithm: u8, from: &[u8]) -> Result<BlobDigest, RecordFault> {
    let algorithm = DigestAlgorithm::from_number(algorithm).ok_or(RecordFault::Digest)?;
    from.get(..algorithm.digest_bytes())
        .and_then(|bytes| BlobDigest::new(algorithm, bytes))
        .ok_or(RecordFault::Digest)
}

fn u64_at(bytes: &[u8; RECORD_BYTES], field: core::ops::Range<usize>) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[field]);
    u64::from_le_bytes(value)
}

fn u32_at(bytes: &[u8; RECORD_BYTES], field: core::ops::Range<usize>) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[field]);
    u32::from_le_bytes(value)
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

    /// Number of records in the block, at most [`RECORDS_PER_BLOCK`].
    ///
    /// # Errors
    /// [`RecordFault`] when the number is too large or what must be zero is not.
    pub fn records(&self) -> Result<usize, RecordFault> {
        let count = usize::from(u16::from_le_bytes([
            self.0[SHA256_BYTES],
            self.0[SHA256_BYTES + 1],
        ]));
        let reserved = self.0[SHA256_BYTES + 2..BLOCK_HEADER_BYTES].iter();
        let unused = self
            .0
            .iter()
            .skip(BLOCK_HEADER_BYTES + count * RECORD_BYTES);
        if (1..=RECORDS_PER_BLOCK).contains(&count) && reserved.chain(unused).all(|byte| *byte == 0)
        {
            Ok(count)
        } else {
            Err(RecordFault::Block)
        }
    }

    /// Record `number` of the block.
    ///
    /// # Errors
    /// [`RecordFault`] says what is wrong with it.
    pub fn record(&self, number: usize) -> Result<Record, RecordFault> {
        let mut bytes = [0; RECORD_BYTES];
        let from = self
            .0
            .get(BLOCK_HEADER_BYTES + number * RECORD_BYTES..)
            .and_then(|rest| rest.get(..RECORD_BYTES));
        bytes.copy_from_slice(from.ok_or(RecordFault::Block)?);
        Record::parse(&bytes)
    }
}

/// Writes a block of at most [`RECORDS_PER_BLOCK`] records; a route is emitted from its last block to its first.
pub fn emit_block(records: &[Record], next: &Sha256Digest) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    block[..SHA256_BYTES].copy_from_slice(next);
    block[SHA256_BYTES..SHA256_BYTES + 2].copy_from_slice(&(records.len() as u16).to_le_bytes());
    let slots = block[BLOCK_HEADER_BYTES..].chunks_exact_mut(RECORD_BYTES);
    slots
        .zip(records)
        .for_each(|(slot, record)| slot.copy_from_slice(&record.emit()));
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples() -> [Record; 4] {
        let digest = BlobDigest::sha256([0x5a; 32]);
        let blob = Blob {
            role: Role::Object,
            payload: 1,
            digest,
            size: 70_000,
            ranges: 2,
            stored_bytes: 300,
            alternatives: 1,
        };
        let range = Range {
            encoding: Encoding::Zstd,
            raw_offset: 65_536,
            raw_bytes: 4_464,
            stored_offset: 1 << 33,
            stored_bytes: 123,
            stored_sha256: [1; 32],
            raw_sha256: [2; 32],
        };
        let other = Alternative {
            method: 200,
            base_role: Role::Composefs,
            base_digest: digest,
            base_size: 1 << 40,
            ranges: 1,
            stored_bytes: 5,
        };
        [
            Record::Blob(blob),
            Record::Range(range),
            Record::Alternative(other),
            Record::Removed(Removed { digest, size: 77 }),
        ]
    }

    #[test]
    fn reads_what_it_writes() {
        for record in examples() {
            assert_eq!(Record::parse(&record.emit()), Ok(record));
        }
    }

    #[test]
    fn wire_numbers_stay() {
        assert_eq!(
            [
                Role::Uki as u8,
                Role::Image as u8,
                Role::Object as u8,
                Role::Composefs as u8
            ],
            [1, 2, 3, 4]
        );
        assert_eq!(
            [
                Encoding::Stored as u8,
                Encoding::Deflate as u8,
                Encoding::Zstd as u8
            ],
            [0, 1, 2]
        );
        assert_eq!(
            [KIND_BLOB, KIND_ALTERNATIVE, KIND_RANGE, KIND_REMOVED],
            [1, 2, 3, 4]
        );
    }

    #[test]
    fn reserved_values_are_refused() {
        let [blob, range, other, removed] = examples().map(|record| record.emit());
        let fault = |mut bytes: [u8; RECORD_BYTES], position: usize, value: u8| {
            bytes[position] = value;
            Record::parse(&bytes).unwrap_err()
        };
        assert_eq!(fault(blob, 0, 0), RecordFault::Kind);
        assert_eq!(fault(blob, 0, 5), RecordFault::Kind);
        assert_eq!(fault(blob, 1, 5), RecordFault::Role);
        assert_eq!(fault(blob, 3, 3), RecordFault::Digest);
        assert_eq!(fault(blob, 26, 1), RecordFault::Reserved);
        assert_eq!(fault(blob, 95, 1), RecordFault::Reserved);
        assert_eq!(fault(blob, 14, 2), RecordFault::Size);
        assert_eq!(fault(blob, 4, 0), RecordFault::Size, "bytes without ranges");
        let mut empty = blob;
        empty[4..16].fill(0);
        assert_eq!(
            fault(empty, 23, 0xff),
            RecordFault::Size,
            "stored bytes of an empty blob"
        );
        assert_eq!(fault(range, 1, 3), RecordFault::Encoding);
        assert_eq!(
            fault(range, 2, 1),
            RecordFault::Reserved,
            "no flag has a meaning yet"
        );
        assert_eq!(
            fault(range, 7, 0xff),
            RecordFault::Size,
            "raw bytes over the limit"
        );
        assert_eq!(
            fault(range, 27, 0xff),
            RecordFault::Size,
            "stored bytes over the limit"
        );
        let mut as_it_is = range;
        as_it_is[1] = Encoding::Stored as u8;
        let Ok(Record::Range(as_it_is)) = Record::parse(&as_it_is) else {
            panic!("a range of a patch may be stored as it is");
        };
        assert!(!as_it_is.can_store_whole(), "but it has two sizes");
        assert_eq!(fault(other, 2, 0), RecordFault::Digest);
        assert_eq!(fault(other, 3, 0), RecordFault::Role);
        assert_eq!(fault(other, 14, 2), RecordFault::Size, "stored bytes");
        assert_eq!(fault(other, 22, 2), RecordFault::Size, "size of the base");
        assert_eq!(fault(other, 24, 1), RecordFault::Reserved);
        assert_eq!(fault(removed, 3, 0), RecordFault::Digest);
        assert_eq!(fault(removed, 14, 2), RecordFault::Size);
        assert_eq!(fault(removed, 4, 1), RecordFault::Reserved);
    }

    #[test]
    fn a_block_says_what_it_holds() {
        let mut bytes = emit_block(&examples(), &[7; 32]);
        let block = Block::new(&bytes);
        assert_eq!((block.next(), block.records()), ([7; 32], Ok(4)));
        assert_eq!(block.record(2), Ok(examples()[2]));
        assert_eq!(block.record(4), Err(RecordFault::Kind));
        assert_eq!(block.record(42), Err(RecordFault::Block));
        bytes[4095] = 1;
        assert_eq!(Block::new(&bytes).records(), Err(RecordFault::Block));
        bytes = emit_block(&[], &[0; 32]);
        assert_eq!(Block::new(&bytes).records(), Err(RecordFault::Block));
    }
}
