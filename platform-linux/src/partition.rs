//! Partitions by label and by GUID, from what the kernel says in sysfs and from the disk's GPT.
//!
//! The kernel gives number, start and size of each partition, and its label (`PARTNAME` of `uevent`); its GUID only newer ones give
//! (`PARTUUID`), so it is read from the GPT otherwise (UEFI specification 2.10, section 5.3).
//!
//! # Invariants
//! - An entry of the GPT counts only when it starts where the kernel says that the partition starts.
//! - A label or a GUID that two partitions have names neither. Who knows the disk asks for the labels of that one: a stick with
//!   a partition of the same label takes nothing away then.

use crate::calls::{openat, stat};
use crate::fault::fault_of;
use crate::file::{for_each_entry, if_there, join, open_directory_path, read_exact, read_up_to};
use core::fmt::Write;
use heapless::String;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, major, minor};
use rustix::io::Errno;
use twinseal_core::error::StorageFault;

/// The kernel's name of a block device: a C string of 32 bytes (`DISK_NAME_LEN`), plus a partition's number.
pub type DeviceName = String<48>;

/// A label: 36 UTF-16 units in the GPT, each at most three bytes in UTF-8.
pub type Label = String<108>;

/// A path to a device node or to what sysfs says about it.
type Path = String<160>;

/// Longest answer of sysfs that is looked at; a `uevent` has about ten short lines.
const ANSWER_MAX_BYTES: usize = 1024;

/// A GPT entry is at least this long (section 5.3.2).
const ENTRY_MIN_BYTES: u32 = 128;

/// Longest entry that is believed. Stops a crafted header from sending reads far over the disk.
const ENTRY_MAX_BYTES: u32 = 4096;

/// Part of the header that is read: to the size of an entry.
const HEADER_BYTES: usize = 92;

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The kernel's name, `vda1` say.
    pub name: DeviceName,
    /// The kernel's name of the disk, `vda` say.
    pub disk: DeviceName,
    /// Its label; empty when it has none.
    pub label: Label,
    /// Number of its entry, from 1.
    pub number: u32,
    /// Where it starts, in units of 512 bytes.
    pub start_units: u64,
    /// Its size, in units of 512 bytes.
    pub size_units: u64,
    /// Logical block size of the disk in bytes.
    pub block_bytes: u32,
    /// Its unique GUID in the byte order of the GPT; `None` when it was not asked for or there is no GPT.
    pub guid: Option<[u8; 16]>,
}

impl Partition {
    /// What sysfs counts in, whatever the disk's blocks are.
    pub const UNIT_BYTES: u32 = 512;
}

/// Whether a partition is the one that is looked for.
type Known<'f> = &'f mut dyn FnMut(&mut Partition) -> Result<bool, Errno>;

/// Where the kernel shows its block devices.
#[derive(Clone, Copy, Debug)]
pub struct BlockDevices<'p> {
    sys: &'p str,
    dev: &'p str,
}

impl BlockDevices<'static> {
    /// Those of this machine.
    pub const SYSTEM: Self = Self {
        sys: "/sys",
        dev: "/dev",
    };
}

impl<'p> BlockDevices<'p> {
    /// Those that are shown below other folders than `/sys` and `/dev`.
    pub const fn below(sys: &'p str, dev: &'p str) -> Self {
        Self { sys, dev }
    }

    /// Path of the device node of a partition.
    pub fn node(&self, partition: &Partition) -> String<160> {
        // The longest name fits after any folder that is a constant of ours; a path that is cut is found by nobody.
        self.node_of(&partition.name)
    }

    /// Path of the device node of a disk or a partition, by the kernel's name.
    pub fn node_of(&self, name: &str) -> String<160> {
        join(&[self.dev, "/", name]).unwrap_or_default()
    }

