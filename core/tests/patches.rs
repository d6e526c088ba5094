//! Patches: a device that has the base fetches less and gets the same; nothing wrong ever comes of a base, a range or a power cut.

mod support;

use support::*;
use twinseal_core::error::{BundleInvalid, Error, PolicyRefused, RecordFault};
use twinseal_core::install::{Plan, RUN_GAP_BYTES};
use twinseal_core::patch::PatchFault;
use twinseal_core::source::{Seekable, Stream};
use twinseal_core::wire::index::{Encoding, METHOD_PATCH, Range, Record, Role};

fn frugal() -> Options {
    Options {
        audit: false,
        ..Options::default()
    }
}

/// A release, the next one, and its bundle.
fn pair() -> (Release, Release, Vec<u8>) {
    let old = Release::sealed(1);
    let new = Release::evolved(&old, 3);
    let bundle = new.build();
    (old, new, bundle)
}

/// The plan of an install of `bundle`, which is carried out.
fn planned(bundle: &[u8], device: &mut Device, options: &Options) -> (Plan, Done) {
    let done = install(bundle, device, options).unwrap();
    (done.plan.unwrap(), done)
}

#[test]
fn what_the_device_has_is_patched_and_the_plan_is_to_the_byte() {
    let (old, new, bundle) = pair();
    let mut fresh = Device::new();
    let (whole, _) = planned(&bundle, &mut fresh, &frugal());
    assert_eq!((whole.patch_blobs, whole.patch_bytes), (0, 0));
    for encoding in [Encoding::Deflate, Encoding::Stored] {
        for read_back in [true, false] {
            let release = Release {
                encoding,
                ..new.clone()
            };
            let mut device = Device::running(&old);
            let options = Options {
                read_back,
                ..frugal()
            };
            let (plan, done) = planned(&release.build(), &mut device, &options);
            assert_holds(&device, &release);
            assert_eq!(done.tally.source_bytes(), plan.source_bytes());
            assert_eq!(done.tally.patch_bytes, plan.patch_bytes);
            assert_eq!(done.tally.patched_blobs, plan.patch_blobs);
            assert_eq!(done.tally.damaged_bases, 0);
            match encoding {
                // What is stored as it is takes a little more than the whole blob, and less than a request.
                Encoding::Stored => {
                    assert!(plan.patch_blobs >= 5, "{plan:?}");
                    let (whole, _) = planned(&release.build(), &mut Device::new(), &frugal());
                    let most = whole.fetch_bytes + u64::from(plan.patch_blobs) * RUN_GAP_BYTES;
                    assert!(plan.fetch_bytes < most, "{plan:?}");
                }
                _ => {
                    assert!(plan.fetch_bytes * 4 < whole.fetch_bytes, "{plan:?}");
                    assert!(
                        plan.patch_blobs >= 5,
                        "UKI, image, composefs image, objects"
                    );
                }
            }
        }
    }
}

/// Every patch range of the bundle, in its order, with the alternative's number among all of them.
fn patch_ranges(release: &Release) -> Vec<Range> {
    let ranges = std::cell::RefCell::new(Vec::new());
    release.build_with(
        |records| {
            let mut patches = false;
            for record in records.iter() {
                match record {
                    Record::Alternative(other) => patches = other.method == METHOD_PATCH,
                    Record::Blob(_) | Record::Removed(_) => patches = false,
                    Record::Range(range) if patches => ranges.borrow_mut().push(*range),
                    Record::Range(_) => {}
                }
            }
        },
        |_| {},
    );
    ranges.into_inner()
}

/// Where byte `offset` of the data stands in a bundle of one part.
fn place(bundle: &[u8], data_bytes: u64, offset: u64) -> usize {
    let content = (bundle.len() as u64 - 1024) - data_bytes.next_multiple_of(512);
    (content + offset) as usize
}

fn data_bytes(bundle: &[u8]) -> u64 {
    let manifest = twinseal_core::wire::manifest::Manifest::parse(manifest_entry(bundle));
    manifest.unwrap().data_bytes()
}

