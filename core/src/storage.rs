//! What core needs from a device: its slots, its scratch, its boot record. Core does no I/O of its own.
//!
//! # Power loss
//! The implementer promises only what each method's text says. In particular bytes that were written and not yet synced may be
//! lost, torn or reordered by a power cut; nothing that [`Storage::publish`] has not been called for counts as there.

use crate::error::{StorageError, StorageFault, StorageObject, StorageOperation};
use crate::verify::hashed::Trees;
use crate::wire::digest::BlobDigest;
use crate::wire::index::{Blob, Role};
use crate::wire::manifest::Manifest;
use core::ops::DerefMut;

/// Where a blob already is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Location {
    /// In the target set, whole, synced, under its final name: nothing to do.
    Target,
    /// In the running set: it can be copied. Its content is checked while it is copied.
    Running,
    /// In neither.
    Absent,
}

/// A blob that a patch starts from, and where a device may have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchBase<'m> {
    /// What it is for: the UKI stands in the boot slot, an object or a composefs image in the root slot, an image in its slot.
    pub role: Role,
    /// Its name.
    pub digest: BlobDigest,
    /// Its size in bytes.
    pub size: u64,
    /// The slot of an image; `None` for any other role.
    pub slot: Option<&'m str>,
}

/// An object of the running set, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunningObject {
    /// Its name.
    pub digest: BlobDigest,
    /// Its size in bytes.
    pub size: u64,
}

/// Room for an update in the target set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Space {
    /// Bytes free in the boot slot; `None` when it cannot be told.
    pub boot_bytes: Option<u64>,
    /// Bytes free in the root slot; `None` when it cannot be told.
    pub root_bytes: Option<u64>,
}

/// What became of an open blob that may wait for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Postponed {
    /// It is still open: it must be settled by itself.
    No,
    /// It is closed and waits.
    Waits,
    /// It is closed and waits, and no other may wait before those that do have been published.
    Full,
}

/// The target set of a device, and a scratch area, as the installer sees them.
///
/// One blob is open at a time: [`open`](Self::open), then writes, then [`settle`](Self::settle), read-back and
/// [`publish`](Self::publish), or [`discard`](Self::discard). The running set is only ever read.
pub trait Storage {
    /// Where the blob is. Costs a look, not a read of the content.
    ///
    /// # Errors
    /// When the device cannot tell.
    fn locate(&mut self, blob: &Blob, manifest: &Manifest) -> Result<Location, StorageError>;

    /// Whether the target set still looks as its kept front matter says: the composefs image of `base` is at its place. Costs a
    /// look at that image, and none at the objects.
    ///
    /// After `true` the installer follows the route from `base`: it names what is to be removed, so the storage looks for no
    /// garbage of its own, and [`space`](Self::space) tells only what is free. Asked at most once, before anything is located.
    ///
    /// # Errors
    /// When the device cannot tell.
    fn starts_from(&mut self, base: &Manifest) -> Result<bool, StorageError>;

    /// Bytes that [`remove`](Self::remove) of an object would free; 0 when it is not there.
    ///
    /// # Errors
    /// When the device cannot tell.
    fn freed_bytes(&mut self, digest: &BlobDigest) -> Result<u64, StorageError>;

    /// Removes an object of the base from the target set, after [`prepare`](Self::prepare) and before the first
    /// [`open`](Self::open). One that is not there is no error. Need not be durable before [`sync`](Self::sync).
    ///
    /// # Errors
    /// When it cannot be removed.
    fn remove(&mut self, digest: &BlobDigest) -> Result<(), StorageError>;

    /// Size of the slot that an image payload goes to, in bytes; `Ok(None)` when the device has no such slot.
    ///
    /// # Errors
    /// When the slot is there and cannot be opened.
    fn image_slot_bytes(&mut self, slot: &str) -> Result<Option<u64>, StorageError>;

    /// Free room in the target set.
    ///
    /// # Errors
    /// When the device cannot tell.
    fn space(&mut self) -> Result<Space, StorageError>;

    /// Reads from the scratch area. Bytes never written may be anything: the reader checks their digest.
    ///
    /// # Errors
    /// When the scratch area cannot be read; a place past its end gives zeros, not an error.
    fn scratch_read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError>;

    /// Writes to the scratch area; need not survive a power cut.
    ///
    /// # Errors
    /// When the scratch area cannot be written.
    fn scratch_write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError>;

