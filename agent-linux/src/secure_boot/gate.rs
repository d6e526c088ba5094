//! The storage of an install, with one question more: a UKI that this machine's firmware would refuse is not published.
//!
//! core brings the UKI first, stages it under a name that nothing boots, reads it back, and checks what it seals; then it calls
//! [`Storage::publish`], and there the install ends: before any object is fetched.
//!
//! # Invariants
//! - The layer changes nothing else: every call goes through as it came, and so does every answer.
//!
//! # Power loss
//! What a refusal leaves is a target set that is not bootable; the staged UKI is removed, and the next install's `prepare` would.

use super::image::{Image, ImageStop};
use super::trust::{Finding, Refusal, Trust};
use crate::error::AgentError;
use crate::install::Stopped;
use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};
use twinseal_core::storage::{Location, Space, Storage};
use twinseal_core::verify::hashed::Trees;
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::{Blob, Role};
use twinseal_core::wire::manifest::Manifest;

/// What core is told; the reason stays here until [`Gate::explain`] is asked.
const REFUSED: StorageError = StorageError {
    operation: StorageOperation::Rename,
    object: StorageObject::Uki,
    fault: StorageFault::Digest,
};

/// A storage that takes only what the firmware would start.
pub struct Gate<'g, S> {
    storage: &'g mut S,
    /// What the firmware trusts; `None` takes everything.
    trust: Option<&'g Trust>,
    /// Size of the UKI, while it is open.
    uki_bytes: Option<u64>,
    refusal: Option<Refusal>,
}

impl<'g, S: Storage> Gate<'g, S> {
    /// A gate before `storage`; without `trust` it is open.
    pub const fn new(storage: &'g mut S, trust: Option<&'g Trust>) -> Self {
        Self {
            storage,
            trust,
            uki_bytes: None,
            refusal: None,
        }
    }

    /// An install's end, with the reason that the gate had.
    pub fn explain(&mut self, stopped: Stopped) -> Stopped {
        match self.refusal.take() {
            Some(refusal) => Stopped {
                error: AgentError::FirmwareRefuses(Box::new(refusal)),
                ..stopped
            },
            None => stopped,
        }
    }

    /// What is against the open UKI.
    fn judge(&mut self, trust: &Trust, uki_bytes: u64) -> Result<Option<Refusal>, StorageError> {
        let storage = &mut *self.storage;
        match Image::read(uki_bytes, |offset, buffer| storage.read(offset, buffer)) {
            Ok(image) => Ok(trust.judge(&image).err()),
            Err(ImageStop::Fault(fault)) => Ok(Some(trust.refusal(vec![Finding::Image(fault)]))),
            Err(ImageStop::Storage(error)) => Err(error),
        }
    }
}

impl<S: Storage> Storage for Gate<'_, S> {
    fn locate(&mut self, blob: &Blob, manifest: &Manifest) -> Result<Location, StorageError> {
        self.storage.locate(blob, manifest)
    }

    fn starts_from(&mut self, base: &Manifest) -> Result<bool, StorageError> {
        self.storage.starts_from(base)
    }

    fn freed_bytes(&mut self, digest: &BlobDigest) -> Result<u64, StorageError> {
        self.storage.freed_bytes(digest)
    }

    fn remove(&mut self, digest: &BlobDigest) -> Result<(), StorageError> {
        self.storage.remove(digest)
    }

    fn image_slot_bytes(&mut self, slot: &str) -> Result<Option<u64>, StorageError> {
        self.storage.image_slot_bytes(slot)
    }

    fn space(&mut self) -> Result<Space, StorageError> {
        self.storage.space()
    }

    fn scratch_read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        self.storage.scratch_read(offset, buffer)
    }

    fn scratch_write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.storage.scratch_write(offset, bytes)
    }

    fn prepare(&mut self, manifest: &Manifest) -> Result<(), StorageError> {
        self.storage.prepare(manifest)
    }

    fn open(&mut self, blob: &Blob, manifest: &Manifest) -> Result<u64, StorageError> {
        self.uki_bytes = (blob.role == Role::Uki).then_some(blob.size);
        self.storage.open(blob, manifest)
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        self.storage.read(offset, buffer)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.storage.write(offset, bytes)
    }

    fn write_hashed(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.storage.write_hashed(offset, bytes)
    }

    fn read_trees(&mut self, offset: u64, end: u64) -> Result<Option<Trees>, StorageError> {
        self.storage.read_trees(offset, end)
    }

    fn read_running(
        &mut self,
        blob: &Blob,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        self.storage.read_running(blob, offset, buffer)
    }

    fn settle(&mut self) -> Result<(), StorageError> {
        self.storage.settle()
    }

    fn publish(&mut self) -> Result<(), StorageError> {
        if let (Some(uki_bytes), Some(trust)) = (self.uki_bytes.take(), self.trust)
            && let Some(refusal) = self.judge(trust, uki_bytes)?
        {
            self.refusal = Some(refusal);
            self.storage.discard()?;
            return Err(REFUSED);
        }
        self.storage.publish()
    }

    fn discard(&mut self) -> Result<(), StorageError> {
        self.storage.discard()
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.storage.sync()
    }

    fn make_bootable(&mut self, manifest: &Manifest, front: &[u8]) -> Result<(), StorageError> {
        self.storage.make_bootable(manifest, front)
    }
}
