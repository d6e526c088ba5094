//! An audit finds every change, on one device that has seen many others before: what an earlier attempt left hides nothing, unless
//! that attempt was interrupted.

mod support;

use support::*;
use twinseal_core::error::{BundleInvalid, Error, RecordFault};
use twinseal_core::source::{Seekable, Stream};
use twinseal_core::wire::index::{BLOCK_BYTES, Encoding, Record};

/// Small, so that every byte can be tried; still with every kind of entry, blobs of several ranges, patches, alternatives of a
/// method that no device knows, and a route from a base.
fn small() -> (Release, Release) {
    let erofs = noise(1, 600);
    let cmdline = format!("composefs={}", verity(&erofs));
    let old = Release {
        uki: Some(uki(&cmdline, 0)),
        erofs,
        objects: vec![noise(2, 70), noise(3, 900), vec![7; 3000]],
        images: vec![("fpga", noise(4, 5100))],
        range_bytes: 1024,
        ..Release::sealed(1)
    };
    let erofs = noise(5, 600);
    let cmdline = format!("composefs={}", verity(&erofs));
    let new = Release {
        uki: Some(uki(&cmdline, 0)),
        erofs,
        objects: vec![noise(2, 70), noise(6, 900), vec![7; 3000]],
        images: vec![("fpga", noise(8, 5100))],
        encoding: Encoding::Deflate,
        base: Some(Box::new(old.clone())),
        patched_from: vec![old.clone()],
        alternatives: true,
        ..old.clone()
    };
    (old, new)
}

/// A device that runs `old` and whose target set holds it too.
fn device(old: &Release) -> Device {
    let mut device = Device::running(old);
    install(&old.build(), &mut device, &Options::default()).unwrap();
    device.prepared = 0;
    device
}

fn piped() -> Options {
    Options {
        known_length: false,
        can_go_back: false,
        ..Options::default()
    }
}

/// Installs from a file, or as a pipe does.
fn attempt(bundle: &[u8], device: &mut Device, options: &Options) -> Result<Done, Error> {
    if options.can_go_back {
        return install(bundle, device, options);
    }
    let mut source = Stream::new(bundle_reader(bundle));
    install_from(&mut source, bundle.len(), device, options)
}

#[test]
fn every_flipped_byte_is_found_on_one_device() {
    let (old, new) = small();
    let bundle = new.build();
    // From a file every byte, from a pipe some of them.
    for (options, step) in [(Options::default(), 1), (piped(), 7)] {
        let mut device = device(&old);
        let running = device.running.clone();
        let mut flips = 0;
        for position in (0..bundle.len()).rev().step_by(step) {
            let mut bad = bundle.clone();
            bad[position] ^= 1 << (position % 8);
            let ended = attempt(&bad, &mut device, &options);
            assert!(
                matches!(
                    ended,
                    Err(Error::BundleInvalid(_) | Error::PolicyRefused(_))
                ),
                "byte {position}: {ended:?}"
            );
            assert!(device.prepared == 0 || !device.bootable, "byte {position}");
            flips += 1;
        }
        println!("{flips} flips refused");
        assert!(flips * step > 20_000 && device.prepared > 0);
        assert!(device.running == running, "the running set was written");
        attempt(&bundle, &mut device, &options).unwrap();
        assert_holds(&device, &new);
    }
}

#[test]
fn a_set_that_holds_all_of_the_bundle_hides_nothing() {
    let (_, new) = small();
    let bundle = new.build();
    let mut bad = bundle.clone();
    let content = bundle.windows(70).position(|window| window == noise(2, 70));
    bad[content.unwrap()] ^= 1;
    for options in [Options::default(), piped()] {
        let mut device = Device::new();
        let done = attempt(&bundle, &mut device, &options).unwrap();
        assert_eq!(done.tally.source_bytes(), bundle.len() as u64);
        let again = attempt(&bundle, &mut device, &options).unwrap();
        assert_eq!(again.tally.source_bytes(), bundle.len() as u64);
        assert_eq!(
            again.plan.unwrap().source_bytes(),
            again.tally.source_bytes()
        );
        assert_eq!(again.tally.present_audited_bytes, again.tally.present_bytes);
        let found = attempt(&bad, &mut device, &options).unwrap_err();
        let damaged = BundleInvalid::RangeDamaged { stored_offset: 0 };
        assert!(
            core::mem::discriminant(&found) == core::mem::discriminant(&damaged.into()),
            "{found:?}"
        );
        assert!(!device.bootable);
    }
}

