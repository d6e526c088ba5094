//! The PE file as the firmware sees it: what is hashed, and the signatures in its attribute certificate table.
//!
//! The hash is that of Microsoft's "Windows Authenticode Portable Executable Signature Format", over the ranges that EDK2 takes
//! (`HashPeImage` of its `DxeImageVerificationLib`): the headers without checksum and table entry, the sections in the order of
//! the file, then what is left before the table. The table's entries are `WIN_CERTIFICATE` (UEFI specification 2.10, section
//! 32.2.4).
//!
//! # Memory
//! One piece, the section table and the attribute certificate table; the file itself is read piece by piece.

use sha2::{Digest, Sha256};
use std::ops::Range;
use twinseal_core::error::StorageError;

/// Offset, in the DOS header, of the offset of the PE signature (`e_lfanew`).
const PE_OFFSET_FIELD: u64 = 0x3c;
/// From the PE signature: the optional header.
const OPTIONAL_OFFSET: u64 = 24;
/// `IMAGE_NT_OPTIONAL_HDR32_MAGIC`, and where the data directories are in that optional header.
const PE32: (u16, u64) = (0x010b, 96);
/// `IMAGE_NT_OPTIONAL_HDR64_MAGIC`, and the same there.
const PE32_PLUS: (u16, u64) = (0x020b, 112);
// Offsets in the optional header.
const SIZE_OF_HEADERS: u64 = 60;
const CHECKSUM: u64 = 64;
/// From the data directories: their number, and the fifth.
const DIRECTORY_COUNT_BYTES: u64 = 4;
const CERTIFICATE_ENTRY: u64 = 4 * 8;
/// Data directories that a file needs so that the fifth, the certificate table, exists.
const DIRECTORIES_NEEDED: u32 = 5;
const SECTION_HEADER_BYTES: u64 = 40;

/// Most sections; a UKI has about ten. Bounds the memory for their list.
const SECTIONS_MAX: u16 = 256;
/// Largest attribute certificate table; a signature has about 2 KiB. Bounds the memory for it.
const TABLE_MAX_BYTES: u64 = 1024 * 1024;
/// What is read at once.
const PIECE_BYTES: usize = 256 * 1024;
/// `WIN_CERTIFICATE` before the signature: length, revision, type.
const ENTRY_HEADER_BYTES: usize = 8;
/// Alignment of the table's entries.
const ENTRY_ALIGNMENT_BYTES: usize = 8;
/// `WIN_CERT_TYPE_PKCS_SIGNED_DATA`.
const PKCS_SIGNED_DATA: u16 = 0x0002;

/// What is wrong with a PE file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageFault {
    /// Its signatures or its magic number are missing.
    #[error("it is no PE file")]
    NotPe,
    /// A header, a section or the certificate table is not inside the file.
    #[error("its headers name bytes that it does not have")]
    Outside,
    /// There are more sections than any UKI has, or a larger certificate table.
    #[error("its section or certificate table is larger than any UKI's")]
    TooLarge,
}

/// Why an image could not be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageStop {
    /// The storage failed.
    Storage(StorageError),
    /// The firmware would not load such an image.
    Fault(ImageFault),
}

impl From<StorageError> for ImageStop {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<ImageFault> for ImageStop {
    fn from(fault: ImageFault) -> Self {
        Self::Fault(fault)
    }
}

/// What the firmware compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// SHA-256 of everything that a signature covers.
    pub digest: [u8; 32],
    /// The signatures (PKCS#7), with filling behind them, in the order of the table.
    pub signatures: Vec<Vec<u8>>,
    /// Whether the table's entries end where the table does; the firmware refuses the image otherwise.
    pub table_is_whole: bool,
}

impl Image {
    /// Reads an image of `size` bytes through `read`, which fills its buffer from an offset.
    ///
    /// # Errors
    /// When it cannot be read, or is not one that the firmware would load.
    pub fn read<R>(size: u64, read: R) -> Result<Self, ImageStop>
    where
        R: FnMut(u64, &mut [u8]) -> Result<(), StorageError>,
    {
        let mut file = File { size, read };
        let layout = Layout::read(&mut file)?;
        let mut hash = Sha256::new();
        let mut piece = vec![0; PIECE_BYTES];
        for range in layout.hashed(size)? {
            file.hash(range, &mut piece, &mut hash)?;
        }
        let mut table = vec![0; (layout.table.end - layout.table.start) as usize];
        file.fill(layout.table.start, &mut table)?;
        let (signatures, table_is_whole) = entries(&table);
        Ok(Self {
            digest: hash.finalize().into(),
            signatures,
            table_is_whole,
        })
    }
}

struct File<R> {
    size: u64,
    read: R,
}

