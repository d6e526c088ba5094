//! The blobs of a plan as one stream of pieces, each of which becomes a range.
//!
//! # Invariants
//! - A blob's digest is of the very bytes that were handed out, so a file that changes between two looks cannot get a wrong
//!   name: it gets another one, and a size that differs from the planned one is an error.
//! - One piece is in memory at a time.

use std::io::{self, Read};
use std::path::Path;

use twinseal_core::verify::digest::VerityDigest;
use twinseal_core::wire::digest::BlobDigest;

use super::plan::BlobPlan;
use crate::error::{Error, FileOperation};

/// A run of bytes of one blob.
pub struct Piece {
    /// Position of the blob in the plan.
    pub blob: usize,
    /// The bytes; never none.
    pub raw: Vec<u8>,
}

/// Reads the blobs one after another.
pub struct Pieces<'p> {
    blobs: &'p [BlobPlan<'p>],
    piece_bytes: usize,
    zeros_bytes: usize,
    /// Position of the blob that is open, or of the next one.
    blob: usize,
    open: Option<Open<'p>>,
    digests: Vec<BlobDigest>,
}

struct Open<'p> {
    reader: Box<dyn Read + 'p>,
    /// The running digest, unless the digest is known.
    digest: Option<VerityDigest>,
    left: u64,
    /// The piece behind the zeros that were handed out last.
    ahead: Option<Vec<u8>>,
}

impl<'p> Pieces<'p> {
    /// Starts at the first byte of the first blob. A piece has up to `piece_bytes`, one of zeros alone up to `zeros_bytes`.
    pub fn new(blobs: &'p [BlobPlan<'p>], piece_bytes: u32, zeros_bytes: u32) -> Self {
        Self {
            blobs,
            piece_bytes: piece_bytes as usize,
            zeros_bytes: zeros_bytes as usize,
            blob: 0,
            open: None,
            digests: Vec::with_capacity(blobs.len()),
        }
    }

    /// The next piece; `None` after the last.
    ///
    /// # Errors
    /// When a blob cannot be read or has another size than planned.
    pub fn next(&mut self) -> Result<Option<Piece>, Error> {
        while let Some(plan) = self.blobs.get(self.blob) {
            let open = match &mut self.open {
                Some(open) => open,
                closed => closed.insert(Open::new(plan)?),
            };
            if let Some(raw) = open.next(plan, self.piece_bytes, self.zeros_bytes)? {
                return Ok(Some(Piece {
                    blob: self.blob,
                    raw,
                }));
            }
            let digest = self
                .open
                .take()
                .and_then(|open| open.digest)
                .map(VerityDigest::finish)
                .or(plan.digest);
            self.digests.extend(digest);
            self.blob += 1;
        }
        Ok(None)
    }

    /// The digests of the blobs that have been read whole, in their order.
    pub fn into_digests(self) -> Vec<BlobDigest> {
        self.digests
    }
}

impl<'p> Open<'p> {
    fn new(plan: &'p BlobPlan<'p>) -> Result<Self, Error> {
        let digest = plan.digest.is_none().then(VerityDigest::new);
        Ok(Self {
            reader: plan.open()?,
            digest,
            left: plan.size,
            ahead: None,
        })
    }

    fn next(
        &mut self,
        plan: &BlobPlan<'_>,
        piece_bytes: usize,
        zeros_bytes: usize,
    ) -> Result<Option<Vec<u8>>, Error> {
        let ahead = self.ahead.take();
        let next = ahead.map_or_else(|| self.read(plan, piece_bytes), |piece| Ok(Some(piece)));
        let Some(mut raw) = next? else {
            return Ok(None);
        };
        let zeros = is_zero(&raw);
        while zeros && raw.len() + piece_bytes <= zeros_bytes {
            self.ahead = self.read(plan, piece_bytes)?;
            match self.ahead.take_if(|piece| is_zero(piece)) {
                Some(more) => raw.resize(raw.len() + more.len(), 0),
                None => break,
            }
        }
        Ok(Some(raw))
    }

    fn read(&mut self, plan: &BlobPlan<'_>, piece_bytes: usize) -> Result<Option<Vec<u8>>, Error> {
        let failed = |error| FileOperation::Read.on(Path::new(&plan.describe()))(error);
        let length = usize::try_from(self.left).map_or(piece_bytes, |left| left.min(piece_bytes));
        let mut raw = vec![0; length];
        if length == 0 {
            // A file that grew must not be cut in silence.
            let more = self.reader.read(&mut [0]).map_err(failed)?;
            return if more == 0 {
                Ok(None)
            } else {
                Err(failed(changed()))
            };
        }
        self.reader
            .read_exact(&mut raw)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => failed(changed()),
                _ => failed(error),
            })?;
        self.left -= length as u64;
        self.digest
            .iter_mut()
            .for_each(|digest| digest.update(&raw));
        Ok(Some(raw))
    }
}

/// Whether there is nothing but zeros.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn changed() -> io::Error {
    io::Error::other(
        "it changed while it was being read; stop whatever writes there and build again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assemble::plan::Target;

    /// Blob and length of every piece.
    type Lengths = Vec<(usize, usize)>;

    fn all(blobs: &[BlobPlan<'_>]) -> Result<(Lengths, Vec<BlobDigest>), Error> {
        let mut pieces = Pieces::new(blobs, 4096, 3 * 4096);
        let mut list = Vec::new();
        while let Some(piece) = pieces.next()? {
            list.push((piece.blob, piece.raw.len()));
        }
        Ok((list, pieces.into_digests()))
    }

    #[test]
    fn blobs_are_cut_and_named() {
        let (first, none, second) = (vec![1; 10_000], Vec::new(), vec![2; 4096]);
        let blobs = [&first, &none, &second].map(|bytes| BlobPlan::bytes(Target::Composefs, bytes));
        let (pieces, digests) = all(&blobs).unwrap();
        assert_eq!(pieces, [(0, 4096), (0, 4096), (0, 1808), (2, 4096)]);
        let mut expected = VerityDigest::new();
        expected.update(&first);
        assert_eq!(digests.len(), 3);
        assert_eq!(digests[0], expected.finish());
    }

    #[test]
    fn zeros_come_in_long_pieces_at_the_places_of_short_ones() {
        let mut sparse = vec![0; 9 * 4096 + 100];
        let (short, changed) = (sparse.clone(), 5 * 4096 + 7);
        sparse[changed] = 1;
        let blobs = [&sparse, &short].map(|bytes| BlobPlan::bytes(Target::Composefs, bytes));
        let (pieces, digests) = all(&blobs).unwrap();
        let of = |blob: usize, pages: &[usize]| -> Lengths {
            let pieces = pages.iter().map(|pages| (blob, pages * 4096));
            pieces.collect()
        };
        let mut expected = of(0, &[3, 2, 1, 3]);
        expected.push((0, 100));
        expected.extend(of(1, &[3, 3, 3]));
        expected.push((1, 100));
        assert_eq!(pieces, expected);
        let mut digest = VerityDigest::new();
        digest.update(&sparse);
        assert_eq!(digests[0], digest.finish());
    }

    #[test]
    fn a_blob_of_another_size_than_planned_is_refused() {
        for planned in [9, 11] {
            let blob = BlobPlan {
                size: planned,
                ..BlobPlan::bytes(Target::Uki, &[0; 10])
            };
            let error = all(&[blob]).unwrap_err();
            assert!(
                error
                    .to_string()
                    .contains("changed while it was being read"),
                "{error}"
            );
        }
    }
}
