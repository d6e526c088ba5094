//! Patches: how a blob is made from one that a base release has (method 1 of an alternative).
//!
//! ```text
//! paths, sketches ──pairs──▶ base blob ──matches──▶ operations ──stream, ranges──▶ ranges, each applied again and compared
//! ```
//!
//! # Invariants
//! - A patch that is handed out has been applied by core's decoder and gave the blob.
//! - The same releases give the same patches, with any number of threads.
//! - Memory: suffix arrays, bases and new blobs of all threads take at most [`MEMORY_BYTES`] together, patches that wait to be
//!   written at most [`BATCH_BYTES`], and the sketch of a base a kilobyte for each object. No size of a blob changes that.
//! - Work: every object is compared with at most four others, and a large one with none that it has nothing in common with.
//!
//! A blob that no patch pays for may be among the patches all the same (`lone.rs`).

mod apply;
mod content;
mod gate;
mod lone;
mod matches;
mod pairs;
mod ranges;
mod sketch;
mod stream;

pub use apply::{ApplyFault, check_alternative};
pub use content::BaseContent;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use twinseal_core::wire::index::{Blob, Role};

use crate::assemble::{
    BaseRelease, BlobPlan, Content, Encoded, EncodingOptions, StoredBlob, Target,
};
use crate::error::{Error, FileOperation};
use gate::Gate;
use matches::Operations;
use pairs::{Contents, Paths, paths_by_digest};
use ranges::{RangeEncoder, Window};
use sketch::{Sketch, Sketcher};

/// Most memory that all threads take together for what they compare: a device's UKI on a laptop, or two large files.
pub const MEMORY_BYTES: u64 = 1 << 30;

/// Blobs up to this size are compared whole. Of larger ones each `SEGMENT_BYTES` are compared with so much of the base.
pub const WINDOW_BYTES: u64 = 64 << 20;

/// How much of a large blob is compared at once.
const SEGMENT_BYTES: u64 = WINDOW_BYTES / 2;

/// Bytes of blobs whose patches are made before any of them is written.
pub const BATCH_BYTES: u64 = 256 << 20;

/// For each byte of a base: itself, and its place in the suffix array.
const MEMORY_PER_BASE_BYTE: u64 = 5;

/// For each byte of a new blob: itself, a copy without constant runs, the instructions, and what core makes of them.
const MEMORY_PER_NEW_BYTE: u64 = 4;

/// Larger blobs must have something in common with what their path says before they are compared byte by byte.
const UNCHECKED_MAX_BYTES: usize = 256 * 1024;

/// A patch saves at least one part in so many of the whole blob: others would double the bundle for next to nothing, and a device
/// would read the base for it.
const SAVING_MIN_PART: u64 = 32;

/// Fewest threads.
const THREADS_MIN: usize = 2;

/// How far the work is, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The base, from 0.
    pub base: usize,
    /// Blobs that have been looked at.
    pub done: usize,
    /// Blobs to look at.
    pub all: usize,
}

/// Is told how far the work is, by any thread.
pub type Watch<'w> = &'w (dyn Fn(Progress) + Sync);

/// A patch of a whole blob.
#[derive(Clone, Debug)]
pub struct Patch {
    /// What it starts from.
    pub base: Blob,
    /// Its ranges, in order.
    pub ranges: Vec<Encoded>,
}

impl Patch {
    /// What a device fetches for it: the ranges, and their records in the index.
    pub fn cost(&self) -> u64 {
        let stored: u64 = self
            .ranges
            .iter()
            .map(|range| range.stored.len() as u64)
            .sum();
        stored + records_bytes(1 + self.ranges.len())
    }
}

/// A record in an index: its digest, and a few numbers.
const RECORD_BYTES: u64 = 42;

/// What so many records take in an index, nearly: one that has two digests takes more.
pub const fn records_bytes(records: usize) -> u64 {
    records as u64 * RECORD_BYTES
}

/// What patches are made of.
#[derive(Clone, Copy, Debug)]
pub struct Update<'u> {
    /// The blobs of the new release.
    pub blobs: &'u [BlobPlan<'u>],
    /// The same, stored whole.
    pub stored: &'u [StoredBlob],
    /// The release that devices have.
    pub base: &'u BaseRelease,
    /// How ranges are made.
    pub encoding: EncodingOptions,
}

