//! The content of one blob: ranges read, checked, decoded, and the whole compared with its name.
//!
//! # Invariants
//! - A range reaches a decoder only when its stored bytes have the digest that the index says.

use std::io::Write;
use std::path::Path;

use sha2::{Digest, Sha256};
use twinseal_core::decode::{Inflate, RangeDecoder};
use twinseal_core::error::{BundleInvalid, Field, Part};
use twinseal_core::verify::digest::VerityDigest;
use twinseal_core::wire::index::{Encoding, Range};

use super::{Bundle, IndexedBlob, PIECE_BYTES, ZstdDecoder, core, decode_stream};
use crate::error::{Error, FileOperation};

impl Bundle {
    /// The stored bytes of a range; their digest is right.
    ///
    /// # Errors
    /// [`Error::Bundle`] when the range is not in the data, or damaged.
    pub fn stored(&self, range: &Range) -> Result<Vec<u8>, Error> {
        let place = self
            .layout()
            .data(range.stored_offset, u64::from(range.stored_bytes));
        let (_, place) = place.ok_or_else(|| {
            core(BundleInvalid::Field {
                field: Field::DataParts,
            })
        })?;
        let mut stored = vec![0; range.stored_bytes as usize];
        self.read_at(place.offset, &mut stored, Part::Data)?;
        if Sha256::digest(&stored).as_slice() == range.stored_sha256 {
            return Ok(stored);
        }
        Err(core(BundleInvalid::RangeDamaged {
            stored_offset: range.stored_offset,
        }))
    }

    /// Writes the content of a blob to `out`, every range and the whole checked.
    ///
    /// # Errors
    /// [`Error::Bundle`] when the content is damaged; what was written must not be used then. `target` names `out` when it
    /// cannot be written.
    pub fn read_blob(
        &self,
        blob: &IndexedBlob,
        out: &mut dyn Write,
        target: &Path,
    ) -> Result<(), Error> {
        let mut reader = BlobReader::new(self);
        for range in &blob.ranges {
            reader.range(range, out, target)?;
        }
        if reader.digest.finish() == blob.blob.digest {
            return Ok(());
        }
        Err(core(BundleInvalid::BlobDigest {
            digest: blob.blob.digest,
        }))
    }
}

/// Decodes the ranges of one blob.
struct BlobReader<'b> {
    bundle: &'b Bundle,
    digest: VerityDigest,
    inflate: Inflate,
    zstd: ZstdDecoder,
    output: Vec<u8>,
}

impl<'b> BlobReader<'b> {
    fn new(bundle: &'b Bundle) -> Self {
        let (inflate, zstd) = (Inflate::new(), ZstdDecoder::new());
        Self {
            bundle,
            digest: VerityDigest::new(),
            inflate,
            zstd,
            output: vec![0; PIECE_BYTES],
        }
    }

    fn range(&mut self, range: &Range, out: &mut dyn Write, target: &Path) -> Result<(), Error> {
        let stored = self.bundle.stored(range)?;
        let decoder: &mut dyn RangeDecoder = match range.encoding {
            Encoding::Stored => {
                self.digest.update(&stored);
                return out
                    .write_all(&stored)
                    .map_err(FileOperation::Write.on(target));
            }
            Encoding::Deflate => &mut self.inflate,
            Encoding::Zstd => &mut self.zstd,
        };
        decoder.start(self.bundle.manifest.needs.zstd_window_log);
        let wrong = || {
            core(BundleInvalid::RangeDecodes {
                stored_offset: range.stored_offset,
            })
        };
        let mut made_bytes = 0;
        let mut take = |made: &[u8]| {
            made_bytes += made.len();
            if made_bytes > range.raw_bytes as usize {
                return Err(wrong());
            }
            self.digest.update(made);
            out.write_all(made).map_err(FileOperation::Write.on(target))
        };
        decode_stream(decoder, &stored, &mut self.output, wrong, &mut take)?;
        if made_bytes < range.raw_bytes as usize {
            return Err(wrong());
        }
        Ok(())
    }
}
