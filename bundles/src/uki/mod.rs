//! Unified kernel images: systemd's UEFI stub with kernel, initrd, command line and more as PE sections.
//!
//! [`assemble`] makes, from the same parts, the file that `ukify build` of systemd 257 makes: the same sections in the
//! same order, at the same places, with the same SBAT text. It depends on nothing but its arguments, so the same parts
//! always give the same bytes. What may go in is narrower than what `ukify` takes, because here the UKI is the seal of
//! an appliance:
//!
//! - The command line is taken as given, never empty: a UKI without one lets whoever starts it supply one, even
//!   under Secure Boot. Control characters, and more bytes than the kernel keeps, are refused.
//! - The kernel must be a UEFI executable for the stub's processor, not compressed around it.
//! - Parts of no bytes are errors and are not left out silently.
//!
//! # Invariants
//!
//! - The stub's own sections are not changed, except `.sbat`, whose text is extended in its place.
//! - The result has no signature and a `CheckSum` of 0; [`crate::authenticode`] signs it.

mod error;
mod layout;
mod sbat;

#[cfg(test)]
mod tests;

pub use error::{PartError, StubError, UkiError};

use crate::pe::{self, PeError, PeImage, SECTION_HEADER_BYTES, Section};
use layout::{Layout, Placement};

/// Longest command line that Linux keeps on x86-64 and arm64: `COMMAND_LINE_SIZE` (2048) less its NUL. The kernel
/// cuts a longer one without a word, and with it perhaps the seal.
pub const COMMAND_LINE_LIMIT_BYTES: usize = 2047;

const SBAT: &str = ".sbat";
const LINUX: &str = ".linux";

/// First bytes of a compiled device tree (Devicetree Specification, section 5.2).
const DEVICE_TREE_MAGIC: [u8; 4] = [0xd0, 0x0d, 0xfe, 0xed];

// Section and image flags, from the "PE Format" specification.
const CONTAINS_CODE: u32 = 0x0000_0020;
const CONTAINS_INITIALIZED_DATA: u32 = 0x0000_0040;
const MEMORY_READ: u32 = 0x4000_0000;
const NX_COMPATIBLE: u16 = 0x0100;

/// What a UKI is made of.
#[derive(Debug, Clone, Copy)]
pub struct UkiParts<'a> {
    /// systemd's `linuxx64.efi.stub` or `linuxaa64.efi.stub`, unsigned.
    pub stub: &'a [u8],
    /// The kernel, as a UEFI executable: a bzImage, or an arm64 Image that is not compressed.
    pub linux: &'a [u8],
    /// The initramfs, as one archive; several may be joined, each filled up to 4 bytes.
    pub initrd: Option<&'a [u8]>,
    /// The kernel's command line, kept byte for byte.
    pub cmdline: &'a str,
    /// Content of `/etc/os-release`; boot loaders take title and version from it.
    pub os_release: &'a [u8],
    /// The kernel's release (`uname -r`).
    pub uname: Option<&'a str>,
    /// SBAT text, with its header line, to add behind the stub's and the kernel's. `None` adds the entry
    /// `uki,1,...` that `ukify` adds by itself; a text given here replaces that entry, as its `--sbat` does.
    pub sbat: Option<&'a [u8]>,
    /// A compiled device tree, which replaces the firmware's.
    pub device_tree: Option<&'a [u8]>,
}

/// One section to add.
struct NewSection<'a> {
    name: &'static str,
    content: &'a [u8],
}

