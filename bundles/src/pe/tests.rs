//! Every way in which headers can be wrong, on one small file.

use super::synthetic::{AMD64, ARM32, Synthetic, set};
use super::*;

fn error_of(file: &[u8]) -> PeError {
    PeImage::parse(file).unwrap_err()
}

/// A valid file with `value` written over it at `offset`.
fn changed(offset: usize, value: &[u8]) -> Vec<u8> {
    let mut file = Synthetic::default().build();
    set(&mut file, offset, value);
    file
}

#[test]
fn headers_and_sections_are_read() {
    let file = Synthetic::default().build();
    let image = PeImage::parse(&file).unwrap();
    assert_eq!(image.headers().machine, AMD64);
    assert_eq!(image.headers().size_of_headers, 0x600);
    assert_eq!(
        image.headers().section_table_end,
        0x148 + 3 * SECTION_HEADER_BYTES
    );
    assert!(image.headers().certificate_table.is_empty());
    let names: Vec<String> = image.sections().iter().map(Section::name_text).collect();
    assert_eq!(names, [".text", ".sbat", ".reloc"]);
    let reloc = image.section_named(".reloc").unwrap().unwrap();
    assert_eq!(
        image.content(reloc).unwrap(),
        [0; 12],
        "the filling up to 512 bytes is left out"
    );
    assert_eq!(image.section_named(".none").unwrap(), None);
    assert_eq!(image.section_named(".name-of-more-than-8").unwrap(), None);
}

#[test]
fn files_for_32_bit_processors_have_their_directories_elsewhere() {
    let file = Synthetic {
        machine: ARM32,
        ..Synthetic::default()
    }
    .build();
    let image = PeImage::parse(&file).unwrap();
    assert_eq!(image.headers().machine, ARM32);
    assert_eq!(image.fields().certificate_entry, 0x58 + 128);
    assert_eq!(
        image.headers().section_table_end,
        0x58 + 224 + 3 * SECTION_HEADER_BYTES
    );
    let mut signed = file.clone();
    set(
        &mut signed,
        0x58 + 128,
        &[0x2000_u32.to_le_bytes(), 8_u32.to_le_bytes()].concat(),
    );
    let image = PeImage::parse(&signed).unwrap();
    assert_eq!(image.headers().certificate_table, 0x2000..0x2008);
    let mut few = file.clone();
    set(&mut few, 0x58 + 92, &4_u32.to_le_bytes());
    assert_eq!(error_of(&few), PeError::TooFewDirectories { count: 4 });
    let mut short = file;
    set(&mut short, 0x54, &135_u16.to_le_bytes());
    assert_eq!(error_of(&short), PeError::TooFewDirectories { count: 16 });
}

#[test]
fn files_of_another_kind_are_refused() {
    assert_eq!(error_of(b""), PeError::NotPe);
    assert_eq!(error_of(b"\x1f\x8b compressed"), PeError::NotPe);
    assert_eq!(error_of(b"MZ"), PeError::Truncated { what: "DOS header" });
    assert_eq!(error_of(&changed(0x40, b"NE")), PeError::NotPe);
    assert_eq!(
        error_of(&changed(0x3c, &u32::MAX.to_le_bytes())),
        PeError::NotPe
    );
    assert_eq!(
        error_of(&changed(0x58, &0x0107_u16.to_le_bytes())),
        PeError::UnknownForm { magic: 0x0107 }
    );
    assert_eq!(
        error_of(&changed(0x58 + 108, &4_u32.to_le_bytes())),
        PeError::TooFewDirectories { count: 4 }
    );
    assert_eq!(
        error_of(&changed(0x54, &112_u16.to_le_bytes())),
        PeError::TooFewDirectories { count: 16 }
    );
}

#[test]
fn headers_that_do_not_fit_are_refused() {
    assert_eq!(
        error_of(&changed(0x58 + 60, &0x180_u32.to_le_bytes())),
        PeError::HeadersMisplaced
    );
    assert_eq!(
        error_of(&changed(0x58 + 60, &u32::MAX.to_le_bytes())),
        PeError::HeadersMisplaced
    );
    assert_eq!(
        error_of(&changed(0x46, &u16::MAX.to_le_bytes())),
        PeError::Truncated {
            what: "section table"
        }
    );
}

#[test]
fn sections_outside_the_file_are_refused_when_read() {
    let file = changed(0x148 + 20, &0xffff_fe00_u32.to_le_bytes());
    let image = PeImage::parse(&file).unwrap();
    let text = image.section_named(".text").unwrap().unwrap();
    assert_eq!(
        image.content(text),
        Err(PeError::SectionOutsideFile {
            name: ".text".to_owned()
        })
    );
}

#[test]
fn repeated_sections_are_ambiguous() {
    let file = changed(0x148, b".reloc\0\0");
    let image = PeImage::parse(&file).unwrap();
    assert_eq!(
        image.section_named(".reloc"),
        Err(PeError::SectionRepeated {
            name: ".reloc".to_owned()
        })
    );
    assert!(image.section_named(".sbat").unwrap().is_some());
}

#[test]
fn no_truncation_and_no_header_byte_panics() {
    let file = Synthetic::default().build();
    for length in 0..0x600 {
        assert!(
            PeImage::parse(&file[..length]).is_err(),
            "{length} bytes are not all headers"
        );
    }
    for offset in 0..0x1c0 {
        let mut damaged = file.clone();
        damaged[offset] ^= 0xff;
        let Ok(image) = PeImage::parse(&damaged) else {
            continue;
        };
        for section in image.sections() {
            let _ = (
                image.content(section),
                section.raw_range(),
                section.virtual_end(),
                section.name_text(),
            );
        }
    }
}

#[test]
fn writing_outside_the_file_is_refused() {
    let mut file = vec![0; 8];
    assert_eq!(put(&mut file, 4, &[1; 4], "tail"), Ok(()));
    assert_eq!(
        put(&mut file, 5, &[2; 4], "tail"),
        Err(PeError::Truncated { what: "tail" })
    );
    assert_eq!(
        put(&mut file, 9, &[], "tail"),
        Err(PeError::Truncated { what: "tail" })
    );
    assert_eq!(file, [0, 0, 0, 0, 1, 1, 1, 1]);
}
