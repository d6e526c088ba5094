//! What goes into a bundle, before a byte of it has been encoded.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::PathBuf;

use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::Role;
use twinseal_core::wire::manifest::{BuildIdentity, InfoKind, ValidityWindow};
use twinseal_core::wire::text::{Line, Name};

use super::base::BaseRelease;
use super::encode::EncodingOptions;
use crate::composefs_image::{ComposefsImage, ObjectSource};
use crate::error::{Error, FileOperation};

/// What the manifest says about the bundle as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Device type.
    pub compatible: Name,
    /// Version for people.
    pub version: Line,
    /// Anti-rollback version.
    pub anti_rollback: u64,
    /// When the bundle may be installed.
    pub window: ValidityWindow,
    /// Number of the release.
    pub sequence: u64,
    /// Where the bundle comes from.
    pub build: BuildIdentity,
}

/// Everything that goes into a bundle.
#[derive(Debug)]
pub struct Plan<'a> {
    /// What the manifest says about the bundle as a whole.
    pub identity: Identity,
    /// The `info/` entries, in their order.
    pub info: Vec<InfoContent>,
    /// The blobs, in their order: the UKI, images, objects by ascending digest, the composefs image.
    pub blobs: Vec<BlobPlan<'a>>,
    /// How blobs are cut and compressed.
    pub encoding: EncodingOptions,
    /// Releases that devices may hold: each gets a route of its own, in this order.
    pub bases: Vec<BaseRelease>,
}

/// One `info/` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfoContent {
    /// The name after `info/`.
    pub name: Name,
    /// What it is.
    pub kind: InfoKind,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// One blob.
#[derive(Debug)]
pub struct BlobPlan<'a> {
    /// What it is and where it goes.
    pub target: Target,
    /// Its size in bytes. Its content is checked against it.
    pub size: u64,
    /// Its digest, when it is known and its content keeps to it by itself.
    pub digest: Option<BlobDigest>,
    /// Its bytes.
    pub content: Content<'a>,
}

/// What a blob is and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The UKI.
    Uki,
    /// Raw bytes of a slot.
    Image {
        /// Name of the slot pair.
        slot: Name,
    },
    /// An object of the composefs payload.
    Object,
    /// The composefs image.
    Composefs,
}

impl Target {
    /// The role in the index.
    pub const fn role(&self) -> Role {
        match self {
            Self::Uki => Role::Uki,
            Self::Image { .. } => Role::Image,
            Self::Object => Role::Object,
            Self::Composefs => Role::Composefs,
        }
    }
}

/// Where the bytes of a blob are.
#[derive(Debug)]
pub enum Content<'a> {
    /// In memory.
    Bytes(&'a [u8]),
    /// In a file.
    File(PathBuf),
    /// In the root file system that the composefs image was made from.
    Object {
        /// The image.
        image: &'a ComposefsImage,
        /// Which of its objects.
        object: &'a ObjectSource,
    },
}

impl<'a> BlobPlan<'a> {
    /// A blob in memory.
    pub fn bytes(target: Target, bytes: &'a [u8]) -> Self {
        Self {
            target,
            size: bytes.len() as u64,
            digest: None,
            content: Content::Bytes(bytes),
        }
    }

    /// A raw image in a regular file, for a slot.
    ///
    /// # Errors
    /// [`Error::File`] when the file cannot be looked at.
    pub fn image(slot: Name, path: PathBuf) -> Result<Self, Error> {
        let metadata = std::fs::metadata(&path).map_err(FileOperation::Open.on(&path))?;
        if !metadata.is_file() {
            let fault = std::io::Error::other("it is not a regular file");
            return Err(FileOperation::Open.on(&path)(fault));
        }
        Ok(Self {
            target: Target::Image { slot },
            size: metadata.len(),
            digest: None,
            content: Content::File(path),
        })
    }

    /// The objects of a composefs image, and then the image itself.
    pub fn composefs(image: &'a ComposefsImage) -> impl Iterator<Item = Self> {
        let objects = image.objects.iter().map(move |object| Self {
            target: Target::Object,
            size: object.size,
            digest: Some(BlobDigest::sha256(object.digest)),
            content: Content::Object { image, object },
        });
        objects.chain([Self::bytes(Target::Composefs, &image.erofs)])
    }

    /// Opens the content.
    ///
    /// # Errors
    /// When it cannot be opened, or is not what it was any more.
    pub fn open(&self) -> Result<Box<dyn Read + '_>, Error> {
        Ok(match &self.content {
            Content::Bytes(bytes) => Box::new(Cursor::new(*bytes)),
            Content::File(path) => {
                Box::new(File::open(path).map_err(FileOperation::Open.on(path))?)
            }
            Content::Object { image, object } => Box::new(image.open_object(object)?),
        })
    }

    /// What the blob is called in an error.
    pub fn describe(&self) -> String {
        match (&self.content, &self.digest) {
            (Content::File(path), _) => path.display().to_string(),
            (_, Some(digest)) => {
                format!("{} {digest}", crate::error::role_name(self.target.role()))
            }
            (_, None) => format!("the {}", crate::error::role_name(self.target.role())),
        }
    }
}
