//! The seal: which composefs image a UKI's command line names.
//!
//! A UKI is a PE file (Microsoft PE/COFF, sections 2 to 4 of the specification); its `.cmdline` section holds the kernel command
//! line (UAPI.5). The sections are read by offset, a few bytes at a time, without allocation.
//!
//! # Invariants
//! - Exactly one `.cmdline` section and exactly one `composefs=` digest: a UKI with more than one meaning has none.

use crate::error::{BundleInvalid, Error, StorageError, UkiFault};
use crate::wire::digest::BlobDigest;

/// Longest command line that is read: what Linux keeps of one on x86 and arm64 (`COMMAND_LINE_SIZE` is 2,048, with the NUL).
pub const CMDLINE_MAX_BYTES: usize = 2047;

/// Most sections that are looked at. Stops a crafted section table from costing unbounded reads.
const SECTIONS_MAX_COUNT: u16 = 96;

const DOS_HEADER_BYTES: usize = 64;
const DOS_PE_OFFSET: usize = 60;
const COFF_BYTES: usize = 24;
const SECTION_BYTES: usize = 40;

/// Reads the composefs digest that the UKI seals; `read` reads exactly a buffer's bytes at an offset of the UKI, which has
/// `size` bytes.
///
/// # Errors
/// [`BundleInvalid::Uki`] says what is wrong with the UKI; errors of `read` are passed on.
pub fn sealed_digest<R>(size: u64, mut read: R) -> Result<BlobDigest, Error>
where
    R: FnMut(u64, &mut [u8]) -> Result<(), StorageError>,
{
    let (offset, length) = find_cmdline(size, &mut read)?;
    let mut buffer = [0; CMDLINE_MAX_BYTES];
    let cmdline = buffer
        .get_mut(..length)
        .ok_or(fault(UkiFault::CmdlineTooLong))?;
    read(offset, cmdline)?;
    seal_of_command_line(cmdline).ok_or(fault(UkiFault::Seal))
}

/// The one `composefs=` digest on a kernel command line: a word of its own, unquoted, and the only place where `composefs=`
/// stands, quoted or not, so that no two readers can see different ones. `None` otherwise. NULs and a line break at the end are
/// fine; anything behind a NUL is not.
pub fn seal_of_command_line(cmdline: &[u8]) -> Option<BlobDigest> {
    const KEY: &[u8] = b"composefs=";
    let end = cmdline
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(cmdline.len());
    let (line, rest) = cmdline.split_at_checked(end)?;
    if rest.iter().any(|byte| *byte != 0)
        || line
            .windows(KEY.len())
            .filter(|window| *window == KEY)
            .count()
            != 1
    {
        return None;
    }
    let mut quoted = false;
    let mut words = line.split(|byte| {
        quoted ^= *byte == b'"';
        !quoted && byte.is_ascii_whitespace()
    });
    words
        .find_map(|word| word.strip_prefix(KEY))
        .and_then(BlobDigest::from_hex)
}

/// Offset and length of the `.cmdline` section's content.
fn find_cmdline<R>(size: u64, read: &mut R) -> Result<(u64, usize), Error>
where
    R: FnMut(u64, &mut [u8]) -> Result<(), StorageError>,
{
    let mut within = |offset: u64, buffer: &mut [u8]| match offset.checked_add(buffer.len() as u64)
    {
        Some(end) if end <= size => read(offset, buffer).map_err(Error::from),
        _ => Err(fault(UkiFault::NotPe)),
    };
    let mut dos = [0; DOS_HEADER_BYTES];
    within(0, &mut dos)?;
    let pe = u64::from(u32_at(&dos, DOS_PE_OFFSET));
    let mut coff = [0; COFF_BYTES];
    within(pe, &mut coff)?;
    if !dos.starts_with(b"MZ") || !coff.starts_with(b"PE\0\0") {
        return Err(fault(UkiFault::NotPe));
    }
    let sections = u16_at(&coff, 6);
    if sections > SECTIONS_MAX_COUNT {
        return Err(fault(UkiFault::NotPe));
    }
    let table = pe + COFF_BYTES as u64 + u64::from(u16_at(&coff, 20));
    let mut found = None;
    for number in 0..u64::from(sections) {
        let mut section = [0; SECTION_BYTES];
        within(table + number * SECTION_BYTES as u64, &mut section)?;
        if section.starts_with(b".cmdline") {
            let length = u32_at(&section, 8).min(u32_at(&section, 16));
            if found
                .replace((u64::from(u32_at(&section, 20)), length))
                .is_some()
            {
                return Err(fault(UkiFault::Cmdline));
            }
        }
    }
    let (offset, length) = found.ok_or(fault(UkiFault::Cmdline))?;
    if offset + u64::from(length) > size {
        return Err(fault(UkiFault::NotPe));
    }
    Ok((offset, length as usize))
}

