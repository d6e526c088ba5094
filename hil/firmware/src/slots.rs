//! Two sets of slots in the flash, as core's installer sees them: a place for the front matter, and an image slot, `firmware`.
//!
//! # Invariants
//! - Only the target set is written.
//! - A set is complete when its front matter proves a release and its slot holds the image that this names ([`crate::held`]):
//!   the front matter is erased first and programmed last.
//!
//! # Power loss
//! What a cut leaves of the slot is read and checked range by range by the next install; torn pages are erased before anything is
//! programmed there.

use crate::flash::{FLASH_BYTES, Flash, PAGE_BYTES, SECTOR_BYTES, SECTOR_PAGES, Violation};
use crate::watchdog;
use twinseal_core::boot::Set;
use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};
use twinseal_core::storage::{Location, PatchBase, Space, Storage};
use twinseal_core::wire::FRONT_MAX_BYTES;
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::Blob;
use twinseal_core::wire::manifest::{Manifest, PayloadKind};

/// Name of the slot in bundles.
pub const SLOT: &str = "firmware";

/// Size of the slot: what the place of an application takes.
pub const SLOT_BYTES: usize = crate::machine::APPLICATION_MAX_BYTES;

/// Room for the index while an update is installed: 8 blocks, 336 records. The largest image, in
/// ranges of a page each whole and as a patch, has 195.
const SCRATCH_BYTES: usize = 32 * 1024;

/// Sectors of a set's front matter.
const FRONT_SECTORS: usize = FRONT_MAX_BYTES.div_ceil(SECTOR_BYTES);

// After the two sectors of the boot record: front matter a, front matter b; from 128 KiB on the slots.
const FRONTS_AT: usize = 2 * SECTOR_BYTES;
const SLOTS_AT: usize = 128 * 1024;
const _: () = assert!(FRONTS_AT + 2 * FRONT_SECTORS * SECTOR_BYTES <= SLOTS_AT);
const _: () = assert!(SLOTS_AT + 2 * SLOT_BYTES <= FLASH_BYTES);

/// Where the front matter of a set begins.
pub const fn front_at(set: Set) -> usize {
    FRONTS_AT + set as usize * FRONT_SECTORS * SECTOR_BYTES
}

/// Where the slot of a set begins.
pub const fn slot_at(set: Set) -> usize {
    SLOTS_AT + set as usize * SLOT_BYTES
}

/// The image of the running set: an update may copy it, or patch it.
#[derive(Clone, Copy)]
pub struct Running {
    /// Its name.
    pub digest: BlobDigest,
    /// Its size.
    pub size: u64,
}

/// A sector that is being filled.
struct Filling {
    sector: usize,
    bytes: [u8; SECTOR_BYTES],
}

/// The target set, and what is read of the running one.
pub struct Slots<'f> {
    flash: &'f mut Flash,
    target: Set,
    running: Option<Running>,
    scratch: &'f mut [u8; SCRATCH_BYTES],
    filling: Option<Filling>,
}

/// Memory for the index.
pub type Scratch = [u8; SCRATCH_BYTES];

impl<'f> Slots<'f> {
    /// The slots, of which `target` is to be written. `running` is the image of the other set, where it is proved.
    pub fn new(
        flash: &'f mut Flash,
        target: Set,
        running: Option<Running>,
        scratch: &'f mut Scratch,
    ) -> Self {
        Self {
            flash,
            target,
            running,
            scratch,
            filling: None,
        }
    }

    /// Brings the sector that is being filled into the flash, if that holds anything else.
    fn put_sector(&mut self) -> Result<(), Violation> {
        let Some(filling) = self.filling.take() else {
            return Ok(());
        };
        watchdog::feed();
        if self.holds(filling.sector, &filling.bytes)? {
            return Ok(());
        }
        write_sector(self.flash, filling.sector, &filling.bytes)
    }

