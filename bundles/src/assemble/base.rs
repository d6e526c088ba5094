//! The releases that devices may hold already: for each of them the index gets a route of its own, and the data its patches.
//!
//! # Invariants
//! - A base is read from its bundle with every index block proved against its manifest; whether anybody trusts the bundle is the
//!   device's question, which compares the SHA-256 of a manifest that it has verified itself.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use twinseal_core::wire::digest::{BlobDigest, Sha256Digest};
use twinseal_core::wire::index::{Removed, Role};
use twinseal_core::wire::text::Name;

use super::plan::Target;
use crate::composefs_image::{FileKind, file_list};
use crate::error::Error;
use crate::inspect::COMPOSEFS_MAX_BYTES;
use crate::read::{BlobName, Bundle, IndexedBlob, find, image_slot};
use crate::recipe::RecipeError;

/// A release that devices may hold.
#[derive(Debug)]
pub struct BaseRelease {
    /// SHA-256 of its manifest: its name.
    pub manifest_sha256: Sha256Digest,
    /// Its objects, ascending by digest.
    objects: Vec<Removed>,
    bundle: Bundle,
    index: Vec<IndexedBlob>,
    /// The files of its root that are objects, in the order of their paths.
    files: Vec<(PathBuf, BlobDigest)>,
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
        let index = bundle.index()?;
        let objects = index.iter().filter(|blob| blob.blob.role == Role::Object);
        let mut objects: Vec<_> = objects
            .map(|indexed| Removed {
                digest: indexed.blob.digest,
                size: indexed.blob.size,
            })
            .collect();
        // As a device demands anyway; what is looked up below must be in order.
        objects.sort_unstable_by(|one, other| order(&one.digest, &other.digest));
        let erofs = bundle.blob_bytes(
            find(&index, &BlobName::Composefs, bundle.manifest())?,
            COMPOSEFS_MAX_BYTES,
        )?;
        Ok(Self {
            manifest_sha256: Sha256::digest(bundle.manifest_entry()).into(),
            objects,
            files: object_files(&erofs)?,
            bundle,
            index,
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

    /// Whether it has a blob, for whatever.
    pub fn has_blob(&self, digest: &BlobDigest) -> bool {
        let payloads = &self.bundle.manifest().payloads;
        self.has(digest) || payloads.iter().any(|payload| payload.digest == *digest)
    }

    /// Its bundle.
    pub const fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Its blobs.
    pub fn index(&self) -> &[IndexedBlob] {
        &self.index
    }

    /// The files of its root that are objects, in the order of their paths.
    pub fn files(&self) -> &[(PathBuf, BlobDigest)] {
        &self.files
    }

    /// The position in [`Self::index`] of what goes to the same place of a device as `target`: for anything but an object.
    pub fn payload_like(&self, target: &Target) -> Option<usize> {
        self.index.iter().position(|indexed| {
            let slot = image_slot(&indexed.blob, self.bundle.manifest());
            match target {
                Target::Image { slot: wanted } => slot == Some(wanted.as_str()),
                Target::Object => false,
                Target::Uki | Target::Composefs => indexed.blob.role == target.role(),
            }
        })
    }
}

/// The files of a composefs image that are objects.
fn object_files(erofs: &[u8]) -> Result<Vec<(PathBuf, BlobDigest)>, Error> {
    let files = file_list(erofs)?.into_iter().filter_map(|file| {
        let digest = file.digest.filter(|_| file.kind == FileKind::ObjectFile)?;
        Some((file.path, BlobDigest::sha256(digest)))
    });
    let mut files: Vec<_> = files.collect();
    files.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    Ok(files)
}

/// The order of objects in an index.
fn order(one: &BlobDigest, other: &BlobDigest) -> std::cmp::Ordering {
    one.as_bytes().cmp(other.as_bytes())
}
