//! A file that only grows at its end, for the journal: what was appended is on the medium when the call returns.
//!
//! # Power loss
//! A cut during [`AppendFile::append_synced`] may leave a part of what was being appended at the end. The caller, who
//! knows where its records end, cuts that off with [`AppendFile::truncate_synced`].

use crate::fault::During;
use crate::file::{open_or_make, read_up_to, regular_length, write_all};
use rustix::fd::OwnedFd;
use rustix::fs::{fdatasync, ftruncate};
use rustix::io::{Errno, retry_on_intr};
use twinseal_core::error::{StorageError, StorageObject, StorageOperation};

const OBJECT: StorageObject = StorageObject::Journal;

/// A file that only grows at its end.
pub struct AppendFile {
    file: OwnedFd,
    length: u64,
}

impl AppendFile {
    /// Opens the file, and makes it, durably, when it is missing.
    ///
    /// # Errors
    /// When it can be neither opened nor made, or is not a plain file.
    pub fn open(path: &str) -> Result<Self, StorageError> {
        let (file, _) = open_or_make(path).during(StorageOperation::Open, OBJECT)?;
        let length = regular_length(&file).during(StorageOperation::Open, OBJECT)?;
        Ok(Self { file, length })
    }

    /// Bytes in the file.
    pub const fn len(&self) -> u64 {
        self.length
    }

    /// Whether the file holds nothing.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Reads until `buffer` is full or the file ends; gives the bytes read.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        read_up_to(&self.file, offset, buffer).during(StorageOperation::Read, OBJECT)
    }

    /// Appends, and brings it to the medium.
    ///
    /// # Errors
    /// When it cannot be written or synced. What was written of it is cut off again, as far as that works.
    pub fn append_synced(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let written = write_all(&self.file, self.length, bytes).and_then(|()| self.sync());
        if written.is_err() {
            // A second failure adds nothing to the first: the caller finds a torn tail, as after a power cut.
            let _ = ftruncate(&self.file, self.length);
        }
        written.during(StorageOperation::Write, OBJECT)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Cuts the file to `length` bytes, durably.
    ///
    /// # Errors
    /// `EINVAL` when the file is shorter; otherwise when it cannot be cut or synced.
    pub fn truncate_synced(&mut self, length: u64) -> Result<(), StorageError> {
        if length > self.length {
            return Err(Errno::INVAL).during(StorageOperation::Write, OBJECT);
        }
        ftruncate(&self.file, length).during(StorageOperation::Write, OBJECT)?;
        self.length = length;
        self.sync().during(StorageOperation::Sync, OBJECT)
    }

    fn sync(&self) -> Result<(), Errno> {
        retry_on_intr(|| fdatasync(&self.file))
    }
}
