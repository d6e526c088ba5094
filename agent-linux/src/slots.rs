//! A set's slots, opened for as long as a command needs them: folders as they are, block devices mounted.
//!
//! # Invariants
//! - The running set is mounted for reading only.
//! - Mounts are made in a mount namespace of this process alone: nobody else sees them, and they go when the process ends, however
//!   it ends.

use crate::config::{Loader, Pair, SetSlots};
use crate::device::{Device, text};
use crate::error::AgentError;
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use twinseal_core::boot::Set;
use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};
use twinseal_platform_linux::{BootLayout, ImageSlot, Mounted, SetPaths, uki_path};

/// File systems that a boot slot may have.
pub(crate) const BOOT_TYPES: &[&str] = &["vfat"];

/// File systems that a root slot may have: those with fs-verity.
const ROOT_TYPES: &[&str] = &["ext4", "btrfs", "f2fs"];

/// Folder in the root slot that keeps the front matter of what the set holds.
const FRONT_FOLDER: &str = "twinseal";

/// Whether a slot is going to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only read.
    Read,
    /// Read and written.
    Write,
}

/// The paths that an open set borrows; made once for a command.
pub struct Places {
    sets: Option<Pair<SetPlaces>>,
    loader: Loader,
    fronts: Pair<PathBuf>,
    images: Vec<(String, Pair<PathBuf>)>,
}

struct SetPlaces {
    boot: Place,
    root: Place,
}

/// A slot, and where it is mounted when it is a block device.
struct Place {
    slot: PathBuf,
    mount_point: PathBuf,
}

/// A set whose slots can be reached.
pub struct OpenSet<'p> {
    boot: Option<&'p str>,
    layout: BootLayout,
    root: Option<&'p str>,
    front: String,
    /// Last, so that they are unmounted after everything else was closed.
    _mounts: Vec<Mounted<'p>>,
}

impl Places {
    /// Where the slots of a device are.
    pub fn new(device: &Device) -> Self {
        let set_places = |slots: &SetSlots, set: Set| SetPlaces {
            boot: Place::new(device, &slots.boot, "boot", set),
            root: Place::new(device, &slots.root, "root", set),
        };
        let description = &device.description;
        let sets = description.sets.as_ref();
        Self {
            sets: sets.map(|sets| Pair {
                a: set_places(&sets.a, Set::A),
                b: set_places(&sets.b, Set::B),
            }),
            loader: description.loader.clone(),
            fronts: Pair {
                a: device.state("front-a"),
                b: device.state("front-b"),
            },
            images: description
                .slots
                .iter()
                .map(|(name, pair)| (name.clone(), pair.clone()))
                .collect(),
        }
    }

    /// Opens a set.
    ///
    /// # Errors
    /// When a slot is a block device and cannot be mounted.
    pub fn open(&self, set: Set, access: Access) -> Result<OpenSet<'_>, AgentError> {
        let Some(sets) = &self.sets else {
            return self.unopened(set);
        };
        let places = sets.of(set);
        let mut mounts = Vec::new();
        let boot = places
            .boot
            .open(BOOT_TYPES, access, StorageObject::BootSlot, &mut mounts)?;
        let root = places
            .root
            .open(ROOT_TYPES, access, StorageObject::RootSlot, &mut mounts)?;
        let front = format!("{root}/{FRONT_FOLDER}");
        Ok(OpenSet {
            boot: Some(boot),
            layout: self.loader.layout(set),
            root: Some(root),
            front,
            _mounts: mounts,
        })
    }

    /// A set that is not opened, because it holds nothing: nothing can be copied from it.
    ///
    /// # Errors
    /// When its path is not UTF-8.
    pub fn unopened(&self, set: Set) -> Result<OpenSet<'_>, AgentError> {
        let front = text(self.fronts.of(set))?.to_owned();
        Ok(OpenSet {
            boot: None,
            layout: self.loader.layout(set),
            root: None,
            front,
            _mounts: Vec::new(),
        })
    }

    /// The image slots, as an install into `target` sees them.
    ///
    /// # Errors
    /// When a path is not UTF-8.
    pub fn images<'p>(&'p self, target: Set) -> Result<Vec<ImageSlot<'p>>, AgentError> {
        let slot = |(name, pair): &'p (String, Pair<PathBuf>)| {
            Ok(ImageSlot {
                name,
                running: text(pair.of(target.other()))?,
                target: text(pair.of(target))?,
            })
        };
        self.images.iter().map(slot).collect()
    }

    /// Makes the folders of a set that are missing. Block devices, and folders for them, are nobody's to make.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn make_folders(&self, set: Set) -> Result<(), AgentError> {
        let places = self.sets.as_ref().map(|sets| sets.of(set));
        for place in places
            .into_iter()
            .flat_map(|places| [&places.boot, &places.root])
        {
            if !place.slot.starts_with("/dev") && !place.slot.exists() {
                let failed = |error| AgentError::File {
                    file: place.slot.clone(),
                    done: "made",
                    error,
                };
                fs::create_dir_all(&place.slot).map_err(failed)?;
            }
        }
        Ok(())
    }
}

impl Place {
    fn new(device: &Device, slot: &Path, name: &str, set: Set) -> Self {
        Self {
            slot: slot.to_path_buf(),
            mount_point: device.state("mount").join(format!("{name}-{set}")),
        }
    }

    /// The folder of the slot, mounted when it must be.
    fn open<'p>(
        &'p self,
        types: &[&str],
        access: Access,
        object: StorageObject,
        mounts: &mut Vec<Mounted<'p>>,
    ) -> Result<&'p str, AgentError> {
        let slot = text(&self.slot)?;
        let failed = |error| AgentError::File {
            file: self.slot.clone(),
            done: "opened",
            error,
        };
        if !fs::metadata(&self.slot)
            .map_err(failed)?
            .file_type()
            .is_block_device()
        {
            return Ok(slot);
        }
        let failed = |error| AgentError::File {
            file: self.mount_point.clone(),
            done: "made",
            error,
        };
        fs::create_dir_all(&self.mount_point).map_err(failed)?;
        keep_mounts_private(object)?;
        let mount_point = text(&self.mount_point)?;
        mounts.push(Mounted::mount(
            slot,
            mount_point,
            types,
            access == Access::Read,
            object,
        )?);
        Ok(mount_point)
    }
}

impl OpenSet<'_> {
    /// The paths as the storage takes them.
    pub fn paths(&self) -> SetPaths<'_> {
        SetPaths {
            boot: self.boot,
            layout: self.layout,
            root: self.root,
            front: &self.front,
        }
    }

    /// The boot slot.
    pub const fn boot(&self) -> Option<&str> {
        self.boot
    }

    /// The UKI: where one stands that boots, else where it ought to be. `None` without a boot slot.
    pub fn uki(&self) -> Option<PathBuf> {
        let (boot, layout) = (self.boot?, self.paths().layout);
        let found = uki_path(boot, layout).ok().flatten();
        let ought = || layout.file().iter().collect();
        Some(Path::new(boot).join(found.map_or_else(ought, |path| PathBuf::from(path.as_str()))))
    }

    /// The root slot.
    pub const fn root(&self) -> Option<&str> {
        self.root
    }

    /// Folder of the front matter.
    pub fn front(&self) -> &str {
        &self.front
    }
}

/// Gives this process a mount namespace of its own, once.
pub(crate) fn keep_mounts_private(object: StorageObject) -> Result<(), StorageError> {
    static DONE: OnceLock<()> = OnceLock::new();
    if DONE.get().is_some() {
        return Ok(());
    }
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
    })?;
    let _ = DONE.set(());
    Ok(())
}
