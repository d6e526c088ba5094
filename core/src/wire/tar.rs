//! The tar headers of a bundle: one canonical form, so that no byte of a header is without meaning.
//!
//! A header is a POSIX ustar header with mode 0644, owner 0, time 0, type `0` and no owner names. [`check_header`] accepts
//! exactly the 512 bytes that [`emit_header`] makes for a name and a size; anything else is refused.
//!
//! # Invariants
//! - `check_header(emit_header(name, size), name)` gives `size`; any other 512 bytes give an error.

use crate::error::BundleInvalid;
use crate::error::Part;

/// Size of a tar block.
pub const BLOCK_BYTES: usize = 512;

/// The two zero blocks that end an archive.
pub const END_BYTES: usize = 2 * BLOCK_BYTES;

mod field {
    use core::ops::Range;
    pub const NAME: Range<usize> = 0..100;
    pub const MODE: Range<usize> = 100..108;
    pub const UID: Range<usize> = 108..116;
    pub const GID: Range<usize> = 116..124;
    pub const SIZE: Range<usize> = 124..136;
    pub const MTIME: Range<usize> = 136..148;
    pub const CHECKSUM: Range<usize> = 148..156;
    pub const TYPE: Range<usize> = 156..157;
    pub const MAGIC_AND_VERSION: Range<usize> = 257..265;
    pub const DEVICE_MAJOR: Range<usize> = 329..337;
    pub const DEVICE_MINOR: Range<usize> = 337..345;
}

/// Bytes of zeros after content of `size` bytes, up to the next block.
pub const fn padding_bytes(size: u64) -> u64 {
    let block = BLOCK_BYTES as u64;
    (block - size % block) % block
}

/// The header of an entry. `name` must be at most 100 bytes and `size` at most [`super::DATA_PART_MAX_BYTES`]; longer values
/// are cut, which [`check_header`] then refuses, so a builder checks them first.
pub fn emit_header(name: &str, size: u64) -> [u8; BLOCK_BYTES] {
    let mut header = [0u8; BLOCK_BYTES];
    for (to, from) in header[field::NAME].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    header[field::MODE].copy_from_slice(b"0000644\0");
    header[field::UID].copy_from_slice(b"0000000\0");
    header[field::GID].copy_from_slice(b"0000000\0");
    emit_octal(&mut header[field::SIZE], size);
    emit_octal(&mut header[field::MTIME], 0);
    header[field::CHECKSUM].fill(b' ');
    header[field::TYPE].fill(b'0');
    header[field::MAGIC_AND_VERSION].copy_from_slice(b"ustar\x0000");
    header[field::DEVICE_MAJOR].copy_from_slice(b"0000000\0");
    header[field::DEVICE_MINOR].copy_from_slice(b"0000000\0");
    let sum = header.iter().map(|byte| u64::from(*byte)).sum();
    // Six octal digits, NUL, space: the form that every tar writes.
    emit_octal(&mut header[field::CHECKSUM][..7], sum);
    header
}

/// Checks that `header` is the canonical header of an entry called `name` and gives the size of its content.
///
/// # Errors
/// [`BundleInvalid::UnexpectedEntry`] when the entry has another name, [`BundleInvalid::HeaderMalformed`] for everything else.
pub fn check_header(header: &[u8], name: &str, part: Part) -> Result<u64, BundleInvalid> {
    let malformed = BundleInvalid::HeaderMalformed { part };
    if entry_name(header) != Some(name.as_bytes()) {
        let plausible = header.get(field::MAGIC_AND_VERSION) == Some(b"ustar\x0000");
        return Err(if plausible {
            BundleInvalid::UnexpectedEntry { part }
        } else {
            malformed
        });
    }
    let size = parse_octal(header.get(field::SIZE).ok_or(malformed)?).ok_or(malformed)?;
    if emit_header(name, size).as_slice() == header {
        Ok(size)
    } else {
        Err(malformed)
    }
}

/// The name in a header, without its trailing NULs; `None` when `header` is too short.
pub fn entry_name(header: &[u8]) -> Option<&[u8]> {
    let name = header.get(field::NAME)?;
    let end = name
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(name.len());
    name.get(..end)
}

fn emit_octal(to: &mut [u8], mut value: u64) {
    let Some((last, digits)) = to.split_last_mut() else {
        return;
    };
    *last = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

fn parse_octal(from: &[u8]) -> Option<u64> {
    let (last, digits) = from.split_last()?;
    if *last != 0 {
        return None;
    }
    digits.iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'7' => Some(value << 3 | u64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::DATA_PART_MAX_BYTES;

    #[test]
    fn emits_what_it_checks() {
        for size in [
            0,
            1,
            511,
            512,
            4096,
            u64::from(u32::MAX),
            DATA_PART_MAX_BYTES,
        ] {
            assert_eq!(
                check_header(&emit_header("data", size), "data", Part::DataHeader),
                Ok(size)
            );
        }
    }

    #[test]
    fn every_changed_byte_is_refused() {
        let header = emit_header("manifest", 1234);
        for position in 0..header.len() {
            for flip in [0x01, 0x20, 0x80, 0xff] {
                let mut bad = header;
                bad[position] ^= flip;
                assert!(
                    check_header(&bad, "manifest", Part::ManifestHeader).is_err(),
                    "byte {position} with {flip:#x}"
                );
            }
        }
    }

    #[test]
    fn another_entry_in_its_place_is_named() {
        let header = emit_header("index", 4096);
        assert_eq!(
            check_header(&header, "signatures", Part::SignaturesHeader),
            Err(BundleInvalid::UnexpectedEntry {
                part: Part::SignaturesHeader
            })
        );
        assert!(check_header(&header[..511], "index", Part::IndexHeader).is_err());
        assert!(check_header(&[], "index", Part::IndexHeader).is_err());
    }

    #[test]
    fn padding_fills_the_block() {
        assert_eq!(padding_bytes(0), 0);
        assert_eq!(padding_bytes(1), 511);
        assert_eq!(padding_bytes(512), 0);
    }
}