#[test]
fn instructions_may_be_stored_as_they_are() {
    let (old, mut new, _) = pair();
    // One range of this object has nothing in common with the base, so its instructions do not compress.
    let slice = new.slice_bytes();
    new.objects[1][slice..2 * slice].copy_from_slice(&noise(55, slice));
    let as_they_are = |range: &&Range| range.encoding == Encoding::Stored;
    assert!(patch_ranges(&new).iter().filter(as_they_are).count() >= 1);
    let mut device = Device::running(&old);
    let (plan, done) = planned(&new.build(), &mut device, &frugal());
    assert!(plan.patch_blobs >= 5);
    assert_eq!(done.tally.source_bytes(), plan.source_bytes());
    assert_holds(&device, &new);
}

#[test]
fn an_audit_reads_patches_twice_and_all_else_once() {
    let (old, new, bundle) = pair();
    let mut device = Device::running(&old);
    let (plan, done) = planned(&bundle, &mut device, &Options::default());
    assert_eq!(done.tally.source_bytes(), plan.source_bytes());
    assert_eq!(plan.source_bytes(), bundle.len() as u64 + plan.patch_bytes);
    assert_eq!(done.tally.patch_bytes, plan.patch_bytes);
    assert!(plan.patch_bytes > 0);
    assert_holds(&device, &new);
}

#[test]
fn without_the_base_the_blob_comes_whole() {
    let (old, new, bundle) = pair();
    let mut device = Device::running(&old);
    device.running_uki = None;
    device.running.remove(verity(&old.objects[1]).as_bytes());
    // Another size: not what the patch was made against.
    device.running_images.insert("fpga".to_owned(), vec![0; 7]);
    let (all, _) = planned(&bundle, &mut Device::running(&old), &frugal());
    let (plan, _) = planned(&bundle, &mut device, &frugal());
    assert_eq!(plan.patch_blobs, all.patch_blobs - 3);
    assert!(plan.fetch_bytes > all.fetch_bytes);
    assert_holds(&device, &new);
}

#[test]
fn of_two_bases_the_one_that_costs_less_is_taken() {
    let far = Release::sealed(1);
    let near = Release::evolved(&far, 3);
    let mut new = Release::evolved(&near, 5);
    for object in &mut new.objects {
        let end = object.len() - 1;
        object[..end / 2]
            .iter_mut()
            .step_by(50)
            .for_each(|byte| *byte ^= 9);
    }
    let from_far = Release {
        patched_from: vec![far.clone()],
        ..new.clone()
    };
    for order in [[&far, &near], [&near, &far]] {
        let patched_from = order.map(|old| Release {
            patched_from: Vec::new(),
            ..old.clone()
        });
        let both = Release {
            patched_from: patched_from.to_vec(),
            ..new.clone()
        };
        let (one, _) = planned(&from_far.build(), &mut Device::running(&far), &frugal());
        let mut device = Device::running(&near);
        let (other, done) = planned(&both.build(), &mut device, &frugal());
        assert!(other.patch_blobs >= one.patch_blobs);
        assert_eq!(done.tally.source_bytes(), other.source_bytes());
        assert_holds(&device, &both);
    }
}

/// Every region of every base, damaged one after the other: the result is right, or a range of it was fetched in another way.
#[test]
fn a_damaged_base_never_gives_a_wrong_result() {
    let (old, new, bundle) = pair();
    let (mut given_up, mut unharmed) = (0, 0);
    let mut check = |mut device: Device, what: &str| {
        let done = install(&bundle, &mut device, &frugal()).unwrap();
        assert_holds(&device, &new);
        match done.tally.damaged_bases {
            0 => unharmed += 1,
            _ => given_up += 1,
        }
        assert!(done.tally.damaged_bases <= 1, "{what}");
    };
    // Of 30,000 equal bytes the whole is less than a patch.
    let cheap = verity(&old.objects[3]);
    let mut names: Vec<_> = Device::running(&old).running.into_keys().collect();
    names.retain(|name| name != cheap.as_bytes());
    for name in names {
        let length = Device::running(&old).running[&name].len();
        for at in (0..length).step_by(509).chain([length - 1]) {
            let mut device = Device::running(&old);
            device.running.get_mut(&name).unwrap()[at] ^= 0x10;
            check(device, "an object");
        }
    }
    for at in (0..6000).step_by(509) {
        let mut device = Device::running(&old);
        device.running_uki.as_mut().unwrap()[at] ^= 0x10;
        check(device, "the UKI");
        let mut device = Device::running(&old);
        device.running_images.get_mut("fpga").unwrap()[at] ^= 0x10;
        check(device, "an image");
    }
    println!("{given_up} bases given up, {unharmed} harmed nothing");
    assert!(given_up > 90, "{given_up} bases given up");
    assert_eq!(unharmed, 0, "every byte of a base is used by these patches");
}