    /// The kernel's name of a disk or a partition that comes next after `last`, in the order of names; `None` when there is none.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn name_after(&self, last: Option<&str>) -> Result<Option<DeviceName>, StorageFault> {
        let directory: Path = join(&[self.sys, "/class/block"]).map_err(fault_of)?;
        let directory = open_directory_path(&directory).map_err(fault_of)?;
        let mut next: Option<DeviceName> = None;
        let visited = for_each_entry(&directory, |name| {
            // A name that does not fit is no device's.
            let Some(name) = name.to_str().ok().and_then(|name| short(name).ok()) else {
                return Ok(());
            };
            let is_behind = last.is_none_or(|last| name.as_str() > last);
            if is_behind && next.as_ref().is_none_or(|next| name < *next) {
                next = Some(name);
            }
            Ok(())
        });
        visited.map_err(fault_of)?;
        Ok(next)
    }

    /// A number that is most likely another one when disks or partitions of other names are there.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn fingerprint(&self) -> Result<u64, StorageFault> {
        let directory: Path = join(&[self.sys, "/class/block"]).map_err(fault_of)?;
        let directory = open_directory_path(&directory).map_err(fault_of)?;
        let mut sum = 0_u64;
        let visited = for_each_entry(&directory, |name| {
            // FNV-1a; a sum, because the kernel gives them in any order.
            let hash = name
                .to_bytes()
                .iter()
                .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                    (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
                });
            sum = sum.wrapping_add(hash);
            Ok(())
        });
        visited.map_err(fault_of)?;
        Ok(sum)
    }

    /// The partition with this label; `None` when there is none, or there are two. Its GUID is not read from the disk.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn by_label(&self, label: &str) -> Result<Option<Partition>, StorageFault> {
        self.by_label_on(None, label)
    }

    /// The same, among the partitions of one disk, which is called by its kernel's name ([`Partition::disk`]); `None` is every disk.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn by_label_on(
        &self,
        disk: Option<&str>,
        label: &str,
    ) -> Result<Option<Partition>, StorageFault> {
        self.find(&mut |partition| {
            let here = disk.is_none_or(|disk| partition.disk == disk);
            Ok(here && partition.label == label)
        })
    }

    /// The partition with this GUID; `None` when there is none, or there are two.
    ///
    /// # Errors
    /// When sysfs cannot be read. A disk that cannot be read has no partition with this GUID.
    pub fn by_guid(&self, guid: &[u8; 16]) -> Result<Option<Partition>, StorageFault> {
        self.find(&mut |partition| {
            if partition.guid.is_none() {
                partition.guid = self.guid_on_disk(partition).unwrap_or(None);
            }
            Ok(partition.guid.as_ref() == Some(guid))
        })
    }

    /// The partition whose device node, or a symbolic link to it, is `path`; with its GUID.
    ///
    /// # Errors
    /// `ENOTBLK` when it is no block device, `ENOENT` when it is no partition; otherwise what cannot be read.
    pub fn partition_of(&self, path: &str) -> Result<Partition, StorageFault> {
        let about = stat(path).map_err(fault_of)?;
        if !FileType::from_raw_mode(about.st_mode).is_block_device() {
            return Err(fault_of(Errno::NOTBLK));
        }
        let mut partition = self
            .numbered(about.st_rdev)?
            .ok_or(fault_of(Errno::NOENT))?;
        if partition.guid.is_none() {
            partition.guid = self.guid_on_disk(&partition)?;
        }
        Ok(partition)
    }

    /// The partition with the kernel's number of a device (`st_dev` of a file on it); `None` when no partition has it, as with a
    /// file system of several devices. Its GUID is not read from the disk.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn numbered(&self, device: u64) -> Result<Option<Partition>, StorageFault> {
        let mut number = String::<32>::new();
        // Two numbers of 32 bits: they fit.
        let _ = write!(number, "{}:{}", major(device), minor(device));
        let directory: Path = join(&[self.sys, "/dev/block"]).map_err(fault_of)?;
        let directory = open_directory_path(&directory).map_err(fault_of)?;
        self.read(&directory, &number).map_err(fault_of)
    }

    /// The one partition that `is_it` knows.
    fn find(&self, is_it: Known<'_>) -> Result<Option<Partition>, StorageFault> {
        let directory: Path = join(&[self.sys, "/class/block"]).map_err(fault_of)?;
        let directory = open_directory_path(&directory).map_err(fault_of)?;
        let mut found = None;
        let mut several = false;
        let visited = for_each_entry(&directory, |name| {
            let Ok(name) = name.to_str() else {
                return Ok(());
            };
            // A device may go away between its name and a look at it.
            let Some(mut partition) = self.read(&directory, name).unwrap_or(None) else {
                return Ok(());
            };
            if is_it(&mut partition)? {
                several |= found.replace(partition).is_some();
            }
            Ok(())
        });
        visited.map_err(fault_of)?;
        Ok(found.filter(|_| !several))
    }

    /// The partition with the kernel's name; `None` when it is none. Its GUID is not read from the disk.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn named(&self, name: &str) -> Result<Option<Partition>, StorageFault> {
        let directory: Path = join(&[self.sys, "/class/block"]).map_err(fault_of)?;
        let directory = open_directory_path(&directory).map_err(fault_of)?;
        self.read(&directory, name).map_err(fault_of)
    }

    /// What sysfs says about the device at `name` in `directory`; `None` when it is no partition.
    fn read(&self, directory: &OwnedFd, name: &str) -> Result<Option<Partition>, Errno> {
        let mut buffer = [0; ANSWER_MAX_BYTES];
        let Some(text) = answer(directory, &[name, "/partition"], &mut buffer)? else {
            return Ok(None);
        };
        let number = number(text)?;
        let mut unit = |file: &str| -> Result<u64, Errno> {
            let text = answer(directory, &[name, file], &mut buffer)?;
            number_u64(text.ok_or(Errno::NOENT)?)
        };
        let start_units = unit("/start")?;
        let size_units = unit("/size")?;
        let block_bytes = unit("/../queue/logical_block_size")?;
        let disk = answer(directory, &[name, "/../uevent"], &mut buffer)?;
        let disk = disk.and_then(|text| line(text, "DEVNAME="));
        let disk = short(disk.ok_or(Errno::NOENT)?)?;
        let own = answer(directory, &[name, "/uevent"], &mut buffer)?.ok_or(Errno::NOENT)?;
        Ok(Some(Partition {
            name: short(line(own, "DEVNAME=").ok_or(Errno::NOENT)?)?,
            disk,
            label: line(own, "PARTNAME=").map_or(Ok(Label::new()), short)?,
            number,
            start_units,
            size_units,
            block_bytes: u32::try_from(block_bytes).map_err(|_| Errno::INVAL)?,
            guid: line(own, "PARTUUID=").and_then(|text| guid_of_text(text.as_bytes())),
        }))
    }

    /// The GUID in the GPT of the partition's disk; `None` when there is no GPT, or none that agrees with the kernel.
    fn guid_on_disk(&self, partition: &Partition) -> Result<Option<[u8; 16]>, StorageFault> {
        let path: Path = join(&[self.dev, "/", &partition.disk]).map_err(fault_of)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let disk = openat(CWD, path.as_str(), flags, Mode::empty()).map_err(fault_of)?;
        guid_in_table(disk, partition)
    }
}

