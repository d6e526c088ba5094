//! Slots that are block devices, mounted for as long as they are needed.

use crate::calls::{mount, unmount};
use crate::fault::During;
use core::ffi::CStr;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount_remount};
use twinseal_core::error::{StorageError, StorageObject, StorageOperation};

/// Nothing in a slot is run, is a device or gets rights from where it is mounted for an update.
const SLOT_FLAGS: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC)
    .union(MountFlags::NOATIME);

/// A power cut may leave a FAT file that is longer than what its clusters say. The kernel's answer to such a file is to write nothing
/// more to the whole file system, and the slot could never be updated again; what it cannot read it refuses either way.
const FAT_OPTIONS: &CStr = c"errors=continue";

/// A mounted slot; unmounted when dropped.
pub struct Mounted<'p> {
    directory: &'p str,
    object: StorageObject,
    mounted: bool,
}

impl<'p> Mounted<'p> {
    /// Mounts `device` on `directory` as the first of `types` (`ext4`, `vfat`, …) that the kernel finds there.
    /// `object` is what errors say it is.
    ///
    /// # Errors
    /// That of the last type when none fits; any other error at once.
    pub fn mount(
        device: &str,
        directory: &'p str,
        types: &[&str],
        read_only: bool,
        object: StorageObject,
    ) -> Result<Self, StorageError> {
        let flags = slot_flags(read_only);
        let mut result = Err(Errno::NODEV);
        for file_system in types {
            let options = (*file_system == "vfat").then_some(FAT_OPTIONS);
            result = mount(device, directory, *file_system, flags, options);
            // EINVAL: the device holds something else. ENODEV: the kernel does not know the type.
            if !matches!(result, Err(Errno::INVAL | Errno::NODEV)) {
                break;
            }
        }
        result.during(StorageOperation::Mount, object)?;
        Ok(Self {
            directory,
            object,
            mounted: true,
        })
    }

    /// Mounts the medium at `device`, of the given type and with its options, for reading only.
    pub(crate) fn mount_medium(
        device: &str,
        directory: &'p str,
        file_system: &str,
        options: Option<&CStr>,
    ) -> Result<Self, StorageError> {
        let object = StorageObject::Medium;
        mount(device, directory, file_system, slot_flags(true), options)
            .during(StorageOperation::Mount, object)?;
        Ok(Self {
            directory,
            object,
            mounted: true,
        })
    }

    /// Where it is mounted.
    pub const fn directory(&self) -> &'p str {
        self.directory
    }

    /// Makes it one that can be written, or one that cannot any more. The file system itself becomes that, as far as other mounts of it
    /// allow: each of them stays for reading only when it was mounted so.
    ///
    /// # Errors
    /// `EBUSY` when it shall be for reading only and somebody has a file open for writing.
    pub fn remount(&self, read_only: bool) -> Result<(), StorageError> {
        mount_remount(self.directory, slot_flags(read_only), c"")
            .during(StorageOperation::Mount, self.object)
    }

    /// Unmounts, which brings everything to the medium, and says how that went; dropping cannot.
    ///
    /// # Errors
    /// When somebody still uses it; it is then taken away as soon as they end.
    pub fn unmount(mut self) -> Result<(), StorageError> {
        self.mounted = false;
        let unmounted = unmount(self.directory, UnmountFlags::NOFOLLOW);
        if unmounted.is_err() {
            self.detach();
        }
        unmounted.during(StorageOperation::Mount, self.object)
    }

    fn detach(&self) {
        // Nobody is left to take an error; what fails here stays mounted and is seen by the next mount.
        let _ = unmount(
            self.directory,
            UnmountFlags::NOFOLLOW.union(UnmountFlags::DETACH),
        );
    }
}

const fn slot_flags(read_only: bool) -> MountFlags {
    if read_only {
        SLOT_FLAGS.union(MountFlags::RDONLY)
    } else {
        SLOT_FLAGS
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if self.mounted {
            self.detach();
        }
    }
}
