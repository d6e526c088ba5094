//! The index of a bundle: records from stored blobs, blocks from records.

use std::collections::HashSet;
use std::iter::repeat;

use sha2::{Digest, Sha256};
use twinseal_core::wire::digest::Sha256Digest;
use twinseal_core::wire::index::{
    Alternative, BLOCK_BYTES, Blob, Range, Record, Removed, Role, emit_block, set_next,
};
use twinseal_core::wire::manifest::Route;

use super::alternatives::Patches;
use super::base::BaseRelease;
use super::store::StoredBlob;

/// The records of the full route: every blob with its ranges, in the order of the data.
pub fn records(blobs: &[StoredBlob]) -> Vec<Record> {
    let mut records = Vec::new();
    for (blob, payload) in numbered(blobs) {
        push_blob(&mut records, blob, payload, None);
    }
    records
}

/// The records of the route from a base: every payload, the objects that the base has not, and among them, so that all ascend,
/// those that only the base has. Blobs that have a patch have it as their alternative.
pub fn records_from(blobs: &[StoredBlob], base: &BaseRelease, patches: &Patches) -> Vec<Record> {
    let objects = blobs
        .iter()
        .filter(|blob| blob.target.role() == Role::Object);
    let kept: HashSet<_> = objects.map(|object| object.digest.as_bytes()).collect();
    let mut removed = base
        .objects()
        .iter()
        .filter(|object| !kept.contains(object.digest.as_bytes()))
        .peekable();
    let mut records = Vec::new();
    let patches = patches.iter().map(Option::as_ref).chain(repeat(None));
    for ((blob, payload), patch) in numbered(blobs).zip(patches) {
        let role = blob.target.role();
        let before = |object: &&Removed| match role {
            Role::Object => object.digest.as_bytes() < blob.digest.as_bytes(),
            Role::Composefs => true,
            Role::Uki | Role::Image => false,
        };
        while let Some(object) = removed.next_if(before) {
            records.push(Record::Removed(*object));
        }
        if role != Role::Object || !base.has(&blob.digest) {
            push_blob(&mut records, blob, payload, patch);
        }
    }
    records
}

/// Every blob with the position of its payload in the manifest.
fn numbered(blobs: &[StoredBlob]) -> impl Iterator<Item = (&StoredBlob, u8)> {
    let payloads = blobs
        .iter()
        .filter(|blob| blob.target.role() != Role::Object)
        .count();
    // The composefs image is the last payload, and objects belong to it.
    let composefs = payloads.saturating_sub(1) as u8;
    let mut next = 0;
    blobs.iter().map(move |blob| {
        if blob.target.role() == Role::Object {
            return (blob, composefs);
        }
        next += 1;
        (blob, next - 1)
    })
}

fn push_blob(
    records: &mut Vec<Record>,
    blob: &StoredBlob,
    payload: u8,
    patch: Option<&(Alternative, Vec<Range>)>,
) {
    records.push(Record::Blob(Blob {
        role: blob.target.role(),
        payload,
        digest: blob.digest,
        size: blob.size,
        ranges: blob.ranges.len() as u32,
        stored_bytes: blob.stored_bytes(),
        alternatives: u16::from(patch.is_some()),
    }));
    records.extend(blob.ranges.iter().copied().map(Record::Range));
    if let Some((alternative, ranges)) = patch {
        records.push(Record::Alternative(*alternative));
        records.extend(ranges.iter().copied().map(Record::Range));
    }
}

/// The routes of an index, back to back: the full one, then one from each base, which has `patches` in the same order.
pub fn routes(
    blobs: &[StoredBlob],
    bases: &[BaseRelease],
    patches: &[Patches],
) -> (Vec<u8>, Vec<Route>) {
    let (mut blocks, full) = full_route(&records(blobs));
    let mut routes = vec![full];
    for (base, patches) in bases.iter().zip(patches) {
        let (more, route) = full_route(&records_from(blobs, base, patches));
        blocks.extend(more);
        routes.push(Route {
            base: Some(base.manifest_sha256),
            ..route
        });
    }
    (blocks, routes)
}

/// The blocks of a route, chained from the last to the first, and what the manifest says about it.
pub fn full_route(records: &[Record]) -> (Vec<u8>, Route) {
    let mut next = Sha256Digest::default();
    let mut blocks: Vec<[u8; BLOCK_BYTES]> = Vec::new();
    let mut rest = records;
    while !rest.is_empty() {
        let (block, count) = emit_block(rest, &next);
        rest = rest.get(count..).unwrap_or(&[]);
        blocks.push(block);
    }
    for block in blocks.iter_mut().rev() {
        set_next(block, &next);
        next = Sha256::digest(*block).into();
    }
    let route = Route {
        base: None,
        blocks: blocks.len() as u32,
        first_block: next,
    };
    (blocks.into_iter().flatten().collect(), route)
}
