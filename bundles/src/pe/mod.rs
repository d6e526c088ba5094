//! PE headers: the part of the format that a UKI and its signature need.
//!
//! A view over the bytes of a UEFI executable: where its header fields and its section table are, checked once, and
//! the sections read out of it. Field offsets are those of Microsoft's "PE Format" specification, of both its forms: PE32+ for
//! 64-bit processors, and PE32.
//!
//! # Invariants
//!
//! - A [`PeImage`] exists only if its optional header, its data directories up to the certificate table and its whole
//!   section table lie inside `SizeOfHeaders`, and that inside the file.
//! - Section *contents* are checked when they are asked for, not before: a kernel whose sections nobody reads may be
//!   odd.

use std::ops::Range;

#[cfg(test)]
pub(crate) mod synthetic;
#[cfg(test)]
mod tests;

/// Length of one entry of the section table (`IMAGE_SECTION_HEADER`).
pub(crate) const SECTION_HEADER_BYTES: usize = 40;

/// Offset, in the DOS header, of the 32-bit file offset of the PE signature (`e_lfanew`).
const PE_OFFSET_FIELD: usize = 0x3c;
/// `PE\0\0` and the COFF file header behind it.
const COFF_BYTES: usize = 24;
/// `IMAGE_NT_OPTIONAL_HDR32_MAGIC`.
const PE32_MAGIC: u16 = 0x010b;
/// `IMAGE_NT_OPTIONAL_HDR64_MAGIC`.
const PE32_PLUS_MAGIC: u16 = 0x020b;
/// Optional header up to and including `NumberOfRvaAndSizes`; the data directories follow.
const PE32_FIXED_BYTES: usize = 96;
const PE32_PLUS_FIXED_BYTES: usize = 112;
/// Data directories that a file needs so that the fifth, the certificate table, exists.
const DIRECTORIES_NEEDED: u32 = 5;
/// One data directory: two 32-bit fields.
const DIRECTORY_BYTES: usize = 8;
/// Bytes of the directories before the certificate table's.
const DIRECTORIES_BEFORE_BYTES: usize = 4 * DIRECTORY_BYTES;

// Field offsets in the COFF header, counted from the PE signature.
const MACHINE: usize = 4;
const SECTION_COUNT: usize = 6;
const SYMBOL_TABLE: usize = 12;
const OPTIONAL_SIZE: usize = 20;

// Field offsets in the optional header, the same in both forms.
const SIZE_OF_INITIALIZED_DATA: usize = 8;
const SECTION_ALIGNMENT: usize = 32;
const FILE_ALIGNMENT: usize = 36;
const SIZE_OF_IMAGE: usize = 56;
const SIZE_OF_HEADERS: usize = 60;
const CHECKSUM: usize = 64;
const DLL_CHARACTERISTICS: usize = 70;
/// From the directories back to their number.
const DIRECTORY_COUNT_BYTES: usize = 4;

/// Why bytes cannot be read as a PE executable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeError {
    /// No `MZ` at the start, or no `PE\0\0` where the DOS header says.
    #[error(
        "this is not a PE file: its MZ or PE signature is missing; give a UEFI executable, not compressed"
    )]
    NotPe,
    /// An unknown optional header.
    #[error(
        "this PE file has optional header magic {magic:#06x}, and only PE32 (0x010b) and PE32+ (0x020b) are known; give a UEFI executable"
    )]
    UnknownForm {
        /// The magic number that was found.
        magic: u16,
    },
    /// A header field or table reaches past the end of the file.
    #[error(
        "this PE file ends before its {what}; it is truncated or corrupt, build or fetch it again"
    )]
    Truncated {
        /// The part that is not all there.
        what: &'static str,
    },
    /// Fewer than five data directories, so there is no place for a signature.
    #[error(
        "this PE file has {count} data directories, and a signature needs at least 5; it cannot be used for Secure Boot"
    )]
    TooFewDirectories {
        /// `NumberOfRvaAndSizes` of the file.
        count: u32,
    },
    /// The section table ends after `SizeOfHeaders`, or that after the file.
    #[error(
        "this PE file's section table and SizeOfHeaders do not fit each other or the file; it is corrupt, build or fetch it again"
    )]
    HeadersMisplaced,
    /// A section's bytes are not all in the file.
    #[error(
        "section {name} of this PE file reaches past the end of the file; it is truncated or corrupt, build or fetch it again"
    )]
    SectionOutsideFile {
        /// Name of the section.
        name: String,
    },
    /// Two sections of one name, where only one was expected.
    #[error(
        "this PE file has more than one section {name}, so it is ambiguous which one counts; build it with one"
    )]
    SectionRepeated {
        /// Name of the section.
        name: String,
    },
}

/// One entry of the section table, as the file states it; nothing in it has been checked against the file's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// Name, filled up with NUL.
    pub name: [u8; 8],
    /// Bytes in memory, before rounding up to the section alignment.
    pub virtual_size: u32,
    /// Address in memory, relative to the image base.
    pub virtual_address: u32,
    /// Bytes in the file, rounded up to the file alignment.
    pub raw_size: u32,
    /// Offset in the file.
    pub raw_offset: u32,
    /// File offset of this entry itself.
    pub header_offset: usize,
}

