//! Damaged objects fetched from a bundle, by the installer that brings releases, through a storage that wants nothing else.
//!
//! Signatures, index and every range are checked as in an install. The floor and the validity window do not count: what gets an
//! object's name has its digest, whichever release it comes from.
//!
//! # Invariants
//! - Nothing but damaged objects is written into the set: the UKI and the images, which an installer looks at in any case, are
//!   compared in a file without a name.

use super::{Job, aside};
use crate::cli::RepairArguments;
use crate::crew::with_crew;
use crate::device::text;
use crate::error::AgentError;
use crate::install::{Decision, Order, Releases, run_installer};
use crate::report::Outlet;
use crate::slots::OpenSet;
use crate::source::{Bundle, Terms, Timing};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};
use twinseal_core::journal::RepairSource;
use twinseal_core::storage::{Location, Space, Storage};
use twinseal_core::verify::policy::Policy;
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::{Blob, Role};
use twinseal_core::wire::manifest::{Manifest, PayloadKind};
use twinseal_platform_linux::{ImageSlot, Scratch};

/// Fetches what is damaged; gives how many objects were replaced. `root` is the set's, writable, and `opened` has its boot slot.
pub(super) fn replace(
    job: &mut Job<'_>,
    root: &Path,
    opened: &OpenSet<'_>,
    source: &Path,
    arguments: &RepairArguments,
    outlet: &mut Outlet,
) -> Result<usize, AgentError> {
    let (device, places, set) = (job.device, job.places, job.set);
    let terms = Terms::of_run(device, arguments.budget, Timing::default());
    let mut bundle = Bundle::open(source, &terms)?;
    let scratch = device.state("scratch");
    let mut storage = RepairStorage {
        root,
        opened,
        images: places.images(set)?,
        nameless: device.state("repair"),
        scratch: Scratch::open(text(&scratch)?)?,
        open: None,
        failed: None,
        repaired: 0,
        job,
    };
    let order = Order {
        device,
        target: set,
        policy: Policy {
            compatible: device.description.compatible.as_str(),
            floor: 0,
            now: None,
            highest_time_seen: 0,
        },
        budget: bundle.limit(arguments.budget),
        audit: false,
        interrupted: None,
        read_back: true,
        rate: None,
        window: None,
    };
    let accept = |_: &_, _: &_| Ok(Decision::Accept);
    let ended = with_crew(|crew| {
        run_installer(
            &order,
            &mut bundle,
            crew,
            &mut storage,
            Releases::default(),
            outlet,
            accept,
        )
    });
    match (storage.failed.take(), ended) {
        (Some(error), _) => Err(error),
        (None, Err(stopped)) => Err(stopped.error),
        (None, Ok(_)) => Ok(storage.repaired),
    }
}

/// A set that lacks its damaged objects and nothing else.
struct RepairStorage<'r, 'j> {
    job: &'r mut Job<'j>,
    root: &'r Path,
    opened: &'r OpenSet<'r>,
    images: Vec<ImageSlot<'r>>,
    /// Where files without a name are made.
    nameless: PathBuf,
    scratch: Scratch,
    open: Option<(Blob, File)>,
    /// What core's errors have no room for.
    failed: Option<AgentError>,
    repaired: usize,
}

impl RepairStorage<'_, '_> {
    /// What a UKI or an image is compared with: a copy that has no name.
    fn copy(&self, blob: &Blob, manifest: &Manifest) -> io::Result<(File, u64)> {
        let from = match blob.role {
            Role::Uki => self.opened.uki(),
            _ => self.slot(blob, manifest).map(PathBuf::from),
        };
        let copy = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&self.nameless)?;
        fs::remove_file(&self.nameless)?;
        let Some(from) = from.filter(|from| from.exists()) else {
            return Ok((copy, 0));
        };
        let bytes = io::copy(
            &mut io::Read::take(File::open(from)?, blob.size),
            &mut &copy,
        )?;
        Ok((copy, bytes))
    }

    fn slot(&self, blob: &Blob, manifest: &Manifest) -> Option<&str> {
        let payload = manifest.payloads.get(usize::from(blob.payload))?;
        let PayloadKind::Image { slot } = &payload.kind else {
            return None;
        };
        let slot = self
            .images
            .iter()
            .find(|image| image.name == slot.as_str())?;
        Some(slot.target)
    }

    fn file(&self) -> Result<&File, StorageError> {
        let open = self.open.as_ref().map(|(_, file)| file);
        open.ok_or(fault(StorageOperation::Open, Errno::BADF.raw_os_error()))
    }
}

