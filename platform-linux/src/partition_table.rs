//! The partition table of a disk (GPT), brought back from a copy of it when it is lost.
//!
//! Format: UEFI specification 2.10, section 5.3. A GPT has two copies, a *primary* at the disk's beginning and a *backup* at its end;
//! programs that erase tables erase both. So a disk of twinseal has two *spares* in the room that its partitions leave free: the
//! first sectors of the disk (protective MBR, primary header, entries) once more, byte for byte, at [`SPARE_BYTES`] and where the
//! last whole mebibyte begins. A person can bring a table back with `dd` alone.
//!
//! # Invariants
//! - A copy counts when both of its checksums fit, it stands where it says, and everything that it names lies on this disk. A
//!   spare counts only when primary and backup do not: it may be older than they are.
//! - Only copies that do not count are written, and only from one that does.
//! - Nothing is written on a disk that holds a file system as a whole, nor from a table without a slot of ours: an old backup at a
//!   disk's end outlives most that is done to the disk.
//! - Where a partition lies, no spare is written.
//!
//! # Power loss
//! Entries are brought to the medium before the header that has their checksum. A cut leaves a copy that counts, or one that does not
//! and is written again; the one that it was written from is as it was.

use crate::fault::fault_of;
use crate::file::{read_exact, read_or_zeros, write_all};
use crate::image_slot::{open_size_bytes, open_to_write};
use crate::media::recognise;
use crate::partition::{u32_at, u64_at};
use crate::sys;
use crc::{Crc, NoTable};
use rustix::fd::OwnedFd;
use rustix::fs::{OFlags, fsync, ioctl_blksszget};
use twinseal_core::error::StorageFault;

/// Where the first spare begins: in the middle of the mebibyte before the first partition.
pub const SPARE_BYTES: u64 = 512 * 1024;

/// What the last spare keeps free behind it, beyond what is no whole mebibyte.
const END_BYTES: u64 = 1024 * 1024;

/// A table is copied in parts of this size; also the largest sector.
const PART_BYTES: usize = 4096;

/// Logical block size of a file, and the least that a disk has.
const SECTOR_BYTES: u32 = 512;

/// Bytes of a header that are defined (section 5.3.2), and the most that it may say to have.
const HEADER_MIN_BYTES: usize = 92;
const HEADER_MAX_BYTES: usize = 512;

/// Most entries by their size. Stops a crafted header from sending reads far over the disk; 128 entries of 128 bytes are usual.
const ENTRIES_MAX_BYTES: u64 = 64 * 1024;

/// An entry has at least this size, and its first and last block stand here.
const ENTRY_MIN_BYTES: u64 = 128;
const ENTRY_FIRST: usize = 32;
const ENTRY_LAST: usize = 40;

/// Where its name begins, in UTF-16.
const ENTRY_NAME: usize = 56;

/// What begins where the primary of a table would be, by whom the whole disk was given to since: LUKS, XFS, NTFS, exFAT, LVM (in one of
/// four sectors), memory that is swapped out.
const OTHERS: [(usize, &[u8]); 9] = [
    (0, b"LUKS\xba\xbe"),
    (0, b"XFSB"),
    (3, b"NTFS    "),
    (3, b"EXFAT   "),
    (0, b"LABELONE"),
    (512, b"LABELONE"),
    (1024, b"LABELONE"),
    (1536, b"LABELONE"),
    (4086, b"SWAPSPACE2"),
];

/// Partitions of which every device has one.
const SLOTS: [&str; 4] = ["boot-a", "boot-b", "root-a", "root-b"];

/// Offsets in a header.
const HEADER_CHECKSUM: usize = 16;
const OWN_BLOCK: usize = 24;
const OTHER_BLOCK: usize = 32;
const LAST_USABLE: usize = 48;
const ENTRIES_BLOCK: usize = 72;

/// Where the primary header and its entries stand.
const PRIMARY_BLOCK: u64 = 1;
const PRIMARY_ENTRIES_BLOCK: u64 = 2;

