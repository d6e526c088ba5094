//! Everything that can go wrong on the build host, sorted by who is to blame.
//!
//! # Invariants
//! - Every message is a full sentence; where there is something to do, the message or [`Error::help`] says what.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::Role;

use crate::authenticode::AuthenticodeError;
use crate::disk::DiskError;
use crate::initramfs::EarlyError;
use crate::keys::KeyError;
use crate::patch::ApplyFault;
use crate::recipe::RecipeError;
use crate::rootfs::RootError;
use crate::uki::UkiError;

/// Any error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The recipe, or a flag that stands for a line of it, asks for something that cannot be built.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The root file system cannot become a composefs image, or an image in a bundle cannot be read.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The UKI cannot be made or read.
    #[error(transparent)]
    Uki(#[from] UkiError),
    /// The UKI cannot be signed for Secure Boot.
    #[error(transparent)]
    SecureBoot(#[from] AuthenticodeError),
    /// The initramfs cannot be made.
    #[error(transparent)]
    Early(#[from] EarlyError),
    /// A key or a signature cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The bundle is invalid, or a device like the one described would refuse it.
    #[error(transparent)]
    Bundle(#[from] twinseal_core::Error),
    /// A device would take the bundle, and what it installs could not work.
    #[error(transparent)]
    Unsound(#[from] Unsound),
    /// What was asked for is not in the bundle.
    #[error(transparent)]
    Absent(#[from] Absent),
    /// A range could not be compressed.
    #[error("Compressing failed: {0}.")]
    Compress(#[source] io::Error),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The disk image cannot be made.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The bundle could not be read while it was being verified.
    #[error("Reading the bundle failed: {0}.")]
    Source(#[source] io::Error),
}

/// A bundle that every device accepts and that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// The composefs image names an object that the bundle does not carry.
    #[error("In the composefs image, `{}` is object {digest}, which the bundle does not carry. Build the bundle again.", path.display())]
    ObjectMissing {
        /// A file that needs it.
        path: PathBuf,
        /// The object.
        digest: BlobDigest,
    },
    /// The composefs image gives an object another size than the bundle.
    #[error(
        "In the composefs image, `{}` has {named} bytes, and its object has {carried}. Build the bundle again.",
        path.display()
    )]
    ObjectSize {
        /// A file that needs it.
        path: PathBuf,
        /// Size by the image.
        named: u64,
        /// Size in the bundle.
        carried: u64,
    },
    /// A route from a base has a blob that the full route has not so.
    #[error(
        "Route {route} of the index says something else of blob {digest} than the full route. Build the bundle again."
    )]
    RouteBlob {
        /// Its position in the manifest.
        route: usize,
        /// The blob.
        digest: BlobDigest,
    },
    /// The ranges of a patch stand somewhere else than behind those before, or do not make the blob.
    #[error(
        "Route {route} of the index has a patch for blob {digest} whose ranges do not follow each other. Build the bundle again."
    )]
    PatchPlace {
        /// Its position in the manifest.
        route: usize,
        /// The blob.
        digest: BlobDigest,
    },
    /// A patch gives something else than its blob.
    #[error(
        "In route {route} of the index, the patch for blob {digest} is no use: {fault}. Build the bundle again."
    )]
    Patch {
        /// The position of the route in the manifest.
        route: usize,
        /// The blob.
        digest: BlobDigest,
        /// What is wrong.
        fault: ApplyFault,
    },
    /// A base was named that the bundle knows nothing about.
    #[error("The bundle has no route from `{}`: it was built without it, or that file was signed or built again since.", path.display())]
    BaseUnknown {
        /// The base.
        path: PathBuf,
    },
    /// A route from a base leaves out a payload.
    #[error("Route {route} of the index does not have every payload. Build the bundle again.")]
    RoutePayloads {
        /// Its position in the manifest.
        route: usize,
    },
    /// A route from a base removes an object that the release has.
    #[error(
        "Route {route} of the index removes object {digest}, which the release has. Build the bundle again."
    )]
    RouteRemoves {
        /// Its position in the manifest.
        route: usize,
        /// The object.
        digest: BlobDigest,
    },
}

/// Something that was asked for and is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Absent {
    /// No blob of this role.
    #[error("The bundle has no {}.", role_name(*.0))]
    Role(Role),
    /// No blob of this digest.
    #[error("The bundle has no blob {0}. `inspect --objects` lists them.")]
    Digest(BlobDigest),
    /// No image for this slot.
    #[error("The bundle has no image for slot `{0}`. `inspect` lists what it has.")]
    Slot(String),
}

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} `{}` failed: {source}.", path.display())]
pub struct FileError {
    /// What was being done.
    pub operation: FileOperation,
    /// To which file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// What was being done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileOperation {
    /// Opening it.
    Open,
    /// Reading it.
    Read,
    /// Making it.
    Create,
    /// Writing it.
    Write,
    /// Putting it into its final place.
    Rename,
}

impl fmt::Display for FileOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "Opening",
            Self::Read => "Reading",
            Self::Create => "Making",
            Self::Write => "Writing",
            Self::Rename => "Renaming to",
        })
    }
}

impl FileOperation {
    /// Turns an error of the system into ours: `.map_err(FileOperation::Read.on(path))`.
    pub fn on(self, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
        let path = path.to_owned();
        move |source| {
            FileError {
                operation: self,
                path,
                source,
            }
            .into()
        }
    }
}

impl Error {
    /// What to do about it, when the message itself does not say.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::File(error) => match error.source.kind() {
                io::ErrorKind::NotFound => {
                    Some("Check the path. Paths in a recipe are relative to the recipe.")
                }
                io::ErrorKind::PermissionDenied => {
                    Some("Check who owns the file and who may read or write it.")
                }
                io::ErrorKind::StorageFull => {
                    Some("Free space there. A build needs twice the room of its bundle.")
                }
                io::ErrorKind::AlreadyExists => {
                    Some("Choose another name, or move the file away first.")
                }
                _ => None,
            },
            _ => None,
        }
    }
}

/// Name of a role for people.
pub(crate) const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Uki => "UKI",
        Role::Image => "image",
        Role::Object => "object",
        Role::Composefs => "composefs image",
    }
}
