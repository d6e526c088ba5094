//! Variables of a UEFI firmware, as files of efivarfs.
//!
//! A variable is the file `NAME-VENDOR`: 4 bytes of attributes, then the value (`Documentation/filesystems/efivarfs.rst` of
//! Linux). The kernel hands each `write` to the firmware as one `SetVariable`, so a value is written in one piece.
//!
//! # Invariants
//! - What was written is read back: a firmware that answers "success" and keeps the old value is an error here.
//! - Nothing that the firmware gives is taken to be longer than the buffer that it was read into.
//!
//! # Power loss
//! A firmware writes a variable as a whole or not at all (UEFI specification 2.10, section 8.2, `SetVariable`): a cut leaves
//! the old value or the new one.

use crate::calls::{openat, statat, unlinkat};
use crate::fault::During;
use crate::file::{NO_LINKS, for_each_entry, if_there, open_directory_path, read_up_to};
use heapless::{String, Vec};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, IFlags, Mode, OFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::{Errno, retry_on_intr, write};
use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};

const OBJECT: StorageObject = StorageObject::BootLoader;

/// Vendor of the variables that the UEFI specification defines (`EFI_GLOBAL_VARIABLE`, section 3.3).
pub const GLOBAL_VENDOR: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// Vendor of the variables of the boot loader interface (systemd's stub writes them).
pub const LOADER_VENDOR: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// `NON_VOLATILE`, `BOOTSERVICE_ACCESS` and `RUNTIME_ACCESS`: what a boot option must have to be kept and to be seen by both.
const ATTRIBUTES: [u8; ATTRIBUTES_BYTES] = 7_u32.to_le_bytes();

const ATTRIBUTES_BYTES: usize = 4;

/// Longest value that is written: a boot order of [`ORDER_MAX`](crate::loader::uefi) numbers, the longest of what we write.
pub(crate) const VALUE_MAX_BYTES: usize = 1024;

/// Longest file name of efivarfs.
const NAME_MAX_BYTES: usize = 255;

/// The variables of this machine's firmware.
pub struct Variables {
    directory: OwnedFd,
}

/// A value as it was read.
pub(crate) struct Value<'b> {
    /// The value, cut off at the buffer's end.
    pub bytes: &'b [u8],
    /// Whether all of it is there.
    pub whole: bool,
}

impl Variables {
    /// Opens the folder where efivarfs is mounted (`/sys/firmware/efi/efivars`).
    ///
    /// # Errors
    /// When there is no such folder.
    pub fn open(folder: &str) -> Result<Self, StorageError> {
        let directory = open_directory_path(folder).during(StorageOperation::Open, OBJECT)?;
        Ok(Self { directory })
    }

