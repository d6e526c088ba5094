//! The sealed root: the composefs image that the command line names, mounted so that the kernel checks every file against it.
//!
//! `images/<digest>` is an EROFS file. Its kernel-measured fs-verity digest must be the one asked for; it is mounted and becomes
//! the lower layer of an overlay whose data-only layer is the object store. Each file of the image carries the digest of its
//! object, and `verity=require` makes the kernel refuse an object with another one (`Documentation/filesystems/overlayfs.rst`).
//!
//! # Invariants
//! - The measured descriptor is what is mounted, not its name: a name that changes in between changes nothing.
//! - Everything is read-only.
#![expect(
    clippy::result_large_err,
    reason = "two digests, once in a boot, and no heap to put them in"
)]

use crate::calls::{fsconfig_set_flag, fsconfig_set_string, fsopen, move_mount, openat, unmount};
use crate::fault::{During, fault_of};
use crate::file::join;
use crate::path::{COMPOSEFS, IMAGES, OBJECTS, ObjectName};
use crate::sys;
use crate::verity::measure;
use core::fmt::{self, Write};
use heapless::String;
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsmount,
};
use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};
use twinseal_core::wire::digest::BlobDigest;

/// A path that the kernel is given: a folder of the caller and a name of ours.
type Path = String<256>;

/// Why a root is not mounted. None of it can be repaired by trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealRefused {
    /// The root slot has no such image.
    ImageMissing {
        /// The seal.
        expected: BlobDigest,
    },
    /// The image is an ordinary file that the kernel does not check.
    NotSealed {
        /// The seal.
        expected: BlobDigest,
    },
    /// The image is sealed with another digest.
    OtherDigest {
        /// The seal.
        expected: BlobDigest,
        /// What the kernel measured.
        found: BlobDigest,
    },
    /// The image, or the overlay over it, cannot be mounted: it is damaged, or the kernel lacks what it takes.
    Mount {
        /// The seal.
        expected: BlobDigest,
        /// What the kernel said.
        error: StorageError,
    },
}

impl fmt::Display for SealRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ImageMissing { expected } => write!(
                f,
                "The root slot has no composefs image {}; install the bundle again.",
                expected.to_hex()
            ),
            Self::NotSealed { expected } => write!(
                f,
                "The composefs image must have the digest {}, and has none: it is not sealed with fs-verity.",
                expected.to_hex()
            ),
            Self::OtherDigest { expected, found } => write!(
                f,
                "The composefs image must have the digest {}, and has {}.",
                expected.to_hex(),
                found.to_hex()
            ),
            Self::Mount { expected, error } => write!(
                f,
                "The composefs image {} has the right digest and cannot be mounted: {error}",
                expected.to_hex()
            ),
        }
    }
}

impl core::error::Error for SealRefused {}

/// Where the parts of a sealed root are mounted. All folders must be there.
#[derive(Clone, Copy, Debug)]
pub struct SealedRoot<'p> {
    /// The mounted root slot.
    pub slot: &'p str,
    /// A folder for the EROFS image, only used while mounting.
    pub image: &'p str,
    /// Where the root appears.
    pub target: &'p str,
}

