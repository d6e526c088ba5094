//! The composefs repository of a root slot, as far as reading goes; the same for the running and for the target set.

use crate::calls::{openat, readlinkat_raw, statat};
use crate::fault::fault_of;
use crate::file::{NO_LINKS, if_there, open_directory, open_directory_path, regular_length};
use crate::path::{COMPOSEFS, IMAGES, OBJECTS, ObjectName};
use crate::storage::Verity;
use crate::verity::measure;
use core::cell::RefCell;
use core::mem::MaybeUninit;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use twinseal_core::error::StorageFault;
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::{Blob, Role};

/// Longest symbolic link that is looked at: longer than any that we make.
const LINK_MAX_BYTES: usize = 160;

/// An open repository.
pub(crate) struct Repository {
    pub objects: OwnedFd,
    pub images: OwnedFd,
    /// The directory of the object that was looked up last: an index lists objects in ascending order, so the next one is
    /// mostly there too.
    shard: RefCell<Option<(ShardName, OwnedFd)>>,
}

/// The first two hex digits of a digest.
type ShardName = heapless::String<2>;

impl Repository {
    /// A repository by its two directories.
    pub(crate) const fn new(objects: OwnedFd, images: OwnedFd) -> Self {
        Self {
            objects,
            images,
            shard: RefCell::new(None),
        }
    }

    /// Opens the repository in the root slot at `path`; `None` when there is none yet.
    pub(crate) fn open_path(path: &str) -> Result<Option<Self>, Errno> {
        Self::open(open_directory_path(path)?)
    }

    /// Opens the repository in an open root slot; `None` when there is none yet.
    pub(crate) fn open<Fd: AsFd>(root: Fd) -> Result<Option<Self>, Errno> {
        let Some(composefs) = if_there(open_directory(root, COMPOSEFS))? else {
            return Ok(None);
        };
        let Some(objects) = if_there(open_directory(&composefs, OBJECTS))? else {
            return Ok(None);
        };
        let Some(images) = if_there(open_directory(&composefs, IMAGES))? else {
            return Ok(None);
        };
        Ok(Some(Self::new(objects, images)))
    }

    /// Opens an object for reading; `None` when there is no such file. What stands there may be damaged.
    pub(crate) fn object(&self, digest: &BlobDigest) -> Result<Option<OwnedFd>, Errno> {
        let name = ObjectName::new(digest);
        let open =
            |shard: &OwnedFd| openat(shard, name.rest(), OFlags::RDONLY | NO_LINKS, Mode::empty());
        let file = match self.in_shard(&name, open) {
            // A symbolic link or a socket where an object must be.
            Err(Errno::LOOP | Errno::NXIO) => return Ok(None),
            other => other?,
        };
        Ok(file.filter(|file| regular_length(file).is_ok()))
    }

    /// Does something in the directory of an object; `None` when the directory or what is looked for is not there.
    fn in_shard<T>(
        &self,
        name: &ObjectName,
        work: impl Fn(&OwnedFd) -> Result<T, Errno>,
    ) -> Result<Option<T>, Errno> {
        let mut kept = self.shard.borrow_mut();
        if let Some((_, shard)) = kept.as_ref().filter(|(kept, _)| kept == name.shard()) {
            return if_there(work(shard));
        }
        let Some(shard) = if_there(open_directory(&self.objects, name.shard()))? else {
            return Ok(None);
        };
        let done = if_there(work(&shard));
        *kept = ShardName::try_from(name.shard())
            .ok()
            .map(|name| (name, shard));
        done
    }

    /// Whether a blob is there, whole: sealed with the digest that is its name, or, where nothing is sealed, of the right
    /// size, which it can have only if it was synced before it got its name. A composefs image must be listed too.
    pub(crate) fn holds(&self, blob: &Blob, verity: Verity) -> Result<bool, StorageFault> {
        let whole = match verity {
            Verity::Absent => self.length(&blob.digest).map_err(fault_of)? == Some(blob.size),
            Verity::Required => match self.object(&blob.digest).map_err(fault_of)? {
                None => false,
                Some(file) => match measure(&file) {
                    Err(StorageFault::VerityUnsupported) => false,
                    measured => measured? == Some(blob.digest),
                },
            },
        };
        Ok(whole && (blob.role != Role::Composefs || self.lists(&blob.digest)))
    }

    /// Size of the regular file of an object, in one system call: every object of a set is asked for in every install.
    pub(crate) fn length(&self, digest: &BlobDigest) -> Result<Option<u64>, Errno> {
        let name = ObjectName::new(digest);
        let stat = |shard: &OwnedFd| statat(shard, name.rest(), AtFlags::SYMLINK_NOFOLLOW);
        let stat = match self.in_shard(&name, stat) {
            // A file or a symbolic link where a directory must be.
            Err(Errno::NOTDIR | Errno::LOOP) => None,
            other => other?,
        };
        let regular = stat.filter(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
        Ok(regular.map(|stat| stat.st_size as u64))
    }

    /// Whether `images` has the symbolic link of an image.
    fn lists(&self, digest: &BlobDigest) -> bool {
        let name = ObjectName::new(digest);
        let mut buffer = [MaybeUninit::<u8>::uninit(); LINK_MAX_BYTES];
        readlinkat_raw(&self.images, name.hex(), &mut buffer)
            .is_ok_and(|(target, _)| &*target == name.link_target().as_bytes())
    }
}
