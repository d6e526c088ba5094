//! Which route through the index an install follows: that from the release that the target set holds, or the full one.
//!
//! # Invariants
//! - The route from a base is followed only when a [`Verified`] manifest has the SHA-256 that the route names, and the storage
//!   finds that release's composefs image at its place.

use super::walk::{Count, Step};
use crate::storage::Storage;
use crate::verify::Verified;
use crate::wire::digest::{BlobDigest, Sha256Digest};
use crate::wire::manifest::{Manifest, PayloadKind};
use crate::{error::Error, wire::index::BLOCK_BYTES};

/// The route that is followed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Followed {
    /// Its position in the manifest.
    pub number: usize,
    /// Where it starts in the index.
    pub offset_bytes: u64,
    /// The release that it starts from; `None` for the full one.
    pub base: Option<Base>,
}

/// What a release that the target set holds says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    /// SHA-256 of its manifest.
    pub manifest_sha256: Sha256Digest,
    /// Its composefs image.
    pub image: BlobDigest,
    /// Its objects.
    pub objects: Count,
}

impl Base {
    /// `None` for a release without a composefs image: it has nothing that could be left out.
    fn of(held: &Verified<Manifest>) -> Option<Self> {
        let payload = held.value().composefs()?;
        match payload.kind {
            PayloadKind::Composefs {
                objects,
                object_bytes,
            } => Some(Self {
                manifest_sha256: *held.manifest_sha256(),
                image: payload.digest,
                objects: Count {
                    objects,
                    bytes: object_bytes,
                },
            }),
            PayloadKind::Uki | PayloadKind::Image { .. } => None,
        }
    }
}

impl Followed {
    /// Chooses a route of `manifest`; `held` is what the target set's kept front matter proves.
    ///
    /// # Errors
    /// When the storage cannot tell what it holds.
    pub fn choose<S: Storage>(
        manifest: &Manifest,
        held: Option<&Verified<Manifest>>,
        storage: &mut S,
    ) -> Result<Self, Error> {
        let full = Ok(Self::default());
        let Some((held, base)) = held.and_then(|held| Some((held, Base::of(held)?))) else {
            return full;
        };
        let named = |base: &Base| {
            let mut routes = manifest.routes.iter();
            routes.position(|route| route.base == Some(base.manifest_sha256))
        };
        let Some(number) = named(&base).filter(|_| manifest.composefs().is_some()) else {
            return full;
        };
        if !storage.starts_from(held.value())? {
            return full;
        }
        let before = manifest.routes.iter().take(number);
        let blocks: u64 = before.map(|route| u64::from(route.blocks)).sum();
        Ok(Self {
            number,
            offset_bytes: blocks * BLOCK_BYTES as u64,
            base: Some(base),
        })
    }
}

/// Says, while a route is walked, what must leave the target set: the removed objects, and at the end the base's composefs image.
/// What this release has under the same digest stays, whatever it was for in the base.
pub(crate) struct Leaving {
    base_image: Option<BlobDigest>,
    image: Option<BlobDigest>,
}

impl Leaving {
    /// Before the first step.
    pub fn new(manifest: &Manifest, followed: &Followed) -> Self {
        Self {
            base_image: followed.base.map(|base| base.image),
            image: manifest.composefs().map(|payload| payload.digest),
        }
    }

    /// What leaves at a step.
    pub fn at(&mut self, step: &Step) -> Option<BlobDigest> {
        match step {
            Step::Removed(removed) if Some(removed.digest) != self.image => Some(removed.digest),
            Step::Blob(blob) => {
                self.base_image = self.base_image.filter(|image| *image != blob.digest);
                None
            }
            Step::End => self.base_image.take(),
            _ => None,
        }
    }
}