impl SealedRoot<'_> {
    /// Measures the image and mounts the root.
    ///
    /// # Errors
    /// [`SealRefused`] says what is not as the seal says.
    pub fn mount(&self, expected: &BlobDigest) -> Result<(), SealRefused> {
        let image = self.open_measured(expected)?;
        self.mount_image(&image)
            .and_then(|()| self.mount_overlay())
            .during(StorageOperation::Mount, StorageObject::ComposefsImage)
            .map_err(|error| SealRefused::Mount {
                expected: *expected,
                error,
            })
    }

    /// Opens the image whose digest the kernel measures to be `expected`.
    ///
    /// # Errors
    /// [`SealRefused`] says what it is instead.
    pub fn open_measured(&self, expected: &BlobDigest) -> Result<OwnedFd, SealRefused> {
        let expected = *expected;
        let failed = |operation| {
            move |fault| SealRefused::Mount {
                expected,
                error: StorageError {
                    operation,
                    object: StorageObject::ComposefsImage,
                    fault,
                },
            }
        };
        let name = ObjectName::new(&expected);
        let path: Result<Path, Errno> =
            join(&[self.slot, "/", COMPOSEFS, "/", IMAGES, "/", name.hex()]);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = path.and_then(|path| openat(CWD, path.as_str(), flags, Mode::empty()));
        let image = match opened {
            Err(Errno::NOENT) => return Err(SealRefused::ImageMissing { expected }),
            other => other
                .map_err(fault_of)
                .map_err(failed(StorageOperation::Open))?,
        };
        match measure(&image) {
            Ok(Some(found)) if found == expected => Ok(image),
            Ok(Some(found)) => Err(SealRefused::OtherDigest { expected, found }),
            Ok(None) | Err(StorageFault::VerityUnsupported) => {
                Err(SealRefused::NotSealed { expected })
            }
            Err(fault) => Err(failed(StorageOperation::MeasureVerity)(fault)),
        }
    }

    /// Mounts the EROFS image from its file; through a loop device when the kernel takes only block devices.
    fn mount_image(&self, image: &OwnedFd) -> Result<(), Errno> {
        let mut source = Path::new();
        // A number of ten digits at most: it fits.
        let _ = write!(source, "/proc/self/fd/{}", image.as_raw_fd());
        match self.mount_erofs(&source) {
            Err(Errno::NOTBLK) => {
                let number = sys::attach_loop(image)?;
                source.clear();
                let _ = write!(source, "/dev/loop{number}");
                self.mount_erofs(&source)
            }
            other => other,
        }
    }

    fn mount_erofs(&self, source: &str) -> Result<(), Errno> {
        let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_flag(&context, "ro")?;
        fsconfig_set_string(&context, "source", source)?;
        attach(&context, self.image)
    }

    fn mount_overlay(&self) -> Result<(), Errno> {
        let objects: Path = join(&[self.slot, "/", COMPOSEFS, "/", OBJECTS])?;
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_flag(&context, "ro")?;
        for (key, value) in [
            ("source", "composefs"),
            ("metacopy", "on"),
            ("redirect_dir", "on"),
            ("verity", "require"),
            ("lowerdir+", self.image),
            ("datadir+", objects.as_str()),
        ] {
            fsconfig_set_string(&context, key, value)?;
        }
        attach(&context, self.target)?;
        // The overlay holds the image by itself; nobody else needs to see it.
        unmount(self.image, UnmountFlags::DETACH)
    }
}

/// Makes the file system and mounts it read-only.
fn attach(context: &OwnedFd, directory: &str) -> Result<(), Errno> {
    fsconfig_create(context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
    let mount = fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let here: BorrowedFd<'_> = CWD;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&mount, "", here, directory, flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{format, fs, string::ToString};

    fn refused(slot: &std::path::Path, expected: &BlobDigest) -> SealRefused {
        let root = SealedRoot {
            slot: slot.to_str().unwrap(),
            image: "/nowhere",
            target: "/nowhere",
        };
        root.mount(expected).unwrap_err()
    }

    #[test]
    fn nothing_is_mounted_that_the_kernel_did_not_measure() {
        let slot = tempfile::tempdir().unwrap();
        let expected = BlobDigest::sha256([0x1f; 32]);
        let missing = SealRefused::ImageMissing { expected };
        assert_eq!(refused(slot.path(), &expected), missing);
        let images = slot.path().join("composefs/images");
        fs::create_dir_all(&images).unwrap();
        fs::write(images.join("1f".repeat(32)), "not sealed").unwrap();
        let not_sealed = SealRefused::NotSealed { expected };
        assert_eq!(refused(slot.path(), &expected), not_sealed);
    }

    #[test]
    fn a_refusal_names_both_digests() {
        let [expected, found] = [0x1f, 0x2e].map(|byte| BlobDigest::sha256([byte; 32]));
        let sentence = SealRefused::OtherDigest { expected, found }.to_string();
        let wanted = format!(
            "The composefs image must have the digest {}, and has {}.",
            "1f".repeat(32),
            "2e".repeat(32)
        );
        assert_eq!(sentence, wanted);
        let error = StorageError {
            operation: StorageOperation::Mount,
            object: StorageObject::ComposefsImage,
            fault: StorageFault::Code(5),
        };
        let sentence = SealRefused::Mount { expected, error }.to_string();
        assert!(sentence.contains(&"1f".repeat(32)) && sentence.contains(&error.to_string()));
    }
}