impl<R: FnMut(u64, &mut [u8]) -> Result<(), StorageError>> File<R> {
    fn fill(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), ImageStop> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(ImageFault::Outside.into());
        }
        if !buffer.is_empty() {
            (self.read)(offset, buffer)?;
        }
        Ok(())
    }

    fn bytes<const N: usize>(&mut self, offset: u64) -> Result<[u8; N], ImageStop> {
        let mut bytes = [0; N];
        self.fill(offset, &mut bytes)?;
        Ok(bytes)
    }

    fn u16(&mut self, offset: u64) -> Result<u16, ImageStop> {
        self.bytes(offset).map(u16::from_le_bytes)
    }

    fn u32(&mut self, offset: u64) -> Result<u32, ImageStop> {
        self.bytes(offset).map(u32::from_le_bytes)
    }

    fn hash(
        &mut self,
        range: Range<u64>,
        piece: &mut [u8],
        hash: &mut Sha256,
    ) -> Result<(), ImageStop> {
        let mut offset = range.start;
        while offset < range.end {
            let bytes = (range.end - offset).min(piece.len() as u64);
            let part = piece.get_mut(..bytes as usize).unwrap_or_default();
            self.fill(offset, part)?;
            hash.update(&*part);
            offset += bytes;
        }
        Ok(())
    }
}

/// Where the parts of the file are.
struct Layout {
    checksum: u64,
    certificate_entry: u64,
    headers_end: u64,
    /// Sections with bytes in the file, in its order.
    sections: Vec<Range<u64>>,
    /// The attribute certificate table; empty at the end of the file for an image that is not signed.
    table: Range<u64>,
}

impl Layout {
    fn read<R>(file: &mut File<R>) -> Result<Self, ImageStop>
    where
        R: FnMut(u64, &mut [u8]) -> Result<(), StorageError>,
    {
        if file.bytes(0)? != *b"MZ" {
            return Err(ImageFault::NotPe.into());
        }
        let pe = u64::from(file.u32(PE_OFFSET_FIELD)?);
        let optional = pe + OPTIONAL_OFFSET;
        if file.bytes(pe)? != *b"PE\0\0" {
            return Err(ImageFault::NotPe.into());
        }
        let magic = file.u16(optional)?;
        let forms = [PE32, PE32_PLUS];
        let form = forms.iter().find(|(known, _)| *known == magic);
        let directories = optional + form.ok_or(ImageFault::NotPe)?.1;
        if file.u32(directories - DIRECTORY_COUNT_BYTES)? < DIRECTORIES_NEEDED {
            return Err(ImageFault::NotPe.into());
        }
        let section_table = optional + u64::from(file.u16(pe + 20)?);
        let section_count = file.u16(pe + 6)?;
        if section_count > SECTIONS_MAX {
            return Err(ImageFault::TooLarge.into());
        }
        let mut sections = Vec::new();
        for number in 0..u64::from(section_count) {
            let header = section_table + number * SECTION_HEADER_BYTES;
            let bytes = u64::from(file.u32(header + 16)?);
            let start = u64::from(file.u32(header + 20)?);
            if bytes > 0 {
                sections.push(start..start + bytes);
            }
        }
        sections.sort_by_key(|section| section.start);
        let entry = directories + CERTIFICATE_ENTRY;
        Ok(Self {
            checksum: optional + CHECKSUM,
            certificate_entry: entry,
            headers_end: u64::from(file.u32(optional + SIZE_OF_HEADERS)?),
            sections,
            table: table(file.u32(entry)?, file.u32(entry + 4)?, file.size)?,
        })
    }

    /// What is hashed, in that order.
    fn hashed(&self, size: u64) -> Result<Vec<Range<u64>>, ImageFault> {
        let after_entry = self.certificate_entry + 8;
        if after_entry > self.headers_end {
            return Err(ImageFault::Outside);
        }
        let mut ranges = vec![
            0..self.checksum,
            self.checksum + 4..self.certificate_entry,
            after_entry..self.headers_end,
        ];
        let mut summed = self.headers_end;
        for section in &self.sections {
            summed += section.end - section.start;
            ranges.push(section.clone());
        }
        // What is left is counted, not looked for: so EDK2 does it, and with sections side by side it is what follows them.
        let table_bytes = self.table.end - self.table.start;
        let end = size
            .checked_sub(table_bytes)
            .filter(|end| *end >= summed)
            .ok_or(ImageFault::Outside)?;
        ranges.push(summed..end);
        Ok(ranges)
    }
}

fn table(offset: u32, bytes: u32, size: u64) -> Result<Range<u64>, ImageFault> {
    let (offset, bytes) = (u64::from(offset), u64::from(bytes));
    if bytes == 0 {
        return Ok(size..size);
    }
    if offset + bytes > size {
        return Err(ImageFault::Outside);
    }
    if bytes > TABLE_MAX_BYTES {
        return Err(ImageFault::TooLarge);
    }
    Ok(offset..offset + bytes)
}

/// The signatures of a table, and whether its entries end where it does. Entries of other types are passed over.
fn entries(table: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let mut signatures = Vec::new();
    let mut rest = table;
    while let Some([a, b, c, d, _, _, kind @ ..]) = rest.first_chunk::<ENTRY_HEADER_BYTES>() {
        let bytes = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
        let Some(content) = rest.get(ENTRY_HEADER_BYTES..bytes) else {
            break;
        };
        if content.is_empty() {
            break;
        }
        if u16::from_le_bytes(*kind) == PKCS_SIGNED_DATA {
            signatures.push(content.to_vec());
        }
        let Some(after) = rest.get(bytes.next_multiple_of(ENTRY_ALIGNMENT_BYTES)..) else {
            break;
        };
        rest = after;
    }
    (signatures, rest.is_empty())
}

#[cfg(test)]
mod tests;
