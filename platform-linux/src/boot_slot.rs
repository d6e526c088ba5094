//! The boot slot of the target set: a small FAT with one UKI, under a name that boots or under one that does not.
//!
//! [`BootLayout`] says in which directory it stands and what it is called there. Nothing outside of that directory is touched: a
//! boot loader of its own may stand in the same file system.
//!
//! # Invariants
//! - From [`BootSlot::move_away`] until [`BootSlot::make_bootable`] no file in that directory has a name that boots; from
//!   [`BootSlot::keep`] on, the UKI that was there has one, and no other.
//!
//! # Power loss
//! Every rename stays in one directory and is followed at once by a sync of the file, which on FAT writes the one sector that
//! holds both names: every name here is short, so it takes one of the sector's 16 directory entries. In a log of what Linux 6.12 wrote to a FAT during five installs, none of 47 places to cut left anything but
//! one name for one file; with a staging directory of its own, 22 of 72 left two names that share their clusters, and removing
//! either would have destroyed the other. The UKI that was moved away stays, as bytes that the next install may find useful.
//!
//! Where a UKI takes the name of one that was kept, that one is held open until the new name is on the medium: its clusters are free after
//! that and not before, so that the name never leads to clusters that others may have. A power cut in between leaves them to nobody.

use crate::calls::{openat, renameat, statat, unlinkat};
use crate::fault::During;
use crate::file::{
    NO_LINKS, ensure_directory, for_each_entry, if_there, open_directory, open_directory_path,
    open_own, read_exact, regular_length, remove,
};
use crate::path::{BootLayout, STAGED_UKI, Standing, may_boot};
use core::fmt::Write;
use heapless::String;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, copy_file_range, fstatvfs, fsync, syncfs};
use rustix::io::Errno;
use twinseal_core::error::{StorageError, StorageObject, StorageOperation};
use twinseal_core::wire::index::Blob;

const SLOT: StorageObject = StorageObject::BootSlot;

/// The target set's boot slot.
pub(crate) struct BootSlot {
    root: OwnedFd,
    /// The directory of the UKI; `None` until somebody makes it.
    directory: Option<OwnedFd>,
    layout: BootLayout,
}

