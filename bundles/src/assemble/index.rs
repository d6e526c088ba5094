//! The index of a bundle: records from stored blobs, blocks from records.

use sha2::{Digest, Sha256};
use twinseal_core::wire::digest::Sha256Digest;
use twinseal_core::wire::index::{BLOCK_BYTES, Blob, RECORDS_PER_BLOCK, Record, Role, emit_block};
use twinseal_core::wire::manifest::Route;

use super::store::StoredBlob;

/// The records of the full route: every blob with its ranges, in the order of the data.
pub fn records(blobs: &[StoredBlob]) -> Vec<Record> {
    let payloads = blobs
        .iter()
        .filter(|blob| blob.target.role() != Role::Object)
        .count();
    // The composefs image is the last payload, and objects belong to it.
    let composefs = payloads.saturating_sub(1) as u8;
    let mut payload = 0;
    let mut records = Vec::new();
    for blob in blobs {
        let role = blob.target.role();
        records.push(Record::Blob(Blob {
            role,
            payload: if role == Role::Object {
                composefs
            } else {
                payload
            },
            digest: blob.digest,
            size: blob.size,
            ranges: blob.ranges.len() as u32,
            stored_bytes: blob
                .ranges
                .iter()
                .map(|range| u64::from(range.stored_bytes))
                .sum(),
            alternatives: 0,
        }));
        records.extend(blob.ranges.iter().copied().map(Record::Range));
        payload += u8::from(role != Role::Object);
    }
    records
}

/// The blocks of a route, chained from the last to the first, and what the manifest says about it.
pub fn full_route(records: &[Record]) -> (Vec<u8>, Route) {
    let mut next = Sha256Digest::default();
    let mut blocks: Vec<[u8; BLOCK_BYTES]> =
        Vec::with_capacity(records.len().div_ceil(RECORDS_PER_BLOCK));
    for run in records.chunks(RECORDS_PER_BLOCK).rev() {
        let block = emit_block(run, &next);
        next = Sha256::digest(block).into();
        blocks.push(block);
    }
    let route = Route {
        base: None,
        blocks: blocks.len() as u32,
        first_block: next,
    };
    (blocks.into_iter().rev().flatten().collect(), route)
}
