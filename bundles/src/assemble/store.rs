//! The data of a bundle: every piece encoded, on all processors, and written in order to a temporary file.
//!
//! # Invariants
//! - Ranges stand in the order of the pieces, whatever thread was faster.
//! - Memory is bounded by two batches of pieces, whatever the size of the blobs.

use std::fs::File;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::Range;
use twinseal_core::wire::manifest::Needs;

use super::encode::{Encoded, Encoder, EncodingOptions};
use super::pieces::{Piece, Pieces};
use super::plan::{BlobPlan, Target};
use super::writer::{DataWriter, whole_has_no_digest};
use crate::error::Error;

/// Bytes of pieces in a batch. Large enough that threads seldom wait for each other at its end.
const BATCH_BYTES: usize = 32 * 1024 * 1024;

/// Pieces in a batch: small objects need a bound too.
const BATCH_PIECES: usize = 4096;

/// Fewest threads that encode. One alone would leave the disk idle.
const THREADS_MIN: usize = 2;

/// A blob whose ranges have been written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlob {
    /// What it is and where it goes.
    pub target: Target,
    /// Its name.
    pub digest: BlobDigest,
    /// Its size in bytes.
    pub size: u64,
    /// Its ranges, in order; none for an empty blob.
    pub ranges: Vec<Range>,
}

impl StoredBlob {
    /// Bytes of its ranges.
    pub fn stored_bytes(&self) -> u64 {
        stored_bytes(&self.ranges)
    }
}

/// Stored bytes of ranges.
pub(crate) fn stored_bytes(ranges: &[Range]) -> u64 {
    ranges
        .iter()
        .map(|range| u64::from(range.stored_bytes))
        .sum()
}

/// The data of a bundle and what the index and the manifest say about it.
#[derive(Debug)]
pub struct Stored {
    /// The blobs of the plan, in their order.
    pub blobs: Vec<StoredBlob>,
    /// Sizes of the `data` entries.
    pub parts: Vec<u64>,
    /// What a device needs to read it.
    pub needs: Needs,
}

/// Encodes `blobs` and writes their ranges to `data`, which stands at its start; `path` names it in errors. `part_max_bytes` is
/// [`twinseal_core::wire::DATA_PART_MAX_BYTES`], or less in a test.
///
/// # Errors
/// When a blob cannot be read, a range cannot be encoded, or the data cannot be written.
pub fn store(
    blobs: &[BlobPlan<'_>],
    options: EncodingOptions,
    part_max_bytes: u64,
    data: &File,
    path: &Path,
) -> Result<Stored, Error> {
    let mut pieces = Pieces::new(blobs, options.range_bytes, options.zeros_bytes());
    let writer = DataWriter::new(data, path, part_max_bytes);
    let mut writer = BlobWriter::new(writer, blobs.len());
    let mut batch = next_batch(&mut pieces)?;
    while !batch.is_empty() {
        let (encoded, next) = encode_batch(batch, options, || next_batch(&mut pieces))?;
        for (blob, range) in encoded {
            writer.push(blob, &range)?;
        }
        batch = next;
    }
    writer.finish(blobs, pieces.into_digests())
}

fn next_batch(pieces: &mut Pieces<'_>) -> Result<Vec<Piece>, Error> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while bytes < BATCH_BYTES && batch.len() < BATCH_PIECES {
        let Some(piece) = pieces.next()? else { break };
        bytes += piece.raw.len();
        batch.push(piece);
    }
    Ok(batch)
}

type EncodedPieces = Vec<(usize, Encoded)>;

/// Encodes a batch on all processors, and meanwhile has `next` read the one after it.
fn encode_batch<N>(
    batch: Vec<Piece>,
    options: EncodingOptions,
    next: N,
) -> Result<(EncodedPieces, Vec<Piece>), Error>
where
    N: FnOnce() -> Result<Vec<Piece>, Error>,
{
    let threads = thread::available_parallelism()
        .map_or(THREADS_MIN, usize::from)
        .max(THREADS_MIN);
    // Largest first would be faster still, but pieces of a large blob all have the same size.
    let waiting: Vec<Mutex<Option<Piece>>> = batch
        .into_iter()
        .map(|piece| Mutex::new(Some(piece)))
        .collect();
    let taken = AtomicUsize::new(0);
    let work = || -> std::io::Result<Vec<(usize, usize, Encoded)>> {
        let mut encoder = Encoder::new(options)?;
        let mut done = Vec::new();
        loop {
            let position = taken.fetch_add(1, Ordering::Relaxed);
            let Some(place) = waiting.get(position) else {
                return Ok(done);
            };
            let piece = place
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .take();
            if let Some(piece) = piece {
                done.push((position, piece.blob, encoder.encode(piece.raw)?));
            }
        }
    };
    let (results, next) = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let next = next();
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        (results, next)
    });
    let mut encoded = Vec::with_capacity(waiting.len());
    for result in results {
        let result = result.unwrap_or_else(|_| Err(std::io::Error::other("a thread stopped")));
        encoded.extend(result.map_err(Error::Compress)?);
    }
    encoded.sort_unstable_by_key(|(position, _, _)| *position);
    Ok((
        encoded
            .into_iter()
            .map(|(_, blob, encoded)| (blob, encoded))
            .collect(),
        next?,
    ))
}

