//! Copies of a bundle with one bit flipped, for a device to refuse.

use super::error::DemoError;
use super::folder::Folder;
use super::maker::Bundle;
use std::fs;
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
    let mut bytes = fs::read(&bundle.file).map_err(DemoError::file(&bundle.file, "read"))?;
    let length = bytes.len();
    let byte = usize::try_from(offset)
        .ok()
        .and_then(|offset| bytes.get_mut(offset));
    *byte.ok_or_else(|| DemoError::Unexpected {
        what: "The bundle's length",
        expected: format!("over {offset}"),
        found: length.to_string(),
    })? ^= 1;
    fs::write(&file, bytes).map_err(DemoError::file(&file, "written"))?;
    Ok(file)
}
