//! Indexes that break the grammar. All are signed: the digests of their blocks are right.

mod records;

use twinseal_core::error::{BundleInvalid, RecordFault};
use twinseal_core::wire::index::{Alternative, Blob, Range, Record, Role};

use super::draft::{Draft, Recipe};
use super::good::patched;
use super::{Base, Vector, first_key, refused};
use crate::assemble::Compression;
use crate::error::Error;

pub(super) fn vectors(base: &Base<'_>) -> Vec<Vector> {
    let mut vectors = orders(base);
    vectors.extend(tilings(base));
    vectors.extend(records::payloads(base));
    vectors.extend(records::bytes(base));
    vectors
}

/// The blobs among the records.
pub(super) fn blobs_mut(records: &mut [Record]) -> impl Iterator<Item = &mut Blob> {
    records.iter_mut().filter_map(|record| match record {
        Record::Blob(blob) => Some(blob),
        Record::Range(_) | Record::Alternative(_) | Record::Removed(_) => None,
    })
}

/// The ranges among the records.
pub(super) fn ranges_mut(records: &mut [Record]) -> impl Iterator<Item = &mut Range> {
    records.iter_mut().filter_map(|record| match record {
        Record::Range(range) => Some(range),
        Record::Blob(_) | Record::Alternative(_) | Record::Removed(_) => None,
    })
}

fn fault(fault: RecordFault) -> BundleInvalid {
    BundleInvalid::IndexRecord { block: 0, fault }
}

/// The records blob by blob.
fn by_blob(records: &[Record]) -> Vec<Vec<Record>> {
    let mut blobs: Vec<Vec<Record>> = Vec::new();
    for record in records {
        match blobs.last_mut() {
            Some(blob) if !matches!(record, Record::Blob(_)) => blob.push(*record),
            _ => blobs.push(vec![*record]),
        }
    }
    blobs
}

fn has_role(blob: &[Record], role: Role) -> bool {
    matches!(blob.first(), Some(Record::Blob(blob)) if blob.role == role)
}

/// Brings the data into the order of the records, so that their order is the only fault.
fn retile(draft: &mut Draft) {
    let old = std::mem::take(&mut draft.data);
    for range in ranges_mut(&mut draft.records) {
        let stored = old
            .get(range.stored_offset as usize..)
            .and_then(|rest| rest.get(..range.stored_bytes as usize));
        range.stored_offset = draft.data.len() as u64;
        draft.data.extend_from_slice(stored.unwrap_or(&[]));
    }
    draft
        .manifest
        .data_parts
        .iter_mut()
        .for_each(|part| *part = draft.data.len() as u64);
}

fn orders(base: &Base<'_>) -> Vec<Vector> {
    let reordered = |change: fn(&mut Vec<Vec<Record>>)| {
        base.with_draft(|draft| {
            let mut blobs = by_blob(&draft.records);
            change(&mut blobs);
            draft.records = blobs.concat();
            retile(draft);
        })
    };
    vec![
        refused(
            "objects-descend",
            "two objects are in descending order",
            fault(RecordFault::Order),
            reordered(|blobs| {
                if let Some(first) = blobs.iter().position(|blob| has_role(blob, Role::Object)) {
                    blobs.swap(first, first + 1);
                }
            }),
        ),
        refused(
            "object-twice",
            "an object stands there twice",
            fault(RecordFault::Order),
            reordered(|blobs| {
                if let Some(first) = blobs.iter().position(|blob| has_role(blob, Role::Object)) {
                    blobs.insert(first, blobs.get(first).cloned().unwrap_or_default());
                }
            }),
        ),
        refused(
            "uki-not-first",
            "the UKI comes after the image",
            fault(RecordFault::Order),
            reordered(|blobs| blobs.swap(0, 1)),
        ),
        refused(
            "composefs-not-last",
            "an object comes after the composefs image",
            fault(RecordFault::Order),
            reordered(|blobs| {
                let last = blobs.len() - 1;
                blobs.swap(last - 1, last);
            }),
        ),
        refused(
            "range-first",
            "the first record is a range",
            fault(RecordFault::Order),
            base.with_records(|records| records.rotate_left(1)),
        ),
        refused(
            "range-missing",
            "a blob has fewer ranges than it says",
            fault(RecordFault::Order),
            reordered(|blobs| {
                if let Some(object) = blobs.iter_mut().find(|blob| blob.len() > 2) {
                    object.pop();
                }
            }),
        ),
        refused(
            "range-surplus",
            "a range follows a blob that is complete",
            fault(RecordFault::Order),
            reordered(|blobs| {
                if let Some(uki) = blobs.first_mut() {
                    uki.extend_from_within(1..2);
                }
            }),
        ),
        refused(
            "index-ends-early",
            "the route ends inside a blob",
            fault(RecordFault::Order),
            base.with_records(|records| records.truncate(records.len() - 1)),
        ),
        refused(
            "alternative-missing",
            "a blob has fewer alternatives than it says",
            fault(RecordFault::Order),
            base.with_records(|records| {
                blobs_mut(records)
                    .take(1)
                    .for_each(|blob| blob.alternatives = 1);
            }),
        ),
    ]
}

