//! [`LinuxStorage`]: what core asks of a device, answered by the slots of a Linux machine.
//!
//! This file only dispatches; what each slot does, and what a power cut leaves of it, stands in the slot's own file.

use crate::bases::Bases;
use crate::batch::Batch;
use crate::boot_slot::BootSlot;
use crate::fault::During;
use crate::file::{identity, open_directory_path, read_exact};
use crate::front::{mark_complete, mark_incomplete, remove_front, write_front};
use crate::image_slot;
use crate::listing::Listing;
use crate::needed::Needed;
use crate::path::BootLayout;
use crate::repository::Repository;
use crate::root_slot::RootSlot;
use crate::scratch::Scratch;
use crate::staged::{Backing, EarlySync, Staged, object_of};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use twinseal_core::error::{StorageError, StorageObject, StorageOperation};
use twinseal_core::storage::{Location, PatchBase, Postponed, RunningObject, Space, Storage};
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::{Blob, Role};
use twinseal_core::wire::manifest::{Manifest, PayloadKind};

/// Where a slot set is: mounted file systems, or plain directories that stand for them.
#[derive(Clone, Copy, Debug)]
pub struct SetPaths<'p> {
    /// The boot slot; `None` for a device without.
    pub boot: Option<&'p str>,
    /// Where the UKI stands in the boot slot.
    pub layout: BootLayout,
    /// The root slot, the directory that holds `composefs`; `None` for a device without.
    pub root: Option<&'p str>,
    /// The directory that keeps the front matter of what the set holds; its last part is made when it is missing.
    pub front: &'p str,
}

/// A pair of slots that hold raw bytes: block devices, or plain files that stand for them.
#[derive(Clone, Copy, Debug)]
pub struct ImageSlot<'p> {
    /// The name that bundles have for it.
    pub name: &'p str,
    /// That of the running set.
    pub running: &'p str,
    /// That of the target set.
    pub target: &'p str,
}

/// What is read at once of an object that is doubted.
const READ_BYTES: usize = 16 * 1024;

/// Whether the kernel checks the objects of this device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verity {
    /// Every object is sealed with fs-verity before it gets its name, and an object that is not counts as missing.
    Required,
    /// The file systems have no fs-verity. An object counts by its name and size.
    Absent,
}

/// Everything that [`LinuxStorage`] must know. All paths are the owner's and may go through symbolic links; none may
/// be longer than 255 bytes, which is what fits the buffer on the stack (`ENAMETOOLONG` otherwise).
#[derive(Clone, Copy, Debug)]
pub struct LinuxConfig<'p> {
    /// The set that runs: read, never written.
    pub running: SetPaths<'p>,
    /// The set to write.
    pub target: SetPaths<'p>,
    /// The slots for raw images.
    pub images: &'p [ImageSlot<'p>],
    /// The scratch file, in the agent's state directory; made when it is missing.
    pub scratch: &'p str,
    /// Whether objects are sealed.
    pub verity: Verity,
    /// Whether an image slot may hold much of the image already, as after an interrupted install: then it is read and only
    /// what differs is written. Costs a read of the slot.
    pub probe_images: bool,
    /// Whether this is a recovery: the UKI of the target set stays bootable until the new one has its name, for it starts the recovery
    /// again when the power fails. The set is marked as incomplete meanwhile ([`crate::is_incomplete`]). Where the boot slot has no room
    /// for two, the UKI goes away first, as always.
    pub recovers: bool,
}

/// The slots of a Linux machine, as the installer sees them.
pub struct LinuxStorage<'p> {
    config: LinuxConfig<'p>,
    boot: Option<BootSlot>,
    root: Option<RootSlot>,
    running: Option<Repository>,
    scratch: Scratch,
    needed: Needed,
    /// Whether the installer names what is to be removed, so that nothing needs to be looked for.
    from_base: bool,
    staged: Option<Staged>,
    batch: Batch,
    /// The object of the running set that was read last.
    copied: Option<(BlobDigest, OwnedFd)>,
    bases: Bases,
    listing: Listing,
}

impl<'p> LinuxStorage<'p> {
    /// Opens the slots. Writes nothing into them.
    ///
    /// # Errors
    /// When a slot is missing; `VerityUnsupported` when the root slot's file system cannot do what is required;
    /// `EINVAL` when both sets share a slot.
    pub fn open(config: LinuxConfig<'p>) -> Result<Self, StorageError> {
        check_apart(&config)?;
        let layout = config.target.layout;
        let boot = config.target.boot.map(|path| BootSlot::open(path, layout));
        let boot = boot.transpose()?;
        let root = config
            .target
            .root
            .map(|path| RootSlot::open(path, config.verity))
            .transpose()?;
        let running = config.running.root.map(Repository::open_path).transpose();
        let running = running
            .during(StorageOperation::Open, StorageObject::RootSlot)?
            .flatten();
        let scratch = Scratch::open(config.scratch)?;
        Ok(Self {
            config,
            boot,
            root,
            running,
            scratch,
            needed: Needed::new(),
            from_base: false,
            staged: None,
            batch: Batch::new(),
            copied: None,
            bases: Bases::new(),
            listing: Listing::new(),
        })
    }

