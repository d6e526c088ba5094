//! Third state: a route chosen, its blocks into the scratch area, and its whole grammar checked.
//!
//! A block that an earlier attempt left in the scratch area is taken from there, if its digest is right: the index resumes too.
//!
//! # Invariants
//! - A block is written to the scratch area only after its digest was right.
//! - `Planning` starts only after every record of the route has been read and found right.

use super::{Ahead, Need, Purpose, Request, Session, State, other_routes, route, walk};
use crate::error::{BundleInvalid, Error, PolicyRefused};
use crate::storage::Storage;
use crate::wire::index::{BLOCK_BYTES, Role};
use crate::wire::manifest::PayloadKind;
use walk::{Step, Walk};

/// So much of a route is asked for at once: what is cut off in the middle is asked for again.
const PIECE_MAX_BYTES: u32 = 64 * 1024;

pub(super) struct IndexFetch {
    walk: Walk,
    /// Whether the route has been chosen.
    chosen: bool,
    /// Whether the scratch area was asked for the block that is needed.
    tried_scratch: bool,
}

impl IndexFetch {
    /// Before the route is chosen, once more after the one that was chosen proved to be none.
    pub fn new(session: &Session<'_>) -> Result<Self, Error> {
        Ok(Self {
            walk: session.walk()?,
            chosen: false,
            tried_scratch: false,
        })
    }

    pub fn need(&self, session: &Session<'_>) -> Result<Need, Error> {
        if !self.tried_scratch {
            return Ok(Need::Work);
        }
        let layout = session.layout()?;
        let content = layout.content(layout.index_entry());
        let left = u64::from(self.walk.blocks_left()) * BLOCK_BYTES as u64;
        let most_bytes = session.config.request_max_bytes.min(PIECE_MAX_BYTES);
        let whole_blocks = most_bytes as usize / BLOCK_BYTES * BLOCK_BYTES;
        let bytes = left.min(whole_blocks as u64) as u32;
        let ahead = Ahead {
            run_bytes: left,
            ..Ahead::default()
        };
        Ok(Need::Bytes(Request {
            offset: content.offset + session.followed.offset_bytes + self.walk.block_offset(),
            bytes,
            purpose: Purpose::Index,
            ahead,
        }))
    }

    /// Chooses the route, tries the scratch area for the next block, and goes on to the plan after the last.
    pub fn work<S: Storage>(
        mut self,
        session: &mut Session<'_>,
        storage: &mut S,
    ) -> Result<State, Error> {
        if !self.chosen {
            // An audit of a source that only goes forward: the full route comes first, and says what comes first in the data.
            if session.config.audit && !session.config.can_go_back {
                session.releases = route::Releases::default();
            }
            session.followed =
                route::Followed::choose(session.manifest()?, &session.releases, storage)?;
            self.walk = session.walk()?;
            self.chosen = true;
        }
        if session.audits_what_is_there() {
            self.tried_scratch = true;
            return Ok(State::IndexFetch(self));
        }
        storage.scratch_read(self.walk.block_offset(), &mut session.block)?;
        match self.walk.take_block(&session.block) {
            Err(BundleInvalid::IndexBlock { .. }) => {
                self.tried_scratch = true;
                Ok(State::IndexFetch(self))
            }
            taken => {
                taken?;
                self.read_records(session, storage)
            }
        }
    }

    pub fn feed<S: Storage>(
        mut self,
        session: &mut Session<'_>,
        bytes: &[u8],
        storage: &mut S,
    ) -> Result<State, Error> {
        for block in bytes.chunks_exact(BLOCK_BYTES) {
            session.block.copy_from_slice(block);
            let offset = self.walk.block_offset();
            // Checks the digest, before the block is kept.
            self.walk.take_block(&session.block)?;
            let next = self.read_records(session, storage)?;
            storage.scratch_write(offset, block)?;
            match next {
                State::IndexFetch(state) => self = state,
                state => return Ok(state),
            }
        }
        Ok(State::IndexFetch(self))
    }

    /// Reads all records of the block in the session.
    fn read_records<S: Storage>(
        mut self,
        session: &mut Session<'_>,
        storage: &mut S,
    ) -> Result<State, Error> {
        loop {
            let manifest = session
                .manifest
                .as_ref()
                .ok_or(crate::error::Misuse::InstallerFailed)?
                .value();
            match self.walk.merged_step(&session.block, manifest, storage)? {
                Step::Block => {
                    self.tried_scratch = false;
                    return Ok(State::IndexFetch(self));
                }
                Step::End if !self.walk.staying_fits() => {
                    session.releases.drop_running();
                    return Ok(State::IndexFetch(Self::new(session)?));
                }
                Step::End => {
                    check_slots(session, storage)?;
                    return other_routes::OtherRoutes::after_followed(session);
                }
                Step::Range(range) | Step::OtherRange(range) => {
                    let layout = session.layout()?;
                    let run = layout.data(range.stored_offset, u64::from(range.stored_bytes));
                    run.ok_or(BundleInvalid::Field {
                        field: crate::error::Field::DataParts,
                    })?;
                }
                Step::Blob(blob)
                    if blob.role == Role::Object && blob.digest.algorithm() as u8 != 1 =>
                {
                    return Err(BundleInvalid::AlgorithmUnsupported.into());
                }
                Step::Removed(removed) if removed.digest.algorithm() as u8 != 1 => {
                    return Err(BundleInvalid::AlgorithmUnsupported.into());
                }
                Step::Removed(_)
                | Step::Blob(_)
                | Step::Alternative(_)
                | Step::Stays(_)
                | Step::BlobEnd => {}
            }
        }
    }
}

/// Every image payload has its slot, and the slot is large enough.
fn check_slots<S: Storage>(session: &Session<'_>, storage: &mut S) -> Result<(), Error> {
    for (number, payload) in session.manifest()?.payloads.iter().enumerate() {
        let PayloadKind::Image { slot } = &payload.kind else {
            continue;
        };
        let available = storage.image_slot_bytes(slot.as_str())?;
        let available = available.ok_or(PolicyRefused::SlotUnknown {
            payload: number as u8,
        })?;
        if payload.size > available {
            return Err(PolicyRefused::SlotTooSmall {
                needed: payload.size,
                available,
            }
            .into());
        }
    }
    Ok(())
}
