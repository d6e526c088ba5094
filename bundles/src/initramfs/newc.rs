//! The `newc` form of cpio: a header of hexadecimal numbers, a name and content, each filled up to 4 bytes.
//!
//! Source: the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`.

use super::EarlyError;
use crate::error::Error;

const MAGIC: &str = "070701";

/// The name of the last entry.
const TRAILER: &str = "TRAILER!!!";

/// Digits of each number of a header.
const NUMBER_BYTES: usize = 8;

/// The magic and thirteen numbers.
const HEADER_BYTES: usize = MAGIC.len() + 13 * NUMBER_BYTES;

/// Which number of a header is the size of the content, and which that of the name.
const SIZE_PLACE: usize = 6;
const NAME_PLACE: usize = 11;

/// Everything is filled up to this.
const ALIGNMENT_BYTES: usize = 4;

/// File types of stat(2).
const DIRECTORY: u32 = 0o040_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const REGULAR: u32 = 0o100_000;

/// The kernel's console (`Documentation/admin-guide/devices.txt`).
pub(super) const CONSOLE: Kind = Kind::CharacterDevice { major: 5, minor: 1 };

/// What an entry is.
pub(super) enum Kind {
    /// A directory, 0755.
    Directory,
    /// A device, 0600.
    CharacterDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A file, 0644.
    File(Vec<u8>),
    /// A file, 0755.
    Program(Vec<u8>),
}

/// An archive that is being written.
pub(super) struct Archive {
    bytes: Vec<u8>,
    /// Number of the next inode.
    inode: u32,
}

/// The content of the first entry of this name; `None` when there is none, or the bytes are no archive.
pub(super) fn find<'a>(archive: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    let mut rest = archive;
    loop {
        let header = rest.get(..HEADER_BYTES)?;
        let (magic, numbers) = header.split_at_checked(MAGIC.len())?;
        let number = |place: usize| {
            let digits = numbers.get(place * NUMBER_BYTES..)?.get(..NUMBER_BYTES)?;
            usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        };
        if magic != MAGIC.as_bytes() {
            return None;
        }
        let (size, name_bytes) = (number(SIZE_PLACE)?, number(NAME_PLACE)?);
        let name = rest.get(HEADER_BYTES..)?.get(..name_bytes)?;
        let start = HEADER_BYTES.checked_add(name_bytes)?;
        let content = rest.get(start.next_multiple_of(ALIGNMENT_BYTES)..)?;
        let found = name.strip_suffix(b"\0")?;
        if found == wanted.as_bytes() {
            return content.get(..size);
        }
        if found == TRAILER.as_bytes() {
            return None;
        }
        rest = content.get(size.checked_next_multiple_of(ALIGNMENT_BYTES)?..)?;
    }
}

impl Archive {
    pub(super) const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            inode: 1,
        }
    }

    /// Adds an entry; `name` is relative to the root, and its directory came before.
    pub(super) fn add(&mut self, name: &str, kind: &Kind) -> Result<(), Error> {
        let (mode, links, content, device): (_, _, &[u8], _) = match kind {
            Kind::Directory => (DIRECTORY | 0o755, 2, &[], (0, 0)),
            Kind::CharacterDevice { major, minor } => {
                (CHARACTER_DEVICE | 0o600, 1, &[], (*major, *minor))
            }
            Kind::File(content) => (REGULAR | 0o644, 1, content, (0, 0)),
            Kind::Program(content) => (REGULAR | 0o755, 1, content, (0, 0)),
        };
        let inode = self.inode;
        self.inode += 1;
        self.entry(name, [inode, mode, links], content, device)
    }

    /// The archive with its last entry.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, Error> {
        self.entry(TRAILER, [0, 0, 1], &[], (0, 0))?;
        Ok(self.bytes)
    }

    fn entry(
        &mut self,
        name: &str,
        [inode, mode, links]: [u32; 3],
        content: &[u8],
        (major, minor): (u32, u32),
    ) -> Result<(), Error> {
        let too_large = || EarlyError::TooLarge(name.to_owned());
        let size = u32::try_from(content.len()).map_err(|_| too_large())?;
        let name_size = u32::try_from(name.len() + 1).map_err(|_| too_large())?;
        // Inode, mode, user, group, links, time, size, device, device number, size of the name, checksum (unused here).
        let numbers = [
            inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0,
        ];
        self.bytes.extend_from_slice(MAGIC.as_bytes());
        for number in numbers {
            self.bytes
                .extend_from_slice(format!("{number:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.fill();
        self.bytes.extend_from_slice(content);
        self.fill();
        Ok(())
    }

    fn fill(&mut self) {
        let filled = self.bytes.len().next_multiple_of(ALIGNMENT_BYTES);
        self.bytes.resize(filled, 0);
    }
}
