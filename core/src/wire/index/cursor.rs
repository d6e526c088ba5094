//! A place in an index block, where one record is read or written after the other.
//!
//! ```text
//! Blob:        head | payload u8 | ranges | size | stored bytes | alternatives | digest
//! Alternative: head | method u8 | ranges | stored bytes | size of the base | digest of the base
//! Range:       head | raw bytes | raw offset* | stored bytes | stored offset* | SHA-256 of the stored bytes [| of the raw bytes]
//! Removed:     head | size | digest
//! ```
//!
//! The head is one byte: the kind in bits 0 to 2; role or encoding in bits 3 to 5; the algorithm of the digest in bits 6 and 7, of
//! a Range in bit 6 whether it has its second digest. Numbers are varints, of seven bits a byte, lowest first. Offsets (*) are
//! told from where the range before ended, as zigzag: mostly 0.
//!
//! # Invariants
//! - A block is read without those before it: places are told anew from 0 in each.

use super::{
    Alternative, BLOCK_BYTES, BLOCK_HEADER_BYTES, Blob, Encoding, RECORD_MAX_BYTES, Range, Record,
    Removed, Role,
};
use crate::error::RecordFault;
use crate::wire::digest::{BlobDigest, DigestAlgorithm, SHA256_BYTES, Sha256Digest};
use crate::wire::{BLOB_MAX_BYTES, RANGE_MAX_BYTES, RANGE_RAW_MAX_BYTES};

const KIND_BLOB: u8 = 1;
const KIND_ALTERNATIVE: u8 = 2;
const KIND_RANGE: u8 = 3;
const KIND_REMOVED: u8 = 4;

/// Of the head of a Range: it has its second digest.
const HAS_RAW_SHA256: u8 = 1;

/// A place in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    position: usize,
    /// Where the last range of its blob, or of its alternative, ended in the blob.
    raw_end: u64,
    /// Where the last range ended in the data: of those that store blobs whole, and of those of alternatives.
    stored_ends: [u64; 2],
    /// Whether ranges are of an alternative.
    is_other: bool,
}

impl Default for Cursor {
    fn default() -> Self {
        Self::new()
    }
}

impl Cursor {
    /// The first record of a block.
    pub const fn new() -> Self {
        Self {
            position: BLOCK_HEADER_BYTES,
            raw_end: 0,
            stored_ends: [0; 2],
            is_other: false,
        }
    }

    /// Bytes of the block before the place.
    pub const fn position(&self) -> usize {
        self.position
    }

    /// Reads a record, and moves on.
    pub(super) fn parse(&mut self, block: &[u8; BLOCK_BYTES]) -> Result<Record, RecordFault> {
        let from = block.get(self.position..).ok_or(RecordFault::Block)?;
        let mut reader = Reader(from);
        let record = self.read(&mut reader)?;
        let taken = from.len() - reader.0.len();
        let mut again = *self;
        let mut emitted = Writer::new();
        again.write(&record, &mut emitted);
        if from.get(..taken) != Some(emitted.bytes()) {
            return Err(RecordFault::Reserved);
        }
        *self = again;
        Ok(record)
    }

    /// Writes a record, and moves on; `false` when it does not fit any more.
    pub(super) fn emit(&mut self, record: &Record, block: &mut [u8; BLOCK_BYTES]) -> bool {
        let (mut moved, mut emitted) = (*self, Writer::new());
        moved.write(record, &mut emitted);
        let Some(to) = block.get_mut(self.position..moved.position) else {
            return false;
        };
        to.copy_from_slice(emitted.bytes());
        *self = moved;
        true
    }

    fn read(&self, from: &mut Reader<'_>) -> Result<Record, RecordFault> {
        let head = from.byte()?;
        let (role, high) = (head >> 3 & 7, head >> 6);
        match head & 7 {
            KIND_BLOB => read_blob(from, role, high).map(Record::Blob),
            KIND_ALTERNATIVE => read_alternative(from, role, high).map(Record::Alternative),
            KIND_RANGE => self.read_range(from, role, high).map(Record::Range),
            KIND_REMOVED => {
                let removed = Removed {
                    size: from.number()?,
                    digest: from.digest(high)?,
                };
                if removed.size > BLOB_MAX_BYTES {
                    return Err(RecordFault::Size);
                }
                Ok(Record::Removed(removed))
            }
            _ => Err(RecordFault::Kind),
        }
    }

    fn read_range(
        &self,
        from: &mut Reader<'_>,
        encoding: u8,
        high: u8,
    ) -> Result<Range, RecordFault> {
        let encoding = Encoding::from_number(encoding).ok_or(RecordFault::Encoding)?;
        let raw_bytes = from.number_u32()?;
        let raw_offset = self.raw_end.wrapping_add(from.signed()?);
        let stored_bytes = from.number_u32()?;
        let stored_offset = self.stored_end().wrapping_add(from.signed()?);
        let stored_sha256 = from.sha256()?;
        let raw_sha256 = if high & HAS_RAW_SHA256 == 0 {
            Sha256Digest::default()
        } else {
            from.sha256()?
        };
        let fits = raw_offset <= BLOB_MAX_BYTES && stored_offset <= BLOB_MAX_BYTES;
        let raw_fits = (1..=RANGE_RAW_MAX_BYTES).contains(&raw_bytes);
        if !fits || !raw_fits || !(1..=RANGE_MAX_BYTES).contains(&stored_bytes) {
            return Err(RecordFault::Size);
        }
        Ok(Range {
            encoding,
            raw_offset,
            raw_bytes,
            stored_offset,
            stored_bytes,
            stored_sha256,
            raw_sha256,
        })
    }

