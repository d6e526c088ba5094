//! Releases of the firmware: one program with a block in it that says which release it is.
//! `hil/firmware/src/release.rs` is the other side.
//!
//! # Invariants
//! - Releases differ in that block and in nothing else.

use super::McuError;
use object::LittleEndian;
use object::elf::{FileHeader32, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use std::fs;
use std::path::Path;

/// What the block begins with.
const MAGIC: &[u8] = b"TWINSEAL RELEASE";

/// Bytes of the name behind it; the behaviour follows.
const NAME_BYTES: usize = 15;

/// Most bytes of an image; a program that says it goes elsewhere must not fill the memory.
const IMAGE_MAX_BYTES: usize = 384 * 1024;

/// What a release does when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// It works.
    Works = b'w' as isize,
    /// It stops before its health check, and feeds no watchdog.
    Hangs = b'h' as isize,
    /// Its health check fails.
    IsSick = b's' as isize,
    /// It panics.
    Panics = b'p' as isize,
}

/// The bytes of the application as its slot holds them, with a block to fill in.
#[derive(Clone, Debug)]
pub struct Application {
    image: Vec<u8>,
    block_at: usize,
}

impl Application {
    /// Lays out the program of an ELF file.
    ///
    /// # Errors
    /// When it cannot be read, is no program for this board, or has no block.
    pub fn read(elf: &Path) -> Result<Self, McuError> {
        let bytes = fs::read(elf).map_err(McuError::file(elf, "read"))?;
        let unfit = |what: String| McuError::Unfit {
            file: elf.to_owned(),
            what,
        };
        let image = flat(&bytes).map_err(unfit)?;
        let mut places = image.windows(MAGIC.len()).enumerate();
        let found = places.find(|(_, bytes)| *bytes == MAGIC);
        let block_at = found
            .map(|(at, _)| at)
            .ok_or_else(|| unfit("it has no block that says its release".to_owned()))?;
        Ok(Self { image, block_at })
    }

    /// The image of a release. A name that is too long is cut off.
    pub fn release(&self, name: &str, behaviour: Behaviour) -> Vec<u8> {
        let mut image = self.image.clone();
        let behaviour = [behaviour as u8];
        let name = name.bytes().chain([0; NAME_BYTES]).take(NAME_BYTES);
        let block = image.iter_mut().skip(self.block_at + MAGIC.len());
        block
            .zip(name.chain(behaviour))
            .for_each(|(place, byte)| *place = byte);
        image
    }
}

/// What the loaded segments of a program hold, by the addresses at which they are stored.
fn flat(elf: &[u8]) -> Result<Vec<u8>, String> {
    let no_elf = |error: object::Error| format!("it is no ELF file of this board: {error}");
    let header = FileHeader32::<LittleEndian>::parse(elf).map_err(no_elf)?;
    let segments = header.program_headers(LittleEndian, elf).map_err(no_elf)?;
    let mut loaded = Vec::new();
    for segment in segments {
        let bytes = segment.data(LittleEndian, elf);
        let bytes = bytes.map_err(|()| "a segment of it lies beyond its end".to_owned())?;
        if segment.p_type(LittleEndian) == PT_LOAD && !bytes.is_empty() {
            loaded.push((segment.p_paddr(LittleEndian) as usize, bytes));
        }
    }
    let base = loaded.iter().map(|(at, _)| *at).min().unwrap_or_default();
    let mut image = Vec::new();
    for (at, bytes) in loaded {
        let end = at - base + bytes.len();
        if end > IMAGE_MAX_BYTES {
            return Err(format!("it takes more than {IMAGE_MAX_BYTES} bytes"));
        }
        image.resize(end.max(image.len()), 0);
        image
            .iter_mut()
            .skip(at - base)
            .zip(bytes)
            .for_each(|(place, byte)| *place = *byte);
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file for Arm with two segments, as far as it is looked at.
    fn elf(segments: &[(u32, &[u8])]) -> Vec<u8> {
        let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        for half in [2_u16, 40] {
            file.extend(half.to_le_bytes());
        }
        for word in [1_u32, 0, 52, 0, 0] {
            file.extend(word.to_le_bytes());
        }
        for half in [52_u16, 32, segments.len() as u16, 40, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        let mut offset = 52 + 32 * segments.len();
        for (address, bytes) in segments {
            let size = bytes.len() as u32;
            for word in [
                PT_LOAD,
                offset as u32,
                0x2000_0000,
                *address,
                size,
                size,
                5,
                4,
            ] {
                file.extend(word.to_le_bytes());
            }
            offset += bytes.len();
        }
        file.extend(segments.iter().flat_map(|(_, bytes)| bytes.iter()));
        file
    }

    fn read(bytes: &[u8]) -> Result<Application, McuError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app");
        fs::write(&file, bytes).unwrap();
        Application::read(&file)
    }

    #[test]
    fn releases_differ_in_their_block_alone() {
        let mut code = b"code".to_vec();
        code.extend(MAGIC);
        code.extend([0; 16]);
        let application = read(&elf(&[(0x10_0000, &code), (0x10_0030, b"data")])).unwrap();
        let image = application.release("v2", Behaviour::Hangs);
        assert_eq!(image.len(), 0x34);
        assert!(image.starts_with(b"codeTWINSEAL RELEASEv2\0") && image.ends_with(b"data"));
        assert_eq!(image[4 + MAGIC.len() + NAME_BYTES], b'h');
    }

    #[test]
    fn what_is_no_program_of_the_board_is_named() {
        for (bytes, words) in [
            (b"text".to_vec(), "no ELF file"),
            (elf(&[(0x10_0000, b"no block in it")]), "no block"),
            (elf(&[(0, MAGIC), (0x2000_0000, b"x")]), "more than"),
        ] {
            let error = read(&bytes).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
