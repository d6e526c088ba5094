//! How far an install is, and how long its parts took: thin layers around the source and the storage that count and time what
//! passes through.
//!
//! # Invariants
//! - The layers change nothing: every call goes through as it came, and so does every answer.

use crate::events::{Event, Phase, Progress};
use crate::report::Outlet;
use std::cell::RefCell;
use std::time::{Duration, Instant};
use twinseal_core::error::StorageError;
use twinseal_core::install::{Plan, Request};
use twinseal_core::source::{Source, SourceError};
use twinseal_core::storage::{Storage, StorageLayer};
use twinseal_core::verify::hashed::{HashedBytes, Trees};
use twinseal_core::wire::index::Blob;
use twinseal_core::wire::manifest::Manifest;

/// What has been counted and timed.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Bringing blobs to the medium.
    pub settle: Duration,
    /// Reading back and comparing.
    pub read_back: Duration,
    /// Whether the target set may have been touched.
    pub target_touched: bool,
}

/// Counts, times, and tells the outlet.
pub struct Meter<'o> {
    inner: RefCell<Inner<'o>>,
}

struct Inner<'o> {
    outlet: &'o mut Outlet,
    progress: Progress,
    /// Whether the plan was accepted: before, nothing counts.
    under_way: bool,
    measured: Measured,
    /// Since when the open blob is being read back.
    reading_back: Option<Instant>,
}

impl<'o> Meter<'o> {
    /// A meter at zero.
    pub fn new(outlet: &'o mut Outlet) -> Self {
        let progress = Progress {
            phase: Phase::Preparing,
            done_bytes: 0,
            total_bytes: 0,
            source_bytes: 0,
            written_bytes: 0,
            read_back_bytes: 0,
        };
        let measured = Measured {
            settle: Duration::ZERO,
            read_back: Duration::ZERO,
            target_touched: false,
        };
        let inner = Inner {
            outlet,
            progress,
            under_way: false,
            measured,
            reading_back: None,
        };
        Self {
            inner: RefCell::new(inner),
        }
    }

    /// The plan was accepted.
    pub fn begin(&self, plan: &Plan) {
        let mut inner = self.inner.borrow_mut();
        inner.under_way = true;
        inner.progress.total_bytes = plan.fetch_bytes + plan.audit_bytes + plan.copy_bytes;
        inner.enter(Phase::Preparing);
    }

    /// A phase begins.
    pub fn enter(&self, phase: Phase) {
        self.inner.borrow_mut().enter(phase);
    }

    /// Tells an event.
    pub fn tell(&self, event: &Event) {
        self.inner.borrow_mut().outlet.tell(event);
    }

    /// What has been measured.
    pub fn measured(&self) -> Measured {
        self.inner.borrow().measured
    }
}

impl Inner<'_> {
    fn enter(&mut self, phase: Phase) {
        self.progress.phase = phase;
        self.tell();
    }

    fn tell(&mut self) {
        if self.under_way {
            self.outlet.tell(&Event::Progress(self.progress));
        }
    }

    fn done(&mut self, bytes: u64) {
        if self.under_way {
            let progress = &mut self.progress;
            progress.done_bytes = (progress.done_bytes + bytes).min(progress.total_bytes);
        }
        self.tell();
    }

    fn end_read_back(&mut self) {
        if let Some(since) = self.reading_back.take() {
            self.measured.read_back += since.elapsed();
        }
    }
}

/// A source whose bytes are counted.
pub struct MeteredSource<'m, 'o, R> {
    /// The source.
    pub source: &'m mut R,
    /// Who counts.
    pub meter: &'m Meter<'o>,
}

impl<R: Source> Source for MeteredSource<'_, '_, R> {
    type Error = R::Error;

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError<R::Error>> {
        self.source.read_at(offset, buffer)?;
        let mut inner = self.meter.inner.borrow_mut();
        inner.progress.source_bytes += buffer.len() as u64;
        inner.done(buffer.len() as u64);
        Ok(())
    }

