//! Kernel modules and initramfs as they were before somebody compressed them.
//!
//! A change of one line changes every byte of a compressed file behind it; of the plain file it changes a line. So the sealed image
//! and the UKI get plain files: their ranges are compressed anyway, and patches become small.
//!
//! # Invariants
//! - What is given is exactly what a kernel would unpack. What cannot be unpacked for certain stays as it is.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;

// RFC 8878 section 3.1.1, RFC 1952 section 2.3.1, and the .xz format 1.2 section 2.1.1.1.
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const XZ_MAGIC: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];

/// Start of a cpio header of the forms that a kernel reads (`Documentation/driver-api/early-userspace/buffer-format.rst`).
const CPIO_MAGICS: [&[u8]; 2] = [b"070701", b"070702"];

/// Length of a cpio header, and where its sizes of file and name stand: eight hexadecimal digits each.
const CPIO_HEADER_BYTES: usize = 110;
const CPIO_FILE_BYTES: std::ops::Range<usize> = 54..62;
const CPIO_NAME_BYTES: std::ops::Range<usize> = 94..102;

/// Name of the entry that ends an archive.
const CPIO_TRAILER: &[u8] = b"TRAILER!!!\0";

/// To this everything in a cpio is aligned.
const CPIO_ALIGNMENT: usize = 4;

/// Start of an ELF file, which a kernel module is.
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// Most memory for an xz dictionary, in KiB: more than any kernel is given.
const XZ_MEMORY_KIBIBYTES: u32 = 256 * 1024;

/// A reader of what `content` was before it was compressed, when it is compressed in a form that is known.
fn decoder<'c, R: Read + 'c>(head: &[u8], content: R) -> io::Result<Option<Box<dyn Read + 'c>>> {
    Ok(if head.starts_with(ZSTD_MAGIC) {
        Some(Box::new(zstd::stream::read::Decoder::new(content)?))
    } else if head.starts_with(GZIP_MAGIC) {
        Some(Box::new(MultiGzDecoder::new(content)))
    } else if head.starts_with(XZ_MAGIC) {
        let reader = XzReader::new_mem_limit(content, true, XZ_MEMORY_KIBIBYTES);
        Some(Box::new(reader))
    } else {
        None
    })
}

/// All of a reader, unless it is longer than `limit_bytes`.
fn read_limited(reader: impl Read, limit_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let mut plain = Vec::new();
    reader.take(limit_bytes + 1).read_to_end(&mut plain)?;
    Ok(Some(plain).filter(|plain| plain.len() as u64 <= limit_bytes))
}

/// A kernel module without its compression; `None` when it has none, or is no module.
///
/// # Errors
/// When it is compressed, and damaged.
pub fn module(content: &[u8], limit_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(reader) = decoder(content, content)? else {
        return Ok(None);
    };
    let plain = read_limited(reader, limit_bytes)?;
    Ok(plain.filter(|plain| plain.starts_with(ELF_MAGIC)))
}

/// An initramfs without its compression: archives that are plain already stay, and the compressed one at the end is unpacked. One
/// that has no compression, or a form that is not read here, is given back.
pub fn initramfs(content: Vec<u8>, limit_bytes: u64) -> Vec<u8> {
    let plain_bytes = plain_archives(&content);
    let Some((before, compressed)) = content.split_at_checked(plain_bytes) else {
        return content;
    };
    let unpacked = decoder(compressed, compressed)
        .and_then(|reader| reader.map_or(Ok(None), |reader| read_limited(reader, limit_bytes)));
    match unpacked {
        Ok(Some(unpacked)) if is_cpio(&unpacked) => {
            let mut plain = before.to_vec();
            // A kernel passes over zeros between archives.
            plain.resize(plain.len().next_multiple_of(CPIO_ALIGNMENT), 0);
            plain.extend(unpacked);
            plain
        }
        Ok(_) | Err(_) => content,
    }
}

fn is_cpio(content: &[u8]) -> bool {
    CPIO_MAGICS.iter().any(|magic| content.starts_with(magic))
}

/// How many bytes of plain archives, and zeros between and after them, stand at the start.
fn plain_archives(content: &[u8]) -> usize {
    let mut done = 0;
    loop {
        let rest = content.get(done..).unwrap_or_default();
        if is_cpio(rest) {
            match archive_bytes(rest) {
                Some(bytes) => done += bytes,
                None => return done,
            }
        } else {
            let zeros = rest.iter().take_while(|byte| **byte == 0).count();
            if zeros == 0 {
                return done;
            }
            done += zeros;
        }
    }
}

