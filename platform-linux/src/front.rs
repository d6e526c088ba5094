//! The front matter of what a set holds: `manifest.tar`, a small tar archive of `manifest` and `signatures` as they were signed.
//!
//! # Invariants
//! - A set that is bootable has its front matter: it is written before the UKI gets its name and removed after the UKI lost it. A set
//!   whose UKI stays while it is rebuilt has the mark `incomplete` beside it instead.
//!
//! # Power loss
//! The file is replaced by a rename after its content was synced: it is the old one, the new one or missing, never a part.

use crate::calls::{mkdirat, openat, renameat, statat};
use crate::fault::{During, fault_of};
use crate::file::{
    NO_LINKS, if_there, open_directory_path, open_own, read_up_to, regular_length, remove,
    sync_parent, write_all,
};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fdatasync, fsync, ftruncate};
use rustix::io::Errno;
use twinseal_core::error::{
    BundleInvalid, Part, StorageError, StorageFault, StorageObject, StorageOperation,
};
use twinseal_core::wire::MANIFEST_MAX_BYTES;
use twinseal_core::wire::manifest::Manifest;
use twinseal_core::wire::tar::{BLOCK_BYTES, check_header, padding_bytes};

const FRONT: &str = "manifest.tar";
const NEW_FRONT: &str = "manifest.tar.new";

/// There while a set is incomplete whose UKI boots all the same.
const INCOMPLETE: &str = "incomplete";

/// What errors say it is: it lies in the set's root slot.
const OBJECT: StorageObject = StorageObject::RootSlot;

/// Reads the front matter kept in `directory` into `buffer` and gives its length; `None` when there is none.
/// [`twinseal_core::wire::FRONT_MAX_BYTES`] takes any.
///
/// # Errors
/// [`StorageFault::Full`] when `buffer` is too small; otherwise when the file cannot be read.
pub fn read_front(directory: &str, buffer: &mut [u8]) -> Result<Option<usize>, StorageError> {
    let found = if_there(open_directory_path(directory))
        .and_then(|directory| directory.map_or(Ok(None), |directory| open_front(&directory)))
        .during(StorageOperation::Open, OBJECT)?;
    let Some(file) = found else { return Ok(None) };
    let length = regular_length(&file).during(StorageOperation::Read, OBJECT)?;
    if length > buffer.len() as u64 {
        return Err(StorageFault::Full).during(StorageOperation::Read, OBJECT);
    }
    read_up_to(&file, 0, buffer)
        .during(StorageOperation::Read, OBJECT)
        .map(Some)
}

/// The manifest of the front matter kept in `directory`, with no signature checked: good for finding things by their names, and
/// for nothing that must be believed. `None` when there is none that can be read.
pub(crate) fn stated_manifest(directory: &str) -> Option<Manifest> {
    let directory = open_directory_path(directory).ok()?;
    let file = open_front(&directory).ok()??;
    let mut buffer = [0; BLOCK_BYTES + MANIFEST_MAX_BYTES];
    let length = read_up_to(&file, 0, &mut buffer).ok()?;
    let (header, content) = buffer.get(..length)?.split_at_checked(BLOCK_BYTES)?;
    let size = check_header(header, "manifest", Part::ManifestHeader).ok()?;
    Manifest::parse(content.get(..usize::try_from(size).ok()?)?).ok()
}

/// The contents of `manifest` and `signatures` in a front matter.
///
/// # Errors
/// When it is not one.
pub fn front_entries(front: &[u8]) -> Result<(&[u8], &[u8]), BundleInvalid> {
    let (manifest, rest) = entry(front, "manifest", Part::ManifestHeader)?;
    let (signatures, _) = entry(rest, "signatures", Part::SignaturesHeader)?;
    Ok((manifest, signatures))
}

/// The content of the entry that `bytes` start with, and what follows its padding.
fn entry<'b>(
    bytes: &'b [u8],
    name: &str,
    part: Part,
) -> Result<(&'b [u8], &'b [u8]), BundleInvalid> {
    let truncated = BundleInvalid::Truncated { part };
    let (header, rest) = bytes.split_at_checked(BLOCK_BYTES).ok_or(truncated)?;
    let size = check_header(header, name, part)?;
    let padded = usize::try_from(size + padding_bytes(size)).map_err(|_| truncated)?;
    let content = usize::try_from(size)
        .ok()
        .and_then(|size| rest.get(..size))
        .ok_or(truncated)?;
    Ok((content, rest.get(padded..).ok_or(truncated)?))
}

