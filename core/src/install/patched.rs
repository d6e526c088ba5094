//! One range of a patch: decoded to instructions, followed with the base, written, and compared with what it must give.
//!
//! # Invariants
//! - Instructions that break the rules are the builder's fault, whatever the base is. A base that cannot be read, or that gives
//!   other bytes than the index states, is damaged: then nothing counts that was written of the range.

use super::blob::piece;
use super::stored::Stored;
use crate::decode::{DecodeFailed, History, RangeDecoder};
use crate::error::{BundleInvalid, Error, StorageError};
use crate::patch::{PatchDecoder, PatchError, PatchFault};
use crate::storage::{PatchBase, Storage};
use crate::verify::digest::VerityDigest;
use crate::wire::digest::BlobDigest;
use crate::wire::index::Range;
use sha2::{Digest, Sha256};

/// What became of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is written.
    Written,
    /// The base is not what its name says.
    BaseDamaged,
}

/// A range on its way.
pub(super) struct PatchedRange<'r> {
    pub range: &'r Range,
    pub base: PatchBase<'r>,
    /// The running digest of the blob, where one is taken on the way.
    pub digest: Option<&'r mut VerityDigest>,
    /// Where the scratch area is free: instructions go there that a decoder lets go of.
    history_start: u64,
    /// What it must be in the end.
    blob_digest: BlobDigest,
    patch: PatchDecoder,
    sha256: Sha256,
    /// Bytes of the slice that are written.
    done: u64,
    /// Bytes of the slice that wait in the buffer.
    waiting: usize,
}

/// Why a piece of instructions was not followed to its end.
enum Stopped {
    Error(Error),
    BaseDamaged,
}

impl<E: Into<Error>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

impl<'r> PatchedRange<'r> {
    pub fn new(
        range: &'r Range,
        base: PatchBase<'r>,
        digest: Option<&'r mut VerityDigest>,
        blob_digest: BlobDigest,
        history_start: u64,
    ) -> Self {
        Self {
            range,
            base,
            digest,
            history_start,
            blob_digest,
            patch: PatchDecoder::new(base.size, range.raw_bytes),
            sha256: Sha256::new(),
            done: 0,
            waiting: 0,
        }
    }

    /// Makes the slice of the range from its authenticated bytes. `decoder` has been started; without one they are instructions as
    /// they are. One half of `buffer` is for instructions, the other for what they make.
    pub fn make<S: Storage>(
        mut self,
        stored: &mut Stored<'_>,
        decoder: Option<&mut dyn RangeDecoder>,
        buffer: &mut [u8],
        storage: &mut S,
    ) -> Result<Outcome, Error> {
        let (instructions, made) = buffer.split_at_mut(buffer.len() / 2);
        let followed = match decoder {
            None => self.follow_all(stored, made, storage),
            Some(decoder) => self.decode(stored, decoder, instructions, made, storage),
        };
        match followed.and_then(|()| self.end(made, storage)) {
            Ok(()) if self.is_right() => Ok(Outcome::Written),
            Ok(()) | Err(Stopped::BaseDamaged) => Ok(Outcome::BaseDamaged),
            Err(Stopped::Error(error)) => Err(error),
        }
    }

    /// Whether the slice has its digest; one that is the whole blob has the blob's.
    fn is_right(&self) -> bool {
        if self.range.has_raw_sha256() {
            return self.sha256.clone().finalize().as_slice() == self.range.raw_sha256;
        }
        let digest = self
            .digest
            .as_ref()
            .map(|digest| (*digest).clone().finish());
        digest == Some(self.blob_digest)
    }

    /// Follows instructions as they are, to the end of the stream.
    fn follow_all<S: Storage>(
        &mut self,
        stored: &mut Stored<'_>,
        made: &mut [u8],
        storage: &mut S,
    ) -> Result<(), Stopped> {
        loop {
            let piece = stored.next(self.range)?;
            let bytes = piece.len();
            if bytes == 0 {
                return Ok(());
            }
            self.follow(piece, made, storage)?;
            stored.pass(bytes);
        }
    }

