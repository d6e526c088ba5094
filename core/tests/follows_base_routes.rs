//! The route from a base release: it is followed only when the target set's own front matter proves the base, costs what has
//! changed, and leaves exactly the new release.

mod support;

use support::*;
use twinseal_core::error::{BundleInvalid, Error, PolicyRefused, RecordFault};
use twinseal_core::storage::Space;
use twinseal_core::wire::digest::{BlobDigest, DigestAlgorithm};
use twinseal_core::wire::index::{BLOCK_BYTES, Record, Removed, Role};

/// A release of many objects.
fn first() -> Release {
    Release {
        objects: (0..300).map(|seed| noise(1000 + seed, 50)).collect(),
        ..Release::sealed(1)
    }
}

fn without_audit() -> Options {
    Options {
        audit: false,
        ..Options::default()
    }
}

/// A device whose target set holds a release, by an install.
fn holding(release: &Release) -> Device {
    let mut device = Device::new();
    let alone = Release {
        base: None,
        ..release.clone()
    };
    install(&alone.build(), &mut device, &Options::default()).unwrap();
    device.looks = 0;
    device.prepared = 0;
    device.changes = 0;
    device
}

#[test]
fn an_update_from_its_base_looks_at_what_has_changed_alone() {
    let (old, mut new) = (first(), Release::after(&first(), 50));
    new.images = vec![("fpga", noise(99, 10_000))];
    let bundle = new.build();
    for options in [without_audit(), Options::default()] {
        let mut device = holding(&old);
        let done = install(&bundle, &mut device, &options).unwrap();
        let plan = done.plan.unwrap();
        assert_eq!(plan.base, Some(sha256(manifest_entry(&old.build()))));
        assert_eq!(plan.index_bytes, BLOCK_BYTES as u64);
        if !options.audit {
            assert_eq!(done.tally.index_bytes, BLOCK_BYTES as u64);
        }
        assert_eq!(done.tally.source_bytes(), plan.source_bytes());
        assert_eq!(
            (plan.removed_blobs, device.removed),
            (1, 2),
            "and the image"
        );
        assert_eq!((plan.present_blobs, plan.present_bytes), (299, 299 * 50));
        assert_eq!(done.tally.present_bytes, plan.present_bytes);
        // The new object and the image: by the plan, and by the transfer.
        assert_eq!(device.looks, 4);
        assert_holds_only(&device, &new);
    }
}

#[test]
fn releases_follow_each_other_from_base_to_base() {
    let mut release = first();
    let mut device = holding(&release);
    for seed in [60, 70, 80] {
        release = Release::after(&release, seed);
        let done = install(&release.build(), &mut device, &without_audit()).unwrap();
        assert!(done.plan.unwrap().base.is_some());
        assert_holds_only(&device, &release);
    }
}

#[test]
fn without_proof_of_the_base_every_object_is_looked_up() {
    let (old, new) = (first(), Release::after(&first(), 50));
    let bundle = new.build();
    let nothing_kept = |device: &mut Device| device.front.clear();
    let another_release = |device: &mut Device| device.front = holding(&Release::sealed(2)).front;
    let image_gone = |device: &mut Device| {
        device.target.remove(verity(&first().erofs).as_bytes());
    };
    let spoils: [fn(&mut Device); 3] = [nothing_kept, another_release, image_gone];
    for spoil in spoils {
        let mut device = holding(&old);
        let lost = verity(&old.objects[7]);
        device.target.remove(lost.as_bytes());
        spoil(&mut device);
        let done = install(&bundle, &mut device, &without_audit()).unwrap();
        assert_eq!(done.plan.unwrap().base, None);
        assert!(device.looks > 300);
        assert_holds(&device, &new);
    }
}

