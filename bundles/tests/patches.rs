//! Promises of the patches that `bases` give: what was changed costs what has changed, every patch gives its blob, and none is kept
//! that does not pay.

mod support;
#[path = "../src/pe/synthetic.rs"]
mod synthetic;

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use support::Workshop;
use twinseal_bundle::assemble::full_route;
use twinseal_bundle::diff::diff;
use twinseal_bundle::error::{Error, Unsound};
use twinseal_bundle::inspect::inspect;
use twinseal_bundle::patch::ApplyFault;
use twinseal_bundle::read::{Bundle, IndexedBlob};
use twinseal_bundle::vectors::{Recipe, archive_of, device, first_key, image};
use twinseal_bundle::verify::{verify, verify_patches};
use twinseal_core::wire::index::{Alternative, Encoding, METHOD_PATCH, Range, Record, Role};
use twinseal_core::wire::manifest::Route;

/// Bytes that cannot be compressed.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let blocks = (0u64..).flat_map(|number| {
        <[u8; 32]>::from(Sha256::digest(
            [number.to_le_bytes(), seed.to_le_bytes()].concat(),
        ))
    });
    blocks.take(length).collect()
}

/// An object with another content under its old name, and a new one; no patch is worth it for either.
const REPLACED_BYTES: u64 = 40_000;
const NEW_BYTES: u64 = 5000;

const OS_RELEASE: &str =
    "ID=test\nPRETTY_NAME=\"A root for tests of patches, long enough to be an object\"\n";

/// A workshop with `old.tseal` and the root of the next release.
fn workshop() -> Workshop {
    let workshop = Workshop::new();
    let root = |files: &[(&str, Vec<u8>)]| {
        let mut entries: Vec<_> = files
            .iter()
            .map(|(name, content)| ((*name).to_owned(), content.clone()))
            .collect();
        entries.push(("usr/lib/os-release".to_owned(), OS_RELEASE.into()));
        archive_of(&entries)
    };
    let (program, library, data) = (noise(200_000, 1), noise(80_000, 2), noise(50_000, 3));
    let before = [
        ("usr/bin/program", program.clone()),
        ("usr/lib/libthing.so.1.2.3", library.clone()),
        ("usr/share/old-place", data.clone()),
        ("usr/share/kept", noise(30_000, 4)),
        ("usr/share/replaced", noise(REPLACED_BYTES as usize, 5)),
        ("usr/share/gone", noise(1000, 6)),
    ];
    workshop.put("root.tar", &root(&before));
    workshop.put("fpga.bin", &noise(300_000, 7));
    workshop.build(&recipe(""), "old.tseal").unwrap();

    let changed = |mut content: Vec<u8>| {
        let middle = content.len() / 2;
        content[middle] ^= 1;
        content.splice(
            middle + 100..middle + 100,
            *b"something that was put in between",
        );
        content
    };
    let after = [
        ("usr/bin/program", changed(program)),
        ("usr/lib/libthing.so.1.3", changed(library)),
        ("opt/new-place", changed(data)),
        ("usr/share/kept", noise(30_000, 4)),
        ("usr/share/replaced", noise(REPLACED_BYTES as usize, 8)),
        ("usr/share/new", noise(NEW_BYTES as usize, 9)),
    ];
    workshop.put("root.tar", &root(&after));
    workshop.put("fpga.bin", &changed(noise(300_000, 7)));
    workshop
}

fn recipe(bases: &str) -> String {
    let image = "[[image]]\nslot = 'fpga'\nfile = 'fpga.bin'\n";
    format!("bases = [{bases}]\n{}{image}", Workshop::system_recipe())
}

fn route(path: &Path, number: usize) -> Vec<IndexedBlob> {
    Bundle::open(path).unwrap().route(number).unwrap().0
}

fn with_patch(blobs: &[IndexedBlob]) -> Vec<&IndexedBlob> {
    blobs
        .iter()
        .filter(|blob| !blob.alternatives.is_empty())
        .collect()
}

