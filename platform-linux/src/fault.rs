//! From error numbers to the errors of core.

use rustix::io::Errno;
use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};

/// The fault that an error number stands for.
pub(crate) const fn fault_of(errno: Errno) -> StorageFault {
    match errno {
        Errno::NOSPC | Errno::DQUOT => StorageFault::Full,
        other => StorageFault::Code(other.raw_os_error()),
    }
}

/// Says what was being done, and to what, when something failed.
pub(crate) trait During<T> {
    /// Turns the failure into core's error.
    fn during(self, operation: StorageOperation, object: StorageObject) -> Result<T, StorageError>;
}

impl<T> During<T> for Result<T, Errno> {
    fn during(self, operation: StorageOperation, object: StorageObject) -> Result<T, StorageError> {
        self.map_err(|errno| failure(operation, object, errno))
    }
}

/// Once in a program: this is what most system calls are followed by.
#[inline(never)]
fn failure(operation: StorageOperation, object: StorageObject, errno: Errno) -> StorageError {
    StorageError {
        operation,
        object,
        fault: fault_of(errno),
    }
}

impl<T> During<T> for Result<T, StorageFault> {
    fn during(self, operation: StorageOperation, object: StorageObject) -> Result<T, StorageError> {
        self.map_err(|fault| StorageError {
            operation,
            object,
            fault,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_medium_has_a_name_of_its_own() {
        assert_eq!(fault_of(Errno::NOSPC), StorageFault::Full);
        assert_eq!(fault_of(Errno::DQUOT), StorageFault::Full);
        assert_eq!(fault_of(Errno::IO), StorageFault::Code(5));
    }
}
