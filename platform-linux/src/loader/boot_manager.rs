//! What every loader here needs of a UEFI firmware's boot manager: entries that are found again and made right, and an order.
//!
//! Formats: UEFI specification 2.10, sections 3.1 and 3.3.
//!
//! # Invariants
//! - An entry is ours when it has our description and boots from our partition. Nobody else's entry is written or removed; in the
//!   boot order ours go first and the others keep their order.
//! - Entries are written before an order names them.

use super::load_option::{OPTION_MAX_BYTES, encode, is_for};
use super::uefi::BootPartition;
use crate::efivars::{GLOBAL_VENDOR, VALUE_MAX_BYTES, Variables};
use crate::fault::During;
use core::fmt::Write;
use heapless::{String, Vec};
use twinseal_core::error::{StorageError, StorageFault, StorageObject, StorageOperation};

const OBJECT: StorageObject = StorageObject::BootLoader;

const ORDER: &str = "BootOrder";

/// Most entries of a boot order: more than any firmware shows, and what a value may have.
const ORDER_MAX: usize = VALUE_MAX_BYTES / 2;

/// Attributes, and the longest value that is read.
pub(crate) const BUFFER_BYTES: usize = 4 + VALUE_MAX_BYTES;

const _: () = assert!(OPTION_MAX_BYTES <= VALUE_MAX_BYTES);

/// Numbers of boot entries, in the firmware's order.
type Order = Vec<u16, ORDER_MAX>;

/// What a boot entry of ours must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// What it is called, and found by together with the partition's GUID.
    pub description: &'static str,
    /// What it boots from.
    pub partition: BootPartition,
    /// The file there, part by part.
    pub file: [&'static str; 3],
}

/// The firmware's boot manager.
pub(crate) struct BootManager {
    /// The variables that it is told things by.
    pub variables: Variables,
}

impl BootManager {
    pub(crate) const fn new(variables: Variables) -> Self {
        Self { variables }
    }

    /// The number of an entry, the lowest if there are several, and whether it is as it must be.
    pub(crate) fn find(&self, entry: &Entry) -> Result<Option<(u16, bool)>, StorageError> {
        let mut lowest = None;
        let mut failed = None;
        let wanted = wanted(entry)?;
        self.variables.for_each_name(GLOBAL_VENDOR, |name| {
            let Some(number) = entry_number(name) else {
                return;
            };
            if lowest.is_some_and(|(found, _)| found < number) {
                return;
            }
            match self.look_at(number, entry, &wanted) {
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

    /// Whether a number is that of an entry, right or not.
    pub(crate) fn is_at(&self, number: u16, entry: &Entry) -> Result<bool, StorageError> {
        Ok(self.look_at(number, entry, &[])?.is_some())
    }

    /// Whether what has a number is this entry (`None` if not), and as it must be.
    fn look_at(
        &self,
        number: u16,
        entry: &Entry,
        wanted: &[u8],
    ) -> Result<Option<bool>, StorageError> {
        let mut buffer = [0; BUFFER_BYTES];
        let name = entry_name(number);
        let read = self
            .variables
            .read_start(&name, GLOBAL_VENDOR, &mut buffer)?;
        Ok(read
            .filter(|value| is_for(value.bytes, entry.description, &entry.partition.guid))
            .map(|value| value.whole && value.bytes == wanted))
    }

    /// The number of an entry, which is made, or made right, when it is not there as it must be; and whether that was written.
    pub(crate) fn ensure(&self, entry: &Entry) -> Result<(u16, bool), StorageError> {
        let number = match self.find(entry)? {
            Some((number, true)) => return Ok((number, false)),
            Some((number, false)) => number,
            None => self.free_number()?,
        };
        self.variables
            .write(&entry_name(number), GLOBAL_VENDOR, &wanted(entry)?)?;
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
    pub(crate) fn order(&self) -> Result<Order, StorageError> {
        let mut buffer = [0; BUFFER_BYTES];
        let value = self.variables.read(ORDER, GLOBAL_VENDOR, &mut buffer)?;
        let numbers = value.unwrap_or(&[]).chunks_exact(2).map(number_of);
        Ok(numbers.take(ORDER_MAX).collect())
    }

    /// Puts entries before all others in the order; gives whether that was written.
    pub(crate) fn put_first(&self, numbers: &[u16]) -> Result<bool, StorageError> {
        let order = self.order()?;
        let mut wanted = Order::new();
        for number in numbers.iter().chain(&order) {
            if !wanted.contains(number) && wanted.push(*number).is_err() {
                return Err(StorageFault::Full).during(StorageOperation::Write, OBJECT);
            }
        }
        if wanted == order {
            return Ok(false);
        }
        let bytes: Vec<u8, VALUE_MAX_BYTES> = wanted
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        self.variables.write(ORDER, GLOBAL_VENDOR, &bytes)?;
        Ok(true)
    }
}

/// The bytes that an entry must have.
fn wanted(entry: &Entry) -> Result<Vec<u8, OPTION_MAX_BYTES>, StorageError> {
    encode(entry.description, &entry.partition, entry.file).during(StorageOperation::Write, OBJECT)
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

/// The first two bytes of a value as a number.
pub(crate) fn number_of(bytes: &[u8]) -> u16 {
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
}
