//! Data that is damaged, or that does not decode to what the signed index says.

use std::io::Write;

use sha2::{Digest, Sha256};
use twinseal_core::error::BundleInvalid;
use twinseal_core::wire::digest::{BlobDigest, Sha256Digest};
use twinseal_core::wire::index::{Encoding, Range, Record, Role};
use twinseal_core::wire::manifest::PayloadKind;
use zstd::zstd_safe::CParameter;

use super::draft::{Draft, Recipe};
use super::index::{blobs_mut, ranges_mut};
use super::{Base, Vector, first_key, flip, refused};
use crate::assemble::Compression;
use crate::error::Error;

/// What a range is refused for that does not decode to what the index says.
const DECODES: BundleInvalid = BundleInvalid::RangeDecodes { stored_offset: 0 };

pub(super) fn vectors(base: &Base<'_>) -> Result<Vec<Vector>, Error> {
    let digest = BlobDigest::sha256([0xff; 32]);
    let mut all = vec![
        refused(
            "data-damaged",
            "a byte of the data was changed",
            BundleInvalid::RangeDamaged { stored_offset: 0 },
            base.with_draft(|draft| flip(&mut draft.data, 5)),
        ),
        refused(
            "object-digest",
            "every range of an object is right, and its digest is another",
            BundleInvalid::BlobDigest { digest },
            base.with_draft(|draft| {
                // The last object keeps the order with the highest digest that there is.
                let objects =
                    blobs_mut(&mut draft.records).filter(|blob| blob.role == Role::Object);
                objects
                    .last()
                    .into_iter()
                    .for_each(|blob| blob.digest = digest);
            }),
        ),
        refused(
            "image-digest",
            "every range of the image is right, and its digest is another",
            BundleInvalid::BlobDigest { digest },
            base.with_draft(|draft| {
                let images = blobs_mut(&mut draft.records).filter(|blob| blob.role == Role::Image);
                images.for_each(|blob| blob.digest = digest);
                let payloads = draft.manifest.payloads.iter_mut();
                let images =
                    payloads.filter(|payload| matches!(payload.kind, PayloadKind::Image { .. }));
                images.for_each(|payload| payload.digest = digest);
            }),
        ),
        refused(
            "range-digest",
            "a range decodes to bytes of another digest",
            DECODES,
            base.with_draft(|draft| {
                ranges_mut(&mut draft.records)
                    .filter(|range| range.has_raw_sha256())
                    .take(1)
                    .for_each(|range| flip(&mut range.raw_sha256, 0));
            }),
        ),
    ];
    all.extend(streams_of_zstd(base)?);
    all.extend(streams_of_deflate(base)?);
    Ok(all)
}

/// What is not one whole frame of zstd, or not the one that the index says.
fn streams_of_zstd(base: &Base<'_>) -> Result<Vec<Vector>, Error> {
    let raw = first_range(&base.draft);
    let wrong = |name, what, stored: &[u8]| {
        let bundle = with_first_range(&base.draft, stored, Encoding::Zstd);
        refused(name, what, DECODES, bundle)
    };
    let whole = frame(&raw, 10)?;
    let short = frame(raw.get(..raw.len() - 1).unwrap_or(&[]), 10)?;
    let (one, other) = raw.split_at(raw.len() / 2);
    Ok(vec![
        wrong(
            "zstd-garbage",
            "a range is no zstd frame",
            b"\xff\xff\xff\xff and no frame",
        ),
        wrong("zstd-short", "a zstd frame ends before the range", &short),
        wrong(
            "zstd-window",
            "a zstd frame asks for a larger window than the manifest states",
            &frame(&raw, 20)?,
        ),
        wrong(
            "zstd-window-at-once",
            "a zstd frame that states its size asks for a larger window than the manifest states",
            &plain_frame(&raw, WINDOW_1_MIB, true),
        ),
        wrong(
            "zstd-block",
            "a zstd block is longer than the window of its frame",
            &plain_frame(&raw, WINDOW_1_KIB, true),
        ),
        wrong(
            "zstd-unended",
            "no block of a zstd frame is its last one",
            &plain_frame(&raw, WINDOW_4_KIB, false),
        ),
        wrong(
            "zstd-behind",
            "a byte follows a zstd frame",
            &[&whole[..], &[0]].concat(),
        ),
        wrong(
            "zstd-two-frames",
            "a range is two zstd frames",
            &[frame(one, 10)?, frame(other, 10)?].concat(),
        ),
        wrong(
            "zstd-skippable",
            "a zstd frame that is to be passed over stands before the other one",
            &[&b"\x50\x2a\x4d\x18\x04\0\0\0four"[..], &whole].concat(),
        ),
    ])
}