    /// Whether the flash holds these bytes in a sector.
    fn holds(&self, sector: usize, bytes: &[u8; SECTOR_BYTES]) -> Result<bool, Violation> {
        let mut page = [0; PAGE_BYTES];
        for (number, expected) in bytes.chunks(PAGE_BYTES).enumerate() {
            self.flash
                .read(sector * SECTOR_BYTES + number * PAGE_BYTES, &mut page)?;
            if page.as_slice() != expected {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The sector, to be filled further: with what the flash holds of it.
    fn sector(&mut self, sector: usize) -> Result<&mut [u8; SECTOR_BYTES], Violation> {
        if self
            .filling
            .as_ref()
            .is_none_or(|filling| filling.sector != sector)
        {
            self.put_sector()?;
            let mut bytes = [0; SECTOR_BYTES];
            self.flash.read(sector * SECTOR_BYTES, &mut bytes)?;
            self.filling = Some(Filling { sector, bytes });
        }
        let filling = self.filling.as_mut().ok_or(Violation::Outside)?;
        Ok(&mut filling.bytes)
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Violation> {
        let mut at = slot_at(self.target) + offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let within = at % SECTOR_BYTES;
            let (now, later) = rest.split_at((SECTOR_BYTES - within).min(rest.len()));
            let sector = self.sector(at / SECTOR_BYTES)?;
            let place = sector
                .get_mut(within..within + now.len())
                .ok_or(Violation::Outside)?;
            place.copy_from_slice(now);
            at += now.len();
            rest = later;
        }
        Ok(())
    }
}

/// Erases and programs a sector; pages that hold nothing stay erased.
fn write_sector(
    flash: &mut Flash,
    sector: usize,
    bytes: &[u8; SECTOR_BYTES],
) -> Result<(), Violation> {
    flash.erase(sector)?;
    for (number, page) in bytes.as_chunks::<PAGE_BYTES>().0.iter().enumerate() {
        if page.iter().any(|byte| *byte != 0xff) {
            flash.program(sector * SECTOR_PAGES + number, page)?;
        }
    }
    Ok(())
}

/// A place in the slot, if it is one.
fn place(offset: u64, bytes: usize) -> Result<usize, Violation> {
    let start = usize::try_from(offset).map_err(|_| Violation::Outside)?;
    match start.checked_add(bytes) {
        Some(end) if end <= SLOT_BYTES => Ok(start),
        _ => Err(Violation::Outside),
    }
}

fn failed(operation: StorageOperation) -> impl FnOnce(Violation) -> StorageError {
    move |violation| violation.during(operation, StorageObject::ImageSlot)
}

impl Storage for Slots<'_> {
    fn locate(&mut self, blob: &Blob, _: &Manifest) -> Result<Location, StorageError> {
        let is_running =
            |running: Running| running.digest == blob.digest && running.size == blob.size;
        Ok(if self.running.is_some_and(is_running) {
            Location::Running
        } else {
            Location::Absent
        })
    }

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
        Ok((slot == SLOT).then_some(SLOT_BYTES as u64))
    }

    fn space(&mut self) -> Result<Space, StorageError> {
        Ok(Space::default())
    }

    fn scratch_read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(SCRATCH_BYTES);
        let there = self.scratch.get(start..).unwrap_or(&[]);
        for (number, byte) in buffer.iter_mut().enumerate() {
            *byte = there.get(number).copied().unwrap_or(0);
        }
        Ok(())
    }

    fn scratch_write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(bytes.len());
        let place = self.scratch.get_mut(start..end).ok_or(StorageError {
            operation: StorageOperation::Write,
            object: StorageObject::Scratch,
            fault: StorageFault::Full,
        })?;
        place.copy_from_slice(bytes);
        Ok(())
    }

    fn prepare(&mut self, manifest: &Manifest) -> Result<(), StorageError> {
        // An image that could not be found again would leave a set that never boots.
        let fits = |payload: &twinseal_core::wire::manifest::Payload| matches!(&payload.kind, PayloadKind::Image { slot } if slot.as_str() == SLOT);
        if !manifest.payloads.iter().all(fits) {
            return Err(Violation::Outside.during(StorageOperation::Open, StorageObject::ImageSlot));
        }
        let first = front_at(self.target) / SECTOR_BYTES;
        (first..first + FRONT_SECTORS)
            .try_for_each(|sector| {
                let mut erased = [0; SECTOR_BYTES];
                self.flash.read(sector * SECTOR_BYTES, &mut erased)?;
                // Erasing wears; what is erased stays so.
                if erased.iter().all(|byte| *byte == 0xff) {
                    Ok(())
                } else {
                    self.flash.erase(sector)
                }
            })
            .map_err(failed(StorageOperation::Remove))
    }

    fn open(&mut self, blob: &Blob, _: &Manifest) -> Result<u64, StorageError> {
        self.filling = None;
        place(0, usize::try_from(blob.size).unwrap_or(usize::MAX))
            .map_err(failed(StorageOperation::Open))?;
        // Whatever the slot holds may be a part of it.
        Ok(blob.size)
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        watchdog::feed();
        let start = place(offset, buffer.len()).map_err(failed(StorageOperation::Read))?;
        self.flash
            .read(slot_at(self.target) + start, buffer)
            .map_err(failed(StorageOperation::Read))
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        let start = place(offset, bytes.len()).map_err(failed(StorageOperation::Write))?;
        self.put(start, bytes)
            .map_err(failed(StorageOperation::Write))
    }

    fn read_running(
        &mut self,
        _: &Blob,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        watchdog::feed();
        let start = place(offset, buffer.len()).map_err(failed(StorageOperation::Read))?;
        self.flash
            .read(slot_at(self.target.other()) + start, buffer)
            .map_err(failed(StorageOperation::Read))
    }

    fn has_base(&mut self, base: &PatchBase<'_>) -> Result<bool, StorageError> {
        let is_running =
            |running: Running| running.digest == base.digest && running.size == base.size;
        Ok(base.slot == Some(SLOT) && self.running.is_some_and(is_running))
    }

    fn read_base(
        &mut self,
        _: &PatchBase<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        let start = place(offset, buffer.len()).map_err(failed(StorageOperation::Read))?;
        self.flash
            .read(slot_at(self.target.other()) + start, buffer)
            .map_err(failed(StorageOperation::Read))
    }

    fn settle(&mut self) -> Result<(), StorageError> {
        self.put_sector().map_err(failed(StorageOperation::Sync))
    }

    fn publish(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn discard(&mut self) -> Result<(), StorageError> {
        self.filling = None;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn make_bootable(&mut self, _: &Manifest, front: &[u8]) -> Result<(), StorageError> {
        let first = front_at(self.target) / SECTOR_BYTES;
        for (number, piece) in front.chunks(SECTOR_BYTES).enumerate() {
            let mut bytes = [0xff; SECTOR_BYTES];
            let place = bytes.get_mut(..piece.len()).unwrap_or_default();
            place.copy_from_slice(piece);
            write_sector(self.flash, first + number, &bytes)
                .map_err(failed(StorageOperation::Write))?;
        }
        Ok(())
    }
}
