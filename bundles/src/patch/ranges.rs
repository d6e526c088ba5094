//! Operations cut into ranges, each compressed by itself and each proved with core's own decoder.
//!
//! # Invariants
//! - A range that is handed out gives exactly its slice when core applies it to the base.
//! - No stored range is longer than asked for, and no slice longer than the format allows.

use std::io;

use sha2::{Digest, Sha256};
use twinseal_core::patch::{PatchFault, apply};
use twinseal_core::wire::RANGE_RAW_MAX_BYTES;
use twinseal_core::wire::index::Encoding;
use zstd::bulk::Compressor;

use super::matches::Operations;
use super::stream::instructions;
use crate::assemble::{Compression, Encoded, EncodingOptions};
use crate::assemble::{compress_zstd, frame_window_log, zstd_compressor};

/// Patches are small, and made once for many devices: the level that is worth it.
const ZSTD_LEVEL: i32 = 22;

/// The same for DEFLATE.
const DEFLATE_LEVEL: u8 = 10;

/// A slice so short whose instructions still do not fit a range is no use as a patch.
const SLICE_MIN_BYTES: usize = 4096;

/// A part of a base blob.
#[derive(Clone, Copy, Debug)]
pub struct Window<'b> {
    /// Its bytes.
    pub bytes: &'b [u8],
    /// Where they start in the base.
    pub offset: u64,
}

/// Makes the ranges of patches; every thread has its own.
pub struct RangeEncoder {
    zstd: Option<Compressor<'static>>,
    range_bytes: usize,
}

impl RangeEncoder {
    /// An encoder for a bundle with these options: no range is longer than theirs, and zstd is used where they use it.
    ///
    /// # Errors
    /// When zstd refuses its level.
    pub fn new(options: EncodingOptions) -> io::Result<Self> {
        let level = options.level.max(ZSTD_LEVEL);
        let zstd = match options.compression {
            Compression::Zstd => Some(zstd_compressor(level)?),
            Compression::Deflate | Compression::None => None,
        };
        Ok(Self {
            zstd,
            range_bytes: options.range_bytes as usize,
        })
    }

    /// The ranges that make `new`; `None` when a patch is no use here.
    ///
    /// # Errors
    /// When zstd fails, or the patch does not give what it should, which is our own mistake.
    pub fn encode(
        &mut self,
        operations: &Operations,
        base: Window<'_>,
        new: &[u8],
    ) -> io::Result<Option<Vec<Encoded>>> {
        let mut ranges = Vec::new();
        let mut offset = 0;
        for slice in new.chunks(RANGE_RAW_MAX_BYTES as usize) {
            if !self.encode_slice(operations, base, slice, offset, &mut ranges)? {
                return Ok(None);
            }
            offset += slice.len() as u64;
        }
        Ok(Some(ranges))
    }

    /// Encodes a slice in one range, or in two halves.
    fn encode_slice(
        &mut self,
        operations: &Operations,
        base: Window<'_>,
        slice: &[u8],
        offset: u64,
        ranges: &mut Vec<Encoded>,
    ) -> io::Result<bool> {
        let operations_here = operations.slice(offset, slice.len() as u64);
        let stream = instructions(&operations_here, base.bytes, base.offset, slice);
        let (encoding, window_log, stored) = self.compress(&stream)?;
        if stored.len() > self.range_bytes {
            if slice.len() <= SLICE_MIN_BYTES {
                return Ok(false);
            }
            let (first, second) = slice.split_at(slice.len() / 2);
            return Ok(self.encode_slice(operations, base, first, offset, ranges)?
                && self.encode_slice(
                    operations,
                    base,
                    second,
                    offset + first.len() as u64,
                    ranges,
                )?);
        }
        prove(&stream, base, slice).map_err(io::Error::other)?;
        ranges.push(Encoded {
            encoding,
            window_log,
            raw_bytes: slice.len() as u32,
            raw_sha256: Sha256::digest(slice).into(),
            stored_sha256: Sha256::digest(&stored).into(),
            stored,
        });
        Ok(true)
    }

    /// The shortest form of a stream. DEFLATE has no header, so the shortest streams are shorter with it than with zstd.
    fn compress(&mut self, stream: &[u8]) -> io::Result<(Encoding, u8, Vec<u8>)> {
        let mut best = (Encoding::Stored, 0, stream.to_vec());
        if let Some(compressor) = &mut self.zstd {
            let frame = compress_zstd(compressor, stream, stream.len())?;
            if frame.len() < best.2.len() {
                best = (Encoding::Zstd, frame_window_log(&frame)?, frame);
            }
        }
        // Beyond some kilobytes zstd is always shorter.
        if self.zstd.is_none() || best.2.len() < SLICE_MIN_BYTES {
            let deflated = miniz_oxide::deflate::compress_to_vec(stream, DEFLATE_LEVEL);
            if deflated.len() < best.2.len() {
                best = (Encoding::Deflate, 0, deflated);
            }
        }
        Ok(best)
    }
}

