//! What goes onto a disk: a bundle's blobs, checked while they are taken, as the agents' own install leaves them.
//!
//! # Invariants
//! - The layout of a root slot is that of `twinseal-platform-linux`: `composefs/objects/xx/…`, `composefs/images/<digest>` as
//!   a relative link, an empty `composefs/tmp`, `twinseal/manifest.tar`.
//! - Every blob has the digest of its name, the UKI seals the composefs image, and every object that the image names is there.

use std::fs::File;
use std::path::Path;

use twinseal_core::error::BundleInvalid;
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::Role;

use super::DiskError;
use super::ext4::Tree;
use super::merkle::{SealedFile, sealed_bytes};
use super::sizes::Content;
use crate::build::sealed_by;
use crate::error::{Error, FileOperation};
use crate::read::{BlobName, Bundle, IndexedBlob, find, image_slot};
use crate::verify::check_objects;

/// Largest UKI and largest composefs image: firmware loads the one whole, and the other is read whole to be checked.
const KEPT_MAX_BYTES: u64 = 1 << 30;

/// A bundle of a whole system.
pub(super) struct System<'b> {
    bundle: &'b Bundle,
    blobs: Vec<IndexedBlob>,
}

impl<'b> System<'b> {
    /// Reads the index.
    ///
    /// # Errors
    /// [`DiskError::NoSystem`] for a bundle of images alone; [`Error::Bundle`] when it is damaged.
    pub(super) fn of(bundle: &'b Bundle) -> Result<Self, Error> {
        let blobs = bundle.index()?;
        if bundle.manifest().seal.is_none() {
            return Err(DiskError::NoSystem.into());
        }
        Ok(Self { bundle, blobs })
    }

    /// How much it is.
    pub(super) fn content(&self) -> Content {
        let mut content = Content::default();
        for blob in &self.blobs {
            let size = blob.blob.size;
            match blob.blob.role {
                Role::Uki => content.uki_bytes = size,
                Role::Image => content.images.push(size),
                Role::Object | Role::Composefs => {
                    content.sealed_bytes = content.sealed_bytes.saturating_add(sealed_bytes(size));
                    content.files += 1;
                }
            }
        }
        content
    }

    /// Bytes of all blobs.
    pub(super) fn blob_bytes(&self) -> u64 {
        let sizes = self.blobs.iter().map(|blob| blob.blob.size);
        sizes.fold(0, u64::saturating_add)
    }

    /// The names of the slots that it has images for.
    pub(super) fn slots(&self) -> Vec<String> {
        let images = self.images();
        images
            .filter_map(|blob| image_slot(&blob.blob, self.bundle.manifest()))
            .map(str::to_owned)
            .collect()
    }

    /// The UKI, which seals the composefs image.
    ///
    /// # Errors
    /// [`BundleInvalid::SealUki`] when it seals another.
    pub(super) fn uki(&self) -> Result<Vec<u8>, Error> {
        let manifest = self.bundle.manifest();
        let blob = find(&self.blobs, &BlobName::Uki, manifest)?;
        let uki = self.bundle.blob_bytes(blob, KEPT_MAX_BYTES)?;
        let sealed = sealed_by(&uki)?;
        if manifest.seal == Some(sealed) {
            return Ok(uki);
        }
        Err(Error::Bundle(BundleInvalid::SealUki { sealed }.into()))
    }

    /// Puts everything that a root slot holds into `tree`.
    pub(super) fn fill_root(&self, tree: &mut Tree) -> Result<(), Error> {
        for name in ["composefs/images", "composefs/objects", "composefs/tmp"] {
            tree.directory(name)?;
        }
        let mut carried = Vec::new();
        for blob in &self.blobs {
            match blob.blob.role {
                Role::Object => {
                    self.seal(blob, tree)?;
                    carried.push((blob.blob.digest, blob.blob.size));
                }
                Role::Composefs => {
                    self.seal(blob, tree)?;
                    let digest = blob.blob.digest.to_hex();
                    let (shard, rest) = parts(&digest);
                    let name = format!("composefs/images/{digest}");
                    tree.link(&name, &format!("../objects/{shard}/{rest}"))?;
                }
                Role::Uki | Role::Image => {}
            }
        }
        tree.file("twinseal/manifest.tar", &self.bundle.front_matter()?)?;
        self.check_objects(&mut carried)
    }

    /// Writes the image at a position among [`slots`](Self::slots) into a new file.
    pub(super) fn write_image(&self, position: usize, path: &Path) -> Result<File, Error> {
        let mut file = File::create_new(path).map_err(FileOperation::Create.on(path))?;
        if let Some(blob) = self.images().nth(position) {
            self.bundle.read_blob(blob, &mut file, path)?;
        }
        Ok(file)
    }

    fn images(&self) -> impl Iterator<Item = &IndexedBlob> {
        let is_image = |blob: &&IndexedBlob| blob.blob.role == Role::Image;
        self.blobs.iter().filter(is_image)
    }

    fn seal(&self, blob: &IndexedBlob, tree: &mut Tree) -> Result<(), Error> {
        let digest = blob.blob.digest;
        let hex = digest.to_hex();
        let (shard, rest) = parts(&hex);
        let name = format!("composefs/objects/{shard}/{rest}");
        let path = tree.path(&name);
        let mut file = SealedFile::new(tree.create(&name)?);
        self.bundle.read_blob(blob, &mut file, &path)?;
        let (bytes, measured) = file.finish().map_err(FileOperation::Write.on(&path))?;
        if BlobDigest::sha256(measured) != digest {
            return Err(DiskError::Seal(digest).into());
        }
        tree.seal(&name, bytes);
        Ok(())
    }

    /// The image is the one that the manifest seals, and names nothing that is not there.
    fn check_objects(&self, carried: &mut [(BlobDigest, u64)]) -> Result<(), Error> {
        let manifest = self.bundle.manifest();
        let blob = find(&self.blobs, &BlobName::Composefs, manifest)?;
        if manifest.seal != Some(blob.blob.digest) {
            return Err(Error::Bundle(BundleInvalid::SealStatement.into()));
        }
        let erofs = self.bundle.blob_bytes(blob, KEPT_MAX_BYTES)?;
        carried.sort_by(|(one, _), (other, _)| one.as_bytes().cmp(other.as_bytes()));
        check_objects(&erofs, carried).map(|_| ())
    }
}

/// The directory of an object and its name there.
fn parts(hex: &str) -> (&str, &str) {
    hex.split_at_checked(2).unwrap_or((hex, ""))
}
