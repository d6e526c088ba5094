//! Before the transfer along the route from a base: what only the base has leaves the target set, so that there is room.
//!
//! # Power loss
//! The set is unbootable and its front matter is gone: the next install follows the full route and looks at everything.

use super::planning::read_block;
use super::route::Leaving;
use super::walk::{Step, Walk};
use super::{Session, State, transfer};
use crate::error::Error;
use crate::storage::Storage;

pub(super) struct Removal {
    walk: Walk,
    leaving: Leaving,
}

impl Removal {
    pub fn new(session: &Session<'_>) -> Result<Self, Error> {
        Ok(Self {
            walk: session.walk()?,
            leaving: Leaving::new(session.manifest()?, &session.followed),
        })
    }

    /// Removes what one index block names.
    pub fn work<S: Storage>(
        mut self,
        session: &mut Session<'_>,
        storage: &mut S,
    ) -> Result<State, Error> {
        loop {
            let step = self.walk.step(&session.block, session.manifest()?)?;
            if let Some(digest) = self.leaving.at(&step) {
                storage.remove(&digest)?;
            }
            match step {
                Step::Block => {
                    read_block(&mut self.walk, &mut session.block, storage)?;
                    return Ok(State::Removal(self));
                }
                Step::End => return Ok(State::Transfer(transfer::Transfer::new(session)?)),
                _ => {}
            }
        }
    }
}