#[test]
fn going_back_reads_no_more_than_it_must_and_audits_nothing_twice() {
    let (old, new, bundle) = pair();
    for audit in [true, false] {
        let options = Options {
            audit,
            ..Options::default()
        };
        let (sound, _) = planned(&bundle, &mut Device::running(&old), &options);
        let mut device = Device::running(&old);
        let base = verity(&old.objects[2]);
        let damaged = device.running.get_mut(base.as_bytes()).unwrap();
        damaged[19_999] ^= 1;
        let (plan, done) = planned(&bundle, &mut device, &options);
        assert_eq!(plan, sound, "the damage is not seen by the plan");
        assert_eq!(done.tally.damaged_bases, 1);
        assert_eq!(done.tally.patched_blobs, plan.patch_blobs - 1);
        let again = done.tally.source_bytes() - plan.source_bytes();
        assert!(again > 0 && again <= new.objects[2].len() as u64);
        assert_holds(&device, &new);
    }
}

#[test]
fn a_second_patch_is_tried_before_the_whole_blob() {
    let old = Release::sealed(1);
    let middle = Release {
        patched_from: Vec::new(),
        ..Release::evolved(&old, 3)
    };
    let new = Release::evolved(&middle, 5);
    let new = Release {
        patched_from: vec![old.clone(), middle.clone()],
        ..new
    };
    let mut device = Device::running(&middle);
    let older = Device::running(&old);
    device.running.extend(older.running);
    device.known_bases.extend(older.known_bases);
    let damaged = verity(&middle.objects[2]);
    device.running.get_mut(damaged.as_bytes()).unwrap()[19_000] ^= 1;
    let (plan, done) = planned(&new.build(), &mut device, &frugal());
    assert_eq!(done.tally.damaged_bases, 1);
    assert_eq!(
        done.tally.patched_blobs, plan.patch_blobs,
        "by the other base"
    );
    assert_holds(&device, &new);
}

#[test]
fn the_budget_holds_when_a_base_proves_damaged() {
    let (old, new, bundle) = pair();
    let damaged = || {
        let mut device = Device::running(&old);
        let base = verity(&old.objects[2]);
        device.running.get_mut(base.as_bytes()).unwrap()[10_000] ^= 1;
        device
    };
    let (_, done) = planned(&bundle, &mut damaged(), &frugal());
    let enough = done.tally.source_bytes();
    let with = |budget| Options {
        budget: Some(budget),
        ..frugal()
    };
    let mut device = damaged();
    install(&bundle, &mut device, &with(enough)).unwrap();
    assert_holds(&device, &new);
    let mut device = damaged();
    let error = install(&bundle, &mut device, &with(enough - 1)).unwrap_err();
    let base = verity(&old.objects[2]);
    assert_eq!(error, PolicyRefused::BaseDamaged { base }.into());
    assert!(error.to_string().contains(&base.to_string()));
    assert!(!device.bootable);
    // With the base repaired the same device goes on, and needs less than it would from the start.
    device.running = Device::running(&old).running;
    device.bootable = false;
    install(&bundle, &mut device, &with(enough - 1)).unwrap();
    assert_holds(&device, &new);
}

