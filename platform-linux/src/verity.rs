//! fs-verity: sealing a file, and asking the kernel for its digest.
//!
//! The kernel's measurement costs one `ioctl`, whatever the size of the file: the tree was built when the file was
//! sealed, and every read is checked against it. Formats: `Documentation/filesystems/fsverity.rst` of Linux.

use crate::calls::openat;
use crate::fault::fault_of;
use crate::file::{FILE_MODE, NO_LINKS, remove, write_all};
use crate::path::PROBE;
use crate::sys;
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use twinseal_core::error::StorageFault;
use twinseal_core::wire::digest::{BlobDigest, DigestAlgorithm};

/// The digest that the kernel enforces for an open file; `None` when the file is not sealed.
///
/// # Errors
/// [`StorageFault::VerityUnsupported`] when the file system or the kernel has no fs-verity; [`StorageFault::Code`] otherwise.
pub fn measure<Fd: AsFd>(file: Fd) -> Result<Option<BlobDigest>, StorageFault> {
    match sys::measure_verity(file) {
        Ok(measured) => Ok(digest_of(&measured)),
        Err(Errno::NODATA) => Ok(None),
        Err(errno) => Err(verity_fault(errno)),
    }
}

/// Seals a file with 4 KiB blocks and no salt. It must be open for reading only, and by nobody for writing.
///
/// # Errors
/// As [`measure`]; a file that is sealed already gives `EEXIST`.
pub fn enable<Fd: AsFd>(file: Fd, algorithm: DigestAlgorithm) -> Result<(), StorageFault> {
    sys::enable_verity(file, u32::from(algorithm as u8)).map_err(verity_fault)
}

/// Whether the file system of a directory knows fs-verity at all. Writes nothing.
pub(crate) fn check_known<Fd: AsFd>(directory: Fd) -> Result<(), StorageFault> {
    measure(directory).map(|_| ())
}

/// Seals a small file in `directory`, to be sure: a file system that knows fs-verity may still refuse, for its block size say.
pub(crate) fn check_works<Fd: AsFd>(directory: Fd) -> Result<(), StorageFault> {
    let sealed = seal_probe(&directory);
    remove(&directory, PROBE).map_err(fault_of)?;
    match sealed {
        // What the kernel answers when the blocks of the file system are smaller than those of the tree.
        Err(StorageFault::Code(code)) if code == Errno::INVAL.raw_os_error() => {
            Err(StorageFault::VerityUnsupported)
        }
        other => other,
    }
}

fn seal_probe<Fd: AsFd>(directory: &Fd) -> Result<(), StorageFault> {
    remove(directory, PROBE).map_err(fault_of)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | NO_LINKS;
    let written = openat(directory, PROBE, flags, FILE_MODE).map_err(fault_of)?;
    write_all(&written, 0, b"Can this file be sealed?").map_err(fault_of)?;
    drop(written);
    let probe =
        openat(directory, PROBE, OFlags::RDONLY | NO_LINKS, Mode::empty()).map_err(fault_of)?;
    enable(probe, DigestAlgorithm::Sha256)
}

fn digest_of(measured: &sys::MeasuredDigest) -> Option<BlobDigest> {
    let algorithm = DigestAlgorithm::from_number(u8::try_from(measured.algorithm).ok()?)?;
    BlobDigest::new(
        algorithm,
        measured.digest.get(..usize::from(measured.bytes))?,
    )
}

/// ENOTTY: the kernel or the file system does not know the call. EOPNOTSUPP: it is not switched on here.
fn verity_fault(errno: Errno) -> StorageFault {
    match errno {
        Errno::NOTTY | Errno::OPNOTSUPP => StorageFault::VerityUnsupported,
        other => fault_of(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_answer_is_read_by_its_own_length() {
        let mut measured = sys::MeasuredDigest {
            algorithm: 1,
            bytes: 32,
            digest: [7; 64],
        };
        assert_eq!(digest_of(&measured), Some(BlobDigest::sha256([7; 32])));
        measured.bytes = 64;
        assert_eq!(digest_of(&measured), None);
        measured.algorithm = 2;
        assert_eq!(
            digest_of(&measured).map(|digest| digest.algorithm()),
            Some(DigestAlgorithm::Sha512)
        );
        measured.algorithm = 0x101;
        assert_eq!(digest_of(&measured), None);
        measured.bytes = 65;
        assert_eq!(digest_of(&measured), None);
    }

    #[test]
    fn refusals_have_names() {
        assert_eq!(verity_fault(Errno::NOTTY), StorageFault::VerityUnsupported);
        assert_eq!(
            verity_fault(Errno::OPNOTSUPP),
            StorageFault::VerityUnsupported
        );
        assert_eq!(verity_fault(Errno::NOSPC), StorageFault::Full);
        assert_eq!(verity_fault(Errno::TXTBSY), StorageFault::Code(26));
    }
}
