//! What an update costs a device that runs a known release: the bytes of the bundle that it asks for.
//!
//! # Invariants
//! - The way of every blob is chosen as a device chooses it: what it has, then the cheapest of its patches and of the whole blob with a request.

use std::collections::HashSet;

use serde::Serialize;
use sha2::{Digest, Sha256};
use twinseal_core::install::RUN_GAP_BYTES;
use twinseal_core::wire::index::{BLOCK_BYTES, METHOD_PATCH};
use twinseal_core::wire::tar::{BLOCK_BYTES as TAR_BLOCK_BYTES, END_BYTES, padding_bytes};

use crate::error::Error;
use crate::read::{Bundle, IndexedBlob};

/// Bytes of a bundle that a device reads, without an audit. The field names are those of the JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UpdateCost {
    /// Manifest, signatures, headers and padding (`docs/format.md`, section 12).
    pub front_bytes: u64,
    /// Blocks of the route that is followed.
    pub index_bytes: u64,
    /// Blobs that are fetched whole.
    pub whole: u64,
    /// Their stored bytes.
    pub whole_bytes: u64,
    /// Blobs that are patched.
    pub patched: u64,
    /// Stored bytes of the patches.
    pub patch_bytes: u64,
    /// Runs of the data that are read, a gap between them: about the number of requests.
    pub runs: u64,
}

impl UpdateCost {
    /// All bytes.
    pub const fn bytes(&self) -> u64 {
        self.front_bytes + self.index_bytes + self.whole_bytes + self.patch_bytes
    }

    /// What updating from `old` to `new` costs.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn between(old: &Bundle, new: &Bundle) -> Result<Self, Error> {
        let index = old.index()?;
        let held: HashSet<_> = index.iter().map(key).collect();
        let base: [u8; 32] = Sha256::digest(old.manifest_entry()).into();
        let routes = &new.manifest().routes;
        let number = routes.iter().position(|route| route.base == Some(base));
        let number = number.unwrap_or(0);
        let blocks = routes.get(number).map_or(0, |route| route.blocks);
        let mut cost = Self {
            front_bytes: front_bytes(new),
            index_bytes: u64::from(blocks) * BLOCK_BYTES as u64,
            ..Self::default()
        };
        let mut next = None;
        for blob in new.route(number)?.0 {
            if !held.contains(&key(&blob)) && blob.blob.size > 0 {
                cost.add(&blob, &held, &mut next);
            }
        }
        Ok(cost)
    }

    /// `next` is where the data goes on.
    fn add(&mut self, blob: &IndexedBlob, held: &HashSet<(u8, Vec<u8>)>, next: &mut Option<u64>) {
        let patches = blob.alternatives.iter().filter(|(alternative, _)| {
            let base = alternative.base_digest.as_bytes().to_vec();
            alternative.method == METHOD_PATCH
                && held.contains(&(alternative.base_role as u8, base))
        });
        let patch = patches
            .min_by_key(|(alternative, _)| alternative.stored_bytes)
            .filter(|(alternative, _)| {
                alternative.stored_bytes < blob.blob.stored_bytes.saturating_add(RUN_GAP_BYTES)
            });
        let ranges = match patch {
            Some((alternative, ranges)) => {
                self.patched += 1;
                self.patch_bytes = self.patch_bytes.saturating_add(alternative.stored_bytes);
                ranges
            }
            None => {
                self.whole += 1;
                self.whole_bytes = self.whole_bytes.saturating_add(blob.blob.stored_bytes);
                &blob.ranges
            }
        };
        for range in ranges {
            self.runs += u64::from(*next != Some(range.stored_offset));
            *next = Some(
                range
                    .stored_offset
                    .saturating_add(u64::from(range.stored_bytes)),
            );
        }
    }
}

fn key(blob: &IndexedBlob) -> (u8, Vec<u8>) {
    (blob.blob.role as u8, blob.blob.digest.as_bytes().to_vec())
}

/// Everything that is neither index blocks nor data, without what an audit reads besides.
fn front_bytes(bundle: &Bundle) -> u64 {
    let layout = bundle.layout();
    let (manifest, signatures) = (layout.content(0).size, layout.content(1).size);
    let before_index = layout.content(layout.index_entry() - 1).size;
    let parts = &bundle.manifest().data_parts;
    let headers = (3 + parts.len() as u64) * TAR_BLOCK_BYTES as u64;
    let padding: u64 = parts.iter().map(|part| padding_bytes(*part)).sum();
    headers
        + manifest
        + padding_bytes(manifest)
        + signatures
        + padding_bytes(before_index)
        + padding
        + END_BYTES as u64
}
