//! The file that holds the board's flash, and the words by which the host and the flash talk.
//! `hil/firmware/src/flash.rs` is the other side.
//!
//! # Power loss
//! The file is the flash: it outlives QEMU, however that ends.

use super::McuError;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Memory of the board that is this file (QEMU's `mps2-an386` has no other size of it).
pub const MEMORY_BYTES: u64 = 16 << 20;

/// Of these, what the flash uses: control words, states of pages, content.
const USED_BYTES: u64 = CONTENT_AT + 1024 * 1024;
const CONTENT_AT: u64 = 0x1_0000;

/// Where the slots of the sets are in the content, as `hil/firmware/src/slots.rs` says.
const SLOTS_AT: u64 = 128 * 1024;
const SLOT_BYTES: u64 = 384 * 1024;

const MAGIC: &[u8; 4] = b"TSFL";

/// Where the words are: little-endian, 32 bits.
mod control {
    pub const OPERATIONS: u64 = 4;
    pub const CUT_AT: u64 = 8;
    pub const CUT_HOW: u64 = 12;
    pub const NOISE: u64 = 16;
    pub const VIOLATIONS: u64 = 20;
    pub const KEY: u64 = 64;
}

/// Where in an operation the power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Just before it.
    Before = 0,
    /// In the middle: what it writes is torn.
    Within = 1,
}

/// A power cut that the flash is to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The operation, counted since the medium was made, from 1.
    pub operation: u32,
    /// Where in it.
    pub moment: Moment,
}

/// The medium of a board that is off.
#[derive(Clone, Debug)]
pub struct Medium {
    file: PathBuf,
}

impl Medium {
    /// A new flash, erased, that trusts a public key (Ed25519). What torn pages read follows from the seed.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn make(file: &Path, key: &[u8; 32], seed: u32) -> Result<Self, McuError> {
        let medium = Self {
            file: file.to_owned(),
        };
        let make = || {
            let made = File::create(file)?;
            made.set_len(MEMORY_BYTES)?;
            made.write_all_at(MAGIC, 0)?;
            made.write_all_at(&seed.to_le_bytes(), control::NOISE)?;
            made.write_all_at(key, control::KEY)
        };
        make().map_err(McuError::file(file, "written"))?;
        Ok(medium)
    }

    /// A copy.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn copy_to(&self, file: &Path) -> Result<Self, McuError> {
        let copy = || {
            let mut used = File::open(&self.file)?.take(USED_BYTES);
            let mut made = File::create(file)?;
            io::copy(&mut used, &mut made)?;
            made.set_len(MEMORY_BYTES)
        };
        copy().map_err(McuError::file(file, "written"))?;
        Ok(Self {
            file: file.to_owned(),
        })
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Operations of the flash since it was made.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn operations(&self) -> Result<u32, McuError> {
        self.word(control::OPERATIONS)
    }

    /// How often the firmware broke a rule of the flash.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn violations(&self) -> Result<u32, McuError> {
        self.word(control::VIOLATIONS)
    }

    /// Has the flash cut the power.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn cut_at(&self, cut: Cut) -> Result<(), McuError> {
        let moment = cut.moment as u32;
        self.write(control::CUT_HOW, &moment.to_le_bytes())?;
        self.write(control::CUT_AT, &cut.operation.to_le_bytes())
    }

    /// Flips one bit of the image in a set, "a" being 0.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn flip_image_bit(&self, set: u64) -> Result<(), McuError> {
        const BEHIND_THE_VECTORS: u64 = 4096;
        let at = CONTENT_AT + SLOTS_AT + set * SLOT_BYTES + BEHIND_THE_VECTORS;
        let word = self.word(at)? ^ 1;
        self.write(at, &word.to_le_bytes())
    }

    fn word(&self, at: u64) -> Result<u32, McuError> {
        let mut bytes = [0; 4];
        let file = File::open(&self.file);
        file.and_then(|file| file.read_exact_at(&mut bytes, at))
            .map_err(McuError::file(&self.file, "read"))?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), McuError> {
        let file = OpenOptions::new().write(true).open(&self.file);
        file.and_then(|file| file.write_all_at(bytes, at))
            .map_err(McuError::file(&self.file, "written"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_copy_has_what_the_flash_uses_and_the_size_of_the_memory() {
        let folder = tempfile::tempdir().unwrap();
        let medium = Medium::make(&folder.path().join("one"), &[7; 32], 5).unwrap();
        medium.write(USED_BYTES - 1, &[9]).unwrap();
        let copy = medium.copy_to(&folder.path().join("two")).unwrap();
        let (one, two) = (
            fs::read(medium.file()).unwrap(),
            fs::read(copy.file()).unwrap(),
        );
        assert_eq!(one.len() as u64, MEMORY_BYTES);
        assert!(one == two && one.starts_with(MAGIC) && one[64..96] == [7; 32]);
    }

    #[test]
    fn a_cut_is_told_by_its_number_and_moment() {
        let folder = tempfile::tempdir().unwrap();
        let medium = Medium::make(&folder.path().join("one"), &[7; 32], 5).unwrap();
        let cut = Cut {
            operation: 258,
            moment: Moment::Within,
        };
        medium.cut_at(cut).unwrap();
        let bytes = fs::read(medium.file()).unwrap();
        assert_eq!(bytes[8..16], [2, 1, 0, 0, 1, 0, 0, 0]);
        assert_eq!(
            (medium.operations().unwrap(), medium.violations().unwrap()),
            (0, 0)
        );
    }
}
