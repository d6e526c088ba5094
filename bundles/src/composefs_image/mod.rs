//! The composefs image of a root file system: an EROFS without file data, and the list of objects that it names.
//!
//! The image holds every inode, and the content of files of at most 64 bytes. A larger file is an *object*: the image
//! names it by its fs-verity digest (SHA-256, 4 KiB blocks, no salt, as `fsverity digest` prints), and the kernel serves
//! no byte of it that does not match.
//!
//! # Invariants
//! - For a directory, the image is byte for byte that of `mkcomposefs DIRECTORY IMAGE` (version 1.0.8, default options);
//!   for an archive, that of the directory unpacked from it. `tests/reference_composefs.rs` compares both. What cannot be
//!   made equal is refused ([`TreeFault`](crate::rootfs::TreeFault): times before 1970, whiteouts named `00` to `ff`).
//! - Equal input gives an equal image and an equal list.
//! - Memory grows with the number of files, never with their size.

mod hashing;
mod listing;
mod whiteouts;

use std::path::Path;

use composefs::erofs::format::FormatVersion;
use composefs::fsverity::Sha256HashValue;
use composefs::tree::FileSystem;
use composefs::tree::RegularFile;
use zerocopy::IntoBytes;

use crate::rootfs;
use crate::rootfs::Content;
use crate::rootfs::FileContent;
use crate::rootfs::RootError;
use crate::rootfs::RootOptions;
use crate::rootfs::RootTree;
use crate::rootfs::Unhashed;
use crate::rootfs::content::Origin;

pub use hashing::ObjectReader;
pub use listing::FileEntry;
pub use listing::FileKind;
pub use listing::file_list;
pub use listing::objects_named_by;

/// An fs-verity digest: SHA-256, 4 KiB blocks, no salt.
pub type Digest = [u8; 32];

/// One object and where its bytes lie in the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectSource {
    /// The fs-verity digest, which is the object's name.
    pub digest: Digest,
    /// Number of bytes, more than 64.
    pub size: u64,
    /// Where they lie. [`ComposefsImage::open_object`] reads them.
    pub content: Content,
}

/// A composefs image and everything that it refers to.
#[derive(Debug)]
pub struct ComposefsImage {
    /// The EROFS image.
    pub erofs: Vec<u8>,
    /// The fs-verity digest of `erofs`: the seal.
    pub digest: Digest,
    /// Every object that `erofs` names, once, in the order of digests.
    pub objects: Vec<ObjectSource>,
    origin: Origin,
}

impl ComposefsImage {
    /// Opens the content of one of [`Self::objects`]. The reader gives an error instead of the last bytes if they do not
    /// have the object's digest any more.
    ///
    /// # Errors
    /// [`RootError::Changed`] if the file has another size now, [`RootError::Read`] if it cannot be opened.
    pub fn open_object(&self, object: &ObjectSource) -> Result<ObjectReader<'_>, RootError> {
        Ok(ObjectReader::new(
            self.origin.open(&object.content, object.size)?,
            object.digest,
        ))
    }
}

/// Makes the image of the tree below the directory at `path`, with what `options` lays over it.
///
/// # Errors
/// [`RootError::Read`] for what the host refuses to show, [`RootError::Changed`] if a file changes meanwhile,
/// [`RootError::Tree`] for what an image cannot hold.
pub fn from_directory(path: &Path, options: &RootOptions) -> Result<ComposefsImage, RootError> {
    build(rootfs::directory::read(path)?, options)
}

/// Makes the image of the tree in the tar archive at `path`, which may be compressed with zstd or gzip.
///
/// Needs no root. What is decided where archives are ambiguous is listed in [`crate::rootfs`].
///
/// # Errors
/// Those of [`from_directory`], and [`RootError::Archive`], [`RootError::Decompress`], [`RootError::CompressionNotRead`] and
/// [`RootError::Temporary`] for an archive that is broken, refused or too large for `TMPDIR`.
pub fn from_tar(path: &Path, options: &RootOptions) -> Result<ComposefsImage, RootError> {
    build(rootfs::archive::read(path)?, options)
}

fn build(base: (RootTree, Origin), options: &RootOptions) -> Result<ComposefsImage, RootError> {
    let (mut root, origin) = rootfs::complete(base, options)?;
    root.normalise(options);
    rootfs::limits::check(&root)?;
    let has_whiteouts = whiteouts::prepare(&mut root.tree);
    let digests = hashing::measure_all(&origin, &root.unhashed)?;
    let RootTree { tree, unhashed } = root;
    let tree: FileSystem<Sha256HashValue> = tree.try_map_regular(|content| match content {
        FileContent::Inline(bytes) => Ok(RegularFile::Inline(bytes.clone())),
        // The reader of the root made these indices for this list, and `measure_all` gave one digest for each.
        FileContent::Object(index) => Ok::<_, RootError>(RegularFile::External(
            digests[*index].clone(),
            unhashed[*index].size,
        )),
    })?;
    // The oldest format that can say it, as `mkcomposefs` chooses: version 1 adds how whiteouts are escaped.
    let version = if has_whiteouts {
        FormatVersion::V1
    } else {
        FormatVersion::V0
    };
    let (erofs, digest) = tree.compute_image_bytes(version);
    Ok(ComposefsImage {
        erofs: erofs.into_vec(),
        digest: to_digest(&digest),
        objects: list_objects(unhashed, &digests),
        origin,
    })
}

/// Every object once, by digest. Of equal files the first one in the input counts.
fn list_objects(unhashed: Vec<Unhashed>, digests: &[Sha256HashValue]) -> Vec<ObjectSource> {
    let sources = unhashed
        .into_iter()
        .zip(digests)
        .map(|(file, digest)| ObjectSource {
            digest: to_digest(digest),
            size: file.size,
            content: file.content,
        });
    let mut objects: Vec<ObjectSource> = sources.collect();
    objects.sort_by_key(|object| object.digest);
    objects.dedup_by_key(|object| object.digest);
    objects
}

fn to_digest(value: &Sha256HashValue) -> Digest {
    let mut digest = Digest::default();
    digest
        .iter_mut()
        .zip(value.as_bytes())
        .for_each(|(to, from)| *to = *from);
    digest
}

#[cfg(test)]
mod tests;
