//! Takes a bundle apart, so that `fsverity digest` and other tools can look at what is in it.
//!
//! # Invariants
//! - What is written has the digest of its name: it is checked while it is written, and a file that fails is not left behind.
//! - Names on disk come from closed grammars (digests, slots, `info/` names), never from paths in the bundle.

use std::fs::File;
use std::path::{Path, PathBuf};

use twinseal_core::wire::index::Role;

use crate::assemble::write_new;
use crate::error::{Error, FileOperation};
use crate::inspect::blob_title;
use crate::read::{BlobName, Bundle, IndexedBlob, find, image_slot};

/// Writes one blob to a file and says what it was.
///
/// # Errors
/// [`Error::Absent`] when the bundle has no such blob; [`Error::Bundle`] when it is damaged.
pub fn extract_blob(bundle: &Path, wanted: &BlobName, output: &Path) -> Result<String, Error> {
    let bundle = Bundle::open(bundle)?;
    let index = bundle.index()?;
    let blob = find(&index, wanted, bundle.manifest())?;
    write_blob(&bundle, blob, output)?;
    let title = blob_title(blob.blob.role, image_slot(&blob.blob, bundle.manifest()));
    Ok(format!(
        "{title}, {} bytes, sha256:{}",
        blob.blob.size, blob.blob.digest
    ))
}

/// Writes everything into a directory, which is made: `uki.efi`, `image.erofs`, `objects/xx/…` as in a composefs repository,
/// `images/SLOT.img`, `info/NAME`. Gives the number of files.
///
/// # Errors
/// [`Error::Bundle`] when something is damaged.
pub fn extract_all(bundle: &Path, directory: &Path) -> Result<usize, Error> {
    let bundle = Bundle::open(bundle)?;
    let index = bundle.index()?;
    for blob in &index {
        write_blob(&bundle, blob, &place(&bundle, blob, directory))?;
    }
    for (number, info) in bundle.manifest().info.iter().enumerate() {
        let path = directory.join("info").join(info.name.as_str());
        write_checked(&path, |out| bundle.read_info(number, out, &path))?;
    }
    Ok(index.len() + bundle.manifest().info.len())
}

fn place(bundle: &Bundle, blob: &IndexedBlob, directory: &Path) -> PathBuf {
    match blob.blob.role {
        Role::Uki => directory.join("uki.efi"),
        Role::Composefs => directory.join("image.erofs"),
        Role::Image => {
            let slot = image_slot(&blob.blob, bundle.manifest()).unwrap_or("unknown");
            directory.join("images").join(format!("{slot}.img"))
        }
        Role::Object => {
            let name = blob.blob.digest.to_hex();
            let (first, rest) = name.split_at_checked(2).unwrap_or((&name, ""));
            directory.join("objects").join(first).join(rest)
        }
    }
}

fn write_blob(bundle: &Bundle, blob: &IndexedBlob, path: &Path) -> Result<(), Error> {
    write_checked(path, |out| bundle.read_blob(blob, out, path))
}

/// Writes a file whose content is checked on the way; the check's own error wins.
fn write_checked<F>(path: &Path, write: F) -> Result<(), Error>
where
    F: FnOnce(&mut File) -> Result<(), Error>,
{
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(FileOperation::Create.on(parent))?;
    }
    let mut failed = None;
    let written = write_new(path, |out| {
        write(out).map_err(|error| {
            failed = Some(error);
            std::io::Error::other("the content is wrong")
        })
    });
    match failed {
        Some(error) => Err(error),
        None => written.map(|_| ()),
    }
}
