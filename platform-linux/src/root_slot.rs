//! The root slot of the target set: a composefs repository that is being filled.
//!
//! # Invariants
//! - A name under `objects` or `images` appears by a rename, after its content was synced (and sealed, where that is required).
//! - The name of an image appears after its object.
//!
//! # Power loss
//! What was being written lies in `tmp` under its digest; [`RootSlot::open_blob`] goes on with it. A name that was not
//! durable yet may be gone again; its content is then back in `tmp`, or gone too, and is written anew.

use crate::calls::{openat, renameat, statat, symlinkat, unlinkat};
use crate::fault::During;
use crate::file::{
    NO_LINKS, ensure_directory, for_each_entry, if_there, open_directory, open_directory_path,
    open_own, regular_length, remove,
};
use crate::needed::Needed;
use crate::path::{COMPOSEFS, IMAGES, NEW_LINK, OBJECTS, ObjectName, TEMPORARY, digest_of};
use crate::repository::Repository;
use crate::storage::Verity;
use crate::verity::{check_known, check_works, enable, measure};
use core::ffi::CStr;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, fstatvfs, syncfs};
use rustix::io::Errno;
use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::{Blob, Role};
use twinseal_core::wire::manifest::Manifest;

const SLOT: StorageObject = StorageObject::RootSlot;

/// So many objects to remove are remembered; of more, the directories are listed a second time.
const GARBAGE_MAX_COUNT: usize = 256;

/// `st_blocks` counts in these units on every file system.
const STAT_BLOCK_BYTES: u64 = 512;

/// What is done with an object: its directory, its name there, its digest.
type Visit<'v> = &'v mut dyn FnMut(&OwnedFd, &CStr, &BlobDigest) -> Result<(), Errno>;

/// Whether what has a digest for its name stays.
type Keep<'k> = &'k dyn Fn(&BlobDigest) -> bool;

/// The target set's root slot.
pub(crate) struct RootSlot {
    root: OwnedFd,
    verity: Verity,
    repository: Option<Repository>,
    temporary: Option<OwnedFd>,
    /// What the last look at the room found to be garbage.
    garbage: Option<Garbage>,
}

/// Objects that are certainly not needed.
struct Garbage {
    /// How many had been asked for when this was found: it holds as long as there are no more.
    needed: u64,
    /// All of them; `None` when there are too many to keep.
    digests: Option<heapless::Vec<BlobDigest, GARBAGE_MAX_COUNT>>,
}

impl RootSlot {
    /// Opens the slot at `path`. Where fs-verity is required, a file system without it is refused here, before anything is
    /// fetched or written.
    pub(crate) fn open(path: &str, verity: Verity) -> Result<Self, StorageError> {
        let root = open_directory_path(path).during(StorageOperation::Open, SLOT)?;
        if verity == Verity::Required {
            check_known(&root).during(StorageOperation::EnableVerity, SLOT)?;
        }
        let repository = Repository::open(&root).during(StorageOperation::Open, SLOT)?;
        Ok(Self {
            root,
            verity,
            repository,
            temporary: None,
            garbage: None,
        })
    }

    /// Whether a blob is there, under its final name.
    pub(crate) fn holds(&self, blob: &Blob) -> Result<bool, StorageFault> {
        self.repository
            .as_ref()
            .map_or(Ok(false), |repository| repository.holds(blob, self.verity))
    }

    /// Opens an object for reading; `None` when there is none.
    pub(crate) fn object(&self, digest: &BlobDigest) -> Result<Option<OwnedFd>, Errno> {
        self.repository
            .as_ref()
            .map_or(Ok(None), |repository| repository.object(digest))
    }

    /// Whether a composefs image is there, whole, under its name among the images.
    pub(crate) fn holds_image(&self, digest: &BlobDigest, size: u64) -> Result<bool, StorageFault> {
        self.holds(&Blob {
            role: Role::Composefs,
            payload: 0,
            digest: *digest,
            size,
            ranges: 0,
            stored_bytes: 0,
            alternatives: 0,
        })
    }