    /// Makes the target set unbootable, durably, before anything else is written to it: its UKI goes away from every path that
    /// a firmware might try, and the front matter of what it held goes too. Called once, before the first [`open`](Self::open).
    ///
    /// For a recovery, a storage may leave the UKI where it boots, if that durably starts nothing but the recovery again until
    /// [`make_bootable`](Self::make_bootable): otherwise a device with no other UKI would be lost with the power.
    ///
    /// # Errors
    /// When that cannot be made sure; nothing may be written then.
    fn prepare(&mut self, manifest: &Manifest) -> Result<(), StorageError>;

    /// Opens a blob for writing in the target set, under a name that nothing boots or reads. Gives how many of its bytes an
    /// earlier attempt may have left there: the installer reads them with [`read`](Self::read) and checks every one, and
    /// 0 says that looking is not worth it.
    ///
    /// # Errors
    /// When it cannot be opened.
    fn open(&mut self, blob: &Blob, manifest: &Manifest) -> Result<u64, StorageError>;

    /// Reads from the open blob exactly `buffer.len()` bytes; after [`settle`](Self::settle), from the medium.
    ///
    /// # Errors
    /// When it cannot be read or ends early.
    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError>;

    /// Writes to the open blob, in ascending order of `offset`.
    ///
    /// # Errors
    /// When it cannot be written.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError>;

    /// Writes as [`write`](Self::write) does, bytes that were read and hashed ahead: a storage that would hand others to a second
    /// thread gains nothing by doing so with these.
    ///
    /// # Errors
    /// When it cannot be written.
    fn write_hashed(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.write(offset, bytes)
    }

    /// Reads the open blob back from the medium as [`read`](Self::read) does after [`settle`](Self::settle), and hashes it,
    /// where the storage has threads for that: the trees that start at `offset`, none beyond `end`. `None` when the installer
    /// shall read and hash.
    ///
    /// # Errors
    /// When it cannot be read or ends early.
    fn read_trees(&mut self, offset: u64, end: u64) -> Result<Option<Trees>, StorageError> {
        let _ = (offset, end);
        Ok(None)
    }

    /// Reads from the copy of `blob` in the running set exactly `buffer.len()` bytes.
    ///
    /// # Errors
    /// When it cannot be read (the kernel's refusal of a damaged file included) or ends early.
    fn read_running(
        &mut self,
        blob: &Blob,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError>;

    /// The first object of the running set whose digest comes after `after`, by its bytes, or the first of all; `None` behind the last.
    /// Goes by names and sizes and reads no content: the installer checks what it copies. The composefs image may be among them.
    ///
    /// A storage that cannot list its objects says `None`: then no route from what runs is followed.
    ///
    /// # Errors
    /// When the device cannot tell.
    fn running_object_after(
        &mut self,
        after: Option<&BlobDigest>,
    ) -> Result<Option<RunningObject>, StorageError> {
        let _ = after;
        Ok(None)
    }

    /// Whether the device has the base of a patch, of the right size, where it stays as it is until the install has ended: in the
    /// running set, or in the target set if nothing of this install changes or removes it there. Costs a look, not a read of the
    /// content: a base that is not what its name says is found out by what it gives.
    ///
    /// # Errors
    /// When the device cannot tell.
    fn has_base(&mut self, base: &PatchBase<'_>) -> Result<bool, StorageError> {
        let _ = base;
        Ok(false)
    }

    /// Reads exactly `buffer.len()` bytes of a base that [`has_base`](Self::has_base) said to be there. Called with few bytes at a
    /// time, often from places near each other.
    ///
    /// # Errors
    /// When it cannot be read (the kernel's refusal of a damaged file included) or ends early.
    fn read_base(
        &mut self,
        base: &PatchBase<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        let _ = (base, offset, buffer);
        Err(StorageError {
            operation: StorageOperation::Read,
            object: StorageObject::Object,
            fault: StorageFault::Short,
        })
    }

    /// Cuts the open blob to its size, brings it to the medium, and forgets cached copies, so that the next
    /// [`read`](Self::read) is from the medium.
    ///
    /// # Errors
    /// When the medium reports a failure.
    fn settle(&mut self) -> Result<(), StorageError>;

    /// Closes the open blob, whose bytes are all written, so that one sync brings it to the medium together with others. It is not
    /// there before it was opened again by [`open_postponed`](Self::open_postponed) and published; the UKI, images and composefs
    /// images never wait. What waits may be forgotten by [`prepare`](Self::prepare), as if the power had been cut.
    ///
    /// # Errors
    /// When it cannot be cut to its size.
    fn postpone(&mut self) -> Result<Postponed, StorageError> {
        Ok(Postponed::No)
    }

    /// Opens one of the blobs that wait, settled: as after [`settle`](Self::settle), the next [`read`](Self::read) is from the
    /// medium. `None` when none waits any more. Nothing else may be open.
    ///
    /// # Errors
    /// When the medium reports a failure; then none of those that wait may be published.
    fn open_postponed(&mut self) -> Result<Option<Blob>, StorageError> {
        Ok(None)
    }

    /// Gives the open blob its final name, sealed with fs-verity where the device has it, and closes it. The UKI stays under a
    /// name that no firmware boots until [`make_bootable`](Self::make_bootable).
    ///
    /// # Errors
    /// When it cannot be renamed or sealed, or the kernel measures another digest.
    fn publish(&mut self) -> Result<(), StorageError>;

    /// Closes the open blob and removes what was written of it.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn discard(&mut self) -> Result<(), StorageError>;

    /// Brings everything that was published to the medium, file systems included, not only files.
    ///
    /// # Errors
    /// When the medium reports a failure.
    fn sync(&mut self) -> Result<(), StorageError>;

    /// Makes the target set bootable: the UKI gets the name that the firmware boots, durably. The last step of an install;
    /// never called before everything else is synced and checked. `front` is kept with the set, durably and before the UKI gets
    /// its name: a small tar archive of `manifest` and `signatures` as they were signed, from which anybody can prove later what
    /// the set holds. A bundle without a UKI has only that to do.
    ///
    /// # Errors
    /// When it cannot be made sure.
    fn make_bootable(&mut self, manifest: &Manifest, front: &[u8]) -> Result<(), StorageError>;
}

/// A storage that stands before another and changes a part of what it does. What a layer does not say itself goes on to the
/// storage below, so that a method that [`Storage`] gains is never lost on the way.
///
/// Every layer is a [`Storage`]. Its methods are those of `Storage`, with the same contract.
#[allow(
    missing_docs,
    clippy::missing_errors_doc,
    reason = "each method is that of Storage"
)]
pub trait StorageLayer {
    /// The storage below.
    type Below: Storage;

