//! The boot record's two copies, each in a sector of its own.
//!
//! # Power loss
//! A copy is erased and programmed; a cut tears that one, and the other is in another sector.

use crate::flash::{Flash, PAGE_BYTES, SECTOR_BYTES, SECTOR_PAGES, Violation};
use twinseal_core::boot::record::COPY_BYTES;
use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};
use twinseal_core::storage::RecordStore;

// A copy is programmed in one operation.
const _: () = assert!(COPY_BYTES == PAGE_BYTES);

/// The record's copies: sectors 0 and 1 of the flash.
pub struct Copies<'f>(pub &'f mut Flash);

impl RecordStore for Copies<'_> {
    fn read_copy(&mut self, copy: usize, buffer: &mut [u8]) -> Result<(), StorageError> {
        self.0
            .read(copy * SECTOR_BYTES, buffer)
            .map_err(during(StorageOperation::Read))
    }

    fn write_copy(&mut self, copy: usize, bytes: &[u8]) -> Result<(), StorageError> {
        let page = bytes.try_into().map_err(|_| StorageError {
            operation: StorageOperation::Write,
            object: StorageObject::BootRecord,
            fault: StorageFault::Short,
        })?;
        self.0
            .erase(copy)
            .map_err(during(StorageOperation::Write))?;
        self.0
            .program(copy * SECTOR_PAGES, page)
            .map_err(during(StorageOperation::Write))
    }
}

fn during(operation: StorageOperation) -> impl FnOnce(Violation) -> StorageError {
    move |violation| violation.during(operation, StorageObject::BootRecord)
}
