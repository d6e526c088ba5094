//! The scratch area: a plain file in the agent's state directory, where core keeps the index while it works.
//!
//! # Power loss
//! Nothing here is ever synced; core checks every block that it reads.

use crate::fault::During;
use crate::file::{open_or_make, read_or_zeros, write_all};
use rustix::fd::OwnedFd;
use twinseal_core::error::{StorageError, StorageObject, StorageOperation};

/// A scratch file.
pub struct Scratch {
    file: OwnedFd,
}

impl Scratch {
    /// Opens the scratch file, and makes it when it is missing. What an earlier install left in it stays.
    ///
    /// # Errors
    /// When it can be neither opened nor made.
    pub fn open(path: &str) -> Result<Self, StorageError> {
        let (file, _) =
            open_or_make(path).during(StorageOperation::Open, StorageObject::Scratch)?;
        Ok(Self { file })
    }

    /// Reads; what lies past the end is zeros.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        read_or_zeros(&self.file, offset, buffer)
            .during(StorageOperation::Read, StorageObject::Scratch)
    }

    /// Writes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        write_all(&self.file, offset, bytes).during(StorageOperation::Write, StorageObject::Scratch)
    }
}