    /// How the storage below is reached: by a reference, or through a lock.
    type Reached<'l>: DerefMut<Target = Self::Below>
    where
        Self: 'l;

    /// Reaches the storage below, for every method that the layer does not say itself.
    ///
    /// # Errors
    /// What every such method then fails with.
    fn below(&mut self) -> Result<Self::Reached<'_>, StorageError>;

    fn locate(&mut self, blob: &Blob, manifest: &Manifest) -> Result<Location, StorageError> {
        self.below()?.locate(blob, manifest)
    }

    fn starts_from(&mut self, base: &Manifest) -> Result<bool, StorageError> {
        self.below()?.starts_from(base)
    }

    fn freed_bytes(&mut self, digest: &BlobDigest) -> Result<u64, StorageError> {
        self.below()?.freed_bytes(digest)
    }

    fn remove(&mut self, digest: &BlobDigest) -> Result<(), StorageError> {
        self.below()?.remove(digest)
    }

    fn image_slot_bytes(&mut self, slot: &str) -> Result<Option<u64>, StorageError> {
        self.below()?.image_slot_bytes(slot)
    }

    fn space(&mut self) -> Result<Space, StorageError> {
        self.below()?.space()
    }

    fn scratch_read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        self.below()?.scratch_read(offset, buffer)
    }

    fn scratch_write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.below()?.scratch_write(offset, bytes)
    }

    fn prepare(&mut self, manifest: &Manifest) -> Result<(), StorageError> {
        self.below()?.prepare(manifest)
    }

    fn open(&mut self, blob: &Blob, manifest: &Manifest) -> Result<u64, StorageError> {
        self.below()?.open(blob, manifest)
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        self.below()?.read(offset, buffer)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.below()?.write(offset, bytes)
    }

    fn write_hashed(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.below()?.write_hashed(offset, bytes)
    }

    fn read_trees(&mut self, offset: u64, end: u64) -> Result<Option<Trees>, StorageError> {
        self.below()?.read_trees(offset, end)
    }

    fn read_running(
        &mut self,
        blob: &Blob,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        self.below()?.read_running(blob, offset, buffer)
    }

    fn running_object_after(
        &mut self,
        after: Option<&BlobDigest>,
    ) -> Result<Option<RunningObject>, StorageError> {
        self.below()?.running_object_after(after)
    }

    fn has_base(&mut self, base: &PatchBase<'_>) -> Result<bool, StorageError> {
        self.below()?.has_base(base)
    }

    fn read_base(
        &mut self,
        base: &PatchBase<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        self.below()?.read_base(base, offset, buffer)
    }

    fn settle(&mut self) -> Result<(), StorageError> {
        self.below()?.settle()
    }

    fn postpone(&mut self) -> Result<Postponed, StorageError> {
        self.below()?.postpone()
    }

    fn open_postponed(&mut self) -> Result<Option<Blob>, StorageError> {
        self.below()?.open_postponed()
    }

    fn publish(&mut self) -> Result<(), StorageError> {
        self.below()?.publish()
    }

    fn discard(&mut self) -> Result<(), StorageError> {
        self.below()?.discard()
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.below()?.sync()
    }

    fn make_bootable(&mut self, manifest: &Manifest, front: &[u8]) -> Result<(), StorageError> {
        self.below()?.make_bootable(manifest, front)
    }
}