/// Patches that contradict themselves, in a bundle that stores everything as it is.
pub(super) fn patches(base: &Base<'_>) -> Result<Vec<Vector>, Error> {
    let stored = Recipe {
        compression: Compression::None,
        ..Recipe::new(base.image)
    }
    .draft()?;
    let patch = |change: fn(&mut Alternative, &mut Range)| {
        patched(stored.clone(), change).signed_by(&[&first_key()])
    };
    Ok(vec![
        refused(
            "patch-gap",
            "the ranges of a patch do not start where the blob does",
            fault(RecordFault::Tiling),
            patch(|_, range| range.raw_offset = 1),
        ),
        refused(
            "patch-short",
            "the ranges of a patch give less than the blob",
            fault(RecordFault::Tiling),
            patch(|_, range| range.raw_bytes -= 1),
        ),
        refused(
            "patch-of-image",
            "the base of an object's patch is an image, of no slot",
            fault(RecordFault::Payload),
            patch(|alternative, _| alternative.base_role = Role::Image),
        ),
    ])
}

fn tilings(base: &Base<'_>) -> Vec<Vector> {
    let ranges = |change: fn(&mut [&mut Range])| {
        base.with_records(|records| {
            let mut ranges: Vec<&mut Range> = ranges_mut(records).collect();
            change(&mut ranges);
        })
    };
    vec![
        refused(
            "blob-gap",
            "a range leaves a gap in its blob",
            fault(RecordFault::Tiling),
            base.with_records(|records| {
                ranges_mut(records)
                    .filter(|range| range.raw_offset > 0)
                    .take(1)
                    .for_each(|range| range.raw_offset += 1);
            }),
        ),
        refused(
            "blob-overlap",
            "a range overlaps the one before it",
            fault(RecordFault::Tiling),
            base.with_records(|records| {
                ranges_mut(records)
                    .filter(|range| range.raw_offset > 0)
                    .take(1)
                    .for_each(|range| range.raw_offset -= 1);
            }),
        ),
        refused(
            "blob-short",
            "the ranges are a byte shorter than the blob",
            fault(RecordFault::Tiling),
            base.with_draft(|draft| {
                let size = |size: &mut u64| *size += 1;
                blobs_mut(&mut draft.records)
                    .take(1)
                    .for_each(|blob| size(&mut blob.size));
                draft
                    .manifest
                    .payloads
                    .iter_mut()
                    .take(1)
                    .for_each(|payload| size(&mut payload.size));
            }),
        ),
        refused(
            "blob-long",
            "the ranges are a byte longer than the blob",
            fault(RecordFault::Tiling),
            base.with_draft(|draft| {
                let size = |size: &mut u64| *size -= 1;
                blobs_mut(&mut draft.records)
                    .take(1)
                    .for_each(|blob| size(&mut blob.size));
                draft
                    .manifest
                    .payloads
                    .iter_mut()
                    .take(1)
                    .for_each(|payload| size(&mut payload.size));
            }),
        ),
        refused(
            "data-gap",
            "a range leaves a gap in the data",
            fault(RecordFault::Tiling),
            ranges(|ranges| {
                ranges
                    .iter_mut()
                    .skip(1)
                    .for_each(|range| range.stored_offset += 1);
            }),
        ),
        refused(
            "data-overlap",
            "a range overlaps the one before it in the data",
            fault(RecordFault::Tiling),
            ranges(|ranges| {
                ranges
                    .iter_mut()
                    .skip(1)
                    .for_each(|range| range.stored_offset -= 1);
            }),
        ),
        refused(
            "data-unused",
            "a byte of the data belongs to no range",
            fault(RecordFault::Tiling),
            base.with_draft(|draft| {
                draft.data.push(0);
                draft
                    .manifest
                    .data_parts
                    .iter_mut()
                    .for_each(|part| *part += 1);
            }),
        ),
        refused(
            "stored-sum",
            "a blob's stored bytes are not the sum of its ranges",
            fault(RecordFault::Tiling),
            base.with_records(|records| {
                blobs_mut(records)
                    .take(1)
                    .for_each(|blob| blob.stored_bytes += 1);
            }),
        ),
        refused(
            "range-across-parts",
            "a range lies half in one data part and half in the next",
            BundleInvalid::Field {
                field: twinseal_core::error::Field::DataParts,
            },
            base.with_draft(|draft| {
                let whole = draft.manifest.data_bytes();
                draft.manifest.data_parts.clear();
                // Two of thirty-two.
                let _ = draft
                    .manifest
                    .data_parts
                    .extend_from_slice(&[10, whole - 10]);
            }),
        ),
    ]
}
