//! Applies the patches of a bundle to a base, and compares what they give with what they should give.

use std::io;

use sha2::{Digest, Sha256};
use twinseal_core::decode::{DecodeFailed, History, Inflate, NoHistory, RangeDecoder};
use twinseal_core::patch::{PatchDecoder, PatchError, PatchFault};
use twinseal_core::verify::digest::VerityDigest;
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::{Encoding, Range};

use super::content::BaseContent;
use crate::error::Error;
use crate::read::{Bundle, ZstdDecoder};

/// Bytes that are decoded at once.
const PIECE_BYTES: usize = 256 * 1024;

/// Why a patch is no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyFault {
    /// The base could not be read.
    #[error("the base cannot be read: {0}")]
    Base(io::ErrorKind),
    /// The instructions cannot be decompressed.
    #[error("its instructions cannot be decompressed")]
    Decode,
    /// The instructions are wrong.
    #[error("its instructions are wrong ({0:?})")]
    Instructions(PatchFault),
    /// A range gives other bytes than it states.
    #[error("the range at byte {0} of the data gives other bytes than it states")]
    Range(u64),
    /// The base has another size than the index says.
    #[error("its base has another size than the index says")]
    BaseSize,
    /// The blob has another digest.
    #[error("it gives another blob")]
    Digest,
}

/// Applies every range of a patch of `target` to `base`; gives what is wrong with it, if anything.
///
/// # Errors
/// [`Error::Bundle`] when the stored bytes are damaged.
pub fn check_alternative(
    bundle: &Bundle,
    ranges: &[Range],
    target: &BlobDigest,
    base: &BaseContent,
) -> Result<Option<ApplyFault>, Error> {
    let mut digest = VerityDigest::new();
    let (mut inflate, mut zstd) = (Box::new(Inflate::new()), ZstdDecoder::new());
    let window_log = bundle.manifest().needs.zstd_window_log;
    for range in ranges {
        let stored = bundle.stored(range)?;
        let mut as_it_is = AsItIs;
        let decoder: &mut dyn RangeDecoder = match range.encoding {
            Encoding::Stored => &mut as_it_is,
            Encoding::Deflate => &mut *inflate,
            Encoding::Zstd => &mut zstd,
        };
        decoder.start(window_log);
        let slice = match apply_range(&stored, decoder, range, base) {
            Ok(slice) => slice,
            Err(fault) => return Ok(Some(fault)),
        };
        // A range that gives its whole blob has no digest of its own.
        if range.has_raw_sha256() && Sha256::digest(&slice).as_slice() != range.raw_sha256 {
            return Ok(Some(ApplyFault::Range(range.stored_offset)));
        }
        digest.update(&slice);
    }
    Ok((digest.finish() != *target).then_some(ApplyFault::Digest))
}

fn apply_range(
    stored: &[u8],
    decoder: &mut dyn RangeDecoder,
    range: &Range,
    base: &BaseContent,
) -> Result<Vec<u8>, ApplyFault> {
    let mut patch = PatchDecoder::new(base.bytes(), range.raw_bytes);
    let mut slice = vec![0; range.raw_bytes as usize];
    let mut pieces = vec![0; PIECE_BYTES];
    let (mut input, mut made) = (stored, 0);
    while !patch.is_over() {
        let (taken, decoded) = decoder
            .decode(input, &mut pieces, &mut NoHistory)
            .map_err(|_| ApplyFault::Decode)?;
        input = input.get(taken..).ok_or(ApplyFault::Decode)?;
        let mut piece = pieces.get(..decoded).ok_or(ApplyFault::Decode)?;
        if taken == 0 && decoded == 0 {
            return Err(ApplyFault::Instructions(PatchFault::TooShort));
        }
        while !piece.is_empty() && !patch.is_over() {
            let room = slice.get_mut(made..).unwrap_or_default();
            let read = |offset: u64, buffer: &mut [u8]| base.read_at(offset, buffer);
            let progress = patch
                .decode(piece, room, read)
                .map_err(|error| match error {
                    PatchError::Instructions(fault) => ApplyFault::Instructions(fault),
                    PatchError::Base(error) => ApplyFault::Base(error.kind()),
                })?;
            made += progress.made;
            piece = piece.get(progress.taken..).unwrap_or_default();
        }
        if !piece.is_empty() {
            return Err(ApplyFault::Instructions(PatchFault::TooLong));
        }
    }
    Ok(slice)
}

/// Instructions that were not compressed.
struct AsItIs;

impl RangeDecoder for AsItIs {
    fn start(&mut self, _window_log: u8) {}

    fn decode(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        _history: &mut dyn History,
    ) -> Result<(usize, usize), DecodeFailed> {
        let bytes = input.len().min(output.len());
        let (Some(from), Some(to)) = (input.get(..bytes), output.get_mut(..bytes)) else {
            return Err(DecodeFailed);
        };
        to.copy_from_slice(from);
        Ok((bytes, bytes))
    }
}
