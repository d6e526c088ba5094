//! Bundles that must be accepted: a reader that is too strict fails here.

use std::io::{self, Write};

use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::{
    Alternative, BLOCK_BYTES, Encoding, METHOD_PATCH, Range, Record, Removed, Role,
};
use twinseal_core::wire::manifest::Route;

use zstd::zstd_safe::CParameter;

use super::data::{first_range, with_first_range};
use super::draft::{Draft, Recipe};
use super::{Base, Vector, accepted, first_key, second_key, strange_key};
use crate::assemble::{Compression, full_route};
use crate::error::Error;
use crate::sign::{OwnedSignature, sign_manifest};

pub(super) fn vectors(base: &Base<'_>) -> Result<Vec<Vector>, Error> {
    let deflate = Recipe {
        compression: Compression::Deflate,
        ..Recipe::new(base.image)
    }
    .draft()?;
    let stored = Recipe {
        compression: Compression::None,
        ..Recipe::new(base.image)
    }
    .draft()?;
    let parts = Recipe {
        compression: Compression::None,
        part_max_bytes: 8192,
        ..Recipe::new(base.image)
    }
    .draft()?;
    let first = [&first_key()];
    Ok(vec![
        accepted("good", "nothing; zstd", base.bundle.clone()),
        accepted(
            "good-deflate",
            "ranges are DEFLATE",
            deflate.signed_by(&first),
        ),
        accepted(
            "good-stored",
            "ranges are not compressed",
            stored.clone().signed_by(&first),
        ),
        accepted(
            "good-parts",
            "the data is in several entries, as in a bundle over 8 GiB",
            parts.signed_by(&first),
        ),
        accepted(
            "good-checksum",
            "a zstd frame has a checksum, and it is wrong: nobody looks at it",
            {
                let raw = first_range(&base.draft);
                let mut frame = frame_with_checksum(&raw).map_err(Error::Compress)?;
                frame.iter_mut().rev().take(1).for_each(|last| *last ^= 1);
                with_first_range(&base.draft, &frame, Encoding::Zstd)
            },
        ),
        accepted(
            "good-two-signers",
            "both trusted keys signed",
            base.draft.clone().signed_by(&[&second_key(), &first_key()]),
        ),
        accepted(
            "good-strange-signers",
            "signatures by an unknown key and of an unknown algorithm come first",
            strange(base),
        ),
        accepted(
            "good-alternative",
            "an object has an alternative of an unknown method",
            alternative(base),
        ),
        accepted(
            "good-patch",
            "an object has a patch against a base that only some devices have",
            patched(stored, |_, _| ()).signed_by(&first),
        ),
        accepted(
            "good-base-route",
            "the index has a second route, for a base release",
            base_route(base, |_| ()),
        ),
        accepted(
            "good-higher",
            "the anti-rollback version is above the floor",
            base.with_manifest(|manifest| manifest.anti_rollback += 1),
        ),
        accepted(
            "good-window-edges",
            "the validity window is this very second",
            base.with_manifest(|manifest| {
                manifest.window.not_before = super::TIME;
                manifest.window.not_after = Some(super::TIME);
            }),
        ),
        accepted(
            "good-image-only",
            "only an image for a slot, no system",
            image_only(base),
        ),
    ])
}

fn frame_with_checksum(raw: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3)?;
    encoder.set_parameter(CParameter::WindowLog(10))?;
    encoder.include_checksum(true)?;
    encoder.write_all(raw)?;
    encoder.finish()
}

fn strange(base: &Base<'_>) -> Vec<u8> {
    let framed = base.draft.clone().index();
    let manifest = framed.manifest_entry();
    let hybrid = OwnedSignature {
        key: [9; 8],
        algorithm: 200,
        bytes: vec![7; 4691],
    };
    let list = [
        hybrid,
        sign_manifest(&strange_key(), &manifest),
        sign_manifest(&first_key(), &manifest),
    ];
    framed.with_entries(&manifest, &list)
}

/// Adds an alternative of two ranges to the last object, with its bytes in the data behind those of the object.
fn alternative(base: &Base<'_>) -> Vec<u8> {
    const METHOD: u8 = 200;
    let patch = [
        b"not a patch that anybody knows".to_vec(),
        b"in two ranges".to_vec(),
    ];
    base.with_draft(|draft| {
        let position = draft
            .records
            .iter()
            .rposition(|record| matches!(record, Record::Blob(blob) if blob.role == Role::Object));
        let Some(position) = position else { return };
        let Some(Record::Blob(blob)) = draft.records.get_mut(position) else {
            return;
        };
        blob.alternatives = 1;
        let after = position + 1 + blob.ranges as usize;
        let stored_bytes = patch.iter().map(|range| range.len() as u64).sum();
        // Behind all whole ranges.
        let mut offset = draft.data.len() as u64;
        draft.data.extend(patch.concat());
        let mut added = vec![Record::Alternative(Alternative {
            method: METHOD,
            base_role: Role::Object,
            base_digest: BlobDigest::sha256([0xba; 32]),
            base_size: 1,
            ranges: 2,
            stored_bytes,
        })];
        for content in &patch {
            added.push(Record::Range(stored_range(content, offset)));
            offset += content.len() as u64;
        }
        draft.records.splice(after..after, added);
        let last_part = draft.manifest.data_parts.last_mut().into_iter();
        last_part.for_each(|part| *part += stored_bytes);
    })
}

