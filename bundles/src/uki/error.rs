//! Why a UKI could not be assembled or read, sorted by whose fault it is.

use crate::pe::PeError;

/// Why a UKI could not be assembled or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UkiError {
    /// The stub, which comes from systemd, cannot carry the parts.
    #[error(transparent)]
    Stub(#[from] StubError),
    /// One of the parts cannot go into a UKI.
    #[error(transparent)]
    Part(#[from] PartError),
    /// PE files count in 32 bits, in the file and in memory.
    #[error(
        "this UKI would need more than 4 GiB, in the file or in memory, which a PE file cannot state; make the initrd smaller"
    )]
    TooLarge,
    /// A finished UKI could not be read.
    #[error("the UKI cannot be read: {0}")]
    Image(PeError),
}

/// Why the stub cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StubError {
    /// Not a PE file.
    #[error("the stub cannot be used: {0}")]
    Pe(PeError),
    /// Sections added behind a signature would not be covered by it.
    #[error(
        "the stub is signed, and adding sections would break the signature; give the unsigned linux*.efi.stub"
    )]
    Signed,
    /// The stub has a section of this name, so it is a finished UKI or no stub at all.
    #[error(
        "the stub already has a section {name}; give systemd's linux*.efi.stub, not a finished UKI"
    )]
    SectionPresent {
        /// Name of the section.
        name: &'static str,
    },
    /// Alignments that are no powers of two, or sections that do not keep to them.
    #[error(
        "the stub's sections do not keep to its own alignment ({what}); give the stub of systemd 254 or later, as it was built"
    )]
    Unaligned {
        /// The field or section that is off.
        what: String,
    },
    /// Bytes behind the last section, such as the symbol table of an old stub.
    #[error(
        "the stub has a symbol table or other data behind its last section; give the stub of systemd 254 or later, as it was built"
    )]
    TrailingData,
    /// Not enough unused bytes between the section table and the first section.
    #[error(
        "the stub's headers have room for {room} more sections, and {needed} are needed; give the stub of systemd 254 or later"
    )]
    NoHeaderSpace {
        /// Sections that could be added.
        room: usize,
        /// Sections that this UKI adds.
        needed: usize,
    },
    /// The merged SBAT text is longer than the place that the stub keeps for it.
    #[error(
        "the merged SBAT text has {needed_bytes} bytes, and the stub's .sbat section has room for {room_bytes}; shorten the extra SBAT text"
    )]
    NoSbatSpace {
        /// Bytes of the stub's section.
        room_bytes: usize,
        /// Bytes of the merged text.
        needed_bytes: usize,
    },
}

/// Why a part cannot go into a UKI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// A part of no bytes; left out silently it would change what the UKI means.
    #[error(
        "the part for section {name} is empty; give its content, or leave an optional part out"
    )]
    Empty {
        /// Name of the section.
        name: &'static str,
    },
    /// The kernel is not a UEFI executable.
    #[error("the kernel cannot be used: {0}")]
    Kernel(PeError),
    /// Stub and kernel are for different processors.
    #[error(
        "the kernel is for machine {kernel:#06x} and the stub for {stub:#06x}; give both for one processor"
    )]
    MachineMismatch {
        /// `IMAGE_FILE_MACHINE_*` of the stub.
        stub: u16,
        /// `IMAGE_FILE_MACHINE_*` of the kernel.
        kernel: u16,
    },
    /// A NUL, a newline or another control character in the command line or the kernel release.
    #[error(
        "the text for section {name} has a control character (such as a newline) at byte {position}; remove it"
    )]
    ControlCharacter {
        /// Name of the section.
        name: &'static str,
        /// Offset of the character, in bytes.
        position: usize,
    },
    /// The kernel would silently drop the end of the command line.
    #[error(
        "the command line has {length_bytes} bytes, and the kernel keeps at most {limit_bytes}; shorten it"
    )]
    CommandLineTooLong {
        /// Bytes of the command line.
        length_bytes: usize,
        /// The kernel's limit.
        limit_bytes: usize,
    },
    /// Not a compiled device tree.
    #[error(
        "the device tree is not a flattened device tree; compile the source with dtc and give the .dtb file"
    )]
    NotDeviceTree,
    /// An SBAT text that is not UTF-8 or does not begin with its own `sbat,` line.
    #[error(
        "the SBAT text of the {owner} is not UTF-8 or does not begin with a line `sbat,...`; correct it or leave it out"
    )]
    Sbat {
        /// Whose text it is.
        owner: &'static str,
    },
}
