//! The tar archive around everything: headers, padding, end blocks.
//!
//! # Invariants
//! - Headers are core's canonical ones; an entry is exactly as long as its header says.

use std::io::{self, Read, Write};

use twinseal_core::wire::manifest::Manifest;
use twinseal_core::wire::tar::{BLOCK_BYTES, END_BYTES, emit_header, padding_bytes};

/// Writes one entry: header, content, padding. With files on both sides the system copies without the bytes passing through
/// this program.
///
/// # Errors
/// When reading or writing fails, or `content` is shorter than `size`.
pub fn write_entry<W: Write, R: Read>(
    out: &mut W,
    name: &str,
    size: u64,
    content: R,
) -> io::Result<()> {
    out.write_all(&emit_header(name, size))?;
    let copied = io::copy(&mut content.take(size), out)?;
    if copied != size {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the content of an entry ended too early",
        ));
    }
    let zeros = [0; BLOCK_BYTES];
    out.write_all(zeros.get(..padding_bytes(size) as usize).unwrap_or(&zeros))
}

/// Writes everything before the data.
///
/// # Errors
/// When writing fails.
pub fn write_front<W: Write>(
    out: &mut W,
    manifest: &Manifest,
    manifest_entry: &[u8],
    signatures_entry: &[u8],
    info: &[&[u8]],
    index: &[u8],
) -> io::Result<()> {
    write_entry(out, "manifest", manifest_entry.len() as u64, manifest_entry)?;
    write_entry(
        out,
        "signatures",
        signatures_entry.len() as u64,
        signatures_entry,
    )?;
    for (entry, content) in manifest.info.iter().zip(info) {
        write_entry(
            out,
            &format!("info/{}", entry.name),
            content.len() as u64,
            *content,
        )?;
    }
    write_entry(out, "index", index.len() as u64, index)
}

/// Writes the data entries, whose contents stand back to back in `data`.
///
/// # Errors
/// When reading or writing fails, or `data` is shorter than the parts.
pub fn write_data<W: Write, R>(out: &mut W, parts: &[u64], mut data: R) -> io::Result<()>
where
    R: Read,
{
    for (number, size) in parts.iter().enumerate() {
        let name = if number == 0 {
            "data".to_owned()
        } else {
            format!("data.{number}")
        };
        write_entry(out, &name, *size, &mut data)?;
    }
    Ok(())
}

/// Writes the blocks that end the archive.
///
/// # Errors
/// When writing fails.
pub fn write_end<W: Write>(out: &mut W) -> io::Result<()> {
    out.write_all(&[0; END_BYTES])
}