    /// Bytes free, and bytes of what an earlier attempt left in `tmp`: each file there is gone on with or removed.
    pub(crate) fn free_bytes(&self) -> Result<u64, Errno> {
        let file_system = fstatvfs(&self.root)?;
        let mut bytes = file_system.f_bavail.saturating_mul(file_system.f_frsize);
        let opened = open_directory(&self.root, COMPOSEFS)
            .and_then(|composefs| open_directory(composefs, TEMPORARY));
        let Some(temporary) = if_there(opened)? else {
            return Ok(bytes);
        };
        for_each_entry(&temporary, |name| {
            let stat = statat(&temporary, name, AtFlags::SYMLINK_NOFOLLOW)?;
            bytes = bytes.saturating_add(stat.st_blocks as u64 * STAT_BLOCK_BYTES);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Bytes that an object takes; 0 when it is not there.
    pub(crate) fn object_bytes(&self, digest: &BlobDigest) -> Result<u64, Errno> {
        let found = self.at_object(digest, |shard, name| {
            statat(shard, name, AtFlags::SYMLINK_NOFOLLOW)
        })?;
        Ok(found.map_or(0, |stat| stat.st_blocks as u64 * STAT_BLOCK_BYTES))
    }

    /// Removes an object, if it is there.
    pub(crate) fn remove_object(&self, digest: &BlobDigest) -> Result<(), Errno> {
        self.at_object(digest, |shard, name| {
            unlinkat(shard, name, AtFlags::empty())
        })
        .map(|_| ())
    }

    /// Does something with the name of an object in its directory; `None` when one of both is not there.
    fn at_object<T>(
        &self,
        digest: &BlobDigest,
        work: impl FnOnce(&OwnedFd, &str) -> Result<T, Errno>,
    ) -> Result<Option<T>, Errno> {
        let name = ObjectName::new(digest);
        let shard = if_there(open_directory(&self.repository()?.objects, name.shard()))?;
        shard.map_or(Ok(None), |shard| if_there(work(&shard, name.rest())))
    }

    /// Bytes free, and bytes that [`remove_garbage`](Self::remove_garbage) would free by what is known until now.
    pub(crate) fn space_bytes(&mut self, needed: &Needed) -> Result<u64, Errno> {
        Ok(self
            .free_bytes()?
            .saturating_add(self.garbage_bytes(needed)?))
    }

    /// Bytes of objects that are not needed; 0 while nothing was asked for.
    fn garbage_bytes(&mut self, needed: &Needed) -> Result<u64, Errno> {
        let mut bytes: u64 = 0;
        self.garbage = None;
        if needed.added() > 0 {
            let mut found = Some(heapless::Vec::new());
            self.for_each_garbage(needed, &mut |shard, name, digest| {
                let stat = statat(shard, name, AtFlags::SYMLINK_NOFOLLOW)?;
                bytes = bytes.saturating_add(stat.st_blocks as u64 * STAT_BLOCK_BYTES);
                let kept = found.as_mut().map(|found| found.push(*digest).is_ok());
                if kept == Some(false) {
                    found = None;
                }
                Ok(())
            })?;
            self.garbage = Some(Garbage {
                needed: needed.added(),
                digests: found,
            });
        }
        Ok(bytes)
    }

    /// Makes the directories, durably, and makes sure that files in them can be sealed. Takes nothing away.
    pub(crate) fn make_ready(&mut self) -> Result<(), StorageError> {
        let opened = self
            .open_directories()
            .during(StorageOperation::Open, SLOT)?;
        let (repository, temporary) = opened;
        if self.verity == Verity::Required {
            check_works(&temporary).during(StorageOperation::EnableVerity, SLOT)?;
        }
        self.repository = Some(repository);
        self.temporary = Some(temporary);
        self.sync()
    }

    /// Removes what an earlier attempt left in `tmp` and is of no use: all but needed digests. When `needed` is all
    /// that the set will hold, removes the other images and objects too.
    pub(crate) fn remove_garbage(&self, needed: &Needed, is_all: bool) -> Result<(), StorageError> {
        let keep: Keep<'_> = &|digest| !is_all || needed.may_contain(digest);
        self.clear_temporary(keep)
            .during(StorageOperation::Remove, SLOT)?;
        if !is_all {
            return Ok(());
        }
        self.remove_images(keep)
            .during(StorageOperation::Remove, SLOT)?;
        self.remove_objects(needed)
            .during(StorageOperation::Remove, SLOT)?;
        self.sync()
    }

    /// Removes the names of all images but that of `manifest`, and what an earlier attempt left in `tmp` and is not needed.
    pub(crate) fn forget_images(
        &self,
        manifest: &Manifest,
        needed: &Needed,
    ) -> Result<(), StorageError> {
        let image = manifest.composefs().map(|payload| payload.digest);
        self.clear_temporary(&|digest| needed.may_contain(digest))
            .and_then(|()| self.remove_images(&|digest| Some(*digest) == image))
            .during(StorageOperation::Remove, SLOT)
    }

    /// Removes the objects that are not needed: those that the plan found, when it kept them all.
    fn remove_objects(&self, needed: &Needed) -> Result<(), Errno> {
        let known = self
            .garbage
            .as_ref()
            .filter(|garbage| garbage.needed == needed.added())
            .and_then(|garbage| garbage.digests.as_ref());
        let Some(digests) = known else {
            return self.for_each_garbage(needed, &mut |shard, name, _| {
                unlinkat(shard, name, AtFlags::empty())
            });
        };
        for digest in digests {
            let name = ObjectName::new(digest);
            let shard = open_directory(&self.repository()?.objects, name.shard())?;
            remove(shard, name.rest())?;
        }
        Ok(())
    }

    /// Removes everything in `tmp`.
    pub(crate) fn remove_temporary(&self) -> Result<(), StorageError> {
        self.clear_temporary(&|_| false)
            .during(StorageOperation::Remove, SLOT)
    }

    /// Opens a blob for writing; gives the bytes that an earlier attempt left of it.
    pub(crate) fn open_blob(&self, blob: &Blob) -> Result<(OwnedFd, u64), Errno> {
        let file = open_own(self.temporary()?, ObjectName::new(&blob.digest).hex())?;
        let left = regular_length(&file)?;
        Ok((file, left.min(blob.size)))
    }

    /// Removes what was written of a blob.
    pub(crate) fn remove_blob(&self, blob: &Blob) -> Result<(), Errno> {
        remove(self.temporary()?, ObjectName::new(&blob.digest).hex()).map(|_| ())
    }

    /// Gives a blob its final name. `file` is what [`open_blob`](Self::open_blob) gave, synced.
    pub(crate) fn publish(
        &self,
        blob: &Blob,
        file: OwnedFd,
        object: StorageObject,
    ) -> Result<(), StorageError> {
        let name = ObjectName::new(&blob.digest);
        // The kernel seals a file only when nobody has it open for writing.
        drop(file);
        if self.verity == Verity::Required {
            self.seal(&name, &blob.digest, object)?;
        }
        self.rename(&name)
            .during(StorageOperation::Rename, object)?;
        if blob.role == Role::Composefs {
            self.list_image(&name)
                .during(StorageOperation::Rename, object)?;
        }
        Ok(())
    }

    /// Brings the file system to the medium.
    pub(crate) fn sync(&self) -> Result<(), StorageError> {
        syncfs(&self.root).during(StorageOperation::Sync, SLOT)
    }

    /// Before [`make_ready`](Self::make_ready) nothing can be written.
    fn temporary(&self) -> Result<&OwnedFd, Errno> {
        self.temporary.as_ref().ok_or(Errno::NOENT)
    }

    fn repository(&self) -> Result<&Repository, Errno> {
        self.repository.as_ref().ok_or(Errno::NOENT)
    }

    fn open_directories(&self) -> Result<(Repository, OwnedFd), Errno> {
        let composefs = ensure_directory(&self.root, COMPOSEFS)?;
        let objects = ensure_directory(&composefs, OBJECTS)?;
        let images = ensure_directory(&composefs, IMAGES)?;
        let temporary = ensure_directory(&composefs, TEMPORARY)?;
        Ok((Repository::new(objects, images), temporary))
    }

    fn seal(
        &self,
        name: &ObjectName,
        digest: &BlobDigest,
        object: StorageObject,
    ) -> Result<(), StorageError> {
        let reopened = self.temporary().and_then(|temporary| {
            openat(
                temporary,
                name.hex(),
                OFlags::RDONLY | NO_LINKS,
                Mode::empty(),
            )
        });
        let file = reopened.during(StorageOperation::Open, object)?;
        enable(&file, digest.algorithm()).during(StorageOperation::EnableVerity, object)?;
        let measured = measure(&file).during(StorageOperation::MeasureVerity, object)?;
        if measured == Some(*digest) {
            return Ok(());
        }
        self.temporary()
            .and_then(|temporary| remove(temporary, name.hex()))
            .during(StorageOperation::Remove, object)?;
        Err(StorageFault::Digest).during(StorageOperation::MeasureVerity, object)
    }

    fn rename(&self, name: &ObjectName) -> Result<(), Errno> {
        let shard = ensure_directory(&self.repository()?.objects, name.shard())?;
        renameat(self.temporary()?, name.hex(), shard, name.rest())
    }

    /// The link is made aside and renamed, so that a wrong one of that name is replaced in one step.
    fn list_image(&self, name: &ObjectName) -> Result<(), Errno> {
        let temporary = self.temporary()?;
        symlinkat(name.link_target().as_str(), temporary, NEW_LINK)?;
        renameat(temporary, NEW_LINK, &self.repository()?.images, name.hex())
    }

    /// Removes all of `tmp` but regular files whose names are digests to `keep`.
    fn clear_temporary(&self, keep: Keep<'_>) -> Result<(), Errno> {
        let temporary = self.temporary()?;
        for_each_entry(temporary, |name| {
            if digest_of(name.to_bytes()).is_some_and(|digest| keep(&digest)) {
                return Ok(());
            }
            match unlinkat(temporary, name, AtFlags::empty()) {
                // A directory is not ours. It goes when it is empty and otherwise costs nothing but room.
                Err(Errno::ISDIR) => match unlinkat(temporary, name, AtFlags::REMOVEDIR) {
                    Err(Errno::NOTEMPTY) => Ok(()),
                    other => other,
                },
                other => other,
            }
        })
    }

    /// Removes the images that are not to be kept. Other entries, such as directories of named references, are not ours.
    fn remove_images(&self, keep: Keep<'_>) -> Result<(), Errno> {
        let images = &self.repository()?.images;
        for_each_entry(images, |name| match digest_of(name.to_bytes()) {
            Some(digest) if !keep(&digest) => unlinkat(images, name, AtFlags::empty()),
            _ => Ok(()),
        })
    }

    /// Calls `visit` with the directory and the name of every object that is certainly not needed.
    fn for_each_garbage(&self, needed: &Needed, visit: Visit<'_>) -> Result<(), Errno> {
        let Some(repository) = &self.repository else {
            return Ok(());
        };
        for_each_entry(&repository.objects, |shard_name| {
            let Ok(shard_text) = shard_name.to_str() else {
                return Ok(());
            };
            let shard = match open_directory(&repository.objects, shard_text) {
                Err(Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Ok(()),
                other => other?,
            };
            for_each_entry(shard.as_fd(), |name| {
                let mut whole = heapless::Vec::<u8, 128>::new();
                let fits = whole.extend_from_slice(shard_name.to_bytes()).is_ok()
                    && whole.extend_from_slice(name.to_bytes()).is_ok();
                match digest_of(&whole) {
                    Some(digest) if fits && !needed.may_contain(&digest) => {
                        visit(&shard, name, &digest)
                    }
                    _ => Ok(()),
                }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn garbage_is_counted_by_the_blocks_that_it_takes() {
        let temporary = tempfile::tempdir().unwrap();
        let mut slot = RootSlot::open(temporary.path().to_str().unwrap(), Verity::Absent).unwrap();
        slot.make_ready().unwrap();
        let digests = [1, 2, 3].map(|number| BlobDigest::sha256([number; 32]));
        for digest in &digests {
            let name = ObjectName::new(digest);
            let shard = temporary
                .path()
                .join("composefs/objects")
                .join(name.shard());
            fs::create_dir_all(&shard).unwrap();
            fs::write(shard.join(name.rest()), [7; 5000]).unwrap();
        }
        let mut needed = Needed::new();
        assert_eq!(
            slot.garbage_bytes(&needed),
            Ok(0),
            "nothing is known to be garbage"
        );
        needed.add(&digests[0]);
        let two = slot.garbage_bytes(&needed).unwrap();
        assert!((10_000..40_000).contains(&two), "{two} bytes");
        needed.add(&digests[1]);
        assert_eq!(slot.garbage_bytes(&needed), Ok(two / 2));
        assert!(slot.space_bytes(&needed).unwrap() > two / 2);
    }
}
