//! Blobs as people name them.

use std::str::FromStr;

use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::{Blob, Role};
use twinseal_core::wire::manifest::{Manifest, PayloadKind};

use super::IndexedBlob;
use crate::error::Absent;

/// Finds a blob.
///
/// # Errors
/// [`Absent`] says what is not there.
pub fn find<'b>(
    blobs: &'b [IndexedBlob],
    wanted: &BlobName,
    manifest: &Manifest,
) -> Result<&'b IndexedBlob, Absent> {
    let role = |role| {
        blobs
            .iter()
            .find(|blob| blob.blob.role == role)
            .ok_or(Absent::Role(role))
    };
    match wanted {
        BlobName::Uki => role(Role::Uki),
        BlobName::Composefs => role(Role::Composefs),
        BlobName::Digest(digest) => blobs
            .iter()
            .find(|blob| blob.blob.digest == *digest)
            .ok_or(Absent::Digest(*digest)),
        BlobName::Image(slot) => {
            let mut images = blobs.iter().filter(|blob| blob.blob.role == Role::Image);
            let found = images.find(|blob| image_slot(&blob.blob, manifest) == Some(slot));
            found.ok_or_else(|| Absent::Slot(slot.clone()))
        }
    }
}

/// The slot that an image blob goes to.
pub fn image_slot<'m>(blob: &Blob, manifest: &'m Manifest) -> Option<&'m str> {
    match &manifest.payloads.get(usize::from(blob.payload))?.kind {
        PayloadKind::Image { slot } => Some(slot.as_str()),
        PayloadKind::Uki | PayloadKind::Composefs { .. } => None,
    }
}

/// A blob as a person names it: `uki`, `composefs`, `image:SLOT` or a digest in hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobName {
    /// The UKI.
    Uki,
    /// The composefs image.
    Composefs,
    /// The image for a slot.
    Image(String),
    /// Any blob, by its digest.
    Digest(BlobDigest),
}

impl FromStr for BlobName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        match text {
            "uki" => Ok(Self::Uki),
            "composefs" => Ok(Self::Composefs),
            _ => match (
                text.strip_prefix("image:"),
                BlobDigest::from_hex(hex.as_bytes()),
            ) {
                (Some(slot), _) => Ok(Self::Image(slot.to_owned())),
                (None, Some(digest)) => Ok(Self::Digest(digest)),
                (None, None) => Err("give `uki`, `composefs`, `image:SLOT` or a digest in hex"),
            },
        }
    }
}