impl<L: StorageLayer> Storage for L {
    fn locate(&mut self, blob: &Blob, manifest: &Manifest) -> Result<Location, StorageError> {
        L::locate(self, blob, manifest)
    }

    fn starts_from(&mut self, base: &Manifest) -> Result<bool, StorageError> {
        L::starts_from(self, base)
    }

    fn freed_bytes(&mut self, digest: &BlobDigest) -> Result<u64, StorageError> {
        L::freed_bytes(self, digest)
    }

    fn remove(&mut self, digest: &BlobDigest) -> Result<(), StorageError> {
        L::remove(self, digest)
    }

    fn image_slot_bytes(&mut self, slot: &str) -> Result<Option<u64>, StorageError> {
        L::image_slot_bytes(self, slot)
    }

    fn space(&mut self) -> Result<Space, StorageError> {
        L::space(self)
    }

    fn scratch_read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        L::scratch_read(self, offset, buffer)
    }

    fn scratch_write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        L::scratch_write(self, offset, bytes)
    }

    fn prepare(&mut self, manifest: &Manifest) -> Result<(), StorageError> {
        L::prepare(self, manifest)
    }

    fn open(&mut self, blob: &Blob, manifest: &Manifest) -> Result<u64, StorageError> {
        L::open(self, blob, manifest)
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        L::read(self, offset, buffer)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        L::write(self, offset, bytes)
    }

    fn write_hashed(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        L::write_hashed(self, offset, bytes)
    }

    fn read_trees(&mut self, offset: u64, end: u64) -> Result<Option<Trees>, StorageError> {
        L::read_trees(self, offset, end)
    }

    fn read_running(
        &mut self,
        blob: &Blob,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        L::read_running(self, blob, offset, buffer)
    }

    fn running_object_after(
        &mut self,
        after: Option<&BlobDigest>,
    ) -> Result<Option<RunningObject>, StorageError> {
        L::running_object_after(self, after)
    }

    fn has_base(&mut self, base: &PatchBase<'_>) -> Result<bool, StorageError> {
        L::has_base(self, base)
    }

    fn read_base(
        &mut self,
        base: &PatchBase<'_>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StorageError> {
        L::read_base(self, base, offset, buffer)
    }

    fn settle(&mut self) -> Result<(), StorageError> {
        L::settle(self)
    }

    fn postpone(&mut self) -> Result<Postponed, StorageError> {
        L::postpone(self)
    }

    fn open_postponed(&mut self) -> Result<Option<Blob>, StorageError> {
        L::open_postponed(self)
    }

    fn publish(&mut self) -> Result<(), StorageError> {
        L::publish(self)
    }

    fn discard(&mut self) -> Result<(), StorageError> {
        L::discard(self)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        L::sync(self)
    }

    fn make_bootable(&mut self, manifest: &Manifest, front: &[u8]) -> Result<(), StorageError> {
        L::make_bootable(self, manifest, front)
    }
}

/// Two places that hold the boot record, each of [`crate::boot::record::COPY_BYTES`] bytes.
pub trait RecordStore {
    /// Reads copy 0 or 1. A copy that was never written may be anything.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read_copy(&mut self, copy: usize, buffer: &mut [u8]) -> Result<(), StorageError>;

    /// Writes copy 0 or 1 and brings it to the medium before it returns. A power cut may tear the copy that is being written,
    /// and must leave the other one alone.
    ///
    /// # Errors
    /// When it cannot be written.
    fn write_copy(&mut self, copy: usize, bytes: &[u8]) -> Result<(), StorageError>;
}