impl Update<'_> {
    /// Makes the patches that are worthwhile, and gives them to `take` in the order of the blobs. `number` is the
    /// base's, for `watch`.
    ///
    /// # Errors
    /// When a blob or the base cannot be read, or `take` fails.
    pub fn patches<T>(&self, number: usize, watch: Watch<'_>, mut take: T) -> Result<(), Error>
    where
        T: FnMut(usize, Patch) -> Result<(), Error>,
    {
        let maker = Maker::new(*self)?;
        let wanted = self.wanted();
        let done = AtomicUsize::new(0);
        let finished = || {
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            let all = wanted.len();
            watch(Progress {
                base: number,
                done,
                all,
            });
        };
        let mut encoder = RangeEncoder::new(self.encoding).map_err(Error::Compress)?;
        let mut left = wanted.as_slice();
        while !left.is_empty() {
            let (batch, more) = left.split_at(self.batch_length(left));
            let mut patches = maker.batch(batch, &finished)?;
            for blob in lone::lone(self, &patches) {
                patches.insert(blob, lone::copy_of(self, blob, &mut encoder)?);
            }
            for (blob, patch) in patches {
                if let Some(patch) = patch {
                    take(blob, patch)?;
                }
            }
            left = more;
        }
        Ok(())
    }

    /// Blobs that the base has not.
    fn wanted(&self) -> Vec<usize> {
        let blobs = self.stored.iter().enumerate();
        let wanted =
            blobs.filter(|(_, blob)| !self.base.has_blob(&blob.digest) && blob.stored_bytes() > 0);
        wanted.map(|(blob, _)| blob).collect()
    }

    fn batch_length(&self, blobs: &[usize]) -> usize {
        let mut bytes = 0;
        let fits = blobs.iter().take_while(|blob| {
            let fits = bytes < BATCH_BYTES;
            bytes += self.stored.get(**blob).map_or(0, |blob| blob.size);
            fits
        });
        fits.count().max(1)
    }
}

/// Makes patches on several threads.
struct Maker<'u> {
    update: Update<'u>,
    paths: Paths,
    /// The paths of each object in the new release.
    new_paths: BTreeMap<[u8; 32], Vec<PathBuf>>,
    /// What is in the base, once somebody had to know.
    contents: Mutex<Option<Contents>>,
    gate: Gate,
}

impl<'u> Maker<'u> {
    fn new(update: Update<'u>) -> Result<Self, Error> {
        let erofs = update
            .blobs
            .iter()
            .find_map(|blob| match (&blob.target, &blob.content) {
                (Target::Composefs, Content::Bytes(bytes)) => Some(*bytes),
                _ => None,
            });
        Ok(Self {
            update,
            paths: Paths::of(update.base),
            new_paths: erofs.map_or(Ok(BTreeMap::new()), paths_by_digest)?,
            contents: Mutex::new(None),
            gate: Gate::new(MEMORY_BYTES),
        })
    }

    /// The patches of these blobs, in their order.
    fn batch(
        &self,
        blobs: &[usize],
        finished: &(dyn Fn() + Sync),
    ) -> Result<BTreeMap<usize, Option<Patch>>, Error> {
        let threads = thread::available_parallelism()
            .map_or(THREADS_MIN, usize::from)
            .max(THREADS_MIN);
        // The largest first, so that no thread begins it when the others have nothing left to do.
        let mut order = blobs.to_vec();
        order.sort_by_key(|blob| {
            (
                Reverse(self.update.stored.get(*blob).map(|blob| blob.size)),
                *blob,
            )
        });
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, Option<Patch>)>, Error> {
            let mut encoder = RangeEncoder::new(self.update.encoding).map_err(Error::Compress)?;
            let mut made = Vec::new();
            while let Some(blob) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                made.push((*blob, self.best(*blob, &mut encoder)?));
                finished();
            }
            Ok(made)
        };
        let results: Vec<_> = thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().map(|worker| worker.join()).collect()
        });
        let mut patches = BTreeMap::new();
        for result in results {
            let stopped = || Err(Error::Compress(std::io::Error::other("a thread stopped")));
            patches.extend(result.unwrap_or_else(|_| stopped())?);
        }
        Ok(patches)
    }

    /// The cheapest patch of a blob; `None` when the whole blob is cheaper.
    fn best(&self, blob: usize, encoder: &mut RangeEncoder) -> Result<Option<Patch>, Error> {
        let (Some(plan), Some(stored)) =
            (self.update.blobs.get(blob), self.update.stored.get(blob))
        else {
            return Ok(None);
        };
        let mut attempt = Attempt {
            maker: self,
            plan,
            whole: stored.stored_bytes(),
            encoder,
            best: None,
        };
        if plan.target.role() != Role::Object {
            if let Some(place) = self.update.base.payload_like(&plan.target) {
                attempt.compare(place, None)?;
            }
            return Ok(attempt.best);
        }
        let small = plan.size <= WINDOW_BYTES;
        let sketch = small.then(|| sketch_of(plan)).transpose()?;
        let by_path = self
            .new_paths
            .get(stored.digest.as_bytes())
            .map(|paths| self.paths.candidates(paths));
        let by_path = by_path.unwrap_or_default();
        for place in &by_path {
            attempt.compare(*place, sketch.as_ref())?;
            if attempt.is_good() {
                return Ok(attempt.best);
            }
        }
        let Some(sketch) = sketch else {
            return Ok(attempt.best);
        };
        for place in self.alike(&sketch)? {
            if !by_path.contains(&place) {
                attempt.compare(place, Some(&sketch))?;
            }
        }
        Ok(attempt.best)
    }

    /// Objects of the base that have content in common with a new one.
    fn alike(&self, sketch: &Sketch) -> Result<Vec<usize>, Error> {
        // The first thread that asks reads the base; the others wait for it.
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let contents = match &mut *contents {
            Some(contents) => contents,
            empty => empty.insert(Contents::of(self.update.base, WINDOW_BYTES)?),
        };
        Ok(contents.candidates(sketch))
    }
}