static CRC: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&crc::CRC_32_ISO_HDLC);

/// Which copy a table was brought back from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableCopy {
    /// At the disk's beginning.
    Primary,
    /// At its end.
    Backup,
    /// One of twinseal's own.
    Spare,
}

/// What became of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repaired {
    /// Primary and backup are as they should be.
    Nothing,
    /// What was lost is there again.
    From(TableCopy),
    /// No copy of it counts, or this is not a disk of twinseal.
    Lost,
}

/// Brings back the primary or the backup of the table of the disk (or the image of one) at `path`, and has the kernel read it when it
/// was the primary. A disk whose both copies are there is only read.
///
/// # Errors
/// What the disk says; [`StorageFault::Busy`] when the table is back and the kernel did not take it, because a partition is in use.
pub fn repair(path: &str) -> Result<Repaired, StorageFault> {
    let disk = Disk::open(path)?;
    let primary = disk.table(PRIMARY_BLOCK, 0)?;
    let backup_block = primary.as_ref().map(|table| table.header.at(OTHER_BLOCK));
    let backup = disk.table(backup_block.unwrap_or(disk.blocks.saturating_sub(1)), 0)?;
    let lacks_backup = backup.is_none();
    let (from, table) = match (primary, backup) {
        (Some(primary), _) => (TableCopy::Primary, primary),
        (None, Some(backup)) => (TableCopy::Backup, backup),
        (None, None) => match disk.spare()? {
            Some(spare) => (TableCopy::Spare, spare),
            None => return Ok(Repaired::Lost),
        },
    };
    let is_taken = from != TableCopy::Primary && disk.is_taken()?;
    if is_taken || !disk.is_ours(&table)? || !matches!(recognise(path), Ok(None)) {
        return Ok(Repaired::Lost);
    }
    if from != TableCopy::Primary {
        disk.write_primary(&table)?;
    }
    if lacks_backup {
        disk.write_backup(&table)?;
    }
    // Without it the kernel takes no notice of the table.
    let is_new = disk.write_protective_mbr()? || from != TableCopy::Primary;
    if is_new {
        disk.have_it_read()?;
    }
    Ok(match is_new || lacks_backup {
        true => Repaired::From(from),
        false => Repaired::Nothing,
    })
}

/// Writes the spares of the table of the disk (or the image of one) at `path`, when they are not there yet; gives how many there are
/// now. None without a primary table that counts, and none where partitions leave no room.
///
/// # Errors
/// What the disk says.
pub fn keep_spares(path: &str) -> Result<usize, StorageFault> {
    let disk = Disk::open(path)?;
    let Some(table) = disk.table(PRIMARY_BLOCK, 0)? else {
        return Ok(0);
    };
    // The first sectors of the disk, to the end of the entries.
    let bytes = table.entries_at + table.entries_bytes;
    let mut there = 0;
    for offset in disk.spare_offsets() {
        let free = disk.is_free(&table, offset, bytes)?;
        if free && !disk.is_same(offset, bytes)? {
            disk.copy(0, offset, bytes)?;
        }
        there += usize::from(free);
    }
    disk.sync()?;
    Ok(there)
}

/// An open disk.
struct Disk {
    device: OwnedFd,
    bytes: u64,
    block_bytes: u64,
    blocks: u64,
}

/// A copy that counts.
struct Table {
    header: Header,
    /// Byte offset of its entries.
    entries_at: u64,
    entries_bytes: u64,
}

/// The bytes of a header, and how many of them it says to have.
#[derive(Clone)]
struct Header {
    bytes: [u8; HEADER_MAX_BYTES],
    length: usize,
}

impl Header {
    fn at(&self, offset: usize) -> u64 {
        u64_at(&self.bytes, offset)
    }

    fn put(&mut self, offset: usize, value: &[u8]) {
        let place = self.bytes.iter_mut().skip(offset);
        place.zip(value).for_each(|(to, from)| *to = *from);
    }

