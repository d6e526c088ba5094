//! The slot that is being formatted, and the order in which it is written.

use super::block::{BLOCK_BYTES, Block};
use crate::fault::During;
use crate::file::write_all;
use crate::image_slot::{open_size_bytes, open_to_write};
use rustix::fd::OwnedFd;
use rustix::fs::{FallocateFlags, OFlags, fallocate, fsync, ioctl_blksszget};
use rustix::io::Errno;
use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};

/// How much of the beginning is zeros before anything new is written: all that the kernel looks at to tell what is there.
const FORGOTTEN_BYTES: u64 = 64 * 1024;

/// Logical block size of a file, and the least that a disk has.
const SECTOR_BYTES: u32 = 512;

/// An open slot.
pub(super) struct Medium {
    slot: OwnedFd,
    object: StorageObject,
    /// Size in bytes.
    pub bytes: u64,
    /// Logical block size in bytes.
    pub sector_bytes: u32,
}

impl Medium {
    /// Opens a slot that nobody uses.
    pub(super) fn open(path: &str, object: StorageObject) -> Result<Self, StorageError> {
        let slot = open_to_write(path, OFlags::EXCL).during(StorageOperation::Open, object)?;
        let bytes = open_size_bytes(&slot).during(StorageOperation::Open, object)?;
        // A file has none.
        let sector_bytes = ioctl_blksszget(&slot).unwrap_or(SECTOR_BYTES);
        Ok(Self {
            slot,
            object,
            bytes,
            sector_bytes,
        })
    }

    /// What is said of a slot that is too small.
    pub(super) const fn too_small(&self) -> StorageError {
        StorageError {
            operation: StorageOperation::Write,
            object: self.object,
            fault: StorageFault::Full,
        }
    }

    /// Makes the file system that is there unrecognisable.
    pub(super) fn forget(&mut self) -> Result<(), StorageError> {
        self.zero(0, FORGOTTEN_BYTES.min(self.bytes))?;
        self.sync()
    }

    /// Writes a block at a byte offset.
    pub(super) fn write(&mut self, offset: u64, block: &Block) -> Result<(), StorageError> {
        #[cfg(test)]
        crate::cut::before_change().during(StorageOperation::Write, self.object)?;
        write_all(&self.slot, offset, &block.0).during(StorageOperation::Write, self.object)
    }

    /// Makes zeros of `length` bytes, by the device where it can.
    pub(super) fn zero(&mut self, offset: u64, length: u64) -> Result<(), StorageError> {
        #[cfg(test)]
        crate::cut::before_change().during(StorageOperation::Write, self.object)?;
        let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.slot, flags, offset, length) {
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {}
            result => return result.during(StorageOperation::Write, self.object),
        }
        let zeros = Block::new();
        let end = offset + length;
        let mut at = offset;
        while at < end {
            let bytes = (end - at).min(BLOCK_BYTES as u64);
            write_all(&self.slot, at, zeros.part(0, bytes as usize))
                .during(StorageOperation::Write, self.object)?;
            at += bytes;
        }
        Ok(())
    }

    /// Brings everything to the medium.
    pub(super) fn sync(&self) -> Result<(), StorageError> {
        fsync(&self.slot).during(StorageOperation::Sync, self.object)
    }

    /// Everything else is written: brings it to the medium, then the block that makes a file system of it, at its beginning.
    pub(super) fn finish(&mut self, first: &Block) -> Result<(), StorageError> {
        self.sync()?;
        self.write(0, first)?;
        self.sync()
    }
}
