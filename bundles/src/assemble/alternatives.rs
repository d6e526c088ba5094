//! The patches from base releases, behind the whole blobs: those of one base together, in the order of its route.
//!
//! # Invariants
//! - The data is: the whole blobs; then for each base, in order, one run of all its patches.

use std::fs::File;
use std::path::Path;

use twinseal_core::wire::index::{Alternative, METHOD_PATCH, Range};

use super::plan::Plan;
use super::store::{Stored, stored_bytes};
use super::writer::{DataWriter, whole_has_no_digest};
use crate::error::Error;
use crate::patch::{Patch, Update, Watch};

/// The patches of one base: for each blob of the plan its patch, if there is one.
pub type Patches = Vec<Option<(Alternative, Vec<Range>)>>;

/// Makes the patches of all bases, and writes them to `data`, which stands behind the whole blobs in `stored`.
///
/// # Errors
/// When a blob or a base cannot be read, or the data not written.
pub fn store_patches(
    plan: &Plan<'_>,
    stored: &mut Stored,
    part_max_bytes: u64,
    data: &File,
    path: &Path,
    watch: Watch<'_>,
) -> Result<Vec<Patches>, Error> {
    let mut writer = DataWriter::after(stored, data, path, part_max_bytes);
    let mut all = Vec::with_capacity(plan.bases.len());
    for (number, base) in plan.bases.iter().enumerate() {
        let update = Update {
            blobs: &plan.blobs,
            stored: &stored.blobs,
            base,
            encoding: plan.encoding,
        };
        let mut patches: Patches = vec![None; plan.blobs.len()];
        update.patches(number, watch, |blob, patch| {
            let written = write(&patch, &mut writer)?;
            patches
                .iter_mut()
                .skip(blob)
                .take(1)
                .for_each(|place| *place = Some(written.clone()));
            Ok(())
        })?;
        all.push(patches);
    }
    (stored.parts, stored.needs) = writer.finish()?;
    Ok(all)
}

fn write(patch: &Patch, writer: &mut DataWriter<'_>) -> Result<(Alternative, Vec<Range>), Error> {
    let (mut ranges, mut raw_offset) = (Vec::with_capacity(patch.ranges.len()), 0);
    for encoded in &patch.ranges {
        ranges.push(writer.push(encoded, raw_offset)?);
        raw_offset += u64::from(encoded.raw_bytes);
    }
    whole_has_no_digest(&mut ranges);
    let alternative = Alternative {
        method: METHOD_PATCH,
        base_role: patch.base.role,
        base_digest: patch.base.digest,
        base_size: patch.base.size,
        ranges: ranges.len() as u32,
        stored_bytes: stored_bytes(&ranges),
    };
    Ok((alternative, ranges))
}
