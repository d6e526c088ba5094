//! The blobs of the running set that patches start from.
//!
//! An object has its digest as a name. The UKI and an image have none in their slots: what they are says the manifest kept with the
//! running set. It is not believed, and need not be: a base that is something else shows by what a patch makes of it.
//!
//! Of the target set nothing is a base: an install begins by removing what it has no use for.

use crate::boot_slot::BootSlot;
use crate::fault::During;
use crate::file::{read_exact, regular_length};
use crate::front::stated_manifest;
use crate::image_slot;
use crate::repository::Repository;
use crate::staged::object_of;
use crate::storage::LinuxConfig;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use twinseal_core::error::{StorageError, StorageOperation};
use twinseal_core::storage::PatchBase;
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::{Blob, Role};
use twinseal_core::wire::manifest::{Manifest, PayloadKind};

/// What is known of them, and the one that was read last.
pub(crate) struct Bases {
    /// What the running set says that it holds, once somebody asked.
    stated: Option<Option<Manifest>>,
    open: Option<(BlobDigest, OwnedFd)>,
}

impl Bases {
    /// Nothing is known yet.
    pub(crate) const fn new() -> Self {
        Self {
            stated: None,
            open: None,
        }
    }

    /// Whether the running set has a base. One that cannot be looked at is as good as missing: then its blob is fetched whole.
    pub(crate) fn has(
        &mut self,
        base: &PatchBase<'_>,
        config: &LinuxConfig<'_>,
        running: Option<&Repository>,
    ) -> bool {
        match base.role {
            Role::Object | Role::Composefs => {
                let blob = as_blob(base);
                running.is_some_and(|running| {
                    running.holds(&blob, config.verity).is_ok_and(|whole| whole)
                })
            }
            Role::Uki | Role::Image => {
                self.is_stated(base, config) && matches!(open(base, config, running), Ok(Some(_)))
            }
        }
    }

    /// Whether the running set's manifest names it, at its place.
    fn is_stated(&mut self, base: &PatchBase<'_>, config: &LinuxConfig<'_>) -> bool {
        let stated = self
            .stated
            .get_or_insert_with(|| stated_manifest(config.running.front));
        let mut payloads = stated.iter().flat_map(|manifest| &manifest.payloads);
        payloads.any(|payload| {
            let at_its_place = match &payload.kind {
                PayloadKind::Uki => base.role == Role::Uki,
                PayloadKind::Image { slot } => base.slot == Some(slot.as_str()),
                PayloadKind::Composefs { .. } => false,
            };
            at_its_place && payload.digest == base.digest && payload.size == base.size
        })
    }

    /// Reads exactly `buffer.len()` bytes.
    pub(crate) fn read(
        &mut self,
        base: &PatchBase<'_>,
        config: &LinuxConfig<'_>,
        running: Option<&Repository>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        let object = object_of(base.role);
        let opened = self
            .open
            .take()
            .filter(|(digest, _)| *digest == base.digest);
        let file = match opened {
            Some((_, file)) => file,
            None => open(base, config, running)?
                .ok_or(Errno::NOENT)
                .during(StorageOperation::Open, object)?,
        };
        let read = read_exact(&file, offset, buffer).during(StorageOperation::Read, object);
        self.open = Some((base.digest, file));
        read
    }
}

/// Opens a base; `None` when it is not there, or has another size.
fn open(
    base: &PatchBase<'_>,
    config: &LinuxConfig<'_>,
    running: Option<&Repository>,
) -> Result<Option<OwnedFd>, StorageError> {
    let object = object_of(base.role);
    let of_right_size =
        |file: &OwnedFd| regular_length(file).is_ok_and(|length| length == base.size);
    match base.role {
        Role::Uki => {
            let slot = config.running.boot;
            let slot = slot.map(|path| BootSlot::open(path, config.running.layout));
            let file = slot.transpose()?.map(|slot| slot.open_uki()).transpose()?;
            Ok(file.flatten().filter(of_right_size))
        }
        Role::Image => {
            let mut slots = config.images.iter();
            let slot = slots.find(|slot| Some(slot.name) == base.slot);
            let file = slot.map(|slot| image_slot::open_to_read(slot.running, base.size));
            let file = file.transpose().during(StorageOperation::Open, object)?;
            Ok(file.flatten())
        }
        Role::Object | Role::Composefs => {
            let file = running.map(|running| running.object(&base.digest));
            let file = file.transpose().during(StorageOperation::Open, object)?;
            Ok(file.flatten().filter(of_right_size))
        }
    }
}

/// The same as a blob of an index, which is what the repository is asked for.
const fn as_blob(base: &PatchBase<'_>) -> Blob {
    Blob {
        role: base.role,
        payload: 0,
        digest: base.digest,
        size: base.size,
        ranges: 0,
        stored_bytes: 0,
        alternatives: 0,
    }
}
