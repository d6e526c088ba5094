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
use twinseal_core::storage::{Storage, StorageLayer};
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

impl<S: Storage> StorageLayer for Gate<'_, S> {
    type Below = S;
    type Reached<'l>
        = &'l mut S
    where
        Self: 'l;

    fn below(&mut self) -> Result<&mut S, StorageError> {
        Ok(&mut *self.storage)
    }

    fn open(&mut self, blob: &Blob, manifest: &Manifest) -> Result<u64, StorageError> {
        self.uki_bytes = (blob.role == Role::Uki).then_some(blob.size);
        self.storage.open(blob, manifest)
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
}
