//! fs-verity digests of file content, on several threads, and a reader that checks one while it reads.

use std::io;
use std::io::Read;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;

use composefs::fsverity::FsVerityHasher;
use composefs::fsverity::Sha256HashValue;

use super::Digest;
use super::to_digest;
use crate::rootfs::RootError;
use crate::rootfs::Unhashed;
use crate::rootfs::content::ContentReader;
use crate::rootfs::content::Origin;

type Hasher = FsVerityHasher<Sha256HashValue>;

/// Read at once; a whole number of fs-verity blocks.
const BUFFER_BYTES: usize = 64 * Hasher::BLOCK_SIZE;

/// More threads than this wait for the disk rather than work.
const THREADS_MAX: usize = 8;

/// The digests of `files`, in their order.
pub(super) fn measure_all(
    origin: &Origin,
    files: &[Unhashed],
) -> Result<Vec<Sha256HashValue>, RootError> {
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(THREADS_MAX);
    let work = Work {
        origin,
        files,
        next: AtomicUsize::new(0),
        failed: AtomicBool::new(false),
    };
    let results = Mutex::new(Vec::with_capacity(files.len()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let measured = work.measure_until_done();
                results
                    .lock()
                    .unwrap_or_else(|poisoned| poisoned.into_inner())
                    .extend(measured);
            });
        }
    });
    let mut results = results
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    // Of several failures the first one in the input is told, whichever thread came first.
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

struct Work<'a> {
    origin: &'a Origin,
    files: &'a [Unhashed],
    next: AtomicUsize,
    failed: AtomicBool,
}

impl Work<'_> {
    fn measure_until_done(&self) -> Vec<(usize, Result<Sha256HashValue, RootError>)> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut measured = Vec::new();
        while !self.failed.load(Ordering::Relaxed) {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = self.files.get(index) else {
                break;
            };
            let result = measure(self.origin, file, &mut buffer);
            if result.is_err() {
                self.failed.store(true, Ordering::Relaxed);
            }
            measured.push((index, result));
        }
        measured
    }
}

fn measure(
    origin: &Origin,
    file: &Unhashed,
    buffer: &mut [u8],
) -> Result<Sha256HashValue, RootError> {
    let mut reader = origin.open(&file.content, file.size)?;
    let mut hasher = Hasher::new();
    while reader.remaining() > 0 {
        let wanted = usize::try_from(reader.remaining())
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let part = buffer.get_mut(..wanted).unwrap_or_default();
        reader
            .read_exact(part)
            .map_err(|source| origin.read_error(&file.content, source))?;
        for block in part.chunks(Hasher::BLOCK_SIZE) {
            hasher.add_block(block);
        }
    }
    Ok(hasher.digest())
}

/// Reads one object and checks its digest: the read that would complete other content fails instead.
#[derive(Debug)]
pub struct ObjectReader<'a> {
    content: ContentReader<'a>,
    hasher: Hasher,
    expected: Digest,
}

impl<'a> ObjectReader<'a> {
    pub(super) fn new(content: ContentReader<'a>, expected: Digest) -> Self {
        Self {
            content,
            hasher: Hasher::new(),
            expected,
        }
    }
}

impl Read for ObjectReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.hasher
            .write_all(buffer.get(..count).unwrap_or_default())?;
        if count > 0
            && self.content.remaining() == 0
            && to_digest(&self.hasher.digest()) != self.expected
        {
            let problem = "the file changed after it was measured; stop whatever writes there and build again";
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        Ok(count)
    }
}
