//! systemd-boot's boot slots, reached for as long as one call needs them: folders as they are, block devices mounted.
//!
//! What is read there is the name of a UKI, what is written is a rename of it, when a set becomes the default for the first time
//! since it was installed.
//!
//! # Invariants
//! - A boot slot is mounted for reading, and for writing only after a call said that it has to write; then it is for reading again.
//!   Where somebody writes it already, the kernel has it for writing alone, and that is no change.
//! - What is asked of the variables alone mounts nothing.
//!
//! # Power loss
//! The rename is durable before the call that makes it returns; a mount leaves nothing to repair (`twinseal_platform_linux`'s
//! `loader/systemd_boot.rs` and `boot_slot.rs`).

use crate::slots::keep_mounts_private;
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use twinseal_core::boot::Set;
use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};
use twinseal_platform_linux::Mounted;
use twinseal_platform_linux::loader::{BootLoader, SystemdBootLoader};

const SLOT: StorageObject = StorageObject::BootSlot;

/// A boot slot as a boot loader reaches it.
#[derive(Clone, Debug)]
pub enum LoaderSlot {
    /// A folder.
    Folder(String),
    /// A block device, mounted when it is needed.
    Device {
        /// Its node.
        node: String,
        /// Where it is mounted; made when it is missing.
        mount_point: String,
        /// File systems that it may have.
        types: &'static [&'static str],
    },
}

/// systemd-boot, whose boot slots need not be mounted.
pub struct MountingLoader {
    loader: SystemdBootLoader,
    slots: [LoaderSlot; 2],
}

impl LoaderSlot {
    /// The slot at `path`: mounted at `mount_point` as one of `types` if it is a block device.
    pub fn at(path: &str, mount_point: &str, types: &'static [&'static str]) -> Self {
        let is_device = fs::metadata(path).is_ok_and(|about| about.file_type().is_block_device());
        if !is_device {
            return Self::Folder(path.to_owned());
        }
        Self::Device {
            node: path.to_owned(),
            mount_point: mount_point.to_owned(),
            types,
        }
    }

    /// The folder in which its files are while it is reached.
    pub fn folder(&self) -> &str {
        match self {
            Self::Folder(path) => path,
            Self::Device { mount_point, .. } => mount_point,
        }
    }

    /// Mounts it for reading, or as whoever writes it just now has mounted it.
    fn reach(&self) -> Result<Option<Mounted<'_>>, StorageError> {
        let Self::Device {
            node,
            mount_point,
            types,
        } = self
        else {
            return Ok(None);
        };
        fs::create_dir_all(mount_point).map_err(|error| StorageError {
            operation: StorageOperation::Mount,
            object: SLOT,
            fault: StorageFault::Code(error.raw_os_error().unwrap_or(0)),
        })?;
        keep_mounts_private(SLOT)?;
        let mount = |read_only| Mounted::mount(node, mount_point, types, read_only, SLOT);
        match mount(true) {
            Err(error) if is(&error, Errno::BUSY) => mount(false),
            mounted => mounted,
        }
        .map(Some)
    }
}

impl MountingLoader {
    /// A loader that was opened with the folders of these slots, A and B.
    pub const fn new(loader: SystemdBootLoader, slots: [LoaderSlot; 2]) -> Self {
        Self { loader, slots }
    }

    /// Calls the loader with the boot slot of a set in reach, and once more when it has to write there.
    fn reaching(
        &mut self,
        set: Set,
        call: impl Fn(&mut SystemdBootLoader) -> Result<bool, StorageError>,
    ) -> Result<bool, StorageError> {
        let [a, b] = &self.slots;
        let mounted = set.of([a, b]).reach()?;
        match (call(&mut self.loader), mounted) {
            (Err(error), Some(mounted)) if is(&error, Errno::ROFS) => {
                mounted.remount(false)?;
                let done = call(&mut self.loader);
                // What was written is durable already. Somebody else may have begun to write there; then it is theirs to close.
                let _ = mounted.remount(true);
                done
            }
            (done, _) => done,
        }
    }
}

impl BootLoader for MountingLoader {
    fn default_set(&mut self) -> Result<Option<Set>, StorageError> {
        self.loader.default_set()
    }

    fn next_set(&mut self) -> Result<Option<Set>, StorageError> {
        self.loader.next_set()
    }

    fn set_default(&mut self, set: Set) -> Result<bool, StorageError> {
        self.reaching(set, |loader| loader.set_default(set))
    }

    fn set_next(&mut self, set: Option<Set>) -> Result<bool, StorageError> {
        match set {
            Some(named) => self.reaching(named, |loader| loader.set_next(set)),
            None => self.loader.set_next(None),
        }
    }
}

fn is(error: &StorageError, errno: Errno) -> bool {
    error.fault == StorageFault::Code(errno.raw_os_error())
}
