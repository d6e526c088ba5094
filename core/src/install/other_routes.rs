//! After the full route: the routes for known base releases, which this version does not use, read and checked by an audit.
//!
//! # Invariants
//! - After an audit every block of the index has been proved, used or not.

use super::{Need, Purpose, Session, State, planning};
use crate::error::{BundleInvalid, Error};
use crate::wire::digest::Sha256Digest;
use crate::wire::index::{BLOCK_BYTES, Block};
use sha2::{Digest, Sha256};

pub(super) struct OtherRoutes {
    route: usize,
    block: u32,
    /// Blocks of the index before the next one.
    before: u64,
    expected: Sha256Digest,
}

impl OtherRoutes {
    /// The state after the full route: the next route when there is one to audit, the plan otherwise.
    pub fn after_first(session: &Session<'_>) -> Result<State, Error> {
        let before = session
            .manifest()?
            .routes
            .first()
            .map_or(0, |route| u64::from(route.blocks));
        Self::at(session, 1, before)
    }

    fn at(session: &Session<'_>, route: usize, before: u64) -> Result<State, Error> {
        match session
            .manifest()?
            .routes
            .get(route)
            .filter(|_| session.config.audit)
        {
            Some(next) => Ok(State::OtherRoutes(Self {
                route,
                block: 0,
                before,
                expected: next.first_block,
            })),
            None => Ok(State::Planning(planning::Planning::new(session)?)),
        }
    }

    pub fn need(&self, session: &Session<'_>) -> Result<Need, Error> {
        let layout = session.layout()?;
        let offset = layout.content(layout.index_entry()).offset + self.before * BLOCK_BYTES as u64;
        Ok(session.request(offset, BLOCK_BYTES as u64, Purpose::Index))
    }

    pub fn feed(mut self, session: &mut Session<'_>, bytes: &[u8]) -> Result<State, Error> {
        let damaged = Error::from(BundleInvalid::IndexBlock { block: self.block });
        let block = bytes.first_chunk::<BLOCK_BYTES>().ok_or(damaged)?;
        if Sha256::digest(block).as_slice() != self.expected {
            return Err(damaged);
        }
        self.expected = Block::new(block).next();
        self.block += 1;
        self.before += 1;
        let blocks = session
            .manifest()?
            .routes
            .get(self.route)
            .map_or(0, |route| route.blocks);
        if self.block < blocks {
            return Ok(State::OtherRoutes(self));
        }
        if self.expected != Sha256Digest::default() {
            return Err(damaged);
        }
        Self::at(session, self.route + 1, self.before)
    }
}
