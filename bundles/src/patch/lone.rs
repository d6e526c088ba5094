//! Whole blobs that lie alone in the data, put among the patches: a device fetches those in one run, and pays a request for each
//! place beside it.
//!
//! Such a copy is a patch that takes nothing from its base. It costs a device its records, a request costs more
//! (`docs/decisions/0032-a-lone-blob-lies-among-the-patches.md`).
//!
//! # Invariants
//! - A blob whose neighbours are fetched with it is not copied, so a release in which everything is new does not grow.

use std::collections::BTreeMap;

use super::matches::Operations;
use super::ranges::{RangeEncoder, Window};
use super::{Patch, Update, records_bytes};
use crate::error::{Error, FileOperation};
use std::io::Read;
use std::path::Path;
use twinseal_core::install::RUN_GAP_BYTES;
use twinseal_core::wire::index::Role;

/// Neighbours that are copied together at most: from here on their records cost as much as a request.
const NEIGHBOURS_MAX: usize = (RUN_GAP_BYTES / records_bytes(2)) as usize - 1;

/// Larger blobs are not stored twice: a request is little beside them.
const COPY_MAX_BYTES: u64 = 64 * 1024;

/// The blobs of a batch that have no patch and whose copies are worth it: neighbours in the data are neighbours in the plan.
pub fn lone(update: &Update<'_>, patches: &BTreeMap<usize, Option<Patch>>) -> Vec<usize> {
    let whole: Vec<usize> = patches
        .iter()
        .filter(|(_, patch)| patch.is_none())
        .map(|(blob, _)| *blob)
        .collect();
    let runs = whole.chunk_by(|one, next| one + 1 == *next);
    let short = runs.filter(|run| run.len() <= NEIGHBOURS_MAX);
    let is_small = |blob: &usize| {
        update.stored.get(*blob).is_some_and(|stored| {
            stored.target.role() == Role::Object && stored.size <= COPY_MAX_BYTES
        })
    };
    short.flatten().copied().filter(is_small).collect()
}

/// A blob as a patch of any object of the base; `None` when the base has none.
pub fn copy_of(
    update: &Update<'_>,
    blob: usize,
    encoder: &mut RangeEncoder,
) -> Result<Option<Patch>, Error> {
    let mut index = update.base.index().iter();
    let base = index.find(|indexed| indexed.blob.role == Role::Object);
    let (Some(base), Some(plan)) = (base, update.blobs.get(blob)) else {
        return Ok(None);
    };
    let mut new = Vec::new();
    plan.open()?
        .read_to_end(&mut new)
        .map_err(FileOperation::Read.on(Path::new(&plan.describe())))?;
    let (mut operations, nothing) = (
        Operations::default(),
        Window {
            bytes: &[],
            offset: 0,
        },
    );
    operations.find(nothing.bytes, 0, &new);
    let ranges = encoder.encode(&operations, nothing, &new);
    Ok(ranges.map_err(Error::Compress)?.map(|ranges| Patch {
        base: base.blob,
        ranges,
    }))
}
