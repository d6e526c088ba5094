//! Applies the patches of a bundle to a base, and compares what they give with what they should give.

use std::io;

use sha2::{Digest, Sha256};
use twinseal_core::decode::{Inflate, RangeDecoder};
use twinseal_core::patch::{PatchDecoder, PatchError, PatchFault};
use twinseal_core::verify::digest::VerityDigest;
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::{Encoding, Range};

use super::content::BaseContent;
use crate::error::Error;
use crate::read::{Bundle, ZstdDecoder, decode_stream};

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
        let mut decoder: Option<&mut dyn RangeDecoder> = match range.encoding {
            Encoding::Stored => None,
            Encoding::Deflate => Some(&mut *inflate),
            Encoding::Zstd => Some(&mut zstd),
        };
        if let Some(decoder) = &mut decoder {
            decoder.start(window_log);
        }
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
    decoder: Option<&mut dyn RangeDecoder>,
    range: &Range,
    base: &BaseContent,
) -> Result<Vec<u8>, ApplyFault> {
    let mut patch = PatchDecoder::new(base.bytes(), range.raw_bytes);
    let mut slice = vec![0; range.raw_bytes as usize];
    let mut made = 0;
    let mut follow = |mut piece: &[u8]| {
        while !piece.is_empty() {
            if patch.is_over() {
                return Err(ApplyFault::Instructions(PatchFault::TooLong));
            }
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
        Ok(())
    };
    let wrong = || ApplyFault::Decode;
    match decoder {
        Some(decoder) => decode_stream(decoder, stored, &mut vec![0; PIECE_BYTES], wrong, follow)?,
        None => follow(stored)?,
    }
    if patch.is_over() {
        Ok(slice)
    } else {
        Err(ApplyFault::Instructions(PatchFault::TooShort))
    }
}
