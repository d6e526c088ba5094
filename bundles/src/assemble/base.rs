//! The releases that devices may hold already: for each of them the index gets a route of its own.
//!
//! # Invariants
//! - A base is read from its bundle with every index block proved against its manifest; whether anybody trusts the bundle is the
//!   device's question, which compares the SHA-256 of a manifest that it has verified itself.

use std::path::Path;

use sha2::{Digest, Sha256};
use twinseal_core::wire::digest::{BlobDigest, Sha256Digest};
use twinseal_core::wire::index::{Removed, Role};
use twinseal_core::wire::text::Name;

use crate::error::Error;
use crate::read::Bundle;
use crate::recipe::RecipeError;

/// A release that devices may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseRelease {
    /// SHA-256 of its manifest: its name.
    pub manifest_sha256: Sha256Digest,
    /// Its objects, ascending by digest.
    objects: Vec<Removed>,
}

impl BaseRelease {
    /// Reads a base from its bundle. `compatible` is the device type of the new release.
    ///
    /// # Errors
    /// [`Error::Bundle`] when the bundle is damaged; [`RecipeError`] when it is for other devices or has no root.
    pub fn read(path: &Path, compatible: &Name) -> Result<Self, Error> {
        let bundle = Bundle::open(path)?;
        let found = &bundle.manifest().compatible;
        if found != compatible {
            return Err(RecipeError::BaseCompatible {
                path: path.to_owned(),
                found: found.to_string(),
            }
            .into());
        }
        if bundle.manifest().composefs().is_none() {
            return Err(RecipeError::BaseWithoutRoot(path.to_owned()).into());
        }
        let objects = bundle.index()?.into_iter().map(|indexed| indexed.blob);
        let objects = objects.filter(|blob| blob.role == Role::Object);
        let mut objects: Vec<_> = objects
            .map(|blob| Removed {
                digest: blob.digest,
                size: blob.size,
            })
            .collect();
        // As a device demands anyway; what is looked up below must be in order.
        objects.sort_unstable_by(|one, other| order(&one.digest, &other.digest));
        Ok(Self {
            manifest_sha256: Sha256::digest(bundle.manifest_entry()).into(),
            objects,
        })
    }

    /// Its objects, ascending by digest.
    pub fn objects(&self) -> &[Removed] {
        &self.objects
    }

    /// Whether it has an object.
    pub fn has(&self, digest: &BlobDigest) -> bool {
        let found = self
            .objects
            .binary_search_by(|object| order(&object.digest, digest));
        found.is_ok()
    }
}

/// The order of objects in an index.
fn order(one: &BlobDigest, other: &BlobDigest) -> std::cmp::Ordering {
    one.as_bytes().cmp(other.as_bytes())
}