/// The sketch of a new blob, read once more.
fn sketch_of(plan: &BlobPlan<'_>) -> Result<Sketch, Error> {
    let mut sketcher = Sketcher::default();
    std::io::copy(&mut plan.open()?, &mut sketcher)
        .map_err(FileOperation::Read.on(Path::new(&plan.describe())))?;
    Ok(sketcher.finish())
}

/// A blob and the best patch of it so far.
struct Attempt<'a> {
    maker: &'a Maker<'a>,
    plan: &'a BlobPlan<'a>,
    /// Stored bytes of the whole blob.
    whole: u64,
    encoder: &'a mut RangeEncoder,
    best: Option<Patch>,
}

impl Attempt<'_> {
    /// Whether looking further is not worth the time.
    fn is_good(&self) -> bool {
        self.best
            .as_ref()
            .is_some_and(|patch| patch.cost() <= self.whole / 2)
    }

    /// Makes the patch against a blob of the base, and keeps it when it is the cheapest.
    fn compare(&mut self, place: usize, sketch: Option<&Sketch>) -> Result<(), Error> {
        let base = self.maker.update.base;
        let Some(indexed) = base.index().get(place) else {
            return Ok(());
        };
        let compared = |bytes: u64| bytes.min(WINDOW_BYTES);
        let memory = compared(indexed.blob.size) * MEMORY_PER_BASE_BYTE
            + compared(self.plan.size) * MEMORY_PER_NEW_BYTE;
        let _taken = self.maker.gate.take(memory);
        let content = BaseContent::read(base.bundle(), indexed)?;
        if let (Some(sketch), BaseContent::Memory(bytes)) = (sketch, &content)
            && self.plan.size as usize > UNCHECKED_MAX_BYTES
            && sketch.shared(&Sketch::of(bytes)) == 0
        {
            return Ok(());
        }
        let worthwhile = self.whole - self.whole / SAVING_MIN_PART;
        let limit = self.best.as_ref().map_or(worthwhile, Patch::cost);
        let Some(ranges) = self.ranges(&content)? else {
            return Ok(());
        };
        let patch = Patch {
            base: indexed.blob,
            ranges,
        };
        if patch.cost() < limit {
            self.best = Some(patch);
        }
        Ok(())
    }

    fn ranges(&mut self, base: &BaseContent) -> Result<Option<Vec<Encoded>>, Error> {
        let at_once = match base {
            BaseContent::Memory(_) if self.plan.size <= WINDOW_BYTES => self.plan.size,
            _ => SEGMENT_BYTES,
        };
        let failed = |error| FileOperation::Read.on(Path::new(&self.plan.describe()))(error);
        let mut reader = self.plan.open()?;
        let (mut all, mut offset) = (Vec::new(), 0);
        while offset < self.plan.size {
            let mut new = vec![0; at_once.min(self.plan.size - offset) as usize];
            reader.read_exact(&mut new).map_err(failed)?;
            let (bytes, start) = base.window(offset)?;
            let mut operations = Operations::default();
            operations.find(&bytes, start, &new);
            let window = Window {
                bytes: &bytes,
                offset: start,
            };
            match self
                .encoder
                .encode(&operations, window, &new)
                .map_err(Error::Compress)?
            {
                Some(ranges) => all.extend(ranges),
                None => return Ok(None),
            }
            let stored: u64 = all
                .iter()
                .map(|range: &Encoded| range.stored.len() as u64)
                .sum();
            if stored >= self.whole {
                return Ok(None);
            }
            offset += new.len() as u64;
        }
        Ok(Some(all))
    }
}