#[test]
fn a_power_cut_at_every_change_ends_in_the_same_set() {
    let small = Release {
        objects: (0..5).map(|seed| noise(1000 + seed, 50)).collect(),
        ..Release::sealed(1)
    };
    let new = Release::after(&small, 50);
    let bundle = new.build();
    let mut whole = holding(&small);
    install(&bundle, &mut whole, &Options::default()).unwrap();
    let mut cuts = 0;
    for cut in 0..whole.changes {
        let mut device = holding(&small);
        device.cut_at = Some(cut);
        let stopped = install(&bundle, &mut device, &Options::default());
        assert!(matches!(stopped, Err(Error::Storage(_))));
        assert!(!device.bootable || device.prepared == 0, "cut {cut}");
        device.cut_at = None;
        let done = install(&bundle, &mut device, &Options::default()).unwrap();
        let untouched = cut == 0;
        assert_eq!(
            done.plan.unwrap().base.is_some(),
            untouched,
            "cut {cut}: a set that was touched has no front matter"
        );
        assert_holds(&device, &new);
        cuts += 1;
    }
    println!("{cuts} power cuts");
    assert!(cuts > 15, "only {cuts} cuts were made");
}

#[test]
fn what_leaves_makes_room() {
    let (old, new) = (first(), Release::after(&first(), 50));
    let leaves = old.erofs.len() + old.objects.last().unwrap().len();
    let comes = new.erofs.len() + new.objects.last().unwrap().len();
    let needed = (comes - leaves) as u64;
    let run = |root_bytes| {
        let mut device = holding(&old);
        device.space = Space {
            boot_bytes: None,
            root_bytes: Some(root_bytes),
        };
        install(&new.build(), &mut device, &Options::default()).map(|_| device)
    };
    assert!(run(needed).is_ok());
    let refused = run(needed - 1).map(|_| ()).unwrap_err();
    assert_eq!(
        refused,
        PolicyRefused::NoSpace {
            needed: comes as u64,
            available: comes as u64 - 1
        }
        .into()
    );
}

#[test]
fn what_was_an_image_and_is_an_object_stays_and_the_other_way_round() {
    let old = first();
    let mut new = Release::after(&old, 50);
    new.objects.push(old.erofs.clone());
    let mut device = holding(&old);
    let done = install(&new.build(), &mut device, &Options::default()).unwrap();
    assert!(done.plan.unwrap().base.is_some());
    assert_holds_only(&device, &new);
    // Back again: the image to come is an object of the base.
    let back = Release {
        base: Some(Box::new(Release {
            base: None,
            ..new.clone()
        })),
        ..old
    };
    let mut device = holding(&new);
    let done = install(&back.build(), &mut device, &Options::default()).unwrap();
    assert!(done.plan.unwrap().base.is_some());
    assert_holds_only(&device, &back);
}

/// Installs a bundle whose route from the base is as `change` leaves it.
fn refused(change: impl Fn(&mut Vec<Record>)) -> Error {
    let (old, new) = (first(), Release::after(&first(), 50));
    let bundle = new.build_routes_with(|_| {}, change, |_| {});
    let mut device = holding(&old);
    let error = install(&bundle, &mut device, &without_audit())
        .map(|_| ())
        .unwrap_err();
    assert_eq!((device.prepared, device.changes), (0, 0), "{error}");
    error
}

fn position(records: &[Record], matches: impl Fn(&Record) -> bool) -> usize {
    records.iter().position(matches).unwrap()
}

fn is_blob(role: Role) -> impl Fn(&Record) -> bool {
    move |record| matches!(record, Record::Blob(blob) if blob.role == role)
}

const fn is_removed(record: &Record) -> bool {
    matches!(record, Record::Removed(_))
}

