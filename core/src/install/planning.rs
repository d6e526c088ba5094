//! Fourth state: every blob looked up, the plan made.

use super::{Plan, Session, State, walk};
use crate::error::{Error, Misuse};
use crate::storage::Storage;
use crate::wire::index::BLOCK_BYTES;
use walk::{Step, Walk};

pub(super) struct Planning {
    walk: Walk,
    plan: Plan,
}

impl Planning {
    pub fn new<S: Storage>(session: &Session<'_>, storage: &mut S) -> Result<Self, Error> {
        let mut plan = Plan::default();
        plan.set_space(storage.space()?);
        Ok(Self {
            walk: Walk::new(session.manifest()?),
            plan,
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
                    let location = storage.locate(&blob, manifest)?;
                    self.plan
                        .add(&blob, location, blob.stored_bytes, session.config.audit);
                }
                Step::Range(_) | Step::OtherRange(_) | Step::BlobEnd => {}
                Step::End => {
                    self.plan.framing_bytes = framing_left(session)?;
                    return Ok(State::Decision(self.plan));
                }
            }
        }
    }
}

/// Reads the block that a walk needs from the scratch area.
pub(super) fn read_block<S: Storage>(
    walk: &mut Walk,
    block: &mut [u8; BLOCK_BYTES],
    storage: &mut S,
) -> Result<(), Error> {
    storage.scratch_read(walk.block_offset(), block)?;
    Ok(walk.take_block(block)?)
}

/// What was read so far, and what the seams of the data entries will take.
fn framing_left(session: &Session<'_>) -> Result<u64, Error> {
    let layout = session.layout()?;
    let seams = (layout.data_entry()..=layout.entries())
        .map(|entry| layout.seam(entry).expected().len() as u64);
    Ok(session.tally.source_bytes() + seams.sum::<u64>())
}