    fn read_hashed(
        &mut self,
        request: &Request,
    ) -> Result<Option<HashedBytes<'_>>, SourceError<R::Error>> {
        let hashed = self.source.read_hashed(request)?;
        if let Some(hashed) = &hashed {
            let mut inner = self.meter.inner.borrow_mut();
            inner.progress.source_bytes += hashed.bytes().len() as u64;
            inner.done(hashed.bytes().len() as u64);
        }
        Ok(hashed)
    }

    fn ends_at(&mut self, offset: u64) -> Result<bool, SourceError<R::Error>> {
        self.source.ends_at(offset)
    }
}

/// A storage whose work is counted and timed.
pub struct MeteredStorage<'m, 'o, S> {
    /// The storage.
    pub storage: &'m mut S,
    /// Who counts.
    pub meter: &'m Meter<'o>,
}

impl<S: Storage> StorageLayer for MeteredStorage<'_, '_, S> {
    type Below = S;
    type Reached<'l>
        = &'l mut S
    where
        Self: 'l;

    fn below(&mut self) -> Result<&mut S, StorageError> {
        Ok(&mut *self.storage)
    }

    fn prepare(&mut self, manifest: &Manifest) -> Result<(), StorageError> {
        // Noted before: half of it may be done when it fails.
        self.meter.inner.borrow_mut().measured.target_touched = true;
        self.storage.prepare(manifest)?;
        self.meter.enter(Phase::Writing);
        Ok(())
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        self.storage.read(offset, buffer)?;
        let mut inner = self.meter.inner.borrow_mut();
        if inner.reading_back.is_some() {
            inner.progress.read_back_bytes += buffer.len() as u64;
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.storage.write(offset, bytes)?;
        self.meter.inner.borrow_mut().progress.written_bytes += bytes.len() as u64;
        Ok(())
    }

    fn write_hashed(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.storage.write_hashed(offset, bytes)?;
        self.meter.inner.borrow_mut().progress.written_bytes += bytes.len() as u64;
        Ok(())
    }

    fn read_trees(&mut self, offset: u64, end: u64) -> Result<Option<Trees>, StorageError> {
        let trees = self.storage.read_trees(offset, end)?;
        if let Some(trees) = &trees {
            self.meter.inner.borrow_mut().progress.read_back_bytes += trees.bytes();
        }
        Ok(trees)
    }

    fn read_running(
        &mut self,
        blob: &Blob,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        self.storage.read_running(blob, offset, buffer)?;
        self.meter.inner.borrow_mut().done(buffer.len() as u64);
        Ok(())
    }

    fn settle(&mut self) -> Result<(), StorageError> {
        let start = Instant::now();
        self.storage.settle()?;
        let now = Instant::now();
        let mut inner = self.meter.inner.borrow_mut();
        inner.measured.settle += now - start;
        inner.reading_back = Some(now);
        Ok(())
    }

    fn open_postponed(&mut self) -> Result<Option<Blob>, StorageError> {
        let start = Instant::now();
        let blob = self.storage.open_postponed()?;
        let now = Instant::now();
        let mut inner = self.meter.inner.borrow_mut();
        inner.measured.settle += now - start;
        inner.reading_back = blob.map(|_| now);
        Ok(blob)
    }

    fn publish(&mut self) -> Result<(), StorageError> {
        self.meter.inner.borrow_mut().end_read_back();
        self.storage.publish()
    }

    fn discard(&mut self) -> Result<(), StorageError> {
        self.meter.inner.borrow_mut().end_read_back();
        self.storage.discard()
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.meter.enter(Phase::Syncing);
        self.storage.sync()
    }

    fn make_bootable(&mut self, manifest: &Manifest, front: &[u8]) -> Result<(), StorageError> {
        self.meter.enter(Phase::Activating);
        self.storage.make_bootable(manifest, front)
    }
}