/// Reads the partition's entry in the primary GPT of an open disk.
fn guid_in_table<Fd: AsFd>(
    disk: Fd,
    partition: &Partition,
) -> Result<Option<[u8; 16]>, StorageFault> {
    let block = u64::from(partition.block_bytes);
    let mut header = [0; HEADER_BYTES];
    read_exact(&disk, block, &mut header)?;
    let table = u64_at(&header, 72);
    let (entries, entry_bytes) = (u32_at(&header, 80), u32_at(&header, 84));
    let index = partition.number.wrapping_sub(1);
    if !header.starts_with(b"EFI PART")
        || index >= entries
        || !(ENTRY_MIN_BYTES..=ENTRY_MAX_BYTES).contains(&entry_bytes)
    {
        return Ok(None);
    }
    let offset = table
        .checked_mul(block)
        .and_then(|start| start.checked_add(u64::from(index) * u64::from(entry_bytes)));
    let mut entry = [0; 40];
    let Some(offset) = offset.filter(|offset| *offset < i64::MAX as u64) else {
        return Ok(None);
    };
    read_exact(&disk, offset, &mut entry)?;
    let start = u64_at(&entry, 32).checked_mul(block / u64::from(Partition::UNIT_BYTES));
    if start != Some(partition.start_units) {
        return Ok(None);
    }
    Ok(entry.get(16..32).and_then(|guid| guid.try_into().ok()))
}

/// A GUID in text (`aaaaaaaa-0000-…`, in any case) as the GPT stores it: the first three fields little-endian.
pub fn guid_of_text(text: &[u8]) -> Option<[u8; 16]> {
    const DASHES: [usize; 4] = [8, 13, 18, 23];
    if text.len() != 36 || DASHES.iter().any(|at| text.get(*at) != Some(&b'-')) {
        return None;
    }
    let mut digits = text
        .iter()
        .enumerate()
        .filter(|(at, _)| !DASHES.contains(at))
        .map(|(_, digit)| char::from(*digit).to_digit(16));
    let mut guid = [0; 16];
    for byte in &mut guid {
        let (high, low) = (digits.next()??, digits.next()??);
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    let [a, b, c, d, e, f, g, h, rest @ ..] = guid;
    let mut stored = [d, c, b, a, f, e, h, g, 0, 0, 0, 0, 0, 0, 0, 0];
    stored
        .iter_mut()
        .skip(8)
        .zip(rest)
        .for_each(|(to, from)| *to = from);
    Some(stored)
}

/// The value of a line `KEY=value`.
fn line<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(key))
}

/// What a file of sysfs says; `None` when there is no such file.
fn answer<'b>(
    directory: &OwnedFd,
    path: &[&str],
    buffer: &'b mut [u8],
) -> Result<Option<&'b str>, Errno> {
    let path: Path = join(path)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let Some(file) = if_there(openat(directory, path.as_str(), flags, Mode::empty()))? else {
        return Ok(None);
    };
    let length = read_up_to(&file, 0, buffer)?;
    let bytes = buffer.get(..length).unwrap_or(&[]);
    let text = core::str::from_utf8(bytes).map_err(|_| Errno::ILSEQ)?;
    Ok(Some(text.trim_ascii_end()))
}

fn number(text: &str) -> Result<u32, Errno> {
    text.parse().map_err(|_| Errno::INVAL)
}

fn number_u64(text: &str) -> Result<u64, Errno> {
    text.parse().map_err(|_| Errno::INVAL)
}

fn short<const N: usize>(text: &str) -> Result<String<N>, Errno> {
    String::try_from(text).map_err(|_| Errno::NAMETOOLONG)
}

/// The number of 32 bits at an offset; 0 where there are no four bytes.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    bytes
        .get(offset..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |four| u32::from_le_bytes(*four))
}

/// The number of 64 bits at an offset; 0 where there are no eight bytes.
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    bytes
        .get(offset..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |eight| u64::from_le_bytes(*eight))
}

#[cfg(test)]
mod tests;