/// Notes the ranges of each blob.
struct BlobWriter<'d> {
    data: DataWriter<'d>,
    ranges: Vec<Vec<Range>>,
    /// The current blob, and how many of its bytes have been written.
    raw: (usize, u64),
}

impl<'d> BlobWriter<'d> {
    fn new(data: DataWriter<'d>, blobs: usize) -> Self {
        Self {
            data,
            ranges: vec![Vec::new(); blobs],
            raw: (0, 0),
        }
    }

    fn push(&mut self, blob: usize, encoded: &Encoded) -> Result<(), Error> {
        if self.raw.0 != blob {
            self.raw = (blob, 0);
        }
        let range = self.data.push(encoded, self.raw.1)?;
        self.raw.1 += u64::from(encoded.raw_bytes);
        if let Some(ranges) = self.ranges.get_mut(blob) {
            ranges.push(range);
        }
        Ok(())
    }

    fn finish(self, blobs: &[BlobPlan<'_>], digests: Vec<BlobDigest>) -> Result<Stored, Error> {
        let (parts, needs) = self.data.finish()?;
        let mut ranges = self.ranges;
        ranges
            .iter_mut()
            .for_each(|ranges| whole_has_no_digest(ranges));
        let all = blobs.iter().zip(digests).zip(ranges);
        let blobs = all.map(|((plan, digest), ranges)| StoredBlob {
            target: plan.target.clone(),
            digest,
            size: plan.size,
            ranges,
        });
        Ok(Stored {
            blobs: blobs.collect(),
            parts,
            needs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assemble::encode::Compression;
    use std::io::{Read, Seek};

    fn stored(
        blobs: &[Vec<u8>],
        compression: Compression,
        range_bytes: u32,
        part_max_bytes: u64,
    ) -> (Stored, Vec<u8>) {
        let plans: Vec<_> = blobs
            .iter()
            .map(|bytes| BlobPlan::bytes(Target::Composefs, bytes))
            .collect();
        let options = EncodingOptions {
            compression,
            level: compression.default_level(),
            range_bytes,
        };
        let mut file = tempfile::tempfile().unwrap();
        let stored = store(&plans, options, part_max_bytes, &file, Path::new("data")).unwrap();
        let mut data = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut data).unwrap();
        (stored, data)
    }

    #[test]
    fn parts_end_before_their_limit_and_ranges_stay_whole() {
        let blobs = [vec![1; 10_000], vec![2; 5000], vec![3; 4096]];
        let exactly = stored(&blobs, Compression::None, 4096, 10_000).0;
        assert_eq!(
            exactly.parts,
            [10_000, 9096],
            "4096 + 4096 + 1808, 4096 + 904 + 4096"
        );
        let (stored, data) = stored(&blobs, Compression::None, 4096, 9_999);
        assert_eq!(
            stored.parts,
            [8192, 6808, 4096],
            "4096 + 4096, 1808 + 4096 + 904, 4096"
        );
        assert_eq!(data.len() as u64, stored.parts.iter().sum::<u64>());
        let mut next = 0;
        for range in stored.blobs.iter().flat_map(|blob| &blob.ranges) {
            assert_eq!(range.stored_offset, next);
            next += u64::from(range.stored_bytes);
        }
        assert_eq!(
            stored.needs,
            Needs {
                range_bytes: 4096,
                zstd_window_log: 0
            }
        );
        let offsets: Vec<u64> = stored.blobs[0]
            .ranges
            .iter()
            .map(|range| range.raw_offset)
            .collect();
        assert_eq!(offsets, [0, 4096, 8192]);
    }

    #[test]
    fn a_range_as_long_as_a_part_has_one_of_its_own() {
        let (stored, _) = stored(
            &[vec![1; 8192], vec![2; 100]],
            Compression::None,
            4096,
            4096,
        );
        assert_eq!(stored.parts, [4096, 4096, 100]);
    }

    #[test]
    fn many_threads_and_batches_keep_the_order() {
        let blobs: Vec<Vec<u8>> = (0..10_000u32)
            .map(|number| number.to_le_bytes().repeat(20))
            .collect();
        let (first, data) = stored(&blobs, Compression::Zstd, 4096, u64::MAX);
        let (second, again) = stored(&blobs, Compression::Zstd, 4096, u64::MAX);
        assert_eq!((first.blobs, &data), (second.blobs, &again));
        let (plain, raw) = stored(&blobs, Compression::None, 4096, u64::MAX);
        assert_eq!(raw, blobs.concat());
        assert_eq!(plain.blobs.len(), blobs.len());
    }
}
