//! A UKI of two kilobytes: a PE file with real headers and sections, and no code.
//!
//! Offsets are those of the PE/COFF specification (sections 2 to 4).

/// Where the PE header starts: right after the DOS header.
const PE_OFFSET: usize = 64;
/// Signature and COFF header.
const COFF_BYTES: usize = 24;
/// An optional header of PE32+ with all 16 directories.
const OPTIONAL_BYTES: usize = 240;
/// One entry of the section table.
const SECTION_BYTES: usize = 40;
/// Headers in the file, and the alignment of sections in it.
const FILE_ALIGNMENT: usize = 512;
/// The alignment of sections in memory.
const PAGE_BYTES: usize = 4096;
/// Where a UKI for x86-64 wants to be loaded.
const IMAGE_BASE: u64 = 0x1_4000_0000;
const MACHINE_AMD64: u16 = 0x8664;
const PE32_PLUS: u16 = 0x20b;
const SUBSYSTEM_EFI_APPLICATION: u16 = 10;
/// Executable, large addresses, no symbols, no line numbers.
const CHARACTERISTICS: u16 = 0x022e;
/// Initialised data, readable.
const SECTION_FLAGS: u32 = 0x4000_0040;

/// The sections of a UKI with this command line.
pub fn sections(cmdline: &str) -> Vec<(&'static str, Vec<u8>)> {
    let os_release = b"ID=twinseal-vector\nPRETTY_NAME=\"A root of four files\"\n".to_vec();
    vec![
        (".osrel", os_release),
        (".cmdline", cmdline.as_bytes().to_vec()),
        (".linux", b"no kernel, only bytes".repeat(20)),
    ]
}

/// A PE file of these sections; at most ten fit in front of the first.
pub fn pe_file(sections: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let table = PE_OFFSET + COFF_BYTES + OPTIONAL_BYTES;
    let headers_bytes = (table + sections.len() * SECTION_BYTES).next_multiple_of(FILE_ALIGNMENT);
    let (mut entries, mut contents) = (Vec::new(), Vec::new());
    let mut address = PAGE_BYTES;
    for (name, content) in sections {
        let raw_bytes = content.len().next_multiple_of(FILE_ALIGNMENT);
        let mut padded_name = name.as_bytes().to_vec();
        padded_name.resize(8, 0);
        entries.extend(padded_name);
        for field in [
            content.len(),
            address,
            raw_bytes,
            headers_bytes + contents.len(),
        ] {
            entries.extend((field as u32).to_le_bytes());
        }
        entries.extend([0; 12]);
        entries.extend(SECTION_FLAGS.to_le_bytes());
        contents.extend_from_slice(content);
        contents.resize(contents.len().next_multiple_of(FILE_ALIGNMENT), 0);
        address = (address + content.len()).next_multiple_of(PAGE_BYTES);
    }
    let mut file = Vec::new();
    file.extend(dos_header());
    file.extend(coff_header(sections.len() as u16));
    file.extend(optional_header(address as u32, headers_bytes as u32));
    file.extend(entries);
    file.resize(headers_bytes, 0);
    file.extend(contents);
    file
}

fn dos_header() -> Vec<u8> {
    let mut header = vec![0; PE_OFFSET - 4];
    header.splice(..2, *b"MZ");
    header.extend((PE_OFFSET as u32).to_le_bytes());
    header
}

fn coff_header(sections: u16) -> Vec<u8> {
    let mut header = b"PE\0\0".to_vec();
    header.extend(MACHINE_AMD64.to_le_bytes());
    header.extend(sections.to_le_bytes());
    // No time, no symbol table.
    header.extend([0; 12]);
    header.extend((OPTIONAL_BYTES as u16).to_le_bytes());
    header.extend(CHARACTERISTICS.to_le_bytes());
    header
}

fn optional_header(image_bytes: u32, headers_bytes: u32) -> Vec<u8> {
    let mut header = PE32_PLUS.to_le_bytes().to_vec();
    // Linker version, sizes of code and data, entry point, base of code: nothing runs.
    header.extend([0; 22]);
    header.extend(IMAGE_BASE.to_le_bytes());
    header.extend((PAGE_BYTES as u32).to_le_bytes());
    header.extend((FILE_ALIGNMENT as u32).to_le_bytes());
    // Versions.
    header.extend([0; 16]);
    header.extend(image_bytes.to_le_bytes());
    header.extend(headers_bytes.to_le_bytes());
    // Checksum.
    header.extend([0; 4]);
    header.extend(SUBSYSTEM_EFI_APPLICATION.to_le_bytes());
    // Flags, stack and heap, loader flags.
    header.extend([0; 38]);
    header.extend(16u32.to_le_bytes());
    header.resize(OPTIONAL_BYTES, 0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_pe_file_for_both_readers() {
        let seal = "composefs=".to_owned() + &"5a".repeat(32);
        let file = pe_file(&sections(&seal));
        let image = crate::pe::PeImage::parse(&file).unwrap();
        let cmdline = image.section_named(".cmdline").unwrap().unwrap();
        assert_eq!(image.content(cmdline).unwrap(), seal.as_bytes());
        assert_eq!(image.headers().size_of_headers as usize, FILE_ALIGNMENT);
        assert_eq!(
            crate::build::sealed_by(&file).unwrap().as_bytes(),
            [0x5a; 32]
        );
    }
}
