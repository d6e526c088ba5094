//! Fourth state: every blob of the route looked up, the plan made.

use super::plan::Planned;
use super::route::Leaving;
use super::runs::{Extent, Runs};
use super::ways::{self, Choice, Ways};
use super::{Plan, Session, State, other_data, staying, transfer, walk};
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
    /// Blobs of the route that were passed.
    blobs: u32,
    /// Blobs looked up: those, and the objects that stay.
    looked_up: u32,
    /// The current blob.
    planned: Option<Planned>,
    runs: Runs,
    /// Where the data of the current blob is that would be fetched.
    extent: Option<Extent>,
    /// Whether the ranges that follow are of the way that was chosen.
    is_chosen: bool,
}

impl Planning {
    pub fn new(session: &Session<'_>) -> Result<Self, Error> {
        let base = session.followed.base;
        let plan = Plan {
            base: base.map(|base| base.manifest_sha256),
            start: session.followed.start,
            ..Plan::default()
        };
        Ok(Self {
            walk: session.walk()?,
            leaving: Leaving::new(session.manifest()?, &session.followed),
            plan,
            blobs: 0,
            looked_up: 0,
            planned: None,
            runs: Runs::default(),
            extent: None,
            is_chosen: false,
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
            let step = self.walk.merged_step(&session.block, manifest, storage)?;
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
                    self.planned = Some(self.look_up(session, blob, location));
                    self.blobs += 1;
                    (self.extent, self.is_chosen) = (None, true);
                }
                Step::Stays(object) => {
                    let blob = staying::as_blob(&object, manifest);
                    let location = locate(&blob, manifest, storage)?;
                    if location == Location::Absent {
                        return session.start_over();
                    }
                    let planned = self.look_up(session, blob, location);
                    self.plan.add(&planned, false, false);
                    return Ok(State::Planning(self));
                }
                Step::Alternative(other) => {
                    self.is_chosen = false;
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
                    let before = planned.choice.way;
                    planned
                        .choice
                        .consider(&other, || Ok(storage.has_base(&base)?))?;
                    if planned.choice.way != before {
                        (self.extent, self.is_chosen) = (None, true);
                    }
                }
                Step::BlobEnd => {
                    if let Some(planned) = self.planned.take() {
                        let number = self.blobs.saturating_sub(1);
                        session.ways.keep(number, planned.choice.way);
                        if planned.blob.role == Role::Image {
                            self.runs.end();
                        }
                        if let (Location::Absent, Some(extent)) = (planned.location, self.extent) {
                            self.runs.add(extent);
                        }
                        let audit = session.config.audit && session.followed.base.is_none();
                        let is_there = audit && session.audits_what_is_there();
                        self.plan.add(&planned, audit, is_there);
                    }
                }
                Step::Range(range) | Step::OtherRange(range) if self.is_chosen => {
                    self.extent = Some(Extent::with(self.extent, &range));
                }
                Step::Range(_) | Step::OtherRange(_) | Step::Removed(_) => {}
                Step::End => {
                    // Asked last: now the storage knows which of its objects are of no more use.
                    self.plan.set_space(storage.space()?);
                    if session.followed.target_base().is_some() {
                        self.plan.keep(self.walk.kept());
                    }
                    self.plan.removed_blobs = self.walk.removed().objects;
                    self.plan.index_bytes = session.route_bytes()?;
                    (self.plan.runs, self.plan.gap_bytes) = (self.runs.count, self.runs.gap_bytes);
                    self.plan.framing_bytes = framing_bytes(session)?;
                    self.plan.bundle_bytes = session.layout()?.bundle_bytes();
                    let unpassed = other_data::start(session, self.walk.whole_bytes())?;
                    self.plan.audit_bytes += manifest.data_bytes().saturating_sub(unpassed);
                    return self.decide(session);
                }
            }
        }
    }

    /// Notes where a blob is.
    fn look_up(&mut self, session: &mut Session<'_>, blob: Blob, location: Location) -> Planned {
        if location == Location::Target {
            session.present.add(self.looked_up);
        } else if location == Location::Absent {
            session.absent.add(self.blobs);
        }
        self.looked_up += 1;
        Planned {
            blob,
            location,
            choice: Choice::new(&blob, 0),
        }
    }

    /// The plan is for the caller to accept, once. What is planned anew after that must fit the room and the budget.
    fn decide(self, session: &mut Session<'_>) -> Result<State, Error> {
        if !session.accepted {
            return Ok(State::Decision(self.plan));
        }
        self.plan.check(session.config.budget)?;
        session.planned_bytes = self.plan.source_bytes();
        Ok(State::Transfer(transfer::Transfer::new(session)?))
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