/// Builds the UKI of `parts`, unsigned.
///
/// # Errors
///
/// [`UkiError::Stub`] and [`UkiError::Part`] for inputs that cannot be used, [`UkiError::TooLarge`] for a UKI that
/// does not fit a PE file.
pub fn assemble(parts: &UkiParts<'_>) -> Result<Vec<u8>, UkiError> {
    let stub = PeImage::parse(parts.stub).map_err(StubError::Pe)?;
    if !stub.headers().certificate_table.is_empty() {
        return Err(StubError::Signed.into());
    }
    let kernel = check_parts(&stub, parts)?;
    let sbat_text = merged_sbat(&stub, &kernel, parts)?;
    let stub_sbat = stub.section_named(SBAT).map_err(StubError::Pe)?;
    let mut sections = new_sections(parts)?;
    if stub_sbat.is_none() {
        sections.push(NewSection {
            name: SBAT,
            content: &sbat_text,
        });
    }
    for section in &sections {
        if stub
            .sections()
            .iter()
            .any(|present| present.is_named(section.name))
        {
            return Err(StubError::SectionPresent { name: section.name }.into());
        }
    }
    let lengths: Vec<u64> = sections
        .iter()
        .map(|section| section.content.len() as u64)
        .collect();
    let layout = layout::plan(&stub, &lengths)?;
    let mut file = Vec::with_capacity(layout.file_bytes as usize);
    file.extend_from_slice(parts.stub);
    if let Some(place) = stub_sbat {
        replace_sbat(&mut file, &stub, place, &sbat_text)?;
    }
    append_sections(&mut file, &stub, &sections, &layout).map_err(StubError::Pe)?;
    update_headers(&mut file, &stub, &kernel, &layout).map_err(StubError::Pe)?;
    Ok(file)
}

/// What section `name` of `image` holds, without filling; `None` when there is no such section.
///
/// # Errors
///
/// [`UkiError::Image`], when `image` is no PE file, is truncated, or has several sections of that name.
pub fn section<'a>(image: &'a [u8], name: &str) -> Result<Option<&'a [u8]>, UkiError> {
    let parsed = PeImage::parse(image).map_err(UkiError::Image)?;
    let found = parsed.section_named(name).map_err(UkiError::Image)?;
    found
        .map(|section| parsed.content(section).map_err(UkiError::Image))
        .transpose()
}

/// Refuses parts that cannot work, and returns the kernel's headers.
fn check_parts<'a>(stub: &PeImage<'_>, parts: &UkiParts<'a>) -> Result<PeImage<'a>, PartError> {
    check_text(".cmdline", parts.cmdline)?;
    if let Some(uname) = parts.uname {
        check_text(".uname", uname)?;
    }
    let length_bytes = parts.cmdline.len();
    if length_bytes > COMMAND_LINE_LIMIT_BYTES {
        return Err(PartError::CommandLineTooLong {
            length_bytes,
            limit_bytes: COMMAND_LINE_LIMIT_BYTES,
        });
    }
    if parts
        .device_tree
        .is_some_and(|tree| !tree.starts_with(&DEVICE_TREE_MAGIC))
    {
        return Err(PartError::NotDeviceTree);
    }
    let kernel = PeImage::parse(parts.linux).map_err(PartError::Kernel)?;
    let (of_stub, of_kernel) = (stub.headers().machine, kernel.headers().machine);
    if of_stub != of_kernel {
        return Err(PartError::MachineMismatch {
            stub: of_stub,
            kernel: of_kernel,
        });
    }
    Ok(kernel)
}

fn check_text(name: &'static str, text: &str) -> Result<(), PartError> {
    if text.trim().is_empty() {
        return Err(PartError::Empty { name });
    }
    match text.find(char::is_control) {
        Some(position) => Err(PartError::ControlCharacter { name, position }),
        None => Ok(()),
    }
}

/// The sections to add, in `ukify`'s order.
fn new_sections<'a>(parts: &UkiParts<'a>) -> Result<Vec<NewSection<'a>>, PartError> {
    let all = [
        (".osrel", Some(parts.os_release)),
        (".cmdline", Some(parts.cmdline.as_bytes())),
        (".dtb", parts.device_tree),
        (".uname", parts.uname.map(str::as_bytes)),
        (LINUX, Some(parts.linux)),
        (".initrd", parts.initrd),
    ];
    let present = all
        .into_iter()
        .filter_map(|(name, content)| content.map(|content| NewSection { name, content }));
    present
        .map(|section| {
            if section.content.is_empty() {
                Err(PartError::Empty { name: section.name })
            } else {
                Ok(section)
            }
        })
        .collect()
}

/// The SBAT text of stub, kernel and caller.
fn merged_sbat(
    stub: &PeImage<'_>,
    kernel: &PeImage<'_>,
    parts: &UkiParts<'_>,
) -> Result<Vec<u8>, UkiError> {
    let sbat_of = |image: &PeImage<'_>| -> Result<Option<Vec<u8>>, PeError> {
        let found = image.section_named(SBAT)?;
        found
            .map(|section| image.content(section).map(<[u8]>::to_vec))
            .transpose()
    };
    let of_stub = sbat_of(stub).map_err(StubError::Pe)?;
    let of_kernel = sbat_of(kernel).map_err(PartError::Kernel)?;
    let mut sources: Vec<sbat::Source<'_>> = Vec::new();
    sources.extend(of_stub.as_deref().map(|text| ("stub", text)));
    sources.extend(of_kernel.as_deref().map(|text| ("kernel", text)));
    sources.push(("caller", parts.sbat.unwrap_or(sbat::UKI_ENTRY)));
    Ok(sbat::merge(&sources)?)
}