    /// The checksum that it should have.
    fn checksum(&self) -> u32 {
        let mut blank = self.clone();
        blank.put(HEADER_CHECKSUM, &[0; 4]);
        CRC.checksum(blank.bytes.get(..self.length).unwrap_or(&[]))
    }

    /// The same table's header for another place.
    fn moved(&self, own: u64, other: u64, entries: u64) -> Self {
        let mut header = self.clone();
        for (offset, value) in [
            (OWN_BLOCK, own),
            (OTHER_BLOCK, other),
            (ENTRIES_BLOCK, entries),
        ] {
            header.put(offset, &value.to_le_bytes());
        }
        let checksum = header.checksum();
        header.put(HEADER_CHECKSUM, &checksum.to_le_bytes());
        header
    }
}

/// What is done with a part: where it starts, and its bytes.
type Visit<'v> = &'v mut dyn FnMut(u64, &[u8]) -> Result<(), StorageFault>;

impl Disk {
    fn open(path: &str) -> Result<Self, StorageFault> {
        // Not exclusive: its partitions may be in use.
        let device = open_to_write(path, OFlags::empty())?;
        let bytes = open_size_bytes(&device).map_err(fault_of)?;
        // A file has none.
        let block_bytes = u64::from(ioctl_blksszget(&device).unwrap_or(SECTOR_BYTES));
        Ok(Self {
            device,
            bytes,
            block_bytes,
            blocks: bytes / block_bytes,
        })
    }

    /// The copy whose header says to stand at `block`, and which lies `shift` bytes behind that; `None` when it does not count.
    fn table(&self, block: u64, shift: u64) -> Result<Option<Table>, StorageFault> {
        let mut header = Header {
            bytes: [0; HEADER_MAX_BYTES],
            length: 0,
        };
        if block >= self.blocks
            || block * self.block_bytes + shift + HEADER_MAX_BYTES as u64 > self.bytes
        {
            return Ok(None);
        }
        read_exact(
            &self.device,
            block * self.block_bytes + shift,
            &mut header.bytes,
        )?;
        header.length = u32_at(&header.bytes, 12) as usize;
        let entries_bytes =
            u64::from(u32_at(&header.bytes, 80)) * u64::from(u32_at(&header.bytes, 84));
        let entries = header.at(ENTRIES_BLOCK);
        let counts = header.bytes.starts_with(b"EFI PART")
            && (HEADER_MIN_BYTES..=HEADER_MAX_BYTES).contains(&header.length)
            && header.checksum() == u32_at(&header.bytes, HEADER_CHECKSUM)
            && header.at(OWN_BLOCK) == block
            && header.at(OTHER_BLOCK) < self.blocks
            && header.at(LAST_USABLE) < self.blocks
            && u64::from(u32_at(&header.bytes, 84)) >= ENTRY_MIN_BYTES
            && (1..=ENTRIES_MAX_BYTES).contains(&entries_bytes)
            && entries < self.blocks;
        if !counts || entries * self.block_bytes + shift + entries_bytes > self.bytes {
            return Ok(None);
        }
        let table = Table {
            entries_at: entries * self.block_bytes + shift,
            entries_bytes,
            header,
        };
        let fits = self.entries_checksum(&table)? == u32_at(&table.header.bytes, 88);
        Ok(fits.then_some(table))
    }

    /// The first spare that counts.
    fn spare(&self) -> Result<Option<Table>, StorageFault> {
        for offset in self.spare_offsets() {
            if let Some(table) = self.table(PRIMARY_BLOCK, offset)? {
                return Ok(Some(table));
            }
        }
        Ok(None)
    }

    fn spare_offsets(&self) -> [u64; 2] {
        let end = self.bytes - self.bytes % END_BYTES;
        [SPARE_BYTES, end.saturating_sub(END_BYTES)]
    }

    fn entries_checksum(&self, table: &Table) -> Result<u32, StorageFault> {
        let mut checksum = CRC.digest();
        self.for_each_part(table.entries_at, table.entries_bytes, &mut |_, part| {
            checksum.update(part);
            Ok(())
        })?;
        Ok(checksum.finalize())
    }