impl BootSlot {
    /// Opens the slot at `path`. Changes nothing.
    pub(crate) fn open(path: &str, layout: BootLayout) -> Result<Self, StorageError> {
        let root = open_directory_path(path).during(StorageOperation::Open, SLOT)?;
        let [outer, inner] = layout.directory();
        let directory =
            if_there(open_directory(&root, outer).and_then(|outer| open_directory(outer, inner)));
        Ok(Self {
            root,
            directory: directory.during(StorageOperation::Open, SLOT)?,
            layout,
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
        let [outer, inner] = self.layout.directory();
        let made =
            ensure_directory(&self.root, outer).and_then(|outer| ensure_directory(outer, inner));
        let directory = self
            .directory
            .insert(made.during(StorageOperation::Open, SLOT)?);
        if let Some((name, _)) = find_uki(directory, self.layout)? {
            rename_uki(directory, name, STAGED_UKI, SLOT)?;
        }
        remove_bootable(directory, "").during(StorageOperation::Remove, SLOT)?;
        fsync(&*directory).during(StorageOperation::Sync, SLOT)?;
        self.sync()
    }

    /// Leaves the UKI that is there under the name that boots, when another of so many bytes has room beside it, and takes every other
    /// bootable name away; says whether. What is staged already stays, and goes on with the bytes of the one that is there: mostly it is
    /// the same.
    pub(crate) fn keep(&mut self, bytes: u64) -> Result<bool, StorageError> {
        let kept = (self.open_uki()?, self.uki()?, &self.directory);
        let (Some(uki), Some((name, _)), Some(directory)) = kept else {
            return Ok(false);
        };
        if regular_length(&uki).unwrap_or(0) == 0 {
            return Ok(false);
        }
        let staged = self.open_staged();
        let (staged, left) = staged.during(StorageOperation::Open, StorageObject::Uki)?;
        let file_system = fstatvfs(&self.root).during(StorageOperation::Read, SLOT)?;
        let free = file_system.f_bavail.saturating_mul(file_system.f_frsize);
        if free.saturating_add(left) < bytes {
            return Ok(false);
        }
        remove_bootable(directory, name).during(StorageOperation::Remove, SLOT)?;
        let [mut from, mut to] = [left; 2];
        // What is not copied is fetched.
        while from < bytes {
            let most = usize::try_from(bytes - from).unwrap_or(usize::MAX);
            match copy_file_range(&uki, Some(&mut from), &staged, Some(&mut to), most) {
                Ok(1..) => {}
                Ok(0) | Err(_) => break,
            }
        }
        Ok(true)
    }

    /// Opens the UKI for writing, under its staging name; gives the bytes of the blob that may be there.
    pub(crate) fn open_blob(&self, blob: &Blob) -> Result<(OwnedFd, u64), Errno> {
        let (file, left) = self.open_staged()?;
        Ok((file, left.min(blob.size)))
    }

    /// Opens what has the staging name; gives its bytes. After a power cut a file on FAT may be longer
    /// than its clusters say: it could neither be read nor written to its end, so it makes way for a new one.
    fn open_staged(&self) -> Result<(OwnedFd, u64), Errno> {
        let file = open_own(self.directory()?, STAGED_UKI)?;
        let left = regular_length(&file)?;
        if left > 0 && read_exact(&file, left - 1, &mut [0]).is_err() {
            drop(file);
            self.remove_blob()?;
            return Ok((open_own(self.directory()?, STAGED_UKI)?, 0));
        }
        Ok((file, left))
    }

    /// Removes what was written of the UKI.
    pub(crate) fn remove_blob(&self) -> Result<(), Errno> {
        remove(self.directory()?, STAGED_UKI).map(|_| ())
    }

    /// Gives the UKI a bootable name, durably; one that was kept has none any more.
    pub(crate) fn make_bootable(&self) -> Result<(), StorageError> {
        let directory = self.directory().during(StorageOperation::Open, SLOT)?;
        let name = self.layout.uki(Standing::Installed);
        let kept = self.open_uki()?;
        rename_uki(directory, STAGED_UKI, name, StorageObject::Uki)?;
        fsync(directory).during(StorageOperation::Sync, SLOT)?;
        self.sync()?;
        if kept.is_some() {
            drop(kept);
            remove_bootable(directory, name).during(StorageOperation::Remove, SLOT)?;
            self.sync()?;
        }
        Ok(())
    }

    /// Opens the UKI that boots, for reading; `None` when there is none.
    pub(crate) fn open_uki(&self) -> Result<Option<OwnedFd>, StorageError> {
        let (Some(directory), Some((name, _))) = (&self.directory, self.uki()?) else {
            return Ok(None);
        };
        let opened = openat(directory, name, OFlags::RDONLY | NO_LINKS, Mode::empty());
        if_there(opened).during(StorageOperation::Open, SLOT)
    }

    /// What the name of the UKI says, when it has a bootable one.
    pub(crate) fn standing(&self) -> Result<Option<Standing>, StorageError> {
        Ok(self.uki()?.map(|(_, standing)| standing))
    }

    /// Gives the UKI of an install the name of one that has been the default, durably.
    pub(crate) fn commit(&self) -> Result<(), StorageError> {
        let directory = self.directory().during(StorageOperation::Open, SLOT)?;
        let [from, to] = [Standing::Installed, Standing::Committed].map(|at| self.layout.uki(at));
        rename_uki(directory, from, to, StorageObject::Uki)?;
        fsync(directory).during(StorageOperation::Sync, SLOT)?;
        self.sync()
    }

    fn uki(&self) -> Result<Option<(&'static str, Standing)>, StorageError> {
        match &self.directory {
            Some(directory) => find_uki(directory, self.layout),
            None => Ok(None),
        }
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

/// A path in a boot slot.
pub type UkiPath = String<64>;

/// Where the UKI stands in the boot slot at `path`, from there: a regular file that is not empty, under a name that boots.
/// `None` when there is none.
///
/// # Errors
/// When the slot cannot be opened or read.
pub fn uki_path(path: &str, layout: BootLayout) -> Result<Option<UkiPath>, StorageError> {
    let slot = BootSlot::open(path, layout)?;
    let (Some(directory), Some((name, _))) = (&slot.directory, slot.uki()?) else {
        return Ok(None);
    };
    let about =
        statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).during(StorageOperation::Read, SLOT)?;
    if !FileType::from_raw_mode(about.st_mode).is_file() || about.st_size == 0 {
        return Ok(None);
    }
    let [outer, inner] = layout.directory();
    let mut path = UkiPath::new();
    // Two short words and the longest name: they fit.
    let _ = write!(path, "{outer}/{inner}/{name}");
    Ok(Some(path))
}

/// The bootable name of the UKI; that of one that has been the default if there are two.
fn find_uki(
    directory: &OwnedFd,
    layout: BootLayout,
) -> Result<Option<(&'static str, Standing)>, StorageError> {
    for standing in [Standing::Committed, Standing::Installed] {
        let name = layout.uki(standing);
        let found = if_there(statat(directory, name, AtFlags::SYMLINK_NOFOLLOW));
        if found.during(StorageOperation::Read, SLOT)?.is_some() {
            return Ok(Some((name, standing)));
        }
    }
    Ok(None)
}

/// Renames a file within its directory, and syncs it.
fn rename_uki(
    directory: &OwnedFd,
    from: &str,
    to: &str,
    object: StorageObject,
) -> Result<(), StorageError> {
    #[cfg(test)]
    crate::cut::before_change().during(StorageOperation::Rename, object)?;
    renameat(directory, from, directory, to).during(StorageOperation::Rename, object)?;
    sync_file(directory, to).during(StorageOperation::Sync, object)
}

/// Syncs a file that has just been renamed. What was renamed may be no file at all: that boots nothing and needs no sync.
fn sync_file(directory: &OwnedFd, name: &str) -> Result<(), Errno> {
    match openat(directory, name, OFlags::RDONLY | NO_LINKS, Mode::empty()) {
        Err(Errno::LOOP | Errno::NXIO) => Ok(()),
        file => fsync(file?),
    }
}

/// Removes what else a firmware might boot than the file of one name.
fn remove_bootable(directory: &OwnedFd, but: &str) -> Result<(), Errno> {
    for_each_entry(directory, |name| {
        // FAT takes names in any case, and keeps the one that they were made in.
        if name.to_bytes().eq_ignore_ascii_case(but.as_bytes()) {
            return Ok(());
        }
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
    use crate::path::BOOTABLE_UKI;
    use std::fs;
    use twinseal_core::boot::Set;

    #[test]
    fn what_an_install_replaces_counts_as_free() {
        for (layout, name) in [
            (BootLayout::RemovableMedia, BOOTABLE_UKI),
            (BootLayout::EntryFolder(Set::B), "TWINTRYB.EFI"),
        ] {
            let temporary = tempfile::tempdir().unwrap();
            let path = temporary.path().to_str().unwrap();
            let slot = BootSlot::open(path, layout).unwrap();
            assert_eq!(slot.replaceable_bytes(), Ok(0));
            let directory = temporary.path().join(layout.directory().join("/"));
            fs::create_dir_all(&directory).unwrap();
            for (name, bytes) in [
                (name, 5000),
                (STAGED_UKI, 300),
                ("other.efi", 20),
                ("notes.txt", 1),
            ] {
                fs::write(directory.join(name), std::vec![1; bytes]).unwrap();
            }
            let slot = BootSlot::open(path, layout).unwrap();
            assert_eq!(slot.replaceable_bytes(), Ok(5320));
            assert!(slot.space_bytes().unwrap() >= 5320);
        }
    }

    #[test]
    fn only_a_file_with_bytes_is_a_uki() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().to_str().unwrap();
        let layout = BootLayout::EntryFolder(Set::A);
        assert_eq!(uki_path(path, layout), Ok(None));
        let directory = temporary.path().join("EFI/Linux");
        fs::create_dir_all(directory.join("TWINTRYA.EFI")).unwrap();
        assert_eq!(uki_path(path, layout), Ok(None), "a directory");
        fs::write(directory.join("TWINSE-A.EFI"), "").unwrap();
        assert_eq!(uki_path(path, layout), Ok(None), "an empty file");
        fs::write(directory.join("TWINSE-A.EFI"), "uki").unwrap();
        assert_eq!(
            uki_path(path, layout),
            Ok(Some("EFI/Linux/TWINSE-A.EFI".try_into().unwrap()))
        );
        let other = BootLayout::EntryFolder(Set::B);
        assert_eq!(uki_path(path, other), Ok(None), "that of the other set");
        let removable = BootLayout::RemovableMedia;
        assert_eq!(uki_path(path, removable), Ok(None), "another directory");
        assert!(uki_path("/nonexistent", layout).is_err());
    }
}
