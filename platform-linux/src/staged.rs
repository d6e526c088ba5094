//! The open blob: bytes on their way to the medium, under a name that nothing boots or reads.
//!
//! # Power loss
//! Until [`Staged::settle`] returns, what was written may be lost, torn or reordered.

use crate::fault::{During, fault_of};
use crate::file::{read_exact, read_or_zeros, write_all};
use core::num::NonZeroU64;
use rustix::fd::OwnedFd;
use rustix::fs::{Advice, OFlags, fadvise, fcntl_setfl, fdatasync, ftruncate};
use rustix::io::{Errno, fcntl_dupfd_cloexec, retry_on_intr};
use twinseal_core::error::{StorageError, StorageObject, StorageOperation};
use twinseal_core::wire::index::{Blob, Role};

/// After so many bytes the kernel is told to start writing, so that the medium works while the next bytes are fetched and hashed.
/// It also bounds how much of the page cache an install takes.
const WRITE_BACK_BYTES: u64 = 8 * 1024 * 1024;

/// Direct writes start and end at multiples of this: the largest logical block of common media, and a page.
const ALIGNMENT_BYTES: u64 = 4096;

/// A hole is left in pieces of this size.
const HOLE_BYTES: usize = 64 * 1024;

/// What the file under a blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    /// A file of the blob's own, cut to its size.
    Own,
    /// The same, and empty when it was opened: zeros need not be written.
    New,
    /// A hole of the blob's size: zeros are there already.
    Hole,
    /// A place that is larger than the blob, perhaps, and keeps its size.
    Fixed,
    /// The same, and a block device: what is aligned need not go through the page cache.
    Device,
}

/// A blob that is being written.
pub(crate) struct Staged {
    blob: Blob,
    file: OwnedFd,
    backing: Backing,
    /// The kernel was told to write everything before this offset.
    write_back: u64,
    settled: bool,
    direct: Direct,
}

/// Whether the file is open past the page cache now (`O_DIRECT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direct {
    Off,
    On,
    /// The device does not do that.
    Refused,
}

impl Staged {
    /// Starts to write `blob` to `file`.
    pub(crate) const fn new(blob: Blob, file: OwnedFd, backing: Backing) -> Self {
        Self {
            blob,
            file,
            backing,
            write_back: 0,
            settled: false,
            direct: Direct::Off,
        }
    }

    /// What is written.
    pub(crate) const fn blob(&self) -> &Blob {
        &self.blob
    }

    /// What errors say it is.
    pub(crate) const fn object(&self) -> StorageObject {
        object_of(self.blob.role)
    }