    /// Follows instructions that are decoded piece by piece, to the end of the stream.
    fn decode<S: Storage>(
        &mut self,
        stored: &mut Stored<'_>,
        decoder: &mut dyn RangeDecoder,
        instructions: &mut [u8],
        made: &mut [u8],
        storage: &mut S,
    ) -> Result<(), Stopped> {
        let wrong = BundleInvalid::RangeDecodes {
            stored_offset: self.range.stored_offset,
        };
        while !decoder.has_ended() {
            let mut history = Kept {
                storage,
                start: self.history_start,
                failed: None,
            };
            let (taken, decoded) = decoder
                .decode(stored.next(self.range)?, instructions, &mut history)
                .map_err(|DecodeFailed| history.failed.map_or(wrong.into(), Error::from))?;
            stored.pass(taken).ok_or(wrong)?;
            if (taken, decoded) == (0, 0) && !decoder.has_ended() {
                return Err(wrong.into());
            }
            let piece = instructions.get(..decoded).ok_or(wrong)?;
            self.follow(piece, made, storage)?;
        }
        if stored.next(self.range)?.is_empty() {
            Ok(())
        } else {
            Err(wrong.into())
        }
    }

    /// Follows a piece of the instructions.
    fn follow<S: Storage>(
        &mut self,
        mut piece: &[u8],
        made: &mut [u8],
        storage: &mut S,
    ) -> Result<(), Stopped> {
        let base = self.base;
        loop {
            let room = made.get_mut(self.waiting..).unwrap_or(&mut []);
            let progress = self.patch.decode(piece, room, |offset, buffer| {
                storage.read_base(&base, offset, buffer)
            });
            let progress = match progress {
                Ok(progress) => progress,
                Err(PatchError::Instructions(fault)) => return Err(self.wrong(fault).into()),
                Err(PatchError::Base(_)) => return Err(Stopped::BaseDamaged),
            };
            if progress.taken == 0 && !piece.is_empty() && self.patch.is_over() {
                return Err(self.wrong(PatchFault::TooLong).into());
            }
            piece = piece.get(progress.taken..).unwrap_or(&[]);
            self.waiting += progress.made;
            if self.waiting == made.len() {
                // More may be ready, even without further instructions.
                self.write(made, storage)?;
            } else if piece.is_empty() {
                return Ok(());
            }
        }
    }

    /// The stream has ended: the slice must be whole.
    fn end<S: Storage>(&mut self, made: &mut [u8], storage: &mut S) -> Result<(), Stopped> {
        if !self.patch.is_over() {
            return Err(self.wrong(PatchFault::TooShort).into());
        }
        self.write(made, storage)
    }

    /// Writes what waits in the buffer.
    fn write<S: Storage>(&mut self, made: &mut [u8], storage: &mut S) -> Result<(), Stopped> {
        let bytes = piece(made, core::mem::take(&mut self.waiting) as u64);
        if bytes.is_empty() {
            return Ok(());
        }
        self.sha256.update(&*bytes);
        if let Some(digest) = &mut self.digest {
            digest.update(bytes);
        }
        storage.write(self.range.raw_offset + self.done, bytes)?;
        self.done += bytes.len() as u64;
        Ok(())
    }

    const fn wrong(&self, fault: PatchFault) -> BundleInvalid {
        BundleInvalid::Patch {
            stored_offset: self.range.stored_offset,
            fault,
        }
    }
}

/// Instructions that a decoder let go of, in the scratch area.
struct Kept<'h, S> {
    storage: &'h mut S,
    start: u64,
    failed: Option<StorageError>,
}

impl<S: Storage> Kept<'_, S> {
    fn noted(&mut self, done: Result<(), StorageError>) -> Result<(), DecodeFailed> {
        self.failed = done.err();
        done.map_err(|_| DecodeFailed)
    }
}

impl<S: Storage> History for Kept<'_, S> {
    fn keep(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DecodeFailed> {
        let kept = self.storage.scratch_write(self.start + offset, bytes);
        self.noted(kept)
    }

    fn recall(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DecodeFailed> {
        let read = self.storage.scratch_read(self.start + offset, buffer);
        self.noted(read)
    }
}