/// Keeps `front` in the directory, durably.
pub(crate) fn write_front(directory: &str, front: &[u8]) -> Result<(), StorageError> {
    let directory = ensure_path(directory).during(StorageOperation::Open, OBJECT)?;
    write_new(&directory, front)
        .map_err(fault_of)
        .during(StorageOperation::Write, OBJECT)?;
    renameat(&directory, NEW_FRONT, &directory, FRONT).during(StorageOperation::Rename, OBJECT)?;
    fsync(&directory).during(StorageOperation::Sync, OBJECT)
}

/// Marks what the set of this directory holds as incomplete, durably.
pub(crate) fn mark_incomplete(directory: &str) -> Result<(), StorageError> {
    let directory = ensure_path(directory).during(StorageOperation::Open, OBJECT)?;
    open_own(&directory, INCOMPLETE).during(StorageOperation::Write, OBJECT)?;
    fsync(&directory).during(StorageOperation::Sync, OBJECT)
}

/// Whether it is marked so: its UKI then starts nothing but a recovery.
pub fn is_incomplete(directory: &str) -> bool {
    let marked = |directory| statat(directory, INCOMPLETE, AtFlags::SYMLINK_NOFOLLOW);
    open_directory_path(directory).and_then(marked).is_ok()
}

/// Takes the mark away, durably; there may be none.
pub(crate) fn mark_complete(directory: &str) -> Result<(), StorageError> {
    let directory = ensure_path(directory).during(StorageOperation::Open, OBJECT)?;
    let removed = remove(&directory, INCOMPLETE);
    if removed.during(StorageOperation::Remove, OBJECT)? {
        fsync(&directory).during(StorageOperation::Sync, OBJECT)?;
    }
    Ok(())
}

/// Removes the front matter, durably.
pub(crate) fn remove_front(directory: &str) -> Result<(), StorageError> {
    let opened = if_there(open_directory_path(directory)).during(StorageOperation::Open, OBJECT)?;
    let Some(directory) = opened else {
        return Ok(());
    };
    let removed = remove(&directory, FRONT).and_then(|_| remove(&directory, NEW_FRONT));
    removed.during(StorageOperation::Remove, OBJECT)?;
    fsync(&directory).during(StorageOperation::Sync, OBJECT)
}

fn open_front(directory: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
    if_there(openat(
        directory,
        FRONT,
        OFlags::RDONLY | NO_LINKS,
        Mode::empty(),
    ))
}

fn write_new(directory: &OwnedFd, front: &[u8]) -> Result<(), Errno> {
    let file = open_own(directory, NEW_FRONT)?;
    ftruncate(&file, 0)?;
    write_all(&file, 0, front)?;
    fdatasync(&file)
}

/// Opens the directory; its last part is made, durably, when it is missing.
fn ensure_path(path: &str) -> Result<OwnedFd, Errno> {
    match open_directory_path(path) {
        Err(Errno::NOENT) => {
            mkdirat(CWD, path, Mode::from_raw_mode(0o755))?;
            sync_parent(path)?;
            open_directory_path(path)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_was_written_is_read_until_it_is_removed() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("set-b");
        let path = directory.to_str().unwrap();
        let mut buffer = [0; 16];
        assert_eq!(read_front(path, &mut buffer), Ok(None));
        assert_eq!(remove_front(path), Ok(()), "nothing to remove is fine");
        write_front(path, b"the first one").unwrap();
        fs::write(directory.join(NEW_FRONT), "left by a power cut, and longer").unwrap();
        write_front(path, b"second").unwrap();
        assert_eq!(read_front(path, &mut buffer), Ok(Some(6)));
        assert_eq!(&buffer[..6], b"second");
        assert!(!directory.join(NEW_FRONT).exists());
        fs::write(directory.join(NEW_FRONT), "torn").unwrap();
        remove_front(path).unwrap();
        assert_eq!(read_front(path, &mut buffer), Ok(None));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    }

    #[test]
    fn a_set_is_incomplete_until_it_is_said_to_be_complete() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("twinseal");
        let path = directory.to_str().unwrap();
        assert!(!is_incomplete(path), "no directory");
        mark_incomplete(path).unwrap();
        mark_incomplete(path).unwrap();
        assert!(is_incomplete(path));
        remove_front(path).unwrap();
        assert!(is_incomplete(path), "the front matter is another thing");
        mark_complete(path).unwrap();
        mark_complete(path).unwrap();
        assert!(!is_incomplete(path));
    }

    #[test]
    fn a_buffer_that_is_too_small_is_named() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().to_str().unwrap();
        write_front(path, &[1; 17]).unwrap();
        let error = read_front(path, &mut [0; 16]).unwrap_err();
        assert_eq!(error.fault, StorageFault::Full);
    }
}