/// Length of the cpio at the start, its trailer included.
fn archive_bytes(content: &[u8]) -> Option<usize> {
    let mut done = 0;
    loop {
        let entry = content.get(done..)?;
        let header = entry
            .get(..CPIO_HEADER_BYTES)
            .filter(|header| is_cpio(header))?;
        let number = |field: std::ops::Range<usize>| {
            let digits = std::str::from_utf8(header.get(field)?).ok()?;
            usize::try_from(u32::from_str_radix(digits, 16).ok()?).ok()
        };
        let (name_bytes, file_bytes) = (number(CPIO_NAME_BYTES)?, number(CPIO_FILE_BYTES)?);
        let name = entry.get(CPIO_HEADER_BYTES..)?.get(..name_bytes)?;
        let content_at = (CPIO_HEADER_BYTES + name_bytes).next_multiple_of(CPIO_ALIGNMENT);
        let bytes = (content_at + file_bytes).next_multiple_of(CPIO_ALIGNMENT);
        done += bytes;
        if name == CPIO_TRAILER {
            return Some(done.min(content.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const LIMIT: u64 = 1 << 20;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(content: &[u8]) -> Vec<u8> {
        let options = lzma_rust2::XzOptions::with_preset(6);
        let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        writer.write_all(content).unwrap();
        writer.finish().unwrap()
    }

    fn zstd(content: &[u8]) -> Vec<u8> {
        zstd::encode_all(content, 3).unwrap()
    }

    /// A cpio with one file.
    fn cpio(name: &str, content: &[u8]) -> Vec<u8> {
        let mut archive = Vec::new();
        for (name, content) in [(name, content), ("TRAILER!!!", b"")] {
            let sizes = (content.len(), name.len() + 1);
            archive.extend(
                format!(
                    "070701{:048}{:08x}{:032}{:08x}{:08}",
                    0, sizes.0, 0, sizes.1, 0
                )
                .bytes(),
            );
            archive.extend_from_slice(name.as_bytes());
            archive.push(0);
            archive.resize(archive.len().next_multiple_of(4), 0);
            archive.extend_from_slice(content);
            archive.resize(archive.len().next_multiple_of(4), 0);
        }
        archive
    }

    #[test]
    fn modules_are_unpacked_from_every_form_that_kernels_know() {
        let plain = [ELF_MAGIC, &[7; 5000]].concat();
        for compressed in [gzip(&plain), xz(&plain), zstd(&plain)] {
            assert_eq!(module(&compressed, LIMIT).unwrap(), Some(plain.clone()));
            assert_eq!(module(&compressed, 5000).unwrap(), None, "too long");
            let torn = &compressed[..compressed.len() - 9];
            assert!(module(torn, LIMIT).is_err());
        }
        assert_eq!(module(&plain, LIMIT).unwrap(), None, "not compressed");
        assert_eq!(module(&xz(b"a text"), LIMIT).unwrap(), None, "no module");
        assert_eq!(module(b"", LIMIT).unwrap(), None);
    }

    #[test]
    fn the_last_archive_of_an_initramfs_is_unpacked_and_those_before_stay() {
        let (early, main) = (cpio("microcode", &[5; 333]), cpio("init", b"#!/bin/sh\n"));
        let mut padded = early.clone();
        padded.resize(padded.len().next_multiple_of(512), 0);
        for compressed in [gzip(&main), xz(&main), zstd(&main)] {
            assert_eq!(initramfs(compressed.clone(), LIMIT), main);
            let both = [&padded[..], &compressed].concat();
            assert_eq!(initramfs(both, LIMIT), [&padded[..], &main].concat());
        }
    }

    #[test]
    fn what_is_plain_or_strange_stays_as_it_is() {
        let plain = cpio("init", b"x");
        let lz4 = [0x02, 0x21, 0x4c, 0x18, 1, 2, 3].to_vec();
        let behind = [zstd(&plain), b"and more".to_vec()].concat();
        let torn = plain[..100].to_vec();
        for content in [plain, lz4, behind, torn, gzip(b"no archive"), Vec::new()] {
            assert_eq!(initramfs(content.clone(), LIMIT), content);
        }
    }
}