#[test]
fn changed_moved_and_renamed_blobs_have_small_patches_and_new_ones_are_copied_among_them() {
    let workshop = workshop();
    let path = workshop.build(&recipe("'old.tseal'"), "new.tseal").unwrap();
    let again = workshop
        .build(&recipe("'old.tseal'"), "again.tseal")
        .unwrap();
    assert!(
        fs::read(&path).unwrap() == fs::read(again).unwrap(),
        "the same bytes every time"
    );
    assert!(
        with_patch(&route(&path, 0)).is_empty(),
        "the full route has none"
    );

    let blobs = route(&path, 1);
    let mut patched: Vec<_> = with_patch(&blobs)
        .iter()
        .filter(|blob| blob.blob.role != Role::Uki && blob.blob.role != Role::Composefs)
        .map(|blob| (blob.blob.role as u8, blob.blob.size))
        .collect();
    patched.sort_unstable();
    let (image, object) = (Role::Image as u8, Role::Object as u8);
    assert_eq!(
        patched,
        [
            (image, 300_033),
            (object, NEW_BYTES),
            (object, REPLACED_BYTES),
            (object, 50_033),
            (object, 80_033),
            (object, 200_033)
        ]
    );
    for blob in with_patch(&blobs) {
        let [(alternative, ranges)] = &blob.alternatives[..] else {
            panic!("{:?}", blob.alternatives)
        };
        assert_eq!(
            (alternative.method, alternative.base_role),
            (METHOD_PATCH, blob.blob.role)
        );
        let copied = match blob.blob.size {
            NEW_BYTES | REPLACED_BYTES => blob.blob.size,
            _ => 0,
        };
        assert!(
            (copied..copied + 1000).contains(&alternative.stored_bytes),
            "{}",
            alternative.stored_bytes
        );
        assert_eq!(
            ranges
                .iter()
                .map(|range| u64::from(range.raw_bytes))
                .sum::<u64>(),
            blob.blob.size
        );
    }

    verify(&path, &workshop.device()).unwrap();
    let checked = verify_patches(&path, &[workshop.at("old.tseal")]).unwrap();
    assert_eq!(checked.patches as usize, with_patch(&blobs).len());
    let [shown] = &inspect(&path, false).unwrap().index.based_routes[..] else {
        panic!("one base")
    };
    assert_eq!(
        (shown.patches, shown.stored_bytes),
        (with_patch(&blobs).len(), checked.stored_bytes)
    );
    let text = inspect(&path, false).unwrap().to_string();
    assert!(
        text.contains(&format!("{} patches", shown.patches)),
        "{text}"
    );
}

#[test]
fn an_update_costs_its_patches_and_what_is_new() {
    let workshop = workshop();
    let with = workshop
        .build(&recipe("'old.tseal'"), "with.tseal")
        .unwrap();
    let without = workshop.build(&recipe(""), "without.tseal").unwrap();
    let old = workshop.at("old.tseal");
    let (with, without) = (diff(&old, &with).unwrap(), diff(&old, &without).unwrap());
    assert_eq!(without.update.patched, 0);
    assert!(without.update_bytes > 600_000, "{}", without.update_bytes);
    // `replaced` and `new`, and next to nothing for the rest.
    let new = REPLACED_BYTES + NEW_BYTES;
    assert!(
        (new..new + 20_000).contains(&with.update_bytes),
        "{}",
        with.update_bytes
    );
    assert_eq!(with.update.whole_bytes, 0, "copies among the patches");
    assert_eq!(u64::from(with.patches_checked), with.update.patched);
}