#[test]
fn each_contradiction_in_the_route_is_refused_before_anything_is_written() {
    let fault = |fault| Error::from(BundleInvalid::IndexRecord { block: 0, fault });
    let order = fault(RecordFault::Order);
    let take_removed = |records: &mut Vec<Record>| records.remove(position(records, is_removed));
    let left_out = refused(|records| {
        take_removed(records);
    });
    assert_eq!(left_out, fault(RecordFault::Payload), "a removed object");
    let twice = refused(|records| {
        let at = position(records, is_removed);
        records.insert(at, records[at]);
    });
    assert_eq!(twice, order, "removed twice");
    let early = refused(|records| {
        let removed = take_removed(records);
        records.insert(0, removed);
    });
    assert_eq!(early, order, "before the UKI");
    let late = refused(|records| {
        let removed = take_removed(records);
        records.push(removed);
    });
    assert_eq!(late, order, "after the composefs image");
    let inside = refused(|records| {
        let removed = take_removed(records);
        records.insert(1, removed);
    });
    assert_eq!(inside, order, "within a blob");
    let both = refused(|records| {
        let at = position(records, is_blob(Role::Object));
        let Record::Blob(blob) = records[at] else {
            return;
        };
        let (digest, size) = (blob.digest, blob.size);
        records.insert(at, Record::Removed(Removed { digest, size }));
    });
    assert_eq!(both, order, "removed and there");
    let other_size = refused(|records| {
        let at = position(records, is_removed);
        if let Record::Removed(removed) = &mut records[at] {
            removed.size += 1;
        }
    });
    assert_eq!(other_size, fault(RecordFault::Payload), "another size");
    let object_missing = refused(|records| {
        let at = position(records, is_blob(Role::Object));
        records.drain(at..at + 2);
    });
    assert_eq!(object_missing, fault(RecordFault::Payload), "an object");
    let image_missing = refused(|records| {
        let at = position(records, is_blob(Role::Image));
        let next = position(records, |record| {
            is_removed(record) || is_blob(Role::Object)(record)
        });
        records.drain(at..next);
    });
    assert_eq!(image_missing, fault(RecordFault::Payload), "a raw image");
    let long_digest = refused(|records| {
        let at = position(records, is_removed);
        let digest = BlobDigest::new(DigestAlgorithm::Sha512, &[0xff; 64]).unwrap();
        if let Record::Removed(removed) = &mut records[at] {
            removed.digest = digest;
        }
        let removed = records.remove(at);
        let end = position(records, is_blob(Role::Composefs));
        records.insert(end, removed);
    });
    assert_eq!(long_digest, BundleInvalid::AlgorithmUnsupported.into());
}

#[test]
fn ranges_ascend_and_a_blob_has_no_gap() {
    let tiling = Error::from(BundleInvalid::IndexRecord {
        block: 0,
        fault: RecordFault::Tiling,
    });
    let image_range = |records: &[Record], number: usize| {
        position(records, is_blob(Role::Composefs)) + 1 + number
    };
    let move_by = |bytes: i64, number: usize| {
        refused(|records| {
            let at = image_range(records, number);
            if let Record::Range(range) = &mut records[at] {
                range.stored_offset = range.stored_offset.wrapping_add_signed(bytes);
            }
        })
    };
    assert_eq!(move_by(1, 1), tiling, "a gap within a blob");
    assert_eq!(move_by(-20_000, 0), tiling, "data that was passed");
    let past_the_end = move_by(1, 0);
    assert!(
        matches!(past_the_end, Error::BundleInvalid(_)),
        "{past_the_end}"
    );
}

#[test]
fn the_full_route_removes_nothing() {
    let (old, new) = (first(), Release::after(&first(), 50));
    let bundle = new.build_with(
        |records| {
            let at = position(records, is_blob(Role::Object));
            let digest = BlobDigest::sha256([0; 32]);
            records.insert(at, Record::Removed(Removed { digest, size: 1 }));
        },
        |_| {},
    );
    let mut device = holding(&old);
    device.front.clear();
    let error = install(&bundle, &mut device, &without_audit()).unwrap_err();
    let fault = RecordFault::Order;
    assert_eq!(error, BundleInvalid::IndexRecord { block: 0, fault }.into());
}

#[test]
fn a_damaged_block_of_the_route_is_refused() {
    let (old, new) = (first(), Release::after(&first(), 50));
    let mut bundle = new.build();
    let data = bundle
        .chunks(512)
        .position(|block| block.starts_with(b"data\0"));
    let data = data.unwrap() * 512;
    bundle[data - 3000] ^= 1;
    let mut device = holding(&old);
    let error = install(&bundle, &mut device, &without_audit()).unwrap_err();
    assert_eq!(error, BundleInvalid::IndexBlock { block: 0 }.into());
    assert_eq!(device.prepared, 0);
    device.front.clear();
    install(&bundle, &mut device, &without_audit()).expect("the full route is whole");
}