    /// Reads a variable into `buffer`, which needs 4 bytes more than the value, and gives the value; `None` when there is no such variable.
    ///
    /// # Errors
    /// [`StorageFault::Full`] when it does not fit; otherwise when the firmware does not give it.
    pub fn read<'b>(
        &self,
        name: &str,
        vendor: &str,
        buffer: &'b mut [u8],
    ) -> Result<Option<&'b [u8]>, StorageError> {
        match self.read_start(name, vendor, buffer)? {
            Some(value) if !value.whole => {
                Err(StorageFault::Full).during(StorageOperation::Read, OBJECT)
            }
            value => Ok(value.map(|value| value.bytes)),
        }
    }

    /// Reads as much of a variable as fits `buffer` besides the 4 bytes of attributes.
    pub(crate) fn read_start<'b>(
        &self,
        name: &str,
        vendor: &str,
        buffer: &'b mut [u8],
    ) -> Result<Option<Value<'b>>, StorageError> {
        let path = file_name(name, vendor)?;
        let flags = OFlags::RDONLY | NO_LINKS;
        let opened = if_there(openat(&self.directory, path.as_str(), flags, Mode::empty()));
        let Some(file) = opened.during(StorageOperation::Open, OBJECT)? else {
            return Ok(None);
        };
        let length = read_up_to(&file, 0, buffer).during(StorageOperation::Read, OBJECT)?;
        let rest =
            read_up_to(&file, length as u64, &mut [0]).during(StorageOperation::Read, OBJECT)?;
        // Less than the attributes: a variable that was made and never got a value.
        Ok(buffer.get(ATTRIBUTES_BYTES..length).map(|bytes| Value {
            bytes,
            whole: rest == 0,
        }))
    }

    /// Whether there is such a variable.
    pub(crate) fn exists(&self, name: &str, vendor: &str) -> Result<bool, StorageError> {
        let path = file_name(name, vendor)?;
        let stat = if_there(statat(
            &self.directory,
            path.as_str(),
            AtFlags::SYMLINK_NOFOLLOW,
        ));
        Ok(stat.during(StorageOperation::Read, OBJECT)?.is_some())
    }

    /// Writes a variable, made when it is missing, and reads it back. It outlives a power cut and the operating system sees it.
    ///
    /// # Errors
    /// [`StorageFault::ReadBack`] when the firmware kept something else; otherwise when it refuses.
    pub fn write(&self, name: &str, vendor: &str, value: &[u8]) -> Result<(), StorageError> {
        let path = file_name(name, vendor)?;
        let mut bytes = Vec::<u8, { ATTRIBUTES_BYTES + VALUE_MAX_BYTES }>::new();
        let fits =
            bytes.extend_from_slice(&ATTRIBUTES).is_ok() && bytes.extend_from_slice(value).is_ok();
        if !fits {
            return Err(Errno::FBIG).during(StorageOperation::Write, OBJECT);
        }
        #[cfg(test)]
        crate::cut::before_change().during(StorageOperation::Write, OBJECT)?;
        self.make_changeable(&path)
            .during(StorageOperation::Write, OBJECT)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | NO_LINKS;
        let mode = Mode::from_raw_mode(0o644);
        let file = openat(&self.directory, path.as_str(), flags, mode)
            .during(StorageOperation::Open, OBJECT)?;
        match retry_on_intr(|| write(&file, &bytes)) {
            Ok(written) if written == bytes.len() => {}
            Ok(_) => return Err(Errno::IO).during(StorageOperation::Write, OBJECT),
            Err(errno) => return Err(errno).during(StorageOperation::Write, OBJECT),
        }
        drop(file);
        let mut buffer = [0; ATTRIBUTES_BYTES + VALUE_MAX_BYTES];
        let kept = self.read_start(name, vendor, &mut buffer)?;
        if kept.is_some_and(|kept| kept.whole && kept.bytes == value) {
            return Ok(());
        }
        Err(StorageFault::ReadBack).during(StorageOperation::Write, OBJECT)
    }

    /// Removes a variable; gives whether there was one.
    ///
    /// # Errors
    /// When the firmware refuses.
    pub fn remove(&self, name: &str, vendor: &str) -> Result<bool, StorageError> {
        let path = file_name(name, vendor)?;
        #[cfg(test)]
        crate::cut::before_change().during(StorageOperation::Remove, OBJECT)?;
        self.make_changeable(&path)
            .during(StorageOperation::Remove, OBJECT)?;
        let removed = if_there(unlinkat(&self.directory, path.as_str(), AtFlags::empty()));
        Ok(removed.during(StorageOperation::Remove, OBJECT)?.is_some())
    }

    /// Calls `visit` with the name of every variable of a vendor.
    pub(crate) fn for_each_name<V: FnMut(&str)>(
        &self,
        vendor: &str,
        mut visit: V,
    ) -> Result<(), StorageError> {
        for_each_entry(&self.directory, |name| {
            let of_vendor = name.to_str().ok().and_then(|name| {
                name.strip_suffix(vendor)
                    .and_then(|name| name.strip_suffix('-'))
            });
            if let Some(name) = of_vendor {
                visit(name);
            }
            Ok(())
        })
        .during(StorageOperation::Read, OBJECT)
    }

    /// Takes the immutable flag away, which efivarfs sets on what a careless removal would break a machine with.
    fn make_changeable(&self, path: &str) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | NO_LINKS;
        let Some(file) = if_there(openat(&self.directory, path, flags, Mode::empty()))? else {
            return Ok(());
        };
        match ioctl_getflags(&file) {
            Ok(set) if set.contains(IFlags::IMMUTABLE) => {
                ioctl_setflags(&file, set.difference(IFlags::IMMUTABLE))
            }
            // A file system without such flags has none set.
            Ok(_) | Err(Errno::NOTTY | Errno::OPNOTSUPP) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

fn file_name(name: &str, vendor: &str) -> Result<String<NAME_MAX_BYTES>, StorageError> {
    let mut path = String::new();
    let fits =
        path.push_str(name).is_ok() && path.push('-').is_ok() && path.push_str(vendor).is_ok();
    if fits {
        Ok(path)
    } else {
        Err(Errno::NAMETOOLONG).during(StorageOperation::Open, OBJECT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A plain folder in place of efivarfs: the same files, without a firmware behind them.
    fn plain_folder() -> (tempfile::TempDir, Variables) {
        let folder = tempfile::tempdir().unwrap();
        let variables = Variables::open(folder.path().to_str().unwrap()).unwrap();
        (folder, variables)
    }

    #[test]
    fn a_value_has_four_bytes_of_attributes_before_it() {
        let (folder, variables) = plain_folder();
        let mut buffer = [0; 16];
        assert_eq!(
            variables.read("BootNext", GLOBAL_VENDOR, &mut buffer),
            Ok(None)
        );
        variables
            .write("BootNext", GLOBAL_VENDOR, &[0x10, 0])
            .unwrap();
        let file = folder
            .path()
            .join("BootNext-8be4df61-93ca-11d2-aa0d-00e098032b8c");
        assert_eq!(fs::read(file).unwrap(), [7, 0, 0, 0, 0x10, 0]);
        let value = variables.read("BootNext", GLOBAL_VENDOR, &mut buffer);
        assert_eq!(value, Ok(Some(&[0x10, 0][..])));
        assert_eq!(variables.remove("BootNext", GLOBAL_VENDOR), Ok(true));
        assert_eq!(variables.remove("BootNext", GLOBAL_VENDOR), Ok(false));
    }

    #[test]
    fn what_does_not_fit_is_said_and_what_has_no_value_is_not_there() {
        let (folder, variables) = plain_folder();
        let file = folder.path().join(std::format!("Long-{GLOBAL_VENDOR}"));
        fs::write(&file, [9; 13]).unwrap();
        let error = variables
            .read("Long", GLOBAL_VENDOR, &mut [0; 12])
            .unwrap_err();
        assert_eq!(error.fault, StorageFault::Full);
        let mut buffer = [0; 12];
        let start = variables
            .read_start("Long", GLOBAL_VENDOR, &mut buffer)
            .unwrap()
            .unwrap();
        assert!(!start.whole && start.bytes == [9; 8]);
        fs::write(&file, [7, 0, 0]).unwrap();
        assert_eq!(
            variables.read("Long", GLOBAL_VENDOR, &mut [0; 12]),
            Ok(None)
        );
    }

    #[test]
    fn a_value_that_was_not_kept_is_an_error() {
        let (folder, variables) = plain_folder();
        // A plain file keeps the end of what was longer; a firmware that does such a thing is not believed.
        fs::write(
            folder.path().join(std::format!("BootNext-{GLOBAL_VENDOR}")),
            [7; 9],
        )
        .unwrap();
        let error = variables
            .write("BootNext", GLOBAL_VENDOR, &[1, 0])
            .unwrap_err();
        assert_eq!(error.fault, StorageFault::ReadBack);
    }
}