    /// A way to bring to the medium, from another thread, what has been written of the open blob; `None` while none is open.
    pub fn early_sync(&self) -> Option<EarlySync> {
        self.staged.as_ref().and_then(Staged::early_sync)
    }

    fn boot(&self) -> Result<&BootSlot, StorageError> {
        self.boot
            .as_ref()
            .ok_or(Errno::NODEV)
            .during(StorageOperation::Open, StorageObject::BootSlot)
    }

    fn root(&self) -> Result<&RootSlot, StorageError> {
        self.root
            .as_ref()
            .ok_or(Errno::NODEV)
            .during(StorageOperation::Open, StorageObject::RootSlot)
    }

    fn staged(&mut self) -> Result<&mut Staged, StorageError> {
        self.staged
            .as_mut()
            .ok_or(Errno::BADF)
            .during(StorageOperation::Open, StorageObject::Object)
    }

    fn take_staged(&mut self) -> Result<Staged, StorageError> {
        self.staged
            .take()
            .ok_or(Errno::BADF)
            .during(StorageOperation::Open, StorageObject::Object)
    }

    fn image_slot(&self, name: &str) -> Option<&ImageSlot<'p>> {
        self.config.images.iter().find(|slot| slot.name == name)
    }

    /// The slot that an image payload goes to.
    fn slot_of(&self, blob: &Blob, manifest: &Manifest) -> Result<&ImageSlot<'p>, StorageError> {
        let slot = manifest
            .payloads
            .get(usize::from(blob.payload))
            .and_then(|payload| match &payload.kind {
                PayloadKind::Image { slot } => self.image_slot(slot.as_str()),
                PayloadKind::Uki | PayloadKind::Composefs { .. } => None,
            });
        slot.ok_or(Errno::NODEV)
            .during(StorageOperation::Open, StorageObject::ImageSlot)
    }

    /// Where an object is; it counts as needed from now on.
    fn locate_object(&mut self, blob: &Blob) -> Result<Location, StorageError> {
        self.needed.add(&blob.digest);
        let object = object_of(blob.role);
        if self
            .root()?
            .holds(blob)
            .during(StorageOperation::MeasureVerity, object)?
        {
            return Ok(Location::Target);
        }
        let Some(running) = &self.running else {
            return Ok(Location::Absent);
        };
        let there = running
            .holds(blob, self.config.verity)
            .during(StorageOperation::MeasureVerity, object)?;
        Ok(if there {
            Location::Running
        } else {
            Location::Absent
        })
    }

    /// Whether the kernel gives every byte of an object of the target set: with fs-verity, whether it is whole on the medium. `pulse` is
    /// called again and again, to keep a watchdog quiet.
    pub fn is_readable(&self, blob: &Blob, pulse: &dyn Fn()) -> bool {
        let found = self.root.as_ref().map(|root| root.object(&blob.digest));
        let Some(Ok(Some(file))) = found else {
            return false;
        };
        let mut piece = [0; READ_BYTES];
        let (mut offset, mut is_given) = (0, true);
        while is_given && offset < blob.size {
            pulse();
            let length = usize::try_from(blob.size - offset).unwrap_or(READ_BYTES);
            let piece = piece.get_mut(..length.min(READ_BYTES)).unwrap_or_default();
            is_given = read_exact(&file, offset, piece).is_ok();
            offset += piece.len() as u64;
        }
        is_given
    }

    fn stage(&self, blob: &Blob, manifest: &Manifest) -> Result<(Staged, u64), StorageError> {
        let object = object_of(blob.role);
        // Bytes that are left have no zeros to spare; a file without any is a hole to its end.
        let own = |left| {
            if left == 0 {
                Backing::New
            } else {
                Backing::Own
            }
        };
        let (file, left, backing) = match blob.role {
            Role::Uki => {
                let opened = self.boot()?.open_blob(blob);
                let (file, left) = opened.during(StorageOperation::Open, object)?;
                // FAT has no holes.
                (file, left, Backing::Own)
            }
            Role::Object | Role::Composefs => {
                let opened = self.root()?.open_blob(blob);
                let (file, left) = opened.during(StorageOperation::Open, object)?;
                (file, left, own(left))
            }
            Role::Image => {
                let path = self.slot_of(blob, manifest)?.target;
                let image = image_slot::open(path, blob, self.config.probe_images);
                let image = image.during(StorageOperation::Open, object)?;
                let backing = match (image.fresh, image.device) {
                    (true, _) => Backing::Hole,
                    (false, true) => Backing::Device,
                    (false, false) => Backing::Fixed,
                };
                (image.file, image.left, backing)
            }
        };
        Ok((Staged::new(*blob, file, backing), left))
    }
}

