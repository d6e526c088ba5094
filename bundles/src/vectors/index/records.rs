//! Blobs that do not fit the manifest, and bytes of the index that mean nothing.

use sha2::{Digest, Sha256};
use twinseal_core::error::{BundleInvalid, RecordFault};
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::{BLOCK_BYTES, BLOCK_HEADER_BYTES, Blob, Block, Cursor, Role};
use twinseal_core::wire::manifest::PayloadKind;

use super::{blobs_mut, by_blob, fault, has_role, ranges_mut, retile};
use crate::vectors::good::base_route;
use crate::vectors::{Base, Vector, first_key, flip, refused};

pub(super) fn payloads(base: &Base<'_>) -> Vec<Vector> {
    let objects = |change: fn(&mut u32, &mut u64)| {
        base.with_manifest(|manifest| {
            for payload in &mut manifest.payloads {
                if let PayloadKind::Composefs {
                    objects,
                    object_bytes,
                } = &mut payload.kind
                {
                    change(objects, object_bytes);
                }
            }
        })
    };
    let first = |change: fn(&mut Blob)| {
        base.with_records(|records| blobs_mut(records).take(1).for_each(change))
    };
    vec![
        refused(
            "objects-missing",
            "the manifest counts one object more than the index has",
            fault(RecordFault::Payload),
            objects(|count, _| *count += 1),
        ),
        refused(
            "objects-surplus",
            "the manifest counts one object less than the index has",
            fault(RecordFault::Payload),
            objects(|count, _| *count -= 1),
        ),
        refused(
            "object-bytes",
            "the manifest states other bytes of objects than the index",
            fault(RecordFault::Payload),
            objects(|_, bytes| *bytes += 1),
        ),
        refused(
            "payload-unknown",
            "a blob belongs to a payload that is not there",
            fault(RecordFault::Payload),
            first(|blob| blob.payload = 9),
        ),
        refused(
            "payload-other",
            "a blob belongs to a payload of another kind",
            fault(RecordFault::Payload),
            first(|blob| blob.payload = 1),
        ),
        refused(
            "payload-digest",
            "the UKI has another digest in the index than in the manifest",
            fault(RecordFault::Payload),
            first(|blob| {
                blob.digest = BlobDigest::sha256([0xee; 32]);
            }),
        ),
        refused(
            "payload-missing",
            "the index lacks the image",
            fault(RecordFault::Payload),
            base.with_draft(|draft| {
                let mut blobs = by_blob(&draft.records);
                blobs.retain(|blob| !has_role(blob, Role::Image));
                draft.records = blobs.concat();
                retile(draft);
            }),
        ),
        refused(
            "payload-role",
            "the image's blob calls itself an object",
            fault(RecordFault::Payload),
            base.with_records(|records| {
                blobs_mut(records)
                    .filter(|blob| blob.role == Role::Image)
                    .for_each(|blob| blob.role = Role::Object);
            }),
        ),
        refused(
            "needs-understated",
            "a range is larger than the manifest says that it needs",
            fault(RecordFault::Size),
            base.with_manifest(|manifest| {
                manifest.needs.range_bytes -= 1;
            }),
        ),
        refused(
            "needs-no-window",
            "a range is zstd, and the manifest needs no zstd",
            fault(RecordFault::Size),
            base.with_manifest(|manifest| {
                manifest.needs.zstd_window_log = 0;
            }),
        ),
    ]
}

