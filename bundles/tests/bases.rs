//! Promises of `bases`: the index gets one route for each, which lists what has changed and nothing else.

mod support;
#[path = "../src/pe/synthetic.rs"]
mod synthetic;

use std::fs;

use sha2::{Digest, Sha256};
use support::{Workshop, root_archive};
use twinseal_bundle::assemble::full_route;
use twinseal_bundle::error::{Error, Unsound};
use twinseal_bundle::inspect::inspect;
use twinseal_bundle::read::Bundle;
use twinseal_bundle::vectors::{Recipe, device, first_key, image};
use twinseal_bundle::verify::verify;
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::{Blob, Encoding, Record, Removed, Role};
use twinseal_core::wire::manifest::Route;

/// A workshop whose root has changed since `old.tseal` was built.
fn workshop() -> Workshop {
    let workshop = Workshop::new();
    workshop
        .build(Workshop::system_recipe(), "old.tseal")
        .unwrap();
    workshop.put("root.tar", &root_archive(2));
    workshop
}

fn with_bases(bases: &str) -> String {
    format!("bases = [{bases}]\n{}", Workshop::system_recipe())
}

#[test]
fn a_route_lists_what_the_base_has_not_and_what_only_the_base_has() {
    let workshop = workshop();
    let recipe = with_bases("'old.tseal'");
    let path = workshop.build(&recipe, "new.tseal").unwrap();
    let again = workshop.build(&recipe, "again.tseal").unwrap();
    assert!(fs::read(&path).unwrap() == fs::read(again).unwrap());
    let (old, new) = (
        Bundle::open(&workshop.at("old.tseal")).unwrap(),
        Bundle::open(&path).unwrap(),
    );
    let objects = |bundle: &Bundle| -> Vec<_> {
        let index = bundle.index().unwrap().into_iter();
        index
            .filter(|indexed| indexed.blob.role == Role::Object)
            .map(|indexed| indexed.blob.digest)
            .collect()
    };
    let (before, after) = (objects(&old), objects(&new));
    let named: [u8; 32] = Sha256::digest(old.manifest_entry()).into();
    let [full, route] = &new.manifest().routes[..] else {
        panic!("{:?}", new.manifest().routes);
    };
    assert_eq!((full.base, route.base), (None, Some(named)));
    let (blobs, removed) = new.route(1).unwrap();
    let added: Vec<_> = blobs
        .iter()
        .filter(|indexed| indexed.blob.role == Role::Object)
        .map(|indexed| indexed.blob.digest)
        .collect();
    let not_in = |one: &[BlobDigest], other: &[BlobDigest]| -> Vec<BlobDigest> {
        one.iter()
            .filter(|digest| !other.contains(digest))
            .copied()
            .collect()
    };
    let removed: Vec<_> = removed.iter().map(|object| object.digest).collect();
    assert_eq!(added, not_in(&after, &before));
    assert_eq!(removed, not_in(&before, &after));
    assert!(!added.is_empty() && !removed.is_empty() && added.len() < after.len());
    let roles: Vec<_> = blobs.iter().map(|indexed| indexed.blob.role).collect();
    assert_eq!(
        (roles.first(), roles.last()),
        (Some(&Role::Uki), Some(&Role::Composefs))
    );
    verify(&path, &workshop.device()).unwrap();
    let shown = inspect(&path, false).unwrap().index.routes;
    let hex: String = named.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(shown, [None, Some(hex)]);
}

#[test]
fn bases_that_cannot_help_are_refused_with_their_reason() {
    let workshop = workshop();
    workshop.put("one.img", b"1");
    let image = "[[image]]\nslot = 'fpga'\nfile = 'one.img'\n";
    let plain = "compatible = 'test-device'\nversion = '1.0'\nanti-rollback = 3\n";
    workshop
        .build(&format!("{plain}{image}"), "images.tseal")
        .unwrap();
    let other = Workshop::system_recipe().replace("test-device", "another-device");
    workshop.build(&other, "other.tseal").unwrap();
    let mut torn = fs::read(workshop.at("old.tseal")).unwrap();
    torn.truncate(torn.len() - 1);
    workshop.put("torn.tseal", &torn);
    for (recipe, expected) in [
        (with_bases("'old.tseal', 'old.tseal'"), "same release"),
        (with_bases("'other.tseal'"), "is for `another-device`"),
        (with_bases("'images.tseal'"), "has no root"),
        (with_bases("'torn.tseal'"), "bytes"),
        (with_bases("'nowhere.tseal'"), "nowhere.tseal"),
        (
            format!("{plain}bases = ['old.tseal']\n{image}"),
            "`bases` needs `root` too",
        ),
    ] {
        let error = workshop.build(&recipe, "b.tseal").unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    assert!(!workshop.at("b.tseal").exists());
}

/// A bundle with a route from a base, whose records are the full route's as `change` leaves them.
fn with_route(change: fn(&mut Vec<Record>)) -> Result<(), Error> {
    let directory = tempfile::tempdir().unwrap();
    let image = image().unwrap();
    let mut draft = Recipe::new(&image).draft().unwrap();
    let mut records = draft.records.clone();
    change(&mut records);
    let (blocks, route) = full_route(&records);
    let base = Some([0xba; 32]);
    draft.manifest.routes.push(Route { base, ..route }).unwrap();
    draft.more_blocks = blocks;
    let path = directory.path().join("b.tseal");
    fs::write(&path, draft.signed_by(&[&first_key()])).unwrap();
    verify(&path, &device()).map(|_| ())
}

#[test]
fn a_route_that_says_something_else_than_the_full_one_is_found() {
    fn blobs(records: &[Record]) -> impl Iterator<Item = (usize, Blob)> {
        let numbered = records.iter().enumerate();
        numbered.filter_map(|(at, record)| match record {
            Record::Blob(blob) => Some((at, *blob)),
            _ => None,
        })
    }
    assert!(with_route(|_| ()).is_ok());
    let other_range = with_route(|records| {
        for record in records {
            // What is stored as it is has one digest for both.
            if let Record::Range(range) = record
                && range.encoding != Encoding::Stored
            {
                range.stored_sha256 = [7; 32];
            }
        }
    });
    assert!(matches!(
        other_range,
        Err(Error::Unsound(Unsound::RouteBlob { route: 1, .. }))
    ));
    let other_order = with_route(|records| {
        let (second, _) = blobs(records).nth(1).unwrap();
        records.rotate_left(second);
    });
    assert!(matches!(
        other_order,
        Err(Error::Unsound(Unsound::RouteBlob { route: 1, .. }))
    ));
    let left_out = with_route(|records| {
        let (second, _) = blobs(records).nth(1).unwrap();
        records.drain(..second);
    });
    assert!(matches!(
        left_out,
        Err(Error::Unsound(Unsound::RoutePayloads { route: 1 }))
    ));
    let removed = with_route(|records| {
        let object = blobs(records).find(|(_, blob)| blob.role == Role::Object);
        let (at, Blob { digest, size, .. }) = object.unwrap();
        records.insert(at, Record::Removed(Removed { digest, size }));
    });
    assert!(matches!(
        removed,
        Err(Error::Unsound(Unsound::RouteRemoves { route: 1, .. }))
    ));
}