impl Section {
    /// The name without its NUL filling; bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn name_text(&self) -> String {
        let used = self
            .name
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(self.name.len());
        String::from_utf8_lossy(self.name.get(..used).unwrap_or_default()).into_owned()
    }

    /// Whether this section is called `name`. PE names of more than 8 bytes do not occur in executables.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        section_name(name) == Some(self.name)
    }

    /// The bytes of the file that this section occupies.
    #[must_use]
    pub fn raw_range(&self) -> Range<u64> {
        let start = u64::from(self.raw_offset);
        start..start + u64::from(self.raw_size)
    }

    /// The end of this section in memory, relative to the image base, not rounded.
    #[must_use]
    pub fn virtual_end(&self) -> u64 {
        u64::from(self.virtual_address) + u64::from(self.virtual_size)
    }
}

/// The header fields that assembling and signing read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    /// Processor the file is for (`IMAGE_FILE_MACHINE_*`).
    pub machine: u16,
    /// File offset of the COFF symbol table; 0 when there is none.
    pub symbol_table: u32,
    /// `SizeOfInitializedData`, in bytes.
    pub size_of_initialized_data: u32,
    /// Alignment of sections in memory, in bytes.
    pub section_alignment: u32,
    /// Alignment of sections in the file, in bytes.
    pub file_alignment: u32,
    /// Length of all headers in the file, in bytes, rounded up to the file alignment.
    pub size_of_headers: u32,
    /// `DllCharacteristics`, a set of flags.
    pub dll_characteristics: u16,
    /// File range of the certificate table, empty for an unsigned file. Unlike the other directories, this one holds
    /// a file offset and not an address.
    pub certificate_table: Range<u64>,
    /// File offset of the first byte behind the section table.
    pub section_table_end: usize,
}

/// File offsets of the header fields that assembling and signing change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fields {
    /// `NumberOfSections`, 16 bits.
    pub(crate) section_count: usize,
    /// `SizeOfInitializedData`, 32 bits.
    pub(crate) size_of_initialized_data: usize,
    /// `SizeOfImage`, 32 bits.
    pub(crate) size_of_image: usize,
    /// `SizeOfHeaders`, 32 bits.
    pub(crate) size_of_headers: usize,
    /// `CheckSum`, 32 bits.
    pub(crate) checksum: usize,
    /// `DllCharacteristics`, 16 bits.
    pub(crate) dll_characteristics: usize,
    /// Directory entry of the certificate table: file offset and length, 32 bits each.
    pub(crate) certificate_entry: usize,
}

/// A PE file whose headers have been checked.
#[derive(Debug, Clone)]
pub struct PeImage<'a> {
    bytes: &'a [u8],
    headers: Headers,
    fields: Fields,
    sections: Vec<Section>,
}

impl<'a> PeImage<'a> {
    /// Reads the headers of `bytes`.
    ///
    /// # Errors
    ///
    /// [`PeError`], when the file is no PE file or its headers are not all there.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PeError> {
        if bytes.get(..2) != Some(b"MZ".as_slice()) {
            return Err(PeError::NotPe);
        }
        let coff = read_u32(bytes, PE_OFFSET_FIELD, "DOS header")? as usize;
        if bytes.get(coff..).and_then(|rest| rest.get(..4)) != Some(b"PE\0\0".as_slice()) {
            return Err(PeError::NotPe);
        }
        let optional = coff + COFF_BYTES;
        let fixed_bytes = match read_u16(bytes, optional, "optional header")? {
            PE32_MAGIC => PE32_FIXED_BYTES,
            PE32_PLUS_MAGIC => PE32_PLUS_FIXED_BYTES,
            magic => return Err(PeError::UnknownForm { magic }),
        };
        let directories = optional + fixed_bytes;
        let count = read_u32(
            bytes,
            directories - DIRECTORY_COUNT_BYTES,
            "optional header",
        )?;
        let optional_size = usize::from(read_u16(bytes, coff + OPTIONAL_SIZE, "COFF header")?);
        let needed_bytes = fixed_bytes + DIRECTORIES_BEFORE_BYTES + DIRECTORY_BYTES;
        if count < DIRECTORIES_NEEDED || optional_size < needed_bytes {
            return Err(PeError::TooFewDirectories { count });
        }
        let sections = read_section_table(bytes, coff, optional + optional_size)?;
        let section_table_end = optional + optional_size + sections.len() * SECTION_HEADER_BYTES;
        let fields = Fields::at(coff, optional, directories);
        let headers = read_headers(bytes, coff, optional, fields, section_table_end)?;
        let size_of_headers = headers.size_of_headers as usize;
        if section_table_end > size_of_headers || size_of_headers > bytes.len() {
            return Err(PeError::HeadersMisplaced);
        }
        Ok(Self {
            bytes,
            headers,
            fields,
            sections,
        })
    }

    /// The whole file.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The header fields.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Where the fields are that a writer changes.
    #[must_use]
    pub(crate) fn fields(&self) -> Fields {
        self.fields
    }

    /// The section table, in its own order.
    #[must_use]
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The only section called `name`, or `None`.
    ///
    /// # Errors
    ///
    /// [`PeError::SectionRepeated`], when there are several.
    pub fn section_named(&self, name: &str) -> Result<Option<&Section>, PeError> {
        let mut found = self
            .sections
            .iter()
            .filter(|section| section.is_named(name));
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(PeError::SectionRepeated {
                name: name.to_owned(),
            }),
            (first, None) => Ok(first),
        }
    }

    /// What `section` holds in the file, without the filling up to the file alignment.
    ///
    /// # Errors
    ///
    /// [`PeError::SectionOutsideFile`], when the file is shorter than the section table says.
    pub fn content(&self, section: &Section) -> Result<&'a [u8], PeError> {
        let start = section.raw_offset as usize;
        let length = section.raw_size.min(section.virtual_size) as usize;
        self.bytes
            .get(start..)
            .and_then(|rest| rest.get(..length))
            .ok_or_else(|| PeError::SectionOutsideFile {
                name: section.name_text(),
            })
    }
}

