//! A tiny PE file for tests: real headers, a few sections, no code that could run.

/// `IMAGE_FILE_MACHINE_AMD64`.
pub const AMD64: u16 = 0x8664;
/// `IMAGE_FILE_MACHINE_ARM64`.
#[allow(
    dead_code,
    reason = "not every test that shares this file uses both machines"
)]
pub const ARM64: u16 = 0xaa64;
/// `IMAGE_FILE_MACHINE_THUMB`: its files are PE32, all others here PE32+.
#[allow(
    dead_code,
    reason = "not every test that shares this file uses all machines"
)]
pub const ARM32: u16 = 0x01c2;

/// `IMAGE_DLLCHARACTERISTICS_NX_COMPAT`.
pub const NX_COMPAT: u16 = 0x0100;

/// What to build. The defaults resemble systemd's stub: 4 KiB pages, 512-byte file alignment, room for more sections.
#[derive(Debug, Clone)]
pub struct Synthetic {
    /// Machine of the COFF header.
    pub machine: u16,
    /// `DllCharacteristics`.
    pub dll_characteristics: u16,
    /// Length of the headers in the file, in bytes; at most one page.
    pub size_of_headers: u32,
    /// Name and content of each section.
    pub sections: Vec<(&'static str, Vec<u8>)>,
}

impl Default for Synthetic {
    fn default() -> Self {
        Self {
            machine: AMD64,
            dll_characteristics: NX_COMPAT,
            size_of_headers: 0x600,
            sections: vec![
                (".text", b"\xc3 no code, only bytes".repeat(40)),
                (
                    ".sbat",
                    b"sbat,1,SBAT Version,sbat,1,https://example.org/\n\
                    stub,1,A stub,stub,1,https://example.org/stub\n"
                        .to_vec(),
                ),
                (".reloc", vec![0; 12]),
            ],
        }
    }
}

impl Synthetic {
    /// The file. Sections follow the headers in the given order, in the file and in memory.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        const FILE: usize = 0x200;
        const PAGE: usize = 0x1000;
        let mut file = vec![0; self.size_of_headers as usize];
        set(&mut file, 0, b"MZ");
        set(&mut file, 0x3c, &0x40_u32.to_le_bytes());
        set(&mut file, 0x40, b"PE\0\0");
        set(&mut file, 0x44, &self.machine.to_le_bytes());
        set(&mut file, 0x46, &(self.sections.len() as u16).to_le_bytes());
        let narrow = self.machine == ARM32;
        let fixed_bytes = if narrow { 96 } else { 112 };
        let directories_bytes = 16 * 8;
        let optional_bytes = fixed_bytes + directories_bytes;
        set(&mut file, 0x54, &(optional_bytes as u16).to_le_bytes());
        set(&mut file, 0x56, &0x022e_u16.to_le_bytes());
        let optional = 0x58;
        let magic = if narrow { 0x010b_u16 } else { 0x020b };
        set(&mut file, optional, &magic.to_le_bytes());
        if !narrow {
            set(&mut file, optional + 24, &0x1_4000_0000_u64.to_le_bytes());
        }
        set(&mut file, optional + 32, &(PAGE as u32).to_le_bytes());
        set(&mut file, optional + 36, &(FILE as u32).to_le_bytes());
        set(
            &mut file,
            optional + 60,
            &self.size_of_headers.to_le_bytes(),
        );
        set(&mut file, optional + 68, &10_u16.to_le_bytes());
        set(
            &mut file,
            optional + 70,
            &self.dll_characteristics.to_le_bytes(),
        );
        set(&mut file, optional + fixed_bytes - 4, &16_u32.to_le_bytes());
        let mut address = PAGE;
        for (index, (name, content)) in self.sections.iter().enumerate() {
            let raw_offset = file.len();
            let entry = optional + optional_bytes + index * 40;
            set(&mut file, entry, name.as_bytes());
            set(&mut file, entry + 8, &(content.len() as u32).to_le_bytes());
            set(&mut file, entry + 12, &(address as u32).to_le_bytes());
            set(
                &mut file,
                entry + 16,
                &(content.len().next_multiple_of(FILE) as u32).to_le_bytes(),
            );
            set(&mut file, entry + 20, &(raw_offset as u32).to_le_bytes());
            set(&mut file, entry + 36, &0x4000_0040_u32.to_le_bytes());
            file.extend_from_slice(content);
            file.resize(file.len().next_multiple_of(FILE), 0);
            address = (address + content.len()).next_multiple_of(PAGE);
        }
        set(&mut file, optional + 56, &(address as u32).to_le_bytes());
        file
    }
}

/// Overwrites bytes of a file in a test.
pub fn set(file: &mut [u8], offset: usize, value: &[u8]) {
    file[offset..offset + value.len()].copy_from_slice(value);
}