impl Storage for LinuxStorage<'_> {
    fn locate(&mut self, blob: &Blob, manifest: &Manifest) -> Result<Location, StorageError> {
        match blob.role {
            Role::Object | Role::Composefs => self.locate_object(blob),
            Role::Uki => self.boot().map(|_| Location::Absent),
            Role::Image => self.slot_of(blob, manifest).map(|_| Location::Absent),
        }
    }

    fn starts_from(&mut self, base: &Manifest) -> Result<bool, StorageError> {
        let holds = match (base.composefs(), &self.root) {
            (Some(image), Some(root)) => root.holds_image(&image.digest, image.size),
            _ => Ok(false),
        };
        self.from_base = holds.during(
            StorageOperation::MeasureVerity,
            StorageObject::ComposefsImage,
        )?;
        Ok(self.from_base)
    }

    fn freed_bytes(&mut self, digest: &BlobDigest) -> Result<u64, StorageError> {
        self.root()?
            .object_bytes(digest)
            .during(StorageOperation::Read, StorageObject::Object)
    }

    fn remove(&mut self, digest: &BlobDigest) -> Result<(), StorageError> {
        self.root()?
            .remove_object(digest)
            .during(StorageOperation::Remove, StorageObject::Object)
    }

    fn image_slot_bytes(&mut self, slot: &str) -> Result<Option<u64>, StorageError> {
        let size = self
            .image_slot(slot)
            .map(|slot| image_slot::size_bytes(slot.target))
            .transpose();
        size.during(StorageOperation::Open, StorageObject::ImageSlot)
    }

    fn space(&mut self) -> Result<Space, StorageError> {
        let boot_bytes = self.boot.as_ref().map(BootSlot::space_bytes).transpose();
        let from_base = self.from_base;
        let root_bytes = self.root.as_mut().map(|root| {
            if from_base {
                root.free_bytes()
            } else {
                root.space_bytes(&self.needed)
            }
        });
        let root_bytes = root_bytes.transpose();
        Ok(Space {
            boot_bytes: boot_bytes.during(StorageOperation::Read, StorageObject::BootSlot)?,
            root_bytes: root_bytes.during(StorageOperation::Read, StorageObject::RootSlot)?,
        })
    }

    fn scratch_read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        self.scratch.read(offset, buffer)
    }

    fn scratch_write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.scratch.write(offset, bytes)
    }

    fn prepare(&mut self, manifest: &Manifest) -> Result<(), StorageError> {
        self.staged = None;
        self.batch.clear();
        // First what may refuse and harms nothing.
        if let Some(root) = &mut self.root {
            root.make_ready()?;
        }
        if self.config.recovers {
            mark_incomplete(self.config.target.front)?;
        }
        if let Some(boot) = &mut self.boot {
            let bytes = manifest.uki().map_or(0, |uki| uki.size);
            if !self.config.recovers || !boot.keep(bytes)? {
                boot.move_away()?;
            }
        }
        remove_front(self.config.target.front)?;
        let Some(root) = &self.root else {
            return Ok(());
        };
        if self.from_base {
            return root.forget_images(manifest, &self.needed);
        }
        root.remove_garbage(&self.needed, knows_all_objects(&self.needed, manifest))
    }

    fn open(&mut self, blob: &Blob, manifest: &Manifest) -> Result<u64, StorageError> {
        self.staged = None;
        let (staged, left) = self.stage(blob, manifest)?;
        self.staged = Some(staged);
        Ok(left)
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        self.staged()?.read(offset, buffer)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.staged()?.write(offset, bytes)
    }

    fn read_running(
        &mut self,
        blob: &Blob,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        let object = object_of(blob.role);
        if self
            .copied
            .as_ref()
            .is_none_or(|(digest, _)| *digest != blob.digest)
        {
            let found = self
                .running
                .as_ref()
                .map(|running| running.object(&blob.digest))
                .transpose();
            let file = found
                .map(Option::flatten)
                .and_then(|file| file.ok_or(Errno::NOENT));
            self.copied = Some((blob.digest, file.during(StorageOperation::Open, object)?));
        }
        let (_, file) = self
            .copied
            .as_ref()
            .ok_or(Errno::NOENT)
            .during(StorageOperation::Open, object)?;
        read_exact(file, offset, buffer).during(StorageOperation::Read, object)
    }

    fn running_object_after(
        &mut self,
        after: Option<&BlobDigest>,
    ) -> Result<Option<RunningObject>, StorageError> {
        let running = self.running.as_ref();
        let found = running.map(|running| self.listing.after(running, after));
        found
            .transpose()
            .map(Option::flatten)
            .during(StorageOperation::Read, StorageObject::Object)
    }

    fn has_base(&mut self, base: &PatchBase<'_>) -> Result<bool, StorageError> {
        Ok(self.bases.has(base, &self.config, self.running.as_ref()))
    }

    fn read_base(
        &mut self,
        base: &PatchBase<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        let running = self.running.as_ref();
        self.bases.read(base, &self.config, running, offset, buffer)
    }

    fn settle(&mut self) -> Result<(), StorageError> {
        self.staged()?.settle()
    }

    fn postpone(&mut self) -> Result<Postponed, StorageError> {
        self.batch.take(&mut self.staged)
    }

    fn open_postponed(&mut self) -> Result<Option<Blob>, StorageError> {
        let root = self.root.as_ref();
        self.staged = self.batch.next(|| root.map_or(Ok(()), RootSlot::sync))?;
        Ok(self.staged.as_ref().map(|staged| *staged.blob()))
    }

    fn publish(&mut self) -> Result<(), StorageError> {
        let (blob, file) = self.take_staged()?.into_settled()?;
        match blob.role {
            // The UKI waits for its name, and an image has none.
            Role::Uki | Role::Image => Ok(()),
            Role::Object | Role::Composefs => {
                self.root()?.publish(&blob, file, object_of(blob.role))
            }
        }
    }

    fn discard(&mut self) -> Result<(), StorageError> {
        let blob = self.take_staged()?.abandon()?;
        let removed = match blob.role {
            Role::Uki => self.boot()?.remove_blob(),
            Role::Object | Role::Composefs => self.root()?.remove_blob(&blob),
            Role::Image => Ok(()),
        };
        removed.during(StorageOperation::Remove, object_of(blob.role))
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.root.as_ref().map_or(Ok(()), RootSlot::sync)?;
        self.boot.as_ref().map_or(Ok(()), BootSlot::sync)
    }

    fn make_bootable(&mut self, manifest: &Manifest, front: &[u8]) -> Result<(), StorageError> {
        self.staged = None;
        // Housekeeping first: after the last step nothing may fail any more.
        self.root
            .as_ref()
            .map_or(Ok(()), RootSlot::remove_temporary)?;
        write_front(self.config.target.front, front)?;
        mark_complete(self.config.target.front)?;
        if manifest.uki().is_some() {
            self.boot()?.make_bootable()
        } else {
            Ok(())
        }
    }
}