impl Fields {
    fn at(coff: usize, optional: usize, directories: usize) -> Self {
        Self {
            section_count: coff + SECTION_COUNT,
            size_of_initialized_data: optional + SIZE_OF_INITIALIZED_DATA,
            size_of_image: optional + SIZE_OF_IMAGE,
            size_of_headers: optional + SIZE_OF_HEADERS,
            checksum: optional + CHECKSUM,
            dll_characteristics: optional + DLL_CHARACTERISTICS,
            certificate_entry: directories + DIRECTORIES_BEFORE_BYTES,
        }
    }
}

/// `name` as a section table holds it; `None` when it is longer than 8 bytes.
#[must_use]
pub(crate) fn section_name(name: &str) -> Option<[u8; 8]> {
    let mut field = [0; 8];
    field
        .get_mut(..name.len())?
        .copy_from_slice(name.as_bytes());
    Some(field)
}

/// Writes `value` over the bytes of `file` that begin at `offset`.
///
/// # Errors
///
/// [`PeError::Truncated`], when they are not all in the file.
pub(crate) fn put(
    file: &mut [u8],
    offset: usize,
    value: &[u8],
    what: &'static str,
) -> Result<(), PeError> {
    let place = file
        .get_mut(offset..)
        .and_then(|rest| rest.get_mut(..value.len()));
    place
        .ok_or(PeError::Truncated { what })?
        .copy_from_slice(value);
    Ok(())
}

fn read_headers(
    bytes: &[u8],
    coff: usize,
    optional: usize,
    fields: Fields,
    section_table_end: usize,
) -> Result<Headers, PeError> {
    let field = |offset| read_u32(bytes, optional + offset, "optional header");
    let entry = |offset| read_u32(bytes, fields.certificate_entry + offset, "optional header");
    let certificate_start = u64::from(entry(0)?);
    let certificate_length = u64::from(entry(4)?);
    Ok(Headers {
        machine: read_u16(bytes, coff + MACHINE, "COFF header")?,
        symbol_table: read_u32(bytes, coff + SYMBOL_TABLE, "COFF header")?,
        size_of_initialized_data: field(SIZE_OF_INITIALIZED_DATA)?,
        section_alignment: field(SECTION_ALIGNMENT)?,
        file_alignment: field(FILE_ALIGNMENT)?,
        size_of_headers: field(SIZE_OF_HEADERS)?,
        dll_characteristics: read_u16(bytes, optional + DLL_CHARACTERISTICS, "optional header")?,
        certificate_table: certificate_start..certificate_start + certificate_length,
        section_table_end,
    })
}

fn read_section_table(bytes: &[u8], coff: usize, table: usize) -> Result<Vec<Section>, PeError> {
    let what = "section table";
    let count = usize::from(read_u16(bytes, coff + SECTION_COUNT, what)?);
    (0..count)
        .map(|index| {
            let at = table + index * SECTION_HEADER_BYTES;
            Ok(Section {
                name: read(bytes, at, what)?,
                virtual_size: read_u32(bytes, at + 8, what)?,
                virtual_address: read_u32(bytes, at + 12, what)?,
                raw_size: read_u32(bytes, at + 16, what)?,
                raw_offset: read_u32(bytes, at + 20, what)?,
                header_offset: at,
            })
        })
        .collect()
}

fn read<const N: usize>(
    bytes: &[u8],
    offset: usize,
    what: &'static str,
) -> Result<[u8; N], PeError> {
    let found = bytes.get(offset..).and_then(<[u8]>::first_chunk::<N>);
    found.copied().ok_or(PeError::Truncated { what })
}

fn read_u16(bytes: &[u8], offset: usize, what: &'static str) -> Result<u16, PeError> {
    read(bytes, offset, what).map(u16::from_le_bytes)
}

fn read_u32(bytes: &[u8], offset: usize, what: &'static str) -> Result<u32, PeError> {
    read(bytes, offset, what).map(u32::from_le_bytes)
}
