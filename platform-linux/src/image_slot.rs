//! Slots that hold raw bytes: a block device, or a plain file that stands for one.
//!
//! A plain file that is missing or empty has no size yet: the first image gives it one, at once and as a hole, so that a power
//! cut leaves a slot of the right size. Zeros need not be written into that hole.

use crate::calls::{openat, stat};
use crate::fault::fault_of;
use crate::file::open_or_make;
use crate::sys::block_device_bytes;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Dev, FileType, Mode, OFlags, Stat, ftruncate};
use rustix::io::Errno;
use twinseal_core::error::StorageFault;
use twinseal_core::wire::index::Blob;

/// Size of a slot that has none: the largest file.
const GROWABLE_BYTES: u64 = i64::MAX as u64;

/// Where device nodes are. One that is missing is a missing device, not a plain file to be made.
const DEVICES: &str = "/dev/";

/// The one folder below [`DEVICES`] that holds plain files.
const SHARED_MEMORY: &str = "/dev/shm/";

/// What kind of thing a slot is now.
enum Kind {
    Device,
    File,
    /// A plain file without a size.
    Fresh,
}

/// An image slot that is open for writing.
pub(crate) struct OpenImage {
    pub file: OwnedFd,
    /// Bytes that may be worth reading.
    pub left: u64,
    /// Whether it is a hole from end to end.
    pub fresh: bool,
    /// Whether it is a block device.
    pub device: bool,
}

/// Size of the slot in bytes.
pub(crate) fn size_bytes(path: &str) -> Result<u64, Errno> {
    let Kind::Fresh = kind(path)? else {
        let slot = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        return open_size_bytes(&slot);
    };
    Ok(GROWABLE_BYTES)
}

/// Opens the slot for writing `blob`; `probe` says whether what is there may be worth reading.
pub(crate) fn open(path: &str, blob: &Blob, probe: bool) -> Result<OpenImage, StorageFault> {
    let (file, device) = match kind(path).map_err(fault_of)? {
        Kind::Fresh => {
            let (file, _) = open_or_make(path).map_err(fault_of)?;
            ftruncate(&file, blob.size).map_err(fault_of)?;
            return Ok(OpenImage {
                file,
                left: 0,
                fresh: true,
                device: false,
            });
        }
        // Exclusive: a device that is mounted, or a part of another one, is not to be written.
        Kind::Device => (open_to_write(path, OFlags::EXCL)?, true),
        Kind::File => (open_to_write(path, OFlags::empty())?, false),
    };
    let size = open_size_bytes(&file).map_err(fault_of)?;
    if size < blob.size {
        return Err(StorageFault::Full);
    }
    let left = if probe { blob.size } else { 0 };
    Ok(OpenImage {
        file,
        left,
        fresh: false,
        device,
    })
}

/// Opens the slot for reading; `None` when it has fewer bytes than are wanted.
pub(crate) fn open_to_read(path: &str, bytes: u64) -> Result<Option<OwnedFd>, Errno> {
    // A pipe in the place of a slot is no slot, and nobody waits for its writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::empty())?;
    let size = open_size_bytes(&file)?;
    Ok((size >= bytes).then_some(file))
}

/// Whether two slots are the same device or file; a slot that is not there is the same as nothing.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    matches!((place(one), place(other)), (Some(one), Some(other)) if one == other)
}

/// Opens a slot that is there for reading and writing; [`StorageFault::Busy`] for one that [`OFlags::EXCL`] finds in use.
pub(crate) fn open_to_write(path: &str, more: OFlags) -> Result<OwnedFd, StorageFault> {
    openat(
        CWD,
        path,
        OFlags::RDWR | OFlags::CLOEXEC | more,
        Mode::empty(),
    )
    .map_err(|errno| match errno {
        Errno::BUSY => StorageFault::Busy,
        other => fault_of(other),
    })
}

/// Size of an open slot in bytes.
pub(crate) fn open_size_bytes(slot: &OwnedFd) -> Result<u64, Errno> {
    let stat = rustix::fs::fstat(slot)?;
    if file_type(&stat).is_block_device() {
        block_device_bytes(slot)
    } else {
        Ok(stat.st_size as u64)
    }
}

fn kind(path: &str) -> Result<Kind, Errno> {
    match stat(path) {
        Err(Errno::NOENT) if !names_device(path) => Ok(Kind::Fresh),
        Err(errno) => Err(errno),
        Ok(stat) if file_type(&stat).is_block_device() => Ok(Kind::Device),
        Ok(stat) if !file_type(&stat).is_file() => Err(Errno::NOTBLK),
        Ok(stat) if stat.st_size == 0 => Ok(Kind::Fresh),
        Ok(_) => Ok(Kind::File),
    }
}

fn names_device(path: &str) -> bool {
    path.starts_with(DEVICES) && !path.starts_with(SHARED_MEMORY)
}

/// What tells one slot from another, whatever its path.
fn place(path: &str) -> Option<(bool, Dev, u64)> {
    let stat = stat(path).ok()?;
    if file_type(&stat).is_block_device() {
        return Some((true, stat.st_rdev as Dev, 0));
    }
    Some((false, stat.st_dev as Dev, stat.st_ino))
}

fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}