/// Patches lie behind all whole blobs.
#[test]
fn a_source_that_cannot_go_back_gives_whole_blobs() {
    let (old, new, bundle) = pair();
    let mut device = Device::running(&old);
    let options = Options {
        known_length: false,
        can_go_back: false,
        ..frugal()
    };
    let mut source = Stream::new(bundle_reader(&bundle));
    let done = install_from(&mut source, bundle.len(), &mut device, &options).unwrap();
    assert_eq!(done.plan.unwrap().patch_blobs, 0);
    assert_holds(&device, &new);
}

#[test]
fn every_flip_in_a_patch_is_refused_before_a_decoder_sees_it() {
    let (old, new, bundle) = pair();
    let data = data_bytes(&bundle);
    let ranges = patch_ranges(&new);
    let (flips, mut passed_over) = (3 * ranges.len(), 0);
    for range in ranges {
        let end = range.stored_offset + u64::from(range.stored_bytes);
        for offset in [
            range.stored_offset,
            (range.stored_offset + end) / 2,
            end - 1,
        ] {
            let mut flipped = bundle.clone();
            flipped[place(&bundle, data, offset)] ^= 0x40;
            for audit in [true, false] {
                let options = Options {
                    audit,
                    ..Options::default()
                };
                let mut device = Device::running(&old);
                let ended = install(&flipped, &mut device, &options);
                if ended.is_ok() && !audit {
                    // A patch that is not the way is not read.
                    passed_over += 1;
                    continue;
                }
                let stored_offset = range.stored_offset;
                let fault = BundleInvalid::RangeDamaged { stored_offset };
                assert_eq!(ended.unwrap_err(), fault.into());
                assert!(!device.bootable);
            }
        }
    }
    assert!(
        flips > 30 && passed_over * 2 < flips,
        "{passed_over} of {flips}"
    );
}

#[test]
fn a_power_cut_at_every_change_leaves_what_the_next_install_completes() {
    let (old, new, bundle) = pair();
    let mut whole = Device::running(&old);
    let (plan, _) = planned(&bundle, &mut whole, &frugal());
    let (mut cuts, mut fewer) = (0, 0);
    for cut_at in 0..whole.changes {
        let mut device = Device::running(&old);
        device.cut_at = Some(cut_at);
        install(&bundle, &mut device, &frugal()).unwrap_err();
        assert!(device.bootable == (cut_at == 0), "only a set that is whole");
        // The slot of the device is what is left; the rest of it starts anew.
        device = Device {
            cut_at: None,
            changes: 0,
            open: None,
            ..device
        };
        let (_, done) = planned(&bundle, &mut device, &frugal());
        assert_holds(&device, &new);
        cuts += 1;
        fewer += u32::from(done.tally.data_bytes < plan.fetch_bytes);
    }
    println!("{cuts} cuts; after {fewer} of them less was fetched than at first");
    assert!(cuts > 20 && fewer > cuts / 2);
}

#[test]
fn a_patched_blob_that_was_half_written_goes_on_at_its_range() {
    let (old, new, bundle) = pair();
    let mut device = Device::running(&old);
    let object = &new.objects[2];
    let ranges_bytes = 3 * new.slice_bytes();
    let half = object[..ranges_bytes + 100].to_vec();
    device
        .partial
        .insert(verity(object).as_bytes().to_vec(), half);
    let (plan, done) = planned(&bundle, &mut device, &frugal());
    assert_eq!(
        done.tally.present_bytes, ranges_bytes as u64,
        "whole ranges of it"
    );
    assert!(done.tally.patch_bytes < plan.patch_bytes);
    assert_eq!(done.tally.patched_blobs, plan.patch_blobs);
    assert_holds(&device, &new);
}