/// Puts `text` over the stub's `.sbat` section, which keeps its place and its length in the file.
fn replace_sbat(
    file: &mut [u8],
    stub: &PeImage<'_>,
    place: &Section,
    text: &[u8],
) -> Result<(), UkiError> {
    // The page behind a short section is unused, so the text may grow up to the next one.
    let page = stub.headers().section_alignment;
    let in_memory = u64::from(place.virtual_size).next_multiple_of(u64::from(page));
    let room_bytes = u64::from(place.raw_size).min(in_memory) as usize;
    if text.len() > room_bytes {
        return Err(StubError::NoSbatSpace {
            room_bytes,
            needed_bytes: text.len(),
        }
        .into());
    }
    let mut filled = text.to_vec();
    filled.resize(place.raw_size as usize, 0);
    let length = (text.len() as u32).to_le_bytes();
    pe::put(file, place.raw_offset as usize, &filled, "section .sbat")
        .and_then(|()| pe::put(file, place.header_offset + 8, &length, "section table"))
        .map_err(|error| StubError::Pe(error).into())
}

/// Appends the contents to the file and their entries to the section table.
fn append_sections(
    file: &mut Vec<u8>,
    stub: &PeImage<'_>,
    sections: &[NewSection<'_>],
    layout: &Layout,
) -> Result<(), PeError> {
    let mut entry_at = stub.headers().section_table_end;
    for (section, placement) in sections.iter().zip(&layout.placements) {
        pe::put(
            file,
            entry_at,
            &section_header(section.name, placement),
            "section table",
        )?;
        entry_at += SECTION_HEADER_BYTES;
        file.extend_from_slice(section.content);
        file.resize(
            placement.raw_offset as usize + placement.raw_size as usize,
            0,
        );
    }
    Ok(())
}

fn section_header(name: &str, placement: &Placement) -> Vec<u8> {
    // Kernels that are started by the old handover protocol run where they lie.
    let kind = if name == LINUX {
        CONTAINS_CODE
    } else {
        CONTAINS_INITIALIZED_DATA
    };
    let mut header = pe::section_name(name).unwrap_or_default().to_vec();
    for field in [
        placement.virtual_size,
        placement.virtual_address,
        placement.raw_size,
        placement.raw_offset,
    ] {
        header.extend_from_slice(&field.to_le_bytes());
    }
    // No relocations and no line numbers: two offsets of 4 bytes, two counts of 2.
    header.extend_from_slice(&[0; 12]);
    header.extend_from_slice(&(kind | MEMORY_READ).to_le_bytes());
    header
}

fn update_headers(
    file: &mut [u8],
    stub: &PeImage<'_>,
    kernel: &PeImage<'_>,
    layout: &Layout,
) -> Result<(), PeError> {
    let fields = stub.fields();
    let mut flags = stub.headers().dll_characteristics;
    // Firmware that enforces the flag applies it to the kernel too, so the UKI may claim it only if the kernel does.
    if kernel.headers().dll_characteristics & NX_COMPATIBLE == 0 {
        flags &= !NX_COMPATIBLE;
    }
    let what = "optional header";
    pe::put(
        file,
        fields.section_count,
        &layout.section_count.to_le_bytes(),
        "COFF header",
    )?;
    pe::put(
        file,
        fields.size_of_initialized_data,
        &layout.size_of_initialized_data.to_le_bytes(),
        what,
    )?;
    pe::put(
        file,
        fields.size_of_image,
        &layout.size_of_image.to_le_bytes(),
        what,
    )?;
    pe::put(
        file,
        fields.size_of_headers,
        &layout.size_of_headers.to_le_bytes(),
        what,
    )?;
    pe::put(file, fields.checksum, &0_u32.to_le_bytes(), what)?;
    pe::put(file, fields.dll_characteristics, &flags.to_le_bytes(), what)
}