    /// Reads bytes in parts, each at most [`PART_BYTES`]; `visit` has the offset in them.
    fn for_each_part(&self, offset: u64, bytes: u64, visit: Visit<'_>) -> Result<(), StorageFault> {
        let mut buffer = [0; PART_BYTES];
        for done in (0..bytes).step_by(PART_BYTES) {
            let length = (bytes - done).min(PART_BYTES as u64) as usize;
            let part = buffer.get_mut(..length).unwrap_or(&mut []);
            read_exact(&self.device, offset + done, part)?;
            visit(done, part)?;
        }
        Ok(())
    }

    fn copy(&self, from: u64, to: u64, bytes: u64) -> Result<(), StorageFault> {
        self.for_each_part(from, bytes, &mut |done, part| {
            write_all(&self.device, to + done, part).map_err(fault_of)
        })
    }

    /// Whether the first bytes of the disk stand at `offset` once more.
    fn is_same(&self, offset: u64, bytes: u64) -> Result<bool, StorageFault> {
        let mut same = true;
        let mut other = [0; PART_BYTES];
        self.for_each_part(0, bytes, &mut |done, part| {
            let other = other.get_mut(..part.len()).unwrap_or(&mut []);
            read_exact(&self.device, offset + done, other)?;
            same &= part == other;
            Ok(())
        })?;
        Ok(same)
    }

    /// Whether the disk as a whole was given to somebody else.
    fn is_taken(&self) -> Result<bool, StorageFault> {
        let mut head = [0; PART_BYTES];
        read_or_zeros(&self.device, 0, &mut head).map_err(fault_of)?;
        let is = |at: usize, magic| head.get(at..).is_some_and(|head| head.starts_with(magic));
        Ok(OTHERS.iter().any(|(at, magic)| is(*at, magic)))
    }

    /// Whether one of its partitions is a slot of twinseal.
    fn is_ours(&self, table: &Table) -> Result<bool, StorageFault> {
        let mut is_ours = false;
        self.for_each_entry(table, &mut |_, entry| {
            is_ours |= SLOTS.iter().any(|slot| {
                let name = entry.iter().skip(ENTRY_NAME);
                let letters = slot.encode_utf16().chain([0]).flat_map(u16::to_le_bytes);
                name.zip(letters).all(|(one, other)| *one == other)
            });
            Ok(())
        })?;
        Ok(is_ours)
    }

    /// Whether so many bytes at `offset` belong to no partition and to no copy of the table.
    fn is_free(&self, table: &Table, offset: u64, bytes: u64) -> Result<bool, StorageFault> {
        let (first, last) = (
            offset / self.block_bytes,
            (offset + bytes - 1) / self.block_bytes,
        );
        let header = &table.header;
        // Behind the primary's entries, which end `bytes` from the beginning, and before the backup's.
        let entries = table.entries_bytes.div_ceil(self.block_bytes);
        let mut free = offset >= bytes && last + entries < header.at(OTHER_BLOCK);
        self.for_each_entry(table, &mut |_, entry| {
            // An entry without a type is not in use.
            let is_used = entry.iter().take(16).any(|byte| *byte != 0);
            let ends_before = u64_at(entry, ENTRY_LAST) < first;
            free &= !is_used || ends_before || u64_at(entry, ENTRY_FIRST) > last;
            Ok(())
        })?;
        Ok(free)
    }

    /// Gives `visit` the beginning of each entry, which has all that is defined.
    fn for_each_entry(&self, table: &Table, visit: Visit<'_>) -> Result<(), StorageFault> {
        let entry_bytes = u64::from(u32_at(&table.header.bytes, 84));
        for entry in 0..u64::from(u32_at(&table.header.bytes, 80)) {
            let at = table.entries_at + entry * entry_bytes;
            let mut bytes = [0; ENTRY_MIN_BYTES as usize];
            read_exact(&self.device, at, &mut bytes)?;
            visit(at, &bytes)?;
        }
        Ok(())
    }

