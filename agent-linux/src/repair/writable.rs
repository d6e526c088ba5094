//! The running set's root slot, writable for this process alone and no longer than a repair takes.
//!
//! # Invariants
//! - The mount that the initramfs left stays one for reading: what is written goes through a mount that nobody else sees, and
//!   that goes when the process ends, however it ends.
//! - The file system is for reading only again at the end, whatever the repair came to. A process that is killed leaves it open,
//!   without a mount through which it could be written.

use crate::device::{Device, text};
use crate::error::AgentError;
use crate::report::warn;
use crate::slots::keep_mounts_private;
use rustix::fs::{CWD, StatVfsMountFlags, statvfs};
use rustix::io::Errno;
use rustix::mount::{
    FsPickFlags, MountFlags, UnmountFlags, fsconfig_reconfigure, fsconfig_set_flag, fspick,
    mount_bind, mount_remount, unmount,
};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use twinseal_core::error::StorageObject;

/// Writing 2 lets the kernel forget names and inodes (Linux, Documentation/admin-guide/sysctl/vm.rst, "drop_caches").
const KEPT_NAMES: &str = "/proc/sys/vm/drop_caches";

/// The mount through which the slot is written: nothing in it is run, is a device or gets rights.
const WRITABLE: MountFlags = MountFlags::BIND
    .union(MountFlags::NOSUID)
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC)
    .union(MountFlags::NOATIME);

/// The root slot of the running set, which can be written until this is dropped.
pub(super) struct Writable {
    slot: PathBuf,
    /// Where it can be written; `None` when the slot is a folder, which can be written anyway.
    opened: Option<PathBuf>,
}

impl Writable {
    /// Opens the slot that is mounted, or is a folder, at `slot`.
    ///
    /// # Errors
    /// When it cannot be opened for writing.
    pub(super) fn open(device: &Device, slot: PathBuf) -> Result<Self, AgentError> {
        let read_only =
            statvfs(&slot).is_ok_and(|about| about.f_flag.contains(StatVfsMountFlags::RDONLY));
        if !read_only {
            return Ok(Self { slot, opened: None });
        }
        let at = device.state("mount").join("repair");
        let failed = |error: io::Error| AgentError::File {
            file: slot.clone(),
            done: "opened for writing",
            error,
        };
        fs::create_dir_all(&at).map_err(failed)?;
        keep_mounts_private(StorageObject::RootSlot)?;
        mount_bind(text(&slot)?, text(&at)?).map_err(|errno| failed(errno.into()))?;
        let made = Self {
            slot: slot.clone(),
            opened: Some(at.clone()),
        };
        // From here on dropping it closes what was opened.
        let opened = turn(&slot, "rw").and_then(|()| mount_remount(&at, WRITABLE, c""));
        opened.map_err(|errno| failed(errno.into()))?;
        Ok(made)
    }

    /// The folder in which it can be written.
    pub(super) fn root(&self) -> &Path {
        self.opened.as_ref().unwrap_or(&self.slot)
    }
}

impl Drop for Writable {
    fn drop(&mut self) {
        let Some(at) = &self.opened else { return };
        let _ = unmount(at, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH);
        // The sealed root leads to the damaged object as long as the kernel keeps its name.
        if let Err(error) = fs::write(KEPT_NAMES, "2\n") {
            warn(&format!("{KEPT_NAMES} could not be written: {error}."));
        }
        if let Err(errno) = turn(&self.slot, "ro") {
            warn(&format!(
                "The file system of {} stays open for writing until the next restart, without a mount through which it could be written: {}.",
                self.slot.display(),
                io::Error::from(errno)
            ));
        }
    }
}

/// Turns the file system itself, and no mount of it, to `rw` or `ro`.
fn turn(slot: &Path, how: &str) -> Result<(), Errno> {
    let context = fspick(CWD, slot, FsPickFlags::FSPICK_CLOEXEC)?;
    fsconfig_set_flag(&context, how)?;
    fsconfig_reconfigure(&context)
}