/// Applies instructions as a device does, and compares.
fn prove(stream: &[u8], base: Window<'_>, slice: &[u8]) -> Result<(), ProofFailed> {
    let mut made = vec![0; slice.len()];
    apply_in_window(base, stream, &mut made).map_err(ProofFailed::Instructions)?;
    if made == slice {
        Ok(())
    } else {
        Err(ProofFailed::Differs)
    }
}

/// As [`apply`], for a window of a base whose end nobody reaches.
fn apply_in_window(base: Window<'_>, stream: &[u8], slice: &mut [u8]) -> Result<(), PatchFault> {
    use twinseal_core::patch::{PatchDecoder, PatchError};
    if base.offset == 0 {
        return apply(base.bytes, stream, slice);
    }
    let base_bytes = base.offset + base.bytes.len() as u64;
    let mut decoder = PatchDecoder::new(base_bytes, slice.len() as u32);
    let read = |offset: u64, buffer: &mut [u8]| {
        let from = offset
            .checked_sub(base.offset)
            .and_then(|start| base.bytes.get(start as usize..)?.get(..buffer.len()));
        buffer.copy_from_slice(from.ok_or(PatchFault::BeyondBase)?);
        Ok(())
    };
    let progress = decoder.decode(stream, slice, read);
    match progress {
        Ok(progress) if decoder.is_over() && progress.taken == stream.len() => Ok(()),
        Ok(_) => Err(PatchFault::TooShort),
        Err(PatchError::Instructions(fault) | PatchError::Base(fault)) => Err(fault),
    }
}

/// A patch that was just made is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum ProofFailed {
    #[error("a patch that was just made is refused ({0:?}); this is a mistake in this program")]
    Instructions(PatchFault),
    #[error("a patch that was just made gives other bytes; this is a mistake in this program")]
    Differs,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(options: EncodingOptions, base: &[u8], new: &[u8]) -> Option<Vec<Encoded>> {
        let mut operations = Operations::default();
        operations.find(base, 0, new);
        let window = Window {
            bytes: base,
            offset: 0,
        };
        RangeEncoder::new(options)
            .unwrap()
            .encode(&operations, window, new)
            .unwrap()
    }

    fn options(compression: Compression, range_bytes: u32) -> EncodingOptions {
        EncodingOptions {
            compression,
            level: 1,
            range_bytes,
        }
    }

    /// Bytes that no encoder can shorten.
    fn noise(length: usize) -> Vec<u8> {
        let blocks =
            (0u64..).flat_map(|number| <[u8; 32]>::from(Sha256::digest(number.to_le_bytes())));
        blocks.take(length).collect()
    }

    #[test]
    fn ranges_are_as_short_as_asked_for_and_cover_everything() {
        let (base, new) = (vec![7; 100], noise(100_000));
        let ranges = encode(options(Compression::Zstd, 8192), &base, &new).unwrap();
        assert!(ranges.len() >= 13);
        assert!(ranges.iter().all(|range| range.stored.len() <= 8192));
        let raw: u64 = ranges.iter().map(|range| u64::from(range.raw_bytes)).sum();
        assert_eq!(raw, 100_000);
    }

    #[test]
    fn a_small_change_costs_little_and_the_smallest_encoding_wins() {
        let base = noise(1 << 20);
        let mut new = base.clone();
        new[500_000] ^= 0x55;
        new.splice(700_000..700_000, *b"inserted");
        for compression in [Compression::Zstd, Compression::Deflate, Compression::None] {
            let ranges = encode(options(compression, 1 << 20), &base, &new).unwrap();
            let [range] = &ranges[..] else {
                panic!("{}", ranges.len())
            };
            assert!(
                range.stored.len() < 1200,
                "{compression:?} {}",
                range.stored.len()
            );
            let zstd = range.encoding == Encoding::Zstd;
            assert_eq!(zstd, range.window_log > 0);
            assert!(!zstd || compression == Compression::Zstd, "{compression:?}");
        }
        let tiny = encode(
            options(Compression::Zstd, 1 << 20),
            b"version 1 of this",
            b"version 2 of this",
        );
        assert!(tiny.unwrap()[0].stored.len() < 20);
    }

    #[test]
    fn wrong_instructions_are_noticed() {
        let base = Window {
            bytes: b"base",
            offset: 0,
        };
        assert_eq!(prove(&[1, 0, 0, 1, b'x'], base, b"x"), Ok(()));
        assert_eq!(
            prove(&[1, 0, 0, 1, b'x'], base, b"y"),
            Err(ProofFailed::Differs)
        );
        let short = prove(&[1, 0, 0, 1], base, b"y");
        assert_eq!(short, Err(ProofFailed::Instructions(PatchFault::TooShort)));
    }
}
