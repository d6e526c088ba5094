//! The bytes that answer a request, as whoever takes them gets them: all at once, or piece by piece from a source that gives them twice,
//! where a whole range is not to be held in memory.
//!
//! # Invariants
//! - No byte of a range is given out before the digest of the whole range was right. Each piece that is read the second time is
//!   compared, before it is given out, with what the first time had read up to its end: a source that changes in between is found out.

use crate::decode::INPUT_BYTES;
use crate::error::{BundleInvalid, Error, Misuse, Part};
use crate::verify::hashed::HashedBytes;
use crate::wire::RANGE_MAX_BYTES;
use crate::wire::digest::Sha256Digest;
use crate::wire::index::Range;
use sha2::{Digest, Sha256};

/// What is read, and compared, at once.
const PIECE_BYTES: usize = 16 * 1024;

/// Pieces of the longest request.
const PIECES: usize = RANGE_MAX_BYTES as usize / PIECE_BYTES;

/// The buffer of [`Installer::feed_twice`](super::Installer::feed_twice).
pub const TWICE_BUFFER_BYTES: usize = INPUT_BYTES + PIECE_BYTES;

/// A source that gives the bytes of one request as often as it is asked.
pub trait Again {
    /// Reads exactly `buffer.len()` bytes, from byte `offset` of the request on.
    ///
    /// # Errors
    /// When it gives none. Whoever made the source knows why.
    fn read(&mut self, offset: usize, buffer: &mut [u8]) -> Result<(), GaveNone>;
}

/// A source gave no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GaveNone;

/// The bytes.
#[expect(
    clippy::large_enum_variant,
    reason = "it lives while a request is answered; core has no heap"
)]
pub(super) enum Stored<'s> {
    /// All of them that are left, and the hashes that were taken of them ahead.
    Once {
        bytes: &'s [u8],
        hashed: Option<HashedBytes<'s>>,
    },
    /// A source that reads them twice.
    Twice(Twice<'s>),
}

/// Bytes that are read twice.
pub(super) struct Twice<'s> {
    again: &'s mut dyn Again,
    bytes: usize,
    buffer: &'s mut [u8],
    /// What is at hand in the buffer, of the second reading.
    start: usize,
    end: usize,
    /// Bytes of the second reading, and their digest.
    read: usize,
    sha256: Sha256,
    /// Of the first reading, the digest up to the end of each piece.
    marks: [Sha256Digest; PIECES],
}

impl<'s> Stored<'s> {
    /// Bytes that `again` gives, read through `buffer`.
    pub fn twice(again: &'s mut dyn Again, bytes: usize, buffer: &'s mut [u8]) -> Self {
        Self::Twice(Twice {
            again,
            bytes,
            buffer,
            start: 0,
            end: 0,
            read: 0,
            sha256: Sha256::new(),
            marks: [Sha256Digest::default(); _],
        })
    }

    /// All of the bytes; none where they come piece by piece, as only those of ranges and `info/` entries do.
    pub const fn at_once(&self) -> &'s [u8] {
        match self {
            Self::Once { bytes, .. } => bytes,
            Self::Twice(_) => &[],
        }
    }

    /// The hashes that were taken ahead.
    pub const fn hashed(&self) -> Option<HashedBytes<'s>> {
        match self {
            Self::Once { hashed, .. } => *hashed,
            Self::Twice(_) => None,
        }
    }

    /// Hashes the bytes on, the first time that they are read.
    pub fn update(&mut self, sha256: &mut Sha256) -> Result<(), Error> {
        match self {
            Self::Once { bytes, .. } => {
                sha256.update(bytes);
                Ok(())
            }
            Self::Twice(twice) => twice.read_first(sha256),
        }
    }

    /// Compares the bytes with the digest of their range.
    pub fn check(&mut self, range: &Range) -> Result<(), Error> {
        let found = match self.hashed() {
            Some(hashed) => *hashed.sha256(),
            None => {
                let mut sha256 = Sha256::new();
                self.update(&mut sha256)?;
                sha256.finalize().into()
            }
        };
        if found == range.stored_sha256 {
            return Ok(());
        }
        Err(damaged(range))
    }

    /// The bytes that come next, after they were checked: all that are left, or at least [`INPUT_BYTES`].
    pub fn next(&mut self, range: &Range) -> Result<&[u8], Error> {
        match self {
            Self::Once { bytes, .. } => Ok(bytes),
            Self::Twice(twice) => twice.next(range),
        }
    }

    /// Passes bytes that came next; `None` when there were not so many.
    pub fn pass(&mut self, count: usize) -> Option<()> {
        match self {
            Self::Once { bytes, .. } => *bytes = bytes.get(count..)?,
            Self::Twice(twice) => {
                twice.start += count;
                (twice.start <= twice.end).then_some(())?;
            }
        }
        Some(())
    }
}

impl Twice<'_> {
    fn read_first(&mut self, sha256: &mut Sha256) -> Result<(), Error> {
        for (number, mark) in self.marks.iter_mut().enumerate() {
            let offset = number * PIECE_BYTES;
            let left = self.bytes.saturating_sub(offset);
            let piece = room(self.buffer, 0, left.min(PIECE_BYTES))?;
            if piece.is_empty() {
                break;
            }
            read(self.again, offset, piece)?;
            sha256.update(&*piece);
            *mark = sha256.clone().finalize().into();
        }
        Ok(())
    }

    fn next(&mut self, range: &Range) -> Result<&[u8], Error> {
        while self.end - self.start < INPUT_BYTES && self.read < self.bytes {
            let bytes = PIECE_BYTES.min(self.bytes - self.read);
            if self.end + bytes > self.buffer.len() {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            let piece = room(self.buffer, self.end, bytes)?;
            read(self.again, self.read, piece)?;
            self.sha256.update(&*piece);
            let mark = self.marks.get(self.read / PIECE_BYTES);
            if Some(&self.sha256.clone().finalize().into()) != mark {
                return Err(damaged(range));
            }
            self.read += bytes;
            self.end += bytes;
        }
        Ok(self.buffer.get(self.start..self.end).unwrap_or(&[]))
    }
}

fn room(buffer: &mut [u8], start: usize, bytes: usize) -> Result<&mut [u8], Misuse> {
    let room = buffer.get_mut(start..start + bytes);
    room.ok_or(Misuse::WorkspaceTooSmall)
}

/// What the error says is never heard: the source keeps its own.
fn read(again: &mut dyn Again, offset: usize, piece: &mut [u8]) -> Result<(), BundleInvalid> {
    let part = Part::Data;
    again
        .read(offset, piece)
        .map_err(|GaveNone| BundleInvalid::Truncated { part })
}

fn damaged(range: &Range) -> Error {
    BundleInvalid::RangeDamaged {
        stored_offset: range.stored_offset,
    }
    .into()
}