/// Whether every object of the bundle has been asked for, so that all others are garbage. A wrong answer would cost a
/// fetch, not more: nothing is removed after the first blob was opened.
fn knows_all_objects(needed: &Needed, manifest: &Manifest) -> bool {
    manifest
        .composefs()
        .is_some_and(|payload| match payload.kind {
            PayloadKind::Composefs { objects, .. } => needed.added() > u64::from(objects),
            PayloadKind::Uki | PayloadKind::Image { .. } => false,
        })
}

/// The running set is never written: no slot may belong to both sets, under whatever path.
fn check_apart(config: &LinuxConfig<'_>) -> Result<(), StorageError> {
    let (running, target) = (&config.running, &config.target);
    let pairs = [
        (running.boot, target.boot, StorageObject::BootSlot),
        (running.root, target.root, StorageObject::RootSlot),
        (
            Some(running.front),
            Some(target.front),
            StorageObject::Scratch,
        ),
    ];
    for (one, other, object) in pairs {
        if let (Some(one), Some(other)) = (one, other)
            && (one == other || is_same_directory(one, other))
        {
            return Err(Errno::INVAL).during(StorageOperation::Open, object);
        }
    }
    if config
        .images
        .iter()
        .any(|slot| image_slot::is_same(slot.running, slot.target))
    {
        return Err(Errno::INVAL).during(StorageOperation::Open, StorageObject::ImageSlot);
    }
    Ok(())
}

fn is_same_directory(one: &str, other: &str) -> bool {
    let place = |path| open_directory_path(path).and_then(identity);
    matches!((place(one), place(other)), (Ok(one), Ok(other)) if one == other)
}
