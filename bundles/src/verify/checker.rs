//! A device that stores nothing: it takes every write, forgets it, and keeps only what checks need afterwards.
//!
//! # Invariants
//! - Memory holds the UKI while it is open, and the composefs image; each has a limit. The index is in a temporary file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};
use twinseal_core::storage::{Location, Space, Storage};
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::{Blob, Role};
use twinseal_core::wire::manifest::Manifest;

/// Largest UKI and largest composefs image that are checked: what `composefs_image` reads, and more than firmware loads.
const KEPT_MAX_BYTES: u64 = 1 << 30;

/// The device.
pub(super) struct Checker {
    scratch: File,
    slots: Option<Vec<(String, u64)>>,
    open: Option<Blob>,
    /// Content of the open blob, when it is a UKI or a composefs image.
    content: Vec<u8>,
    composefs: Option<Vec<u8>>,
    objects: Vec<(BlobDigest, u64)>,
}

impl Checker {
    /// A new device with these slots.
    ///
    /// # Errors
    /// When the host has no room for temporary files.
    pub fn new(slots: Option<Vec<(String, u64)>>) -> io::Result<Self> {
        let scratch = tempfile::tempfile()?;
        Ok(Self {
            scratch,
            slots,
            open: None,
            content: Vec::new(),
            composefs: None,
            objects: Vec::new(),
        })
    }

    /// The composefs image, when there was one.
    pub fn composefs(&self) -> Option<&[u8]> {
        self.composefs.as_deref()
    }

    /// The objects and their sizes, by ascending digest.
    pub fn objects(&self) -> &[(BlobDigest, u64)] {
        &self.objects
    }

    fn keeps(blob: &Blob) -> bool {
        matches!(blob.role, Role::Uki | Role::Composefs)
    }

    fn fault(&self, operation: StorageOperation, fault: StorageFault) -> StorageError {
        let object = match self.open.map(|blob| blob.role) {
            Some(Role::Uki) => StorageObject::Uki,
            Some(Role::Composefs) => StorageObject::ComposefsImage,
            Some(Role::Object) => StorageObject::Object,
            Some(Role::Image) | None => StorageObject::ImageSlot,
        };
        StorageError {
            operation,
            object,
            fault,
        }
    }
}

fn scratch_fault(operation: StorageOperation) -> impl FnOnce(io::Error) -> StorageError {
    move |error| {
        let fault = error
            .raw_os_error()
            .map_or(StorageFault::Short, StorageFault::Code);
        StorageError {
            operation,
            object: StorageObject::Scratch,
            fault,
        }
    }
}

impl Storage for Checker {
    fn locate(&mut self, _blob: &Blob, _manifest: &Manifest) -> Result<Location, StorageError> {
        Ok(Location::Absent)
    }

    /// Always the full route.
    fn starts_from(&mut self, _: &Manifest) -> Result<bool, StorageError> {
        Ok(false)
    }

    fn freed_bytes(&mut self, _: &BlobDigest) -> Result<u64, StorageError> {
        Ok(0)
    }

    fn remove(&mut self, _: &BlobDigest) -> Result<(), StorageError> {
        Ok(())
    }

    fn image_slot_bytes(&mut self, slot: &str) -> Result<Option<u64>, StorageError> {
        let Some(slots) = &self.slots else {
            return Ok(Some(u64::MAX));
        };
        Ok(slots
            .iter()
            .find(|(name, _)| name == slot)
            .map(|(_, bytes)| *bytes))
    }

    fn space(&mut self) -> Result<Space, StorageError> {
        Ok(Space::default())
    }

    fn scratch_read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        // What is past the end was never written.
        buffer.fill(0);
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let taken = self
                .scratch
                .read_at(rest, offset + done as u64)
                .map_err(scratch_fault(StorageOperation::Read))?;
            if taken == 0 {
                break;
            }
            done += taken;
        }
        Ok(())
    }

    fn scratch_write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.scratch
            .write_all_at(bytes, offset)
            .map_err(scratch_fault(StorageOperation::Write))
    }

    fn prepare(&mut self, _manifest: &Manifest) -> Result<(), StorageError> {
        Ok(())
    }

    fn open(&mut self, blob: &Blob, _manifest: &Manifest) -> Result<u64, StorageError> {
        self.open = Some(*blob);
        self.content.clear();
        if Self::keeps(blob) && blob.size > KEPT_MAX_BYTES {
            return Err(self.fault(StorageOperation::Open, StorageFault::Full));
        }
        Ok(0)
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let from = self
            .content
            .get(start..)
            .and_then(|rest| rest.get(..buffer.len()));
        let from = from.ok_or_else(|| self.fault(StorageOperation::Read, StorageFault::Short))?;
        buffer.copy_from_slice(from);
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        if !self.open.as_ref().is_some_and(Self::keeps) {
            return Ok(());
        }
        if offset != self.content.len() as u64 || offset + bytes.len() as u64 > KEPT_MAX_BYTES {
            return Err(self.fault(StorageOperation::Write, StorageFault::Full));
        }
        self.content.extend_from_slice(bytes);
        Ok(())
    }

    fn read_running(
        &mut self,
        _blob: &Blob,
        _offset: u64,
        _buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        Err(self.fault(StorageOperation::Read, StorageFault::Short))
    }

    fn settle(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn publish(&mut self) -> Result<(), StorageError> {
        match self.open.take() {
            Some(blob) if blob.role == Role::Composefs => {
                self.composefs = Some(std::mem::take(&mut self.content))
            }
            Some(blob) if blob.role == Role::Object => self.objects.push((blob.digest, blob.size)),
            Some(_) | None => self.content.clear(),
        }
        Ok(())
    }

    fn discard(&mut self) -> Result<(), StorageError> {
        self.open = None;
        self.content.clear();
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn make_bootable(&mut self, _manifest: &Manifest, _front: &[u8]) -> Result<(), StorageError> {
        Ok(())
    }
}