#[test]
fn the_patches_of_each_base_are_one_run_behind_the_whole_blobs() {
    let workshop = workshop();
    // A second base, with an older program.
    let root = fs::read(workshop.at("root.tar")).unwrap();
    workshop.put(
        "root.tar",
        &archive_of(&[
            ("usr/bin/program".to_owned(), noise(150_000, 1)),
            ("usr/lib/os-release".to_owned(), OS_RELEASE.into()),
        ]),
    );
    workshop.build(&recipe(""), "older.tseal").unwrap();
    workshop.put("root.tar", &root);
    let path = workshop
        .build(&recipe("'old.tseal', 'older.tseal'"), "new.tseal")
        .unwrap();
    let bundle = Bundle::open(&path).unwrap();
    let end = |range: &Range| range.stored_offset + u64::from(range.stored_bytes);
    let whole = route(&path, 0);
    let mut next = whole
        .iter()
        .flat_map(|blob| &blob.ranges)
        .map(end)
        .max()
        .unwrap();
    for number in [1, 2] {
        let blobs = route(&path, number);
        assert!(with_patch(&blobs).len() >= 2, "route {number}");
        for range in blobs
            .iter()
            .flat_map(|blob| &blob.alternatives)
            .flat_map(|(_, ranges)| ranges)
        {
            assert_eq!(range.stored_offset, next, "route {number}");
            next = end(range);
        }
    }
    assert_eq!(next, bundle.manifest().data_parts.iter().sum::<u64>());
    let bases: Vec<PathBuf> = ["old.tseal", "older.tseal"]
        .map(|name| workshop.at(name))
        .into();
    assert!(verify_patches(&path, &bases).unwrap().patches >= 4);
    assert!(matches!(
        verify_patches(&workshop.at("old.tseal"), &bases),
        Err(Error::Unsound(Unsound::BaseUnknown { .. }))
    ));
}

#[test]
fn bundles_without_zstd_have_patches_without_zstd() {
    let workshop = workshop();
    for compression in ["deflate", "none"] {
        let recipe = format!("compression = '{compression}'\n{}", recipe("'old.tseal'"));
        let path = workshop.build(&recipe, "new.tseal").unwrap();
        let blobs = route(&path, 1);
        let ranges = blobs
            .iter()
            .flat_map(|blob| &blob.alternatives)
            .flat_map(|(_, ranges)| ranges);
        let zstd = ranges
            .filter(|range| range.encoding == Encoding::Zstd)
            .count();
        assert_eq!(
            (
                zstd,
                Bundle::open(&path)
                    .unwrap()
                    .manifest()
                    .needs
                    .zstd_window_log
            ),
            (0, 0)
        );
        assert!(with_patch(&blobs).len() >= 4, "{compression}");
        verify_patches(&path, &[workshop.at("old.tseal")]).unwrap();
    }
}

#[test]
fn a_damaged_patch_is_found() {
    let workshop = workshop();
    let path = workshop.build(&recipe("'old.tseal'"), "new.tseal").unwrap();
    let bundle = Bundle::open(&path).unwrap();
    let blobs = route(&path, 1);
    let range = with_patch(&blobs)[0].alternatives[0].1[0];
    let (_, place) = bundle
        .layout()
        .data(range.stored_offset, u64::from(range.stored_bytes))
        .unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[place.offset as usize + 3] ^= 1;
    let torn = workshop.put("torn.tseal", &bytes);
    for error in [
        verify(&torn, &workshop.device()).map(|_| ()).unwrap_err(),
        verify_patches(&torn, &[workshop.at("old.tseal")])
            .map(|_| ())
            .unwrap_err(),
    ] {
        assert!(matches!(error, Error::Bundle(_)), "{error}");
    }
}

/// A signed bundle with a route from itself, in which the first image has an alternative of these instructions, which stand as they
/// are behind the data; `change` has the last word.
fn with_alternative(
    instructions: &[u8],
    change: fn(&mut Alternative, &mut Range, &mut Vec<u8>),
) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let image = image().unwrap();
    let base = Recipe::new(&image)
        .draft()
        .unwrap()
        .signed_by(&[&first_key()]);
    let base_path = directory.path().join("base.tseal");
    fs::write(&base_path, base).unwrap();
    let name: [u8; 32] = Sha256::digest(Bundle::open(&base_path).unwrap().manifest_entry()).into();

    let mut draft = Recipe::new(&image).draft().unwrap();
    let mut records = draft.records.clone();
    let place = records
        .iter()
        .position(|record| matches!(record, Record::Blob(blob) if blob.role == Role::Image));
    let place = place.unwrap();
    let Record::Blob(mut blob) = records[place] else {
        panic!("a blob")
    };
    let mut alternative = Alternative {
        method: METHOD_PATCH,
        base_role: Role::Image,
        base_digest: blob.digest,
        base_size: blob.size,
        ranges: 1,
        stored_bytes: instructions.len() as u64,
    };
    let mut range = Range {
        encoding: Encoding::Deflate,
        raw_offset: 0,
        raw_bytes: blob.size as u32,
        stored_offset: draft.data.len() as u64,
        stored_bytes: 0,
        stored_sha256: [0; 32],
        raw_sha256: [0; 32],
    };
    let mut stored = miniz_oxide::deflate::compress_to_vec(instructions, 6);
    change(&mut alternative, &mut range, &mut stored);
    if range.stored_bytes == 0 {
        range.stored_bytes = stored.len() as u32;
    }
    range.stored_sha256 = Sha256::digest(&stored[..range.stored_bytes as usize]).into();
    alternative.stored_bytes = u64::from(range.stored_bytes);
    blob.alternatives = 1;
    let ranges = blob.ranges as usize;
    records[place] = Record::Blob(blob);
    let more = [Record::Alternative(alternative), Record::Range(range)];
    records.splice(place + 1 + ranges..place + 1 + ranges, more);
    let (blocks, route) = full_route(&records);
    draft
        .manifest
        .routes
        .push(Route {
            base: Some(name),
            ..route
        })
        .unwrap();
    draft.more_blocks = blocks;
    *draft.manifest.data_parts.last_mut().unwrap() += stored.len() as u64;
    draft.data.extend(&stored);
    let path = directory.path().join("new.tseal");
    fs::write(&path, draft.signed_by(&[&first_key()])).unwrap();
    (directory, path, base_path)
}