#[test]
fn what_an_interrupted_install_left_is_not_read_again() {
    let (old, new) = small();
    let bundle = new.build();
    let manifest = sha256(manifest_entry(&bundle));
    let mut cuts = 0;
    let mut whole = device(&old);
    let before = whole.changes;
    let undisturbed = install(&bundle, &mut whole, &Options::default()).unwrap();
    for cut in before..whole.changes {
        let mut device = device(&old);
        device.cut_at = Some(cut);
        install(&bundle, &mut device, &Options::default()).unwrap_err();
        device.cut_at = None;
        let with = |interrupted| Options {
            interrupted,
            ..Options::default()
        };
        let mut other = device.clone();
        let going_on = install(&bundle, &mut device, &with(Some(manifest))).unwrap();
        assert_holds(&device, &new);
        assert_eq!(going_on.tally.present_audited_bytes, 0);
        assert!(going_on.tally.source_bytes() <= undisturbed.tally.source_bytes());
        // Another release, or an end that was told: everything is read.
        let all = install(&bundle, &mut other, &with(Some([7; 32]))).unwrap();
        assert_holds(&other, &new);
        assert!(all.tally.source_bytes() >= bundle.len() as u64);
        assert_eq!(all.tally.present_audited_bytes, all.tally.present_bytes);
        cuts += 1;
    }
    println!("{cuts} cuts");
    assert!(cuts > 10);
}

#[test]
fn the_route_from_a_base_reads_twice_only_what_is_needed() {
    let (old, new) = small();
    let bundle = new.build();
    let mut device = device(&old);
    let done = install(&bundle, &mut device, &Options::default()).unwrap();
    let plan = done.plan.unwrap();
    assert!(plan.base.is_some());
    assert_eq!(done.tally.source_bytes(), plan.source_bytes());
    assert_eq!(plan.source_bytes(), bundle.len() as u64 + plan.fetch_bytes);
    assert_holds_only(&device, &new);
}

/// Data that no range of any route covers could carry anything: nobody would see it change.
#[test]
fn data_that_no_route_accounts_for_is_refused() {
    let (old, new) = small();
    let without_patches = |records: &mut Vec<Record>| {
        let mut is_other = false;
        records.retain_mut(|record| {
            match record {
                Record::Blob(blob) => (is_other, blob.alternatives) = (false, 0),
                Record::Alternative(_) => is_other = true,
                Record::Range(_) | Record::Removed(_) => {}
            }
            !is_other
        });
    };
    let bundle = new.build_routes_with(without_patches, |_| {}, |_| {});
    for mut device in [Device::new(), device(&old)] {
        let found = install(&bundle, &mut device, &Options::default()).unwrap_err();
        let uncovered = matches!(
            found,
            Error::BundleInvalid(BundleInvalid::IndexRecord {
                fault: RecordFault::Tiling,
                ..
            })
        );
        assert!(uncovered, "{found:?}");
        assert!(!device.bootable);
    }
}

/// The blocks of the other routes wait in the scratch area while the data is read.
#[test]
fn the_scratch_area_is_not_believed() {
    let (_, new) = small();
    let bundle = new.build();
    let mut device = Device::new();
    install(&bundle, &mut device, &Options::default()).unwrap();
    assert!(device.scratch.len() >= 2 * BLOCK_BYTES);
    let mut source = Seekable(bundle_reader(&bundle));
    for byte in &mut device.scratch {
        *byte ^= 1;
    }
    let done = install_from(&mut source, bundle.len(), &mut device, &Options::default());
    assert_eq!(done.unwrap().tally.source_bytes(), bundle.len() as u64);
}