    /// Reads exactly `buffer.len()` bytes.
    pub(crate) fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        let mut read = self.set_direct(Direct::Off).map_err(fault_of);
        if read.is_ok() {
            // Zeros at the end of a new file are not there before it is cut to its size.
            read = if self.backing == Backing::New && !self.settled {
                read_or_zeros(&self.file, offset, buffer).map_err(fault_of)
            } else {
                read_exact(&self.file, offset, buffer)
            };
        }
        read.during(StorageOperation::Read, self.object())
    }

    /// Writes all of `bytes`.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.settled = false;
        let written = match self.backing {
            Backing::Hole | Backing::New => self.write_around_zeros(offset, bytes),
            Backing::Own | Backing::Fixed => write_all(&self.file, offset, bytes),
            Backing::Device => self.write_device(offset, bytes),
        };
        written.during(StorageOperation::Write, self.object())?;
        if self.direct == Direct::On {
            return Ok(());
        }
        self.start_write_back(offset + bytes.len() as u64)
            .during(StorageOperation::Write, self.object())
    }

    /// Cuts the file to the blob's size where it is the blob's own, brings it to the medium and drops it from the page cache.
    pub(crate) fn settle(&mut self) -> Result<(), StorageError> {
        self.cut()?;
        retry_on_intr(|| fdatasync(&self.file)).during(StorageOperation::Sync, self.object())?;
        self.is_synced()
    }

    /// Cuts the file to the blob's size where it is the blob's own.
    pub(crate) fn cut(&mut self) -> Result<(), StorageError> {
        self.set_direct(Direct::Off)
            .and_then(|()| match self.backing {
                Backing::Own | Backing::New => {
                    retry_on_intr(|| ftruncate(&self.file, self.blob.size))
                }
                Backing::Hole | Backing::Fixed | Backing::Device => Ok(()),
            })
            .during(StorageOperation::Sync, self.object())
    }

    /// The file was cut and is on the medium: drops it from the page cache.
    pub(crate) fn is_synced(&mut self) -> Result<(), StorageError> {
        // Clean pages go; should one stay, it is read from memory instead of the medium.
        fadvise(&self.file, 0, None, Advice::DontNeed)
            // It is read back from its start to its end.
            .and_then(|()| fadvise(&self.file, 0, None, Advice::Sequential))
            .during(StorageOperation::Sync, self.object())?;
        self.settled = true;
        Ok(())
    }

    /// A way to bring to the medium what was written so far; `None` when there is no descriptor left for it.
    pub(crate) fn early_sync(&self) -> Option<EarlySync> {
        let file = fcntl_dupfd_cloexec(&self.file, 0).ok()?;
        Some(EarlySync {
            file,
            object: self.object(),
        })
    }

    /// Gives the file away, settled.
    pub(crate) fn into_settled(mut self) -> Result<(Blob, OwnedFd), StorageError> {
        if !self.settled {
            self.settle()?;
        }
        Ok((self.blob, self.file))
    }

    /// Gives up what was written. A file of the blob's own has a name, which the caller removes.
    pub(crate) fn abandon(self) -> Result<Blob, StorageError> {
        if self.backing == Backing::Hole {
            // The slot had no size before, and gets none from an image that was not good.
            ftruncate(&self.file, 0).during(StorageOperation::Remove, self.object())?;
        }
        Ok(self.blob)
    }

    fn write_around_zeros(&self, mut offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        for piece in bytes.chunks(HOLE_BYTES) {
            if !is_zero(piece) {
                write_all(&self.file, offset, piece)?;
            }
            offset += piece.len() as u64;
        }
        Ok(())
    }

    /// Bytes that start and end at pages, in memory and on the device, go past the page cache: the device works at once, nothing
    /// is copied, and nothing is left to sync but its own cache.
    fn write_device(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let start = bytes.as_ptr().addr() as u64;
        let aligned = [start, offset, bytes.len() as u64]
            .iter()
            .all(|place| place.is_multiple_of(ALIGNMENT_BYTES));
        if aligned && self.direct != Direct::Refused {
            self.set_direct(Direct::On)?;
            match write_all(&self.file, offset, bytes) {
                // Blocks that are larger than ours, say. What was written is written again.
                Err(Errno::INVAL) => {
                    self.set_direct(Direct::Off)?;
                    self.direct = Direct::Refused;
                }
                other => return other,
            }
        }
        self.set_direct(Direct::Off)?;
        write_all(&self.file, offset, bytes)
    }

    /// Switches direct writing on or off; where it is refused it stays off.
    fn set_direct(&mut self, direct: Direct) -> Result<(), Errno> {
        if self.direct == direct || self.direct == Direct::Refused {
            return Ok(());
        }
        let flags = if direct == Direct::On {
            OFlags::DIRECT
        } else {
            OFlags::empty()
        };
        match fcntl_setfl(&self.file, flags) {
            Ok(()) => self.direct = direct,
            Err(Errno::INVAL) if direct == Direct::On => self.direct = Direct::Refused,
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    /// `POSIX_FADV_DONTNEED` starts writing what is dirty and does not wait for it.
    fn start_write_back(&mut self, end: u64) -> Result<(), Errno> {
        match NonZeroU64::new(end.saturating_sub(self.write_back)) {
            Some(bytes) if bytes.get() >= WRITE_BACK_BYTES => {
                fadvise(&self.file, self.write_back, Some(bytes), Advice::DontNeed)?;
                self.write_back = end;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Brings to the medium what was written of a blob while more of it is written, so that little is left at the end: from another
/// thread, since it waits for the medium.
pub struct EarlySync {
    file: OwnedFd,
    object: StorageObject,
}

impl EarlySync {
    /// Syncs what was written before the call.
    ///
    /// # Errors
    /// When the medium reports a failure. The kernel tells each failure once, so this one must end the install.
    pub fn sync(&self) -> Result<(), StorageError> {
        retry_on_intr(|| fdatasync(&self.file)).during(StorageOperation::Sync, self.object)
    }
}

/// What errors say about a blob of a role.
pub(crate) const fn object_of(role: Role) -> StorageObject {
    match role {
        Role::Uki => StorageObject::Uki,
        Role::Image => StorageObject::ImageSlot,
        Role::Object => StorageObject::Object,
        Role::Composefs => StorageObject::ComposefsImage,
    }
}

/// Whether all bytes are zero, seen at the processor's full width.
fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(64)
        .all(|part| part.iter().fold(0, |all, byte| all | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;
    use twinseal_core::wire::digest::BlobDigest;

    #[test]
    fn direct_and_other_pieces_of_a_device_follow_each_other() {
        const PAGE: usize = ALIGNMENT_BYTES as usize;
        let size = 4 * PAGE + 100;
        let blob = Blob {
            role: Role::Image,
            payload: 0,
            digest: BlobDigest::sha256([0; 32]),
            size: size as u64,
            ranges: 1,
            stored_bytes: size as u64,
            alternatives: 0,
        };
        let file = tempfile::tempfile().unwrap();
        let mut staged = Staged::new(blob, file.into(), Backing::Device);
        let mut memory = vec![0; size + PAGE];
        let start = memory.as_ptr().align_offset(PAGE);
        let content: Vec<u8> = (0..size).map(|byte| (byte % 251) as u8).collect();
        memory[start..start + size].copy_from_slice(&content);
        let aligned = &memory[start..start + size];
        // Direct where the file system can, then not at a page in memory, direct again, and an end that fills no page.
        staged.write(0, &aligned[..PAGE]).unwrap();
        let went = staged.direct;
        assert_ne!(went, Direct::Off, "it was tried");
        let mut apart = vec![0; PAGE + 1];
        apart[1..].copy_from_slice(&aligned[PAGE..2 * PAGE]);
        staged.write(PAGE as u64, &apart[1..]).unwrap();
        staged
            .write(2 * PAGE as u64, &aligned[2 * PAGE..4 * PAGE])
            .unwrap();
        assert_eq!(staged.direct, went);
        staged.write(4 * PAGE as u64, &aligned[4 * PAGE..]).unwrap();
        staged.early_sync().unwrap().sync().unwrap();
        staged.settle().unwrap();
        let mut found = vec![0; size];
        staged.read(0, &mut found).unwrap();
        assert_eq!(found, content);
        assert_ne!(staged.direct, Direct::On);
    }
}
