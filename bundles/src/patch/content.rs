//! The bytes of a base blob, read in windows: in memory when they fit, otherwise in an unnamed temporary file.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::WINDOW_BYTES;
use crate::error::{Error, FileOperation};
use crate::read::{Bundle, IndexedBlob};

/// A base blob whose digest is right.
#[derive(Debug)]
pub enum BaseContent {
    /// All of it.
    Memory(Vec<u8>),
    /// A file that has it.
    File {
        /// The file.
        file: File,
        /// Size of the blob.
        bytes: u64,
    },
}

impl BaseContent {
    /// Reads a blob of a bundle.
    ///
    /// # Errors
    /// When it is damaged, or there is no room for a temporary file.
    pub fn read(bundle: &Bundle, blob: &IndexedBlob) -> Result<Self, Error> {
        let bytes = blob.blob.size;
        if bytes <= WINDOW_BYTES {
            return bundle.blob_bytes(blob, WINDOW_BYTES).map(Self::Memory);
        }
        let directory = std::env::temp_dir();
        let file = tempfile::tempfile().map_err(FileOperation::Create.on(&directory))?;
        let mut writer = std::io::BufWriter::new(&file);
        bundle.read_blob(blob, &mut writer, &directory)?;
        writer
            .flush()
            .map_err(FileOperation::Write.on(&directory))?;
        drop(writer);
        Ok(Self::File { file, bytes })
    }

    /// Size of the blob.
    pub const fn bytes(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { bytes, .. } => *bytes,
        }
    }

    /// Reads exactly `buffer` at `offset`.
    ///
    /// # Errors
    /// When the temporary file cannot be read, or ends before.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        match self {
            Self::Memory(bytes) => {
                let rest = usize::try_from(offset)
                    .ok()
                    .and_then(|offset| bytes.get(offset..));
                rest.unwrap_or_default().read_exact(buffer)
            }
            Self::File { file, .. } => file.read_exact_at(buffer, offset),
        }
    }

    /// A part of it, and where the part starts: at most [`WINDOW_BYTES`], with `offset` a quarter into it.
    ///
    /// # Errors
    /// When the temporary file cannot be read.
    pub fn window(&self, offset: u64) -> Result<(std::borrow::Cow<'_, [u8]>, u64), Error> {
        match self {
            Self::Memory(bytes) => Ok((bytes.into(), 0)),
            Self::File { bytes, .. } => {
                let length = WINDOW_BYTES.min(*bytes);
                let start = offset.saturating_sub(WINDOW_BYTES / 4).min(*bytes - length);
                let mut window = vec![0; length as usize];
                self.read_at(start, &mut window)
                    .map_err(FileOperation::Read.on(Path::new("a temporary file")))?;
                Ok((window.into(), start))
            }
        }
    }
}
