//! The data of a bundle as it grows: ranges back to back, in parts.
//!
//! # Invariants
//! - A part ends before it would be longer than its limit, and no range crosses from one part into the next.
//! - What the ranges need to be read is noted from the ranges themselves.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use twinseal_core::wire::digest::Sha256Digest;
use twinseal_core::wire::index::Range;
use twinseal_core::wire::manifest::Needs;

use super::encode::Encoded;
use super::store::Stored;
use crate::error::{Error, FileOperation};

/// The only range of a blob, or of its patch, has no digest of what it gives: that is the blob's.
pub(super) fn whole_has_no_digest(ranges: &mut [Range]) {
    if let [range] = ranges {
        range.raw_sha256 = Sha256Digest::default();
    }
}

/// Writes ranges back to back.
pub(super) struct DataWriter<'d> {
    data: BufWriter<&'d File>,
    path: &'d Path,
    part_max_bytes: u64,
    parts: Vec<u64>,
    needs: Needs,
    offset: u64,
}

impl<'d> DataWriter<'d> {
    /// A writer to `data`, which is empty.
    pub fn new(data: &'d File, path: &'d Path, part_max_bytes: u64) -> Self {
        Self {
            data: BufWriter::with_capacity(1024 * 1024, data),
            path,
            part_max_bytes,
            parts: Vec::new(),
            needs: Needs {
                range_bytes: 0,
                zstd_window_log: 0,
            },
            offset: 0,
        }
    }

    /// A writer to `data`, which stands behind what `stored` says.
    pub fn after(stored: &Stored, data: &'d File, path: &'d Path, part_max_bytes: u64) -> Self {
        Self {
            parts: stored.parts.clone(),
            needs: stored.needs,
            offset: stored.parts.iter().sum(),
            ..Self::new(data, path, part_max_bytes)
        }
    }

    /// Writes a range, which gives the bytes of its blob from `raw_offset` on.
    pub fn push(&mut self, encoded: &Encoded, raw_offset: u64) -> Result<Range, Error> {
        self.data
            .write_all(&encoded.stored)
            .map_err(FileOperation::Write.on(self.path))?;
        let stored_bytes = encoded.stored.len() as u32;
        match self.parts.last_mut() {
            Some(part) if *part + u64::from(stored_bytes) <= self.part_max_bytes => {
                *part += u64::from(stored_bytes)
            }
            _ => self.parts.push(u64::from(stored_bytes)),
        }
        let range = Range {
            encoding: encoded.encoding,
            raw_offset,
            raw_bytes: encoded.raw_bytes,
            stored_offset: self.offset,
            stored_bytes,
            stored_sha256: encoded.stored_sha256,
            raw_sha256: encoded.raw_sha256,
        };
        self.offset += u64::from(stored_bytes);
        self.needs.range_bytes = self.needs.range_bytes.max(stored_bytes);
        self.needs.zstd_window_log = self.needs.zstd_window_log.max(encoded.window_log);
        Ok(range)
    }

    /// The parts, and what a device needs to read them.
    pub fn finish(mut self) -> Result<(Vec<u64>, Needs), Error> {
        self.data
            .flush()
            .map_err(FileOperation::Write.on(self.path))?;
        Ok((self.parts, self.needs))
    }
}
