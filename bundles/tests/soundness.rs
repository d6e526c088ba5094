//! Promise: `verify` finds what no device can: a bundle that installs and cannot work. And reading a bundle survives what is
//! wrong with it.

use std::path::PathBuf;

use sha2::{Digest, Sha256};
use tempfile::TempDir;
use twinseal_bundle::error::{Error, Unsound};
use twinseal_bundle::extract::extract_all;
use twinseal_bundle::inspect::inspect;
use twinseal_bundle::vectors::{Draft, Recipe, device, first_key, image};
use twinseal_bundle::verify::verify;
use twinseal_core::verify::digest::VerityDigest;
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::{Blob, Encoding, Range, Record, Role};
use twinseal_core::wire::manifest::PayloadKind;

struct Bench {
    directory: TempDir,
    draft: Draft,
}

impl Bench {
    fn new() -> Self {
        let image = image().unwrap();
        Self {
            directory: tempfile::tempdir().unwrap(),
            draft: Recipe::new(&image).draft().unwrap(),
        }
    }

    fn put(&self, bundle: &[u8]) -> PathBuf {
        let path = self.directory.path().join("b.tseal");
        std::fs::write(&path, bundle).unwrap();
        path
    }
}

/// Takes the last object out of a draft, from index, data and manifest.
fn take_last_object(draft: &mut Draft) {
    let is_object =
        |record: &Record| matches!(record, Record::Blob(blob) if blob.role == Role::Object);
    let start = draft.records.iter().rposition(is_object).unwrap();
    let Record::Blob(blob) = draft.records[start] else {
        unreachable!()
    };
    let end = start + 1 + blob.ranges as usize;
    let Record::Range(first) = draft.records[start + 1] else {
        unreachable!()
    };
    let data = first.stored_offset as usize..(first.stored_offset + blob.stored_bytes) as usize;
    draft.data.drain(data);
    draft.records.drain(start..end);
    for record in &mut draft.records[start..] {
        if let Record::Range(range) = record {
            range.stored_offset -= blob.stored_bytes;
        }
    }
    draft.manifest.data_parts[0] -= blob.stored_bytes;
    for payload in &mut draft.manifest.payloads {
        if let PayloadKind::Composefs {
            objects,
            object_bytes,
        } = &mut payload.kind
        {
            *objects -= 1;
            *object_bytes -= blob.size;
        }
    }
}

/// Adds an object that no image names, at its place in the order, with its data at the end of the objects' before it.
fn add_object(draft: &mut Draft) -> BlobDigest {
    let content =
        b"an object that nobody names, of more than sixty-four bytes, all in vain".to_vec();
    let mut digest = VerityDigest::new();
    digest.update(&content);
    let digest = digest.finish();
    let after = |record: &Record| match record {
        Record::Blob(blob) => {
            blob.role == Role::Composefs
                || (blob.role == Role::Object && blob.digest.as_bytes() > digest.as_bytes())
        }
        _ => false,
    };
    let place = draft.records.iter().position(after).unwrap();
    let Record::Range(next) = draft.records[place + 1] else {
        unreachable!()
    };
    let (offset, bytes) = (next.stored_offset, content.len() as u64);
    draft
        .data
        .splice(offset as usize..offset as usize, content.iter().copied());
    for record in &mut draft.records[place..] {
        if let Record::Range(range) = record {
            range.stored_offset += bytes;
        }
    }
    let sha256 = Sha256::digest(&content).into();
    let Record::Blob(blob) = draft.records[place] else {
        unreachable!()
    };
    let composefs = draft.manifest.payloads.len() as u8 - 1;
    let blob = Blob {
        role: Role::Object,
        payload: composefs,
        digest,
        size: bytes,
        ranges: 1,
        stored_bytes: bytes,
        ..blob
    };
    let range = Range {
        encoding: Encoding::Stored,
        raw_offset: 0,
        raw_bytes: bytes as u32,
        stored_offset: offset,
        stored_bytes: bytes as u32,
        stored_sha256: sha256,
        raw_sha256: [0; 32],
    };
    draft
        .records
        .splice(place..place, [Record::Blob(blob), Record::Range(range)]);
    draft.manifest.data_parts[0] += bytes;
    for payload in &mut draft.manifest.payloads {
        if let PayloadKind::Composefs {
            objects,
            object_bytes,
        } = &mut payload.kind
        {
            *objects += 1;
            *object_bytes += bytes;
        }
    }
    digest
}

#[test]
fn a_missing_object_is_found_and_its_file_named() {
    let mut bench = Bench::new();
    take_last_object(&mut bench.draft);
    let path = bench.put(&bench.draft.clone().signed_by(&[&first_key()]));
    match verify(&path, &device()) {
        Err(Error::Unsound(Unsound::ObjectMissing { path, .. })) => {
            assert!(path.starts_with("/usr"), "{path:?}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_object_that_nothing_names_is_told() {
    let bench = Bench::new();
    let mut draft = bench.draft.clone();
    let report = verify(
        &bench.put(&draft.clone().signed_by(&[&first_key()])),
        &device(),
    )
    .unwrap();
    assert!(report.unused_objects.is_empty());
    let digest = add_object(&mut draft);
    let report = verify(&bench.put(&draft.signed_by(&[&first_key()])), &device()).unwrap();
    assert_eq!(report.unused_objects, [digest]);
}

#[test]
fn reading_a_bad_bundle_is_an_error_and_no_panic() {
    let bench = Bench::new();
    let (mut refused, mut read) = (0, 0);
    for vector in twinseal_bundle::vectors::all().unwrap() {
        let path = bench.put(&vector.bundle);
        let out = bench.directory.path().join("out");
        let results = [
            inspect(&path, true).map(drop),
            extract_all(&path, &out).map(drop),
        ];
        for result in results {
            match result {
                Ok(()) => read += 1,
                Err(_) => refused += 1,
            }
        }
        // What only a device's policy refuses can be read here, and what is damaged in its data cannot be extracted.
        if vector.name.starts_with("good") {
            assert!(
                inspect(&path, true).is_ok() && extract_all(&path, &out).is_ok(),
                "{}",
                vector.name
            );
        }
        if vector.name == "data-damaged" || vector.name == "object-digest" {
            assert!(extract_all(&path, &out).is_err(), "{}", vector.name);
        }
    }
    assert!(refused > 50 && read > 20, "{refused} refused, {read} read");
}

#[test]
fn a_file_of_another_size_than_its_object_is_found() {
    const APP_BYTES: u32 = 9000;
    let mut image = image().unwrap();
    // The size of /usr/bin/app in its inode, and one byte more.
    let size = APP_BYTES.to_le_bytes();
    let places: Vec<usize> = image
        .erofs
        .windows(4)
        .enumerate()
        .filter(|(_, bytes)| *bytes == size)
        .map(|(at, _)| at)
        .collect();
    assert_eq!(places.len(), 1, "{places:?}");
    image.erofs[places[0]] += 1;
    let mut digest = VerityDigest::new();
    digest.update(&image.erofs);
    image.digest.copy_from_slice(digest.finish().as_bytes());
    let bundle = Recipe::new(&image)
        .draft()
        .unwrap()
        .signed_by(&[&first_key()]);
    let bench = Bench::new();
    match verify(&bench.put(&bundle), &device()) {
        Err(Error::Unsound(Unsound::ObjectSize {
            path,
            named: 9001,
            carried: 9000,
        })) => {
            assert_eq!(path, PathBuf::from("/usr/bin/app"));
        }
        other => panic!("{other:?}"),
    }
}
