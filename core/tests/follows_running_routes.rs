//! The route from the release that runs: it costs what has changed, the objects that stay are copied from the running set and
//! checked, and a running set that is not what its release says costs the full route, never a wrong set.

mod support;

use support::*;
use twinseal_core::error::{BundleInvalid, Error, PolicyRefused, RecordFault};
use twinseal_core::install::{NoBase, Plan, Start};
use twinseal_core::wire::digest::BlobDigest;
use twinseal_core::wire::index::{BLOCK_BYTES, Encoding, Record, Removed};

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

/// A device that runs a committed release; its target set is empty.
fn running(release: &Release) -> Device {
    let alone = Release {
        base: None,
        patched_from: Vec::new(),
        ..release.clone()
    };
    let mut factory = Device::new();
    install(&alone.build(), &mut factory, &Options::default()).unwrap();
    Device {
        running_front: factory.front,
        ..Device::running(release)
    }
}

fn installed(bundle: &[u8], device: &mut Device, options: &Options) -> Plan {
    let done = install(bundle, device, options).unwrap();
    let plan = done.plan.unwrap();
    // What an earlier attempt left of a blob is not in the plan.
    assert!(done.tally.source_bytes() <= plan.source_bytes());
    assert_eq!(done.tally.copied_bytes, plan.copy_bytes);
    plan
}

#[test]
fn an_update_of_a_device_whose_other_set_is_empty_reads_a_route_and_copies_the_rest() {
    let (old, new) = (first(), Release::after(&first(), 50));
    let bundle = new.build();
    for options in [without_audit(), Options::default()] {
        let mut device = running(&old);
        let done = install(&bundle, &mut device, &options).unwrap();
        let plan = done.plan.unwrap();
        assert_eq!(done.tally.source_bytes(), plan.source_bytes());
        assert_eq!(done.tally.present_bytes, plan.present_bytes);
        assert_eq!(done.tally.copied_bytes, plan.copy_bytes);
        assert_eq!(plan.base, Some(sha256(manifest_entry(&old.build()))));
        assert_eq!(plan.start, Start::Running);
        assert_eq!(plan.index_bytes, BLOCK_BYTES as u64);
        assert_eq!((plan.copy_blobs, plan.copy_bytes), (299, 299 * 50));
        assert_eq!((plan.present_blobs, plan.removed_blobs), (0, 1));
        assert_eq!(plan.bundle_bytes, bundle.len() as u64);
        assert_holds_only(&device, &new);
    }
}

#[test]
fn what_the_target_set_has_already_is_not_copied() {
    let (old, new) = (first(), Release::after(&first(), 50));
    let mut device = running(&old);
    for object in old.objects.iter().take(120) {
        let name = verity(object).as_bytes().to_vec();
        device.target.insert(name, object.clone());
    }
    let plan = installed(&new.build(), &mut device, &without_audit());
    assert_eq!(plan.start, Start::Running);
    assert_eq!((plan.present_blobs, plan.copy_blobs), (120, 179));
    assert_holds_only(&device, &new);
}

#[test]
fn of_two_sets_with_one_release_the_target_set_is_the_base_and_of_two_releases_the_running_one() {
    let (old, new) = (first(), Release::after(&first(), 50));
    let mut device = running(&old);
    install(&old.build(), &mut device, &without_audit()).unwrap();
    let plan = installed(&new.build(), &mut device, &without_audit());
    assert_eq!((plan.start, plan.copy_blobs), (Start::Target, 0));
    assert_holds_only(&device, &new);

    let (older, mut device) = (Release::after(&first(), 40), running(&old));
    install(&older.build(), &mut device, &without_audit()).unwrap();
    let plan = installed(&new.build(), &mut device, &without_audit());
    assert_eq!(plan.start, Start::Running);
    assert_eq!((plan.present_blobs, plan.copy_blobs), (299, 0));
    assert_holds(&device, &new);
}

#[test]
fn without_a_route_the_plan_says_why() {
    let (old, new) = (first(), Release::after(&first(), 50));
    let start = |device: &mut Device, release: &Release| {
        let plan = installed(&release.build(), device, &without_audit());
        assert_holds(device, release);
        (plan.base, plan.start)
    };
    let full = |why| (None, Start::Nothing(why));
    let alone = Release {
        base: None,
        ..new.clone()
    };
    assert_eq!(start(&mut running(&old), &alone), full(NoBase::NoRoutes));
    let mut device = running(&old);
    device.running_front.clear();
    assert_eq!(start(&mut device, &new), full(NoBase::NothingProved));
    let mut device = running(&Release::sealed(3));
    assert_eq!(start(&mut device, &new), full(NoBase::NoRouteFrom));
}

#[test]
fn a_running_set_that_is_not_what_its_release_says_costs_the_full_route() {
    let (old, new) = (first(), Release::after(&first(), 50));
    let bundle = new.build();
    let name = |number: usize| verity(&first().objects[number]).as_bytes().to_vec();
    let spoils: [&dyn Fn(&mut Device); 4] = [
        &|device| drop(device.running.remove(&name(7))),
        &|device| drop(device.running.insert(vec![9; 32], vec![1; 50])),
        &|device| device.running.get_mut(&name(7)).unwrap().push(1),
        &|device| {
            // One is lost, another of its size has come: the sums fit, and the copy shows it.
            device.running.remove(&name(7));
            device.running.insert(vec![9; 32], vec![1; 50]);
        },
    ];
    for (number, spoil) in spoils.iter().enumerate() {
        let mut device = running(&old);
        spoil(&mut device);
        let plan = install(&bundle, &mut device, &without_audit())
            .unwrap()
            .plan
            .unwrap();
        let at_the_plan = number < 3;
        let expected = if at_the_plan {
            Start::Nothing(NoBase::SetDiffers)
        } else {
            Start::Running
        };
        assert_eq!(plan.start, expected, "{number}");
        assert_holds(&device, &new);
    }
}