/// Bundles whose first patch has other instructions, with everything right around them.
#[test]
fn instructions_that_break_the_rules_are_the_makers_fault() {
    let (old, new, _) = pair();
    let uki = old.uki.as_ref().unwrap();
    let first = &new.uki.as_ref().unwrap()[..new.slice_bytes()];
    let good = instructions(uki, 0, first);
    let with = |instructions: Vec<u8>| {
        let release = Release {
            first_instructions: Some(instructions),
            ..new.clone()
        };
        let (mut device, bundle) = (Device::running(&old), release.build());
        let ended = install(&bundle, &mut device, &frugal());
        if let Err(refused) = &ended {
            assert!(!device.bootable);
            // What was written before does not help it.
            let again = install(&bundle, &mut device, &frugal());
            assert_eq!(again.unwrap_err(), *refused);
        }
        ended.map(|done| done.tally.damaged_bases)
    };
    assert_eq!(with(good.clone()), Ok(0));
    let longer = [good.as_slice(), &[0]].concat();
    let cut = good[..good.len() - 1].to_vec();
    let far = [&good[..1], &[0xfe, 0xff, 0xff, 0x07], &good[2..]].concat();
    let faults = [
        (longer, PatchFault::TooLong),
        (cut, PatchFault::TooShort),
        (Vec::from([1, 0, 0, 0]), PatchFault::EmptyStep),
        (Vec::from([0]), PatchFault::Batch),
        (Vec::from([0x80, 0]), PatchFault::Number),
        (far, PatchFault::Seek),
    ];
    for (instructions, expected) in faults {
        let error = with(instructions).unwrap_err();
        let is_it = matches!(error,
            Error::BundleInvalid(BundleInvalid::Patch { fault, .. }) if fault == expected);
        assert!(is_it, "{error:?}, not {expected:?}");
    }
    // Right by the rules, and not what the range must give: like a damaged base.
    let mut other = good;
    *other.last_mut().unwrap() ^= 1;
    assert_eq!(with(other), Ok(1));
}

/// The grammar of the index: what must be refused before anything is written.
#[test]
fn patches_that_contradict_themselves_are_refused() {
    let (old, new, _) = pair();
    let refused = |change: &dyn Fn(&mut Record), expected: RecordFault| {
        let bundle = new.build_with(
            |records| {
                let mut patches = false;
                let changed = records.iter_mut().find(|record| match record {
                    Record::Alternative(_) => {
                        patches = true;
                        let before = **record;
                        let mut after = before;
                        change(&mut after);
                        before != after
                    }
                    _ => {
                        let mut after = **record;
                        change(&mut after);
                        patches && after != **record
                    }
                });
                change(changed.expect("a record is changed"));
            },
            |_| {},
        );
        let mut device = Device::running(&old);
        let error = install(&bundle, &mut device, &Options::default()).unwrap_err();
        assert_eq!(device.prepared, 0, "nothing was written");
        let is_it = matches!(error,
            Error::BundleInvalid(BundleInvalid::IndexRecord { fault, .. }) if fault == expected);
        assert!(is_it, "{error:?}, not {expected:?}");
    };
    let of_range = |change: fn(&mut Range)| {
        move |record: &mut Record| {
            if let Record::Range(range) = record {
                change(range);
            }
        }
    };
    refused(
        &of_range(|range| range.raw_offset += 1),
        RecordFault::Tiling,
    );
    refused(&of_range(|range| range.raw_bytes -= 1), RecordFault::Tiling);
    refused(
        &of_range(|range| range.stored_offset += 1),
        RecordFault::Tiling,
    );
    refused(
        &of_range(|range| range.encoding = Encoding::Zstd),
        RecordFault::Size,
    );
    let an_image = |record: &mut Record| {
        if let Record::Alternative(other) = record {
            other.base_role = Role::Image;
        }
    };
    refused(&an_image, RecordFault::Payload);
    let nothing = |record: &mut Record| {
        if let Record::Alternative(other) = record {
            other.ranges = 0;
        }
    };
    refused(&nothing, RecordFault::Order);
}

#[test]
fn a_file_serves_through_a_seeking_source_when_it_must_go_back() {
    let (old, new, bundle) = pair();
    let mut device = Device::running(&old);
    device.running_images.get_mut("fpga").unwrap()[9999] ^= 1;
    let mut source = Seekable(bundle_reader(&bundle));
    let done = install_from(&mut source, bundle.len(), &mut device, &frugal()).unwrap();
    assert_eq!(source.0.taken, done.tally.source_bytes());
    assert_holds(&device, &new);
}