    fn stored_end(&self) -> u64 {
        let [whole, other] = self.stored_ends;
        if self.is_other { other } else { whole }
    }

    /// Writes a record and moves on behind it.
    fn write(&mut self, record: &Record, to: &mut Writer) {
        match record {
            Record::Blob(blob) => {
                (self.raw_end, self.is_other) = (0, false);
                to.head(KIND_BLOB, blob.role as u8, blob.digest.algorithm() as u8);
                to.byte(blob.payload);
                to.number(u64::from(blob.ranges));
                to.number(blob.size);
                to.number(blob.stored_bytes);
                to.number(u64::from(blob.alternatives));
                to.put(blob.digest.as_bytes());
            }
            Record::Alternative(other) => {
                (self.raw_end, self.is_other) = (0, true);
                let algorithm = other.base_digest.algorithm() as u8;
                to.head(KIND_ALTERNATIVE, other.base_role as u8, algorithm);
                to.byte(other.method);
                to.number(u64::from(other.ranges));
                to.number(other.stored_bytes);
                to.number(other.base_size);
                to.put(other.base_digest.as_bytes());
            }
            Record::Range(range) => self.write_range(range, to),
            Record::Removed(removed) => {
                to.head(KIND_REMOVED, 0, removed.digest.algorithm() as u8);
                to.number(removed.size);
                to.put(removed.digest.as_bytes());
            }
        }
        self.position += to.bytes().len();
    }

    fn write_range(&mut self, range: &Range, to: &mut Writer) {
        let has_raw = u8::from(range.has_raw_sha256()) * HAS_RAW_SHA256;
        to.head(KIND_RANGE, range.encoding as u8, has_raw);
        to.number(u64::from(range.raw_bytes));
        to.signed(range.raw_offset.wrapping_sub(self.raw_end));
        to.number(u64::from(range.stored_bytes));
        to.signed(range.stored_offset.wrapping_sub(self.stored_end()));
        to.put(&range.stored_sha256);
        if range.has_raw_sha256() {
            to.put(&range.raw_sha256);
        }
        self.raw_end = range.raw_offset.wrapping_add(u64::from(range.raw_bytes));
        let [whole, other] = &mut self.stored_ends;
        let end = if self.is_other { other } else { whole };
        *end = range
            .stored_offset
            .wrapping_add(u64::from(range.stored_bytes));
    }
}

fn read_blob(from: &mut Reader<'_>, role: u8, algorithm: u8) -> Result<Blob, RecordFault> {
    let blob = Blob {
        role: Role::from_number(role).ok_or(RecordFault::Role)?,
        payload: from.byte()?,
        ranges: from.number_u32()?,
        size: from.number()?,
        stored_bytes: from.number()?,
        alternatives: u16::try_from(from.number()?).map_err(|_| RecordFault::Size)?,
        digest: from.digest(algorithm)?,
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

fn read_alternative(
    from: &mut Reader<'_>,
    role: u8,
    algorithm: u8,
) -> Result<Alternative, RecordFault> {
    let other = Alternative {
        base_role: Role::from_number(role).ok_or(RecordFault::Role)?,
        method: from.byte()?,
        ranges: from.number_u32()?,
        stored_bytes: from.number()?,
        base_size: from.number()?,
        base_digest: from.digest(algorithm)?,
    };
    if other.base_size > BLOB_MAX_BYTES || other.stored_bytes > BLOB_MAX_BYTES {
        return Err(RecordFault::Size);
    }
    Ok(other)
}

/// What is left of a block.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, bytes: usize) -> Result<&'b [u8], RecordFault> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(RecordFault::Block)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, RecordFault> {
        let taken = self.take(1)?;
        taken.first().copied().ok_or(RecordFault::Block)
    }

    fn number(&mut self) -> Result<u64, RecordFault> {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            // A tenth byte has room for one bit.
            if shift == 63 && byte > 1 {
                return Err(RecordFault::Size);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    fn number_u32(&mut self) -> Result<u32, RecordFault> {
        u32::try_from(self.number()?).map_err(|_| RecordFault::Size)
    }

    /// A signed number as what is added to a place, modulo 2^64.
    fn signed(&mut self) -> Result<u64, RecordFault> {
        let value = self.number()?;
        Ok(value >> 1 ^ (value & 1).wrapping_neg())
    }

    fn sha256(&mut self) -> Result<Sha256Digest, RecordFault> {
        let taken = self.take(SHA256_BYTES)?.first_chunk();
        taken.copied().ok_or(RecordFault::Block)
    }

    fn digest(&mut self, algorithm: u8) -> Result<BlobDigest, RecordFault> {
        let algorithm = DigestAlgorithm::from_number(algorithm).ok_or(RecordFault::Digest)?;
        let bytes = self.take(algorithm.digest_bytes())?;
        BlobDigest::new(algorithm, bytes).ok_or(RecordFault::Digest)
    }
}

/// A record that is being written.
struct Writer(heapless::Vec<u8, RECORD_MAX_BYTES>);

impl Writer {
    const fn new() -> Self {
        Self(heapless::Vec::new())
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Every record fits: the longest has six numbers of ten bytes and a digest of 64, or four numbers and two digests of 32.
    fn put(&mut self, bytes: &[u8]) {
        let _ = self.0.extend_from_slice(bytes);
    }

    fn byte(&mut self, byte: u8) {
        self.put(&[byte]);
    }

    fn head(&mut self, kind: u8, role: u8, high: u8) {
        self.byte(kind | role << 3 | high << 6);
    }

    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    fn signed(&mut self, value: u64) {
        self.number(value << 1 ^ (value >> 63).wrapping_neg());
    }
}