#[test]
fn a_damaged_object_is_fetched_along_the_full_route_within_the_budget() {
    let (old, new) = (first(), Release::after(&first(), 50));
    let bundle = new.build();
    let damaged = || {
        let mut device = running(&old);
        let name = verity(&old.objects[7]).as_bytes().to_vec();
        device.spoiled.insert(name);
        device
    };
    let mut device = damaged();
    let done = install(&bundle, &mut device, &without_audit()).unwrap();
    assert_eq!(done.plan.unwrap().start, Start::Running);
    assert!(done.tally.damaged_blobs > 0);
    assert_holds(&device, &new);
    let within = |budget| Options {
        budget: Some(budget),
        ..without_audit()
    };
    // What the first plan took is too little for the second, which says what it takes.
    let planned = done.plan.unwrap().source_bytes();
    assert!(done.tally.source_bytes() > planned);
    let mut device = damaged();
    let stopped = install(&bundle, &mut device, &within(planned)).unwrap_err();
    assert!(!device.bootable, "{stopped}");
    let enough = done.tally.source_bytes() + 20_000;
    install(&bundle, &mut damaged(), &within(enough)).unwrap();
    let refused = matches!(
        stopped,
        Error::PolicyRefused(PolicyRefused::BudgetExceeded { .. })
    );
    assert!(refused, "{stopped}");
    install(&bundle, &mut device, &without_audit()).unwrap();
    assert_holds(&device, &new);
    let no_way_back = Options {
        can_go_back: false,
        ..without_audit()
    };
    let base = verity(&old.objects[7]);
    assert_eq!(
        install(&bundle, &mut damaged(), &no_way_back).unwrap_err(),
        PolicyRefused::BaseDamaged { base }.into()
    );
}

#[test]
fn a_power_cut_at_every_change_ends_in_the_same_set() {
    let small = Release {
        objects: (0..5).map(|seed| noise(1000 + seed, 50)).collect(),
        ..Release::sealed(1)
    };
    let new = Release::after(&small, 50);
    let bundle = new.build();
    let mut whole = running(&small);
    install(&bundle, &mut whole, &Options::default()).unwrap();
    let mut cuts = 0;
    for cut in 0..whole.changes {
        let mut device = running(&small);
        device.cut_at = Some(cut);
        let stopped = install(&bundle, &mut device, &Options::default());
        assert!(matches!(stopped, Err(Error::Storage(_))));
        assert!(!device.bootable || device.prepared == 0, "cut {cut}");
        device.cut_at = None;
        let plan = installed(&bundle, &mut device, &Options::default());
        assert_eq!(plan.start, Start::Running, "cut {cut}: it runs as before");
        assert_holds_only(&device, &new);
        cuts += 1;
    }
    println!("{cuts} power cuts");
    assert!(cuts > 15, "only {cuts} cuts were made");
}

#[test]
fn patches_of_the_route_start_from_what_runs() {
    let old = Release {
        objects: (0..30).map(|seed| noise(1000 + seed, 900)).collect(),
        encoding: Encoding::Deflate,
        ..first()
    };
    let changed = Release::after(&old, 50);
    let mut grown = old.objects.last().unwrap().clone();
    grown.push(7);
    let mut objects = old.objects.clone();
    *objects.last_mut().unwrap() = grown;
    let new = Release {
        objects,
        patched_from: vec![old.clone()],
        ..changed
    };
    let mut device = running(&old);
    let plan = installed(&new.build(), &mut device, &without_audit());
    assert_eq!(plan.start, Start::Running);
    assert!(plan.patch_blobs > 0);
    assert!(plan.whole_bytes > 0 && plan.patch_bytes > 0);
    assert_holds_only(&device, &new);
}

#[test]
fn a_removed_object_too_many_is_refused_before_anything_is_written() {
    let (old, new) = (first(), Release::after(&first(), 50));
    let bundle = new.build_routes_with(
        |_| {},
        |records| {
            let kept = verity(&old.objects[0]);
            let after = |record: &Record| match record {
                Record::Blob(blob) => blob.digest.as_bytes() > kept.as_bytes(),
                Record::Removed(removed) => removed.digest.as_bytes() > kept.as_bytes(),
                _ => false,
            };
            let first_object = 1 + records.iter().skip(1).position(after).unwrap_or(0);
            let digest: BlobDigest = kept;
            records.insert(
                first_object.max(4),
                Record::Removed(Removed { digest, size: 50 }),
            );
        },
        |_| {},
    );
    let mut device = running(&old);
    let error = install(&bundle, &mut device, &without_audit()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::BundleInvalid(BundleInvalid::IndexRecord {
                fault: RecordFault::Payload | RecordFault::Order,
                ..
            })
        ),
        "{error}"
    );
    assert_eq!((device.prepared, device.changes), (0, 0));
}
