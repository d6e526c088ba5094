//! Where the new sections of a UKI go, in the file and in memory.
//!
//! Pure arithmetic on a checked stub and the lengths of the parts, so that its limits can be tested without files of
//! 4 GiB.
//!
//! # Invariants
//!
//! - Everything a [`Layout`] states fits the 32 bits of a PE header field.
//! - New sections begin behind the last section of the stub, in the file and in memory, and never overlap.

use super::{StubError, UkiError};
use crate::pe::{PeImage, SECTION_HEADER_BYTES};

/// Largest `FileAlignment` of the "PE Format" specification; a larger one could fill gigabytes with zeros.
const FILE_ALIGNMENT_LIMIT_BYTES: u64 = 0x1_0000;

/// Place of one new section. All values in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placement {
    /// Length of the content.
    pub virtual_size: u32,
    /// Address in memory, relative to the image base.
    pub virtual_address: u32,
    /// Length in the file.
    pub raw_size: u32,
    /// Offset in the file.
    pub raw_offset: u32,
}

/// Places of all new sections, and the header fields that follow from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// In the order in which the lengths were given.
    pub placements: Vec<Placement>,
    /// New `NumberOfSections`.
    pub section_count: u16,
    /// New `SizeOfHeaders`.
    pub size_of_headers: u32,
    /// New `SizeOfImage`.
    pub size_of_image: u32,
    /// New `SizeOfInitializedData`.
    pub size_of_initialized_data: u32,
    /// Length of the finished file.
    pub file_bytes: u32,
}

/// Lays out sections of the given `lengths` behind those of `stub`.
///
/// # Errors
///
/// [`StubError`] when the stub is untidy or has no room for more section headers, [`UkiError::TooLarge`] when a
/// position does not fit 32 bits.
pub(super) fn plan(stub: &PeImage<'_>, lengths: &[u64]) -> Result<Layout, UkiError> {
    let (file_alignment, section_alignment) = check_alignment(stub)?;
    let size_of_headers = check_header_space(stub, file_alignment, lengths.len())?;
    let mut raw = stub.bytes().len() as u64;
    let mut address = stub
        .sections()
        .iter()
        .map(|section| section.virtual_end())
        .max()
        .unwrap_or_default();
    let mut initialized = u64::from(stub.headers().size_of_initialized_data);
    let mut placements = Vec::with_capacity(lengths.len());
    for &length in lengths {
        let start = round_up(address, section_alignment)?;
        let raw_size = round_up(length, file_alignment)?;
        placements.push(Placement {
            virtual_size: narrow(length)?,
            virtual_address: narrow(start)?,
            raw_size: narrow(raw_size)?,
            raw_offset: narrow(raw)?,
        });
        address = start.checked_add(length).ok_or(UkiError::TooLarge)?;
        raw = raw.checked_add(raw_size).ok_or(UkiError::TooLarge)?;
        initialized = initialized.checked_add(length).ok_or(UkiError::TooLarge)?;
    }
    let section_count = stub.sections().len() + placements.len();
    Ok(Layout {
        placements,
        section_count: u16::try_from(section_count).map_err(|_| UkiError::TooLarge)?,
        size_of_headers,
        size_of_image: narrow(round_up(address, section_alignment)?)?,
        size_of_initialized_data: narrow(initialized)?,
        file_bytes: narrow(raw)?,
    })
}

/// The stub's alignments in the file and in memory, once all of its sections are known to keep to them and to end
/// where the file ends.
fn check_alignment(stub: &PeImage<'_>) -> Result<(u64, u64), StubError> {
    let unaligned = |what: &str| StubError::Unaligned {
        what: what.to_owned(),
    };
    let headers = stub.headers();
    let (in_file, in_memory) = (
        u64::from(headers.file_alignment),
        u64::from(headers.section_alignment),
    );
    let powers = in_file.is_power_of_two() && in_memory.is_power_of_two();
    if !powers || in_file > FILE_ALIGNMENT_LIMIT_BYTES || in_memory < in_file {
        return Err(unaligned("FileAlignment and SectionAlignment"));
    }
    let mut end = u64::from(headers.size_of_headers);
    for section in stub.sections() {
        let aligned = u64::from(section.raw_offset) % in_file == 0
            && u64::from(section.raw_size) % in_file == 0;
        if !aligned || u64::from(section.virtual_address) % in_memory != 0 {
            return Err(unaligned(&section.name_text()));
        }
        stub.content(section).map_err(StubError::Pe)?;
        end = end.max(section.raw_range().end);
    }
    match (stub.bytes().len() as u64).cmp(&end) {
        std::cmp::Ordering::Equal if headers.symbol_table == 0 => Ok((in_file, in_memory)),
        std::cmp::Ordering::Less => Err(unaligned("the end of its last section")),
        _ => Err(StubError::TrailingData),
    }
}

/// The new `SizeOfHeaders`: rounded up to the file alignment, which is safe because the first section begins at a
/// multiple of it, if `needed` more section headers fit then.
fn check_header_space(
    stub: &PeImage<'_>,
    file_alignment: u64,
    needed: usize,
) -> Result<u32, UkiError> {
    let headers = stub.headers();
    let first_section = stub
        .sections()
        .iter()
        .filter(|section| section.raw_size > 0)
        .map(|section| section.raw_offset.min(section.virtual_address))
        .min();
    let rounded = narrow(round_up(
        u64::from(headers.size_of_headers),
        file_alignment,
    )?)?;
    let end = first_section.map_or(rounded, |first| rounded.min(first));
    let room = (end as usize).saturating_sub(headers.section_table_end) / SECTION_HEADER_BYTES;
    if needed > room {
        return Err(StubError::NoHeaderSpace { room, needed }.into());
    }
    Ok(end)
}

