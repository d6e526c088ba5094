//! Fourth state: every blob looked up, the plan made.

use super::{Plan, Session, State, walk};
use crate::error::{
    BundleInvalid, Error, Misuse, StorageError, StorageFault, StorageObject, StorageOperation,
};
use crate::storage::{Location, Storage};
use crate::wire::index::{BLOCK_BYTES, Blob, Role};
use crate::wire::manifest::Manifest;
use walk::{Step, Walk};

pub(super) struct Planning {
    walk: Walk,
    plan: Plan,
    /// Blobs looked up.
    blobs: u32,
    /// Whether the other ranges of the current blob will be read for checking.
    audits_blob: bool,
}

impl Planning {
    pub fn new(session: &Session<'_>) -> Result<Self, Error> {
        let walk = Walk::new(session.manifest()?);
        Ok(Self {
            walk,
            plan: Plan::default(),
            blobs: 0,
            audits_blob: false,
        })
    }

    /// Plans the blobs of one index block.
    pub fn work<S: Storage>(
        mut self,
        session: &mut Session<'_>,
        storage: &mut S,
    ) -> Result<State, Error> {
        loop {
            let manifest = session
                .manifest
                .as_ref()
                .ok_or(Misuse::InstallerFailed)?
                .value();
            match self.walk.step(&session.block, manifest)? {
                Step::Block => {
                    read_block(&mut self.walk, &mut session.block, storage)?;
                    return Ok(State::Planning(self));
                }
                Step::Blob(blob) => {
                    let location = locate(&blob, manifest, storage)?;
                    if location == Location::Target {
                        session.present.add(self.blobs);
                    }
                    self.blobs += 1;
                    self.audits_blob = session.config.audit && location != Location::Target;
                    self.plan.add(&blob, location, session.config.audit);
                }
                Step::OtherRange(range) if self.audits_blob => {
                    self.plan.audit_bytes += u64::from(range.stored_bytes);
                }
                Step::Range(_) | Step::OtherRange(_) | Step::BlobEnd => {}
                Step::End => {
                    // Asked last: now the storage knows which of its objects are of no more use.
                    self.plan.set_space(storage.space()?);
                    self.plan.framing_bytes = framing_bytes(session)?;
                    return Ok(State::Decision(self.plan));
                }
            }
        }
    }
}

/// Where a blob is. The UKI and images have no name to be found under: their bytes are looked at when they are opened, and the
/// seal of the UKI is checked every time.
pub(super) fn locate<S: Storage>(
    blob: &Blob,
    manifest: &Manifest,
    storage: &mut S,
) -> Result<Location, Error> {
    match blob.role {
        Role::Uki | Role::Image => Ok(Location::Absent),
        Role::Object | Role::Composefs => Ok(storage.locate(blob, manifest)?),
    }
}

/// Reads the block that a walk needs from the scratch area. It was right when it was written there.
pub(super) fn read_block<S: Storage>(
    walk: &mut Walk,
    block: &mut [u8; BLOCK_BYTES],
    storage: &mut S,
) -> Result<(), Error> {
    storage.scratch_read(walk.block_offset(), block)?;
    match walk.take_block(block) {
        Err(BundleInvalid::IndexBlock { .. }) => {}
        taken => return Ok(taken?),
    }
    let (operation, object) = (StorageOperation::Read, StorageObject::Scratch);
    Err(StorageError {
        operation,
        object,
        fault: StorageFault::Digest,
    }
    .into())
}

/// What was read so far, and what the seams of the data entries will take.
fn framing_bytes(session: &Session<'_>) -> Result<u64, Error> {
    let layout = session.layout()?;
    let seams = (layout.data_entry()..=layout.entries())
        .map(|entry| layout.seam(entry).expected().len() as u64);
    Ok(session.tally.source_bytes() + seams.sum::<u64>())
}