/// Adds a patch to the last object, whose bytes the draft stores as they are in one range: instructions that add nothing and copy
/// the object, so that any base will do. `change` makes it a wrong one.
pub(super) fn patched(mut draft: Draft, change: fn(&mut Alternative, &mut Range)) -> Draft {
    let is_object =
        |record: &Record| matches!(record, Record::Blob(blob) if blob.role == Role::Object);
    let position = draft.records.iter().rposition(is_object).unwrap_or(0);
    let Some([Record::Blob(blob), Record::Range(whole)]) =
        draft.records.get_mut(position..position + 2)
    else {
        return draft;
    };
    blob.alternatives = 1;
    let (whole, start) = (*whole, whole.stored_offset as usize);
    let end = start + whole.stored_bytes as usize;
    let mut instructions = vec![1, 0, 0];
    let mut left = whole.stored_bytes;
    while left >= 0x80 {
        instructions.push(left as u8 | 0x80);
        left >>= 7;
    }
    instructions.push(left as u8);
    instructions.extend_from_slice(draft.data.get(start..end).unwrap_or(&[]));
    let mut range = Range {
        raw_bytes: whole.raw_bytes,
        raw_sha256: whole.raw_sha256,
        ..stored_range(&instructions, draft.data.len() as u64)
    };
    let added = instructions.len() as u64;
    let mut alternative = Alternative {
        method: METHOD_PATCH,
        base_role: Role::Object,
        base_digest: BlobDigest::sha256([0xba; 32]),
        base_size: 1,
        ranges: 1,
        stored_bytes: added,
    };
    change(&mut alternative, &mut range);
    draft.data.extend(instructions);
    let records = [Record::Alternative(alternative), Record::Range(range)];
    draft.records.splice(position + 2..position + 2, records);
    let last_part = draft.manifest.data_parts.last_mut().into_iter();
    last_part.for_each(|part| *part += added);
    draft
}

fn stored_range(content: &[u8], stored_offset: u64) -> Range {
    use sha2::{Digest, Sha256};
    let sha256 = Sha256::digest(content).into();
    let bytes = content.len() as u32;
    Range {
        encoding: Encoding::Stored,
        raw_offset: 0,
        raw_bytes: bytes,
        stored_offset,
        stored_bytes: bytes,
        stored_sha256: sha256,
        raw_sha256: sha256,
    }
}

/// A second route whose block is as `change` leaves it; the manifest has its right digest.
pub(super) fn base_route(base: &Base<'_>, change: fn(&mut Vec<u8>)) -> Vec<u8> {
    base.with_draft(|draft| {
        // A base that has one object, which this release has not.
        let mut records = draft.records.clone();
        let composefs =
            |record: &Record| matches!(record, Record::Blob(blob) if blob.role == Role::Composefs);
        let end = records.iter().position(composefs).unwrap_or(records.len());
        let digest = BlobDigest::sha256([0xff; 32]);
        records.insert(end, Record::Removed(Removed { digest, size: 1 }));
        let (blocks, route) = full_route(&records);
        debug_assert_eq!(blocks.len(), BLOCK_BYTES);
        let route = Route {
            base: Some([0xba; 32]),
            ..route
        };
        // The good bundle has one route of sixteen.
        let _ = draft.manifest.routes.push(route);
        draft.more_blocks = blocks;
        change(&mut draft.more_blocks);
    })
}

fn image_only(base: &Base<'_>) -> Vec<u8> {
    base.with_draft(|draft| {
        let uki_bytes = match draft.records.first() {
            Some(Record::Blob(blob)) => blob.stored_bytes,
            _ => 0,
        };
        let start = draft
            .records
            .iter()
            .position(|record| matches!(record, Record::Blob(blob) if blob.role == Role::Image));
        let end = draft
            .records
            .iter()
            .position(|record| matches!(record, Record::Blob(blob) if blob.role == Role::Object));
        draft.records = draft
            .records
            .get(start.unwrap_or(0)..end.unwrap_or(0))
            .unwrap_or(&[])
            .to_vec();
        let mut data_bytes = 0;
        for record in &mut draft.records {
            match record {
                Record::Blob(blob) => {
                    blob.payload = 0;
                    data_bytes = blob.stored_bytes;
                }
                Record::Range(range) => range.stored_offset -= uki_bytes,
                Record::Alternative(_) | Record::Removed(_) => {}
            }
        }
        draft.data = draft
            .data
            .get(uki_bytes as usize..(uki_bytes + data_bytes) as usize)
            .unwrap_or(&[])
            .to_vec();
        let manifest = &mut draft.manifest;
        manifest.payloads.retain(|payload| {
            matches!(
                payload.kind,
                twinseal_core::wire::manifest::PayloadKind::Image { .. }
            )
        });
        manifest.seal = None;
        manifest.data_parts.clear();
        let _ = manifest.data_parts.push(data_bytes);
    })
}
