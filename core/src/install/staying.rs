//! The objects that stay on the route from the release that runs: the route does not list them, so the running set is asked for its
//! objects, and they are merged into the walk where their digests stand.
//!
//! # Invariants
//! - Objects ascend over the whole walk, those that stay and those of the route together; one that the route names comes from the
//!   route alone.
//! - What came must be as many objects, and as many bytes, as the base has less what is removed. A running set that has lost an
//!   object, or has one too many, is found out before anything is written.

use super::route::Followed;
use super::walk::{Count, Step, Walk};
use crate::error::{BundleInvalid, Error};
use crate::storage::{RunningObject, Storage};
use crate::wire::digest::BlobDigest;
use crate::wire::index::{BLOCK_BYTES, Blob, Role};
use crate::wire::manifest::{Manifest, PayloadKind};
use core::cmp::Ordering;

/// The objects of the running set, as far as they have come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Staying {
    /// The last one that was asked for.
    after: Option<BlobDigest>,
    /// The next one, when it is known.
    next: Option<RunningObject>,
    ended: bool,
    /// The base's composefs image, which lies among its objects and is none.
    image: BlobDigest,
    count: Count,
}

impl Staying {
    /// Before the first object; `None` for a route that does not start from the running set.
    pub fn new(followed: &Followed) -> Option<Self> {
        followed.running_base().map(|base| Self {
            after: None,
            next: None,
            ended: false,
            image: base.image,
            count: Count::default(),
        })
    }

    /// The next object before `bound`, or of all that are left; one that is `bound` itself is passed over.
    fn before<S: Storage>(
        &mut self,
        bound: Option<&BlobDigest>,
        storage: &mut S,
    ) -> Result<Option<RunningObject>, Error> {
        loop {
            if self.next.is_none() && !self.ended {
                self.next = storage.running_object_after(self.after.as_ref())?;
                self.ended = self.next.is_none();
            }
            let Some(object) = self.next else {
                return Ok(None);
            };
            let order = bound.map_or(Ordering::Less, |bound| {
                object.digest.as_bytes().cmp(bound.as_bytes())
            });
            if order == Ordering::Greater {
                return Ok(None);
            }
            self.next = None;
            self.after = Some(object.digest);
            if order == Ordering::Equal || object.digest == self.image {
                continue;
            }
            let count = self.count.checked_add(1, object.size);
            self.count = count.ok_or(BundleInvalid::Field {
                field: crate::error::Field::Payloads,
            })?;
            return Ok(Some(object));
        }
    }
}

impl Walk {
    /// The next step, as [`step`](Self::step), with the objects that stay among those of the route.
    ///
    /// # Errors
    /// Those of [`step`](Self::step), and the storage's.
    pub fn merged_step<S: Storage>(
        &mut self,
        block: &[u8; BLOCK_BYTES],
        manifest: &Manifest,
        storage: &mut S,
    ) -> Result<Step, Error> {
        let step = match self.held_back.take() {
            Some(step) => step,
            None => self.step(block, manifest)?,
        };
        let Some(staying) = &mut self.staying else {
            return Ok(step);
        };
        let bound = match &step {
            Step::Blob(blob) if blob.role == Role::Object => Some(blob.digest),
            Step::Removed(removed) => Some(removed.digest),
            Step::Blob(blob) if blob.role == Role::Composefs => None,
            _ => return Ok(step),
        };
        match staying.before(bound.as_ref(), storage)? {
            None => Ok(step),
            Some(object) => {
                self.held_back = Some(step);
                Ok(Step::Stays(object))
            }
        }
    }

    /// At the end: whether the objects that came are those that stay, as the manifests count them.
    pub fn staying_fits(&self) -> bool {
        let staying = self.staying.as_ref();
        staying.is_none_or(|staying| staying.count == self.kept())
    }
}

/// An object that stays, as a blob that no range gives.
pub(super) fn as_blob(object: &RunningObject, manifest: &Manifest) -> Blob {
    let is_composefs = |kind: &PayloadKind| matches!(kind, PayloadKind::Composefs { .. });
    let mut payloads = manifest.payloads.iter();
    let payload = payloads.position(|payload| is_composefs(&payload.kind));
    Blob {
        role: Role::Object,
        payload: payload.unwrap_or_default() as u8,
        digest: object.digest,
        size: object.size,
        ranges: 0,
        stored_bytes: 0,
        alternatives: 0,
    }
}
