//! A place among the blocks of all routes, each proved by the chain of its route: for an audit, which reads them without the grammar
//! of one route.

use super::route::Followed;
use crate::error::BundleInvalid;
use crate::wire::digest::Sha256Digest;
use crate::wire::index::{BLOCK_BYTES, Block};
use crate::wire::manifest::{Manifest, Route};
use sha2::{Digest, Sha256};

/// The place of a block.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Its route.
    pub route: usize,
    /// Its number in the route.
    pub block: u32,
    expected: Sha256Digest,
}

impl Place {
    /// The first block of a route; `None` behind the last route.
    pub fn first_of(route: usize, manifest: &Manifest) -> Option<Self> {
        manifest.routes.get(route).map(|first| Self {
            route,
            block: 0,
            expected: first.first_block,
        })
    }

    /// Bytes of the index before the block.
    pub fn offset(&self, manifest: &Manifest) -> u64 {
        bytes(&manifest.routes, self.route) + u64::from(self.block) * BLOCK_BYTES as u64
    }

    /// Where the block is in the scratch area: the route that is followed stands first there, the others behind it in their order.
    pub fn scratch_offset(&self, manifest: &Manifest, followed: &Followed) -> u64 {
        let offset = self.offset(manifest);
        if self.route == followed.number {
            return offset - followed.offset_bytes;
        }
        let first = manifest.routes.iter().skip(followed.number).take(1);
        let moved = first.filter(|_| self.route < followed.number);
        offset + moved.map(route_bytes).sum::<u64>()
    }

    /// Whether this is the block.
    pub fn proves(&self, block: &[u8; BLOCK_BYTES]) -> bool {
        Sha256::digest(block).as_slice() == self.expected
    }

    /// The place of the block that follows `block`, the one at this place; `None` after the last.
    ///
    /// # Errors
    /// [`BundleInvalid::IndexBlock`] when a route has more blocks than the manifest says.
    pub fn after(
        &self,
        block: &[u8; BLOCK_BYTES],
        manifest: &Manifest,
    ) -> Result<Option<Self>, BundleInvalid> {
        let expected = Block::new(block).next();
        let next = Self {
            block: self.block + 1,
            expected,
            ..*self
        };
        let route = manifest.routes.get(self.route);
        if route.is_some_and(|route| next.block < route.blocks) {
            return Ok(Some(next));
        }
        if expected == Sha256Digest::default() {
            return Ok(Self::first_of(self.route + 1, manifest));
        }
        Err(BundleInvalid::IndexBlock { block: self.block })
    }
}

/// Bytes of the first routes.
fn bytes(routes: &[Route], count: usize) -> u64 {
    routes.iter().take(count).map(route_bytes).sum()
}

fn route_bytes(route: &Route) -> u64 {
    u64::from(route.blocks) * BLOCK_BYTES as u64
}