fn round_up(value: u64, alignment: u64) -> Result<u64, UkiError> {
    value
        .checked_next_multiple_of(alignment)
        .ok_or(UkiError::TooLarge)
}

fn narrow(value: u64) -> Result<u32, UkiError> {
    u32::try_from(value).map_err(|_| UkiError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pe::synthetic::{Synthetic, set};

    fn plan_bytes(stub: &[u8], lengths: &[u64]) -> Result<Layout, UkiError> {
        plan(&PeImage::parse(stub).unwrap(), lengths)
    }

    #[test]
    fn sections_follow_each_other_at_their_alignments() {
        let stub = Synthetic::default().build();
        let layout = plan_bytes(&stub, &[1, 0x1001, 5]).unwrap();
        let addresses: Vec<u32> = layout
            .placements
            .iter()
            .map(|placement| placement.virtual_address)
            .collect();
        assert_eq!(addresses, [0x4000, 0x5000, 0x7000]);
        let first = stub.len() as u32;
        let offsets: Vec<u32> = layout
            .placements
            .iter()
            .map(|placement| placement.raw_offset)
            .collect();
        assert_eq!(offsets, [first, first + 0x200, first + 0x1400]);
        assert_eq!(layout.file_bytes, first + 0x1600);
        assert_eq!(layout.size_of_image, 0x8000);
        assert_eq!(layout.size_of_initialized_data, 1 + 0x1001 + 5);
    }

    #[test]
    fn four_gib_is_refused_in_file_and_in_memory() {
        let stub = Synthetic::default().build();
        let just_fits = u64::from(u32::MAX) - stub.len() as u64 - 0x1_0000;
        assert!(plan_bytes(&stub, &[just_fits]).is_ok());
        assert_eq!(
            plan_bytes(&stub, &[u64::from(u32::MAX)]),
            Err(UkiError::TooLarge)
        );
        assert_eq!(
            plan_bytes(&stub, &[0x8000_0000, 0x8000_0000]),
            Err(UkiError::TooLarge)
        );
        assert_eq!(plan_bytes(&stub, &[u64::MAX]), Err(UkiError::TooLarge));
        // A last section at the end of the address space: the file is small, the memory image is not.
        let mut high = stub.clone();
        set(
            &mut high,
            0x148 + 2 * 40 + 12,
            &0xffff_f000_u32.to_le_bytes(),
        );
        assert_eq!(plan_bytes(&high, &[1]), Err(UkiError::TooLarge));
    }

    #[test]
    fn header_space_is_counted_and_rounded_up() {
        let full = Synthetic {
            size_of_headers: 0x200,
            ..Synthetic::default()
        }
        .build();
        assert_eq!(
            plan_bytes(&full, &[1, 1]),
            Err(StubError::NoHeaderSpace { room: 1, needed: 2 }.into())
        );
        assert!(plan_bytes(&full, &[1]).is_ok());
        // SizeOfHeaders of an odd value grows up to the first section.
        let mut odd = Synthetic::default().build();
        set(&mut odd, 0x58 + 60, &0x1c0_u32.to_le_bytes());
        assert_eq!(plan_bytes(&odd, &[1]).unwrap().size_of_headers, 0x200);
    }

    #[test]
    fn untidy_stubs_are_refused() {
        let stub = Synthetic::default().build();
        let mut trailing = stub.clone();
        trailing.extend_from_slice(b"symbols");
        assert_eq!(
            plan_bytes(&trailing, &[1]),
            Err(StubError::TrailingData.into())
        );

        let mut symbols = stub.clone();
        set(&mut symbols, 0x40 + 12, &1_u32.to_le_bytes());
        assert_eq!(
            plan_bytes(&symbols, &[1]),
            Err(StubError::TrailingData.into())
        );

        let mut offset = stub.clone();
        set(&mut offset, 0x148 + 16, &0x201_u32.to_le_bytes());
        assert_eq!(
            plan_bytes(&offset, &[1]),
            Err(StubError::Unaligned {
                what: ".text".to_owned()
            }
            .into())
        );

        for (in_file, in_memory) in [
            (0x300, 0x1000),
            (0x200, 0x1800),
            (0, 0x1000),
            (0x200, 0x100),
        ] {
            let mut alignment = stub.clone();
            set(&mut alignment, 0x58 + 32, &u32::to_le_bytes(in_memory));
            set(&mut alignment, 0x58 + 36, &u32::to_le_bytes(in_file));
            let what = "FileAlignment and SectionAlignment".to_owned();
            assert_eq!(
                plan_bytes(&alignment, &[1]),
                Err(StubError::Unaligned { what }.into())
            );
        }
        let mut huge = Synthetic {
            sections: Vec::new(),
            ..Synthetic::default()
        }
        .build();
        set(
            &mut huge,
            0x58 + 32,
            &[0x8000_0000_u32.to_le_bytes(); 2].concat(),
        );
        assert!(matches!(
            plan_bytes(&huge, &[1]),
            Err(UkiError::Stub(StubError::Unaligned { .. }))
        ));

        let cut = &stub[..stub.len() - 0x100];
        assert!(matches!(
            plan_bytes(cut, &[1]),
            Err(UkiError::Stub(StubError::Unaligned { .. }))
        ));
        let cut = &stub[..stub.len() - 0x200];
        assert!(matches!(
            plan_bytes(cut, &[1]),
            Err(UkiError::Stub(StubError::Pe(_)))
        ));
    }
}