impl Storage for RepairStorage<'_, '_> {
    fn locate(&mut self, blob: &Blob, _: &Manifest) -> Result<Location, StorageError> {
        Ok(if self.job.damaged.contains(&blob.digest) {
            Location::Absent
        } else {
            Location::Target
        })
    }

    /// Always the full route.
    fn starts_from(&mut self, _: &Manifest) -> Result<bool, StorageError> {
        Ok(false)
    }

    fn freed_bytes(&mut self, _: &BlobDigest) -> Result<u64, StorageError> {
        Ok(0)
    }

    fn remove(&mut self, _: &BlobDigest) -> Result<(), StorageError> {
        Ok(())
    }

    fn image_slot_bytes(&mut self, slot: &str) -> Result<Option<u64>, StorageError> {
        // Nothing is going to be written there, so every size will do.
        let known = self.images.iter().any(|image| image.name == slot);
        Ok(known.then_some(u64::MAX))
    }

    fn space(&mut self) -> Result<Space, StorageError> {
        Ok(Space::default())
    }

    fn scratch_read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        self.scratch.read(offset, buffer)
    }

    fn scratch_write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.scratch.write(offset, bytes)
    }

    fn prepare(&mut self, _: &Manifest) -> Result<(), StorageError> {
        Ok(())
    }

    fn open(&mut self, blob: &Blob, manifest: &Manifest) -> Result<u64, StorageError> {
        let opened = match blob.role {
            Role::Uki | Role::Image => self.copy(blob, manifest),
            Role::Object | Role::Composefs => aside(self.root).map(|(_, file)| (file, 0)),
        };
        let (file, left) = opened.map_err(|error| failed(StorageOperation::Open, &error))?;
        self.open = Some((*blob, file));
        Ok(left)
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        let read = self.file()?.read_exact_at(buffer, offset);
        read.map_err(|error| failed(StorageOperation::Read, &error))
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        let written = self.file()?.write_all_at(bytes, offset);
        written.map_err(|error| failed(StorageOperation::Write, &error))
    }

    fn read_running(&mut self, _: &Blob, _: u64, _: &mut [u8]) -> Result<(), StorageError> {
        Err(fault(StorageOperation::Read, Errno::NOENT.raw_os_error()))
    }

    fn settle(&mut self) -> Result<(), StorageError> {
        let bytes = self.open.as_ref().map_or(0, |(blob, _)| blob.size);
        let file = self.file()?;
        let settled = file.set_len(bytes).and_then(|()| file.sync_all());
        settled.map_err(|error| failed(StorageOperation::Sync, &error))
    }

    fn publish(&mut self) -> Result<(), StorageError> {
        let Some((blob, file)) = self.open.take() else {
            return Err(fault(StorageOperation::Rename, Errno::BADF.raw_os_error()));
        };
        drop(file);
        if !self.job.damaged.contains(&blob.digest) {
            return Ok(());
        }
        let new = Ok(self.root.join(super::ASIDE).join(super::NEW_OBJECT));
        let put = self
            .job
            .put(self.root, &blob.digest, new, RepairSource::Bundle);
        put.map_err(|error| {
            self.failed = Some(error);
            fault(StorageOperation::Rename, Errno::IO.raw_os_error())
        })?;
        self.repaired += 1;
        Ok(())
    }

    fn discard(&mut self) -> Result<(), StorageError> {
        self.open = None;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn make_bootable(&mut self, _: &Manifest, _: &[u8]) -> Result<(), StorageError> {
        Ok(())
    }
}

fn failed(operation: StorageOperation, error: &io::Error) -> StorageError {
    fault(
        operation,
        error.raw_os_error().unwrap_or(Errno::IO.raw_os_error()),
    )
}

const fn fault(operation: StorageOperation, code: i32) -> StorageError {
    StorageError {
        operation,
        object: StorageObject::Object,
        fault: StorageFault::Code(code),
    }
}
