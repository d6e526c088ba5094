//! A set's slots, opened for as long as a command needs them: folders as they are, block devices mounted.
//!
//! # Invariants
//! - A slot is mounted for reading only, unless it is going to be written.
//! - Mounts are made in a mount namespace of this process alone: they go when the process ends, however it ends.

use crate::description::{Description, SetSlots};
use crate::error::AgentError;
use crate::files::{self, OwnPath};
use heapless::Vec;
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use twinseal_core::boot::Set;
use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};
use twinseal_core::wire::PAYLOADS_MAX_COUNT;
use twinseal_platform_linux::calls::stat;
use twinseal_platform_linux::file::join;
use twinseal_platform_linux::{BootLayout, ImageSlot, Mounted, SetPaths};

/// File systems that a boot slot may have.
pub const BOOT_TYPES: &[&str] = &["vfat"];

/// File systems that a root slot may have: those with fs-verity.
pub const ROOT_TYPES: &[&str] = &["ext4", "btrfs", "f2fs"];

/// Whether a slot is going to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only read.
    Read,
    /// Read and written.
    Write,
}

/// The paths that an open set borrows.
pub struct Places {
    slots: Option<SetSlots>,
    mount_points: [OwnPath; 2],
    front: OwnPath,
    layout: BootLayout,
}

/// A set whose slots can be reached.
pub struct OpenSet<'p> {
    paths: SetPaths<'p>,
    /// Last, so that they are unmounted after everything else was closed.
    _mounts: Vec<Mounted<'p>, 2>,
}

impl Places {
    /// Where the slots of a set are.
    ///
    /// # Errors
    /// When a path is too long.
    pub fn of(description: &Description, set: Set) -> Result<Self, AgentError> {
        Self::below(&description.state, description, set)
    }

    /// The same with mount points below another folder than the agent's state.
    ///
    /// # Errors
    /// When a path is too long.
    pub fn below(folder: &str, description: &Description, set: Set) -> Result<Self, AgentError> {
        let state = description.state.as_str();
        let path = |parts: &[&str]| {
            join(parts).map_err(|errno| AgentError::File {
                file: description.state.clone(),
                done: "used",
                errno,
            })
        };
        let slots = description
            .sets
            .as_ref()
            .map(|[a, b]| set.of([a, b]).clone());
        let front = match &slots {
            // Set when the root slot is open.
            Some(_) => OwnPath::new(),
            None => path(&[state, set.of(["/front-a", "/front-b"])])?,
        };
        Ok(Self {
            slots,
            mount_points: [
                path(&[folder, set.of(["/mount/boot-a", "/mount/boot-b"])])?,
                path(&[folder, set.of(["/mount/root-a", "/mount/root-b"])])?,
            ],
            front,
            layout: description.loader.layout(set),
        })
    }

    /// Opens the set.
    ///
    /// # Errors
    /// When a slot is a block device and cannot be mounted.
    pub fn open(&mut self, access: Access) -> Result<OpenSet<'_>, AgentError> {
        let mut mounts = Vec::new();
        let Some(slots) = &self.slots else {
            return Ok(OpenSet {
                paths: SetPaths {
                    boot: None,
                    layout: self.layout,
                    root: None,
                    front: &self.front,
                },
                _mounts: mounts,
            });
        };
        let [boot, root] = &self.mount_points;
        let boot = reach(&slots.boot, boot, BOOT_TYPES, access, &mut mounts)?;
        let root = reach(&slots.root, root, ROOT_TYPES, access, &mut mounts)?;
        self.front = join(&[root, "/twinseal"]).map_err(|errno| AgentError::File {
            file: slots.root.clone(),
            done: "used",
            errno,
        })?;
        Ok(OpenSet {
            paths: SetPaths {
                boot: Some(boot),
                layout: self.layout,
                root: Some(root),
                front: &self.front,
            },
            _mounts: mounts,
        })
    }
}

/// The image slots, as an install into `target` sees them.
pub fn images(description: &Description, target: Set) -> Vec<ImageSlot<'_>, PAYLOADS_MAX_COUNT> {
    let slots = description.images.iter().map(|pair| {
        let [a, b] = &pair.of;
        ImageSlot {
            name: pair.name.as_str(),
            running: target.other().of([a, b]),
            target: target.of([a, b]),
        }
    });
    slots.collect()
}

impl<'p> OpenSet<'p> {
    /// The paths as the storage takes them.
    pub const fn paths(&self) -> SetPaths<'p> {
        self.paths
    }
}

/// The folder of a slot, mounted when it is a block device.
fn reach<'p>(
    slot: &'p OwnPath,
    mount_point: &'p OwnPath,
    types: &[&str],
    access: Access,
    mounts: &mut Vec<Mounted<'p>, 2>,
) -> Result<&'p str, AgentError> {
    let failed = |file: &OwnPath, done| {
        let file = file.clone();
        move |errno| AgentError::File { file, done, errno }
    };
    let about = stat(slot.as_str()).map_err(failed(slot, "opened"))?;
    if !files::kind(&about).is_block_device() {
        return Ok(slot);
    }
    files::make_directories(mount_point).map_err(failed(mount_point, "made"))?;
    let is_boot = types.len() == BOOT_TYPES.len();
    let object = if is_boot {
        StorageObject::BootSlot
    } else {
        StorageObject::RootSlot
    };
    keep_mounts_private(object)?;
    let mounted = Mounted::mount(slot, mount_point, types, access == Access::Read, object)?;
    // Two slots, two places.
    let _ = mounts.push(mounted);
    Ok(mount_point)
}

/// Gives this process a mount namespace of its own.
fn keep_mounts_private(object: StorageObject) -> Result<(), StorageError> {
    #[expect(
        deprecated,
        reason = "its unsafe successor is about UnshareFlags::FILES, which is not used here"
    )]
    let made = rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNS).and_then(|()| {
        match mount_change(
            "/",
            MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
        ) {
            // In a chroot `/` is no mount, and what it was told about propagation stays.
            Err(Errno::INVAL) => Ok(()),
            changed => changed,
        }
    });
    made.map_err(|errno| StorageError {
        operation: StorageOperation::Mount,
        object,
        fault: StorageFault::Code(errno.raw_os_error()),
    })
}