const fn fault(fault: UkiFault) -> Error {
    Error::BundleInvalid(BundleInvalid::Uki { fault })
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut value = [0; 4];
    if let Some(from) = bytes.get(offset..offset + 4) {
        value.copy_from_slice(from);
    }
    u32::from_le_bytes(value)
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    let mut value = [0; 2];
    if let Some(from) = bytes.get(offset..offset + 2) {
        value.copy_from_slice(from);
    }
    u16::from_le_bytes(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{format, string::String, vec, vec::Vec};

    /// A PE file with just what is read: headers, and sections with the given names and contents.
    fn pe(sections: &[(&[u8; 8], &[u8])]) -> Vec<u8> {
        let mut file = vec![0; 1024];
        file[..2].copy_from_slice(b"MZ");
        file[60] = 64;
        file[64..68].copy_from_slice(b"PE\0\0");
        file[70] = sections.len() as u8;
        for (number, (name, content)) in sections.iter().enumerate() {
            let offset = file.len() as u32;
            file.extend_from_slice(content);
            let entry = 88 + number * SECTION_BYTES;
            file[entry..entry + 8].copy_from_slice(*name);
            file[entry + 8..entry + 12].copy_from_slice(&(content.len() as u32).to_le_bytes());
            file[entry + 16..entry + 20].copy_from_slice(&(content.len() as u32).to_le_bytes());
            file[entry + 20..entry + 24].copy_from_slice(&offset.to_le_bytes());
        }
        file
    }

    fn seal(file: &[u8]) -> Result<BlobDigest, Error> {
        sealed_digest(file.len() as u64, |offset, buffer| {
            let start = offset as usize;
            buffer.copy_from_slice(&file[start..start + buffer.len()]);
            Ok(())
        })
    }

    fn line(words: &str) -> String {
        words.replace("HEX", &"ab".repeat(32))
    }

    #[test]
    fn finds_the_digest_among_sections() {
        let cmdline = line("quiet composefs=HEX rw");
        let file = pe(&[
            (b".osrel\0\0", b"x"),
            (b".cmdline", cmdline.as_bytes()),
            (b".linux\0\0", b"y"),
        ]);
        assert_eq!(seal(&file), Ok(BlobDigest::sha256([0xab; 32])));
    }

    #[test]
    fn more_than_one_meaning_is_none() {
        let good = line("composefs=HEX");
        let wrong = |sections: &[(&[u8; 8], &[u8])]| seal(&pe(sections)).unwrap_err();
        assert_eq!(wrong(&[]), fault(UkiFault::Cmdline));
        assert_eq!(
            wrong(&[
                (b".cmdline", good.as_bytes()),
                (b".cmdline", good.as_bytes())
            ]),
            fault(UkiFault::Cmdline)
        );
        for words in [
            "",
            "composefs=HEX composefs=HEX",
            "composefs=?HEX",
            "composefs=abc",
            "xcomposefs=HEX",
            "composefs=\"HEX\"",
            "\"composefs=HEX\"",
            "a=\"composefs=\" composefs=HEX",
            "composefs=HEX\0x",
            "a=\"b composefs=HEX\"",
        ] {
            assert_eq!(
                wrong(&[(b".cmdline", line(words).as_bytes())]),
                fault(UkiFault::Seal),
                "{words}"
            );
        }
        let long = format!("{} {good}", "x".repeat(CMDLINE_MAX_BYTES));
        assert_eq!(
            wrong(&[(b".cmdline", long.as_bytes())]),
            fault(UkiFault::CmdlineTooLong)
        );
        assert_eq!(
            seal_of_command_line(line("a=\"b c\" composefs=HEX\n\0\0").as_bytes()),
            Some(BlobDigest::sha256([0xab; 32]))
        );
    }

    #[test]
    fn every_truncation_and_wild_offsets_are_refused() {
        let file = pe(&[(b".cmdline", line("composefs=HEX").as_bytes())]);
        for end in 0..file.len() {
            assert!(seal(&file[..end]).is_err(), "{end} bytes");
        }
        for position in [60, 61, 62, 63, 70, 71, 84, 85, 108, 109, 110, 111] {
            let mut bad = file.clone();
            bad[position] = 0xff;
            let _ = seal(&bad);
        }
    }
}