    fn write_primary(&self, table: &Table) -> Result<(), StorageFault> {
        let other = self.backup_block(table);
        // Some boards keep a boot loader where entries usually stand; a spare, which is a primary, knows.
        let spare = match table.header.at(OWN_BLOCK) {
            PRIMARY_BLOCK => None,
            _ => self.spare()?,
        };
        let known = &spare.as_ref().unwrap_or(table).header;
        let entries = match known.at(OWN_BLOCK) {
            PRIMARY_BLOCK => known.at(ENTRIES_BLOCK),
            _ => PRIMARY_ENTRIES_BLOCK,
        };
        let header = table.header.moved(PRIMARY_BLOCK, other, entries);
        self.write_copy(table, &header)
    }

    fn write_backup(&self, table: &Table) -> Result<(), StorageFault> {
        let own = self.backup_block(table);
        let entries = own.checked_sub(table.entries_bytes.div_ceil(self.block_bytes));
        let Some(entries) = entries.filter(|entries| *entries > table.header.at(LAST_USABLE))
        else {
            return Err(StorageFault::Full);
        };
        self.write_copy(table, &table.header.moved(own, PRIMARY_BLOCK, entries))
    }

    /// Where the backup of this table stands: a primary header names it, and a backup is there itself.
    fn backup_block(&self, table: &Table) -> u64 {
        match table.header.at(OWN_BLOCK) {
            PRIMARY_BLOCK => table.header.at(OTHER_BLOCK),
            own => own,
        }
    }

    /// Writes a table's entries and a header to where the header says.
    fn write_copy(&self, table: &Table, header: &Header) -> Result<(), StorageFault> {
        let entries_at = header.at(ENTRIES_BLOCK) * self.block_bytes;
        self.copy(table.entries_at, entries_at, table.entries_bytes)?;
        self.sync()?;
        let at = header.at(OWN_BLOCK) * self.block_bytes;
        write_all(&self.device, at, &header.bytes).map_err(fault_of)?;
        self.sync()
    }

    /// Makes the first sector say that the disk belongs to a GPT (section 5.2.3), unless it does; gives whether it did not.
    fn write_protective_mbr(&self) -> Result<bool, StorageFault> {
        let mut sector = [0; SECTOR_BYTES as usize];
        read_exact(&self.device, 0, &mut sector)?;
        let is_one = |entry: &[u8]| entry.get(4) == Some(&0xee);
        let entries = sector.get(446..510).unwrap_or(&[]);
        if sector.ends_with(&[0x55, 0xaa]) && entries.chunks(16).any(is_one) {
            return Ok(false);
        }
        let blocks = u32::try_from(self.blocks.saturating_sub(1)).unwrap_or(u32::MAX);
        let [a, b, c, d] = blocks.to_le_bytes();
        // Not bootable; from the second sector; to the last, or as far as the field can say.
        let entry = [0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0, a, b, c, d];
        // The code of a boot loader may stand before the entries.
        let mut protective = sector;
        let place = protective.iter_mut().skip(446);
        place.take(64).for_each(|byte| *byte = 0);
        let place = protective.iter_mut().skip(446);
        place.zip(entry).for_each(|(to, from)| *to = from);
        let place = protective.iter_mut().skip(510);
        place.zip([0x55, 0xaa]).for_each(|(to, from)| *to = from);
        write_all(&self.device, 0, &protective).map_err(fault_of)?;
        self.sync()?;
        Ok(true)
    }

    fn sync(&self) -> Result<(), StorageFault> {
        fsync(&self.device).map_err(fault_of)
    }

    /// Has the kernel look for partitions again; an image of a disk has no kernel that knows it.
    fn have_it_read(&self) -> Result<(), StorageFault> {
        match sys::reread_partitions(&self.device) {
            Err(rustix::io::Errno::NOTTY) => Ok(()),
            Err(rustix::io::Errno::BUSY) => Err(StorageFault::Busy),
            result => result.map_err(fault_of),
        }
    }
}
