//! Which route through the index an install follows: that from the release that runs, that from the one that the target set holds, or
//! the full one.
//!
//! # Invariants
//! - The route from a base is followed only when a [`Verified`] manifest has the SHA-256 that the route names; from the target set,
//!   when the storage finds that release's composefs image at its place; from the running set, when the objects there are those of
//!   the base, as many and as large (`staying.rs`).

use super::plan::{NoBase, Start};
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
    /// Where that release is, or why there is none.
    pub start: Start,
}

/// What a release that a set holds says about itself.
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

/// What the sets hold, as far as it is proved, and may still be started from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Releases<'w> {
    /// In the target set.
    pub target: Option<&'w Verified<Manifest>>,
    /// In the running set.
    pub running: Option<&'w Verified<Manifest>>,
    /// Whether a set has turned out to be other than its release says.
    pub differ: bool,
}

impl Releases<'_> {
    /// The running set is not what its release says.
    pub fn drop_running(&mut self) {
        (self.running, self.differ) = (None, true);
    }

    /// Nothing is to be started from any more: the target set has been changed, or is about to be looked at whole.
    pub fn drop_all(&mut self) {
        (self.target, self.running, self.differ) = (None, None, true);
    }
}

impl Followed {
    /// Chooses a route of `manifest`. That from the release that runs comes first: the bases of its patches are in the running set,
    /// and of the target set nothing is a base. When both sets hold the same release, what is at its place need not be copied.
    ///
    /// # Errors
    /// When the storage cannot tell what it holds.
    pub fn choose<S: Storage>(
        manifest: &Manifest,
        releases: &Releases<'_>,
        storage: &mut S,
    ) -> Result<Self, Error> {
        let running = Self::of(manifest, releases.running, Start::Running);
        let target = Self::of(manifest, releases.target, Start::Target);
        let same = running.map(|route| route.number) == target.map(|route| route.number);
        if let Some(route) = running.filter(|_| !same) {
            return Ok(route);
        }
        if let (Some(route), Some(held)) = (target, releases.target)
            && storage.starts_from(held.value())?
        {
            return Ok(route);
        }
        let nothing_proved = releases.target.is_none() && releases.running.is_none();
        let why = if manifest.routes.len() == 1 {
            NoBase::NoRoutes
        } else if releases.differ || target.is_some() {
            NoBase::SetDiffers
        } else if nothing_proved {
            NoBase::NothingProved
        } else {
            NoBase::NoRouteFrom
        };
        Ok(running.unwrap_or(Self {
            start: Start::Nothing(why),
            ..Self::default()
        }))
    }

    /// The route from a release that is proved; `None` when there is none.
    fn of(manifest: &Manifest, held: Option<&Verified<Manifest>>, start: Start) -> Option<Self> {
        let base = Base::of(held?)?;
        manifest.composefs()?;
        let mut routes = manifest.routes.iter();
        let number = routes.position(|route| route.base == Some(base.manifest_sha256))?;
        let before = manifest.routes.iter().take(number);
        let blocks: u64 = before.map(|route| u64::from(route.blocks)).sum();
        Some(Self {
            number,
            offset_bytes: blocks * BLOCK_BYTES as u64,
            base: Some(base),
            start,
        })
    }

    /// The base, when it is what runs.
    pub fn running_base(&self) -> Option<Base> {
        self.base.filter(|_| self.start == Start::Running)
    }

    /// The base, when the target set holds it.
    pub fn target_base(&self) -> Option<Base> {
        self.base.filter(|_| self.start == Start::Target)
    }
}

/// Says, while a route is walked, what must leave the target set: the removed objects, and at the end the base's composefs image.
/// What this release has under the same digest stays, whatever it was for in the base.
pub(crate) struct Leaving {
    base_image: Option<BlobDigest>,
    /// Whether the target set holds the base: otherwise the storage looks for what is of no use there.
    removes: bool,
    image: Option<BlobDigest>,
}

impl Leaving {
    /// Before the first step.
    pub fn new(manifest: &Manifest, followed: &Followed) -> Self {
        Self {
            base_image: followed.target_base().map(|base| base.image),
            removes: followed.target_base().is_some(),
            image: manifest.composefs().map(|payload| payload.digest),
        }
    }

    /// What leaves at a step.
    pub fn at(&mut self, step: &Step) -> Option<BlobDigest> {
        match step {
            Step::Removed(removed) if self.removes && Some(removed.digest) != self.image => {
                Some(removed.digest)
            }
            Step::Blob(blob) => {
                self.base_image = self.base_image.filter(|image| *image != blob.digest);
                None
            }
            Step::End => self.base_image.take(),
            _ => None,
        }
    }
}
