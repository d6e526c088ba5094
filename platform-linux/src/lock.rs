//! One agent at a time: an advisory lock that the kernel takes back when its holder ends, however it ends.

use crate::calls::openat;
use crate::fault::fault_of;
use crate::file::FILE_MODE;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FlockOperation, OFlags, flock};
use rustix::io::Errno;
use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};

/// The right to change this device's slots and boot record; given back when dropped.
pub struct DeviceLock {
    _file: OwnedFd,
}

impl DeviceLock {
    /// Takes the lock on the file at `path`, which is made when it is missing. Does not wait.
    ///
    /// # Errors
    /// [`StorageFault::Busy`] when another holder is alive; otherwise when the file can be neither opened nor made.
    pub fn acquire(path: &str) -> Result<Self, StorageError> {
        let failed = |fault| StorageError {
            operation: StorageOperation::Lock,
            object: StorageObject::BootRecord,
            fault,
        };
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let file = openat(CWD, path, flags, FILE_MODE).map_err(|errno| failed(fault_of(errno)))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(failed(StorageFault::Busy)),
            Err(errno) => Err(failed(fault_of(errno))),
        }
    }
}
