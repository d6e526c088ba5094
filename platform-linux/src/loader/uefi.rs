//! The boot manager of a UEFI firmware: one `Boot####` entry for each set, `BootOrder` for the default set, `BootNext` for a trial.
//!
//! Formats: UEFI specification 2.10, sections 3.1 and 3.3. A firmware removes `BootNext` before it starts what `BootNext` names.
//!
//! # Invariants
//! - An entry is ours when its description is `twinseal a` or `twinseal b` and it boots from the GUID of that set's boot slot.
//!   Nobody else's entry is written or removed; in the boot order ours go first and the others keep their order.
//! - An entry of ours that differs in one byte from what it must be counts as lost when the default set is asked for, and is made
//!   right by the next [`BootLoader::set_default`] or [`BootLoader::set_next`].
//!
//! # Power loss
//! Each variable is the old one or the new one. Entries are written before an order names them, so an order never names
//! what is not there because of a cut; the next call goes on with what is missing.

use super::BootLoader;
use super::boot_manager::{BUFFER_BYTES, BootManager, Entry, number_of};
use crate::efivars::{GLOBAL_VENDOR, Variables};
use crate::fault::During;
use crate::partition::{BlockDevices, Partition};
use crate::path::REMOVABLE_MEDIA_FILE;
use rustix::io::Errno;
use twinseal_core::boot::Set;
use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};

const OBJECT: StorageObject = StorageObject::BootLoader;

/// Where efivarfs is mounted.
pub const VARIABLES_FOLDER: &str = "/sys/firmware/efi/efivars";

const DESCRIPTIONS: [&str; 2] = ["twinseal a", "twinseal b"];

const NEXT: &str = "BootNext";

/// A partition from which a firmware boots, as a device path names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootPartition {
    /// Number of its entry in the GPT, from 1.
    pub number: u32,
    /// First block, in logical blocks of the disk.
    pub start_blocks: u64,
    /// Size in logical blocks of the disk.
    pub size_blocks: u64,
    /// Its unique GUID in the byte order of the GPT (the first three fields little-endian).
    pub guid: [u8; 16],
}

impl BootPartition {
    /// What the kernel says about a partition's device node, or about what a symbolic link at `path` leads to; its GUID is read from
    /// the disk's GPT when the kernel does not say it.
    ///
    /// # Errors
    /// `ENOTBLK` when `path` is no block device, `ENOENT` when it is no partition of a GPT; otherwise what cannot be read.
    pub fn of_device(path: &str) -> Result<Self, StorageError> {
        let found = BlockDevices::SYSTEM.partition_of(path);
        found
            .and_then(|partition| Self::of_partition(&partition))
            .during(StorageOperation::Open, OBJECT)
    }

    fn of_partition(partition: &Partition) -> Result<Self, StorageFault> {
        let blocks =
            |units: u64| units / u64::from(partition.block_bytes / Partition::UNIT_BYTES).max(1);
        Ok(Self {
            number: partition.number,
            start_blocks: blocks(partition.start_units),
            size_blocks: blocks(partition.size_units),
            guid: partition
                .guid
                .ok_or(StorageFault::Code(Errno::NOENT.raw_os_error()))?,
        })
    }
}

/// The firmware's boot manager.
pub struct UefiLoader {
    manager: BootManager,
    boot: [BootPartition; 2],
}

impl UefiLoader {
    /// Opens the folder of efivarfs ([`VARIABLES_FOLDER`]); `boot` is what each set boots from, A and B.
    ///
    /// # Errors
    /// When the folder cannot be opened; `EINVAL` when both sets would boot from one partition.
    pub fn open(variables: &str, boot: [BootPartition; 2]) -> Result<Self, StorageError> {
        let [a, b] = &boot;
        if a.guid == b.guid {
            return Err(Errno::INVAL).during(StorageOperation::Open, OBJECT);
        }
        let manager = BootManager::new(Variables::open(variables)?);
        Ok(Self { manager, boot })
    }

    /// What the entry of a set must be.
    fn entry(&self, set: Set) -> Entry {
        Entry {
            description: set.of(DESCRIPTIONS),
            partition: set.of(self.boot),
            file: REMOVABLE_MEDIA_FILE,
        }
    }

    /// The number of what boots next and only once.
    fn next(&self) -> Result<Option<u16>, StorageError> {
        let mut buffer = [0; BUFFER_BYTES];
        let value = self
            .manager
            .variables
            .read(NEXT, GLOBAL_VENDOR, &mut buffer)?;
        Ok(value.filter(|value| value.len() == 2).map(number_of))
    }
}

impl BootLoader for UefiLoader {
    fn default_set(&mut self) -> Result<Option<Set>, StorageError> {
        let Some(first) = self.manager.order()?.first().copied() else {
            return Ok(None);
        };
        for set in Set::BOTH {
            if self.manager.find(&self.entry(set))? == Some((first, true)) {
                return Ok(Some(set));
            }
        }
        Ok(None)
    }

    fn next_set(&mut self) -> Result<Option<Set>, StorageError> {
        let Some(next) = self.next()? else {
            return Ok(None);
        };
        for set in Set::BOTH {
            if self.manager.is_at(next, &self.entry(set))? {
                return Ok(Some(set));
            }
        }
        Ok(None)
    }

    fn set_default(&mut self, set: Set) -> Result<bool, StorageError> {
        let (default, made_default) = self.manager.ensure(&self.entry(set))?;
        let (other, made_other) = self.manager.ensure(&self.entry(set.other()))?;
        let ordered = self.manager.put_first(&[default, other])?;
        Ok(made_default || made_other || ordered)
    }

    fn set_next(&mut self, set: Option<Set>) -> Result<bool, StorageError> {
        let Some(set) = set else {
            // What another program told for the next boot is not ours to take back.
            return match self.next_set()? {
                Some(_) => self.manager.variables.remove(NEXT, GLOBAL_VENDOR),
                None => Ok(false),
            };
        };
        let (number, made) = self.manager.ensure(&self.entry(set))?;
        if self.next()? == Some(number) {
            return Ok(made);
        }
        self.manager
            .variables
            .write(NEXT, GLOBAL_VENDOR, &number.to_le_bytes())?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heapless::String;

    #[test]
    fn sizes_are_in_the_blocks_of_the_disk() {
        let mut partition = Partition {
            name: String::try_from("vda1").unwrap(),
            disk: String::try_from("vda").unwrap(),
            label: String::try_from("boot-a").unwrap(),
            number: 1,
            start_units: 2048,
            size_units: 4096,
            block_bytes: 512,
            guid: Some([1; 16]),
        };
        let boot = BootPartition::of_partition(&partition).unwrap();
        assert_eq!((boot.start_blocks, boot.size_blocks), (2048, 4096));
        partition.block_bytes = 4096;
        let boot = BootPartition::of_partition(&partition).unwrap();
        assert_eq!((boot.start_blocks, boot.size_blocks), (256, 512));
        partition.guid = None;
        assert!(BootPartition::of_partition(&partition).is_err());
    }
}
