//! In an audit: the blocks of the routes that are not followed, read, checked, and kept in the scratch area for `OtherData`.
//!
//! # Invariants
//! - After an audit every block of the index has been proved, used or not.

use super::place::Place;
use super::{Need, Purpose, Session, State, planning};
use crate::error::{BundleInvalid, Error};
use crate::storage::Storage;
use crate::wire::index::BLOCK_BYTES;

pub(super) struct OtherRoutes {
    place: Place,
}

impl OtherRoutes {
    /// The state after the route that is followed: the first of the others when they are to be audited, the plan otherwise.
    pub fn after_followed(session: &Session<'_>) -> Result<State, Error> {
        Self::at(session, Place::first_of(0, session.manifest()?))
    }

    fn at(session: &Session<'_>, place: Option<Place>) -> Result<State, Error> {
        let manifest = session.manifest()?;
        let followed = session.followed.number;
        let place = match place.filter(|_| session.config.audit) {
            Some(place) if place.route == followed => Place::first_of(followed + 1, manifest),
            other => other,
        };
        Ok(match place {
            Some(place) => State::OtherRoutes(Self { place }),
            None => State::Planning(planning::Planning::new(session)?),
        })
    }

    pub fn need(&self, session: &Session<'_>) -> Result<Need, Error> {
        let layout = session.layout()?;
        let index = layout.content(layout.index_entry());
        let offset = index.offset + self.place.offset(session.manifest()?);
        Ok(session.request(offset, BLOCK_BYTES as u64, Purpose::Index))
    }

    pub fn feed<S: Storage>(
        self,
        session: &mut Session<'_>,
        bytes: &[u8],
        storage: &mut S,
    ) -> Result<State, Error> {
        let Self { place } = self;
        let block = bytes.first_chunk::<BLOCK_BYTES>();
        let proved = block.filter(|block| place.proves(block));
        let block = proved.ok_or(BundleInvalid::IndexBlock { block: place.block })?;
        let manifest = session.manifest()?;
        storage.scratch_write(place.scratch_offset(manifest, &session.followed), block)?;
        Self::at(session, place.after(block, manifest)?)
    }
}
