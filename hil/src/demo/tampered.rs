//! Copies of a bundle with one bit flipped, for a device to refuse.

use super::error::DemoError;
use super::folder::Folder;
use super::maker::Bundle;
use crate::maker::tools;
use std::path::PathBuf;

/// Size of tar's blocks.
pub(super) const TAR_BLOCK_BYTES: u64 = 512;

/// The manifest is the first entry; its content stands behind one header.
pub(super) const IN_MANIFEST_OFFSET: u64 = TAR_BLOCK_BYTES + 8;

/// A copy of a bundle, among the bundles, with one bit flipped at `offset`, which is in this `part`.
///
/// # Errors
/// When the bundle is shorter, or a file cannot be read or written.
pub(super) fn flip(
    folder: &Folder,
    bundle: &Bundle,
    part: &str,
    offset: u64,
) -> Result<PathBuf, DemoError> {
    let file = folder.at(&format!("bundles/{}-tampered-{part}.tseal", bundle.name));
    tools::flip_bit(&bundle.file, &file, offset).map_err(DemoError::file(&file, "written"))?;
    Ok(file)
}
