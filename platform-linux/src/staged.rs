//! The open blob: bytes on their way to the medium, under a name that nothing boots or reads.
//!
//! # Power loss
//! Until [`Staged::settle`] returns, what was written may be lost, torn or reordered.

use crate::fault::During;
use crate::file::{read_exact, write_all};
use core::num::NonZeroU64;
use rustix::fd::OwnedFd;
use rustix::fs::{Advice, fadvise, fdatasync, ftruncate};
use rustix::io::{Errno, retry_on_intr};
use twinseal_core::error::{StorageError, StorageObject, StorageOperation};
use twinseal_core::wire::index::{Blob, Role};

/// After so many bytes the kernel is told to start writing, so that the medium works while the next bytes are fetched and hashed.
/// It also bounds how much of the page cache an install takes.
const WRITE_BACK_BYTES: u64 = 8 * 1024 * 1024;

/// A hole is left in pieces of this size.
const HOLE_BYTES: usize = 64 * 1024;

static ZEROS: [u8; HOLE_BYTES] = [0; HOLE_BYTES];

/// What the file under a blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    /// A file of the blob's own, cut to its size.
    Own,
    /// The same, and empty when it was opened: zeros need not be written.
    New,
    /// A hole of the blob's size: zeros are there already.
    Hole,
    /// A place that is larger than the blob, perhaps, and keeps its size.
    Fixed,
}

/// A blob that is being written.
pub(crate) struct Staged {
    blob: Blob,
    file: OwnedFd,
    backing: Backing,
    /// The kernel was told to write everything before this offset.
    write_back: u64,
    settled: bool,
}

impl Staged {
    /// Starts to write `blob` to `file`.
    pub(crate) const fn new(blob: Blob, file: OwnedFd, backing: Backing) -> Self {
        Self {
            blob,
            file,
            backing,
            write_back: 0,
            settled: false,
        }
    }

    /// What errors say it is.
    pub(crate) const fn object(&self) -> StorageObject {
        object_of(self.blob.role)
    }

    /// Reads exactly `buffer.len()` bytes.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        read_exact(&self.file, offset, buffer).during(StorageOperation::Read, self.object())
    }

    /// Writes all of `bytes`.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.settled = false;
        let written = match self.backing {
            Backing::Hole | Backing::New => self.write_around_zeros(offset, bytes),
            Backing::Own | Backing::Fixed => write_all(&self.file, offset, bytes),
        };
        written.during(StorageOperation::Write, self.object())?;
        self.start_write_back(offset + bytes.len() as u64)
            .during(StorageOperation::Write, self.object())
    }

    /// Cuts the file to the blob's size where it is the blob's own, brings it to the medium and drops it from the page cache.
    pub(crate) fn settle(&mut self) -> Result<(), StorageError> {
        let settled = || {
            if matches!(self.backing, Backing::Own | Backing::New) {
                retry_on_intr(|| ftruncate(&self.file, self.blob.size))?;
            }
            retry_on_intr(|| fdatasync(&self.file))?;
            // Clean pages go; should one stay, it is read from memory instead of the medium.
            fadvise(&self.file, 0, None, Advice::DontNeed)
        };
        settled().during(StorageOperation::Sync, self.object())?;
        self.settled = true;
        Ok(())
    }

    /// Gives the file away, settled.
    pub(crate) fn into_settled(mut self) -> Result<(Blob, OwnedFd), StorageError> {
        if !self.settled {
            self.settle()?;
        }
        Ok((self.blob, self.file))
    }

    /// Gives up what was written. A file of the blob's own has a name, which the caller removes.
    pub(crate) fn abandon(self) -> Result<Blob, StorageError> {
        if self.backing == Backing::Hole {
            // The slot had no size before, and gets none from an image that was not good.
            ftruncate(&self.file, 0).during(StorageOperation::Remove, self.object())?;
        }
        Ok(self.blob)
    }

    fn write_around_zeros(&self, mut offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        for piece in bytes.chunks(HOLE_BYTES) {
            if ZEROS.get(..piece.len()) != Some(piece) {
                write_all(&self.file, offset, piece)?;
            }
            offset += piece.len() as u64;
        }
        Ok(())
    }

    /// `POSIX_FADV_DONTNEED` starts writing what is dirty and does not wait for it.
    fn start_write_back(&mut self, end: u64) -> Result<(), Errno> {
        match NonZeroU64::new(end.saturating_sub(self.write_back)) {
            Some(bytes) if bytes.get() >= WRITE_BACK_BYTES => {
                fadvise(&self.file, self.write_back, Some(bytes), Advice::DontNeed)?;
                self.write_back = end;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// What errors say about a blob of a role.
pub(crate) const fn object_of(role: Role) -> StorageObject {
    match role {
        Role::Uki => StorageObject::Uki,
        Role::Image => StorageObject::ImageSlot,
        Role::Object => StorageObject::Object,
        Role::Composefs => StorageObject::ComposefsImage,
    }
}
