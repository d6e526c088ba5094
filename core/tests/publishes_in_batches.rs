//! Objects that wait for each other until one sync brings them to the medium: fewer syncs, and not one promise less.

mod support;

use std::collections::BTreeMap;
use support::*;
use twinseal_core::error::{Error, StorageFault};
use twinseal_core::install::Start;

const BATCH: usize = 4;

/// A release of 30 objects, some of several ranges.
fn first() -> Release {
    let size = |seed: u64| if seed.is_multiple_of(7) { 9000 } else { 60 };
    Release {
        objects: (0..30).map(|seed| noise(1000 + seed, size(seed))).collect(),
        ..Release::sealed(1)
    }
}

fn batched(device: Device) -> Device {
    Device {
        batch: BATCH,
        ..device
    }
}

fn without_audit() -> Options {
    Options {
        audit: false,
        ..Options::default()
    }
}

#[test]
fn a_batch_is_synced_once() {
    let release = first();
    let objects = release.objects.len();
    // The UKI, the image and the composefs image are settled one by one.
    let others = 3;
    for (batch, syncs) in [(0, objects), (BATCH, objects.div_ceil(BATCH)), (100, 1)] {
        for source in [Device::new(), Device::running(&release)] {
            let mut device = Device { batch, ..source };
            let done = install(&release.build(), &mut device, &Options::default()).unwrap();
            assert_holds_only(&device, &release);
            assert_eq!(device.syncs as usize, syncs + others);
            assert_eq!(done.tally.blobs as usize, objects + others);
            let bytes = |blobs: &[Vec<u8>]| blobs.iter().map(Vec::len).sum::<usize>();
            assert!(done.tally.read_back_bytes as usize > bytes(&release.objects));
        }
    }
}

#[test]
fn a_power_cut_at_every_change_ends_in_the_same_set() {
    let release = first();
    let bundle = release.build();
    let mut cuts = 0;
    for fresh in [true, false] {
        let device = || match fresh {
            true => batched(Device::new()),
            false => batched(Device::running(&release)),
        };
        let mut whole = device();
        install(&bundle, &mut whole, &Options::default()).unwrap();
        for cut in 0..whole.changes {
            let mut device = device();
            device.cut_at = Some(cut);
            install(&bundle, &mut device, &Options::default()).unwrap_err();
            assert!(
                !device.bootable || device.prepared == 0,
                "cut {cut} left a bootable set half-written"
            );
            for (name, bytes) in &device.target {
                assert_eq!(verity(bytes).as_bytes(), name, "a name before its bytes");
            }
            device.cut_at = None;
            install(&bundle, &mut device, &Options::default()).unwrap();
            assert_holds(&device, &release);
            cuts += 1;
        }
    }
    println!("{cuts} power cuts");
    assert!(cuts > 200, "only {cuts} cuts were made");
}

#[test]
fn a_power_cut_that_takes_all_that_waits_costs_no_more_than_a_batch() {
    let release = first();
    let bundle = release.build();
    let mut whole = batched(Device::new());
    let undisturbed = install(&bundle, &mut whole, &without_audit()).unwrap();
    let mut kept_at_most = 0;
    for keeps_bytes in [false, true] {
        for cut in 0..whole.changes {
            let mut device = batched(Device::new());
            device.cut_at = Some(cut);
            install(&bundle, &mut device, &without_audit()).unwrap_err();
            let published = device.target.len();
            let waiting = device.waiting.len();
            assert!(waiting <= BATCH);
            if !keeps_bytes {
                device.partial = BTreeMap::new();
            }
            device.cut_at = None;
            let done = install(&bundle, &mut device, &without_audit()).unwrap();
            assert_holds(&device, &release);
            let saved = undisturbed.tally.data_bytes - done.tally.data_bytes;
            assert!(saved as usize >= 60 * published);
            if keeps_bytes {
                // What was written and has no name yet is checked and taken as well.
                assert!(saved as usize >= 60 * (published + waiting));
                kept_at_most = kept_at_most.max(waiting);
            }
        }
    }
    assert_eq!(kept_at_most, BATCH);
}

#[test]
fn an_object_of_a_batch_that_the_medium_changed_is_found_out() {
    let release = first();
    let mut device = Device {
        bad_batch: true,
        ..batched(Device::new())
    };
    let refused = install(&release.build(), &mut device, &Options::default()).unwrap_err();
    assert!(
        matches!(refused, Error::Storage(error) if error.fault == StorageFault::ReadBack),
        "{refused:?}"
    );
    assert!(!device.bootable && device.target.is_empty());
}

#[test]
fn what_waits_is_published_before_everything_is_planned_anew() {
    let (old, new) = (first(), Release::after(&first(), 50));
    let alone = install_alone(&old);
    for spoiled in &old.objects {
        let mut device = batched(Device {
            running_front: alone.front.clone(),
            ..Device::running(&old)
        });
        device.spoiled.insert(verity(spoiled).as_bytes().to_vec());
        let done = install(&new.build(), &mut device, &without_audit()).unwrap();
        assert_eq!(done.plan.unwrap().start, Start::Running);
        assert_holds(&device, &new);
        let blobs = new.objects.len() + 3;
        // The UKI and the image are written once more; no object is.
        assert!(
            done.tally.blobs as usize <= blobs + 2,
            "{}",
            done.tally.blobs
        );
    }
}

fn install_alone(release: &Release) -> Device {
    let mut device = Device::new();
    install(&release.build(), &mut device, &Options::default()).unwrap();
    device
}