/// Adds zeros to the whole base: a patch to what is there already.
fn whole_base(bytes: usize) -> Vec<u8> {
    let mut stream = vec![1, 0];
    let mut left = bytes;
    while left >= 0x80 {
        stream.push(left as u8 | 0x80);
        left >>= 7;
    }
    stream.extend([left as u8, 0]);
    stream.resize(stream.len() + bytes, 0);
    stream
}

/// Size of the image in the drafts.
const IMAGE_BYTES: usize = 33 * 300;

#[test]
fn patches_that_give_something_else_are_found() {
    let fault = |instructions: &[u8], change| {
        let (_directory, path, base) = with_alternative(instructions, change);
        verify(&path, &device()).unwrap();
        match verify_patches(&path, &[base]) {
            Err(Error::Unsound(Unsound::Patch {
                route: 1, fault, ..
            })) => Some(fault),
            Ok(checked) => {
                assert_eq!(checked.patches, 1);
                None
            }
            Err(error) => panic!("{error}"),
        }
    };
    let right = whole_base(IMAGE_BYTES);
    assert_eq!(fault(&right, |_, _, _| ()), None);
    let mut other = right.clone();
    other[1000] = 1;
    // One range gives the whole blob, whose digest is the range's too.
    assert_eq!(fault(&other, |_, _, _| ()), Some(ApplyFault::Digest));
    let short = &right[..right.len() - 100];
    assert!(matches!(
        fault(short, |_, _, _| ()),
        Some(ApplyFault::Instructions(_) | ApplyFault::Decode)
    ));
    assert!(matches!(
        fault(&[1, 1], |_, _, _| ()),
        Some(ApplyFault::Instructions(_))
    ));
    assert_eq!(
        fault(&right, |_, _, stored| stored.fill(0xff)),
        Some(ApplyFault::Decode)
    );
    assert_eq!(
        fault(&right, |alternative, _, _| alternative.base_size += 1),
        Some(ApplyFault::BaseSize)
    );
}

#[test]
fn patches_that_leave_a_gap_or_data_that_nobody_names_are_found() {
    let right = whole_base(IMAGE_BYTES);
    let error = |change| {
        let (_directory, path, _) = with_alternative(&right, change);
        verify(&path, &device()).map(|_| ()).unwrap_err()
    };
    let unused = error(|_, range, stored| {
        range.stored_bytes = stored.len() as u32;
        stored.push(0);
    });
    assert!(matches!(unused, Error::Bundle(_)), "{unused}");
    assert!(unused.to_string().contains("leave a gap"), "{unused}");
    let gap = error(|_, range, stored| {
        range.stored_offset += 1;
        range.stored_bytes = stored.len() as u32 - 1;
    });
    assert!(
        matches!(
            gap,
            Error::Unsound(Unsound::PatchPlace { route: 1, .. }) | Error::Bundle(_)
        ),
        "{gap}"
    );
}