pub(super) fn bytes(base: &Base<'_>) -> Vec<Vector> {
    // The first record is the UKI's blob, the second its range; the head of each is its first byte.
    let blob = BLOCK_HEADER_BYTES;
    let range = second_record(base);
    let head = |kind: u8, role: u8, high: u8| kind | role << 3 | high << 6;
    let set = |name, what, refusal, position: usize, value: u8| {
        refused(
            name,
            what,
            fault(refusal),
            with_block(base, |block| {
                block.splice(position..=position, [value]).for_each(drop)
            }),
        )
    };
    vec![
        set(
            "record-kind",
            "a record is of an unknown kind",
            RecordFault::Kind,
            blob,
            head(5, 1, 1),
        ),
        set(
            "record-role",
            "a blob has an unknown role",
            RecordFault::Role,
            blob,
            head(1, 7, 1),
        ),
        set(
            "record-digest",
            "a blob has a digest of an unknown algorithm",
            RecordFault::Digest,
            blob,
            head(1, 1, 3),
        ),
        refused(
            "record-number",
            "a number is longer than it must be",
            fault(RecordFault::Reserved),
            with_block(base, |block| {
                // The number of ranges of the UKI, behind head and payload: a byte more, and one of the zeros at the end less.
                let ranges = block.get(blob + 2).copied().unwrap_or(0);
                block
                    .splice(blob + 2..blob + 3, [ranges | 0x80, 0])
                    .for_each(drop);
                block.truncate(BLOCK_BYTES);
            }),
        ),
        set(
            "record-encoding",
            "a range has an unknown encoding",
            RecordFault::Encoding,
            range,
            head(3, 7, 0),
        ),
        set(
            "record-flag",
            "a range has a flag that means nothing yet",
            RecordFault::Reserved,
            range,
            head(3, 2, 2),
        ),
        refused(
            "record-oversize",
            "a range is larger than the format allows",
            fault(RecordFault::Size),
            base.with_records(|records| {
                ranges_mut(records)
                    .take(1)
                    .for_each(|range| range.stored_bytes = u32::MAX);
            }),
        ),
        refused(
            "range-digest-surplus",
            "a range that gives its whole blob has a digest besides the blob's",
            fault(RecordFault::Digest),
            base.with_records(|records| {
                ranges_mut(records)
                    .filter(|range| !range.has_raw_sha256())
                    .take(1)
                    .for_each(|range| range.raw_sha256 = range.stored_sha256);
            }),
        ),
        refused(
            "range-digest-missing",
            "a range that gives a part of its blob has no digest of it",
            fault(RecordFault::Digest),
            base.with_records(|records| {
                ranges_mut(records)
                    .filter(|range| range.has_raw_sha256())
                    .take(1)
                    .for_each(|range| range.raw_sha256 = [0; 32]);
            }),
        ),
        refused(
            "range-empty",
            "a range has no bytes",
            fault(RecordFault::Size),
            base.with_records(|records| {
                ranges_mut(records)
                    .take(1)
                    .for_each(|range| range.raw_bytes = 0);
            }),
        ),
        refused(
            "blob-huge",
            "a blob is larger than the format allows",
            fault(RecordFault::Size),
            base.with_records(|records| {
                blobs_mut(records)
                    .take(1)
                    .for_each(|blob| blob.size = 1 << 60);
            }),
        ),
        set(
            "block-empty",
            "a block says that it has no records",
            RecordFault::Block,
            32,
            0,
        ),
        set(
            "block-overfull",
            "a block says that it has more records than there are",
            RecordFault::Kind,
            32,
            200,
        ),
        set(
            "block-unused",
            "a byte behind the last record of a block is not zero",
            RecordFault::Block,
            BLOCK_BYTES - 1,
            1,
        ),
        set(
            "block-goes-on",
            "the last block names a next one",
            RecordFault::Order,
            0,
            1,
        ),
        refused(
            "block-damaged",
            "a byte of the index was changed after signing",
            BundleInvalid::IndexBlock { block: 0 },
            with_index_entry(base, |index| flip(index, 100)),
        ),
        Vector {
            audit_only: true,
            ..refused(
                "base-route-damaged",
                "a byte of a route for a base release was changed after signing",
                BundleInvalid::IndexBlock { block: 0 },
                base_route(base, |block| flip(block, BLOCK_BYTES - 1)),
            )
        },
    ]
}

/// Where the second record of the index stands in its block.
fn second_record(base: &Base<'_>) -> usize {
    let framed = base.draft.clone().index();
    let mut cursor = Cursor::new();
    if let Some(block) = framed.blocks.first_chunk() {
        // The good bundle's index is good.
        let _ = Block::new(block).record(&mut cursor);
    }
    cursor.position()
}

/// The bundle with another last block, and the manifest's digest of it right.
fn with_block(base: &Base<'_>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut framed = base.draft.clone().index();
    change(&mut framed.blocks);
    let digest = Sha256::digest(&framed.blocks).into();
    framed
        .manifest
        .routes
        .iter_mut()
        .for_each(|route| route.first_block = digest);
    framed.signed_by(&[&first_key()])
}

/// The bundle with another index, and everything else as it was.
fn with_index_entry(base: &Base<'_>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut framed = base.draft.clone().index();
    change(&mut framed.blocks);
    framed.signed_by(&[&first_key()])
}
