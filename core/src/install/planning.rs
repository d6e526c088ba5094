//! Fourth state: every blob of the route looked up, the plan made.

use super::plan::Planned;
use super::route::Leaving;
use super::ways::{self, Choice, Ways};
use super::{Plan, Session, State, other_data, walk};
use crate::error::{
    BundleInvalid, Error, Misuse, StorageError, StorageFault, StorageObject, StorageOperation,
};
use crate::storage::{Location, Storage};
use crate::wire::index::{BLOCK_BYTES, Blob, Role};
use crate::wire::manifest::Manifest;
use walk::{Step, Walk};

pub(super) struct Planning {
    walk: Walk,
    leaving: Leaving,
    plan: Plan,
    /// Blobs looked up.
    blobs: u32,
    /// The current blob.
    planned: Option<Planned>,
}

impl Planning {
    pub fn new(session: &Session<'_>) -> Result<Self, Error> {
        let base = session.followed.base;
        let plan = Plan {
            base: base.map(|base| base.manifest_sha256),
            ..Plan::default()
        };
        Ok(Self {
            walk: session.walk()?,
            leaving: Leaving::new(session.manifest()?, &session.followed),
            plan,
            blobs: 0,
            planned: None,
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
            let step = self.walk.step(&session.block, manifest)?;
            if let Some(digest) = self.leaving.at(&step) {
                let freed = storage.freed_bytes(&digest)?;
                self.plan.freed_bytes = self.plan.freed_bytes.saturating_add(freed);
            }
            match step {
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
                    self.planned = Some(Planned {
                        blob,
                        location,
                        choice: Choice::new(&blob, 0),
                    });
                }
                Step::Alternative(other) => {
                    let Some(planned) = &mut self.planned else {
                        continue;
                    };
                    // The data of alternatives lies apart: a source that only goes forward cannot give both.
                    if !session.config.can_go_back {
                        continue;
                    }
                    let number = self.blobs.saturating_sub(1);
                    if planned.location != Location::Absent || !Ways::reaches(number) {
                        continue;
                    }
                    let base = ways::base_of(&other, &planned.blob, manifest);
                    planned
                        .choice
                        .consider(&other, || Ok(storage.has_base(&base)?))?;
                }
                Step::BlobEnd => {
                    if let Some(planned) = self.planned.take() {
                        let number = self.blobs.saturating_sub(1);
                        session.ways.keep(number, planned.choice.way);
                        let audit = session.config.audit && session.followed.base.is_none();
                        let is_there = audit && session.audits_what_is_there();
                        self.plan.add(&planned, audit, is_there);
                    }
                }
                Step::Range(_) | Step::OtherRange(_) | Step::Removed(_) => {}
                Step::End => {
                    // Asked last: now the storage knows which of its objects are of no more use.
                    self.plan.set_space(storage.space()?);
                    self.plan.keep(self.walk.kept());
                    self.plan.removed_blobs = self.walk.removed().objects;
                    self.plan.index_bytes = session.route_bytes()?;
                    self.plan.framing_bytes = framing_bytes(session)?;
                    let unpassed = other_data::start(session, self.walk.whole_bytes())?;
                    self.plan.audit_bytes += manifest.data_bytes().saturating_sub(unpassed);
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
    Err(scratch_damaged().into())
}

/// The error of a block that is not in the scratch area as it was written there.
pub(super) const fn scratch_damaged() -> StorageError {
    StorageError {
        operation: StorageOperation::Read,
        object: StorageObject::Scratch,
        fault: StorageFault::Digest,
    }
}

/// What was read so far, and what the seams of the data entries will take.
fn framing_bytes(session: &Session<'_>) -> Result<u64, Error> {
    let layout = session.layout()?;
    let seams = (layout.data_entry()..=layout.entries())
        .map(|entry| layout.seam(entry).expected().len() as u64);
    Ok(session.tally.source_bytes() + seams.sum::<u64>())
}
