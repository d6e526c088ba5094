//! The boot record's two copies, in a file or on a block device.
//!
//! ```text
//! byte 0: copy 0 | byte 4096: copy 1 | to 8192
//! ```
//!
//! # Power loss
//! Each copy has a block of 4 KiB of its own, the largest unit that a medium or the page cache writes in one piece, so
//! a cut while one is being written leaves the other alone. A new file is filled with zeros first, so that later
//! writes change no metadata.

use crate::calls::openat;
use crate::fault::During;
use crate::file::{if_there, open_or_make, read_or_zeros, write_all};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, fdatasync, fsync};
use rustix::io::{Errno, retry_on_intr};
use twinseal_core::boot::record::COPY_BYTES;
use twinseal_core::error::{StorageError, StorageObject, StorageOperation};
use twinseal_core::storage::RecordStore;

const OBJECT: StorageObject = StorageObject::BootRecord;

/// Distance of the two copies, and room for each.
const COPY_ROOM_BYTES: usize = 4096;

/// Number of copies.
const COPIES: usize = 2;

const _: () = assert!(COPY_BYTES <= COPY_ROOM_BYTES);

/// The two copies of the boot record.
pub struct FileRecordStore {
    file: OwnedFd,
}

impl FileRecordStore {
    /// Opens the file or block device; a file that is missing is made, durably, with two copies of zeros.
    ///
    /// # Errors
    /// When it can be neither opened nor made.
    pub fn open(path: &str) -> Result<Self, StorageError> {
        let (file, made) = open_or_make(path).during(StorageOperation::Open, OBJECT)?;
        if made {
            write_all(&file, 0, &[0; COPIES * COPY_ROOM_BYTES])
                .during(StorageOperation::Write, OBJECT)?;
            fsync(&file).during(StorageOperation::Sync, OBJECT)?;
        }
        Ok(Self { file })
    }

    /// Opens the file or block device only to be read: also where it takes no writes. `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open_to_read(path: &str) -> Result<Option<Self>, StorageError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = if_there(openat(CWD, path, flags, Mode::empty()));
        let file = opened.during(StorageOperation::Open, OBJECT)?;
        Ok(file.map(|file| Self { file }))
    }
}

impl RecordStore for FileRecordStore {
    fn read_copy(&mut self, copy: usize, buffer: &mut [u8]) -> Result<(), StorageError> {
        let offset = offset_of(copy, buffer.len()).during(StorageOperation::Read, OBJECT)?;
        read_or_zeros(&self.file, offset, buffer).during(StorageOperation::Read, OBJECT)
    }

    fn write_copy(&mut self, copy: usize, bytes: &[u8]) -> Result<(), StorageError> {
        let offset = offset_of(copy, bytes.len()).during(StorageOperation::Write, OBJECT)?;
        write_all(&self.file, offset, bytes).during(StorageOperation::Write, OBJECT)?;
        retry_on_intr(|| fdatasync(&self.file)).during(StorageOperation::Sync, OBJECT)
    }
}

/// Where a copy starts; `EINVAL` for a copy that does not exist or does not fit its room.
fn offset_of(copy: usize, bytes: usize) -> Result<u64, Errno> {
    if copy >= COPIES || bytes > COPY_ROOM_BYTES {
        return Err(Errno::INVAL);
    }
    Ok((copy * COPY_ROOM_BYTES) as u64)
}