/// The same of DEFLATE.
fn streams_of_deflate(base: &Base<'_>) -> Result<Vec<Vector>, Error> {
    let deflate = Recipe {
        compression: Compression::Deflate,
        ..Recipe::new(base.image)
    }
    .draft()?;
    let raw = first_range(&base.draft);
    let wrong = |name, what, stored: &[u8]| {
        let bundle = with_first_range(&deflate, stored, Encoding::Deflate);
        refused(name, what, DECODES, bundle)
    };
    let deflated = |raw: &[u8]| miniz_oxide::deflate::compress_to_vec(raw, 9);
    let length = raw.len() as u16;
    let not_the_last = [
        &[0],
        &length.to_le_bytes()[..],
        &(!length).to_le_bytes(),
        &raw,
    ];
    Ok(vec![
        wrong(
            "deflate-garbage",
            "a range is no DEFLATE stream",
            &[0xff; 40],
        ),
        wrong(
            "deflate-short",
            "a DEFLATE stream ends before the range",
            &deflated(raw.get(..raw.len() - 1).unwrap_or(&[])),
        ),
        wrong(
            "deflate-unended",
            "no block of a DEFLATE stream is its last one",
            &not_the_last.concat(),
        ),
        wrong(
            "deflate-behind",
            "a byte follows a DEFLATE stream",
            &[&deflated(&raw)[..], &[0]].concat(),
        ),
    ])
}

/// The bytes of the first range, decoded.
pub(super) fn first_range(draft: &Draft) -> Vec<u8> {
    let Some(Record::Range(range)) = draft.records.get(1) else {
        return Vec::new();
    };
    let stored = draft.data.get(..range.stored_bytes as usize).unwrap_or(&[]);
    zstd::stream::decode_all(stored).unwrap_or_default()
}

/// The draft with other stored bytes for its first range, everything about them right, signed.
pub(super) fn with_first_range(draft: &Draft, stored: &[u8], encoding: Encoding) -> Vec<u8> {
    let mut draft = draft.clone();
    let Some(Record::Range(old)) = draft.records.get(1).copied() else {
        return Vec::new();
    };
    let longer = stored.len() as u64;
    let shift = |value: &mut u64| *value = *value - u64::from(old.stored_bytes) + longer;
    draft
        .data
        .splice(..old.stored_bytes as usize, stored.iter().copied());
    ranges_mut(&mut draft.records)
        .skip(1)
        .for_each(|range| shift(&mut range.stored_offset));
    let stored_sha256: Sha256Digest = Sha256::digest(stored).into();
    let new = Range {
        encoding,
        stored_bytes: stored.len() as u32,
        stored_sha256,
        ..old
    };
    ranges_mut(&mut draft.records)
        .take(1)
        .for_each(|range| *range = new);
    blobs_mut(&mut draft.records)
        .take(1)
        .for_each(|blob| shift(&mut blob.stored_bytes));
    draft.manifest.data_parts.iter_mut().for_each(shift);
    draft.manifest.needs.range_bytes = draft.manifest.needs.range_bytes.max(stored.len() as u32);
    draft.signed_by(&[&first_key()])
}

/// Windows as they stand in a frame.
const WINDOW_1_KIB: u8 = 0;
const WINDOW_4_KIB: u8 = 2 << 3;
const WINDOW_1_MIB: u8 = 10 << 3;

/// A zstd frame that states its size, with one block that is stored as it is.
fn plain_frame(raw: &[u8], window: u8, is_last: bool) -> Vec<u8> {
    let bytes = raw.len() as u32;
    let size = bytes.to_le_bytes();
    let [low, middle, high, _] = (bytes << 3 | u32::from(is_last)).to_le_bytes();
    let header = [0x28, 0xb5, 0x2f, 0xfd, 0b1000_0000, window];
    [&header[..], &size, &[low, middle, high], raw].concat()
}

/// A zstd frame with this window, however little it holds: it is made as a stream whose length is not known in advance.
fn frame(raw: &[u8], window_log: u32) -> Result<Vec<u8>, Error> {
    let make = || {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3)?;
        encoder.set_parameter(CParameter::WindowLog(window_log))?;
        encoder.write_all(raw)?;
        encoder.finish()
    };
    make().map_err(Error::Compress)
}
