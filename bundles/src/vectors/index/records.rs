//! Blobs that do not fit the manifest, and bytes of the index that mean nothing.

use sha2::{Digest, Sha256};
use twinseal_core::error::{BundleInvalid, RecordFault};
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::{BLOCK_BYTES, BLOCK_HEADER_BYTES, Blob, RECORD_BYTES, Role};
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
    // The first record is the UKI's blob, the second its range.
    let blob = BLOCK_HEADER_BYTES;
    let range = blob + RECORD_BYTES;
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
            9,
        ),
        set(
            "record-role",
            "a blob has an unknown role",
            RecordFault::Role,
            blob + 1,
            9,
        ),
        set(
            "record-digest",
            "a blob has a digest of an unknown algorithm",
            RecordFault::Digest,
            blob + 3,
            9,
        ),
        set(
            "record-reserved",
            "a reserved byte of a record is not zero",
            RecordFault::Reserved,
            blob + 27,
            1,
        ),
        set(
            "record-encoding",
            "a range has an unknown encoding",
            RecordFault::Encoding,
            range + 1,
            9,
        ),
        set(
            "record-flag",
            "a range has a flag that means nothing yet",
            RecordFault::Reserved,
            range + 2,
            1,
        ),
        set(
            "record-oversize",
            "a range is larger than the format allows",
            RecordFault::Size,
            range + 27,
            1,
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
            "a block says that it has more records than fit",
            RecordFault::Block,
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
