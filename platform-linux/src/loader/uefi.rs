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
use super::load_option::{OPTION_MAX_BYTES, encode, is_for};
use crate::efivars::{GLOBAL_VENDOR, VALUE_MAX_BYTES, Variables};
use crate::fault::During;
use crate::partition::{BlockDevices, Partition};
use core::fmt::Write;
use heapless::{String, Vec};
use rustix::io::Errno;
use twinseal_core::boot::Set;
use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};

const OBJECT: StorageObject = StorageObject::BootLoader;

/// Where efivarfs is mounted.
pub const VARIABLES_FOLDER: &str = "/sys/firmware/efi/efivars";

const DESCRIPTIONS: [&str; 2] = ["twinseal a", "twinseal b"];

const ORDER: &str = "BootOrder";
const NEXT: &str = "BootNext";

/// Most entries of a boot order: more than any firmware shows, and what a value may have.
const ORDER_MAX: usize = VALUE_MAX_BYTES / 2;

/// Attributes, and the longest value that is read.
const BUFFER_BYTES: usize = 4 + VALUE_MAX_BYTES;

const _: () = assert!(OPTION_MAX_BYTES <= VALUE_MAX_BYTES);

/// Numbers of boot entries, in the firmware's order.
type Order = Vec<u16, ORDER_MAX>;

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
    variables: Variables,
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
        let variables = Variables::open(variables)?;
        Ok(Self { variables, boot })
    }

    /// The bytes that a set's entry must have.
    fn wanted(&self, set: Set) -> Result<Vec<u8, OPTION_MAX_BYTES>, StorageError> {
        encode(set.of(DESCRIPTIONS), &set.of(self.boot)).during(StorageOperation::Write, OBJECT)
    }

    /// The number of a set's entry, the lowest if there are several, and whether it is as it must be.
    fn find(&self, set: Set) -> Result<Option<(u16, bool)>, StorageError> {
        let mut lowest = None;
        let mut failed = None;
        let wanted = self.wanted(set)?;
        self.variables.for_each_name(GLOBAL_VENDOR, |name| {
            let Some(number) = entry_number(name) else {
                return;
            };
            if lowest.is_some_and(|(found, _)| found < number) {
                return;
            }
            match self.look_at(number, set, &wanted) {
                Ok(Some(right)) => lowest = Some((number, right)),
                Ok(None) => {}
                Err(error) => failed = Some(error),
            }
        })?;
        match (lowest, failed) {
            (None, Some(error)) => Err(error),
            (found, _) => Ok(found),
        }
    }

    /// Whether an entry is that of a set (`None` if not), and as it must be.
    fn look_at(&self, number: u16, set: Set, wanted: &[u8]) -> Result<Option<bool>, StorageError> {
        let mut buffer = [0; BUFFER_BYTES];
        let name = entry_name(number);
        let read = self
            .variables
            .read_start(&name, GLOBAL_VENDOR, &mut buffer)?;
        Ok(read
            .filter(|value| is_for(value.bytes, set.of(DESCRIPTIONS), &set.of(self.boot).guid))
            .map(|value| value.whole && value.bytes == wanted))
    }

    /// The number of a set's entry, which is made, or made right, when it is not there as it must be; and whether that was written.
    fn ensure(&self, set: Set) -> Result<(u16, bool), StorageError> {
        let number = match self.find(set)? {
            Some((number, true)) => return Ok((number, false)),
            Some((number, false)) => number,
            None => self.free_number()?,
        };
        let wanted = self.wanted(set)?;
        self.variables
            .write(&entry_name(number), GLOBAL_VENDOR, &wanted)?;
        Ok((number, true))
    }

    /// The lowest number that no entry has and that the order does not name: an order may name what is lost, and would boot ours in its place.
    fn free_number(&self) -> Result<u16, StorageError> {
        let order = self.order()?;
        for number in 0..=u16::MAX {
            if !order.contains(&number)
                && !self.variables.exists(&entry_name(number), GLOBAL_VENDOR)?
            {
                return Ok(number);
            }
        }
        Err(StorageFault::Full).during(StorageOperation::Write, OBJECT)
    }

    /// The boot order; empty when it is lost.
    fn order(&self) -> Result<Order, StorageError> {
        let mut buffer = [0; BUFFER_BYTES];
        let value = self.variables.read(ORDER, GLOBAL_VENDOR, &mut buffer)?;
        let numbers = value.unwrap_or(&[]).chunks_exact(2).map(number_of);
        Ok(numbers.take(ORDER_MAX).collect())
    }

    /// The number of what boots next and only once.
    fn next(&self) -> Result<Option<u16>, StorageError> {
        let mut buffer = [0; BUFFER_BYTES];
        let value = self.variables.read(NEXT, GLOBAL_VENDOR, &mut buffer)?;
        Ok(value.filter(|value| value.len() == 2).map(number_of))
    }
}

impl BootLoader for UefiLoader {
    fn default_set(&mut self) -> Result<Option<Set>, StorageError> {
        let Some(first) = self.order()?.first().copied() else {
            return Ok(None);
        };
        for set in Set::BOTH {
            if self.find(set)? == Some((first, true)) {
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
            if self.look_at(next, set, &[])?.is_some() {
                return Ok(Some(set));
            }
        }
        Ok(None)
    }

    fn set_default(&mut self, set: Set) -> Result<bool, StorageError> {
        let (default, made_default) = self.ensure(set)?;
        let (other, made_other) = self.ensure(set.other())?;
        let order = self.order()?;
        let mut wanted = Order::new();
        for number in [default, other].iter().chain(&order) {
            if !wanted.contains(number) && wanted.push(*number).is_err() {
                return Err(StorageFault::Full).during(StorageOperation::Write, OBJECT);
            }
        }
        if wanted == order {
            return Ok(made_default || made_other);
        }
        let bytes: Vec<u8, VALUE_MAX_BYTES> = wanted
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        self.variables.write(ORDER, GLOBAL_VENDOR, &bytes)?;
        Ok(true)
    }

    fn set_next(&mut self, set: Option<Set>) -> Result<bool, StorageError> {
        let Some(set) = set else {
            // What another program told for the next boot is not ours to take back.
            return match self.next_set()? {
                Some(_) => self.variables.remove(NEXT, GLOBAL_VENDOR),
                None => Ok(false),
            };
        };
        let (number, made) = self.ensure(set)?;
        if self.next()? == Some(number) {
            return Ok(made);
        }
        self.variables
            .write(NEXT, GLOBAL_VENDOR, &number.to_le_bytes())?;
        Ok(true)
    }
}

/// `Boot` and four hex digits in capitals (section 3.3).
fn entry_name(number: u16) -> String<8> {
    let mut name = String::new();
    // Eight letters: they fit.
    let _ = write!(name, "Boot{number:04X}");
    name
}

fn entry_number(name: &str) -> Option<u16> {
    let number = u16::from_str_radix(name.strip_prefix("Boot")?, 16).ok()?;
    (entry_name(number) == name).then_some(number)
}

fn number_of(bytes: &[u8]) -> u16 {
    bytes
        .first_chunk()
        .map_or(0, |two| u16::from_le_bytes(*two))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_entries_have_four_digits_in_capitals() {
        assert_eq!(entry_name(0x1a).as_str(), "Boot001A");
        assert_eq!(entry_number("Boot001A"), Some(0x1a));
        for name in [
            "Boot001a",
            "BootNext",
            "Boot1A",
            "Boot+01A",
            "Boot0001A",
            "xBoot0001",
        ] {
            assert_eq!(entry_number(name), None, "{name}");
        }
    }

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
